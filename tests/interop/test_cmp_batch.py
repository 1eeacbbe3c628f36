"""Messages in messages and many requests in one: is each answered for itself, are all in the store, none twice; and is
a protection checked over the octets as they came?"""
import base64
import threading
import time

import certmill as cm
import cmpmsg as m
import pytest
from certmill import new_key
from cmp_make import (bits, ctx, directory, extension, name, num, octets, oid, seq, template, tlv, utf8, when)
from cmplib import CMC_RA, REFERENCE, SECRET, CmpAppliance

LINE = {"ca": "issuing", "profile": "device", "device_id": "subject-cn", "trust_anchors": ["ca/stations.pem"]}
KILLS = 6
IMPLICIT = [m.info(m.IMPLICIT_CONFIRM, m.NULL)]


@pytest.fixture(scope="module")
def app():
    with make() as a:
        yield a


def make(**kw):
    return CmpAppliance(lines=[
        dict(LINE, name="line1"),
        dict(LINE, name="whole", cmp={"signer": "cmp", "batch": "whole"}),
        dict(LINE, name="strict", cmp={"signer": "cmp", "mode": "strict"}),
        dict(LINE, name="few", cmp={"signer": "cmp", "requests_max": 3}),
    ], **kw)


def mac(**kw):
    return m.Mac(SECRET, REFERENCE, **kw)


def ra(app):
    return m.Signer(app.ra_cert, app.ra_key)


def certificates(app):
    return app.tool_json("cert", "list", "--limit", "1000000")["certificates"]


def serials(app):
    return [row["serial"] for row in certificates(app)]


def in_store(app, certs):
    known = set(serials(app))
    return all("%032x" % cert.serial_number in known for cert in certs)


# --- many requests in one message -----------------------------------------------------------------

def mixed(stem, count):
    """Requests of which every fifth is bad in one way or another; the failInfo that each shall get."""
    other = new_key()
    out, fails = [], []
    for i in range(count):
        cn = f"{stem}-{i}"
        bad = {3: "badPOP", 8: "badCertTemplate", 13: "notAuthorized", 18: "badPOP"}.get(i % 20)
        request = m.Request(new_key(), cn, i)
        if i % 20 == 3:
            request.pop = None
        elif i % 20 == 8:
            request.template = template(None, m.spki_of(request.key))
        elif i % 20 == 13:
            request.pop = "raverified"
        elif i % 20 == 18:
            request.pop_key = other
        out.append(request)
        fails.append(bad)
    return out, fails


@pytest.mark.parametrize("kind", ["mac", "ra"])
def test_many_requests_each_with_its_own_status(app, kind):
    auth = mac() if kind == "mac" else ra(app)
    requests, fails = mixed(f"mixed-{kind}", 100)
    if kind == "ra":  # may vouch for its devices
        fails = [None if fail == "notAuthorized" else fail for fail in fails]
    first = m.ir(requests, auth)
    answer = m.exchange(app, first)
    assert [r.number for r in answer.responses] == list(range(100))
    assert [r.fails for r in answer.responses] == [[fail] if fail else [] for fail in fails]
    good = [r for r in answer.responses if r.cert]
    assert len(good) == sum(fail is None for fail in fails) and in_store(app, [r.cert for r in good])
    for response, request in zip(answer.responses, requests):
        if response.cert:
            assert m.spki_of(response.cert.public_key()) == m.spki_of(request.key)
    # one is rejected, one is left out (rejected as well), the others are confirmed
    statuses = [m.cert_status(r.cert, r.number) for r in good[2:]] + [
        m.cert_status(good[0].cert, good[0].number, status=m.REJECTION, text="not this one")]
    assert m.exchange(app, m.certconf(answer, first, statuses)).body == "pkiconf"
    status = {row["serial"]: row["status"] for row in certificates(app)}
    assert [status["%032x" % r.cert.serial_number] for r in good] == ["revoked"] * 2 + ["valid"] * (len(good) - 2)


def test_devices_and_keys_that_come_twice_in_one_message(app):
    """In whatever order they are done."""
    key = new_key()
    answer = m.exchange(app, m.ir([m.Request(key, "same", i) for i in range(4)], mac(), infos=IMPLICIT))
    assert answer.cert is not None and {c.serial_number for c in answer.certs} == {answer.cert.serial_number}
    key = new_key()
    answer = m.exchange(app, m.ir([m.Request(key, f"clone-{i}", i) for i in range(4)], mac(), infos=IMPLICIT))
    assert sorted(r.fails for r in answer.responses) == [[]] + [["duplicateCertReq"]] * 3
    answer = m.exchange(app, m.ir([m.Request(new_key(), "torn", i) for i in range(4)], mac(), infos=IMPLICIT))
    assert sorted(r.fails for r in answer.responses) == [[]] + [["notAuthorized"]] * 3


def test_more_requests_than_the_line_takes(app):
    requests = [m.Request(new_key(), f"few-{i}", i) for i in range(4)]
    answer = m.exchange(app, m.ir(requests, mac()), "few")
    assert answer.body == "error" and answer.fails == ["badRequest"]
    assert len(m.exchange(app, m.ir(requests[:3], mac()), "few").certs) == 3


# --- added protection -----------------------------------------------------------------------------

def wrapped(app, inner, auth, **kw):
    return m.nested([inner], auth, tid=inner.tid, nonce=inner.nonce, **kw)


def test_added_protection_around_a_devices_update(app):
    key = new_key()
    old = m.exchange(app, m.ir(m.Request(key, "wrapped"), mac(), infos=IMPLICIT)).cert
    device = m.Signer(old, key)
    update = m.kur(m.Request(new_key(), "wrapped"), device)
    answer = m.exchange(app, wrapped(app, update, ra(app)), unwrapped=update, operation="nested")
    assert answer.body == "kup" and answer.cert is not None
    confirm = m.certconf(answer, update)
    assert m.exchange(app, wrapped(app, confirm, ra(app)), unwrapped=confirm).body == "pkiconf"
    status = {row["serial"]: row["status"] for row in certificates(app)}
    assert status["%032x" % old.serial_number] == "superseded"
    assert status["%032x" % answer.cert.serial_number] == "valid"


def test_added_protection_comes_again(app):
    inner = m.ir(m.Request(new_key(), "wrapped-again"), mac())
    answer = m.exchange(app, wrapped(app, inner, ra(app)), unwrapped=inner)
    assert m.exchange(app, wrapped(app, inner, ra(app)), unwrapped=inner).der == answer.der
    assert m.exchange(app, inner).der == answer.der  # with or without the authority


def test_added_protection_does_not_make_up_for_the_inner_one(app):
    inner = m.ir(m.Request(new_key(), "wrapped-wrong"), mac(), protection=b"x" * 32)
    answer = m.exchange(app, wrapped(app, inner, ra(app)), unwrapped=inner, protected="signature")
    assert answer.body == "error" and answer.fails == ["badMessageCheck"]
    good = m.ir(m.Request(new_key(), "wrapped-wrong"), mac())
    outer = wrapped(app, good, ra(app), protection=b"x" * 64)
    answer = m.exchange(app, outer)
    assert answer.body == "error" and answer.fails == ["badMessageCheck"]
    assert m.exchange(app, good).cert is not None


# --- batches --------------------------------------------------------------------------------------

def batch_of(app, stem, count):
    inner = []
    for i in range(count):
        if i % 2:
            inner.append(m.p10cr(cm.csr(f"{stem}-{i}", new_key()), ra(app), infos=IMPLICIT))
        else:
            inner.append(m.ir(m.Request(new_key(), f"{stem}-{i}"), mac() if i % 4 else ra(app), infos=IMPLICIT))
    return inner


def test_a_batch_of_a_hundred(app):
    inner = batch_of(app, "hundred", 100)
    before = len(serials(app))
    answer = m.exchange(app, m.nested(inner, ra(app)))
    assert answer.body == "nested" and len(answer.inner) == 100
    for asked, got in zip(inner, answer.inner):
        m.check(got, asked, app)
        assert got.body == {"ir": "ip", "p10cr": "cp"}[asked.body] and got.cert is not None
        assert got.responses[0].number == {"ir": 0, "p10cr": -1}[asked.body]
    certs = [got.cert for got in answer.inner]
    assert len({c.serial_number for c in certs}) == 100 and in_store(app, certs)
    assert len(serials(app)) == before + 100


def test_messages_without_protection_are_the_authoritys(app):
    inner = [m.p10cr(cm.csr(f"bare-{i}", new_key()), None, infos=IMPLICIT) for i in range(20)]
    answer = m.exchange(app, m.nested(inner, ra(app)))
    assert all(got.cert for got in answer.inner)
    for asked, got in zip(inner, answer.inner):
        m.check(got, asked, app, protected="signature")
    alone = m.exchange(app, m.p10cr(cm.csr("bare", new_key()), None), protected="signature")
    assert alone.fails == ["badMessageCheck"]


def spoiled(app, stem):
    """A batch with what can be wrong in one message; the body and failInfo that each shall get."""
    again = m.ir(m.Request(new_key(), f"{stem}-again"), mac(), infos=IMPLICIT)
    stranger = cm.TestCA("Strange CA")
    cert, key = stranger.issue(app.dir, f"stranger-{stem}", "stranger")
    kinds = [
        (m.ir(m.Request(new_key(), f"{stem}-0"), mac(), infos=IMPLICIT), "ip", []),
        (m.ir(m.Request(new_key(), f"{stem}-1"), mac(), protection=b"x" * 32), "error", ["badMessageCheck"]),
        (m.ir(m.Request(new_key(), f"{stem}-2", pop=None), mac()), "ip", ["badPOP"]),
        (m.ir(m.Request(new_key(), f"{stem}-3"), m.Signer(cert, key)), "error", ["signerNotTrusted"]),
        (m.ir(m.Request(new_key(), f"{stem}-4"), mac(), pvno=7), "error", ["unsupportedVersion"]),
        (m.nested([again], ra(app)), "error", ["badRequest"]),
        (m.kur(m.Request(new_key(), f"{stem}-6"), mac()), "error", ["wrongIntegrity"]),
        (m.genm([m.info(17)], mac()), "genp", []),
        (m.p10cr(cm.csr(f"{stem}-8", new_key()), ra(app), infos=IMPLICIT), "cp", []),
    ]
    return [k[0] for k in kinds], [(k[1], k[2]) for k in kinds]


def said(answer):
    return (answer.body, answer.responses[0].fails if answer.responses else [])


def test_a_bad_message_is_answered_for_itself(app):
    inner, wanted = spoiled(app, "each")
    answer = m.exchange(app, m.nested(inner, ra(app)))
    assert [said(got) for got in answer.inner] == wanted
    for asked, got in zip(inner, answer.inner):
        assert got.tid == asked.tid and got.recip_nonce == asked.nonce
        got.verify(mac())


def test_a_bad_message_spoils_the_batch_where_the_line_says_so(app):
    inner, wanted = spoiled(app, "whole")
    bad = [message for message, (body, _) in zip(inner, wanted) if body == "error"]
    good = [message for message, (body, fails) in zip(inner, wanted) if body in ("ip", "cp") and not fails]
    before = serials(app)
    for one in bad:
        answer = m.exchange(app, m.nested([*good, one], ra(app)), "whole")
        assert answer.body == "error", one
    assert serials(app) == before
    answer = m.exchange(app, m.nested(good, ra(app)), "whole")
    assert all(got.cert for got in answer.inner)


def test_who_may_send_batches(app):
    inner = batch_of(app, "who", 3)
    answer = m.exchange(app, m.nested(inner, mac()))
    assert answer.body == "error" and answer.fails == ["wrongIntegrity"]
    answer = m.exchange(app, m.nested(inner, m.Signer(app.station_cert, app.station_key)))
    assert answer.body == "error" and answer.fails == ["notAuthorized"]
    assert not [row for row in certificates(app) if row["device"].startswith("who-")]


def test_the_same_message_twice_in_a_batch(app):
    one = m.ir(m.Request(new_key(), "doubled"), ra(app))
    answer = m.exchange(app, m.nested([one, one], ra(app)))
    assert answer.inner[0].cert is not None and answer.inner[1].fails == ["transactionIdInUse"]
    again = m.exchange(app, m.nested([one, m.ir(m.Request(new_key(), "single"), ra(app))], ra(app)))
    assert again.inner[0].der == answer.inner[0].der
    assert len([row for row in certificates(app) if row["device"] == "doubled"]) == 1


def test_the_most_that_one_message_may_hold(app):
    most = 1024
    ders = [m.p10cr(cm.csr(f"most-{i}", new_key()), None, infos=IMPLICIT).der() for i in range(most)]
    answer = m.exchange(app, m.nested(ders + ders[:1], ra(app)))
    assert answer.body == "error" and answer.fails == ["badRequest"]
    answer = m.exchange(app, m.nested(ders, ra(app)))
    assert [got.code for got in answer.inner if got.cert is None] == []
    requests = [m.Request(new_key(), f"most-too-{i}", i) for i in range(most)]
    answer = m.exchange(app, m.ir(requests, mac(), infos=IMPLICIT))
    assert [r.code for r in answer.responses if r.cert is None] == []
    inner = [m.ir(requests, mac()), m.ir(m.Request(new_key(), "most-more"), mac())]
    answer = m.exchange(app, m.nested(inner, ra(app)))  # all together are too many
    assert answer.body == "error" and answer.fails == ["badRequest"]
    requests.append(m.Request(new_key(), "one-too-many", most))
    answer = m.exchange(app, m.ir(requests, mac()))
    assert answer.body == "error" and answer.fails == ["badRequest"]


# --- killed under load ----------------------------------------------------------------------------

class Load(threading.Thread):
    def __init__(self, app, batches, received):
        super().__init__(daemon=True)
        self.app, self.batches, self.received, self.errors = app, batches, received, []

    def run(self):
        try:
            with m.connect(self.app) as sock:
                for der in self.batches:
                    status, _, body = m.http(self.app, der, sock=sock)
                    if status == 503:
                        continue
                    answer = m.Answer(body)
                    self.received.append((der, answer))
        except (OSError, ConnectionError):
            pass  # the daemon is gone: that is what is tested
        except Exception as e:
            self.errors.append(repr(e))


def test_kill_under_batch_load():
    with make() as app:
        app.stop()
        received = []
        for cycle in range(KILLS):
            loads = []
            for i in range(2):
                batches = [m.nested([m.p10cr(cm.csr(f"kill-{cycle}-{i}-{b}-{k}", new_key()), None, infos=IMPLICIT)
                                     for k in range(20)], ra(app)).der() for b in range(6)]
                loads.append((Load(app, batches, received), batches))
            app.start()
            for load, _ in loads:
                load.start()
            time.sleep(0.03 * (cycle + 1) * cm.SLOW)
            app.kill()
            for load, _ in loads:
                load.join(30)
                assert not load.errors, load.errors
            app.start()
            # everything again: what was answered is answered with the same octets, the rest for the first time
            before = {der: answer for der, answer in received}
            for _, batches in loads:
                for der in batches:
                    status, _, body = m.http(app, der)
                    again = m.Answer(body)
                    assert status == 200 and all(got.cert for got in again.inner), again.code
                    if der in before:
                        assert [got.der for got in again.inner] == [got.der for got in before[der].inner]
                    received.append((der, again))
            app.stop()
        app.start()
        rows = certificates(app)
        assert len({row["device"] for row in rows}) == len(rows) == KILLS * 2 * 6 * 20
        given = {"%032x" % got.cert.serial_number for _, answer in received for got in answer.inner}
        assert given == {row["serial"] for row in rows}
        assert "every one fits" in app.tool("journal", "verify")


# --- strict ---------------------------------------------------------------------------------------

def test_strict(app):
    first = m.ir(m.Request(new_key(), "strict-1"), mac())
    answer = m.exchange(app, first, "strict")
    assert answer.cert and m.exchange(app, m.certconf(answer, first), "strict").body == "pkiconf"
    two = m.exchange(app, m.ir([m.Request(new_key(), f"strict-{i}", i) for i in (2, 3)], mac()), "strict")
    assert two.body == "error" and two.fails == ["badRequest"]
    from cryptography import x509
    nameless = m.Request(new_key(), "", san=[x509.DNSName("strict-4")], template=None)
    nameless.template = template(None, m.spki_of(nameless.key), extensions=extension(
        "2.5.29.17", x509.SubjectAlternativeName([x509.DNSName("strict-4")]).public_bytes()))
    assert m.exchange(app, m.ir(nameless, mac()), "strict").fails == ["badCertTemplate"]
    answer = m.exchange(app, m.ir(m.Request(new_key(), "strict-5"), mac(), tid=b""), "strict")
    assert answer.body == "error" and answer.fails == ["badDataFormat"]
    answer = m.exchange(app, m.ir(m.Request(new_key(), "strict-6", 1), mac()), "strict")
    assert answer.fails == ["badRequest"]
    answer = m.exchange(app, m.ir(m.Request(new_key(), "strict-7"), mac(), sender=ctx(4, seq())), "strict",
                        protected="signature")
    assert answer.fails == ["badMessageCheck"]
    # an open line takes them all
    assert m.exchange(app, m.ir(m.Request(new_key(), "open-5"), mac(), tid=b"")).cert
    assert m.exchange(app, m.ir(m.Request(new_key(), "open-7"), mac(), sender=ctx(4, seq()))).cert


# --- as it came -----------------------------------------------------------------------------------

def printable(text):
    return tlv(0x13, text.encode())


def rdn(string, kind=printable, attribute="2.5.4.3"):
    return tlv(0x31, seq(oid(attribute), kind(string)))


def teletex(text):
    return tlv(0x14, text.encode())


@pytest.mark.parametrize("what", ["printable-sender", "teletex-recipient", "fraction-of-a-second", "odd-recipient",
                                  "free-text", "unknown-info", "two-in-one-rdn", "long-salt"])
@pytest.mark.parametrize("kind", ["mac", "signature"])
def test_protection_is_over_the_octets_as_they_came(app, what, kind):
    """Whoever decodes and encodes anew makes other octets of these."""
    auth = ra(app) if kind == "signature" else mac(salt=bytes(range(40)) if what == "long-salt" else b"0123456789abcdef")
    fields = {}
    if what == "printable-sender" and kind == "mac":
        fields["sender"] = ctx(4, seq(rdn(REFERENCE)))
    elif what == "teletex-recipient":
        fields["recipient"] = ctx(4, seq(rdn("Test Issuing CA", teletex), rdn("Test Factory", utf8, "2.5.4.10")))
    elif what == "fraction-of-a-second":
        fields["time"] = tlv(0x18, cm.time.strftime("%Y%m%d%H%M%S", cm.time.gmtime()).encode() + b".5Z")
    elif what == "odd-recipient":
        fields["recipient"] = tlv(0x82, b"ca.example")  # a dNSName
    elif what == "free-text":
        fields["text"] = utf8("gr\u00fc\u00df Gott") + utf8("and again")
    elif what == "unknown-info":
        fields["infos"] = [seq(oid("1.2.3.4.5"), seq(tlv(0x05), tlv(0x31, num(1), num(2)), tlv(0x16, b"ia5")))]
    elif what == "two-in-one-rdn":
        two = tlv(0x31, seq(oid("2.5.4.3"), printable("Z")), seq(oid("2.5.4.10"), utf8("a")))
        fields["recipient"] = ctx(4, seq(two))
    request = m.Request(new_key(), f"octets-{what}-{kind}")
    first = m.ir(request, auth, **fields)
    answer = m.exchange(app, first)
    assert answer.cert is not None, answer.code
    assert m.exchange(app, m.certconf(answer, first)).body == "pkiconf"
    # and a change of one octet anywhere in header or body is seen
    der = bytearray(m.ir(m.Request(new_key(), f"changed-{what}-{kind}"), auth, **fields).der())
    at = bytes(der).index(b"changed-")
    der[at] ^= 1
    answer = m.Answer(m.http(app, bytes(der))[2])
    assert answer.body == "error" and answer.fails == ["badMessageCheck"]


@pytest.mark.parametrize("kind", ["printable", "utf8"])
def test_subjects_stay_in_the_string_type_that_they_came_in(app, kind):
    device, key = f"string-{kind}", new_key()
    subject = seq(rdn(device, printable if kind == "printable" else utf8))
    request = m.Request(key, template=seq(ctx(5, subject), tlv(0xa6, m.Node(m.spki_of(key)).contents)))
    answer = m.exchange(app, m.ir(request, mac(), infos=IMPLICIT))
    assert answer.cert is not None, answer.code
    assert subject in answer.cert.tbs_certificate_bytes
    new = new_key()
    again = m.Request(new, template=seq(ctx(5, subject), tlv(0xa6, m.Node(m.spki_of(new)).contents)))
    device = m.Signer(answer.cert, key)
    device.sender = ctx(4, subject)  # not as Python's decoder writes it again
    assert m.exchange(app, m.kur(again, device)).cert is not None
