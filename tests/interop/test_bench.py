"""Does the load generator notice what it must: failures, wrong certificates, wrong use?"""
import json

import certmill as cm
import pytest
from certmill import Appliance


@pytest.fixture(scope="module")
def app():
    with Appliance(token="null") as appliance:
        yield appliance


def bench(app, *more, basic=None):
    return cm.run([cm.BIN / "certmill-bench", "est", "--port", app.port, "--ca", app.dir / "tls/ca.pem", "--basic",
                   basic or f"station-1:{cm.PASSWORD}", "--quiet", *more], check=False, timeout=300)


@pytest.mark.parametrize("mode", [[], ["--pipeline", "8"], ["--handshake"], ["--rate", "200"], ["--tls", "1.2"]])
def test_modes(app, mode):
    out = bench(app, "--requests", "200", "--connections", "4", "--json", "-", "--server-pid", app.daemon.pid, *mode)
    assert out.returncode == 0, out.stdout + out.stderr
    report = json.loads(out.stdout)
    assert 160 <= report["certificates"] <= 180 and report["failed"] == 0 and report["floor_us"] > 0
    assert report["latency_ms"]["p50"] > 0


def test_client_certificate(app):
    pair = app.station_ca.issue(app.dir, "bench", "station-cert")
    out = cm.run([cm.BIN / "certmill-bench", "est", "--port", app.port, "--ca", app.dir / "tls/ca.pem", "--cert",
                  pair[0], "--key", pair[1], "--requests", 100, "--connections", 4, "--quiet"], check=False)
    assert out.returncode == 0, out.stdout + out.stderr
    assert b"every answer checked" in out.stdout


def test_refusals_are_failures(app):
    out = bench(app, "--requests", "20", "--connections", "1", basic="station-1:wrong")
    assert out.returncode == 1
    assert b"status 401" in out.stdout


def test_only_loopback_and_known_options(app):
    assert bench(app, "--host", "10.0.0.1").returncode == 2
    assert bench(app, "--nonsense").returncode == 2
    assert bench(app, "--requests", "-5").returncode == 2
