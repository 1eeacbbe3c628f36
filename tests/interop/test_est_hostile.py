"""Are the others served while one client is slow, endless, huge, half-done or one of ten thousand?"""
import resource
import socket
import time

import certmill as cm
import pytest
from certmill import Appliance, csr, new_key

IDLE = 10000 if not cm.SANITIZED else 1000


@pytest.fixture(scope="module")
def app():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 30000), hard))

    def short(config):
        config["timeouts"] = {"handshake_ms": 2000, "header_ms": 2000, "body_ms": 2000, "idle_ms": 60000}
    with Appliance(config=short) as appliance:
        yield appliance


def served(app, seconds=5):
    start = time.monotonic()
    assert app.enroll(csr(f"others-{time.monotonic_ns()}", new_key()))[0] == 200
    took = time.monotonic() - start
    assert took < seconds * cm.SLOW, took


def wait_closed(sock, seconds):
    sock.settimeout(seconds * cm.SLOW)
    try:
        while sock.recv(4096):
            pass
        return True
    except (ConnectionError, OSError) as e:
        return not isinstance(e, socket.timeout)


def test_a_slow_client_is_timed_out_and_others_are_served(app):
    with app.connect() as slow:
        request = cm.http_request("POST", app.url("simpleenroll"), b"A" * 1000, {"Content-Type": "application/pkcs10"})
        end = time.monotonic() + 8
        closed = False
        for octet in request:
            try:
                slow.sendall(bytes([octet]))
            except OSError:
                closed = True
                break
            time.sleep(0.1)
            if time.monotonic() > end:
                break
        served(app)
        assert closed or wait_closed(slow, 6)


def test_an_endless_header(app):
    with app.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nX: ")
        try:
            for _ in range(1000):
                sock.sendall(b"a" * 1000)
        except OSError:
            pass
        served(app)
        assert wait_closed(sock, 5)


def test_a_gigabyte_body(app):
    with app.connect() as sock:
        sock.sendall(b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Type: application/pkcs10\r\nContent-Length: 1073741824\r\n\r\n")
        sent = 0
        try:
            for _ in range(64):
                sock.sendall(b"A" * 16384)
                sent += 16384
        except OSError:
            pass
        served(app)
        try:
            status, _, body = cm.read_response(sock.makefile("rb"))
            assert status == 413 and body.startswith(b"body-too-large")
        except (OSError, ConnectionError):
            assert sent < 1 << 24  # it stopped reading long before the end
    with app.connect() as sock:  # and the same in endless chunks
        sock.sendall(b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            for _ in range(2000):
                sock.sendall(b"4000\r\n" + b"A" * 16384 + b"\r\n")
        served(app)


def test_half_a_handshake(app):
    socks = []
    for _ in range(100):
        sock = socket.create_connection(("127.0.0.1", app.port))
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        socks.append(sock)
    served(app)
    assert wait_closed(socks[0], 6)
    for sock in socks:
        sock.close()


def test_not_tls_at_all(app):
    with socket.create_connection(("127.0.0.1", app.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert wait_closed(sock, 6)
    served(app)


def test_ten_thousand_idle_connections(app):
    before = rss_kib(app)
    socks = [app.connect() for _ in range(IDLE)]
    try:
        served(app)
        grown = rss_kib(app) - before
        print(f"idle TLS connections {IDLE}: {grown * 1024 / IDLE:.0f} bytes each")
        end = time.monotonic() + 20 * cm.SLOW
        while app.metric("connections_open") < IDLE and time.monotonic() < end:
            time.sleep(0.1)
        assert app.metric("connections_open") >= IDLE
        served(app)
        if not cm.SANITIZED:
            assert grown / IDLE < 40
    finally:
        for sock in socks:
            sock.close()
    served(app)


def rss_kib(app):
    for row in open(f"/proc/{app.daemon.pid}/status"):
        if row.startswith("VmRSS"):
            return int(row.split()[1])
    raise AssertionError


@pytest.mark.parametrize("raw", [
    b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /x HTTP/1.1\nHost: a\n\n",
    b"\x00\x01\x02\r\n\r\n",
    b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
])
def test_what_smuggling_needs_is_refused(app, raw):
    with app.connect() as sock:
        sock.sendall(raw)
        stream = sock.makefile("rb")
        status, _, _ = cm.read_response(stream)
        assert status in (400, 505)
        assert stream.read() == b""


def test_pipelined_answers_come_in_order(app):
    keys = [new_key() for _ in range(40)]
    with app.connect() as sock:
        out = b"".join(cm.http_request("POST", app.url("simpleenroll"), cm.b64(csr(f"pipe-{i}", k)),
                                       {"Content-Type": "application/pkcs10"}) for i, k in enumerate(keys))
        sock.sendall(out)
        stream = sock.makefile("rb")
        for i, key in enumerate(keys):
            status, _, body = cm.read_response(stream)
            assert status == 200
            cert = cm.only_cert(body)
            assert cert.subject.rfc4514_string() == f"CN=pipe-{i}"


def test_connections_are_spread_by_load(app):
    time.sleep(1)
    socks = [app.connect() for _ in range(4)]
    try:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            import json
            cores = [c["connections"] for c in json.loads(app.admin("/status")[1])["cores"]]
            if sorted(cores) == [2, 2]:
                return
            time.sleep(0.05)
        pytest.fail(f"4 connections are spread {cores}")
    finally:
        for sock in socks:
            sock.close()


def test_one_busy_connection_keeps_both_cores_verifying():
    """Counts, not times: of the verifications of one connection's requests, the other core does a good share."""
    import json
    with Appliance(token="null", sessions=2) as app:
        out = cm.run([cm.BIN / "certmill-bench", "est", "--port", app.port, "--ca", app.dir / "tls/ca.pem", "--basic",
                      f"station-1:{cm.PASSWORD}", "--connections", 1, "--pipeline", 64, "--requests",
                      4000 // cm.SLOW, "--json", "-", "--quiet"], check=False, timeout=300)
        assert out.returncode == 0, out.stdout + out.stderr
        report = json.loads(out.stdout)
        assert report["failed"] == report["wrong"] == report["bad_signatures"] == 0
        cores = json.loads(app.admin("/status")[1])["cores"]
        assert min(c["requests"] for c in cores) < 10 < max(c["requests"] for c in cores)
        owner = max(cores, key=lambda c: c["requests"])
        helper = min(cores, key=lambda c: c["requests"])
        done = owner["verified"] + helper["verified_for_others"]
        assert done >= 2 * 4000 // cm.SLOW  # proof of possession and token signature of each
        assert helper["verified_for_others"] > done / 4, cores
