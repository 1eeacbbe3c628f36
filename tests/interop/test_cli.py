"""Does the operator's command line make CAs that others verify, guard the PIN, and tell the truth about the store?

Other eyes judge: openssl (certificates, requests), pkcs11-tool and pkcs11-spy (tokens, login attempts), Python's
crypt (password hashes), an EST client's own view of what it received (the store).
"""
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
import warnings
from pathlib import Path

import pytest

import certmill
from certmill import (BIN, PASSWORD, SOFTHSM_MODULE, Appliance, b64, csr, http_request, new_key, only_cert,
                      read_response, run)
from cryptography.hazmat.primitives import serialization

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.13; the distribution's is older
    import crypt

REPO = Path(__file__).resolve().parents[2]
CERTMILL = BIN / "certmill"
SPY = next((p for p in ("/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so")
            if os.path.exists(p)), None)
SECRET_PIN = "83456129"
CA_INIT = ("ca", "init", "--ca", "issuing", "--subject", "CN=Issuing CA,O=Example", "--root-subject",
           "CN=Root CA,O=Example")
COMMANDS = ["status", "cert list", "cert show", "cert find", "revoke", "crl publish", "crl show", "crl fetch",
            "line list", "device show", "journal list", "journal verify", "ca init", "ca csr", "ca import",
            "ca rollover", "ca announce", "ca show", "key list", "key generate", "key label",
            "key attest", "token init", "token list", "token info", "station hash-password", "bulk", "config check",
            "config sample", "version"]


def cli(*args, env=None, stdin=b""):
    """Runs it without a configuration; nothing is expected of the outcome."""
    return run([CERTMILL, *args], check=False, input=stdin, env=env)


class Bench:
    """A token and a configuration without a daemon."""

    def __init__(self, **kw):
        self.a = Appliance(start=False, token="none", **kw)
        self.dir = self.a.dir
        self.outputs = []
        # SoftHSM's Ed25519 leaks in OpenSSL, which certmill itself does not use
        (self.dir / "lsan").write_text("leak:libcrypto.so\nleak:libsofthsm2.so\n")
        self.a.env["LSAN_OPTIONS"] = f"suppressions={self.dir}/lsan:print_suppressions=0"
        (self.dir / "pin").write_text(SECRET_PIN)
        run(["softhsm2-util", "--init-token", "--free", "--label", "certmill", "--pin", SECRET_PIN, "--so-pin",
             SECRET_PIN], env=self.a.env)

    def __call__(self, *args, code=0, stdin=b"", **env):
        done = run([CERTMILL, "--config", self.a.config_path, *args], check=False, input=stdin,
                   env=dict(self.a.env, **env))
        self.outputs += [done.stdout, done.stderr]
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        if code:
            assert one_line(done.stderr), done.stderr
        return done.stderr.decode() if code else done.stdout.decode()

    def json(self, *args):
        return json.loads(self("--json", *args))

    def configure(self, change):
        change(self.a.config)
        self.a.write_config()

    def openssl(self, *args, **kw):
        return run(["openssl", *args], cwd=self.dir, **kw).stdout.decode()

    def text(self, path):
        return self.openssl("x509", "-in", path, "-noout", "-text")

    def pkcs11(self, *args):
        return run(["pkcs11-tool", "--module", SOFTHSM_MODULE, "--token-label", "certmill", "--login", "--pin",
                    SECRET_PIN, *args], env=self.a.env).stdout.decode()

    def private_keys(self):
        """label -> the attributes as pkcs11-tool prints them"""
        keys = {}
        for block in re.split(r"(?m)^(?=\S)", self.pkcs11("--list-objects", "--type", "privkey")):
            if block.startswith("Private Key Object"):
                keys[re.search(r"label:\s+(\S+)", block)[1]] = block
        return keys

    def close(self):
        shutil.rmtree(self.dir)
        assert not any(SECRET_PIN.encode() in out for out in self.outputs), "the PIN was printed"


def one_line(stderr):
    lines = [line for line in stderr.decode().splitlines() if "warning: " not in line]
    return len(lines) == 1 and re.match(r"certmill: .+: .+", lines[0])


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(Appliance, "default_config", with_no_token(Appliance.default_config))
    b = Bench()
    yield b
    b.close()


def with_no_token(original):
    """Appliance(token="none"): as softhsm, but the token and the CA are the test's business."""
    def default_config(self, lines, profiles, cores, token, *rest):
        return original(self, lines, profiles, cores, "softhsm" if token == "none" else token, *rest)
    return default_config


@pytest.fixture(scope="module")
def running():
    with Appliance(cores=1) as a:
        a.keys, a.certs = {}, {}
        for i in range(5):
            device = f"dev-{i}"
            a.keys[device] = new_key()
            a.certs[device] = a.enroll_cert(csr(device, a.keys[device], san=[f"{device}.example"]))
        assert a.enroll(csr("dev-1", new_key()))[0] == 403
        yield a


# --- every command ------------------------------------------------------------------------------

def test_help_lists_every_command():
    text = cli("--help").stdout.decode()
    listed = re.findall(r"^ {7}([a-z-]+(?: [a-z-]+)?) {2,}\S", text.split("COMMANDS")[1].split("OPTIONS")[0], re.M)
    assert listed == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command):
    done = cli(*command.split(), "--help")
    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"):
        assert f"\n{heading}\n" in "\n" + text, heading
    assert " ".join(text.split()).startswith(f"NAME certmill {command} - ")
    assert max(len(line) for line in text.split("EXAMPLES")[0].splitlines()) <= 80
    assert cli("help", *command.split()).stdout == done.stdout


@pytest.mark.parametrize("group", sorted({c.split()[0] for c in COMMANDS if " " in c}))
def test_help_of_every_group(group):
    done = cli(group, "-h")
    assert done.returncode == 0 and f"certmill {group} - " in done.stdout.decode()


@pytest.mark.parametrize("args", [(), ("ca",), ("nonsense",), ("ca", "nonsense"), ("--nonsense", "status"),
                                  ("status", "extra"), ("ca", "init", "--ca", "issuing"), ("ca", "init", "--ca"),
                                  ("cert", "show"), ("cert", "show", "1", "2"), ("status",),
                                  ("cert", "list", "--limit", "none"), ("--json=1", "version"),
                                  ("token", "init", "--module", "m", "--module", "m")])
def test_wrong_usage_exits_2_with_one_line(args):
    env = {k: v for k, v in os.environ.items() if k != "CERTMILL_CONFIG"}
    done = cli(*args, env=env)
    assert done.returncode == 2 and done.stdout == b"" and one_line(done.stderr), done.stderr
    assert b"--help" in done.stderr


def test_version():
    assert cli("--version").stdout == cli("version").stdout
    assert re.match(rb"certmill \d+\.\d+\.\d+ .*\nwolfSSL:\n", cli("--version").stdout)


def test_output_that_cannot_be_written_is_an_error():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([CERTMILL, "config", "sample"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and one_line(done.stderr)


# --- configuration ------------------------------------------------------------------------------

def test_config_sample_is_the_file_and_is_good(tmp_path):
    sample = cli("config", "sample").stdout
    assert sample == (REPO / "deploy/sample/certmill.yaml").read_bytes()
    path = tmp_path / "certmill.yaml"
    path.write_bytes(sample)
    assert cli("-c", path, "config", "check").returncode == 0


def test_config_sample_explains_every_option():
    schema = (REPO / "engine/config/config_schema.c").read_text()
    names = set(re.findall(r'(?:TEXT|TEXT_OPT|WORDS_OPT|SWITCH_OPT|UINT_OPT|LIST|CYAML_FIELD_\w+)\("(\w+)"', schema))
    sample = (REPO / "deploy/sample/certmill.yaml").read_text()
    assert len(names) > 60
    missing = {n for n in names if not re.search(rf"^[\s#-]*{n}:", sample, re.M)}
    assert not missing


def test_config_check_names_file_and_line(tmp_path):
    path = tmp_path / "certmill.yaml"
    path.write_bytes(cli("config", "sample").stdout.replace(b"profile: device", b"profile: devise"))
    line = path.read_text().splitlines().index("    profile: devise") + 1
    done = cli("-c", path, "config", "check")
    assert done.returncode == 1 and f"{path}:{line}: " in done.stderr.decode() and b"devise" in done.stderr
    answer = cli("-c", path, "--json", "config", "check")
    assert json.loads(answer.stdout)["good"] is False and answer.returncode == 1


def test_configuration_from_the_environment(tmp_path):
    path = tmp_path / "certmill.yaml"
    path.write_bytes(cli("config", "sample").stdout)
    assert cli("config", "check", env=dict(os.environ, CERTMILL_CONFIG=str(path))).returncode == 0


# --- passwords ----------------------------------------------------------------------------------

@pytest.mark.parametrize("given,means", [(b"s3cret phrase", "s3cret phrase"), (b"s3cret\n", "s3cret"),
                                         (b"s3cret\r\n", "s3cret"), ("pässwörd\n".encode(), "pässwörd"),
                                         (b"x" * 256, "x" * 256)])
def test_hash_password_round_trip(given, means):
    one, two = (cli("station", "hash-password", stdin=given).stdout.decode().strip() for _ in range(2))
    assert one.startswith("$y$") and one != two, "salted"
    assert crypt.crypt(means, one) == one and crypt.crypt(means + "x", one) != one
    assert means not in one


@pytest.mark.parametrize("given", [b"", b"\n", b"x" * 257, b"a\0b", b"a\nb"])
def test_hash_password_refuses(given):
    done = cli("station", "hash-password", stdin=given)
    assert done.returncode == 1 and done.stdout == b"" and one_line(done.stderr)


def on_terminal(*typed, interrupt=False):
    """Runs hash-password on a terminal of its own; returns exit status, what it showed, whether echo is on after."""
    import termios
    master, slave = pty.openpty()
    child = subprocess.Popen([CERTMILL, "station", "hash-password"], stdin=slave, stdout=subprocess.PIPE,
                             stderr=slave, start_new_session=True)
    shown = b""
    for text, prompt in zip(typed, (b"Password: ", b"again: ")):
        while prompt not in shown:
            shown += os.read(master, 1000)
        end = time.monotonic() + 10
        while termios.tcgetattr(slave)[3] & termios.ECHO and time.monotonic() < end:
            time.sleep(0.01)
        os.write(master, text + b"\n")
    if interrupt:
        while b"again: " not in shown:
            shown += os.read(master, 1000)
        child.send_signal(signal.SIGINT)
    out = child.communicate(timeout=60)[0]
    os.set_blocking(master, False)
    try:
        shown += os.read(master, 1000)
    except OSError:
        pass
    echo = bool(termios.tcgetattr(slave)[3] & termios.ECHO)
    os.close(master)
    os.close(slave)
    return child.returncode, out.decode().strip(), shown, echo


def test_hash_password_prompts_without_echo():
    code, hashed, shown, echo = on_terminal(b"typed-secret", b"typed-secret")
    assert code == 0 and crypt.crypt("typed-secret", hashed) == hashed
    assert b"typed-secret" not in shown and echo


def test_hash_password_wants_the_same_twice():
    code, hashed, shown, echo = on_terminal(b"typed-secret", b"typed-other")
    assert code == 1 and hashed == "" and b"differ" in shown and echo


def test_hash_password_interrupted_leaves_the_echo_on():
    code, _, _, echo = on_terminal(b"typed-secret", interrupt=True)
    assert code == -signal.SIGINT and echo


# --- tokens -------------------------------------------------------------------------------------

@pytest.fixture
def empty_softhsm(tmp_path):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    for name, pin in (("pin", SECRET_PIN), ("so-pin", "so-" + SECRET_PIN)):
        (tmp_path / name).write_text(pin + "\n")
        os.chmod(tmp_path / name, 0o600)
    return dict(os.environ, SOFTHSM2_CONF=str(tmp_path / "softhsm2.conf")), tmp_path


def token_init(env, folder, label, *more):
    return cli("token", "init", "--module", SOFTHSM_MODULE, "--label", label, "--pin-file", folder / "pin", *more,
               env=env)


def test_token_init(empty_softhsm):
    env, folder = empty_softhsm
    done = token_init(env, folder, "line-token", "--so-pin-file", folder / "so-pin")
    assert done.returncode == 0 and done.stderr == b""
    # another program logs in with that PIN, and with that SO PIN
    tool = ["pkcs11-tool", "--module", SOFTHSM_MODULE, "--token-label", "line-token"]
    run([*tool, "--login", "--pin", SECRET_PIN, "--list-objects"], env=env)
    run([*tool, "--login", "--login-type", "so", "--so-pin", "so-" + SECRET_PIN, "--init-pin", "--new-pin", "4711"],
        env=env)
    run([*tool, "--login", "--pin", "4711", "--list-objects"], env=env)
    tokens = json.loads(cli("--json", "token", "list", "--module", SOFTHSM_MODULE, env=env).stdout)["tokens"]
    assert [t["state"] for t in tokens if t["label"] == "line-token"] == ["ready"]
    assert SECRET_PIN.encode() not in done.stdout + done.stderr


def test_token_init_never_erases(empty_softhsm):
    env, folder = empty_softhsm
    assert token_init(env, folder, "first").returncode == 0
    listing = cli("--json", "token", "list", "--module", SOFTHSM_MODULE, env=env).stdout
    first = next(t for t in json.loads(listing)["tokens"] if t["label"] == "first")
    same_label = token_init(env, folder, "first")
    assert same_label.returncode == 1 and b"already" in same_label.stderr
    same_slot = token_init(env, folder, "second", "--slot", str(first["slot"]))
    assert same_slot.returncode == 1 and b"destroy" in same_slot.stderr
    assert cli("--json", "token", "list", "--module", SOFTHSM_MODULE, env=env).stdout == listing
    assert token_init(env, folder, "second").returncode == 0


def test_token_init_warns_of_one_pin_for_both(empty_softhsm):
    env, folder = empty_softhsm
    os.chmod(folder / "pin", 0o644)
    done = token_init(env, folder, "lazy")
    assert done.returncode == 0 and b"SO PIN is the user PIN" in done.stderr and b"chmod 600" in done.stderr


def test_token_texts_cannot_steer_a_terminal(empty_softhsm):
    env, folder = empty_softhsm
    subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", b"a\x1b[31mb\xffc", "--pin", "1234",
                    "--so-pin", "1234"], env=env, check=True, capture_output=True)
    text = cli("token", "list", "--module", SOFTHSM_MODULE, env=env).stdout
    assert b"\x1b" not in text and b"\xff" not in text and b"b\\xffc" in text
    json.loads(cli("--json", "token", "list", "--module", SOFTHSM_MODULE, env=env).stdout)


def test_token_info(bench):
    token, = bench.json("token", "info")["tokens"]
    assert token["login"] and token["label"] == "certmill" and token["state"] == "ready"
    assert {"ECDSA", "RSA-PKCS1", "EdDSA"} <= set(token["mechanisms"]) and token["problem"] is None
    assert "login       ok" in bench("token", "info")


# --- the PIN ------------------------------------------------------------------------------------

def spied(bench, log, **env):
    """Has the module's calls written down by pkcs11-spy."""
    assert SPY, "pkcs11-spy.so comes with opensc-pkcs11"
    for token in bench.a.config["tokens"]:
        token["module"] = SPY
    bench.a.write_config()
    # the spy itself leaks
    return dict(PKCS11SPY=SOFTHSM_MODULE, PKCS11SPY_OUTPUT=str(log), ASAN_OPTIONS="detect_leaks=0", **env)


@pytest.mark.parametrize("command", [("token", "info"), CA_INIT, ("key", "list"),
                                     ("key", "attest", "--ca", "issuing"),
                                     ("ca", "csr", "--ca", "issuing", "--subject", "CN=X")])
def test_wrong_pin_is_tried_once(bench, command):
    # the same token twice under two names: the second time would be a second try
    bench.configure(lambda c: c["tokens"].append(dict(c["tokens"][0], name="again")))
    env = spied(bench, bench.dir / "spy.log")
    (bench.dir / "pin").write_text("00000000")
    error = bench(*command, code=1, **env) if command != ("token", "info") else refused_info(bench, env)
    log = (bench.dir / "spy.log").read_text(errors="replace")
    assert len(re.findall(r"^\d+: C_Login$", log, re.M)) == 1
    assert "CKR_PIN_INCORRECT" in error and "not tried again" in error and str(bench.dir / "pin") in error
    assert "00000000" not in error


def refused_info(bench, env):
    done = run([CERTMILL, "-c", bench.a.config_path, "token", "info"], check=False, env=dict(bench.a.env, **env))
    assert done.returncode == 1 and done.stdout.count(b"login       NO") == 2
    assert b"wrong PIN tried" in done.stdout
    return done.stderr.decode()


def test_right_pin_is_given_once(bench):
    env = spied(bench, bench.dir / "spy.log")
    bench(*CA_INIT, **env)
    assert len(re.findall(r"^\d+: C_Login$", (bench.dir / "spy.log").read_text(errors="replace"), re.M)) == 1


@pytest.mark.parametrize("source", ["pin_env", "pin_credential"])
def test_pin_from_elsewhere(bench, source):
    def change(config):
        del config["tokens"][0]["pin_file"]
        config["tokens"][0][source] = "LINE_PIN"
    bench.configure(change)
    (bench.dir / "creds").mkdir()
    (bench.dir / "creds/LINE_PIN").write_text(SECRET_PIN)
    os.chmod(bench.dir / "creds/LINE_PIN", 0o600)
    env = {"LINE_PIN": SECRET_PIN} if source == "pin_env" else {"CREDENTIALS_DIRECTORY": str(bench.dir / "creds")}
    assert "TOKEN" in bench("key", "list", **env)
    bench("key", "list", code=1)


# --- keys ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["p256", "p384", "rsa3072", "ed25519"])
def test_key_generate_and_attest(bench, kind):
    bench("key", "generate", "--label", "k", "--type", kind)
    attributes = bench.private_keys()["k"]
    assert "sensitive, always sensitive, never extractable, local" in attributes, attributes
    assert "Usage:      sign" in attributes and "decrypt" not in attributes and "derive" not in attributes
    proof = bench.json("key", "attest", "--label", "k")
    assert proof["proven"] and proof["never_extractable"] and proof["local"] and not proof["extractable"]
    public = bench.openssl("pkey", "-pubin", "-noout", "-text", input=proof["public_key"].encode())
    assert {"p256": "prime256v1", "p384": "secp384r1", "rsa3072": "3072 bit", "ed25519": "ED25519"}[kind] in public


def test_key_generate_refuses_a_label_that_is_there(bench):
    bench("key", "generate", "--ca", "issuing", "--type", "p256")
    before = bench.private_keys()
    assert "already" in bench("key", "generate", "--ca", "issuing", "--type", "p384", code=1)
    assert bench.private_keys() == before and list(before) == ["issuing"]


def test_key_label(bench):
    bench("key", "generate", "--label", "old", "--type", "p256")
    bench("key", "generate", "--label", "taken", "--type", "p256")
    assert "there already" in bench("key", "label", "--label", "old", "taken", code=1)
    bench("key", "label", "--label", "old", "new")
    assert set(bench.private_keys()) == {"new", "taken"}


def test_key_attest_says_no_to_an_imported_key(bench):
    bench.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "k.pem")
    run(["softhsm2-util", "--import", bench.dir / "k.pem", "--token", "certmill", "--label", "issuing", "--id", "aa",
         "--pin", SECRET_PIN], env=bench.a.env)
    done = run([CERTMILL, "-c", bench.a.config_path, "--json", "key", "attest", "--ca", "issuing"], check=False,
               env=bench.a.env)
    assert done.returncode == 1 and json.loads(done.stdout)["proven"] is False


# --- ca init ------------------------------------------------------------------------------------

SIGNED_WITH = {"p256": "ecdsa-with-SHA256", "p384": "ecdsa-with-SHA384", "rsa3072": "sha256WithRSAEncryption",
               "ed25519": "ED25519"}


@pytest.mark.parametrize("kind", SIGNED_WITH)
def test_ca_init(bench, kind):
    report = bench.json(*CA_INIT, "--key-type", kind, "--years", "7", "--root-years", "15")
    bench.openssl("verify", "-x509_strict", "-CAfile", "ca/root.pem", "ca/issuing.pem")
    root, issuing = bench.text("ca/root.pem"), bench.text("ca/issuing.pem")
    assert "Subject: CN = Root CA, O = Example" in root and "Issuer: CN = Root CA, O = Example" in root
    assert "Subject: CN = Issuing CA, O = Example" in issuing and "Issuer: CN = Root CA, O = Example" in issuing
    for text in (root, issuing):
        assert "X509v3 Basic Constraints: critical" in text and "X509v3 Key Usage: critical" in text
        assert "Certificate Sign, CRL Sign\n" in text and f"Signature Algorithm: {SIGNED_WITH[kind]}" in text
    assert "CA:TRUE, pathlen:0\n" in issuing and "CA:TRUE\n" in root
    ski = re.search(r"Subject Key Identifier:\s+(\S+)", root)[1]
    assert re.search(r"Authority Key Identifier:\s+(\S+)", issuing)[1] == ski
    year = time.gmtime().tm_year
    assert f"Not After : {time.strftime('%b')}" in root and f" {year + 15} GMT" in root and f" {year + 7} GMT" in issuing
    for label, key in bench.private_keys().items():
        assert "sensitive, always sensitive, never extractable, local" in key, label
    assert set(bench.private_keys()) == {"issuing", "issuing-root"}
    der = bench.openssl("x509", "-in", "ca/issuing.pem", "-noout", "-fingerprint", "-sha256")
    assert report["certificate"]["fingerprint"] == der.split("=")[1].strip().replace(":", "").lower()
    run([BIN / "certmilld", "--config", bench.a.config_path, "--check"], env=bench.a.env)


def test_ca_init_refuses_to_overwrite(bench):
    bench(*CA_INIT)
    before = {p: p.read_bytes() for p in (bench.dir / "ca").iterdir()}
    assert "--force" in bench(*CA_INIT, code=1)
    (bench.dir / "ca/issuing.pem").rename(bench.dir / "aside.pem")
    assert "root.pem is there already" in bench(*CA_INIT, code=1)
    (bench.dir / "aside.pem").rename(bench.dir / "ca/issuing.pem")
    assert {p: p.read_bytes() for p in (bench.dir / "ca").iterdir()} == before


def test_ca_init_force_keeps_keys_and_the_old_files(bench):
    bench(*CA_INIT)
    before, keys = (bench.dir / "ca/issuing.pem").read_bytes(), bench.private_keys()
    bench(*CA_INIT, "--force")
    after = (bench.dir / "ca/issuing.pem").read_bytes()
    assert after != before and (bench.dir / "ca/issuing.pem.old").read_bytes() == before
    assert bench.private_keys() == keys
    pubkey = ["x509", "-noout", "-pubkey", "-in"]
    assert bench.openssl(*pubkey, "ca/issuing.pem") == bench.openssl(*pubkey, "ca/issuing.pem.old")
    assert "EC P-256" in bench(*CA_INIT, "--force", "--key-type", "rsa3072", code=1)
    assert bench.private_keys() == keys and (bench.dir / "ca/issuing.pem").read_bytes() == after


def test_ca_init_never_replaces_a_key_of_another_type(bench):
    bench("key", "generate", "--ca", "issuing", "--type", "p384")
    assert "EC P-384" in bench(*CA_INIT, "--key-type", "p256", code=1)
    assert not (bench.dir / "ca/issuing.pem").exists() and set(bench.private_keys()) == {"issuing"}
    bench(*CA_INIT, "--key-type", "p384")
    bench.openssl("verify", "-x509_strict", "-CAfile", "ca/root.pem", "ca/issuing.pem")


def test_ca_init_goes_on_after_an_interruption(bench):
    (bench.dir / "ca").rename(bench.dir / "aside")
    (bench.dir / "ca").write_text("in the way")
    bench(*CA_INIT, code=1)
    keys = bench.private_keys()
    (bench.dir / "ca").unlink()
    (bench.dir / "aside").rename(bench.dir / "ca")
    bench(*CA_INIT)
    assert bench.private_keys() == keys
    bench.openssl("verify", "-CAfile", "ca/root.pem", "ca/issuing.pem")


def test_ca_init_self_signed(bench):
    only = [arg for arg in CA_INIT[:6]]
    assert "chain" in bench(*only, code=1), "the configuration wants a root's file"
    bench.configure(lambda c: c["cas"][0].update(chain=[]))
    assert "chain" in bench(*CA_INIT, code=1), "the configuration has no file for a root"
    bench(*only)
    bench.openssl("verify", "-CAfile", "ca/issuing.pem", "ca/issuing.pem")
    assert set(bench.private_keys()) == {"issuing"} and not (bench.dir / "ca/root.pem").exists()


def test_ca_init_offline_root(bench):
    assert bench.json(*CA_INIT, "--offline-root")["root_key_destroyed"]
    assert set(bench.private_keys()) == {"issuing"}
    assert "issuing-root" not in bench.pkcs11("--list-objects")
    bench.openssl("verify", "-x509_strict", "-CAfile", "ca/root.pem", "ca/issuing.pem")


def test_ca_init_root_in_another_token(bench):
    run(["softhsm2-util", "--init-token", "--free", "--label", "vault", "--pin", SECRET_PIN, "--so-pin", SECRET_PIN],
        env=bench.a.env)
    bench.configure(lambda c: (c["cas"][0].update(tokens=["softhsm"]), c["tokens"].append(
        dict(c["tokens"][0], name="vault", uri="pkcs11:token=vault"))))
    bench(*CA_INIT, "--root-token", "vault")
    assert {(k["token"], k["label"]) for k in bench.json("key", "list")["keys"]} == {
        ("softhsm", "issuing"), ("vault", "issuing-root")}
    bench.openssl("verify", "-x509_strict", "-CAfile", "ca/root.pem", "ca/issuing.pem")


@pytest.mark.parametrize("wrong", [("--years", "0"), ("--years", "21"), ("--root-years", "101"),
                                   ("--key-type", "p521"), ("--key-type", "rsa2048"), ("--key-type", "")])
def test_ca_init_wrong_options_touch_nothing(bench, wrong):
    bench(*CA_INIT, *wrong, code=2)
    assert bench.private_keys() == {} and not (bench.dir / "ca/root.pem").exists()


@pytest.mark.parametrize("name", ["", "CN", "nonsense=x", "CN=Issuing CA,O=Example"])
def test_ca_init_wrong_names_touch_nothing(bench, name):
    bench(*CA_INIT[:6], "--root-subject", name, code=2)
    assert bench.private_keys() == {}


# --- an outside root ----------------------------------------------------------------------------

CA_EXTENSIONS = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"


def outside_root(bench, name="outside"):
    bench.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-keyout",
                  f"{name}.key", "-out", f"{name}.pem", "-subj", f"/O=Example/CN={name}", "-days", "30")


def sign(bench, request, out, root="outside", extensions=CA_EXTENSIONS, days="20"):
    (bench.dir / "ext.cnf").write_text(extensions)
    bench.openssl("x509", "-req", "-in", request, "-CA", f"{root}.pem", "-CAkey", f"{root}.key", "-CAcreateserial",
                  "-out", out, "-days", days, "-extfile", "ext.cnf")


@pytest.fixture
def signed(bench):
    """A request of the token's key, signed by an outside root as signed.pem."""
    outside_root(bench)
    bench("ca", "csr", "--ca", "issuing", "--subject", "CN=Issuing CA,O=Example", "--out", bench.dir / "req.pem")
    sign(bench, "req.pem", "signed.pem")
    return bench


IMPORT = ("ca", "import", "--ca", "issuing", "--certificate")


def imported(bench):
    return [p.name for p in (bench.dir / "ca").iterdir() if p.name in ("issuing.pem", "root.pem")]


@pytest.mark.parametrize("kind", ["p256", "rsa3072", "ed25519"])
def test_ca_csr_and_import(bench, kind):
    outside_root(bench)
    request = bench("ca", "csr", "--ca", "issuing", "--subject", "CN=Issuing CA,O=Example", "--key-type", kind)
    (bench.dir / "req.pem").write_text(request)
    text = bench.openssl("req", "-in", "req.pem", "-noout", "-text", "-verify")
    assert "CA:TRUE" in text and "Certificate Sign, CRL Sign" in text and "Subject: CN = Issuing CA, O = Example" in text
    again = bench("ca", "csr", "--ca", "issuing", "--subject", "CN=Issuing CA,O=Example")
    (bench.dir / "again.pem").write_text(again)
    pubkey = ["req", "-noout", "-pubkey", "-in"]
    assert bench.openssl(*pubkey, "req.pem") == bench.openssl(*pubkey, "again.pem"), "the key that is there"
    sign(bench, "req.pem", "signed.pem")
    bench(*IMPORT, bench.dir / "signed.pem", "--chain", bench.dir / "outside.pem")
    bench.openssl("verify", "-CAfile", "ca/root.pem", "ca/issuing.pem")
    der = ["x509", "-outform", "DER", "-in"]
    for ours, theirs in (("ca/issuing.pem", "signed.pem"), ("ca/root.pem", "outside.pem")):
        assert run(["openssl", *der, ours], cwd=bench.dir).stdout == run(["openssl", *der, theirs], cwd=bench.dir).stdout
    run([BIN / "certmilld", "--config", bench.a.config_path, "--check"], env=bench.a.env)
    shown, = bench.json("ca", "show")["cas"]
    assert shown["problem"] is None and shown["issuer"] == "O=Example,CN=outside"


def test_import_through_an_intermediate(signed):
    b = signed
    b.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "middle.key",
              "-out", "middle.req", "-subj", "/CN=middle")
    sign(b, "middle.req", "middle.pem", extensions=CA_EXTENSIONS.replace(",pathlen:0", ""))
    sign(b, "req.pem", "below.pem", root="middle")
    assert "no path" in b(*IMPORT, b.dir / "below.pem", "--chain", b.dir / "outside.pem", code=1)
    b(*IMPORT, b.dir / "below.pem", "--chain", b.dir / "outside.pem", "--chain", b.dir / "middle.pem")
    assert (b.dir / "ca/root.pem").read_text().count("BEGIN CERTIFICATE") == 2
    b.openssl("verify", "-CAfile", "outside.pem", "-untrusted", "ca/root.pem", "ca/issuing.pem")


def refuse(bench, certificate, *chain, because):
    arguments = [a for c in chain for a in ("--chain", bench.dir / c)]
    error = bench(*IMPORT, bench.dir / certificate, *arguments, code=1)
    assert because in error, error
    assert imported(bench) == []


def test_import_refuses_a_certificate_of_another_key(signed):
    signed.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                   "other.key", "-out", "other.req", "-subj", "/O=Example/CN=Issuing CA")
    sign(signed, "other.req", "other.pem")
    refuse(signed, "other.pem", "outside.pem", because="another key")


def test_a_public_key_of_another_private_key_is_noticed(bench):
    """What the token signs does not verify: neither a request nor a certificate may come of it."""
    bench("key", "generate", "--ca", "issuing", "--type", "p256")
    key_id = bench.json("key", "list")["keys"][0]["id"]
    outside_root(bench)
    bench.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                  "other.key", "-out", "other.req", "-subj", "/CN=Issuing CA")
    sign(bench, "other.req", "other.pem")
    bench.openssl("pkey", "-in", "other.key", "-pubout", "-outform", "DER", "-out", "other.der")
    bench.pkcs11("--delete-object", "--type", "pubkey", "--id", key_id)
    bench.pkcs11("--write-object", bench.dir / "other.der", "--type", "pubkey", "--id", key_id, "--label", "issuing")
    assert "does not verify" in bench("ca", "csr", "--ca", "issuing", "--subject", "CN=X", code=1)
    assert "belongs to another private key" in bench(*CA_INIT, code=1)
    refuse(bench, "other.pem", "outside.pem", because="belongs to another private key")


def test_import_refuses_an_end_entity(signed):
    sign(signed, "req.pem", "ee.pem", extensions="basicConstraints=critical,CA:FALSE\n")
    refuse(signed, "ee.pem", "outside.pem", because="not a CA")
    sign(signed, "req.pem", "nosign.pem", extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=cRLSign\n")
    refuse(signed, "nosign.pem", "outside.pem", because="keyCertSign")


def test_import_refuses_without_the_root(signed):
    refuse(signed, "signed.pem", because="no self-signed root")


def test_import_refuses_under_another_root_of_that_name(signed):
    (signed.dir / "outside.pem").rename(signed.dir / "real.pem")
    outside_root(signed)
    refuse(signed, "signed.pem", "outside.pem", because="no path")


def test_import_refuses_a_changed_certificate(signed):
    der = bytearray(run(["openssl", "x509", "-in", signed.dir / "signed.pem", "-outform", "DER"]).stdout)
    der[-1] ^= 1
    (signed.dir / "changed.der").write_bytes(der)
    refuse(signed, "changed.der", "outside.pem", because="no path")


def test_import_refuses_an_expired_one(signed):
    # `openssl x509 -req` cannot backdate
    from cryptography import x509
    import datetime
    root = x509.load_pem_x509_certificate((signed.dir / "outside.pem").read_bytes())
    key = serialization.load_pem_private_key((signed.dir / "outside.key").read_bytes(), None)
    request = x509.load_pem_x509_csr((signed.dir / "req.pem").read_bytes())
    now = datetime.datetime.utcnow()
    old = (x509.CertificateBuilder().subject_name(request.subject).issuer_name(root.subject)
           .public_key(request.public_key()).serial_number(7).not_valid_before(now - datetime.timedelta(days=9))
           .not_valid_after(now - datetime.timedelta(days=1))
           .add_extension(x509.BasicConstraints(True, 0), True)
           .sign(key, certmill.sign_hash(key)))
    (signed.dir / "old.pem").write_bytes(old.public_bytes(serialization.Encoding.PEM))
    refuse(signed, "old.pem", "outside.pem", because="expired")


@pytest.mark.parametrize("content,because", [(b"", "no certificate"), (b"nonsense\n", "no certificate"),
                                             (b"0\x82\x01", "X.509"),
                                             (b"-----BEGIN CERTIFICATE-----\nMIIB\n", "damaged")])
def test_import_refuses_what_is_no_certificate(signed, content, because):
    (signed.dir / "junk").write_bytes(content)
    refuse(signed, "junk", "outside.pem", because=because)


def test_import_refuses_to_overwrite(signed):
    arguments = (*IMPORT, signed.dir / "signed.pem", "--chain", signed.dir / "outside.pem")
    signed(*arguments)
    before = (signed.dir / "ca/issuing.pem").read_bytes()
    assert "--force" in signed(*arguments, code=1)
    signed(*arguments, "--force")
    assert (signed.dir / "ca/issuing.pem.old").read_bytes() == before


def test_ca_show_finds_what_is_wrong(bench):
    bench("ca", "show", code=1)
    bench(*CA_INIT)
    assert "complete and valid" in bench("ca", "show")
    outside_root(bench)
    shutil.copy(bench.dir / "outside.pem", bench.dir / "ca/root.pem")
    done = run([CERTMILL, "-c", bench.a.config_path, "ca", "show"], check=False, env=bench.a.env)
    assert done.returncode == 1 and b"no path of valid signatures" in done.stdout


# --- the store beside the running daemon --------------------------------------------------------

def fingerprint(cert):
    return hashlib.sha256(cert.public_bytes(serialization.Encoding.DER)).hexdigest()


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_status(running):
    status = running.tool_json("status")
    assert status["healthy"] and status["issued"] == 5 and status["refusals"] == {"device-already-provisioned": 1}
    # the daemon's own answer, but for what changes with every look
    direct = json.loads(running.admin("/status")[1])
    assert set(status) == set(direct) and set(status["store"]) == set(direct["store"])
    held = ("certificates", "devices", "journal")  # the writer's own counters go on: it looks for what has expired
    assert all(status["store"][key] == direct["store"][key] for key in held)
    text = running.tool("status")
    assert "healthy" in text and "softhsm  up" in text and "device-already-provisioned" in text
    assert re.search(r"TOKEN +SIGNERS UP +BREAKERS OPEN +WAITING +IN FLIGHT +SIGNED +JOBS/BATCH +MS P50 +MS P99 +ERRORS\n"
                     r"softhsm +1 of 1 +0 +0 +0 +5 +1\.0 +\d+\.\d +\d+\.\d +-\n", text), text


def test_status_of_tokens_is_what_metrics_say(running):
    token, = running.tool_json("status")["tokens"]
    metrics = running.admin("/metrics")[1]

    def row(name, **labels):
        labels = dict(token="softhsm", **labels)
        return float(re.search(rf"^certmill_{name}\{{{','.join(f'{k}=.{re.escape(v)}.' for k, v in labels.items())}}} (\S+)$",
                               metrics, re.M)[1])

    assert token["token"] == "softhsm" and token["errors"] == dict.fromkeys(
        ("retry", "reopen", "login", "find-key", "reinit", "fatal", "pin"), 0)
    for name, key in (("token_jobs_waiting", "waiting"), ("token_jobs_in_flight", "in_flight"), ("token_signers", "signers"),
                      ("token_signers_up", "signers_up"), ("token_breakers_open", "breakers_open"),
                      ("token_signatures_total", "signed"), ("token_deadlines_passed_total", "deadlines_passed"),
                      ("token_wrong_signatures_total", "wrong_signatures"), ("token_logins_total", "logins"),
                      ("token_batch_jobs_count", "batches")):
        assert row(name) == token[key], name
    assert (token["signed"], token["logins"], token["signers_up"]) == (5, 1, 1)
    assert all(row("token_errors_total", **{"class": c}) == 0 for c in token["errors"])
    assert row("token_batch_jobs_sum") == 5 and 0 < row("token_service_seconds_sum") < 5
    for name in ("token_batch_jobs", "token_service_seconds"):
        counts = [float(v) for v in re.findall(rf'^certmill_{name}_bucket\{{token="softhsm",le=".*"}} (\S+)$', metrics, re.M)]
        assert counts == sorted(counts) and counts[-1] == row(f"{name}_count") == row(f"{name}_bucket", le="+Inf") > 0
    assert token["service_ms"]["p50"] <= token["service_ms"]["p99"] <= token["service_ms"]["p999"] < 5000
    heads = re.findall(r"^# TYPE (\S+) ", metrics, re.M)
    assert len(heads) == len(set(heads)), "Prometheus refuses a name that is described twice"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_signers_log_at_the_daemons_level(level):
    with Appliance(cores=1, config=lambda config: config["log"].update(level=level)) as a:
        assert a.admin("/health")[0] == 200
        assert ("certmill-signer" in a.log_text() and "debug token-open token=softhsm" in a.log_text()) == (level == "debug")


def test_status_without_a_daemon(bench):
    assert "does not run" in bench("status", code=1)
    (bench.dir / "run/admin.sock").write_text("not a socket")
    assert "does not run" in bench("status", code=1)


def test_cert_list(running):
    listed = running.tool_json("cert", "list")["certificates"]
    assert [c["device"] for c in listed] == ["dev-4", "dev-3", "dev-2", "dev-1", "dev-0"], "newest first"
    for entry in listed:
        cert = running.certs[entry["device"]]
        assert entry["fingerprint"] == fingerprint(cert) and int(entry["serial"], 16) == cert.serial_number
        assert entry["not_after"] == cert.not_valid_after.isoformat() + "Z"
        assert entry["line"] == "line1" and entry["station"] == "station-1" and entry["status"] == "valid"
        assert entry["spki_sha256"] == hashlib.sha256(spki(running.keys[entry["device"]])).hexdigest()
    rows = running.tool("cert", "list").splitlines()
    assert len(rows) == 6 and rows[1].split()[-1] == "dev-4"


def test_cert_list_filters(running):
    def devices(*args):
        return [c["device"] for c in running.tool_json("cert", "list", *args)["certificates"]]
    third = running.tool_json("cert", "show", "3")
    assert devices("--limit", "2") == ["dev-4", "dev-3"]
    for since in ("3", third["serial"], third["fingerprint"], re.sub("(..)(?=.)", r"\1:", third["serial"])):
        assert devices("--since", since) == ["dev-3", "dev-4"], "after it, oldest first"
    assert devices("--since", "5") == []
    assert devices("--device", "dev-1") == ["dev-1"] and devices("--device", "dev") == []
    assert devices("--line", "idevid") == []
    assert running.tool("cert", "list", "--line", "idevid").count("\n") == 1
    done = run([CERTMILL, "-c", running.config_path, "cert", "list", "--line", "nowhere"], check=False)
    assert done.returncode == 1 and b"nowhere" in done.stderr


def test_cert_show(running):
    cert = running.certs["dev-2"]
    der = cert.public_bytes(serialization.Encoding.DER)
    entry = next(c for c in running.tool_json("cert", "list")["certificates"] if c["device"] == "dev-2")
    for name in (str(entry["log"]), entry["serial"], entry["serial"].upper(), entry["fingerprint"]):
        shown = run([CERTMILL, "-c", running.config_path, "cert", "show", name, "--der"]).stdout
        assert shown == der
    assert running.tool("cert", "show", "3", "--pem").encode() == cert.public_bytes(serialization.Encoding.PEM)
    full = running.tool_json("cert", "show", "3")
    assert full["subject"] == "CN=dev-2" and full["alternative_names"] == ["DNS:dev-2.example"]
    assert full["key_usage"] == ["digitalSignature"] and full["extended_key_usage"] == ["clientAuth"]
    text = running.tool("cert", "show", "3")
    assert "CN=Test Issuing CA,O=Test Factory" in text and fingerprint(cert) in text


@pytest.mark.parametrize("name", ["99", "0", "00" * 16, "00" * 32, "nonsense", "", "-1", "1" * 31])
def test_cert_show_of_what_is_not_there(running, name):
    done = run([CERTMILL, "-c", running.config_path, "cert", "show", "--", name], check=False)
    assert done.returncode == 1 and done.stdout == b"" and one_line(done.stderr)


def test_cert_find(running, tmp_path):
    cert, key = running.certs["dev-3"], running.keys["dev-3"]
    pem = serialization.Encoding.PEM
    files = {"public.pem": key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo),
             "public.der": spki(key), "cert.pem": cert.public_bytes(pem),
             "request.der": csr("anything", key),
             "request.pem": b"-----BEGIN CERTIFICATE REQUEST-----\n" + b64(csr("x", key)) +
             b"\n-----END CERTIFICATE REQUEST-----\n"}
    ways = [("--device", "dev-3"), ("--serial", f"{cert.serial_number:032x}"), ("--fingerprint", fingerprint(cert))]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        ways.append(("--key", tmp_path / name))
    for way in ways:
        found = running.tool_json("cert", "find", *way)["certificates"]
        assert [c["fingerprint"] for c in found] == [fingerprint(cert)], way
        assert fingerprint(cert) in running.tool("cert", "find", *way)
    (tmp_path / "other.der").write_bytes(spki(new_key()))
    for way in (("--device", "dev"), ("--device", "x" * 200), ("--key", tmp_path / "other.der")):
        done = run([CERTMILL, "-c", running.config_path, "cert", "find", *way], check=False)
        assert done.returncode == 1 and one_line(done.stderr), way
    done = run([CERTMILL, "-c", running.config_path, "cert", "find"], check=False)
    assert done.returncode == 2


def test_line_list(running):
    lines = {line["name"]: line for line in running.tool_json("line", "list")["lines"]}
    assert list(lines) == ["line1", "idevid", "linked"]
    assert (lines["line1"]["issued"], lines["line1"]["refused"]) == (5, 1) and lines["line1"]["last"]
    assert (lines["idevid"]["issued"], lines["idevid"]["profile"], lines["idevid"]["last"]) == (0, "idevid", None)
    assert running.tool("line", "list").splitlines()[1].split()[:6] == ["line1", "1", "device", "issuing", "5", "1"]


def test_line_list_shows_lines_that_are_gone(running, tmp_path):
    config = json.loads(running.config_path.read_text())
    config["lines"] = config["lines"][1:]
    config["default_line"] = "idevid"
    path = running.dir / "fewer.yaml"
    path.write_text(json.dumps(config))
    lines = json.loads(run([CERTMILL, "-c", path, "--json", "line", "list"]).stdout)["lines"]
    gone = next(line for line in lines if line["name"] == "line1")
    assert not gone["configured"] and gone["issued"] == 5


def test_device_show(running):
    device = running.tool_json("device", "show", "dev-1", "--line", "line1")
    assert device["state"] == "issued" and device["issue_count"] == 1
    assert device["certificate"]["fingerprint"] == fingerprint(running.certs["dev-1"])
    assert "issued since" in running.tool("device", "show", "dev-1"), "on default_line"
    for args in (("dev-1", "--line", "idevid"), ("dev-9",), ("dev-1", "--line", "nowhere")):
        done = run([CERTMILL, "-c", running.config_path, "device", "show", *args], check=False)
        assert done.returncode == 1 and one_line(done.stderr)


def test_journal_list(running):
    records = running.tool_json("journal", "list")["records"]
    assert [r["sequence"] for r in records] == [7, 6, 5, 4, 3, 2, 1]
    assert (records[0]["kind"], records[0]["what"], records[0]["who"]) == ("refused", "dev-1", "station-1")
    assert records[0]["code"] == "device-already-provisioned" and records[-1]["kind"] == "start"
    assert [(r["what"], r["certificate"]) for r in records[1:6]] == [(f"dev-{i}", i + 1) for i in (4, 3, 2, 1, 0)]
    assert [r["sequence"] for r in running.tool_json("journal", "list", "--since", "5")["records"]] == [6, 7]
    assert [r["sequence"] for r in running.tool_json("journal", "list", "--since", "0", "--limit", "2")["records"]] == [1, 2]
    assert "device-already-provisioned" in running.tool("journal", "list", "--limit", "1")
    verified = running.tool_json("journal", "verify")
    assert verified == {"good": True, "records": 7, "first_bad": None}


def test_a_store_that_is_not_there(bench):
    for command in (("cert", "list"), ("line", "list"), ("journal", "verify"), ("device", "show", "x"),
                    ("--json", "cert", "list")):
        assert "was certmilld started" in bench(*command, code=1)
    assert not (bench.dir / "store").exists(), "looking makes nothing"


def test_long_lists_and_a_changed_journal():
    """More records than one snapshot is held for; then one record is changed on the disk."""
    count = 1030
    with Appliance(cores=1) as a:
        sock = a.connect()
        stream = sock.makefile("rb")
        serials = {}
        for i in range(count):
            device = f"many-{i}"
            sock.sendall(http_request("POST", a.url("simpleenroll"), b64(csr(device, new_key())),
                                      {"Content-Type": "application/pkcs10"}))
            status, _, body = read_response(stream)
            assert status == 200
            if i % 100 == 0:
                serials[device] = f"{only_cert(body).serial_number:032x}"
        sock.close()
        listed = a.tool_json("cert", "list")["certificates"]
        assert [c["device"] for c in listed] == [f"many-{i}" for i in reversed(range(count))]
        assert {c["device"]: c["serial"] for c in listed if c["device"] in serials} == serials
        assert len({c["serial"] for c in listed}) == count
        onward = a.tool_json("cert", "list", "--since", "1", "--limit", "1000")["certificates"]
        assert [c["log"] for c in onward] == list(range(2, 1002))
        records = a.tool_json("journal", "list")["records"]
        assert [r["sequence"] for r in records] == list(range(count + 1, 0, -1))
        onward = a.tool_json("journal", "list", "--since", "7")["records"]
        assert [r["sequence"] for r in onward] == list(range(8, count + 2))
        assert a.tool_json("journal", "verify")["records"] == count + 1
        a.stop()
        data = (a.dir / "store/data.mdb").read_bytes()
        victim = records[count - 99]["text"].encode()  # of record 100
        assert victim.startswith(b"request=") and records[count - 99]["sequence"] == 100
        (a.dir / "store/data.mdb").write_bytes(data.replace(victim, victim[:-1] + b"x"))
        done = run([CERTMILL, "-c", a.config_path, "--json", "journal", "verify"], check=False)
        assert done.returncode == 1 and b"record 101 " in done.stderr
        assert json.loads(done.stdout) == {"good": False, "records": 100, "first_bad": 101}
