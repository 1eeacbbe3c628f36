"""Does every row of the EST status table answer as it must, with a body that says why?"""
import socket
import time

import certmill as cm
import pytest
from certmill import Appliance, b64, csr, new_key
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PKCS10 = {"Content-Type": "application/pkcs10"}


@pytest.fixture(scope="module")
def app():
    def limits(config):
        base = config["lines"][0]
        config["lines"].append(dict(base, name="slow", rate_limit=2))
        config["lines"].append(dict(base, name="norenew", renewal=False))
        config["lines"].append(dict(base, name="held", hold=True))
        config["lines"].append(dict(base, name="noconfirm", confirm=False))
        config["profiles"].append({"name": "p384only", "base": "tls-device", "keys": ["p384"]})
        config["lines"].append(dict(base, name="p384only", profile="p384only"))
        config["stations"].append({"name": "confirm-only", "roles": ["confirm"],
                                   "password_hash": config["stations"][0]["password_hash"]})
        config["stations"].append({"name": "elsewhere", "lines": ["slow"],
                                   "password_hash": config["stations"][0]["password_hash"]})
    with Appliance(config=limits) as appliance:
        yield appliance


def says(body, code):
    text = body.decode()
    assert text.startswith(code + ":"), text
    assert "\n" not in text.rstrip("\n")
    return text


def post(app, body, operation="simpleenroll", line=None, headers=PKCS10, **kw):
    return app.request("POST", app.url(operation, line), body, headers, **kw)


def as_user(user, password=cm.PASSWORD):
    return {"Authorization": "Basic " + b64(f"{user}:{password}".encode()).decode(), **PKCS10}


# --- 200 -----------------------------------------------------------------------------------------

def test_200_cacerts_is_anonymous_and_holds_issuer_and_root(app):
    for line in (None, "line1", "idevid"):
        status, headers, body = app.request("GET", app.url("cacerts", line), auth=False)
        assert status == 200
        assert headers["content-type"] == "application/pkcs7-mime"
        assert headers["content-transfer-encoding"] == "base64"
        assert "transfer-encoding" not in headers
        assert len(body) == int(headers["content-length"])
        names = {c.subject.rfc4514_string() for c in cm.certs_of(body)}
        assert any("Test Issuing CA" in n for n in names) and any("Test Root CA" in n for n in names)


def test_200_enroll_then_the_same_again_byte_for_byte(app):
    key = new_key()
    der = csr("status-200", key)
    first = post(app, b64(der))
    again = post(app, b64(csr("status-200", key)))  # a fresh signature, the same device and key
    assert first[0] == again[0] == 200
    assert first[1]["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert first[1]["_status_line"] == "HTTP/1.1 200 OK"
    assert first[2] == again[2]
    assert b"\n" not in first[2] and b"\r" not in first[2]
    cert = cm.only_cert(first[2])
    assert cert.public_key().public_numbers() == key.public_key().public_numbers()


def test_200_base64_wrap_for_libest(app):
    status, headers, body = post(app, b64(csr("status-libest", new_key())),
                                 headers=dict(PKCS10, **{"User-Agent": "libest 3.2.0"}))
    assert status == 200
    assert max(len(row) for row in body.split(b"\n")) == 64


def test_200_base64_in_with_white_space_and_any_transfer_encoding(app):
    text = b64(csr("status-space", new_key()))
    wrapped = b" \t" + b"\r\n".join(text[i:i + 61] for i in range(0, len(text), 61)) + b"\n\n"
    assert post(app, wrapped, headers=dict(PKCS10, **{"Content-Transfer-Encoding": "binary"}))[0] == 200


def test_200_chunked_request(app):
    text = b64(csr("status-chunked", new_key()))
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(text[i:i + 100]), text[i:i + 100])
                      for i in range(0, len(text), 100)) + b"0\r\nTrailer: x\r\n\r\n"
    status, headers, body = app.request("POST", app.url("simpleenroll"), chunks,
                                        dict(PKCS10, **{"Transfer-Encoding": "chunked"}))
    assert status == 200
    assert cm.only_cert(body)


def test_http_10_is_answered_with_http_10(app):
    with app.connect() as sock:
        sock.sendall(cm.http_request("GET", app.url("cacerts"), version="1.0"))
        stream = sock.makefile("rb")
        status, headers, body = cm.read_response(stream)
        assert status == 200 and headers["_status_line"] == "HTTP/1.0 200 OK"
        assert stream.read(1) == b""  # and closed


def test_200_confirm_by_certificate_and_by_fingerprint(app):
    import hashlib
    from cryptography.hazmat.primitives.serialization import Encoding
    cert = app.enroll_cert(csr("status-confirm", new_key()))
    der = cert.public_bytes(Encoding.DER)
    assert post(app, b64(der), "confirm", headers={"Content-Type": "text/plain"})[0] == 200
    path = app.url("confirm") + "?device=status-confirm"
    digest = hashlib.sha256(der).hexdigest().encode()
    assert app.request("POST", path, digest, {"Content-Type": "text/plain"})[0] == 200
    found = app.tool_json("device", "show", "status-confirm", "--line", "line1")
    assert "CONFIRMED" in str(found).upper()
    wrong = hashlib.sha256(b"other").hexdigest().encode()
    status, _, body = app.request("POST", path, wrong, {"Content-Type": "text/plain"})
    assert status in (403, 404)
    says(body, "certificate-unknown")


# --- 202 -----------------------------------------------------------------------------------------

def test_202_while_the_operator_holds_the_line(app):
    """And once it is released the client's next post, with a fresh CSR, is served."""
    import signal
    key = new_key()
    status, headers, body = post(app, b64(csr("status-held", key)), line="held")
    assert status == 202 and int(headers["retry-after"]) >= 1
    assert headers["content-length"] == "0" and body == b""
    assert post(app, b64(csr("status-held", key)), line="held", auth=False)[0] == 401  # strangers learn nothing
    next(line for line in app.config["lines"] if line["name"] == "held")["hold"] = False
    app.write_config()
    app.daemon.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        status, _, body = post(app, b64(csr("status-held", key)), line="held")
        if status != 202:
            break
        time.sleep(0.1)
    assert status == 200 and cm.only_cert(body)


# --- 204 -----------------------------------------------------------------------------------------

def test_csrattrs_are_der_and_parse(app):
    status, headers, body = app.request("GET", app.url("csrattrs", "p384only"), auth=False)
    assert status == 200 and headers["content-type"] == "application/csrattrs"
    import base64
    text = cm.run(["openssl", "asn1parse", "-inform", "DER"], input=base64.b64decode(body)).stdout
    assert b"secp384r1" in text


def test_204_csrattrs_with_nothing_to_say(app):
    status, headers, body = app.request("GET", app.url("csrattrs", "line1"), auth=False)
    assert status == 204 and body == b""


# --- 400 -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("body, code", [
    (b"!!!!", "bad-base64"),
    (b"QUJD=", "bad-base64"),
    (b64(b"\x30\x82\x00\x01\x00"), "bad-"),
    (b64(b"hello"), "bad-"),
    (b"", "bad-"),
])
def test_400_malformed_bodies(app, body, code):
    status, headers, text = post(app, body)
    assert status == 400, text
    assert text.decode().startswith(code), text
    assert headers["content-type"] == "text/plain"


def test_400_trailing_bytes(app):
    status, _, body = post(app, b64(csr("status-trailing", new_key()) + b"\x00"))
    assert status == 400
    assert body.decode().split(":")[0] in ("der-trailing-data", "bad-der", "bad-csr")


def test_400_bad_csr_signature(app):
    der = bytearray(csr("status-badsig", new_key()))
    der[-1] ^= 1
    status, _, body = post(app, b64(bytes(der)))
    assert status == 400
    says(body, "bad-proof-of-possession")


def test_400_unsupported_key(app):
    from cryptography.hazmat.primitives.asymmetric import ec
    status, _, body = post(app, b64(csr("status-p521", ec.generate_private_key(ec.SECP521R1()))))
    assert status == 400
    says(body, "unsupported-algorithm")


def test_400_pop_link_mismatch_and_missing(app):
    status, _, body = post(app, b64(csr("status-pop", new_key(), challenge=b"bm90IHRoaXMgc2Vzc2lvbg==")))
    assert status == 400
    says(body, "pop-linking-mismatch")
    status, _, body = post(app, b64(csr("status-pop", new_key())), line="linked")
    assert status == 400
    says(body, "pop-linking-required")


# --- 401 -----------------------------------------------------------------------------------------

def test_401_without_credentials(app):
    status, headers, body = post(app, b64(csr("status-401", new_key())), auth=False)
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic realm=\"")
    assert headers["content-length"] == "0" and body == b""


@pytest.mark.parametrize("user, password", [("station-1", "wrong"), ("nobody", cm.PASSWORD), ("", "wrong"),
                                            ("station-1", "")])
def test_401_with_wrong_credentials(app, user, password):
    assert post(app, b64(csr("status-401", new_key())), headers=as_user(user, password), auth=False)[0] == 401


def test_401_with_broken_authorization(app):
    headers = dict(PKCS10, Authorization="Basic %%%")
    assert post(app, b64(csr("status-401", new_key())), headers=headers, auth=False)[0] == 401


# --- 403 -----------------------------------------------------------------------------------------

def test_403_device_already_provisioned(app):
    app.enroll_cert(csr("status-twice", new_key()))
    status, _, body = post(app, b64(csr("status-twice", new_key())))
    assert status == 403
    says(body, "device-already-provisioned")


def test_403_key_already_used(app):
    key = new_key()
    app.enroll_cert(csr("status-key-a", key))
    status, _, body = post(app, b64(csr("status-key-b", key)))
    assert status == 403
    says(body, "key-already-used")


def test_400_no_device_id_and_bad_device_id(app):
    status, _, body = post(app, b64(csr(None, new_key(), san=["a.example"], subject=x509.Name([]))))
    assert status == 400
    says(body, "no-device-id")
    status, _, body = post(app, b64(csr("two words", new_key())))
    assert status == 400
    says(body, "bad-device-id")


def test_403_key_kind_not_allowed(app):
    status, _, body = post(app, b64(csr("status-kind", new_key("p256"))), line="p384only")
    assert status == 403
    says(body, "key-not-allowed")


def test_403_extension_not_allowed_names_it(app):
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)
    der = csr("status-ext", new_key(), extensions=[(x509.CertificatePolicies([policy]), False)])
    status, _, body = post(app, b64(der))
    assert status == 403
    text = says(body, "extension-not-allowed")
    assert "2.5.29.32" in text or "ertificatePolicies" in text


def test_403_idevid_needs_a_serial_number(app):
    status, _, body = post(app, b64(csr("status-idevid", new_key())), line="idevid")
    assert status == 403
    assert body.decode().split(":")[0] in ("bad-template", "no-device-id")


def test_403_reenroll_without_client_certificate(app):
    status, _, body = post(app, b64(csr("status-reenroll", new_key())), "simplereenroll")
    assert status == 403
    says(body, "client-certificate-required")


@pytest.fixture(scope="module")
def device(app):
    """A device with its certificate in files."""
    key = new_key()
    cert = app.enroll_cert(csr("status-device", key))
    return write_pair(app, "device", cert, key) + (key,)


def write_pair(app, stem, cert, key):
    from cryptography.hazmat.primitives.serialization import Encoding
    (app.dir / f"{stem}.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    (app.dir / f"{stem}.key").write_bytes(cm.key_pem(key))
    return app.dir / f"{stem}.pem", app.dir / f"{stem}.key"


def test_403_reenroll_with_changed_subject_or_san(app, device):
    cert, key, _ = device
    for der in (csr("status-other", new_key()), csr("status-device", new_key(), san=["new.example"])):
        status, _, body = post(app, b64(der), "simplereenroll", cert=cert, key=key)
        assert status == 403
        says(body, "subject-changed")


def test_403_enroll_for_another_identity(app, device):
    cert, key, _ = device
    status, _, body = post(app, b64(csr("status-stranger", new_key())), cert=cert, key=key)
    assert status == 403
    says(body, "identity-mismatch")


def test_403_certificate_of_another_line(app, device):
    cert, key, _ = device
    status, _, body = post(app, b64(csr("status-device", new_key())), "simplereenroll", "norenew", cert=cert, key=key)
    assert status == 403
    says(body, "client-certificate-untrusted")


def test_403_renewal_not_allowed(app):
    key = new_key()
    pair = write_pair(app, "norenew", app.enroll_cert(csr("status-norenew", key), line="norenew"), key)
    status, _, body = post(app, b64(csr("status-norenew", new_key())), "simplereenroll", "norenew", cert=pair[0],
                           key=pair[1])
    assert status == 403
    says(body, "not-authorized")


def test_403_superseded_certificate(app):
    key, second, third = new_key(), new_key(), new_key()
    pair = write_pair(app, "old", app.enroll_cert(csr("status-superseded", key)), key)
    renewed = post(app, b64(csr("status-superseded", second)), "simplereenroll", cert=pair[0], key=pair[1])
    assert renewed[0] == 200, renewed
    # the reply was lost: the same renewal again gets the same certificate
    again = post(app, b64(csr("status-superseded", second)), "simplereenroll", cert=pair[0], key=pair[1])
    assert again[0] == 200 and again[2] == renewed[2]
    status, _, body = post(app, b64(csr("status-superseded", third)), "simplereenroll", cert=pair[0], key=pair[1])
    assert status == 403
    says(body, "client-certificate-revoked")


def test_403_untrusted_and_expired_client_certificates(app):
    stranger = cm.TestCA("Stranger CA")
    pair = stranger.issue(app.dir, "stranger", "station-cert")
    status, _, body = post(app, b64(csr("status-untrusted", new_key())), cert=pair[0], key=pair[1])
    assert status == 403
    says(body, "client-certificate-untrusted")
    pair = app.station_ca.issue(app.dir, "expired", "station-cert", days=-1, start=-3)
    status, _, body = post(app, b64(csr("status-expired", new_key())), cert=pair[0], key=pair[1])
    assert status == 403
    says(body, "client-certificate-expired")


def test_403_roles_and_lines_of_stations(app):
    for user in ("confirm-only", "elsewhere"):
        status, _, body = post(app, b64(csr("status-role", new_key())), headers=as_user(user), auth=False)
        assert status == 403
        says(body, "not-authorized")


# --- who may ask, with certificates ---------------------------------------------------------------

def test_station_certificate_ra_and_vendor(app):
    pair = app.station_ca.issue(app.dir, "station-cert", "station-cert")
    assert post(app, b64(csr("status-mtls", new_key())), cert=pair[0], key=pair[1])[0] == 200
    pair = app.station_ca.issue(app.dir, "ra", "any-ra", eku=[x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")])
    der = csr("status-ra", new_key(), challenge=b"c29tZXRoaW5nIGVsc2U=")  # PoP linking is waived for an RA
    assert post(app, b64(der), cert=pair[0], key=pair[1])[0] == 200
    bad = bytearray(csr("status-ra-bad", new_key()))
    bad[-1] ^= 1  # the CSR's own signature is still checked
    assert post(app, b64(bytes(bad)), cert=pair[0], key=pair[1])[0] == 400
    pair = app.station_ca.issue(app.dir, "vendor", "status-vendor")
    assert post(app, b64(csr("status-vendor", new_key())), cert=pair[0], key=pair[1])[0] == 200
    status, _, body = post(app, b64(csr("status-vendor-2", new_key())), cert=pair[0], key=pair[1])
    assert status == 403
    says(body, "identity-mismatch")


# --- 404, 405, 413, 415, 429, 431, 501 -------------------------------------------------------------

@pytest.mark.parametrize("path", ["/", "/.well-known/est", "/.well-known/est/nothing",
                                  "/.well-known/est/line1/nothing", "/.well-known/est/a/b/cacerts",
                                  "/.well-known/est//cacerts", "/.well-known/est/line1/cacerts/"])
def test_404_operations(app, path):
    assert app.request("GET", path)[0] == 404


def test_404_unknown_line(app):
    status, _, body = app.request("GET", app.url("cacerts", "no-such-line"))
    assert status == 404
    says(body, "unknown-line")


def test_405_names_what_is_allowed(app):
    status, headers, body = app.request("GET", app.url("simpleenroll"))
    assert status == 405 and headers["allow"] == "POST"
    status, headers, body = app.request("POST", app.url("cacerts"), b"")
    assert status == 405 and headers["allow"] == "GET"


def test_413(app):
    status, _, body = post(app, b"A" * (70 * 1024))
    assert status == 413
    says(body, "body-too-large")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "application/pkcs10x"}])
def test_415(app, headers):
    status, _, body = post(app, b64(csr("status-415", new_key())), headers=headers)
    assert status == 415
    says(body, "unsupported-media-type")


def test_429_with_retry_after(app):
    with app.connect() as sock:
        stream = sock.makefile("rb")
        seen = []
        for i in range(12):
            body = b64(csr(f"status-429-{i}", new_key()))
            sock.sendall(cm.http_request("POST", app.url("simpleenroll", "slow"), body, PKCS10))
            seen.append(cm.read_response(stream))
        limited = [r for r in seen if r[0] == 429]
        assert limited and any(r[0] == 200 for r in seen)
        assert int(limited[0][1]["retry-after"]) >= 1
        says(limited[0][2], "rate-limited")


def test_431_header_too_large(app):
    status, _, body = app.request("GET", app.url("cacerts"), headers={"X-Long": "a" * 20000})
    assert status == 431
    says(body, "header-too-large")


def test_501_not_offered(app):
    for operation in ("serverkeygen", "fullcmc"):
        status, _, body = post(app, b64(csr("status-501", new_key())), operation,
                               headers=PKCS10 if operation == "serverkeygen" else
                               {"Content-Type": "application/pkcs7-mime"})
        assert status == 501, operation
        says(body, "not-offered")


# --- 503 is in the fault tests (signer and store gone); 500 is our bug, and is provoked in the unit tests ---

def test_response_headers_are_small_and_request_id_is_journaled(app):
    status, headers, body = post(app, b64(csr("status-journal", new_key())), headers=as_user("confirm-only"),
                                 auth=False)
    assert status == 403
    assert sum(len(k) + len(v) + 4 for k, v in headers.items()) < 1024
    request_id = body.decode().rstrip().split("[")[-1].rstrip("]")
    assert len(request_id) == 16
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if request_id in app.tool("--json", "journal", "list", "--limit", "20"):
            return
        time.sleep(0.05)
    pytest.fail("the refusal is not in the journal")


def test_the_certificate_is_what_the_profile_promises(app):
    from cryptography.hazmat.primitives.serialization import Encoding
    for kind in ("p256", "p384", "ed25519", "rsa2048", "rsa3072"):
        key = new_key(kind)
        cert = app.enroll_cert(csr(f"profile-{kind}", key, san=[f"{kind}.example"]))
        (app.dir / "leaf.pem").write_bytes(cert.public_bytes(Encoding.PEM))
        out = cm.run(["openssl", "verify", "-CAfile", app.dir / "ca/root.pem", "-untrusted", app.dir / "ca/issuing.pem",
                      "-purpose", "sslclient", "-x509_strict", app.dir / "leaf.pem"], check=False)
        assert out.returncode == 0, out.stdout + out.stderr
        text = cm.run(["openssl", "x509", "-in", app.dir / "leaf.pem", "-noout", "-text"]).stdout.decode()
        assert f"DNS:{kind}.example" in text and "CA:FALSE" in text
        assert "TLS Web Client Authentication" in text and "Digital Signature" in text
        assert "X509v3 Subject Key Identifier" in text and "X509v3 Authority Key Identifier" in text
        assert cert.serial_number.bit_length() > 120 and cert.serial_number.bit_length() < 128
        assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"profile-{kind}"
        eku = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(eku) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_idevid_profile(app):
    key = new_key()
    subject = cm.name("", serial="SN-0001")
    cert = app.enroll_cert(csr("", key, subject=subject), line="idevid")
    assert cert.not_valid_after.year == 9999
    usage = cert.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature


def test_each_refusal_is_journaled_once_and_a_stolen_key_names_both_devices(app):
    key = new_key()
    app.enroll_cert(csr("journal-a", key))
    assert post(app, b64(csr("journal-b", key)))[0] == 403
    assert post(app, b64(csr("journal-a", new_key())))[0] == 403
    end = time.monotonic() + 5
    while time.monotonic() < end:
        rows = app.tool_json("journal", "list", "--limit", "40")["records"]
        mine = [r for r in rows if "journal-b" in str(r) or ("journal-a" in str(r) and "already-prov" in str(r))]
        if len(mine) >= 2:
            break
        time.sleep(0.05)
    stolen = [r for r in mine if "key-already-used" in str(r)]
    assert len(stolen) == 1 and "journal-a" in str(stolen[0]) and "journal-b" in str(stolen[0]), mine
    assert len([r for r in mine if "device-already-provisioned" in str(r)]) == 1, mine
