"""An appliance in a temporary folder, for interop and fault tests: SoftHSM token, CA, daemon.

Only processes started here are ever signalled, by their id; only loopback is used.
"""
import base64
import json
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BIN = Path(os.environ.get("CERTMILL_BIN", Path(__file__).resolve().parents[2] / "build/release/bin"))
SANITIZED = bool(os.environ.get("CERTMILL_SANITIZE"))
SOFTHSM_MODULE = next(
    (p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                 "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so") if os.path.exists(p)), None)
PIN = "123456"
PASSWORD = "station-secret"
SLOW = 4 if SANITIZED else 1  # sanitizers make everything slower


_ports_given = set()


def free_port():
    """A port that stays free while its daemon is down: below the range that the kernel takes the local ports of
    outgoing connections from, so that none of a test's clients sits on it at the daemon's next start."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = random.randrange(10000, max(first_ephemeral, 11000))
        if port in _ports_given:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port
    raise RuntimeError("no free port between 10000 and the ephemeral range")


def run(args, **kw):
    kw.setdefault("check", True)
    kw.setdefault("capture_output", True)
    kw.setdefault("timeout", 120)
    return subprocess.run([str(a) for a in args], **kw)


# --- keys, requests, test CAs -------------------------------------------------------------------

def new_key(kind="p256"):
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    assert kind.startswith("rsa"), kind
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))


def name(cn, **more):
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, cn)] if cn else []
    if "serial" in more:
        parts.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, more["serial"]))
    if "org" in more:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, more["org"]))
    return x509.Name(parts)


def sign_hash(key):
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else (
        hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384 else hashes.SHA256())


def csr(cn, key, san=None, challenge=None, subject=None, extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject if subject is not None else name(cn))
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(d) for d in san]), False)
    for ext, critical in extensions:
        builder = builder.add_extension(ext, critical)
    if challenge is not None:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge)
    return builder.sign(key, sign_hash(key)).public_bytes(serialization.Encoding.DER)


def b64(der):
    return base64.b64encode(der)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class TestCA:
    """A software CA for station, vendor and server certificates."""
    __test__ = False

    def __init__(self, cn):
        import datetime
        self.now = datetime.datetime.utcnow()
        self.delta = datetime.timedelta
        self.key = new_key()
        self.cert = self._cert(name(cn), self.key.public_key(), name(cn), ca=True)

    def _cert(self, subject, public, issuer, ca=False, eku=(), san=None, days=30, start=-1):
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(self.now + self.delta(days=start))
                   .not_valid_after(self.now + self.delta(days=days))
                   .add_extension(x509.BasicConstraints(ca, None), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False))
        if ca:
            builder = builder.add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(eku)), False)
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName(san), False)
        return builder.sign(self.key, hashes.SHA256())

    def pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def issue(self, folder, stem, cn, eku=(), san=None, subject=None, key=None, days=30, start=-1):
        """Writes stem.pem and stem.key; returns both paths."""
        key = key or new_key()
        cert = self._cert(subject or name(cn), key.public_key(), self.cert.subject, eku=eku, san=san, days=days,
                          start=start)
        folder = Path(folder)
        (folder / f"{stem}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        (folder / f"{stem}.key").write_bytes(key_pem(key))
        os.chmod(folder / f"{stem}.key", 0o600)
        return folder / f"{stem}.pem", folder / f"{stem}.key"


# --- a simulated HSM ----------------------------------------------------------------------------

class SimDevice:
    """A copy of the simulator's module with its own description beside it; see deploy/sample/hsmsim.yaml."""

    def __init__(self, folder, description):
        self.dir = Path(folder)
        self.dir.mkdir()
        self.module = self.dir / "sim.so"
        shutil.copy(BIN / "libcertmill-hsmsim.so", self.module)
        self.description = dict({"token": {"directory": "token", "serial": self.dir.name}, "control": "control.yaml"},
                                **description)
        (self.dir / "sim.so.yaml").write_text(to_yaml(self.description))

    def control(self, *faults):
        """Faults from now on, instead of those before; written beside and renamed, as its users must."""
        beside = self.dir / "control.new"
        beside.write_text(json.dumps({"faults": list(faults)}))
        beside.rename(self.dir / "control.yaml")

    def status(self):
        """The device's own counters: hsm/sim/board.h."""
        raw = (self.dir / "token/status").read_bytes()
        head, *lines = raw.split(b"\0")[0].decode().splitlines()
        assert head == "certmill-hsmsim status 1"
        return {name: struct.unpack_from("<Q", raw, int(at))[0] for name, at in (line.split() for line in lines)}


# --- the appliance ------------------------------------------------------------------------------

def to_yaml(value, indent=0):
    """JSON is YAML; block style only where people will read it in failure output."""
    return json.dumps(value, indent=1)


class Appliance:
    """with Appliance() as a: a.enroll(...)

    token="sim": a simulated HSM for each description in `sims`, all with the same key; app.sims are their SimDevices
    and their tokens' names sim-0, sim-1..."""

    def __init__(self, lines=None, profiles=None, config=None, cores=2, token="softhsm", sessions=4, signers=1,
                 verify_one_in=1, start=True, env=None, folder=None, ca_key="p256", sims=({},)):
        self.own_folder = folder is None
        self.dir = Path(folder or tempfile.mkdtemp(prefix="certmill-test-"))
        self.port = free_port()
        self.plain_port = None
        self.admin_port = free_port()
        self.daemon = None
        self.log_path = self.dir / "daemon.log"
        self.env = dict(os.environ, SOFTHSM2_CONF=str(self.dir / "softhsm2.conf"), **(env or {}))
        self.ca_key = ca_key
        for sub in ("tokens", "ca", "tls", "run"):
            (self.dir / sub).mkdir(exist_ok=True)
        self.sims = [SimDevice(self.dir / f"sim-{i}", sim) for i, sim in enumerate(sims)] if token == "sim" else []
        self.server_ca = TestCA("Test Server CA")
        self.station_ca = TestCA("Test Station CA")
        self.config = self.default_config(lines, profiles, cores, token, sessions, signers, verify_one_in)
        if config:
            config(self.config)
        self._prepare(token)
        self.write_config()
        if token in ("softhsm", "sim"):
            self.tool("ca", "init", "--ca", "issuing", "--subject", "CN=Test Issuing CA,O=Test Factory",
                      "--root-subject", "CN=Test Root CA,O=Test Factory", "--key-type", self.ca_key)
        for other in self.sims[1:]:  # the same token again, with the same keys
            shutil.copytree(self.sims[0].dir / "token", other.dir / "token", ignore=shutil.ignore_patterns("status"))
        if start:
            self.start()

    def default_config(self, lines, profiles, cores, token, sessions, signers, verify_one_in):
        import ipaddress
        self.server_ca.issue(self.dir / "tls", "server", "localhost",
                             eku=[ExtendedKeyUsageOID.SERVER_AUTH],
                             san=[x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        (self.dir / "tls/ca.pem").write_bytes(self.server_ca.pem())
        (self.dir / "ca/stations.pem").write_bytes(self.station_ca.pem())
        hashed = run([BIN / "certmill", "station", "hash-password"], input=PASSWORD.encode()).stdout.decode().strip()
        line = {"ca": "issuing", "profile": "device", "device_id": "subject-cn",
                "trust_anchors": ["ca/stations.pem"]}
        tokens = {
            "softhsm": {"name": "softhsm", "module": SOFTHSM_MODULE, "uri": "pkcs11:token=certmill"},
            "null": {"name": "null", "module": str(BIN / "libcertmill-nulltoken.so"), "uri": "pkcs11:token=null"},
        }
        chosen = [tokens[token]] if token != "sim" else [
            {"name": sim.dir.name, "module": str(sim.module), "uri": "pkcs11:token=certmill"} for sim in self.sims]
        toks = [dict(t, pin_file="pin", signers=signers, sessions=sessions, verify_one_in=verify_one_in) for t in chosen]
        return {
            "store": {"dir": "store", "map_size": 1 << 30},
            "cores": cores,
            "pin_cores": False,
            "listeners": [{"address": "127.0.0.1", "port": self.port, "tls": True}],
            "tls": {"certificate": "tls/server.pem", "key": "tls/server.key"},
            "admin": {"socket": "run/admin.sock", "address": "127.0.0.1", "port": self.admin_port},
            "log": {"level": "info"},
            "tokens": toks,
            "cas": [{"name": "issuing", "key": "pkcs11:object=issuing", "certificate": "ca/issuing.pem",
                     "chain": ["ca/root.pem"],
                     # a list is a signature and a journal record, where tests count theirs
                     "crl": {"every": "none"}}],
            "profiles": profiles or [{"name": "device", "base": "tls-device", "validity": "30d"},
                                     {"name": "idevid", "base": "idevid"}],
            "stations": [{"name": "station-1", "password_hash": hashed},
                         {"name": "station-cert", "certificate_subject": "CN=station-cert"}],
            "lines": lines or [dict(line, name="line1"),
                               dict(line, name="idevid", profile="idevid", device_id="subject-serial-number"),
                               dict(line, name="linked", require_pop_link=True)],
            "default_line": (lines or [{"name": "line1"}])[0]["name"],
        }

    def _prepare(self, token):
        (self.dir / "pin").write_text(PIN)
        os.chmod(self.dir / "pin", 0o600)
        (self.dir / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.dir}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        if token == "softhsm" and not any((self.dir / "tokens").iterdir()):
            run(["softhsm2-util", "--init-token", "--free", "--label", "certmill", "--pin", PIN, "--so-pin", PIN],
                env=self.env)
        if token == "sim":
            run([BIN / "certmill", "token", "init", "--module", self.sims[0].module, "--label", "certmill", "--pin-file",
                 self.dir / "pin"], env=self.env)
        if token == "null":
            self._null_ca()

    def _null_ca(self):
        """The null token's key lies in a file; its certificate is made here."""
        ca = TestCA("Test Null CA")
        (self.dir / "ca/null.key").write_bytes(
            ca.key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                                 serialization.NoEncryption()))
        (self.dir / "ca/issuing.pem").write_bytes(ca.pem())
        (self.dir / "ca/root.pem").write_bytes(ca.pem())
        self.config["cas"][0]["chain"] = []
        self.env.update(CERTMILL_NULLTOKEN_KEY=str(self.dir / "ca/null.key"), CERTMILL_ALLOW_NULLTOKEN="1",
                        CERTMILL_NULLTOKEN_LABEL="issuing")

    def write_config(self):
        self.config_path = self.dir / "certmill.yaml"
        self.config_path.write_text(to_yaml(self.config))

    def tool(self, *args, **kw):
        """The operator's command line; returns its output."""
        return run([BIN / "certmill", "--config", self.config_path, *args], env=self.env, **kw).stdout.decode()

    def tool_json(self, *args):
        return json.loads(self.tool("--json", *args))

    # daemon

    def start(self, wait=True):
        self.log = open(self.log_path, "ab")
        self.daemon = subprocess.Popen([str(BIN / "certmilld"), "--config", str(self.config_path)],
                                       stdout=self.log, stderr=self.log, env=self.env)
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=30):
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            if self.daemon.poll() is not None:
                raise RuntimeError(f"certmilld ended with {self.daemon.returncode}:\n{self.log_text()[-4000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/health", timeout=2) as r:
                    if r.status == 200:
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"certmilld is not ready:\n{self.log_text()[-4000:]}")

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self, expect=0):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(60 * SLOW)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
                raise RuntimeError(f"certmilld did not stop:\n{self.log_text()[-4000:]}")
        code = self.daemon.returncode if self.daemon else expect
        self.daemon = None
        if expect is not None and code != expect:
            raise RuntimeError(f"certmilld ended with {code}:\n{self.log_text()[-6000:]}")

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def signer_pids(self):
        out = run(["pgrep", "-P", self.daemon.pid, "-x", "certmill-signer"], check=False).stdout.split()
        out = out or run(["pgrep", "-P", self.daemon.pid], check=False).stdout.split()
        return [int(p) for p in out]

    def admin(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metric(self, wanted):
        """Sum over cores of a metric, by full name without the certmill_ prefix."""
        total = 0.0
        for row in self.admin("/metrics")[1].splitlines():
            if row.startswith("certmill_" + wanted) and row[len("certmill_" + wanted)] in "{ ":
                total += float(row.rsplit(" ", 1)[1])
        return total

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.stop(expect=0 if kind is None else None)
            log = self.log_text()
            if kind is None and SANITIZED:
                assert "ERROR: AddressSanitizer" not in log and "runtime error:" not in log and \
                    "WARNING: ThreadSanitizer" not in log and "LeakSanitizer" not in log, log[-8000:]
            if kind is not None:
                print(log[-6000:])
        finally:
            if self.own_folder:
                shutil.rmtree(self.dir, ignore_errors=True)

    # clients

    def url(self, operation, line=None):
        return "/.well-known/est/" + (f"{line}/" if line else "") + operation

    def context(self, cert=None, key=None, version=None):
        context = ssl.create_default_context(cafile=str(self.dir / "tls/ca.pem"))
        context.check_hostname = False
        if cert:
            context.load_cert_chain(str(cert), str(key))
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def connect(self, cert=None, key=None, version=None, timeout=20):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context(cert, key, version).wrap_socket(raw, server_hostname="localhost")

    def request(self, method, path, body=None, headers=None, cert=None, key=None, version=None, auth=True, sock=None):
        """One request; returns (status, headers, body)."""
        own = sock is None
        sock = sock or self.connect(cert, key, version)
        try:
            sock.sendall(http_request(method, path, body, headers, auth and not cert))
            return read_response(sock.makefile("rb") if own else sock)
        finally:
            if own:
                sock.close()

    def enroll(self, der, line=None, operation="simpleenroll", **kw):
        status, headers, body = self.request("POST", self.url(operation, line), b64(der),
                                             {"Content-Type": "application/pkcs10"}, **kw)
        return status, headers, body

    def enroll_cert(self, der, **kw):
        """Enrolls and returns the certificate, or fails."""
        status, headers, body = self.enroll(der, **kw)
        assert status == 200, (status, body)
        return only_cert(body)


def http_request(method, path, body=None, headers=None, basic=True, version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost"]
    if basic:
        lines.append("Authorization: Basic " + b64(f"station-1:{PASSWORD}".encode()).decode())
    for key, value in (headers or {}).items():
        lines.append(f"{key}: {value}")
    if body is not None and not any(k.lower() == "transfer-encoding" for k in headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


def read_response(stream):
    """Reads one response from a buffered binary stream."""
    status_line = stream.readline()
    if not status_line:
        raise ConnectionError("closed without an answer")
    assert status_line.startswith(b"HTTP/1."), status_line
    status = int(status_line.split()[1])
    headers = {}
    while True:
        line = stream.readline()
        if line in (b"\r\n", b""):
            break
        key, value = line.decode().rstrip("\r\n").split(":", 1)
        headers[key.lower()] = value.strip()
    if status == 100:
        return read_response(stream)
    body = stream.read(int(headers.get("content-length", 0)))
    if len(body) != int(headers.get("content-length", 0)):
        raise ConnectionError("closed inside an answer")
    headers["_status_line"] = status_line.decode().rstrip("\r\n")
    return status, headers, body


def certs_of(body):
    """Certificates of a base64 certs-only answer, through openssl: an independent decoder."""
    pem = run(["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=base64.b64decode(body)).stdout
    return x509.load_pem_x509_certificates(pem) if hasattr(x509, "load_pem_x509_certificates") else [
        x509.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE-----" + part)
        for part in pem.split(b"-----BEGIN CERTIFICATE-----")[1:]]


def only_cert(body):
    certs = certs_of(body)
    assert len(certs) == 1, len(certs)
    return certs[0]
