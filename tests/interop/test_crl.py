"""Can a certificate be revoked, held and released, and does everybody find that in a list that openssl accepts?

The list is made in the HSM on schedule, after revocations and on demand; its number rises over restarts and kill -9,
and enrollments go on while a large one is made.
"""
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certmill import BIN, SANITIZED, SLOW, Appliance, csr, free_port, new_key, run

REVOKE_MANY = BIN / "revoke_many"


def appliance(crl=None, **kw):
    """With a plain listener, and a schedule that no test reaches unless it asks for one."""
    more = kw.pop("config", None)

    def config(c):
        c["listeners"].append({"address": "127.0.0.1", "port": free_port(), "tls": False})
        c["cas"][0]["crl"] = crl or {"lifetime": "1h", "every": "30m"}
        if more:
            more(c)
    return Appliance(config=config, **kw)


def plain_url(a, ca="issuing"):
    return f"http://127.0.0.1:{a.config['listeners'][1]['port']}/crl/{ca}.crl"


def curl(*args, check=True):
    return run(["curl", "-sS", "--max-time", 30 * SLOW, *args], check=check)


def fetch(a):
    return x509.load_der_x509_crl(curl("--fail", plain_url(a)).stdout)


def number(crl):
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        found = what()
        if found is not None and found is not False:  # an empty list is false to Python
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen in time")


def wait_crl(a, good=lambda crl: True, seconds=20):
    def look():
        done = curl("--fail", plain_url(a), check=False)
        crl = x509.load_der_x509_crl(done.stdout) if done.returncode == 0 else None
        return crl if crl is not None and good(crl) else None
    return wait_for(look, seconds)


def serial_hex(cert):
    return f"{cert.serial_number:032x}"


def refused(a, *args):
    done = run([BIN / "certmill", "--config", a.config_path, *args], env=a.env, check=False)
    assert done.returncode in (1, 2), done
    assert done.stderr.decode().count("\n") == 1
    return done.stderr.decode()


def openssl_verify(a, cert, tmp_path):
    """openssl's own judgement with the list that curl got."""
    (tmp_path / "crl.der").write_bytes(curl("--fail", plain_url(a)).stdout)
    run(["openssl", "crl", "-inform", "DER", "-in", tmp_path / "crl.der", "-out", tmp_path / "crl.pem"])
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    done = run(["openssl", "verify", "-partial_chain", "-crl_check", "-trusted", a.dir / "ca/issuing.pem", "-CRLfile",
                tmp_path / "crl.pem", tmp_path / "cert.pem"], check=False)
    return (done.stdout + done.stderr).decode()


# --- what a list is -----------------------------------------------------------------------------------

# SoftHSM leaks with Ed25519 keys, which LeakSanitizer lays at certmill's door
needs_ed25519 = pytest.mark.skipif(SANITIZED, reason="SoftHSM leaks with Ed25519 keys")


@pytest.mark.parametrize("kind", ["p256", "rsa3072", pytest.param("ed25519", marks=needs_ed25519)])
def test_empty_list_by_http_and_https(kind, tmp_path):
    with appliance(ca_key=kind) as a:
        crl = wait_crl(a)
        assert number(crl) == 1 and len(crl) == 0
        issuer = x509.load_pem_x509_certificate((a.dir / "ca/issuing.pem").read_bytes())
        assert crl.issuer == issuer.subject
        assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == \
            issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert (crl.next_update - crl.last_update).total_seconds() == 3600
        der = crl.public_bytes(serialization.Encoding.DER)
        tls = curl("--fail", "--cacert", a.dir / "tls/ca.pem", f"https://localhost:{a.port}/crl/issuing.crl").stdout
        assert tls == der
        text = run(["openssl", "crl", "-inform", "DER", "-noout", "-text", "-CAfile", a.dir / "ca/issuing.pem"],
                   input=der)
        assert b"verify OK" in text.stderr and b"Version 2" in text.stdout and b"No Revoked" in text.stdout


def test_answers_of_http():
    with appliance() as a:
        wait_crl(a)
        head = curl("-I", plain_url(a)).stdout.decode()
        assert "200 OK" in head and "Content-Type: application/pkix-crl" in head and "Content-Length: " in head
        age = int(head.split("max-age=")[1].split()[0])
        assert 3400 < age <= 3600
        for path, method, status in [("/crl/issuing.crl", "POST", 405), ("/crl/other.crl", "GET", 404),
                                     ("/crl/issuing", "GET", 404), ("/crl/.crl", "GET", 404), ("/crl/", "GET", 404),
                                     ("/crl/x/issuing.crl", "GET", 404), ("/crl/issuing%2ecrl", "GET", 404),
                                     ("/crl/issuing.crl?x=1", "GET", 200)]:
            body = ["--data-binary", ""] if method == "POST" else []
            url = plain_url(a).split("/crl/")[0] + path
            done = curl("-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "-X", method, *body, url)
            assert int(done.stdout) == status, path


def test_url_in_certificates(tmp_path):
    def config(c):
        c["profiles"][0]["crl_url"] = "http://pki.example:8080/crl/issuing.crl"
    with appliance(config=config) as a:
        cert = a.enroll_cert(csr("device-1", new_key()))
        points = cert.extensions.get_extension_for_class(x509.CRLDistributionPoints)
        assert not points.critical
        assert [p.full_name[0].value for p in points.value] == ["http://pki.example:8080/crl/issuing.crl"]


def test_configurations_that_cannot_be():
    cases = [({"every": "1x"}, "every"), ({"every": "0s"}, "every"), ({"lifetime": "none"}, "lifetime"),
             ({"every": "1d", "lifetime": "1d"}, "lifetime"), ({"on_revocation": "soon"}, "on_revocation"),
             ({"every": "8d"}, "lifetime")]
    with Appliance(start=False) as a:
        for crl, place in cases:
            a.config["cas"][0]["crl"] = crl
            a.write_config()
            assert f"cas[0].crl.{place}" in refused(a, "config", "check"), crl
        a.config["cas"][0]["crl"] = {"every": "none"}
        a.config["profiles"][0]["crl_url"] = "ldap://pki.example/x"
        a.write_config()
        assert "profiles[0].crl_url" in refused(a, "config", "check")


def test_default_schedule():
    with Appliance(config=lambda c: c["cas"][0].pop("crl")) as a:
        shown = wait_for(lambda: next((c for c in a.tool_json("crl", "show")["crls"] if c["number"]), None))
        assert shown["number"] == 1 and not shown["over"]
        crl = x509.load_pem_x509_crl(a.tool("crl", "fetch").encode())
        assert (crl.next_update - crl.last_update).days == 7


def test_none_on_schedule_but_on_demand():
    with appliance(crl={"every": "none"}) as a:
        time.sleep(1)
        assert int(curl("-o", "/dev/null", "-w", "%{http_code}", plain_url(a)).stdout) == 503
        assert "no list yet" in refused(a, "crl", "fetch")
        assert "list 1 with 0 entries" in a.tool("crl", "publish")
        assert number(fetch(a)) == 1


# --- revoking ------------------------------------------------------------------------------------------

def test_revoke_is_seen(tmp_path):
    with appliance(crl={"lifetime": "1h", "every": "30m", "on_revocation": "2s"}) as a:
        key = new_key()
        cert, other = a.enroll_cert(csr("device-1", key)), a.enroll_cert(csr("device-2", new_key()))
        wait_crl(a)
        assert ": OK" in openssl_verify(a, cert, tmp_path)
        done = a.tool_json("revoke", "--device", "device-1", "--reason", "keyCompromise", "--yes")
        assert done["done"] == "revoke" and done["serial"] == serial_hex(cert) and done["device"] == "device-1"
        crl = wait_crl(a, lambda c: len(c) == 1)
        assert number(crl) == 2 and crl[0].serial_number == cert.serial_number
        assert crl[0].extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
        assert "certificate revoked" in openssl_verify(a, cert, tmp_path)
        assert ": OK" in openssl_verify(a, other, tmp_path)
        # nothing changed: no other list, however often it looks
        time.sleep(3)
        assert number(fetch(a)) == 2
        # the device gets nothing more
        status, _, body = a.enroll(csr("device-1", key))
        assert status == 403 and b"certificate-revoked" in body
        assert "revoked for good already" in refused(a, "revoke", "--serial", serial_hex(cert), "--release", "--yes")
        assert "already" in refused(a, "revoke", "--serial", serial_hex(cert), "--reason", "superseded", "--yes")
        listed = a.tool_json("cert", "list", "--revoked")["certificates"]
        assert [c["device"] for c in listed] == ["device-1"] and listed[0]["status"] == "revoked"
        records = a.tool_json("journal", "list", "--limit", "20")["records"]
        revoked = next(r for r in records if r["kind"] == "revoked")
        assert "keyCompromise" in revoked["text"] and revoked["protocol"] == "cli"
        assert revoked["who"] == run(["id", "-un"]).stdout.decode().strip()
        assert any(r["kind"] == "crl" and "number=2 entries=1" in r["text"] for r in records)
        a.tool("journal", "verify")


def test_reenrollment_of_revoked_and_held():
    """EST re-enrollment: refused with a revoked certificate, and with one on hold until it is released."""
    with appliance(config=lambda c: c["lines"][0]["trust_anchors"].append("ca/issuing.pem")) as a:
        def device(cn):
            key = new_key()
            cert = a.enroll_cert(csr(cn, key))
            (a.dir / f"{cn}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
            (a.dir / f"{cn}.key").write_bytes(key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

            def again():
                return a.enroll(csr(cn, new_key()), operation="simplereenroll", cert=a.dir / f"{cn}.pem",
                                key=a.dir / f"{cn}.key")
            return cert, again
        cert, again = device("device-1")
        a.tool("revoke", "--serial", serial_hex(cert), "--hold", "--yes")
        status, _, body = again()
        assert status == 403 and b"revoked" in body
        assert "on hold already" in refused(a, "revoke", "--serial", serial_hex(cert), "--hold", "--yes")
        a.tool("revoke", "--serial", serial_hex(cert), "--release", "--yes")
        assert "not on hold" in refused(a, "revoke", "--serial", serial_hex(cert), "--release", "--yes")
        assert again()[0] == 200
        cert, again = device("device-2")
        a.tool("revoke", "--device", "device-2", "--reason", "cessationOfOperation", "--yes")
        status, _, body = again()
        assert status == 403 and b"revoked" in body


def test_hold_and_release_in_the_list():
    with appliance() as a:
        cert = a.enroll_cert(csr("device-1", new_key()))
        fingerprint = run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"],
                          input=cert.public_bytes(serialization.Encoding.PEM)).stdout.decode().split("=")[1].strip()
        a.tool("revoke", "--fingerprint", fingerprint, "--reason", "certificateHold", "--yes")
        a.tool("crl", "publish")
        held = fetch(a)
        assert held[0].extensions.get_extension_for_class(x509.CRLReason).value.reason == \
            x509.ReasonFlags.certificate_hold
        assert a.tool_json("cert", "list", "--revoked")["certificates"][0]["status"] == "on-hold"
        a.tool("revoke", "--serial", serial_hex(cert), "--release", "--yes", "--ca", "issuing", "--line", "line1")
        a.tool("crl", "publish")
        assert len(fetch(a)) == 0 and number(fetch(a)) == number(held) + 1
        assert a.tool_json("cert", "list", "--revoked")["certificates"] == []


def test_refusals_of_the_command(tmp_path):
    with appliance() as a:
        cert = a.enroll_cert(csr("device-1", new_key()))
        serial = ("--serial", serial_hex(cert))
        reason = ("--reason", "superseded", "--yes")
        for args, text in [
                ((), "give one of --reason"), ((*serial, "--hold", "--release"), "give one of --reason"),
                ((*serial, "--reason", "boredom"), "not a reason"),
                ((*serial, "--reason", "removeFromCRL"), "not a reason"),
                ((*reason,), "give one of --serial"),
                ((*serial, "--device", "device-1", *reason), "give one of --serial"),
                ((*serial, "--reason", "superseded"), "give --yes"),
                (("--serial", "ab" * 16, *reason), "has no certificate"),
                (("--serial", "12", *reason), "neither a serial number"),
                (("--device", "device-9", *reason), "no line has a device"),
                ((*serial, "--line", "idevid", *reason), "is of line line1"),
                ((*serial, "--ca", "nobody", *reason), "there is no ca")]:
            assert text in refused(a, "revoke", *args), args
        assert a.tool_json("cert", "list", "--revoked")["certificates"] == []
        socket_path = str(a.dir / "run/admin.sock")

        def post(target, method="POST"):
            done = run(["curl", "-s", "-w", "\n%{http_code}", "-X", method, "-H", "Content-Length: 0", "--unix-socket",
                        socket_path, f"http://localhost{target}"])
            body, status = done.stdout.decode().rsplit("\n", 1)
            return int(status), body
        log = a.tool_json("cert", "show", serial_hex(cert))["log"]
        wrong = "00" * 15 + "01"
        for target, status in [(f"/revoke?cert={log}&serial={wrong}&act=revoke&reason=superseded", 409),
                               (f"/revoke?cert=99999&serial={serial_hex(cert)}&act=revoke&reason=superseded", 409),
                               (f"/revoke?cert={log}&serial={serial_hex(cert)}&act=revoke", 400),
                               (f"/revoke?cert={log}&serial={serial_hex(cert)}&act=eat", 400),
                               (f"/revoke?cert={log}&serial={serial_hex(cert)}&act=hold&reason=superseded", 400),
                               (f"/revoke?cert={log}&act=hold", 400), ("/revoke", 400), ("/crl/publish?ca=x", 404),
                               ("/crl/publish", 404), ("/else", 404)]:
            got, body = post(target)
            assert got == status, (target, got, body)
        assert post("/crl", "GET")[0] == 200 and post("/metrics", "PUT")[0] == 405
        # the loopback port is for looking alone
        port = f"http://127.0.0.1:{a.admin_port}"
        done = curl("-o", "/dev/null", "-w", "%{http_code}", "-d", "", f"{port}/crl/publish?ca=issuing")
        assert int(done.stdout) == 403
        assert a.tool_json("cert", "list", "--revoked")["certificates"] == []


# --- when -----------------------------------------------------------------------------------------------

def test_schedule_demand_and_commands(tmp_path):
    with appliance(crl={"lifetime": "10s", "every": "2s"}) as a:
        first = wait_crl(a)
        second = wait_crl(a, lambda c: number(c) > number(first), 10)
        assert second.last_update > first.last_update
    with appliance() as a:
        wait_crl(a)
        assert a.tool_json("crl", "publish", "--ca", "issuing")["crls"][0]["number"] == 2
        shown = a.tool_json("crl", "show")["crls"][0]
        assert shown["number"] == 2 and shown["entries"] == 0 and shown["revoked"] == 0 and not shown["over"]
        assert "issuing" in a.tool("crl", "show")
        out = tmp_path / "issuing.crl"
        a.tool("crl", "fetch", "--der", "--out", out)
        assert number(x509.load_der_x509_crl(out.read_bytes())) == 2
        assert number(x509.load_pem_x509_crl(a.tool("crl", "fetch").encode())) == 2
        assert a.metric("crl_number") == 2 and a.metric("crl_entries") == 0
        assert a.metric("crl_published_total") == 2 and a.metric("crl_failures_total") == 0
        assert a.metric("crl_age_seconds") < 60 and a.metric("crl_left_seconds") > 3000
        assert "there is no ca" in refused(a, "crl", "publish", "--ca", "x")


def test_numbers_rise_over_restart_and_kill():
    with appliance() as a:
        numbers = [number(wait_crl(a))]
        cert = a.enroll_cert(csr("device-1", new_key()))
        a.tool("revoke", "--serial", serial_hex(cert), "--reason", "superseded", "--yes")
        a.stop()
        a.start()
        # the one before is served at once, and is not made anew
        assert number(wait_crl(a)) == numbers[-1]
        for round_ in range(6):
            numbers.append(a.tool_json("crl", "publish")["crls"][0]["number"])
            assert number(fetch(a)) == numbers[-1]
            if round_ % 2:
                # killed while the next one is being made
                asked = subprocess.Popen([BIN / "certmill", "--config", a.config_path, "crl", "publish"], env=a.env,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(0.005 * round_)
                a.kill()
                asked.wait(60)
            else:
                a.stop()
            a.start()
            assert number(wait_crl(a)) >= numbers[-1]
        assert numbers == sorted(set(numbers))
        assert len(fetch(a)) == 1


def test_revocation_before_a_crash_is_published_after_it():
    with appliance(crl={"lifetime": "1h", "every": "30m", "on_revocation": "6s"}) as a:
        first = wait_crl(a)
        cert = a.enroll_cert(csr("device-1", new_key()))
        a.tool("revoke", "--serial", serial_hex(cert), "--reason", "superseded", "--yes")
        a.kill()
        a.start()
        assert len(wait_crl(a)) == 0
        assert number(wait_crl(a, lambda c: len(c) == 1)) == number(first) + 1


def test_other_configuration_while_it_runs():
    with appliance() as a:
        first = wait_crl(a)
        a.config["cas"][0]["crl"] = {"lifetime": "2h", "every": "1s"}
        a.write_config()
        a.daemon.send_signal(signal.SIGHUP)
        crl = wait_crl(a, lambda c: number(c) >= number(first) + 2)
        assert (crl.next_update - crl.last_update).total_seconds() == 7200


def test_token_down():
    """The last list stays served, failures are told, and it goes on by itself."""
    with appliance(crl={"lifetime": "1h", "every": "1s"}) as a:
        wait_crl(a)
        for pid in a.signer_pids():
            os.kill(pid, signal.SIGSTOP)
        pids = a.signer_pids()
        try:
            wait_for(lambda: a.metric("crl_failures_total") > 0, 30)
            stuck = number(fetch(a))
            assert "crl-failed" in a.log_text()
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
        wait_crl(a, lambda c: number(c) > stuck, 60)


# --- many -----------------------------------------------------------------------------------------------

def test_a_hundred_thousand(tmp_path):
    count = 100_000
    with appliance() as a:
        cert = a.enroll_cert(csr("device-0", new_key()))
        wait_crl(a)
        issuer = a.tool_json("cert", "show", serial_hex(cert))["issuer_id"]
        a.stop()
        start = time.monotonic()
        run([REVOKE_MANY, a.dir / "store", issuer, count])
        assert time.monotonic() - start < 30 * SLOW
        a.start()
        a.tool("revoke", "--serial", serial_hex(cert), "--reason", "keyCompromise", "--yes")

        stop, enrolled, failed = threading.Event(), [], []

        def enroll():
            i = 0
            while not stop.is_set():
                i += 1
                begin = time.monotonic()
                try:
                    a.enroll_cert(csr(f"device-{i}", new_key()))
                    enrolled.append(time.monotonic() - begin)
                except Exception as e:  # told below
                    failed.append(e)
        thread = threading.Thread(target=enroll)
        thread.start()
        try:
            begin = time.monotonic()
            for _ in range(3):
                a.tool("crl", "publish", "--wait", "120")
            took = time.monotonic() - begin
            before = len(enrolled)
            sizes = [len(curl("--fail", plain_url(a)).stdout) for _ in range(5)]
        finally:
            stop.set()
            thread.join()
        assert not failed and before > 0 and len(enrolled) > before
        print(f"3 lists in {took:.2f} s, {sizes[0]} octets; slowest enrollment of {len(enrolled)}: {max(enrolled):.3f} s")
        assert max(enrolled) < 5 * SLOW
        assert len(set(sizes)) == 1 and sizes[0] > 35 * count
        crl = fetch(a)
        assert len(crl) == count + 1 and number(crl) >= 4
        assert "certificate revoked" in openssl_verify(a, cert, tmp_path)
        assert a.metric("crl_entries") == count + 1 and a.metric("crl_bytes") == sizes[0]
        # by TLS the same, also for a slow reader that more lists are made beside
        tls = curl("--fail", "--cacert", a.dir / "tls/ca.pem", f"https://localhost:{a.port}/crl/issuing.crl").stdout
        assert tls == curl("--fail", plain_url(a)).stdout
        slow = subprocess.Popen(["curl", "-sS", "--limit-rate", "2M", "--fail", plain_url(a)], stdout=subprocess.PIPE)
        time.sleep(0.3)
        a.tool("crl", "publish")
        got = slow.communicate(timeout=60 * SLOW)[0]
        assert slow.returncode == 0 and got == tls


@needs_ed25519
def test_too_many_for_ed25519():
    """Its signature is over the list itself: what does not fit a signer's job is refused in plain words."""
    with appliance(ca_key="ed25519") as a:
        cert = a.enroll_cert(csr("device-0", new_key()))
        wait_crl(a)
        issuer = a.tool_json("cert", "show", serial_hex(cert))["issuer_id"]
        for count, fits in ((150, True), (300, False)):
            a.stop()
            run([REVOKE_MANY, a.dir / "store", issuer, count])
            a.start()
            if fits:
                a.tool("crl", "publish")
            else:
                assert "no-space" in refused(a, "crl", "publish")
        assert "crl-too-large" in a.log_text() and a.metric("crl_failures_total") > 0
        assert len(fetch(a)) == 150


def test_very_slow_readers_are_left_behind(tmp_path):
    """Memory is bounded: who is four lists behind is cut off; who is not gets his list whole."""
    with appliance() as a:
        cert = a.enroll_cert(csr("device-0", new_key()))
        wait_crl(a)
        issuer = a.tool_json("cert", "show", serial_hex(cert))["issuer_id"]
        a.stop()
        run([REVOKE_MANY, a.dir / "store", issuer, 200_000])  # 9 MB: more than the kernel keeps
        a.start()
        a.tool("crl", "publish")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", a.config["listeners"][1]["port"]))
        slow.sendall(b"GET /crl/issuing.crl HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(3):
            a.tool("crl", "publish")
        assert "crl-reader-slow" not in a.log_text()
        a.tool("crl", "publish")
        wait_for(lambda: "crl-reader-slow" in a.log_text())
        slow.settimeout(20 * SLOW)
        got = 0
        try:
            while more := len(slow.recv(1 << 16)):
                got += more
        except ConnectionResetError:
            pass
        assert 0 < got < 7_000_000
        assert len(fetch(a)) == 200_000
