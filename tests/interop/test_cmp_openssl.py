"""Does openssl's CMP client get, update, confirm, reject and revoke certificates, by every kind of protection, key and
CA, and does the store say the same?"""
import re
import signal
import threading
import time
from pathlib import Path

import certmill as cm
import pytest
from cmplib import CmpAppliance
from cryptography import x509

LINE = {"ca": "issuing", "profile": "device", "device_id": "subject-cn", "trust_anchors": ["ca/stations.pem"]}
PROFILES = [{"name": "device", "base": "tls-device", "validity": "30d",
             "keys": ["p256", "p384", "rsa2048", "rsa3072", "ed25519"]}]
CONFIRM_WAIT_S = 2
SWEPT_S = (CONFIRM_WAIT_S + 3) * cm.SLOW + 5


def make(**kw):
    return CmpAppliance(profiles=PROFILES, lines=[
        dict(LINE, name="line1"),
        dict(LINE, name="held", hold=True, cmp={"signer": "cmp", "poll_after": 1}),
        dict(LINE, name="short", cmp={"signer": "cmp", "confirm_wait": f"{CONFIRM_WAIT_S}s"}),
        dict(LINE, name="never-implicit", cmp={"signer": "cmp", "implicit_confirm": False}),
    ], **kw)


@pytest.fixture(scope="module")
def app():
    with make() as a:
        yield a


class Device:
    """What a device holds: its id, key and certificate files."""
    count = 0

    def __init__(self, app, stem="device", kind="p256", line="line1"):
        Device.count += 1
        self.app, self.line = app, line
        self.id = f"{stem}-{Device.count}"
        self.cert = app.dir / f"{self.id}.pem"
        self.new_key(kind)

    def new_key(self, kind="p256"):
        self.key = self.app.key_file(f"{self.id}-{time.monotonic_ns()}", kind)
        return self.key

    def enroll(self, *args, cmd="ir", **kw):
        kw.setdefault("line", self.line)
        return self.app.openssl(cmd, "-subject", f"/CN={self.id}", "-newkey", self.key, *args, out=self.cert, **kw)

    def update(self, *args, kind="p256", **kw):
        """kur with a new key; the certificate before stays in its file."""
        old = (self.cert, self.key)
        new_key, new_cert = self.new_key(kind), self.app.dir / f"{self.id}-{time.monotonic_ns()}.pem"
        kw.setdefault("line", self.line)
        result = self.app.openssl("kur", "-newkey", new_key, *args, auth=old, out=new_cert, **kw)
        if new_cert.exists():
            self.cert = new_cert
        return (*result, old)

    def csr(self):
        path = self.app.dir / f"{self.id}.csr"
        cm.run(["openssl", "req", "-new", "-key", self.key, "-subj", f"/CN={self.id}", "-out", path])
        return path

    def state(self):
        return self.app.tool_json("device", "show", "--line", self.line, self.id)

    def is_known(self):
        return cm.run([cm.BIN / "certmill", "-c", self.app.config_path, "device", "show", "--line", self.line, self.id],
                      env=self.app.env, check=False).returncode == 0


def load(path):
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def stored(app, path):
    """What the store says of a certificate that a client holds; it holds the same octets."""
    row = app.tool_json("cert", "show", "%032x" % load(path).serial_number)
    assert x509.load_pem_x509_certificate(row["pem"].encode()) == load(path)
    return row


def verify(app, path):
    cm.run(["openssl", "verify", "-CAfile", app.dir / "ca/root.pem", "-untrusted", app.dir / "ca/issuing.pem", path])


def check(device, state="confirmed", status="valid"):
    verify(device.app, device.cert)
    row = stored(device.app, device.cert)
    assert (row["status"], row["protocol"], row["device"]) == (status, "cmp", device.id)
    shown = device.state()
    assert shown["state"] == state
    assert shown["certificate"]["serial"] == row["serial"]


def wait_for(condition, seconds=SWEPT_S):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


# --- requests -------------------------------------------------------------------------------------

@pytest.mark.parametrize("cmd", ["ir", "cr"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("auth", ["mac", "ra", "station"])
def test_enroll(app, cmd, tls, auth):
    device = Device(app)
    _, log = device.enroll(cmd=cmd, tls=tls, auth=auth)
    assert "sending CERTCONF" in log and "received PKICONF" in log
    check(device)


@pytest.mark.parametrize("auth", ["mac", "ra"])
def test_implicit_confirmation(app, auth):
    device = Device(app)
    _, log = device.enroll("-implicit_confirm", auth=auth)
    assert "CERTCONF" not in log
    check(device, state="issued")


def test_implicit_confirmation_that_is_not_granted(app):
    device = Device(app, line="never-implicit")
    _, log = device.enroll("-implicit_confirm")
    assert "sending CERTCONF" in log
    check(device)


@pytest.mark.parametrize("auth", ["mac", "ra"])
def test_p10cr(app, auth):
    device = Device(app)
    app.openssl("p10cr", "-csr", device.csr(), auth=auth, out=device.cert)
    check(device)


def test_kur(app):
    device = Device(app)
    device.enroll()
    for _ in range(2):
        device.update()
        check(device)
    rows = [r for r in app.tool_json("cert", "list", "--limit", "1000")["certificates"] if r["device"] == device.id]
    assert sorted(r["status"] for r in rows) == ["superseded", "superseded", "valid"]


def test_kur_supersedes_only_when_it_is_confirmed(app):
    device = Device(app)
    device.enroll()
    _, _, (old_cert, old_key) = device.update("-disable_confirm")
    assert stored(app, old_cert)["status"] == "valid"
    shown = device.state()
    assert shown["state"] == "confirmed" and shown["certificate"]["serial"] == stored(app, old_cert)["serial"]
    # the one before still authenticates, and another update takes the place of the one that waits
    waiting, device.cert, device.key = device.cert, old_cert, old_key
    device.update()
    check(device)
    assert stored(app, old_cert)["status"] == "superseded"
    assert stored(app, waiting)["status"] == "revoked"


def test_kur_confirmed_implicitly(app):
    device = Device(app)
    device.enroll()
    _, _, (old_cert, _) = device.update("-implicit_confirm")
    check(device, state="issued")
    assert stored(app, old_cert)["status"] == "superseded"


def test_kur_of_a_superseded_certificate_is_refused(app):
    device = Device(app)
    device.enroll()
    _, _, old = device.update()
    code, log = app.openssl("kur", "-newkey", device.new_key(), auth=old, out=device.cert, check=False)
    assert code != 0 and "certRevoked" in log


def test_rejected_certificates_are_revoked(app):
    """A client that cannot validate what it got says so in certConf."""
    device = Device(app)
    code, log = device.enroll("-out_trusted", app.dir / "tls/cmp-ca.pem", check=False)
    assert code != 0 and "sending CERTCONF" in log
    assert not device.is_known()  # it may enroll again, with another key
    assert app.tool_json("cert", "list", "--limit", "1")["certificates"][-1]["status"] == "revoked"
    device.new_key()
    device.enroll()
    check(device)
    code, log, (old_cert, old_key) = device.update("-out_trusted", app.dir / "tls/cmp-ca.pem", check=False)
    assert code != 0
    device.cert = old_cert
    check(device)


# --- revocation -----------------------------------------------------------------------------------

@pytest.mark.parametrize("reason", ["-1", "1", "4", "5"])
def test_revoke(app, reason):
    device = Device(app)
    device.enroll()
    app.openssl("rr", "-oldcert", device.cert, "-revreason", reason, auth="ra")
    assert stored(app, device.cert)["status"] == "revoked" and device.state()["state"] == "revoked"
    code, log = app.openssl("rr", "-oldcert", device.cert, auth="ra", check=False)
    assert code != 0 and "certRevoked" in log
    code, log, _ = device.update(check=False)
    assert code != 0 and "certRevoked" in log


def test_hold_and_release(app):
    device = Device(app)
    device.enroll()
    app.openssl("rr", "-oldcert", device.cert, "-revreason", "6", auth="ra")
    assert stored(app, device.cert)["status"] == "on-hold"
    cert, key = device.cert, device.key
    code, log, _ = device.update(check=False)
    assert code != 0 and "certRevoked" in log
    app.openssl("rr", "-oldcert", cert, "-revreason", "8", auth="ra")
    device.cert, device.key = cert, key
    check(device)
    device.update()
    check(device)


def test_who_may_revoke(app):
    one, other = Device(app), Device(app)
    one.enroll()
    other.enroll()
    code, log = app.openssl("rr", "-oldcert", one.cert, auth="mac", check=False)
    assert code != 0 and "wrongIntegrity" in log
    code, log = app.openssl("rr", "-oldcert", one.cert, auth="station", check=False)
    assert code != 0 and "notAuthorized" in log  # it has not the role
    code, log = app.openssl("rr", "-oldcert", one.cert, auth=(other.cert, other.key), check=False)
    assert code != 0 and "badCertId" in log
    check(one)
    app.openssl("rr", "-oldcert", one.cert, auth=(one.cert, one.key))
    assert stored(app, one.cert)["status"] == "revoked"
    check(other)


# --- general messages -----------------------------------------------------------------------------

@pytest.mark.parametrize("info, answer", [
    ("caCerts", "id-it-caCerts"),
    ("certReqTemplate", "id-it-certReqTemplate"), ("signKeyPairTypes", "id-it-signKeyPairTypes"),
    ("encKeyPairTypes", "id-it-encKeyPairTypes|id-it-unsupportedOIDs"), ("preferredSymmAlg", "id-it-preferredSymmAlg"),
    ("confirmWaitTime", "id-it-confirmWaitTime|id-it-unsupportedOIDs"), ("suppLangTags", "id-it-suppLangTags"),
    ("origPKIMessage", "id-it-unsupportedOIDs"),
])
@pytest.mark.parametrize("auth", ["mac", "ra"])
def test_genm(app, info, answer, auth):
    _, log = app.openssl("genm", "-infotype", info, auth=auth)
    assert re.search(answer, log), log


def test_genm_over_https(app):
    assert "id-it-caCerts" in app.openssl("genm", "-infotype", "caCerts", tls=True)[1]


# --- protection -----------------------------------------------------------------------------------

@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("mac", ["hmac-sha1", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"])
def test_pbm(app, digest, mac):
    device = Device(app)
    # the digest is the proof of possession's as well, and SHA-1 proves nothing
    args = ["-digest", digest, "-mac", mac]
    if digest == "sha1":
        app.openssl("genm", "-infotype", "caCerts", *args)
    else:
        device.enroll(*args)
        check(device)


def test_pbm_with_a_wrong_secret(app):
    device = Device(app)
    code, log = device.enroll("-secret", "pass:no-secret-at-all", check=False)
    assert code != 0 and not device.is_known()


def test_pbm_with_an_algorithm_that_is_not_taken(app):
    code, log = app.openssl("genm", "-infotype", "caCerts", "-digest", "md5", check=False)
    assert code != 0 and "badAlg" in log


CREDENTIALS = ["rsa2048", "p256", "p384"]  # openssl 3.0 protects no message with Ed25519


@pytest.mark.parametrize("kind", CREDENTIALS + ["ed25519"])
def test_new_keys_of_each_kind_sign_for_themselves(app, kind):
    """The new key proves its possession, and then protects an update."""
    device = Device(app, kind=kind)
    device.enroll()
    check(device)
    if kind in CREDENTIALS:
        device.update(kind=CREDENTIALS[CREDENTIALS.index(kind) - 1])
        check(device)


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("digest", ["sha256", "sha384"])
def test_credentials_of_each_kind(app, kind, digest):
    from cmplib import CMC_RA
    cert, key = app.station_ca.issue(app.dir, f"ra-{kind}", f"RA {kind}", eku=[CMC_RA], key=cm.new_key(kind))
    device = Device(app)
    device.enroll("-digest", digest, auth=(cert, key))
    check(device)


def test_a_credential_that_nobody_trusts(app):
    stranger = cm.TestCA("Strange CA")
    cert, key = stranger.issue(app.dir, "stranger", "stranger")
    device = Device(app)
    code, log = device.enroll(auth=(cert, key), check=False)
    assert code != 0 and "signerNotTrusted" in log and not device.is_known()


@pytest.mark.parametrize("ca, responder", [("p384", "rsa2048"), ("rsa3072", "p384"), ("ed25519", "ed25519")])
def test_other_cas_and_responders(ca, responder):
    """certConf's hash follows the CA's signature algorithm, the answer's protection the responder's key."""
    # SoftHSM leaks a few octets of every Ed25519 key that it makes
    env = {"ASAN_OPTIONS": "detect_leaks=0"} if ca == "ed25519" else None
    with make(ca_key=ca, signer_key=responder, env=env) as app:
        for kind in ("ed25519", "rsa2048"):
            for auth in ("mac", "ra"):
                device = Device(app, kind=kind)
                device.enroll(auth=auth, tls=auth == "ra")
                check(device)
        device.update()
        check(device)
        app.openssl("rr", "-oldcert", device.cert, auth="ra")
        assert stored(app, device.cert)["status"] == "revoked"


# --- requests that wait ---------------------------------------------------------------------------

def test_polling():
    with make() as app:
        devices = [(Device(app, "poll", line="held"), kw) for kw in
                   ({"auth": "mac"}, {"auth": "ra"}, {"auth": "ra", "cmd": "cr", "more": ["-implicit_confirm"]},
                    {"auth": "mac", "cmd": "p10cr"})]
        logs = {}

        def client(device, more=(), **kw):
            if kw.get("cmd") == "p10cr":
                more = ["-csr", device.csr()]
            logs[device.id] = device.enroll("-total_timeout", str(60 * cm.SLOW), *more, check=False, **kw)
        threads = [threading.Thread(target=client, args=(d,), kwargs=kw) for d, kw in devices]
        for thread in threads:
            thread.start()
        time.sleep(3.5)  # three polls are answered "wait"
        assert all(t.is_alive() for t in threads), logs
        assert app.tool_json("cert", "list", "--limit", "10")["certificates"] == []
        app.config["lines"][1]["hold"] = False
        app.write_config()
        app.daemon.send_signal(signal.SIGHUP)
        for thread in threads:
            thread.join(60 * cm.SLOW)
        for device, kw in devices:
            code, log = logs[device.id]
            assert code == 0 and log.count("sending POLLREQ") >= 3, log
            check(device, state="issued" if "more" in kw else "confirmed")
        assert len(app.tool_json("cert", "list", "--limit", "10")["certificates"]) == len(devices)


# --- confirmations that do not come ---------------------------------------------------------------

@pytest.mark.parametrize("restart", [None, "stop", "kill"])
def test_what_nobody_confirms_is_revoked(restart):
    with make() as app:
        new, updated, in_time = [Device(app, "late", line="short") for _ in range(3)]
        updated.enroll()
        in_time.enroll()
        new.enroll("-disable_confirm")
        assert stored(app, new.cert)["status"] == "valid" and new.state()["state"] == "issued"
        _, _, old = updated.update("-disable_confirm")
        late_cert, (updated.cert, updated.key) = updated.cert, old
        check(updated)
        if restart:
            app.stop() if restart == "stop" else app.kill()
            time.sleep(CONFIRM_WAIT_S + 1)
            app.start()
        wait_for(lambda: stored(app, new.cert)["status"] == "revoked")
        wait_for(lambda: stored(app, late_cert)["status"] == "revoked")
        assert not new.is_known()
        check(updated)  # has what it had before
        check(in_time)
        updated.update()
        check(updated)
        new.new_key()
        new.enroll()
        check(new)
        assert "confirm-time-passed" in app.tool("journal", "list")
        assert "every one fits" in app.tool("journal", "verify")
