"""Does the load generator notice what it must: failures, wrong certificates, wrong use?"""
import json

import certmill as cm
import pytest
from cmp_lab import CmpLab


@pytest.fixture(scope="module")
def app():
    with CmpLab(token="null") as appliance:
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


def cmp_bench(app, *more):
    return cm.run([cm.BIN / "certmill-bench", "cmp", "--port", app.http_port, "--path", "/.well-known/cmp/p/line1",
                   "--issuer", app.dir / "ca/issuing.pem", "--requests", 200, "--connections", 4, "--quiet", *more],
                  check=False, timeout=300)


@pytest.mark.parametrize("load", [
    ["--per-message", "20"], ["--body", "cr", "--confirm"], ["--body", "p10cr"], ["--body", "p10cr", "--nested", "20"],
    ["--body", "kur"], ["--body", "kur", "--nested", "20"], ["--per-message", "5", "--nested", "4"],
    ["--per-message", "20", "--ra-verified", "--confirm"], ["--pipeline", "4"], ["--rate", "300"], ["--handshake"]])
def test_cmp_signed(app, load):
    out = cmp_bench(app, *load, *app.signed(), "--json", "-")
    assert out.returncode == 0, out.stdout + out.stderr
    report = json.loads(out.stdout)
    assert 0 < report["certificates"] <= 180 and report["failed"] == report["wrong"] == 0


@pytest.mark.parametrize("load", [[], ["--pbmac1"], ["--per-message", "20", "--confirm"], ["--body", "p10cr", "--confirm"]])
def test_cmp_maced(app, load):
    out = cmp_bench(app, *load, *app.maced())
    assert out.returncode == 0, out.stdout + out.stderr


def test_cmp_over_tls(app):
    out = cmp_bench(app, *app.signed(), "--https", "--ca", app.dir / "tls/ca.pem", "--port", app.port)
    assert out.returncode == 0, out.stdout + out.stderr


def test_cmp_refusals_and_wrong_answers_are_seen(app):
    refused = cmp_bench(app, "--ref", "nobody", "--secret-file", app.secret)
    assert refused.returncode == 1
    untrusted = cmp_bench(app, *app.signed()[:4], "--trust", app.dir / "tls/ca.pem")
    assert untrusted.returncode == 1 and b"client-certificate-untrusted" in untrusted.stdout
    other_issuer = cmp_bench(app, *app.signed(), "--issuer", app.trust)
    assert other_issuer.returncode == 1 and b"bad signatures or repeated serials 200" in other_issuer.stdout


@pytest.mark.parametrize("args", [["--nested", "2"], ["--body", "kur"], ["--per-message", "2", "--body", "p10cr"],
                                  ["--basic", "a:b"], ["--body", "x"], ["--host", "10.0.0.1"]])
def test_cmp_wrong_use(app, args):
    assert cmp_bench(app, *app.maced(), *args).returncode == 2


def test_compare(app):
    est = ["est", "--port", app.port, "--ca", app.dir / "tls/ca.pem", "--basic", f"station-1:{cm.PASSWORD}"]
    cmp = ["cmp", "--port", app.http_port, "--path", "/.well-known/cmp/p/line1", "--issuer",
           app.dir / "ca/issuing.pem", *app.signed()]
    size = ["--requests", 200, "--connections", 4]
    out = cm.run([cm.BIN / "certmill-bench", "compare", "--rounds", 2, "--quiet", "--json", "-", "--", *est, *size, "--",
                  *cmp, *size, "--per-message", 5], timeout=300)
    report = json.loads(out.stdout)
    assert [load["ratio"]["median"] for load in report["loads"]][0] == 1
    assert 0 < report["loads"][1]["ratio"]["least"] <= report["loads"][1]["ratio"]["most"]
    assert cm.run([cm.BIN / "certmill-bench", "compare", "--", *est], check=False).returncode == 2
