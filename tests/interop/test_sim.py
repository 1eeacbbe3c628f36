"""Does the simulated HSM work as any token does with pkcs11-tool and p11-kit, across processes, and can every fault
of its description be seen from outside?"""
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import certmill as cm
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

MODULE = cm.BIN / "libcertmill-hsmsim.so"
SANITIZE = os.environ.get("CERTMILL_SANITIZE", "")
PIN, SO_PIN = "123456", "87654321"
P11_KIT_CLIENT = Path("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so")

if SANITIZE == "thread":
    pytest.skip("the module with ThreadSanitizer does not load into pkcs11-tool, which is without; "
                "tests/unit/test_sim_module covers it", allow_module_level=True)


class Sim:
    def __init__(self, folder, yaml="", init=True):
        self.dir = Path(folder)
        self.yaml = self.dir / "sim.yaml"
        self.describe(yaml)
        self.env = dict(os.environ, CERTMILL_HSMSIM_CONFIG=str(self.yaml))
        if SANITIZE:  # pkcs11-tool is not instrumented, and leaks
            runtime = cm.run(["gcc", "-print-file-name=libasan.so"]).stdout.decode().strip()
            self.env.update(LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0:handle_segv=0:handle_abort=0")
        if init:
            self.tool("--init-token", "--label", "sim token", "--so-pin", SO_PIN)
            self.tool("--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--pin", PIN)

    def describe(self, yaml):
        self.yaml.write_text("token: {directory: token, pin_tries: 3}\ncontrol: control.yaml\n" + yaml)

    def tool(self, *args, module=MODULE, **kw):
        return cm.run(["pkcs11-tool", "--module", module, *args], env=dict(self.env, **kw.pop("env", {})), **kw)

    def user(self, *args, **kw):
        return self.tool("--login", "--pin", PIN, *args, **kw)

    def fails(self, *args, login=True):
        out = (self.user if login else self.tool)(*args, check=False)
        assert out.returncode != 0, out.stdout + out.stderr
        return (out.stdout + out.stderr).decode()

    def generate(self, kind, id, label="key", *more):
        self.user("--keypairgen", "--key-type", kind, "--id", id, "--label", label, *more)

    def public(self, id):
        """The public key as OpenSC lists or writes it (version 0.23 writes no P-384 key, from any token)."""
        listing = self.tool("--list-objects", "--type", "pubkey").stdout.decode()
        own = next(o for o in listing.split("Public Key Object; ") if re.search(rf"ID: +{id}\n", o))
        point = re.search(r"EC_POINT:\s+04(?:41|61)([0-9a-f]+)", own)
        if point:
            curve = ec.SECP256R1() if "EC_POINT 256 bits" in own else ec.SECP384R1()
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes.fromhex(point.group(1)))
        return serialization.load_der_public_key(self.tool("--read-object", "--type", "pubkey", "--id", id).stdout)

    def sign(self, id, mechanism, data, *more, check=True):
        (self.dir / "data").write_bytes(data)
        out = self.user("--sign", "--id", id, "-m", mechanism, "-i", self.dir / "data", "-o", self.dir / "signature",
                        *more, check=check)
        return (self.dir / "signature").read_bytes() if check else out

    def control(self, *faults):
        """Written beside and renamed, as its users must."""
        beside = self.dir / "control.new"
        beside.write_text(json.dumps({"faults": list(faults)}))
        beside.rename(self.dir / "control.yaml")

    def status(self):
        raw = (self.dir / "token/status").read_bytes()
        head, *lines = raw.split(b"\0")[0].decode().splitlines()
        assert head == "certmill-hsmsim status 1"
        return {name: struct.unpack_from("<Q", raw, int(at))[0] for name, at in (line.split() for line in lines)}


@pytest.fixture
def sim(tmp_path):
    return Sim(tmp_path)


def der_of(raw):
    half = len(raw) // 2
    return utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


# --- as any token ---------------------------------------------------------------------------------

def test_pkcs11_tool_test(sim):
    sim.generate("EC:prime256v1", "01")
    sim.generate("EC:secp384r1", "02")
    sim.generate("rsa:2048", "03")
    sim.generate("EC:edwards25519", "04")
    out = sim.user("--test").stdout.decode()
    assert "No errors" in out
    assert re.search(r"RSA-PKCS: OK\s+SHA256-RSA-PKCS: OK", out)
    sim.tool("--test-fork")
    threads = sim.tool("--use-locking", "--test-threads", "ILGISLT0", "--test-threads", "ILGISLT0").stdout
    threads += sim.tool("--list-mechanisms").stdout
    assert b"ECDSA, keySize={256,384}, hw, sign, verify" in threads
    assert sim.tool("--list-interfaces").stdout.split().count(b"version:") == 2


def test_ecdsa_verifies_elsewhere(sim):
    sim.generate("EC:prime256v1", "01")
    sim.generate("EC:secp384r1", "02")
    for id, own in (("01", hashes.SHA256()), ("02", hashes.SHA384())):
        public = sim.public(id)
        for digest in (hashes.SHA1(), hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
            data = bytes(range(digest.digest_size))
            signature = sim.sign(id, "ECDSA", data)
            public.verify(der_of(signature), data, ec.ECDSA(utils.Prehashed(digest)))
        signature = sim.sign(id, "ECDSA-SHA256", b"message" * 1000)  # in parts
        public.verify(der_of(signature), b"message" * 1000, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(InvalidSignature):
            public.verify(der_of(signature), b"message" * 999, ec.ECDSA(hashes.SHA256()))
        (sim.dir / "data").write_bytes(b"message")
        sim.sign(id, "ECDSA-SHA384", b"message")
        check = ["--verify", "--id", id, "-m", "ECDSA-SHA384", "-i", sim.dir / "data", "--signature-file",
                 sim.dir / "signature"]
        assert b"Signature is valid" in sim.tool(*check).stdout
        (sim.dir / "data").write_bytes(b"massage")
        assert b"Invalid signature" in sim.tool(*check, check=False).stdout


@pytest.mark.parametrize("bits", [2048, 3072, 4096] if not SANITIZE else [2048])
def test_rsa_verifies_elsewhere(sim, bits):
    sim.generate(f"rsa:{bits}", "03")
    public = sim.public("03")
    assert public.key_size == bits
    for digest, name in ((hashes.SHA256(), "SHA256"), (hashes.SHA384(), "SHA384"), (hashes.SHA512(), "SHA512")):
        public.verify(sim.sign("03", f"{name}-RSA-PKCS", b"hello"), b"hello", padding.PKCS1v15(), digest)
        public.verify(sim.sign("03", f"{name}-RSA-PKCS-PSS", b"hello"), b"hello",
                      padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(b"hello")
    hashed = hashed.finalize()
    signature = sim.sign("03", "RSA-PKCS-PSS", hashed, "--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256",
                         "--salt-len", "32")
    public.verify(signature, b"hello", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashed
    public.verify(sim.sign("03", "RSA-PKCS", info), b"hello", padding.PKCS1v15(), hashes.SHA256())


def test_eddsa_verifies_elsewhere(sim):
    sim.generate("EC:edwards25519", "04")
    listing = sim.tool("--list-objects", "--type", "pubkey").stdout.decode()
    point = re.search(r"EC_POINT:\s+0420([0-9a-f]{64})", listing).group(1)
    public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(point))
    public.verify(sim.sign("04", "EDDSA", b"a message"), b"a message")


def test_imported_key(sim):
    key = ec.generate_private_key(ec.SECP256R1())
    (sim.dir / "key.der").write_bytes(key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    sim.user("--write-object", sim.dir / "key.der", "--type", "privkey", "--id", "0a", "--usage-sign")
    data = bytes(32)
    key.public_key().verify(der_of(sim.sign("0a", "ECDSA", data)), data, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (sim.dir / "key.der").write_bytes(big.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    sim.user("--write-object", sim.dir / "key.der", "--type", "privkey", "--id", "0b", "--usage-sign")
    big.public_key().verify(sim.sign("0b", "SHA256-RSA-PKCS", b"x"), b"x", padding.PKCS1v15(), hashes.SHA256())


def test_objects(sim):
    ca = cm.TestCA("A CA")
    der = ca.cert.public_bytes(serialization.Encoding.DER)
    (sim.dir / "cert.der").write_bytes(der)
    (sim.dir / "pub.der").write_bytes(ca.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    sim.user("--write-object", sim.dir / "cert.der", "--type", "cert", "--id", "05", "--label", "issuing")
    sim.user("--write-object", sim.dir / "pub.der", "--type", "pubkey", "--id", "05")
    sim.user("--write-object", sim.dir / "cert.der", "--type", "data", "--label", "notes")
    assert sim.tool("--read-object", "--type", "cert", "--id", "05").stdout == der
    assert sim.tool("--read-object", "--type", "data", "--label", "notes").stdout == der
    assert sim.public("05").public_numbers() == ca.key.public_key().public_numbers()
    sim.user("--id", "05", "--set-id", "06", "--type", "cert")
    assert sim.tool("--read-object", "--type", "cert", "--id", "06").stdout == der
    sim.user("--delete-object", "--type", "cert", "--id", "06")
    listing = sim.tool("--list-objects").stdout
    assert b"Certificate" not in listing and b"Public Key" in listing and b"Data object" in listing
    assert "CKR_USER_NOT_LOGGED_IN" in sim.fails("--keypairgen", "--key-type", "EC:prime256v1", login=False)


def test_private_keys_stay_inside(sim):
    sim.generate("EC:prime256v1", "01", "the-label")
    listing = sim.user("--list-objects").stdout.decode()
    assert "sensitive, always sensitive, never extractable, local" in listing
    assert "Private Key" not in sim.tool("--list-objects").stdout.decode()
    files = list((sim.dir / "token").glob("*.obj"))
    assert len(files) == 2
    clear = [b"the-label" in f.read_bytes() for f in files]
    assert sorted(clear) == [False, True]  # of the private key, not even that
    assert all(f.stat().st_mode & 0o77 == 0 for f in (sim.dir / "token").iterdir())
    assert not list((sim.dir / "token").glob("*.tmp"))
    # a file in another's place, or changed, is no object
    private = files[clear.index(False)]
    whole = private.read_bytes()
    private.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "Private Key" not in sim.user("--list-objects").stdout.decode()
    private.write_bytes(whole)
    assert "Private Key" in sim.user("--list-objects").stdout.decode()
    private.rename(private.with_name("00000000000000ff.obj"))
    assert "Private Key" not in sim.user("--list-objects").stdout.decode()


def test_pin_tries(sim):
    assert "CKR_PIN_INCORRECT" in sim.fails("--login", "--pin", "000000", "--list-objects", login=False)
    status = sim.status()
    assert (status["user_pin_wrong"], status["user_pin_failures"]) == (1, 1)
    assert b"user PIN count low" in sim.tool("--list-slots").stdout
    sim.user("--list-objects")
    status = sim.status()
    assert (status["user_pin_wrong"], status["user_pin_failures"]) == (1, 0)
    for _ in range(3):
        sim.fails("--login", "--pin", "000000", "--list-objects", login=False)
    assert "CKR_PIN_LOCKED" in sim.fails("--list-objects")
    status = sim.status()
    assert (status["user_pin_wrong"], status["pin_locked_answers"]) == (4, 1)
    assert b"user PIN locked" in sim.tool("--list-slots").stdout
    sim.tool("--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--pin", "abcdef")
    sim.tool("--login", "--pin", "abcdef", "--change-pin", "--new-pin", PIN)
    sim.user("--list-objects")


def test_initialized_anew(sim):
    sim.generate("EC:prime256v1", "01")
    assert "CKR_PIN_INCORRECT" in sim.fails("--init-token", "--label", "x", "--so-pin", "11111111", login=False)
    assert b"Public Key" in sim.tool("--list-objects").stdout
    sim.tool("--init-token", "--label", "second life", "--so-pin", SO_PIN)
    listing = sim.tool("--list-slots").stdout + sim.tool("--list-objects").stdout
    assert b"second life" in listing and b"Public Key" not in listing
    assert "CKR_USER_PIN_NOT_INITIALIZED" in sim.fails("--list-objects")


@pytest.mark.skipif(not P11_KIT_CLIENT.exists(), reason="p11-kit's client module is not installed")
@pytest.mark.skipif(bool(SANITIZE), reason="p11-kit's server starts its own children without the runtime")
def test_p11_kit(sim):
    sim.generate("EC:prime256v1", "01", "over p11-kit")
    server = subprocess.Popen(["p11-kit", "server", "-f", "-n", sim.dir / "socket", "--provider", MODULE, "pkcs11:"],
                              env=sim.env, stdout=subprocess.PIPE)
    try:
        address = re.search(r"P11_KIT_SERVER_ADDRESS=([^;]+);", server.stdout.readline().decode()).group(1)
        env = {"P11_KIT_SERVER_ADDRESS": address}
        listing = sim.user("--list-objects", module=P11_KIT_CLIENT, env=env).stdout.decode()
        assert listing.count("over p11-kit") == 2
        data = bytes(32)
        (sim.dir / "data").write_bytes(data)
        sim.user("--sign", "--id", "01", "-m", "ECDSA", "-i", sim.dir / "data", "-o", sim.dir / "signature",
                 module=P11_KIT_CLIENT, env=env)
        sim.public("01").verify(der_of((sim.dir / "signature").read_bytes()), data,
                                ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize("yaml, text", [
    ("token: {directory: token", "near line"), ("token: {directory: token}\nengines: many\n", "engines: many"),
    ("token: {directory: token}\npreset: luna\n", "there is no luna; there are"),
    ("token: {directory: /nonexistent/token}\n", "/nonexistent/token: No such file"),
    ("token: {directory: token}\nstatus: /proc/status\n", "/proc/status"),
])
def test_bad_descriptions(tmp_path, yaml, text):
    sim = Sim(tmp_path, init=False)
    sim.yaml.write_text(yaml)
    out = sim.tool("--list-slots", check=False)
    assert out.returncode != 0
    if text in ("near line", "engines: many"):  # libcyaml has its own words
        text = "sim.yaml: near line"
    assert f"certmill-hsmsim: " in out.stderr.decode() and text in out.stderr.decode()


def test_no_description(tmp_path):
    sim = Sim(tmp_path, init=False)
    del sim.env["CERTMILL_HSMSIM_CONFIG"]
    assert "CERTMILL_HSMSIM_CONFIG must name" in sim.fails("--list-slots", login=False)


def test_a_copy_of_the_module_has_the_description_beside_it(sim):
    sim.generate("EC:prime256v1", "01")
    copy = sim.dir / "copy.so"
    shutil.copy(MODULE, copy)
    (sim.dir / "copy.so.yaml").write_text("token: {directory: other, serial: beside}\n")
    listing = sim.tool("--list-slots", module=copy).stdout
    assert b"uninitialized" in listing and b"sim token" not in listing
    assert b"sim token" in sim.tool("--list-slots").stdout


# --- faults, seen from outside ----------------------------------------------------------------------

@pytest.fixture
def signer(tmp_path):
    sim = Sim(tmp_path)
    sim.generate("EC:prime256v1", "01")
    return sim


def attempt(sim):
    out = sim.sign("01", "ECDSA", bytes(32), check=False)
    return out.returncode, (out.stdout + out.stderr).decode()


def test_error_injection(signer):
    # pkcs11-tool tries what C_Sign refuses once more in parts
    signer.control({"kind": "error", "answer": "CKR_DEVICE_ERROR", "at_call": 2, "for_calls": 2})
    assert attempt(signer)[0] == 0
    code, text = attempt(signer)
    assert code != 0 and "CKR_DEVICE_ERROR" in text
    assert attempt(signer)[0] == 0
    signer.control({"kind": "error", "calls": ["login"], "answer": "CKR_FUNCTION_FAILED"})
    logins = signer.status()["login_calls"]
    code, text = attempt(signer)
    assert code != 0 and "CKR_FUNCTION_FAILED" in text and signer.status()["login_calls"] == logins + 1
    signer.control()
    assert attempt(signer)[0] == 0
    assert signer.status()["errors"] == 3


def test_error_window(signer):
    signer.control({"kind": "error", "answer": "CKR_DEVICE_MEMORY", "start_ms": 0, "length_ms": 1500 * cm.SLOW})
    assert "CKR_DEVICE_MEMORY" in attempt(signer)[1]
    time.sleep(1.6 * cm.SLOW)
    assert attempt(signer)[0] == 0


@pytest.mark.parametrize("how, code", [("abort", -signal.SIGABRT), ("segv", -signal.SIGSEGV), ("exit", 70)])
def test_crash(signer, how, code):
    signer.control({"kind": "crash", "how": how, "at_call": 1})
    assert attempt(signer)[0] == code
    assert attempt(signer)[0] == 0
    status = signer.status()
    assert status["crashes"] == 1 and status["sessions_open"] == 0


def test_stall_and_failover(signer):
    signer.control({"kind": "stall", "every": 1, "length_ms": 700})
    start = time.monotonic()
    assert attempt(signer)[0] == 0
    assert time.monotonic() - start >= 0.7
    signer.control({"kind": "failover", "every": 1, "length_ms": 700, "answer": "CKR_FUNCTION_FAILED"})
    start = time.monotonic()
    code, text = attempt(signer)
    assert code != 0 and "CKR_FUNCTION_FAILED" in text and time.monotonic() - start >= 0.7


def test_sessions_lost(signer):
    signer.control({"kind": "sessions-lost", "calls": ["sign"], "at_call": 1})
    code, text = attempt(signer)
    assert code != 0 and "CKR_SESSION_HANDLE_INVALID" in text
    assert attempt(signer)[0] == 0
    assert signer.status()["sessions_lost"] == 1


def test_vanish(signer):
    signer.control({"kind": "vanish"})
    assert "(empty)" in signer.tool("--list-slots").stdout.decode()
    assert attempt(signer)[0] != 0
    signer.control()
    assert b"sim token" in signer.tool("--list-slots").stdout
    assert attempt(signer)[0] == 0


def test_wrong_signature(signer):
    public, data = signer.public("01"), bytes(32)
    signer.control({"kind": "wrong-signature", "every": 3})
    good = 0
    for _ in range(6):
        try:
            public.verify(der_of(signer.sign("01", "ECDSA", data)), data, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
            good += 1
        except InvalidSignature:
            pass
    assert good == 4 and signer.status()["wrong_signatures"] == 2


def test_throttle_and_service_time(signer):
    signer.describe("rate_limit: {per_second: 1, answer: CKR_DEVICE_MEMORY}\nservice: [{constant_us: 400000}]\n")
    keeper = subprocess.Popen(["pkcs11-tool", "--module", str(MODULE), "--test-hotplug"], env=signer.env,
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # one run for all below
    try:
        start = time.monotonic()
        assert attempt(signer)[0] == 0
        assert time.monotonic() - start >= 0.4
        texts = [attempt(signer) for _ in range(2)]
        if time.monotonic() - start < 1:  # a very slow machine cannot be throttled
            assert all(code != 0 and "CKR_DEVICE_MEMORY" in text for code, text in texts)
            assert signer.status()["throttled"] == 4  # each tried twice
    finally:
        keeper.communicate(b"x\nx\n", timeout=30)


def test_bad_control_file_changes_nothing(signer):
    signer.control({"kind": "error", "answer": "CKR_DEVICE_ERROR"})
    (signer.dir / "control.yaml").write_text("faults: [{kind: nonsense}]\n")
    out = signer.sign("01", "ECDSA", bytes(32), check=False)
    assert out.returncode == 0 and b"control.yaml: near line 1" in out.stderr
    assert signer.status()["control_errors"] == 1


# --- the figures -------------------------------------------------------------------------------------

@pytest.mark.skipif(bool(SANITIZE), reason="figures of an instrumented build say nothing")
def test_latency_as_described():
    report = json.loads(cm.run([cm.BIN / "micro_sim", "--json", "--jobs", "1500"], timeout=300).stdout)
    latency = {row["p"]: row for row in report["latency"]}
    for p in (10, 25, 50):  # a busy machine delays whoever sleeps: never sooner, and about as a plain sleep is
        assert latency[p]["ratio"] > 0.97
        assert 0.8 < latency[p]["sleep_ratio"] < 1.25
    assert latency[1]["ratio"] > 0.95
    assert report["rate"]["ratio"] < 1.02  # no device is faster than it is described


@pytest.mark.skipif(bool(SANITIZE), reason="figures of an instrumented build say nothing")
def test_the_queue_is_measured_against_the_bare_loop():
    """The figures are the benchmark's business, on a quiet machine; here, that it measures all three."""
    report = json.loads(cm.run([cm.BIN / "micro_hsm", "--t6", "--json", "--seconds", "1", "--rounds", "1"], timeout=120).stdout)
    contests = {row["name"]: row for row in report["contests"]}
    assert list(contests) == ["softhsm, 1 signer", "softhsm, 2 signers", "sim"] and report["two_over_one"] > 0
    assert all(row["failed"] == 0 and row["queue_per_s"] > 0 and row["bare_per_s"] > 0 for row in contests.values())
    assert (contests["sim"]["sessions"], contests["softhsm, 2 signers"]["signers"]) == (124, 2)
    assert contests["sim"]["bare_per_s"] < 22143 * 1.05  # 31 engines of 1.4 ms
    assert contests["sim"]["latency_p50_us"] >= 1400
