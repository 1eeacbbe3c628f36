"""Disk full, no signer, stalled signer, wrong PIN, clock steps, reload, drain: refused clearly, nothing lost, service resumes?"""
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time

import certmill as cm
import cmplib
import cmpmsg
import pytest
from certmill import Appliance, b64, csr, new_key
from cmplib import CmpAppliance

PKCS10 = {"Content-Type": "application/pkcs10"}


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * cm.SLOW
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_a_full_store_is_refused_and_resumes():
    """The map is the bound here: a full disk is the same path (both make the commit fail)."""
    def small(config):
        config["store"]["map_size"] = 1 << 20
    with Appliance(config=small) as app:
        seen = []
        for i in range(3000):
            seen.append(app_status(app, f"full-{i}"))
            if seen[-1][0] != 200:
                break
        status, headers, body = seen[-1]
        assert status == 503, "a store of 1 MiB was never full"
        assert body.startswith(b"store-full:") and int(headers["retry-after"]) >= 1
        issued = len(seen) - 1
        assert app.admin("/health")[0] == 503
        assert app.request("GET", app.url("cacerts"))[0] == 200
        assert app.tool("cert", "list", "--limit", "100000").count("full-") == issued
        # more room, as the message says
        app.stop()
        app.config["store"]["map_size"] = 1 << 26
        app.write_config()
        app.start()
        assert app_status(app, "full-after")[0] == 200


_sessions = {}


def app_status(app, cn, key=None):
    """Over one kept connection: thousands of handshakes are not the question here."""
    sock, stream = _sessions.get(id(app.daemon), (None, None))
    if sock is None:
        sock = app.connect(timeout=60)
        stream = sock.makefile("rb")
        _sessions[id(app.daemon)] = (sock, stream)
    sock.sendall(cm.http_request("POST", app.url("simpleenroll"), b64(csr(cn, key or new_key())), PKCS10))
    return cm.read_response(stream)


def test_disk_full_for_real(tmp_path):
    """A small tmpfs as the store's disk."""
    mount = tmp_path / "disk"
    mount.mkdir()
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    done = subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", f"size=8m,uid={os.getuid()}", "tmpfs", str(mount)],
                          capture_output=True)
    if done.returncode != 0:
        pytest.fail("a tmpfs cannot be mounted here: run as root, " + done.stderr.decode())
    try:
        def on_disk(config):
            config["store"]["dir"] = str(mount / "store")
        with Appliance(config=on_disk, token="null") as app:
            filler = mount / "filler"
            assert app_status(app, "disk-before")[0] == 200
            fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
            try:
                while True:  # leave next to nothing
                    os.write(fd, b"\0" * 4096)
            except OSError:
                pass
            os.close(fd)
            # the store keeps a few MiB ahead of use: it takes thousands of requests to meet the full disk
            out = cm.run([cm.BIN / "certmill-bench", "est", "--port", app.port, "--ca", app.dir / "tls/ca.pem", "--basic",
                          f"station-1:{cm.PASSWORD}", "--connections", 16, "--requests", 8000, "--seconds", 200, "--quiet"],
                         check=False, timeout=700)
            assert out.returncode == 1 and b"status 503: store-f" in out.stdout, out.stdout
            assert b"wrong answers 0, bad signatures or repeated serials 0" in out.stdout, out.stdout
            # one record may still fit where a batch did not: the first that does not is refused
            for i in range(500):
                status, headers, body = app_status(app, f"disk-full-{i}")
                if status != 200:
                    break
            assert status == 503 and body.startswith(b"store-f") and int(headers["retry-after"]) >= 1, body
            assert app.admin("/health")[0] == 503
            filler.unlink()
            assert wait_for(lambda: app_status(app, "disk-after")[0] == 200)
            assert wait_for(lambda: app.admin("/health")[0] == 200)
            names = {r["device"] for r in app.tool_json("cert", "list", "--limit", "100000")["certificates"]}
            assert {"disk-before", "disk-after"} <= names
            assert "every one fits" in app.tool("journal", "verify")
            app.stop()
    finally:
        subprocess.run([*sudo, "umount", "-l", str(mount)], check=True)


def test_no_signer_is_503_with_retry_after_and_resumes():
    def quick(config):
        config["tokens"][0]["deadline_ms"] = 1500
    with Appliance(config=quick) as app:
        assert app_status(app, "stall-0")[0] == 200
        pids = app.signer_pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            status, headers, body = app_status(app, "stall-1")
            assert status == 503 and int(headers["retry-after"]) >= 1, (status, body)
            assert body.split(b":")[0] in (b"deadline", b"signer-unavailable"), body
            assert time.monotonic() - start < 12 * cm.SLOW
            assert app.request("GET", app.url("cacerts"))[0] == 200
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
        assert wait_for(lambda: app_status(app, "stall-2")[0] == 200)


def test_a_wrong_pin_is_tried_once_and_says_so():
    with Appliance(start=False) as app:
        (app.dir / "pin").write_text("999999")
        app.start(wait=False)
        assert app.daemon.wait(60 * cm.SLOW) == 1
        log = app.log_text()
        assert "pin" in log.lower()
        assert log.count("CKR_PIN_INCORRECT") <= 2, log
        app.daemon = None
        (app.dir / "pin").write_text(cm.PIN)
        app.start()
        assert app_status(app, "pin-after")[0] == 200


def test_sighup_swaps_certificate_and_configuration_without_dropping_a_request():
    import ssl
    with Appliance() as app:
        stop, problems, count = threading.Event(), [], [0]

        def load(n):
            with app.connect() as sock:
                stream = sock.makefile("rb")
                i = 0
                while not stop.is_set():
                    i += 1
                    sock.sendall(cm.http_request("POST", app.url("simpleenroll"),
                                                 b64(csr(f"hup-{n}-{i}", new_key())), PKCS10))
                    status, _, body = cm.read_response(stream)
                    count[0] += 1
                    if status != 200:
                        problems.append((status, body))

        threads = [threading.Thread(target=load, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()

        def serial():
            with app.connect() as sock:
                return sock.getpeercert()["serialNumber"]

        before = serial()
        import ipaddress
        from cryptography import x509
        for i in range(6):
            app.server_ca.issue(app.dir / "tls", "server", "localhost",
                                san=[x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            if i == 3:
                app.config["lines"].append(dict(app.config["lines"][0], name="added"))
                app.write_config()
            app.daemon.send_signal(signal.SIGHUP)
            assert wait_for(lambda: serial() != before)
            before = serial()
            time.sleep(0.2)
        assert app.request("GET", app.url("cacerts", "added"))[0] == 200
        # a broken file changes nothing
        good = app.config_path.read_text()
        app.config_path.write_text(good.replace('"ca": "issuing"', '"ca": "nothing"'))
        app.daemon.send_signal(signal.SIGHUP)
        assert wait_for(lambda: "reload-refused" in app.log_text())
        app.config_path.write_text(good)
        assert app.request("GET", app.url("cacerts", "added"))[0] == 200
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not problems, problems[:3]
        assert count[0] >= 10  # there was a load


def test_sigterm_answers_what_is_in_flight():
    with Appliance() as app:
        socks = []
        for i in range(8):
            sock = app.connect()
            stream = sock.makefile("rb")
            socks.append((sock, stream))
        for round_ in range(3):
            for i, (sock, stream) in enumerate(socks):
                body = b64(csr(f"term-{round_}-{i}", new_key()))
                sock.sendall(cm.http_request("POST", app.url("simpleenroll"), body, PKCS10))
        time.sleep(0.03)
        app.daemon.send_signal(signal.SIGTERM)
        answered = 0
        for sock, stream in socks:
            for _ in range(3):
                try:
                    status, _, body = cm.read_response(stream)
                except ConnectionError:
                    break
                assert status in (200, 503), body
                answered += status == 200
        assert app.daemon.wait(40 * cm.SLOW) == 0
        app.daemon = None
        app.start()
        rows = app.tool_json("cert", "list", "--limit", "1000")["certificates"]
        assert answered <= len(rows) <= 24


def hold_store(path):
    """The write lock of a store: commits wait as for a disk that does not answer. Returns what gives it back."""
    lmdb = ctypes.CDLL("liblmdb.so.0")
    env, txn = ctypes.c_void_p(), ctypes.c_void_p()
    assert lmdb.mdb_env_create(ctypes.byref(env)) == 0
    lmdb.mdb_env_set_mapsize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    assert lmdb.mdb_env_set_mapsize(env, 1 << 30) == 0
    no_tls = 0x200000  # MDB_NOTLS
    assert lmdb.mdb_env_open(env, str(path).encode(), no_tls, 0o600) == 0
    assert lmdb.mdb_txn_begin(env, None, 0, ctypes.byref(txn)) == 0

    def release():
        lmdb.mdb_txn_abort(txn)
        lmdb.mdb_env_close(env)
    return release


def test_a_drain_that_ends_before_the_disk_answers():
    """What is staged is still committed, whole messages too, and the shutdown is in order."""
    def brief(config):
        config.setdefault("timeouts", {})["drain_ms"] = 300
    with CmpAppliance(config=brief) as app:
        release = hold_store(app.dir / "store")
        mac = cmpmsg.Mac(cmplib.SECRET, cmplib.REFERENCE)
        asked = [cmpmsg.ir([cmpmsg.Request(new_key(), f"held-{i}-{k}", k) for k in range(20)], mac) for i in range(4)]
        socks = [cmpmsg.connect(app) for _ in asked]
        for sock, message in zip(socks, asked):
            sock.sendall(cm.http_request("POST", cmpmsg.path_of(), message.der(), {"Content-Type": cmpmsg.MEDIA_TYPE},
                                         basic=False))
        time.sleep(1.5 * cm.SLOW)
        app.daemon.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        release()
        assert app.daemon.wait(60 * cm.SLOW) == 0
        for sock in socks:
            sock.close()
        app.daemon = None
        app.start()
        counts = [sum(row["device"].startswith(f"held-{i}-") for row in
                      app.tool_json("cert", "list", "--limit", "1000")["certificates"]) for i in range(len(asked))]
        assert set(counts) <= {0, 20} and 20 in counts, counts
        for message in asked:  # asked again: the same answer, or one that was not begun before
            assert [one.status for one in cmpmsg.exchange(app, message).responses] == [0] * 20
        assert "every one fits" in app.tool("journal", "verify")


def test_clock_steps_back_and_forth():
    """libfaketime moves the daemon's wall clock; serials, journal and service go on."""
    lib = next((str(p) for p in __import__("pathlib").Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    assert lib, "faketime is not installed"
    if cm.SANITIZED:
        return  # a preloaded library and a sanitizer's own do not load together; the store's unit test steps clocks
    import tempfile
    rc = tempfile.NamedTemporaryFile("w", suffix=".faketime", delete=False)
    rc.write("+0\n")
    rc.close()
    env = {"LD_PRELOAD": lib, "FAKETIME_TIMESTAMP_FILE": rc.name, "FAKETIME_NO_CACHE": "1",
           "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    try:
        with Appliance(env=env) as app:
            serials = []
            for i, step in enumerate(("+0", "-3600", "+7200", "-600", "+0")):
                with open(rc.name, "w") as f:
                    f.write(step + "\n")
                time.sleep(0.05)
                status, _, body = app_status(app, f"clock-{i}")
                assert status == 200, body
                serials.append(cm.only_cert(body).serial_number)
            assert serials == sorted(serials), "a serial went back with the clock"
            assert "every one fits" in app.tool("journal", "verify")
    finally:
        os.unlink(rc.name)


def test_a_second_daemon_on_the_same_store_is_refused():
    with Appliance() as app:
        out = cm.run([cm.BIN / "certmilld", "--config", app.config_path], env=app.env, check=False)
        assert out.returncode == 1
        assert b"store" in out.stderr


def test_bad_configurations_name_file_line_and_what_was_expected():
    with Appliance(start=False) as app:
        good = app.config_path.read_text()
        cm.run([cm.BIN / "certmilld", "--config", app.config_path, "--check"], env=app.env)
        cases = {
            '"ca": "issuing"': ('"ca": "isuing"', b"there is no ca 'isuing'"),
            '"tls": true': ('"tls": "maybe"', b""),
            '"map_size": 1073741824': ('"map_size": "big"', b"big"),
            '"base": "tls-device"': ('"base": "tls-thing"', b"expected tls-device or idevid"),
            '"sessions": 4': ('"sesions": 4', b"sesions"),
            '"verify_one_in": 1': ('"verify_one_in": 0', b"cannot be switched off"),
            '"tls/server.pem"': ('"tls/nothing.pem"', b"nothing.pem"),
        }
        for old, (new, said) in cases.items():
            assert old in good, old
            app.config_path.write_text(good.replace(old, new, 1))
            out = cm.run([cm.BIN / "certmilld", "--config", app.config_path, "--check"], env=app.env, check=False)
            assert out.returncode == 1, new
            assert b"certmill.yaml" in out.stderr and said in out.stderr, out.stderr
            if new != '"tls/nothing.pem"':
                assert any(part.isdigit() for part in out.stderr.decode().split(":")[2:4]), out.stderr
        app.config_path.write_text(good)
