"""Do CMP's headers and its way over HTTP follow the rules, whatever clients write there?"""
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


def one(f, auth=None, body=ir, **fields):
    return body([Request(cm.new_key(), device_name())], auth or f.mac, **fields)


# --- headers --------------------------------------------------------------------------------------

@pytest.mark.parametrize("auth", ["mac", "station"])
@pytest.mark.parametrize("pvno", [2, 3])
def test_pvno_of_the_answer_is_the_requests(f, auth, pvno):
    asked = one(f, getattr(f, auth), pvno=pvno)
    answer = exchange(f, asked)
    assert answer.pvno == pvno
    assert exchange(f, certconf(answer, asked)).pvno == pvno
    refused = exchange(f, one(f, getattr(f, auth), pvno=pvno, recip_nonce=fresh()))
    assert refused.body == "error" and refused.pvno == pvno


def test_transaction_id_is_made_where_there_is_none(f):
    ids = set()
    for _ in range(3):
        asked = one(f, tid=b"")
        answer = exchange(f, asked)
        assert answer.status == ACCEPTED and len(answer.tid) == 16
        ids.add(answer.tid)
        assert exchange(f, certconf(answer, asked)).body == "pkiconf"
    assert len(ids) == 3


@pytest.mark.parametrize("size", [1, 8, 16, 17, 32])
def test_transaction_id_comes_back_whatever_its_length(f, size):
    tid = fresh(size) if size > 1 else b"\x00"
    answer = exchange(f, one(f, tid=tid))
    assert answer.tid == tid and answer.status == ACCEPTED


def test_nonces_of_the_server_are_fresh(f):
    asked = [one(f, auth) for auth in (f.mac, f.station) for _ in range(8)]
    nonces = {exchange(f, m).nonce for m in asked}
    assert len(nonces) == len(asked) and all(len(set(n)) > 4 for n in nonces)


def test_what_stands_in_the_header_besides_is_no_harm(f):
    asked = one(f, time=now(), recip_kid=b"whoever", text=utf8("hello") + utf8("again"), recipient=ctx(4, seq()),
                infos=[info(21, seq(utf8("profile"))), info(15, seq()), info(99), seq(oid("1.2.3"), num(1))])
    answer = exchange(f, asked)
    assert answer.status == ACCEPTED
    assert set(answer.general) == {"1.3.6.1.5.5.7.4.14"}
    asked = one(f, recipient=tlv(0x86, b"http://ca.example"), infos=[info(CONFIRM_WAIT_TIME, now(60))])
    assert exchange(f, asked).status == ACCEPTED


def test_mac_answers_name_the_secret_and_signed_ones_the_signer(f):
    asked = one(f)
    answer = exchange(f, asked)
    assert answer.kid == REFERENCE.encode() and answer.alg == asked.alg
    signed = exchange(f, one(f, f.station))
    assert signed.kid == ski_of(signed.extra[0]) and signed.extra[0].subject == cm.name("Test CMP Responder")


def test_free_text_is_never_empty(f):
    """Answers without a text have none; parse_status asserts the rest."""
    for asked in (one(f), ir([Request(cm.new_key(), "")], f.mac), one(f, pvno=9)):
        answer = Answer(http(f, asked.der())[2])
        assert 7 not in {n.tag & 0x1f for n in answer.header.items[3:]}
        assert all(r.texts or r.status == ACCEPTED for r in answer.responses)


def test_a_line_without_a_signer_answers_by_mac_alone(f):
    asked = one(f)
    answer = exchange(f, asked, "unsigned")
    assert answer.status == ACCEPTED and answer.kind == "mac"
    assert exchange(f, certconf(answer, asked), "unsigned").body == "pkiconf"
    for asked in (one(f, f.station), one(f, Mac("another-secret-altogether", REFERENCE)), genm([info(17)])):
        assert exchange(f, asked, "unsigned", protected=None).kind is None


def test_answers_to_what_has_no_header_are_signed(f):
    for der in (seq(), seq(num(2)), seq(seq(), ctx(0, seq())), NULL, seq(seq(num(2)), ctx(21, seq()))):
        status, headers, body = http(f, der)
        assert status == 200 and headers["content-type"] == MEDIA_TYPE
        answer = Answer(body)
        assert (answer.body, answer.fails, answer.tid) == ("error", ["badDataFormat"], b"")
        answer.verify(anchor=f.cmp_ca.cert)
    f.serves()


@pytest.mark.parametrize("where", range(0, 400, 7))
def test_one_octet_changed_is_noticed(f, where):
    """Nothing of a protected message can be changed on its way: it is refused, or the answer is not to it."""
    der = bytearray(one(f, f.station if where % 2 else f.mac).der())
    der[where % len(der)] ^= 1 << where % 8
    status, headers, body = http(f, bytes(der))
    if status == 200:
        answer = Answer(body)
        assert answer.body == "error", (where, answer.responses)
        assert answer.kind is not None
    else:
        assert status == 400


# --- HTTP -----------------------------------------------------------------------------------------

def test_404(f):
    der = one(f).der()
    for path in ("/.well-known/cmp/p/nobody", "/.well-known/cmp/p/line1/nothing", "/.well-known/cmp/nothing",
                 "/.well-known/cmp/p", "/.well-known/cmp/p/", "/.well-known/cmp/", "/.well-known/cmp/p/line1/",
                 "/.well-known/cmp/p/line1/initialization/x", "/.well-known/cmp/p/estonly", "/.well-known/cmpx",
                 "/.well-known/cmp/P/line1"):
        status, headers, body = http(f, der, path=path)
        assert status == 404 and headers["content-type"] == "text/plain", path
    f.serves()


def test_405(f):
    der = one(f).der()
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
        with connect(f) as sock:
            sock.sendall(cm.http_request(method, path_of(), der if method == "PUT" else None, {}, basic=False))
            head = sock.recv(65536)
        assert head.startswith(b"HTTP/1.1 405 "), (method, head)
        assert b"\r\nallow: post\r\n" in head.lower()


@pytest.mark.parametrize("media", ["application/pkcs10", "application/pkixcmp-poll", "text/plain", None, "pkixcmp", ""])
def test_415(f, media):
    assert http(f, one(f).der(), media=media)[0] == 415


@pytest.mark.parametrize("media", ["Application/PKIXCMP", "application/pkixcmp; charset=x", "application/pkixcmp ;a=b"])
def test_media_type_in_other_words(f, media):
    assert Answer(http(f, one(f).der(), media=media)[2]).status == ACCEPTED


def test_413(f):
    with connect(f) as sock:
        sock.sendall(b"POST /.well-known/cmp HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkixcmp\r\n"
                     b"Content-Length: %d\r\n\r\n" % (2 * 1024 * 1024 + 1))
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")
    f.serves()


NOT_DER = {
    "empty": b"", "text": b"hello", "end-missing": lambda d: d[:-1], "more-behind": lambda d: d + b"\0",
    "indefinite": lambda d: b"\x30\x80" + d[4:] + b"\0\0", "long-length": lambda d: b"\x30\x83\0" + d[2:],
    "base64": lambda d: cm.b64(d), "deep": b"\x30\x80" * 200, "zeros": bytes(1000),
    "nested-deeper-than-anybody": (lambda d: (lambda x: [x := seq(x) for _ in range(40)][-1])(NULL)),
}


@pytest.mark.parametrize("body", NOT_DER.values(), ids=list(NOT_DER))
def test_400_what_is_no_der_is_no_cmp(f, body):
    body = body(one(f).der()) if callable(body) else body
    with connect(f) as sock:
        status, headers, text = http(f, body, sock=sock)
        assert status == 400 and headers["content-type"] == "text/plain" and text.startswith(b"bad-der:"), text
        assert Answer(http(f, one(f).der(), sock=sock)[2]).status == ACCEPTED  # the connection is none the worse


OPERATIONS = {"initialization": ir, "certification": cr, "keyupdate": kur, "pkcs10": p10cr, "revocation": rr,
              "getcacerts": genm, "getrootupdate": genm, "getcertreqtemplate": genm, "getcrls": genm, "nested": nested}


def by_body(f, body):
    if body is p10cr:
        return p10cr(cm.csr(device_name(), cm.new_key()), f.mac), "cp"
    if body is rr:
        return rr([rev_of(f.enroll(confirm=False).cert)], f.station), "rp"
    if body is genm:
        return genm([info(17)], f.mac), "genp"
    if body is nested:
        return nested([one(f)], f.ra), "nested"
    if body is kur:
        name = device_name()
        return kur([Request(cm.new_key(), name)], f.enroll(name)), "kup"
    return one(f, body=body), {ir: "ip", cr: "cp"}[body]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_take_their_body_and_no_other(f, operation):
    for body in (ir, cr, kur, p10cr, rr, genm, nested):
        asked, reply = by_body(f, body)
        answer = exchange(f, asked, operation=operation)
        if body is OPERATIONS[operation]:
            assert answer.body == reply
        else:
            assert (answer.body, answer.fails, answer.code) == ("error", ["badRequest"], "bad-request")


def test_a_dialogue_goes_on_by_any_path(f):
    for operation, line in (("initialization", "line1"), ("keyupdate", "line1"), ("", None)):
        asked = one(f)
        answer = exchange(f, asked, line=None)  # the default line
        assert answer.status == ACCEPTED
        assert exchange(f, certconf(answer, asked), line, operation).body == "pkiconf"


def test_a_dialogue_does_not_go_on_on_another_line(f):
    asked = one(f)
    answer = exchange(f, asked)
    f.refuses(certconf(answer, asked), "badRequest", "cmp-unknown-transaction", "strict")
    assert exchange(f, certconf(answer, asked)).body == "pkiconf"


def test_keep_alive(f):
    with connect(f) as sock:
        for n in range(20):
            asked = one(f, f.station if n % 2 else f.mac)
            answer = exchange(f, asked, sock=sock)
            assert exchange(f, certconf(answer, asked), sock=sock).body == "pkiconf"
            exchange(f, one(f, pvno=9), sock=sock, protected="signature")
            assert http(f, b"no DER", sock=sock)[0] == 400


def test_pipelining(f):
    """Fifty messages at once, of many kinds: the answers come in order."""
    asked = []
    for n in range(50):
        asked.append([one(f), one(f, f.station), genm([info(17)], f.mac), one(f, Mac("another-secret-altogether", REFERENCE)),
                      ir([Request(cm.new_key(), device_name(), k) for k in range(5)], f.mac)][n % 5])
    with connect(f) as sock:
        sock.sendall(b"".join(cm.http_request("POST", path_of(), m.der(), {"Content-Type": MEDIA_TYPE}, basic=False)
                              for m in asked))
        stream = sock.makefile("rb")
        for n, m in enumerate(asked):
            status, headers, body = cm.read_response(stream)
            answer = check(Answer(body), m, f, "signature" if n % 5 == 3 else "same")
            assert answer.body == ["ip", "ip", "genp", "error", "ip"][n % 5]


def test_chunked_and_http_10(f):
    m = one(f)
    der = m.der()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(der[i:i + 33]), der[i:i + 33]) for i in range(0, len(der), 33)) + b"0\r\n\r\n"
    with connect(f) as sock:
        sock.sendall(cm.http_request("POST", path_of(), chunks, {"Content-Type": MEDIA_TYPE,
                                                                "Transfer-Encoding": "chunked"}, basic=False))
        assert check(Answer(cm.read_response(sock.makefile("rb"))[2]), m, f).status == ACCEPTED
    m = one(f)
    with connect(f) as sock:
        sock.sendall(cm.http_request("POST", path_of(), m.der(), {"Content-Type": MEDIA_TYPE}, basic=False, version="1.0"))
        stream = sock.makefile("rb")
        assert check(Answer(cm.read_response(stream)[2]), m, f).status == ACCEPTED
        assert stream.read(1) == b""


def test_https_with_and_without_a_client_certificate(f):
    """TLS says nothing of who sends a message: its protection does."""
    for cert, key in ((None, None), (f.station_cert, f.station_key)):
        m = one(f)
        status, headers, body = f.request("POST", path_of(), m.der(), {"Content-Type": MEDIA_TYPE}, cert=cert, key=key,
                                          auth=False)
        assert status == 200 and check(Answer(body), m, f).status == ACCEPTED
    m = one(f, None)
    m = message("ir", m.content, None, sender=directory("station-cert"))
    body = f.request("POST", path_of(), m.der(), {"Content-Type": MEDIA_TYPE}, cert=f.station_cert, key=f.station_key)[2]
    answer = check(Answer(body), m, f, "signature")
    assert answer.fails == ["badMessageCheck"]


def test_dialogues_outlive_the_daemon(f):
    asked = one(f)
    answer = exchange(f, asked)
    f.stop()
    f.start()
    assert exchange(f, asked).der == answer.der
    conf = certconf(answer, asked)
    confirmed = exchange(f, conf)
    assert confirmed.body == "pkiconf"
    f.kill()
    f.start()
    assert exchange(f, conf).der == confirmed.der
    f.tool("journal", "verify")
