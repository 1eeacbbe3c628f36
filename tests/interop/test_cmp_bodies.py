"""Does every body of CMP get its answer: requests alone and in batches, confirmation, revocation, waiting, questions,
messages in messages?"""
import hashlib
import time

import certmill as cm
import pytest
from cmpapp import Factory, device_name
from cmplib import REFERENCE, SECRET
from cmpmsg import *  # noqa: F403 - the language of these tests
from cryptography import x509


@pytest.fixture(scope="module")
def f():
    with Factory() as factory:
        yield factory


def requests(count, first=0):
    return [Request(cm.new_key(), device_name(), first + n) for n in range(count)]


def is_confirmed(f, device, line="line1"):
    return "confirmed" in str(f.tool_json("device", "show", device, "--line", line)["state"]).lower()


def cert_status_of(f, cert):
    """What the store says about a certificate."""
    return f.tool_json("cert", "show", "%032x" % cert.serial_number)["status"]


AUTHS = {
    "pbm-sha1": lambda f: Mac(SECRET, REFERENCE, owf="sha1", mac="sha1"),
    "pbm-sha256": lambda f: f.mac,
    "pbm-sha512-sha384": lambda f: Mac(SECRET, REFERENCE, owf="sha512", mac="sha384", iterations=100, salt=bytes(8)),
    "pbm-20000": lambda f: Mac(SECRET, REFERENCE, iterations=20000, salt=bytes(64)),
    "pbm-rsadsi-sha1": lambda f: Mac(SECRET, REFERENCE, mac="rsadsi-sha1"),
    "pbmac1": lambda f: Mac(SECRET, REFERENCE, kind="pbmac1"),
    "pbmac1-sha512-key": lambda f: Mac(SECRET, REFERENCE, kind="pbmac1", owf="sha512", mac="sha512", key_len=64),
    "station": lambda f: f.station,
    "ra": lambda f: f.ra,
    "rsa-signer": lambda f: f.foreign("station-cert", key=cm.new_key("rsa2048")),
    "rsa-signer-sha512": lambda f: (lambda s: Signer(s.cert, s.key, hash_alg=hashes.SHA512()))(
        f.foreign("station-cert", key=cm.new_key("rsa2048"))),
    "p384-signer": lambda f: (lambda s: Signer(s.cert, s.key, hash_alg=hashes.SHA384()))(
        f.foreign("station-cert", key=cm.new_key("p384"))),
    "ed25519-signer": lambda f: f.foreign("station-cert", key=cm.new_key("ed25519")),
}


# --- ir, cr, p10cr --------------------------------------------------------------------------------

@pytest.mark.parametrize("auth", AUTHS.values(), ids=list(AUTHS))
@pytest.mark.parametrize("body", [ir, cr])
def test_request_and_confirmation_under_every_protection(f, auth, body):
    auth = auth(f)
    key, name = cm.new_key(), device_name()
    asked = body([Request(key, name)], auth)
    answer = exchange(f, asked)
    assert answer.body == {"ir": "ip", "cr": "cp"}[asked.body] and answer.status == ACCEPTED
    assert answer.responses[0].number == 0 and answer.responses[0].texts == []
    assert spki_of(answer.cert) == spki_of(key) and answer.cert.subject == cm.name(name)
    assert not answer.implicit and answer.confirm_wait is not None
    conf = exchange(f, certconf(answer, asked))
    assert conf.body == "pkiconf" and conf.nonce != answer.nonce
    assert is_confirmed(f, name)


def test_who_has_a_secret_alone_learns_the_root(f):
    asked = ir(requests(1), f.mac)
    answer = exchange(f, asked)
    assert [c.subject.rfc4514_string() for c in answer.ca_pubs] == ["O=Test Factory,CN=Test Root CA"]
    assert any("Test Issuing CA" in c.subject.rfc4514_string() for c in answer.extra)
    assert exchange(f, cr(requests(1), f.mac)).ca_pubs == []
    assert exchange(f, ir(requests(1), f.station)).ca_pubs == []
    refused = exchange(f, ir([Request(cm.new_key(), "", 0)], f.mac))
    assert refused.ca_pubs == [] and refused.status == REJECTION


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "ed25519"])
def test_keys_of_every_kind(f, kind):
    key = cm.new_key(kind)
    asked = ir([Request(key, device_name())], f.mac)
    answer = exchange(f, asked)
    assert answer.status == ACCEPTED and spki_of(answer.cert) == spki_of(key)
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


@pytest.mark.parametrize("auth", ["mac", "station"])
def test_p10cr(f, auth):
    key, name = cm.new_key(), device_name()
    asked = p10cr(cm.csr(name, key), getattr(f, auth))
    answer = exchange(f, asked)
    assert (answer.body, answer.status, answer.responses[0].number) == ("cp", ACCEPTED, -1)
    assert spki_of(answer.cert) == spki_of(key)
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_p10cr_that_is_refused(f):
    answer = f.refuses(p10cr(cm.csr(None, cm.new_key()), f.mac), "badCertTemplate", "bad-template", body="cp")
    assert answer.responses[0].number == -1


def test_the_same_message_again_is_the_same_answer(f):
    for auth in (f.mac, f.station):
        asked = ir(requests(3), auth)
        first = exchange(f, asked)
        assert exchange(f, asked).der == first.der
        conf = certconf(first, asked)
        confirmed = exchange(f, conf)
        assert exchange(f, conf).der == confirmed.der
        assert exchange(f, asked).der == first.der
    f.tool("journal", "verify")


def test_the_same_message_at_once_on_many_connections(f):
    import threading
    der = ir(requests(2), f.mac).der()
    bodies = []
    threads = [threading.Thread(target=lambda: bodies.append(http(f, der)[2])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies) == 8 and len(set(bodies)) == 1 and Answer(bodies[0]).status == ACCEPTED


# --- several requests in one message --------------------------------------------------------------

@pytest.mark.parametrize("count", [2, 37, 300])
def test_batch(f, count):
    keys = [cm.new_key("ed25519") for _ in range(count)]
    asked = ir([Request(key, device_name("batch"), 7 * n) for n, key in enumerate(keys)], f.mac)
    answer = exchange(f, asked)
    assert [r.number for r in answer.responses] == [7 * n for n in range(count)]
    assert all(r.status == ACCEPTED and spki_of(r.cert) == spki_of(key) for r, key in zip(answer.responses, keys))
    assert len({r.cert.serial_number for r in answer.responses}) == count
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_batch_of_the_most(f):
    keys = [cm.new_key("ed25519") for _ in range(64)]
    asked = ir([Request(keys[n % 64], "the-most", n) for n in range(1024)], f.mac)  # one device, 64 keys
    answer = exchange(f, asked)
    assert len(answer.responses) == 1024 and {r.number for r in answer.responses} == set(range(1024))
    assert any(r.status == ACCEPTED for r in answer.responses)
    f.serves()


def test_batch_with_a_status_for_each(f):
    good, clone = cm.new_key(), f.enroll()
    wrong_key = cm.new_key()
    asked = cr([Request(good, device_name(), 10),
                Request(cm.new_key(), device_name(), 11, pop_key=wrong_key),
                Request(clone.key, device_name(), 12),
                Request(cm.new_key(), "", 13),
                Request(cm.new_key(), device_name(), 14, pop="raverified"),
                Request(cm.new_key(), device_name(), 15, before=tlv(0x81, b"\x05")),
                Request(cm.new_key(), device_name(), 16)], f.mac)
    answer = exchange(f, asked)
    assert [(r.number, r.status, r.fails) for r in answer.responses] == [
        (10, ACCEPTED, []), (11, REJECTION, ["badPOP"]), (12, REJECTION, ["duplicateCertReq"]),
        (13, REJECTION, ["badCertTemplate"]), (14, REJECTION, ["notAuthorized"]), (15, REJECTION, ["badCertTemplate"]),
        (16, ACCEPTED, [])]
    assert [r.cert is not None for r in answer.responses] == [True] + [False] * 5 + [True]
    assert exchange(f, asked).der == answer.der
    only = [cert_status(answer.responses[0].cert, 10)]
    f.refuses(certconf(answer, asked, only + [cert_status(answer.responses[0].cert, 11)]), "badRequest", "bad-request")
    # what is not named is not accepted
    assert exchange(f, certconf(answer, asked, only)).body == "pkiconf"
    assert is_confirmed(f, answer.responses[0].cert.subject.rfc4514_string()[3:])
    assert cert_status_of(f, answer.responses[6].cert) == "revoked"


def test_batch_with_nothing_issued_is_no_dialogue(f):
    asked = ir([Request(cm.new_key(), "", n) for n in range(3)], f.mac)
    answer = exchange(f, asked)
    assert [r.status for r in answer.responses] == [REJECTION] * 3 and answer.confirm_wait is None
    f.refuses(certconf(answer, asked, []), "badRequest", "cmp-unknown-transaction")


# --- certConf -------------------------------------------------------------------------------------

def opened(f, auth=None, line="line1", name=None, **fields):
    asked = ir([Request(cm.new_key(), name or device_name())], auth or f.mac, **fields)
    answer = exchange(f, asked, line)
    assert answer.status == ACCEPTED
    return answer, asked


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "sha1"])
def test_certconf_with_a_hash_of_its_own(f, algorithm):
    answer, asked = opened(f, pvno=3)
    conf = certconf(answer, asked, [cert_status(answer.cert, hash_alg=algorithm)])
    assert exchange(f, conf).body == "pkiconf"


def test_certconf_with_an_unknown_hash(f):
    answer, asked = opened(f, pvno=3)
    status = seq(octets(bytes(16)), num(0), ctx(0, seq(oid("1.2.840.113549.2.5"))))
    f.refuses(certconf(answer, asked, [status]), "badAlg", "unsupported-algorithm")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


@pytest.mark.parametrize("reject", ["empty", "rejected", "rejected-without-reason"])
def test_certconf_that_rejects_revokes(f, reject):
    name = device_name()
    answer, asked = opened(f, name=name)
    statuses = {"empty": [], "rejected": [cert_status(answer.cert, status=REJECTION, text="no", fail="badPOP")],
                "rejected-without-reason": [cert_status(answer.cert, status=REJECTION)]}[reject]
    assert exchange(f, certconf(answer, asked, statuses)).body == "pkiconf"
    assert cert_status_of(f, answer.cert) == "revoked"
    assert f.enroll(name)  # with another key: there is no device yet
    f.refuses(certconf(answer, asked), "certConfirmed", "certificate-already-confirmed")


def test_certconf_of_ed25519_certificates_hash(f):
    """The certificate's own signature says which hash: here the CA's, ECDSA with SHA-256."""
    answer, asked = opened(f)
    assert answer.cert.signature_hash_algorithm.name == "sha256"
    digest = hashlib.sha256(der_of(answer.cert)).digest()
    assert exchange(f, certconf(answer, asked, [cert_status(answer.cert, digest=digest)])).body == "pkiconf"


def test_implicit_confirm(f):
    wish = [info(IMPLICIT_CONFIRM, NULL)]
    name = device_name()
    answer, asked = opened(f, name=name, infos=wish)
    assert answer.implicit and answer.confirm_wait is None
    f.refuses(certconf(answer, asked), "certConfirmed", "certificate-already-confirmed")
    assert exchange(f, asked).der == answer.der
    # not granted
    answer, asked = opened(f, line="explicit", infos=wish)
    assert not answer.implicit and answer.confirm_wait is not None
    assert exchange(f, certconf(answer, asked), "explicit").body == "pkiconf"
    # nothing to confirm
    refused = exchange(f, ir([Request(cm.new_key(), "")], f.mac, infos=wish))
    assert not refused.implicit


def test_confirm_wait_time_passes(f):
    name = device_name()
    device = f.enroll(name, "quick")
    answer, asked = opened(f, line="quick")
    update = kur([Request(cm.new_key(), name)], device)
    updated = exchange(f, update, "quick")
    assert updated.status == ACCEPTED and updated.body == "kup"
    assert 0 <= (updated.confirm_wait - updated.time).total_seconds() <= 2
    end = time.monotonic() + 12 * cm.SLOW
    while not all(cert_status_of(f, a.cert) == "revoked" for a in (answer, updated)):
        assert time.monotonic() < end
        time.sleep(0.3)
    late = exchange(f, certconf(answer, asked), "quick")
    assert (late.body, late.fails, late.code) == ("error", ["badRequest"], "cmp-unknown-transaction")
    # the device falls back to what it had
    again = exchange(f, kur([Request(cm.new_key(), name)], device), "quick")
    assert again.status == ACCEPTED


def test_who_asks_again_has_the_whole_time(f):
    """The same key in one dialogue after another, each of two seconds: the first ones end before the last is confirmed."""
    key, name = cm.new_key(), device_name()
    start, certs = time.monotonic(), set()
    while time.monotonic() < start + 5:
        asked = ir([Request(key, name)], f.mac)
        answer = exchange(f, asked, "quick")
        assert answer.status == ACCEPTED
        certs.add(answer.cert.serial_number)
        time.sleep(0.3)
    assert len(certs) == 1
    assert exchange(f, certconf(answer, asked), "quick").body == "pkiconf"
    assert is_confirmed(f, name, "quick") and cert_status_of(f, answer.cert) == "valid"


def test_error_from_the_client_revokes(f):
    name = device_name()
    answer, asked = opened(f, name=name)
    said = error(answer, asked, fail="badCertTemplate")
    first = exchange(f, said)
    assert first.body == "pkiconf"
    assert exchange(f, said).der == first.der
    assert cert_status_of(f, answer.cert) == "revoked"
    assert f.enroll(name)
    f.refuses(certconf(answer, asked), "certConfirmed", "certificate-already-confirmed")
    f.refuses(error(answer, asked), "badRequest", "cmp-unknown-transaction")


# --- kur ------------------------------------------------------------------------------------------

def test_kur(f):
    name = device_name()
    device = f.enroll(name)
    key = cm.new_key()
    asked = kur([Request(key, name)], device)
    answer = exchange(f, asked)
    assert answer.body == "kup" and answer.status == ACCEPTED and spki_of(answer.cert) == spki_of(key)
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"
    assert cert_status_of(f, device.cert) == "superseded"
    # and with the new one; its subject may be left out
    newer = Signer(answer.cert, key)
    asked = kur([Request(cm.new_key(), None)], newer)
    answer = exchange(f, asked)
    assert answer.status == ACCEPTED and answer.cert.subject == cm.name(name)
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_kur_by_whom_it_is_not_for(f):
    for auth in (f.station, f.ra, f.foreign("vendor-9")):
        answer = exchange(f, kur(requests(1), auth))
        assert answer.fails == ["notAuthorized"] and answer.code == "client-certificate-required"
    device = f.enroll()
    f.refuses(kur(requests(2), device), "badRequest", "bad-request")
    # a device's certificate is no key to another device
    f.refuses(ir(requests(1), device), "notAuthorized", "identity-mismatch", body="ip")


def test_kur_by_a_certificate_of_another_line(f):
    name = device_name()
    device = f.enroll(name, "strict")
    f.refuses(kur([Request(cm.new_key(), name)], device), "signerNotTrusted", "client-certificate-untrusted",
              protected="signature")


# --- rr -------------------------------------------------------------------------------------------

def test_rr(f):
    device = f.enroll()
    asked = rr([rev_of(device.cert, 4)], f.station)
    answer = exchange(f, asked)
    assert answer.body == "rp" and answer.status == ACCEPTED
    assert exchange(f, asked).der == answer.der
    assert cert_status_of(f, device.cert) == "revoked"


@pytest.mark.parametrize("reason", [0, 1, 2, 3, 4, 5, 6, 9, 10, None])
def test_rr_reasons(f, reason):
    device = f.enroll(confirm=False)
    assert exchange(f, rr([rev_of(device.cert, reason)], f.ra)).status == ACCEPTED


def test_rr_hold_and_revival(f):
    name = device_name()
    device = f.enroll(name)
    f.refuses(rr([rev_of(device.cert, 8)], f.station), "badRequest", "bad-request", body="rp")  # not on hold
    assert exchange(f, rr([rev_of(device.cert, 6)], f.station)).status == ACCEPTED
    f.refuses(kur([Request(cm.new_key(), name)], device), "certRevoked", "client-certificate-revoked",
              protected="signature")
    f.refuses(rr([rev_of(device.cert, 6)], f.station), "certRevoked", "certificate-revoked", body="rp")
    assert exchange(f, rr([rev_of(device.cert, 8)], f.station)).status == ACCEPTED
    assert exchange(f, kur([Request(cm.new_key(), name)], device)).status == ACCEPTED
    assert exchange(f, rr([rev_of(device.cert, 1)], f.station)).status == ACCEPTED
    f.refuses(rr([rev_of(device.cert, 8)], f.station), "certRevoked", "certificate-revoked", body="rp")


def test_rr_of_many(f):
    devices = [f.enroll(confirm=False) for _ in range(3)]
    details = [rev_of(devices[0].cert), rev_details(devices[1].cert.issuer, 77), rev_details(devices[1].cert.issuer),
               rev_of(devices[1].cert, 6), rev_of(devices[0].cert), rev_of(devices[1].cert, 8), rev_of(devices[2].cert)]
    answer = exchange(f, rr(details, f.station))
    assert [(r.status, r.fails) for r in answer.responses] == [
        (ACCEPTED, []), (REJECTION, ["badCertId"]), (REJECTION, ["addInfoNotAvailable"]), (ACCEPTED, []),
        (REJECTION, ["certRevoked"]), (ACCEPTED, []), (ACCEPTED, [])]
    one = rev_of(devices[0].cert)
    assert len(exchange(f, rr([one] * 64, f.station)).responses) == 64
    f.refuses(rr([one] * 65, f.station), "badRequest", "bad-request")


# --- waiting --------------------------------------------------------------------------------------

def test_poll(f):
    asked = ir(requests(2), f.mac)
    answer = exchange(f, asked, "held")
    assert [(r.status, r.number, r.cert) for r in answer.responses] == [(WAITING, 0, None), (WAITING, 1, None)]
    assert exchange(f, asked, "held").der == answer.der
    last = answer
    for numbers in ([0, 1], [1], [-1]):
        polled = exchange(f, pollreq(last, asked, numbers), "held")
        assert polled.body == "pollRep" and [n for n, _ in polled.polls] == numbers
        assert all(40 <= after <= 50 for _, after in polled.polls)
        last = polled
    f.refuses(pollreq(answer, asked), "badRecipientNonce", "cmp-bad-recipient-nonce", "held")  # of an older answer
    f.refuses(pollreq(last, asked, [2]), "badRequest", "bad-request", "held")
    f.refuses(message("pollReq", seq(), f.mac, tid=last.tid, recip_nonce=last.nonce), "badRequest", "bad-request",
              "held")
    f.refuses(certconf(last, asked), "badRequest", "cmp-unknown-transaction", "held")
    given_up = exchange(f, error(last, asked), "held")
    assert given_up.body == "pkiconf"
    f.refuses(pollreq(answer, asked), "badRequest", "cmp-unknown-transaction", "held")


def test_poll_p10cr_and_nothing_to_poll_for(f):
    asked = p10cr(cm.csr(device_name(), cm.new_key()), f.station)
    answer = exchange(f, asked, "held")
    assert (answer.status, answer.responses[0].number) == (WAITING, -1)
    assert exchange(f, pollreq(answer, asked, [-1]), "held").body == "pollRep"
    answer, asked = opened(f)
    f.refuses(pollreq(answer, asked), "badRequest", "cmp-unknown-transaction")


def test_poll_until_the_line_goes_on(f):
    """What waited is issued when the operator lets the line go on: the certificate comes in the answer to a poll."""
    asked = ir(requests(2), f.mac)
    answer = exchange(f, asked, "held")
    f.reload(lambda lines: lines["held"].update(hold=False))
    try:
        polled = exchange(f, pollreq(answer, asked, [0, 1]), "held")
        assert polled.body == "ip" and [r.status for r in polled.responses] == [ACCEPTED] * 2, polled.responses
        assert exchange(f, certconf(polled, asked), "held").body == "pkiconf"
    finally:
        f.reload(lambda lines: lines["held"].update(hold=True))


def test_nobody_waits_for_another_identity(f):
    """A device, and who comes with a vendor's certificate, is told at once that it may ask for itself alone."""
    name = device_name("vendor")
    vendor = f.foreign(name)
    f.reload(lambda lines: lines["held"].update(hold=False))
    try:
        device = f.enroll(line="held")
    finally:
        f.reload(lambda lines: lines["held"].update(hold=True))
    for caller in (vendor, device):
        f.refuses(ir([Request(cm.new_key(), device_name())], caller), "notAuthorized", "identity-mismatch", "held")
        f.refuses(p10cr(cm.csr(device_name(), cm.new_key()), caller), "notAuthorized", "identity-mismatch", "held")
    f.refuses(ir([Request(cm.new_key(), name, 0), Request(cm.new_key(), device_name(), 1)], vendor), "notAuthorized",
              "identity-mismatch", "held")
    assert exchange(f, ir([Request(cm.new_key(), name)], vendor), "held").status == WAITING
    assert exchange(f, kur([Request(cm.new_key(), None)], device), "held").status == WAITING
    assert exchange(f, ir([Request(cm.new_key(), device_name())], f.ra), "held").status == WAITING


# --- genm -----------------------------------------------------------------------------------------

def test_genm_anonymous_and_under_every_protection(f):
    for auth in (None, f.mac, f.station):
        answer = exchange(f, genm([info(17)], auth), protected="signature" if auth is None else "same")
        certs = [x509.load_der_x509_certificate(n.der).subject.rfc4514_string() for n in answer.info(17).items]
        assert len(certs) == 2 and "Issuing" in certs[0] and "Root" in certs[1]


def test_genm_each_question(f):
    questions = {2: "keys", 4: "alg", 14: "time", 16: "tags", 17: "certs", 19: "template"}
    answer = exchange(f, genm([info(n) for n in questions], f.mac))
    assert [name for name, _ in answer.infos] == [f"1.3.6.1.5.5.7.4.{n}" for n in questions]
    assert all(a.items[0].tag == 0x06 for a in answer.info(2).items)
    assert answer.info(4).items[0].dotted == "2.16.840.1.101.3.4.1.42"
    assert answer.info(14).time > answer.time
    assert [t.contents for t in answer.info(16).items] == [b"en"]
    template_of, key_spec = answer.info(19).items
    assert template_of.items == [] and 6 not in template_of.tagged()  # no publicKey
    assert {one.items[0].dotted for one in key_spec.items} <= {"1.3.6.1.5.5.7.5.1.11", "1.3.6.1.5.5.7.5.1.12"}
    picky = exchange(f, genm([info(2), info(19)], f.mac), "picky")
    assert len(picky.info(2).items) == 1 and len(picky.info(19).items[1].items) == 1


def test_genm_root_without_a_successor(f):
    root = exchange(f, genm([info(17)], f.mac)).info(17).items[1].der
    answer = exchange(f, genm([info(20, root)], f.mac))
    assert answer.infos == [("1.3.6.1.5.5.7.4.18", None)]


def test_genm_unsupported_oids_in_order(f):
    other = seq(oid("1.2.3.4"), utf8("x"))
    answer = exchange(f, genm([info(12), info(17), other, info(1), info(3), info(99)], f.mac))
    assert [name for name, _ in answer.infos] == ["1.3.6.1.5.5.7.4.17", "1.3.6.1.5.5.7.4.7"]
    assert [n.dotted for n in answer.info(7).items] == ["1.3.6.1.5.5.7.4.12", "1.2.3.4", "1.3.6.1.5.5.7.4.1",
                                                       "1.3.6.1.5.5.7.4.3", "1.3.6.1.5.5.7.4.99"]


def test_genm_of_nothing_and_of_much(f):
    assert exchange(f, genm([], f.mac)).infos == []
    assert len(exchange(f, genm([info(17)] * 32, f.mac)).infos) == 32
    assert exchange(f, genm([info(17, NULL)], f.mac)).info(17)


# --- nested ---------------------------------------------------------------------------------------

def test_nested_added_protection(f):
    inner = ir(requests(2), f.mac)
    answer = exchange(f, nested([inner], f.ra, tid=inner.tid, nonce=inner.nonce), unwrapped=inner)
    assert answer.body == "ip" and [r.status for r in answer.responses] == [ACCEPTED] * 2
    conf = certconf(answer, inner)
    confirmed = exchange(f, nested([conf], f.ra, tid=conf.tid, nonce=conf.nonce), unwrapped=conf)
    assert confirmed.body == "pkiconf"


def test_nested_added_protection_to_a_message_without(f):
    """The authority answers for it: raVerified is its word."""
    key = cm.new_key()
    inner = ir([Request(key, device_name(), pop="raverified")], None, sender=directory("dev"))
    outer = nested([inner], f.ra, tid=inner.tid, nonce=inner.nonce)
    status, _, der = http(f, outer.der())
    answer = check(Answer(der), inner, f, "signature")
    assert answer.status == ACCEPTED and spki_of(answer.cert) == spki_of(key)


def test_nested_batch(f):
    device = f.enroll()
    update = f.enroll("nested-update")
    inner = [ir(requests(2), f.mac), cr(requests(1), f.station), p10cr(cm.csr(device_name(), cm.new_key()), f.mac),
             kur([Request(cm.new_key(), "nested-update")], update), rr([rev_of(device.cert)], f.station),
             genm([info(17)], f.mac), ir(requests(1), Mac("another-secret-altogether", REFERENCE)),
             ir(requests(1), f.mac, pvno=9), ir(requests(1), f.mac, nonce=b"x"), ir([Request(cm.new_key(), "")], f.mac),
             certconf(*opened(f)), nested([ir(requests(1), f.mac)], f.ra)]
    outer = nested(inner, f.ra)
    answer = exchange(f, outer)
    assert answer.body == "nested"
    expected = [("ip", []), ("cp", []), ("cp", []), ("kup", []), ("rp", []), ("genp", None), ("error", ["badMessageCheck"]),
                ("error", ["unsupportedVersion"]), ("error", ["badSenderNonce"]), ("ip", ["badCertTemplate"]),
                ("pkiconf", None), ("error", ["badRequest"])]
    assert [(a.body, a.fails if a.responses else None) for a in answer.inner] == expected
    signed = (6, 7, 11)
    for n, (one, asked) in enumerate(zip(answer.inner, inner)):
        check(one, asked, f, "signature" if n in signed else "same")
    conf = exchange(f, nested([certconf(answer.inner[n], inner[n]) for n in (0, 1, 2, 3)], f.ra))
    assert [a.body for a in conf.inner] == ["pkiconf"] * 4


def test_nested_batch_that_fails_whole(f):
    good, count = requests(1), f.metric("certificates_issued_total")
    for bad in (ir(requests(1), Mac("another-secret-altogether", REFERENCE)), ir(requests(1), f.mac, nonce=b"x")):
        answer = exchange(f, nested([ir(good, f.mac), bad], f.ra), "whole")
        assert answer.body == "error" and answer.fails[0] in ("badMessageCheck", "badSenderNonce")
    assert f.metric("certificates_issued_total") == count
    answer = exchange(f, nested([ir(good, f.mac), ir(requests(1), f.mac)], f.ra), "whole")
    assert [a.status for a in answer.inner] == [ACCEPTED, ACCEPTED]


def test_nested_with_ids_twice(f):
    """One transactionID names one dialogue: the second message with it is refused, before anything is issued."""
    first, second = ir(requests(1), f.mac), ir(requests(1), f.mac)
    second.tid = first.tid
    count = f.metric("certificates_issued_total")
    answer = exchange(f, nested([first, second], f.ra))
    assert [a.fails for a in answer.inner] == [[], ["transactionIdInUse"]]
    assert f.metric("certificates_issued_total") == count + 1


def test_nested_with_more_requests_than_one_message_may_have(f):
    keys = [cm.new_key("ed25519") for _ in range(8)]
    many = [Request(keys[n % 8], "one-of-many", n).der() for n in range(513)]
    f.refuses(nested([ir(many, f.ra), ir(many, f.ra)], f.ra), "badRequest", "bad-request")


def test_nested_of_the_most(f):
    inner = [genm([info(16)], f.mac) for _ in range(1024)]
    answer = exchange(f, nested(inner, f.ra))
    assert [(a.body, a.tid) for a in answer.inner] == [("genp", m.tid) for m in inner]
    f.refuses(nested(inner + inner[:1], f.ra), "badRequest", "bad-request")


def test_nested_of_many(f):
    inner = [ir([Request(cm.new_key("ed25519"), device_name())], f.mac) for _ in range(100)]
    answer = exchange(f, nested(inner, f.ra))
    assert [a.tid for a in answer.inner] == [m.tid for m in inner]
    assert all(a.status == ACCEPTED for a in answer.inner)
