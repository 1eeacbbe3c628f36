"""Do the EST clients that people have (strongSwan, curl with openssl, Python) enroll and re-enroll over both TLS versions?"""
import base64
import os
import ssl
import subprocess

import certmill as cm
import pytest
from certmill import PASSWORD, Appliance, b64, csr, new_key
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def app():
    with Appliance() as appliance:
        yield appliance


# --- strongSwan ----------------------------------------------------------------------------------

def pki(app, version, *args, **kw):
    conf = app.dir / f"strongswan-{version}.conf"
    conf.write_text("libtls {\n  version_min = 1.2\n  version_max = %s\n}\n" % version)
    env = dict(os.environ, STRONGSWAN_CONF=str(conf))
    return cm.run(["pki", *args], env=env, check=False, **kw)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_strongswan_enrolls_and_reenrolls(app, version, kind):
    tag = f"strongswan-{version}-{kind}"
    work = app.dir / tag
    work.mkdir()
    url = f"https://localhost:{app.port}"
    out = pki(app, version, "--estca", "--url", url, "--cacert", app.dir / "tls/ca.pem",
              "--caout", work / "ca", "--force")
    assert out.returncode == 0, out.stderr.decode()[-3000:]
    size = ["--size", "2048"] if kind == "rsa" else ["--size", "256"]
    for n in ("1", "2"):
        key = pki(app, version, "--gen", "--type", kind, *size, "--outform", "pem").stdout
        (work / f"key{n}.pem").write_bytes(key)
        made = pki(app, version, "--req", "--in", work / f"key{n}.pem", "--type", kind,
                   "--dn", f"CN={tag}", "--outform", "der").stdout
        (work / f"req{n}.der").write_bytes(made)
    cas = [str(p) for p in work.iterdir() if p.name.startswith("ca")]
    cacerts = [arg for p in cas for arg in ("--cacert", p)]
    out = pki(app, version, "--est", "--url", url, "--in", work / "req1.der", "--cacert", app.dir / "tls/ca.pem",
              *cacerts, "--userpass", f"station-1:{PASSWORD}", "--outform", "pem")
    assert out.returncode == 0, out.stderr.decode()[-3000:]
    (work / "cert1.pem").write_bytes(out.stdout)
    first = x509.load_pem_x509_certificate(out.stdout)
    out = pki(app, version, "--est", "--url", url, "--in", work / "req2.der", "--cacert", app.dir / "tls/ca.pem",
              *cacerts, "--cert", work / "cert1.pem", "--key", work / "key1.pem", "--outform", "pem")
    assert out.returncode == 0, out.stderr.decode()[-3000:]
    second = x509.load_pem_x509_certificate(out.stdout)
    assert first.subject == second.subject and first.serial_number != second.serial_number
    assert first.public_key().public_numbers() != second.public_key().public_numbers()


# --- curl and openssl ----------------------------------------------------------------------------

@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_and_openssl(app, version):
    work = app.dir / f"curl-{version}"
    work.mkdir()
    base = f"https://localhost:{app.port}/.well-known/est"
    tls = ["--tlsv" + version, "--tls-max", version]
    curl = ["curl", "-sS", "--fail-with-body", "--cacert", app.dir / "tls/ca.pem", *tls]

    def request(n):
        cm.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                work / f"{n}.key", "-subj", f"/CN=curl-{version}", "-outform", "DER", "-out", work / f"{n}.der"])
        text = cm.run(["openssl", "base64", "-in", work / f"{n}.der"]).stdout  # wrapped at 64
        (work / f"{n}.b64").write_bytes(text)

    def post(operation, n, *auth):
        out = cm.run([*curl, *auth, "-H", "Content-Type: application/pkcs10", "--data-binary", f"@{work / n}.b64",
                      f"{base}/{operation}"], check=False)
        assert out.returncode == 0, out.stdout + out.stderr
        pem = cm.run(["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=base64.b64decode(out.stdout)).stdout
        (work / f"{n}.pem").write_bytes(pem)
        return x509.load_pem_x509_certificate(pem)

    request("1"), request("2")
    first = post("simpleenroll", "1", "-u", f"station-1:{PASSWORD}")
    second = post("simplereenroll", "2", "--cert", work / "1.pem", "--key", work / "1.key")
    assert first.subject == second.subject and first.serial_number != second.serial_number
    ca = cm.run([*curl, f"{base}/cacerts"]).stdout
    pem = cm.run(["openssl", "pkcs7", "-inform", "DER", "-print_certs"], input=base64.b64decode(ca)).stdout
    (work / "ca.pem").write_bytes(pem)
    out = cm.run(["openssl", "verify", "-CAfile", work / "ca.pem", work / "2.pem"], check=False)
    assert out.returncode == 0, out.stdout + out.stderr


# --- Python: PoP linking (RFC 7030 3.5) ------------------------------------------------------------

def tls_connect(app, version, cert=None, key=None, session=None):
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    number = SSL.TLS1_2_VERSION if version == "1.2" else SSL.TLS1_3_VERSION
    context.set_min_proto_version(number)
    context.set_max_proto_version(number)
    context.load_verify_locations(str(app.dir / "tls/ca.pem"))
    context.set_verify(SSL.VERIFY_PEER, lambda *a: a[4])
    if cert:
        context.use_certificate_file(str(cert))
        context.use_privatekey_file(str(key))
    import socket
    sock = socket.create_connection(("127.0.0.1", app.port), timeout=20 * cm.SLOW)
    sock.setblocking(True)
    connection = SSL.Connection(context, sock)
    if session:
        connection.set_session(session)
    connection.set_connect_state()
    connection.do_handshake()
    return connection


def binding(connection, version, resumed=False):
    if version == "1.3":
        return connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    # tls-unique is the first Finished of the handshake: the client's, or on resumption the server's
    return connection.get_peer_finished() if resumed else connection.get_finished()


class Stream:
    def __init__(self, connection):
        self.connection, self.buffer = connection, b""

    def readline(self):
        while b"\n" not in self.buffer:
            self.buffer += self.connection.recv(65536)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def read(self, n):
        while len(self.buffer) < n:
            self.buffer += self.connection.recv(65536)
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out


def linked(app, connection, cn, key, challenge, line="linked", operation="simpleenroll", basic=True):
    der = csr(cn, key, challenge=challenge)
    connection.sendall(cm.http_request("POST", app.url(operation, line), b64(der),
                                       {"Content-Type": "application/pkcs10"}, basic))
    return cm.read_response(Stream(connection))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_pop_linking(app, version):
    connection = tls_connect(app, version)
    good = base64.b64encode(binding(connection, version))
    status, _, body = linked(app, connection, f"pop-{version}", new_key(), good)
    assert status == 200, body
    # wrong in every way that keeps the form, on the same session
    other = tls_connect(app, version)
    for i, wrong in enumerate((base64.b64encode(bytes(len(base64.b64decode(good)))), good[:-4],
                               base64.b64encode(binding(other, version)), base64.b64encode(b"x"), good + b"AAAA")):
        status, _, body = linked(app, connection, f"pop-wrong-{version}-{i}", new_key(), wrong)
        assert status == 400 and body.startswith(b"pop-linking-mismatch"), (i, status, body)


def test_pop_linking_on_a_resumed_tls12_session(app):
    first = tls_connect(app, "1.2")
    first.sendall(cm.http_request("GET", app.url("cacerts")))
    cm.read_response(Stream(first))
    session = first.get_session()
    before = app.metric("tls_resumed_total")
    second = tls_connect(app, "1.2", session=session)
    assert second.get_finished() and app.metric("tls_resumed_total") == before + 1, "the session was not resumed"
    value = base64.b64encode(binding(second, "1.2", resumed=True))
    status, _, body = linked(app, second, "pop-resumed", new_key(), value)
    assert status == 200, body
    wrong = base64.b64encode(binding(second, "1.2", resumed=False))
    status, _, body = linked(app, second, "pop-resumed-wrong", new_key(), wrong)
    assert status == 400, body


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_pop_linked_renewal_with_client_certificate(app, version):
    key = new_key()
    cert = app.enroll_cert(csr(f"pop-renew-{version}", key))
    (app.dir / "renew.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (app.dir / "renew.key").write_bytes(cm.key_pem(key))
    connection = tls_connect(app, version, app.dir / "renew.pem", app.dir / "renew.key")
    good = base64.b64encode(binding(connection, version))
    status, _, body = linked(app, connection, f"pop-renew-{version}", new_key(), good, "line1", "simplereenroll", False)
    assert status == 200, body


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "ed25519"])
def test_client_certificates_of_every_kind(app, version, kind):
    key = new_key(kind)
    pair = app.station_ca.issue(app.dir, f"client-{kind}", "station-cert", key=key)
    status, _, body = app.enroll(csr(f"client-{kind}-{version}", new_key()), cert=pair[0], key=pair[1],
                                 version=VERSIONS[version])
    assert status == 200, body


def test_a_session_with_a_client_certificate_is_not_resumed(app):
    pair = app.station_ca.issue(app.dir, "noresume", "station-cert")
    for version in ("1.2", "1.3"):
        first = tls_connect(app, version, *pair)
        first.sendall(cm.http_request("GET", app.url("cacerts")))
        cm.read_response(Stream(first))
        before = app.metric("tls_resumed_total")
        second = tls_connect(app, version, session=first.get_session())
        second.sendall(cm.http_request("GET", app.url("cacerts")))
        cm.read_response(Stream(second))
        assert app.metric("tls_resumed_total") == before
