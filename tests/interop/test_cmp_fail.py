"""Does every condition in the failInfo table of CMP get its bit, its code and an answer under the right protection, and
does the next request get its certificate?"""
import os
import signal
import threading
import time

import certmill as cm
import pytest
from cmpapp import Factory, device_name
from cmplib import REFERENCE, SECRET
from cmpmsg import *  # noqa: F403 - the language of these tests
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier


@pytest.fixture(scope="module")
def f():
    with Factory() as factory:
        yield factory


def one(f, auth="mac", body=ir, **fields):
    """A good request, but for the fields given."""
    return body([Request(cm.new_key(), device_name())], getattr(f, auth) if isinstance(auth, str) else auth, **fields)


def opened(f, auth=None, line="line1", **fields):
    """A dialogue that waits for certConf: (answer, first message)."""
    asked = one(f, auth or f.mac, **fields)
    answer = exchange(f, asked, line)
    assert answer.status == ACCEPTED
    return answer, asked


def cases(table):
    """Parameters from {id: case}."""
    return pytest.mark.parametrize("case", list(table.values()), ids=list(table))


# --- badMessageCheck ------------------------------------------------------------------------------

def forged(message):
    """The protection of another message: its value is well-formed and wrong."""
    message.protection = message.auth.sign(b"another message")
    return message


def changed_after(message):
    value = message.auth.sign(seq(message.header(), ctx(0, message.content)))
    message.protection = value
    message.content = cert_reqs(Request(cm.new_key(), device_name()))
    return message


def swapped(f):
    auth = Signer(f.station_cert, f.station_key)
    return one(f, auth, extra=[f.station_ca.cert, auth.cert])


MESSAGE_CHECK = {
    "mac-wrong-secret": lambda f: one(f, Mac("another-secret-altogether", REFERENCE)),
    "mac-wrong-secret-pbmac1": lambda f: one(f, Mac("another-secret-altogether", REFERENCE, kind="pbmac1")),
    "mac-wrong-secret-costly": lambda f: one(f, Mac("another-secret-altogether", REFERENCE, iterations=20000)),
    "mac-unknown-reference": lambda f: one(f, Mac(SECRET, "nobody")),
    "mac-without-reference": lambda f: one(f, kid=b""),
    "mac-of-another-message": lambda f: forged(one(f)),
    "mac-too-short": lambda f: one(f, protection=b"\x01"),
    "mac-truncated": lambda f: (lambda m: setattr(m, "protection", m.auth.sign(
        seq(m.header(), ctx(0, m.content)))[:31]) or m)(one(f)),
    "body-changed-under-mac": lambda f: changed_after(one(f)),
    "signature-of-another-message": lambda f: forged(one(f, "station")),
    "signature-no-signature": lambda f: one(f, "station", protection=b"none at all"),
    "signature-by-another-key": lambda f: one(f, Signer(f.station.cert, cm.new_key())),
    "body-changed-under-signature": lambda f: changed_after(one(f, "station")),
    "alg-of-another-key-type": lambda f: one(f, "station", alg=seq(oid("1.2.840.113549.1.1.11"), NULL)),
    "sender-not-the-subject": lambda f: one(f, "station", sender=directory("somebody else")),
    "sender-no-name": lambda f: one(f, "station", sender=tlv(0x82, b"station-cert")),
    "sender-null-dn": lambda f: one(f, "station", sender=ctx(4, seq())),
    "sender-kid-missing": lambda f: one(f, "station", kid=b""),
    "sender-kid-wrong": lambda f: one(f, "station", kid=b"\x01" * 20),
    "value-without-alg": lambda f: one(f, alg=b""),
    "value-without-alg-signed": lambda f: one(f, "station", alg=b""),
    "alg-without-value": lambda f: one(f, protection=b""),
    "signer-not-first": swapped,
    "signer-no-certificate": lambda f: one(f, "station", extra=[seq(num(1))]),
    "signer-may-not-sign": lambda f: one(f, Signer(f.station_ca.cert, f.station_ca.key)),
    "unprotected-ir": lambda f: one(f, None, sender=directory("dev")),
    "unprotected-p10cr": lambda f: p10cr(cm.csr(device_name(), cm.new_key()), None),
    "unprotected-rr": lambda f: rr([rev_details(cm.name("x"), 5)], None),
    "unprotected-kur": lambda f: one(f, None, kur),
    "unprotected-nested": lambda f: nested([one(f)], None),
}


@cases(MESSAGE_CHECK)
def test_bad_message_check(f, case):
    f.refuses(case(f), "badMessageCheck", "cmp-bad-message-check", protected="signature")


@pytest.mark.parametrize("body", ["certConf", "error", "pollReq"])
def test_bad_message_check_when_a_dialogue_goes_on_without_protection(f, body):
    answer, asked = opened(f)
    makers = {"certConf": certconf, "error": error, "pollReq": pollreq}
    f.refuses(makers[body](answer, asked, auth=None), "badMessageCheck", "cmp-bad-message-check", protected="signature")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"  # it is still open


@pytest.mark.parametrize("sender", [ctx(4, seq()), directory("somebody"), tlv(0x82, b"station-1")],
                         ids=["null-dn", "other-name", "dns"])
def test_mac_sender_must_be_its_reference_on_a_strict_line_alone(f, sender):
    f.refuses(one(f, sender=sender), "badMessageCheck", "cmp-bad-message-check", "strict", protected="signature")
    assert exchange(f, one(f, sender=sender)).status == ACCEPTED


# --- badAlg, wrongIntegrity -----------------------------------------------------------------------

BAD_ALG = {
    "unknown-oid": lambda f: one(f, alg=seq(oid("1.2.3.4.5"))),
    "dh-based-mac": lambda f: one(f, alg=seq(oid("1.2.840.113533.7.66.30"), NULL)),
    "kem-based-mac": lambda f: one(f, alg=seq(oid("1.2.840.113533.7.66.16"), NULL)),
    "plain-hmac": lambda f: one(f, alg=seq(oid("1.2.840.113549.2.9"), NULL)),
    "pbm-md5": lambda f: one(f, Mac(SECRET, REFERENCE, owf="md5")),
    "pbm-hmac-md5": lambda f: one(f, Mac(SECRET, REFERENCE, mac="md5")),
    "pbm-few-iterations": lambda f: one(f, Mac(SECRET, REFERENCE, iterations=99)),
    "pbm-many-iterations": lambda f: one(f, alg=Mac(SECRET, REFERENCE, iterations=100001).alg()),
    "pbm-absurd-iterations": lambda f: one(f, alg=Mac(SECRET, REFERENCE, iterations=1 << 80).alg()),
    "pbm-short-salt": lambda f: one(f, Mac(SECRET, REFERENCE, salt=b"7octets")),
    "pbm-long-salt": lambda f: one(f, Mac(SECRET, REFERENCE, salt=bytes(65))),
    "pbmac1-few-iterations": lambda f: one(f, Mac(SECRET, REFERENCE, kind="pbmac1", iterations=99)),
    "pbmac1-many-iterations": lambda f: one(f, alg=Mac(SECRET, REFERENCE, kind="pbmac1", iterations=100001).alg()),
    "pbmac1-short-key": lambda f: one(f, Mac(SECRET, REFERENCE, kind="pbmac1", key_len=15)),
    "pbmac1-long-key": lambda f: one(f, Mac(SECRET, REFERENCE, kind="pbmac1", key_len=65)),
    "ecdsa-sha1": lambda f: one(f, "station", alg=seq(oid("1.2.840.10045.4.1"))),
    "rsa-sha1": lambda f: one(f, "station", alg=seq(oid("1.2.840.113549.1.1.5"), NULL)),
    "rsa-md5": lambda f: one(f, "station", alg=seq(oid("1.2.840.113549.1.1.4"), NULL)),
}


@cases(BAD_ALG)
def test_bad_alg(f, case):
    f.refuses(case(f), "badAlg", "unsupported-algorithm", protected="signature")


WRONG_INTEGRITY = {
    "kur-by-mac": lambda f: one(f, "mac", kur),
    "rr-by-mac": lambda f: rr([rev_details(cm.name("x"), 5)], f.mac),
    "nested-by-mac": lambda f: nested([one(f)], f.mac),
}


@cases(WRONG_INTEGRITY)
def test_wrong_integrity(f, case):
    f.refuses(case(f), "wrongIntegrity", "cmp-wrong-integrity")


def test_wrong_integrity_certconf_must_be_protected_as_its_request_was(f):
    for by, other in (("station", "mac"), ("mac", "station")):
        answer, asked = opened(f, getattr(f, by))
        f.refuses(certconf(answer, asked, auth=getattr(f, other)), "wrongIntegrity", "cmp-wrong-integrity")
        assert exchange(f, certconf(answer, asked)).body == "pkiconf"


# --- signerNotTrusted -----------------------------------------------------------------------------

def below_intermediate(f, chain):
    sub = cm.TestCA("Sub CA")
    sub.cert = f.station_ca._cert(cm.name("Sub CA"), sub.key.public_key(), f.station_ca.cert.subject, ca=True)
    signer = f.foreign("below", sub, eku=[ObjectIdentifier("1.3.6.1.5.5.7.3.28")])
    signer.extra = [signer.cert, sub.cert] if chain else [signer.cert]
    return signer


NOT_TRUSTED = {
    "no-extra-certs": (lambda f: one(f, "station", extra=[]), "client-certificate-untrusted"),
    "chain-incomplete": (lambda f: one(f, below_intermediate(f, False)), "client-certificate-untrusted"),
    "another-ca": (lambda f: one(f, f.foreign("station-cert", cm.TestCA("Test Station CA"))),
                   "client-certificate-untrusted"),
    "self-signed": (lambda f: one(f, (lambda ca: Signer(*ca.issue(f.dir, "self", "self")))(cm.TestCA("self"))),
                    "client-certificate-untrusted"),
    "expired": (lambda f: one(f, f.foreign("station-cert", days=-1, start=-2)), "client-certificate-expired"),
    "not-yet-valid": (lambda f: one(f, f.foreign("station-cert", days=9, start=1)), "client-certificate-expired"),
}


@cases(NOT_TRUSTED)
def test_signer_not_trusted(f, case):
    make, code = case
    f.refuses(make(f), "signerNotTrusted", code, protected="signature")


def test_a_chain_that_is_complete_is_trusted(f):
    assert exchange(f, one(f, below_intermediate(f, True))).status == ACCEPTED


# --- badTime, nonces ------------------------------------------------------------------------------

BAD_TIME = {
    "missing": ("timed", b""),
    "too-early": ("timed", now(-130 - 60)),
    "too-late": ("timed", now(600)),
    "too-early-where-not-required": ("line1", now(-3600)),
    "too-late-where-not-required": ("line1", now(3600)),
}


@cases(BAD_TIME)
def test_bad_time(f, case):
    line, time_field = case
    asked = one(f, time=time_field)
    answer = exchange(f, asked, line)
    assert (answer.body, answer.fails, answer.code) == ("error", ["badTime"], "cmp-bad-time")
    assert exchange(f, one(f, time=now()), line).status == ACCEPTED


def test_time_that_is_right_or_not_looked_at(f):
    for line, time_field in (("timed", now(-60)), ("timed", now(60)), ("line1", b""), ("anytime", now(-10 ** 8))):
        answer = exchange(f, one(f, time=time_field), line)
        assert answer.status == ACCEPTED and answer.time is not None


@pytest.mark.parametrize("nonce", [b"", bytes(15), bytes(17), bytes(1)], ids=["missing", "15", "17", "1"])
@pytest.mark.parametrize("auth", ["mac", "station"])
def test_bad_sender_nonce(f, nonce, auth):
    f.refuses(one(f, auth, nonce=nonce), "badSenderNonce", "cmp-bad-sender-nonce")


def test_bad_sender_nonce_used_before(f):
    answer, asked = opened(f)
    f.refuses(certconf(answer, asked, nonce=asked.nonce), "badSenderNonce", "cmp-bad-sender-nonce")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


@pytest.mark.parametrize("auth", ["mac", "station"])
@pytest.mark.parametrize("nonce", [b"", bytes(16), bytes(15)], ids=["missing", "wrong", "short"])
def test_bad_recipient_nonce_in_certconf_and_error(f, auth, nonce):
    answer, asked = opened(f, getattr(f, auth))
    for make in (certconf, error):
        f.refuses(make(answer, asked, recip_nonce=nonce), "badRecipientNonce", "cmp-bad-recipient-nonce")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


@pytest.mark.parametrize("make", [
    lambda f, **k: one(f, **k), lambda f, **k: one(f, "station", cr, **k),
    lambda f, **k: p10cr(cm.csr(device_name(), cm.new_key()), f.mac, **k),
    lambda f, **k: genm([info(17)], f.mac, **k),
    lambda f, **k: rr([rev_details(cm.name("x"), 5)], f.station, **k)], ids=["ir", "cr", "p10cr", "genm", "rr"])
def test_bad_recipient_nonce_in_a_first_message(f, make):
    f.refuses(make(f, recip_nonce=fresh()), "badRecipientNonce", "cmp-bad-recipient-nonce")


# --- transactionID, pvno --------------------------------------------------------------------------

def test_transaction_id_missing(f):
    f.refuses(one(f, tid=b""), "badDataFormat", "cmp-no-transaction-id", "strict")
    answer, asked = opened(f)
    for make in (certconf, pollreq, error):
        refused = exchange(f, make(answer, asked, tid=b""))
        assert (refused.fails, refused.code) == (["badDataFormat"], "cmp-no-transaction-id")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_transaction_id_too_long(f):
    f.refuses(one(f, tid=bytes(33)), "badDataFormat", "cmp-no-transaction-id")
    f.refuses(one(f, tid=bytes(3000)), "badDataFormat", "cmp-no-transaction-id")
    f.refuses(one(f, nonce=bytes(3000)), "badSenderNonce", "cmp-bad-sender-nonce")
    assert exchange(f, one(f, tid=fresh(32))).status == ACCEPTED
    assert exchange(f, one(f, tid=fresh(1) + b"x")).status == ACCEPTED


@pytest.mark.parametrize("auth", ["mac", "other", "station"])
def test_transaction_id_in_use(f, auth):
    answer, asked = opened(f)
    f.refuses(one(f, auth, tid=asked.tid), "transactionIdInUse", "transaction-id-in-use")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"
    f.refuses(one(f, auth, tid=asked.tid), "transactionIdInUse", "transaction-id-in-use")  # and remembered
    # another line is another world
    assert exchange(f, one(f, tid=asked.tid), "strict").status == ACCEPTED


def test_transaction_id_wrong_when_a_dialogue_goes_on(f):
    answer, asked = opened(f)
    for make in (certconf, pollreq, error):
        f.refuses(make(answer, asked, tid=fresh()), "badRequest", "cmp-unknown-transaction")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


@pytest.mark.parametrize("pvno", [0, 1, 4, 99, 1 << 40])
def test_unsupported_version_names_ours(f, pvno):
    answer = f.refuses(one(f, pvno=pvno), "unsupportedVersion", "cmp-unsupported-version", protected="signature")
    assert "2 and 3" in answer.responses[0].texts[0] and answer.pvno in (2, 3)


# --- badDataFormat --------------------------------------------------------------------------------

DATA_FORMAT = {
    "utc-time-as-message-time": lambda f: one(f, time=utc_time()),
    "utc-time-as-confirm-wait-time": lambda f: one(f, infos=[info(CONFIRM_WAIT_TIME, utc_time())]),
    "empty-free-text": lambda f: one(f, text=tlv(0x05)),
    "sender-is-no-general-name": lambda f: one(f, sender=num(5)),
    "header-field-unknown": lambda f: one(f, text=utf8("x") + num(1)),
    "body-unknown": lambda f: one(f, tag=27),
    "requests-none": lambda f: ir([], f.mac),
    "requests-no-sequence": lambda f: message("ir", num(5), f.mac),
    "request-no-request": lambda f: ir([seq(num(1))], f.mac),
    "request-unknown-field": lambda f: ir([seq(Request(cm.new_key(), device_name()).cert_request(), num(1))], f.mac),
    "time-in-a-template": lambda f: ir([Request(cm.new_key(), device_name(), validity=ctx(4, ctx(0, num(5))))], f.mac),
    "p10cr-no-csr": lambda f: p10cr(seq(num(1)), f.mac),
    "genm-no-info": lambda f: message("genm", seq(num(5)), f.mac),
    "reason-unknown": lambda f: rr([rev_details(cm.name("x"), 5, 11)], f.station),
    "reason-7": lambda f: rr([rev_details(cm.name("x"), 5, 7)], f.station),
    "reason-no-enumerated": lambda f: rr([rev_details(cm.name("x"), 5, details=seq(extension("2.5.29.21", num(1))))],
                                         f.station),
    "rr-no-details": lambda f: message("rr", seq(seq()), f.station, time=now()),
    "nested-none": lambda f: nested([], f.ra),
    "nested-no-messages": lambda f: message("nested", NULL, f.ra),
}


@cases(DATA_FORMAT)
def test_bad_data_format(f, case):
    asked = case(f)
    status, headers, der = http(f, asked.der())
    assert status == 200, der
    answer = Answer(der)
    assert (answer.body, answer.fails, answer.status) == ("error", ["badDataFormat"], 2), answer.responses
    assert answer.code in ("bad-der", "der-trailing-data")
    answer.verify(asked.auth, f.cmp_ca.cert)
    f.serves()


@pytest.mark.parametrize("body", ["certConf", "pollReq", "error"])
def test_bad_data_format_when_a_dialogue_goes_on(f, body):
    answer, asked = opened(f)
    fields = dict(tid=answer.tid, recip_nonce=answer.nonce)
    line = "line1"
    if body == "pollReq":
        asked = one(f)
        line = "held"
        answer = exchange(f, asked, line)
        fields = dict(tid=answer.tid, recip_nonce=answer.nonce)
    f.refuses(message(body, seq(num(5)), f.mac, **fields), "badDataFormat", "bad-der", line)


# --- badRequest -----------------------------------------------------------------------------------

BAD_REQUEST = {
    "implicit-confirm-no-null": lambda f: one(f, infos=[info(IMPLICIT_CONFIRM, num(1))]),
    "implicit-confirm-no-value": lambda f: one(f, infos=[info(IMPLICIT_CONFIRM)]),
    "implicit-confirm-beside-wait-time": lambda f: one(f, infos=[info(IMPLICIT_CONFIRM, NULL),
                                                               info(CONFIRM_WAIT_TIME, now(60))]),
    "implicit-confirm-twice": lambda f: one(f, infos=[info(IMPLICIT_CONFIRM, NULL)] * 2),
    "ids-twice": lambda f: ir([Request(cm.new_key(), device_name(), 3), Request(cm.new_key(), device_name(), 3)], f.mac),
    "ids-twice-apart": lambda f: ir([Request(cm.new_key(), device_name(), n) for n in (5, 9, 5)], f.mac),
    "root-update-of-no-certificate": lambda f: genm([info(20, seq(num(1)))], f.mac),
    "ca-certs-with-a-value": lambda f: genm([info(17, seq(num(1)))], f.mac),
    "template-with-a-value": lambda f: genm([info(19, utf8("x"))], f.mac),
    "infos-too-many": lambda f: genm([info(17)] * 33, f.mac),
}


@cases(BAD_REQUEST)
def test_bad_request(f, case):
    asked = case(f)
    answer = Answer(http(f, asked.der())[2])
    assert (answer.body, answer.fails, answer.code, answer.status) == ("error", ["badRequest"], "bad-request", 2)
    answer.verify(asked.auth, f.cmp_ca.cert)
    f.serves()


NOT_SERVED = {"krr": (9, lambda f: cert_reqs(Request(cm.new_key(), "x"))), "ccr": (13, lambda f: cert_reqs(
    Request(cm.new_key(), "x"))), "popdecc": (5, lambda f: seq(octets(b"x"))), "popdecr": (6, lambda f: seq(num(1))),
    "ip": (1, lambda f: seq(seq())), "pkiconf": (19, lambda f: NULL), "genp": (22, lambda f: seq()),
    "pollRep": (26, lambda f: seq(seq(num(0), num(1)))), "rp": (12, lambda f: seq(seq(status_info(0)))),
    "krp": (10, lambda f: seq(status_info(0))), "ckuann": (15, lambda f: seq()), "crlann": (18, lambda f: seq())}


@cases(NOT_SERVED)
@pytest.mark.parametrize("auth", ["mac", "ra"])
def test_bad_request_bodies_that_are_not_served(f, case, auth):
    tag, content = case
    f.refuses(message("ir", content(f), getattr(f, auth), tag=tag), "badRequest", "cmp-body-not-served")


def test_bad_request_more_than_allowed(f):
    def many(count):
        return ir([Request(cm.new_key(), device_name(), n) for n in range(count)], f.mac)
    f.refuses(many(3), "badRequest", "bad-request", "few")
    f.refuses(many(2), "badRequest", "bad-request", "strict")
    answer = exchange(f, many(2), "few")
    assert [r.status for r in answer.responses] == [ACCEPTED, ACCEPTED]
    same = Request(cm.new_key(), "x").der()
    f.refuses(ir([same] * 1025, f.mac), "badRequest", "bad-request")


def test_bad_request_certificate_ids(f):
    f.refuses(ir([Request(cm.new_key(), device_name(), -1)], f.mac), "badRequest", "bad-request", body="ip")
    f.refuses(ir([Request(cm.new_key(), device_name(), 1)], f.mac), "badRequest", "bad-request", "strict", body="ip")
    answer, asked = opened(f)
    status = cert_status(answer.cert)
    for statuses in ([cert_status(answer.cert, 1)], [cert_status(answer.cert, -1)], [status, cert_status(answer.cert, 1)],
                     [status, status], [status] * 5):
        f.refuses(certconf(answer, asked, statuses), "badRequest", "bad-request")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_bad_request_fail_info_beside_accepted(f):
    answer, asked = opened(f)
    wrong = cert_status(answer.cert, status=ACCEPTED, fail="badAlg")
    f.refuses(certconf(answer, asked, [wrong]), "badRequest", "bad-request")
    assert exchange(f, certconf(answer, asked, [cert_status(answer.cert, status=ACCEPTED)])).body == "pkiconf"


# --- badPOP, notAuthorized ------------------------------------------------------------------------

BAD_POP = {
    "signed-by-another-key": lambda f, key: Request(key, device_name(), pop_key=cm.new_key()),
    "missing": lambda f, key: Request(key, device_name(), pop=None),
    "signature-no-signature": lambda f, key: Request(key, device_name(), pop=ctx(1, signature_alg(key), bits(b"x"))),
    "input-beside-subject-and-key": lambda f, key: Request(key, device_name(), pop="input", sender=f.mac.sender),
    "challenge": lambda f, key: Request(key, device_name(), pop=ctx(2, tlv(0x81, b"\x01"))),
    "key-agreement": lambda f, key: Request(key, device_name(), pop=ctx(3, tlv(0x82, b"\x00mac"))),
    "unknown-kind": lambda f, key: Request(key, device_name(), pop=tlv(0x87, b"x")),
}


@cases(BAD_POP)
@pytest.mark.parametrize("auth", ["mac", "ra"])
def test_bad_pop(f, case, auth):
    f.refuses(ir([case(f, cm.new_key())], getattr(f, auth)), "badPOP", "bad-proof-of-possession", body="ip")


def test_bad_pop_of_a_csr(f):
    der = bytearray(cm.csr(device_name(), cm.new_key()))
    der[-1] ^= 1
    f.refuses(p10cr(bytes(der), f.mac), "badPOP", "bad-proof-of-possession", body="cp")


def by_san(f, **fields):
    return ir([Request(cm.new_key(), None, san=[x509.DNSName(device_name() + ".example")], **fields)], f.mac)


def test_pop_over_signing_key_input_where_the_template_has_no_subject(f):
    assert exchange(f, by_san(f, pop="input", sender=f.mac.sender), "bysan").status == ACCEPTED
    assert exchange(f, by_san(f), "bysan").status == ACCEPTED  # a SAN says who, too
    f.refuses(by_san(f, pop="input", sender=directory("somebody")), "badPOP", "bad-proof-of-possession", body="ip",
              line="line1")
    answer = exchange(f, by_san(f, pop="input", sender=directory("somebody")), "bysan")
    assert answer.fails == ["badPOP"]
    other = cm.new_key()
    answer = exchange(f, by_san(f, pop="input", sender=f.mac.sender, pop_key=other), "bysan")
    assert answer.fails == ["badPOP"]


@pytest.mark.parametrize("auth", ["mac", "station", "vendor"])
def test_not_authorized_ra_verified_by_an_end_entity(f, auth):
    name = device_name()
    caller = f.foreign(name) if auth == "vendor" else getattr(f, auth)
    f.refuses(ir([Request(cm.new_key(), name, pop="raverified")], caller), "notAuthorized", "not-authorized", body="ip")


@pytest.mark.parametrize("auth", ["station", "vendor"])
def test_not_authorized_nested_by_an_end_entity(f, auth):
    caller = f.foreign("vendor") if auth == "vendor" else f.station
    f.refuses(nested([one(f)], caller), "notAuthorized", "not-authorized")


def test_not_authorized_without_the_role(f):
    for line in ("line1", "held"):
        for body in (ir, cr):
            f.refuses(one(f, "powerless", body), "notAuthorized", "not-authorized", line)
    device = f.enroll()
    f.refuses(rr([rev_of(device.cert)], f.foreign("vendor-device")), "notAuthorized", "not-authorized")
    assert exchange(f, rr([rev_of(device.cert)], f.foreign("station-cert"))).status == ACCEPTED


# --- badCertTemplate ------------------------------------------------------------------------------

UNKNOWN_CRITICAL = extension("1.2.3.4", octets(b"x"), critical=True)
CA_TRUE = extension("2.5.29.19", seq(tlv(0x01, b"\xff")), critical=True)
TEMPLATE = {
    "no-subject": lambda: Request(cm.new_key(), None),
    "null-dn": lambda: Request(cm.new_key(), ""),
    "no-key": lambda: Request(None, "x", pop=None),
    "version-1": lambda: Request(cm.new_key(), device_name(), before=tlv(0x80, b"\x00")),
    "serial-number": lambda: Request(cm.new_key(), device_name(), before=tlv(0x81, b"\x05")),
    "signing-alg": lambda: Request(cm.new_key(), device_name(), before=ctx(2, oid("1.2.840.10045.4.3.2"))),
    "weak-rsa": lambda: Request(cm.new_key("rsa1024"), device_name()),
    "bad-extension": lambda: Request(cm.new_key(), device_name(), extensions=CA_TRUE),
    "unknown-critical-extension": lambda: Request(cm.new_key(), device_name(), extensions=UNKNOWN_CRITICAL),
    "extension-twice": lambda: Request(cm.new_key(), device_name(), extensions=UNKNOWN_CRITICAL * 2),
    "device-id-bad": lambda: Request(cm.new_key(), "no spaces/../here"),
    "device-id-too-long": lambda: Request(cm.new_key(), "x" * 65),
}


@cases(TEMPLATE)
def test_bad_cert_template(f, case):
    answer = exchange(f, ir([case()], f.mac))
    assert (answer.body, answer.status, answer.fails) == ("ip", REJECTION, ["badCertTemplate"]), answer.responses
    assert answer.code and answer.cert is None
    f.serves()


def test_bad_cert_template_by_profile(f):
    f.refuses(one(f), "badCertTemplate", "key-not-allowed", "picky", body="ip")
    no_subject = Request(cm.new_key(), "", san=[x509.DNSName("dev.example")])
    f.refuses(ir([no_subject], f.mac), "badCertTemplate", "bad-template", "strict", body="ip")


def test_bad_cert_template_subject_changed_in_an_update(f):
    device = f.enroll()
    f.refuses(kur([Request(cm.new_key(), "somebody-else")], device), "badCertTemplate", "subject-changed", body="kup")


# --- certificates named wrongly -------------------------------------------------------------------

def test_bad_cert_id_old_cert_id(f):
    device = f.enroll("old-cert-id")
    issuer = device.cert.issuer.public_bytes()
    right = seq(ctx(4, issuer), num(device.cert.serial_number))
    for wrong in (cert_id("Test Issuing CA", device.cert.serial_number), seq(ctx(4, issuer), num(77))):
        f.refuses(kur([Request(cm.new_key(), "old-cert-id", controls=control(5, wrong))], device), "badCertId",
                  "cmp-bad-certificate-id", body="kup")
    asked = kur([Request(cm.new_key(), "old-cert-id", controls=control(5, right))], device)
    assert exchange(f, asked).status == ACCEPTED


def test_bad_cert_id_revocation(f):
    device = f.enroll()
    issuer, serial = device.cert.issuer, device.cert.serial_number
    other_line = f.enroll(line="strict")
    for details in (rev_details(issuer, serial + 1), rev_details(cm.name("another CA"), serial), rev_of(other_line.cert)):
        f.refuses(rr([details], f.station), "badCertId", "certificate-unknown", body="rp")
    # a device may revoke its own alone
    f.refuses(rr([rev_of(f.enroll().cert)], device), "badCertId", "certificate-unknown", body="rp")
    assert exchange(f, rr([rev_details(issuer, serial)], device)).status == ACCEPTED


def test_bad_cert_id_hash_alg_needs_version_3(f):
    answer, asked = opened(f)
    f.refuses(certconf(answer, asked, [cert_status(answer.cert, hash_alg="sha256")]), "badCertId",
              "cmp-bad-certificate-id")
    f.refuses(certconf(answer, asked, [cert_status(answer.cert, digest=bytes(32))]), "badCertId",
              "cmp-bad-certificate-id")
    f.refuses(certconf(answer, asked, [cert_status(answer.cert, digest=b"")]), "badCertId", "cmp-bad-certificate-id")
    assert exchange(f, certconf(answer, asked, [cert_status(answer.cert, hash_alg="sha512")], pvno=3)).body == "pkiconf"


@pytest.mark.parametrize("details", [lambda c: rev_details(None, c.serial_number), lambda c: rev_details(c.issuer, None),
                                     lambda c: rev_details()], ids=["no-issuer", "no-serial", "nothing"])
def test_add_info_not_available(f, details):
    device = f.enroll(confirm=False)
    f.refuses(rr([details(device.cert)], f.station), "addInfoNotAvailable", "cmp-no-certificate-id", body="rp")


# --- what became of certificates ------------------------------------------------------------------

def test_cert_revoked(f):
    name = device_name()
    device = f.enroll(name)
    assert exchange(f, rr([rev_of(device.cert, 1)], f.station)).status == ACCEPTED
    f.refuses(rr([rev_of(device.cert, 1)], f.station), "certRevoked", "certificate-revoked", body="rp")
    f.refuses(kur([Request(cm.new_key(), name)], device), "certRevoked", "client-certificate-revoked",
              protected="signature")
    f.refuses(ir([Request(device.key, name)], f.mac), "certRevoked", "certificate-revoked", body="ip")


def test_cert_revoked_when_already_updated(f):
    name = device_name()
    device = f.enroll(name)
    asked = kur([Request(cm.new_key(), name)], device)
    answer = exchange(f, asked)
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"
    again = exchange(f, kur([Request(cm.new_key(), name)], device))
    assert (again.fails, again.status) == (["certRevoked"], REJECTION), again.responses
    f.serves()


def test_cert_confirmed(f):
    answer, asked = opened(f)
    conf = certconf(answer, asked)
    first = exchange(f, conf)
    assert first.body == "pkiconf"
    assert exchange(f, conf).der == first.der  # the same again: the same again
    f.refuses(certconf(answer, asked), "certConfirmed", "certificate-already-confirmed")


def test_wrong_authority(f):
    name = device_name()
    vendor = f.foreign(name)
    key = cm.new_key()
    asked = ir([Request(key, name)], vendor)
    answer = exchange(f, asked)
    f.refuses(certconf(answer, asked, auth=Signer(answer.cert, key)), "wrongAuthority", "cmp-wrong-authority")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_not_authorized_certconf_by_somebody_else(f):
    answer, asked = opened(f)
    f.refuses(certconf(answer, asked, auth=f.other), "notAuthorized", "not-authorized")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_duplicate_cert_req(f):
    device = f.enroll()
    f.refuses(ir([Request(device.key, device_name("clone"))], f.mac), "duplicateCertReq", "key-already-used", body="ip")


def test_not_authorized_device_provisioned(f):
    name = device_name()
    f.enroll(name)
    f.refuses(ir([Request(cm.new_key(), name)], f.mac), "notAuthorized", "device-already-provisioned", body="ip")


def test_not_authorized_identity_of_another(f):
    vendor = f.foreign(device_name())
    f.refuses(ir([Request(cm.new_key(), device_name())], vendor), "notAuthorized", "identity-mismatch", body="ip")


def test_not_authorized_renewal_off(f):
    name = device_name()
    device = f.enroll(name, "norenew")
    f.refuses(kur([Request(cm.new_key(), name)], device), "notAuthorized", "not-authorized", "norenew")


# --- systemUnavail --------------------------------------------------------------------------------

def test_system_unavail_while_no_signer_answers(f):
    pids = f.signer_pids()
    assert pids
    name, key = device_name(), cm.new_key()
    asked = ir([Request(key, name)], f.mac)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        answer = exchange(f, asked)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert answer.body == "ip" and answer.fails == ["systemUnavail"], answer.responses
    assert answer.code in ("signer-unavailable", "deadline", "signer-failed"), answer.code
    end = time.monotonic() + 20 * cm.SLOW
    while exchange(f, ir([Request(key, name)], f.mac)).status != ACCEPTED:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_system_unavail_when_the_mac_queue_is_full_and_signatures_go_on(f):
    costly = Mac(SECRET, REFERENCE, iterations=100000)
    asked = ir([Request(cm.new_key(), device_name())], costly).der()  # one message: a replay, whose MAC is checked anew
    codes, lock = [], threading.Lock()

    def send(message):
        answer = Answer(http(f, message)[2])
        with lock:
            codes.append((answer.body, tuple(answer.fails), answer.code if answer.responses else None))
    wrong = [ir([b"\x30\x00"], Mac("another-secret-altogether", REFERENCE, iterations=100000,
                                   salt=os.urandom(16)), protection=b"x" * 32).der() for _ in range(180)]
    threads = [threading.Thread(target=send, args=(m,)) for m in wrong + [asked]]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    assert exchange(f, one(f, "station")).status == ACCEPTED
    assert time.monotonic() - started < 5 * cm.SLOW
    for thread in threads:
        thread.join()
    full = [c for c in codes if c == ("error", ("systemUnavail",), "overloaded")]
    checked = [c for c in codes if c == ("error", ("badMessageCheck",), "cmp-bad-message-check")]
    assert len(codes) == 181 and full and checked, codes[:5]
    assert len(full) + len(checked) >= 180
    f.serves()


def test_system_unavail_when_the_store_is_full_and_served_when_it_has_room():
    with Factory(config=lambda c: c["store"].update(map_size=1 << 20)) as f:
        answer = None
        for _ in range(200):
            requests = [Request(cm.new_key("ed25519"), device_name("full"), n) for n in range(20)]
            asked = ir(requests, f.mac)
            answer = exchange(f, asked)
            if answer.body != "ip" or any(r.status != ACCEPTED for r in answer.responses):
                break
        refused = [r for r in answer.responses if r.status != ACCEPTED]
        assert refused and {(tuple(r.fails), r.code) for r in refused} == {(("systemUnavail",), "store-full")}
        assert exchange(f, genm([info(17)], f.mac)).info(17)  # what needs no store goes on
        f.stop()
        f.config["store"]["map_size"] = 1 << 26
        f.write_config()
        f.start()
        done = [r.number for r in answer.responses if r.status == ACCEPTED]
        if done:  # a part of it was committed before: that is what this message got, and gets again
            assert exchange(f, asked).der == answer.der
            assert exchange(f, certconf(answer, asked)).body == "pkiconf"
        asked = ir([one for one in requests if one.number not in done], f.mac)
        answer = exchange(f, asked)
        assert {r.status for r in answer.responses} == {ACCEPTED}
        assert exchange(f, certconf(answer, asked)).body == "pkiconf"
