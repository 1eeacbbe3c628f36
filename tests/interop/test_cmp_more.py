"""Does CMP serve what few clients ask for: answers signed in an HSM, news of a root's new key, keys that only decrypt,
keys made here?"""
import datetime
import hashlib
import os
import signal
import threading
import time
from http import server

import certmill as cm
import pytest
from certmill import new_key, run
from cmplib import REFERENCE, SECRET, CmpAppliance
import cmpmsg
from cmpmsg import *  # noqa: F403 - the language of these tests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import ObjectIdentifier

LINE = {"ca": "issuing", "profile": "device", "device_id": "subject-cn", "trust_anchors": ["ca/stations.pem"],
        "name": "line1"}


def mac(**kw):
    return Mac(SECRET, REFERENCE, **kw)


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * cm.SLOW
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def post(app, der, line="line1"):
    status, _, body = cmpmsg.http(app, der, line)
    assert status == 200, (status, body)
    return body


def certificates(app):
    return app.tool_json("cert", "list", "--limit", "100000")["certificates"]


def reload(app):
    """Sends SIGHUP; true when the configuration was taken."""
    before = len(app.log_text())
    app.write_config()
    app.daemon.send_signal(signal.SIGHUP)
    assert wait_for(lambda: "reload" in app.log_text()[before:])
    return "reload-refused" not in app.log_text()[before:]


# --- answers signed in an HSM ---------------------------------------------------------------------

def into_token(app, key_file, label, number):
    run(["softhsm2-util", "--import", key_file, "--token", "certmill", "--label", label, "--id", f"{number:02x}",
         "--pin", cm.PIN], env=app.env)


def signed_in_token(signer_key="p256", start=True, **kw):
    def config(c):
        del c["cmp_signers"][0]["key_file"]
        c["cmp_signers"][0]["key"] = "pkcs11:object=answers"
    app = CmpAppliance(lines=[dict(LINE)], config=config, start=False, signer_key=signer_key, **kw)
    into_token(app, app.dir / "tls/cmp.key", "answers", 7)
    (app.dir / "tls/cmp.key").unlink()  # nowhere but in the token
    if start:
        app.start()
    return app


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_answers_signed_in_a_token_verify_with_openssl(kind):
    with signed_in_token(kind) as app:
        key = app.key_file("device")
        out = app.dir / "device.pem"
        _, text = app.openssl("ir", "-newkey", key, "-subject", "/CN=device", auth="station", out=out)
        assert "received" in text and x509.load_pem_x509_certificate(out.read_bytes()).subject == cm.name("device")
        app.openssl("kur", "-newkey", app.key_file("next"), "-oldcert", out, auth=(out, key), out=app.dir / "next.pem")
        app.openssl("genm", "-infotype", "caCerts", auth="station")
        code, text = app.openssl("ir", "-newkey", key, "-subject", "/CN=another", auth="station", check=False, out=out)
        assert code != 0 and "key-already-used" in text  # errors are signed, too


def test_an_answer_signed_in_a_token_comes_again_as_it_was():
    with signed_in_token() as app:
        signer = Signer(app.station_cert, app.station_key)
        first = ir(Request(new_key(), "device"), signer)
        answer = exchange(app, first)
        confirm = certconf(answer, first)
        done = exchange(app, confirm)
        signed = app.metric("sign_jobs_total")
        app.kill()
        app.start()
        assert post(app, first.der()) == answer.der and post(app, confirm.der()) == done.der
        assert app.metric("sign_jobs_total") == 0 < signed and len(certificates(app)) == 1


def test_a_long_answer_is_signed_in_a_token_only_by_its_digest():
    with signed_in_token() as app:
        ra = Signer(app.ra_cert, app.ra_key)
        answer = exchange(app, ir([Request(new_key(), f"many-{n}", n) for n in range(40)], ra))
        assert [one.status for one in answer.responses] == [ACCEPTED] * 40 and len(answer.der) > 2 * 8192
    with signed_in_token("ed25519", start=False) as app:
        app.start(wait=False)
        assert app.daemon.wait(30 * cm.SLOW) == 1
        app.daemon = None
        assert "cmp_signer cmp: a token cannot sign answers longer than" in app.log_text()


def test_the_key_must_be_the_certificates():
    with signed_in_token() as app:
        app.cmp_ca.issue(app.dir / "tls", "other", "Another Responder")
        app.config["cmp_signers"][0]["certificate"] = "tls/other.pem"
        assert not reload(app) and "cmp_signer cmp cannot sign with pkcs11:object=answers" in app.log_text()
        answer = exchange(app, ir(Request(new_key(), "before"), Signer(app.station_cert, app.station_key)))
        assert answer.extra[0].subject == cm.name("Test CMP Responder")
        into_token(app, app.dir / "tls/other.key", "others", 8)
        app.config["cmp_signers"][0]["key"] = "pkcs11:object=others"
        assert reload(app)
        answer = exchange(app, ir(Request(new_key(), "after"), Signer(app.station_cert, app.station_key)))
        assert answer.extra[0].subject == cm.name("Another Responder")


class CmpLoad:
    """Enrollments by signed messages, each asked again with the same octets until it is answered."""

    def __init__(self, app, connections=4):
        self.app, self.done, self.problems, self.stopping = app, [], [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(connections)]

    def run(self, n):
        try:
            station = Signer(self.app.station_cert, self.app.station_key)
            i = 0
            while not self.stopping.is_set():
                i += 1
                message = ir(Request(new_key(), f"load-{n}-{i}"), station, infos=[info(IMPLICIT_CONFIRM, NULL)])
                self.done.append((message, self.until_answered(message)))
        except Exception as e:  # pylint: disable=broad-except
            self.problems.append(repr(e))

    def until_answered(self, message):
        end = time.monotonic() + 30 * cm.SLOW
        while True:
            status, _, body = cmpmsg.http(self.app, message.der())
            answer = check(Answer(body), message, self.app) if status == 200 else None
            if answer and answer.body == "ip" and answer.status == ACCEPTED:
                return answer
            assert status == 503 or answer.fails == ["systemUnavail"], (status, body)
            assert time.monotonic() < end
            time.sleep(0.1)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60 * cm.SLOW)

    def wait(self, more):
        goal = len(self.done) + more
        assert wait_for(lambda: len(self.done) >= goal or self.problems, 60) and not self.problems, self.problems[:3]

    def check(self):
        """Every device has one certificate, the one its station has."""
        assert not self.problems, self.problems[:3]
        issued = {row["device"]: row["fingerprint"] for row in certificates(self.app)}
        assert len(issued) == len(certificates(self.app)) == len(self.done)
        for message, answer in self.done:
            name = answer.cert.subject.rfc4514_string().removeprefix("CN=")
            assert issued[name] == answer.cert.fingerprint(cm.hashes.SHA256()).hex()


def test_a_signer_killed_under_load_loses_nothing():
    with signed_in_token() as app:
        with CmpLoad(app) as load:
            for _ in range(3):
                load.wait(30)
                os.kill(app.signer_pids()[0], signal.SIGKILL)
            load.wait(30)
        load.check()
        message, answer = load.done[0]
        assert post(app, message.der()) == answer.der


def test_a_wrong_signature_of_an_answer_gets_out_never():
    def config(c):
        c["tokens"] = [dict(t, name=n) for t, n in zip(c["tokens"], ("cas", "answers"))]
        c["cas"][0]["tokens"] = ["cas"]
        c["cmp_signers"] = [{"name": "cmp", "certificate": "tls/cmp.pem", "key": "pkcs11:object=answers",
                             "tokens": ["answers"]}]
    with CmpAppliance(lines=[dict(LINE)], config=config, token="sim", sims=({}, {}), start=False) as app:
        app.tool("key", "generate", "--token", "answers", "--label", "answers", "--type", "p256")
        public = load_pem_public_key(
            app.tool_json("key", "attest", "--token", "answers", "--label", "answers")["public_key"].encode())
        cert = app.cmp_ca._cert(cm.name("Test CMP Responder"), public, app.cmp_ca.cert.subject)
        (app.dir / "tls/cmp.pem").write_bytes(cert.public_bytes(Encoding.PEM))
        app.start()
        app.sims[1].control({"kind": "wrong-signature", "every": 10})
        with CmpLoad(app, connections=2) as load:
            load.wait(60)
        wrong = app.sims[1].status()["wrong_signatures"]
        assert wrong >= 4 and app.metric("token_signatures_wrong_total") == wrong
        assert app.log_text().count("ALARM-token-signature-wrong") == wrong
        load.check()  # verified each answer, too


# --- a root's new key -----------------------------------------------------------------------------

def self_signed(**kw):
    """An appliance whose issuing CA is its own root."""
    def config(c):
        c["cas"][0]["chain"] = []

    class SelfSigned(CmpAppliance):
        def tool(self, *args, **more):
            if args[:2] == ("ca", "init"):
                args = ("ca", "init", "--ca", "issuing", "--subject", "CN=Test Issuing CA,O=Test Factory")
            return super().tool(*args, **more)
    return SelfSigned(lines=[dict(LINE)], config=config, **kw)


def cert_der(app, path):
    return x509.load_pem_x509_certificate((app.dir / path).read_bytes()).public_bytes(Encoding.DER)


def root_update(app, *value):
    """What is said of a root: the element of infoType rootCaKeyUpdate, or None."""
    answer = exchange(app, genm([info(20, *value)], mac()))
    assert [which for which, _ in answer.infos] == ["1.3.6.1.5.5.7.4.18"]
    return answer.info(18)


def test_a_client_learns_of_a_roots_new_key():
    with self_signed() as app:
        first = cert_der(app, "ca/issuing.pem")
        assert root_update(app) is None and root_update(app, first) is None
        answer = exchange(app, ir(Request(new_key(), "before"), mac()))
        assert [der_of(c) for c in answer.ca_pubs] == [first]

        app.tool("ca", "rollover", "--ca", "issuing")
        second = cert_der(app, "ca/issuing-2.pem")
        links = [cert_der(app, f"ca/issuing-2-{n}.pem") for n in ("new-with-old", "old-with-new")]
        full = seq(second, ctx(0, links[0]), ctx(1, links[1]))
        assert root_update(app, first).der == full == root_update(app).der
        assert root_update(app, second) is None
        stranger = der_of(app.station_ca.cert)
        assert root_update(app, stranger) is None
        answer = exchange(app, ir(Request(new_key(), "after"), mac()))
        assert [der_of(c) for c in answer.ca_pubs] == [second]

        app.tool("ca", "rollover", "--ca", "issuing")
        third = cert_der(app, "ca/issuing-3.pem")
        assert root_update(app, first).der == seq(third)  # links lead to the second alone
        assert root_update(app, second).items[0].der == third and len(root_update(app, second).items) == 3
        assert root_update(app, third) is None
        # and it may be several questions at once
        answer = exchange(app, genm([info(20, third), info(17), info(20, second)], mac()))
        assert [v is None for _, v in answer.infos] == [True, False, False]


def test_a_ca_under_a_root_has_no_news_of_it():
    with CmpAppliance(lines=[dict(LINE)]) as app:
        root = cert_der(app, "ca/root.pem")
        app.tool("ca", "rollover", "--ca", "issuing")
        assert root_update(app, root) is None and root_update(app) is None
        assert root_update(app, cert_der(app, "ca/issuing.pem")) is None


# --- news of a CA's new key, pushed ---------------------------------------------------------------

class Listener:
    """An HTTP server that keeps what is posted and answers `status`; None: never."""

    def __init__(self, status):
        self.status, self.got = status, []
        listener = self

        class Handler(server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.got.append((self.path, self.headers["Content-Type"], body))
                if listener.status is None:
                    time.sleep(60)
                self.send_response(listener.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass
        self.server = server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}/news"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def check_news(app, body, new, links):
    """A ckuann message under the CMP signer's signature."""
    news = Answer(body)
    assert news.body == "ckuann" and news.pvno == 3 and len(news.tid) == len(news.nonce) == 16
    news.verify(anchor=app.cmp_ca.cert)
    choice = news.body_node.items[0]
    assert choice.tag == 0xa0
    assert choice.contents == seq(new, ctx(0, links[0]), ctx(1, links[1]))


@pytest.mark.parametrize("in_token", [False, True])
def test_listeners_are_told_of_a_new_key(in_token):
    with signed_in_token() if in_token else CmpAppliance(lines=[dict(LINE)]) as app:
        closed = f"http://127.0.0.1:{cm.free_port()}/"
        good, other, wrong = Listener(202), Listener(201), Listener(500)
        app.config["cmp_announce"] = [good.url, closed, other.url, wrong.url]
        app.write_config()
        report = app.tool_json("ca", "rollover", "--ca", "issuing")
        assert report["daemon"] == "reloaded"  # whoever was not told
        told = report["announced"]
        assert [(one["url"], one["accepted"], one["status"]) for one in told] == [
            (good.url, True, 202), (closed, False, None), (other.url, True, 201), (wrong.url, False, 500)]
        assert told[0]["problem"] is None and "refused" in told[1]["problem"] and "201 or 202" in told[3]["problem"]
        new = cert_der(app, "ca/issuing-2.pem")
        links = [cert_der(app, f"ca/issuing-2-{n}.pem") for n in ("new-with-old", "old-with-new")]
        for listener in (good, other, wrong):
            (path, media, body), = listener.got
            assert (path, media) == ("/news", "application/pkixcmp")
            check_news(app, body, new, links)

        again = run([cm.BIN / "certmill", "--config", app.config_path, "ca", "announce", "--ca", "issuing"], env=app.env,
                    check=False)
        text = again.stdout.decode()
        assert again.returncode == 1 and f"{good.url}: 202\n" in text and f"{wrong.url}: 500, expected 201" in text
        check_news(app, wrong.got[1][2], new, links)


def test_a_listener_that_never_answers_holds_nobody_up_for_long():
    with CmpAppliance(lines=[dict(LINE)]) as app:
        dead, good = Listener(None), Listener(202)
        app.config["cmp_announce"] = [dead.url, good.url]
        app.write_config()
        start = time.monotonic()
        told = app.tool_json("ca", "rollover", "--ca", "issuing")["announced"]
        assert 9 < time.monotonic() - start < 25 * cm.SLOW
        assert told[0]["problem"] == "no answer in time" and told[1]["accepted"]


def test_what_cannot_be_announced():
    def fails(app, *args):
        app.write_config()
        result = run([cm.BIN / "certmill", "--config", app.config_path, *args], env=app.env, check=False)
        return result.returncode, result.stderr.decode()
    with CmpAppliance(lines=[dict(LINE)], start=False) as app:
        announce = ("ca", "announce", "--ca", "issuing")
        assert "names no listeners" in fails(app, *announce)[1]
        listener = Listener(202)
        app.config["cmp_announce"] = [listener.url]
        assert "has had one key alone" in fails(app, *announce)[1]
        for url in ("https://127.0.0.1/", "127.0.0.1", "http://", "http:///x", "http://a:b/", "http://a:123456/",
                    "http://a b/", "http://:80/", "http://" + "[::1/", "http://a:/"):
            app.config["cmp_announce"] = [url]
            code, text = fails(app, "config", "check")
            assert code == 1 and "cmp_announce[0]" in text and "expected a URL like" in text, (url, text)
        app.config["cmp_announce"] = ["http://[::1]:8080/x", "http://host", "http://host:1/"]
        assert fails(app, "config", "check")[0] == 0
        del app.config["lines"][0]["cmp"]["signer"]
        app.config["cmp_announce"] = [listener.url]
        app.write_config()
        assert app.tool_json("ca", "rollover", "--ca", "issuing")["announced"] == []  # done nevertheless
        result = run([cm.BIN / "certmill", "--config", app.config_path, *announce], env=app.env, check=False)
        assert result.returncode == 1 and "cmp_announce needs a signer" in result.stderr.decode() and not listener.got


# --- what is encrypted ----------------------------------------------------------------------------

ENVELOPED, SIGNED, KEY_PACKAGE = "1.2.840.113549.1.7.3", "1.2.840.113549.1.7.2", "2.16.840.1.101.2.1.2.78.5"
KGA = ObjectIdentifier("1.3.6.1.5.5.7.3.32")


def openssl(app, data, *args):
    (app.dir / "in.der").write_bytes(data)
    run(["openssl", "cms", "-inform", "DER", "-in", "in.der", "-binary", "-out", "out.der", *args], cwd=app.dir)
    return (app.dir / "out.der").read_bytes()


def content_info(kind, der):
    return seq(oid(kind), ctx(0, der))


def decrypt(app, encrypted_key, key, cert=None):
    """EncryptedKey with [0] EnvelopedData, by openssl."""
    assert encrypted_key[0] == 0xa0
    (app.dir / "recipient.key").write_bytes(cm.key_pem(key))
    more = []
    if cert:
        (app.dir / "recipient.pem").write_bytes(cert.public_bytes(Encoding.PEM))
        more = ["-recip", "recipient.pem"]
    return openssl(app, content_info(ENVELOPED, retag(0x30, encrypted_key)), "-decrypt", "-inkey", "recipient.key", *more)


def encr_cert(choice=2, value=b"\x00"):
    """popo by keyEncipherment [2] or keyAgreement [3] with subsequentMessage."""
    return ctx(choice, tlv(0x81, value))


def state_of(app, device, line="line1"):
    return app.tool_json("device", "show", "--line", line, device)["state"]


def lab(**kw):
    """line1; agree: its keys may agree on keys; made: keys are made here."""
    class Lab(CmpAppliance):
        def configure(self, c):
            c["profiles"].append({"name": "agree", "base": "tls-device", "keys": ["p256", "p384", "rsa2048", "ed25519"],
                                  "key_usage": ["digitalSignature", "keyAgreement", "keyEncipherment"]})
            c["lines"] += [dict(LINE, name="agree", profile="agree"),
                           dict(LINE, name="made", profile="agree", cmp={"signer": "cmp", "keygen": True})]
            super().configure(c)
            self.cmp_ca.issue(self.dir / "tls", "cmp", "Test CMP Responder", eku=[KGA])
    return Lab(lines=[dict(LINE)], **kw)


@pytest.fixture(scope="module")
def app():
    with lab() as one:
        yield one


@pytest.mark.parametrize("kind,line,choice", [("rsa2048", "line1", 2), ("rsa3072", "line1", 2), ("p256", "agree", 3),
                                              ("p384", "agree", 3)])
def test_a_key_is_proven_by_opening_its_certificate(app, kind, line, choice):
    key, device = new_key(kind), f"opens-{kind}"
    first = ir(Request(key, device, pop=encr_cert(choice)), mac(), pvno=3, infos=[info(IMPLICIT_CONFIRM, NULL)])
    answer = exchange(app, first, line)
    assert answer.status == ACCEPTED and answer.cert is None and answer.pvno == 3
    assert not answer.implicit and answer.confirm_wait  # there is no proof yet
    cert = x509.load_der_x509_certificate(decrypt(app, answer.responses[0].encrypted, key))
    assert spki_of(cert.public_key()) == spki_of(key) and cert.subject == cm.name(device)
    assert state_of(app, device, line) == "issued"
    assert post(app, first.der(), line) == answer.der
    guess = exchange(app, certconf(answer, first, [cert_status(cert, digest=b"x" * 32)]), line)
    assert guess.body == "error" and guess.fails == ["badCertId"] and state_of(app, device, line) == "issued"
    confirm = certconf(answer, first, [cert_status(cert)])
    assert exchange(app, confirm, line).body == "pkiconf" and state_of(app, device, line) == "confirmed"
    assert post(app, first.der(), line) == answer.der
    # the same again is the same certificate, and still only for its key
    again = exchange(app, ir(Request(key, device, pop=encr_cert(choice)), mac(), pvno=3), line)
    assert again.cert is None and decrypt(app, again.responses[0].encrypted, key) == der_of(cert)


def test_what_was_never_opened_is_taken_back():
    with lab(config=lambda c: c["lines"][0]["cmp"].update(confirm_wait="1s")) as app:
        key = new_key("rsa2048")
        first = ir(Request(key, "never", pop=encr_cert()), mac(), pvno=3)
        answer = exchange(app, first)
        cert = x509.load_der_x509_certificate(decrypt(app, answer.responses[0].encrypted, key))
        assert wait_for(lambda: [c["status"] for c in certificates(app)] == ["revoked"])
        late = exchange(app, certconf(answer, first, [cert_status(cert)]))
        assert late.body == "error"


def test_nobody_blocks_a_key_that_they_do_not_hold(app):
    """A public key is known to many. Who asks for it without a proof has nothing before the certificate was opened."""
    key = new_key("rsa2048")
    asked = ir(Request(key, "blocker", pop=encr_cert()), mac(), pvno=3)
    blocked = exchange(app, asked)
    assert blocked.status == ACCEPTED and blocked.cert is None
    answer = exchange(app, ir(Request(key, "holder"), mac(), pvno=3, infos=[info(IMPLICIT_CONFIRM, NULL)]))
    assert answer.status == ACCEPTED, answer.responses
    # a key in two devices: a cloned image. Who proved it first has it
    cert = x509.load_der_x509_certificate(decrypt(app, blocked.responses[0].encrypted, key))
    late = exchange(app, certconf(blocked, asked, [cert_status(cert)]))
    assert (late.body, late.fails) == ("error", ["duplicateCertReq"])
    assert [c["status"] for c in certificates(app) if c["device"] == "blocker"] == ["revoked"]
    assert state_of(app, "holder") == "issued" and wait_for(lambda: "alarm-key-already-used" in app.log_text())


def test_some_of_a_batch_are_encrypted(app):
    keys = [new_key("rsa2048" if n % 2 else "p256") for n in range(6)]
    first = ir([Request(key, f"some-{n}", n, pop=encr_cert() if n % 2 else "signature") for n, key in enumerate(keys)],
               Signer(app.ra_cert, app.ra_key), pvno=3)
    answer = exchange(app, first)
    certs = [one.cert or x509.load_der_x509_certificate(decrypt(app, one.encrypted, key))
             for one, key in zip(answer.responses, keys)]
    assert [one.encrypted is not None for one in answer.responses] == [False, True] * 3
    assert [spki_of(cert.public_key()) for cert in certs] == [spki_of(key) for key in keys]
    app.kill()
    app.start()
    assert post(app, first.der()) == answer.der
    statuses = [cert_status(cert, n) for n, cert in enumerate(certs)]
    assert exchange(app, certconf(answer, first, statuses)).body == "pkiconf"


INDIRECT_REFUSED = {
    "pvno-2": ("rsa2048", "line1", encr_cert(), 2, "unsupportedVersion"),
    "usage-not-granted": ("p256", "line1", encr_cert(3), 3, "badCertTemplate"),
    "challenge": ("rsa2048", "line1", encr_cert(2, b"\x01"), 3, "badPOP"),
    "rsa-by-agreement": ("rsa2048", "agree", encr_cert(3), 3, "badPOP"),
    "ec-by-encipherment": ("p256", "agree", encr_cert(2), 3, "badPOP"),
    "only-signs": ("ed25519", "agree", encr_cert(2), 3, "badPOP"),
}


@pytest.mark.parametrize("case", list(INDIRECT_REFUSED))
def test_indirect_proofs_that_are_refused(app, case):
    kind, line, pop, pvno, fail = INDIRECT_REFUSED[case]
    answer = exchange(app, ir(Request(new_key(kind), f"refused-{case}", pop=pop), mac(), pvno=pvno), line)
    assert (answer.body, answer.status, answer.fails) == ("ip", 2, [fail])
    assert answer.cert is None and answer.responses[0].encrypted is None


def test_more_encrypted_certificates_than_a_message_may_have(app):
    key = new_key("rsa2048")
    requests = [Request(key, f"too-many-{n}", n, pop=encr_cert()) for n in range(9)]
    answer = exchange(app, ir(requests, mac(), pvno=3))
    assert (answer.body, answer.fails) == ("error", ["badRequest"])


# --- keys that are made here ----------------------------------------------------------------------

def sealed_key(answer):
    pair = answer.body_node.items[0].items[-1].items[0].items[2]
    assert [one.tag for one in pair.items] == [0xa0, 0xa0]
    return pair.items[1].items[0].der


def open_password(encrypted_key, secret):
    """PasswordRecipientInfo (RFC 9483 4.1.6.3): PBKDF2, AES key wrap, AES-CBC."""
    version, recipients, content = Node(retag(0x30, encrypted_key)).items
    recipient, = recipients.items
    assert (version.number, recipient.tag) == (3, 0xa3)
    _, kdf, wrap, wrapped = recipient.items
    salt, count, *_ = kdf.items[1].items
    assert kdf.items[0].dotted == "1.2.840.113549.1.5.12" and wrap.items[0].dotted == "2.16.840.1.101.3.4.1.45"
    kek = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt.contents, count.number, 32)
    cek = aes_key_unwrap(kek, wrapped.contents)
    kind, cipher, data = content.items
    assert kind.dotted == SIGNED and cipher.items[0].dotted == "2.16.840.1.101.3.4.1.42"
    opened = Cipher(algorithms.AES(cek), modes.CBC(cipher.items[1].contents)).decryptor().update(data.contents)
    return opened[:-opened[-1]]


def key_in(app, signed_data):
    """The private key in a SignedData whose signer is the key generation authority."""
    package = openssl(app, content_info(SIGNED, signed_data), "-verify", "-CAfile", "tls/cmp-ca.pem", "-purpose", "any")
    assert Node(Node(signed_data).items[2].der).items[0].dotted == KEY_PACKAGE
    one, = Node(package).items
    version, alg, private = one.items[:3]
    assert version.number == 1  # with its public key
    return serialization.load_der_private_key(seq(num(0), alg.der, private.der), None)


def asks_for_key(device, auth, alg=None, body=ir, **fields):
    of = template(device, seq(alg, bits(b""))) if alg else template(device)
    return body(Request(template=of, pop=None), auth, pvno=fields.pop("pvno", 3), **fields)


def test_more_keys_than_the_workers_take(app):
    """A key that could not be sealed refuses its own request, and nobody else's."""
    answers, problems = [], []

    def ask(n):
        with cmpmsg.connect(app, 60) as sock:
            for round_ in range(3):
                inner = [asks_for_key(f"crowd-{n}-{round_}-{i}", mac()) for i in range(30)]
                status, _, body = cmpmsg.http(app, nested(inner, Signer(app.ra_cert, app.ra_key), pvno=3).der(), "made", sock=sock)
                if status == 200 and Answer(body).body == "nested":
                    answers.extend(Answer(body).inner)
                else:
                    problems.append((status, body[:60]))
    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and len(answers) == 8 * 3 * 30
    assert {tuple(one.fails) for one in answers if one.status} <= {("systemUnavail",)}
    assert sum(one.status == 0 for one in answers) > 100


EC_P384 = seq(oid("1.2.840.10045.2.1"), oid("1.3.132.0.34"))
RSA_KEY = seq(oid("1.2.840.113549.1.1.1"), NULL)
ED25519 = seq(oid("1.3.101.112"))


@pytest.mark.parametrize("alg,kind", [(None, "p256"), (EC_P384, "p384"), (RSA_KEY, "rsa"), (ED25519, "ed25519")],
                         ids=["any", "p384", "rsa", "ed25519"])
def test_a_key_is_made_for_who_shares_a_secret(app, alg, kind):
    device = f"made-{kind}"
    first = asks_for_key(device, mac(), alg, infos=[info(IMPLICIT_CONFIRM, NULL)])
    answer = exchange(app, first, "made")
    assert answer.status == ACCEPTED and answer.pvno == 3 and not answer.implicit
    key = key_in(app, open_password(sealed_key(answer), SECRET))
    assert spki_of(key) == spki_of(answer.cert.public_key()) and answer.cert.subject == cm.name(device)
    app.kill()
    app.start()
    assert post(app, first.der(), "made") == answer.der
    confirm = certconf(answer, first)
    assert exchange(app, confirm, "made").body == "pkiconf" and state_of(app, device, "made") == "confirmed"
    # the device renews by itself, with a key of its own
    renewed = exchange(app, kur(Request(new_key(), device), Signer(answer.cert, key)), "made")
    assert renewed.status == ACCEPTED


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_a_key_is_made_for_a_station_with_a_certificate(app, kind):
    paths = app.station_ca.issue(app.dir, f"station-{kind}", "station-cert", key=new_key(kind))
    station = Signer(*paths)
    answer = exchange(app, asks_for_key(f"for-{kind}", station), "made")
    assert answer.status == ACCEPTED
    key = key_in(app, decrypt(app, sealed_key(answer), station.key, station.cert))
    assert spki_of(key) == spki_of(answer.cert.public_key())


def test_a_device_renews_with_a_key_that_is_made_here(app):
    old = new_key()
    first = ir(Request(old, "renews"), mac(), infos=[info(IMPLICIT_CONFIRM, NULL)])
    device = Signer(exchange(app, first, "made").cert, old)
    asked = asks_for_key("renews", device, body=kur)
    answer = exchange(app, asked, "made")
    key = key_in(app, decrypt(app, sealed_key(answer), old, device.cert))
    assert spki_of(key) == spki_of(answer.cert.public_key()) != spki_of(old)
    assert exchange(app, certconf(answer, asked), "made").body == "pkiconf"


def test_a_lost_key_is_replaced_until_it_is_confirmed(app):
    lost = exchange(app, asks_for_key("loses", mac()), "made")
    second = asks_for_key("loses", mac())
    answer = exchange(app, second, "made")
    assert answer.status == ACCEPTED and answer.cert.serial_number != lost.cert.serial_number
    key_in(app, open_password(sealed_key(answer), SECRET))
    assert exchange(app, certconf(answer, second), "made").body == "pkiconf"
    rows = {row["serial"]: row["status"] for row in certificates(app) if row["device"] == "loses"}
    assert sorted(rows.values()) == ["revoked", "valid"], rows
    third = exchange(app, asks_for_key("loses", mac()), "made")
    assert third.code == "device-already-provisioned"
    # nor does this let anybody replace a key that a device brought itself and confirmed
    brought = ir(Request(new_key(), "brings"), mac(), infos=[info(IMPLICIT_CONFIRM, NULL)])
    assert exchange(app, brought, "made").status == ACCEPTED
    assert exchange(app, asks_for_key("brings", mac()), "made").code == "device-already-provisioned"
    assert "every one fits" in app.tool("journal", "verify")


def only_signs(app):
    return Signer(*app.station_ca.issue(app.dir, "only-signs", "station-cert", key=new_key("ed25519")))


def of_line1(app):
    key = new_key()
    return Signer(exchange(app, ir(Request(key, "of-line1"), mac(), infos=[info(IMPLICIT_CONFIRM, NULL)])).cert, key)


KEYS_REFUSED = {
    "not-offered": (lambda app: asks_for_key("a", mac()), "line1", "badCertTemplate"),
    "pvno-2": (lambda app: asks_for_key("b", mac(), pvno=2), "made", "unsupportedVersion"),
    "key-only-signs": (lambda app: asks_for_key("c", only_signs(app)), "made", "badCertTemplate"),
    "unknown-kind": (lambda app: asks_for_key("d", mac(), seq(oid("1.2.3.4"))), "made", "badAlg"),
    "with-a-proof": (lambda app: ir(Request(template=template("e"), pop=tlv(0x80)), mac(), pvno=3), "made", "badPOP"),
    "one-of-two": (lambda app: ir([Request(template=template("f"), pop=None), Request(new_key(), "g", 1)], mac(), pvno=3),
                   "made", "badRequest"),
    "usage-not-granted": (lambda app: asks_for_key("of-line1", of_line1(app), body=kur), "line1", "badCertTemplate"),
}


@pytest.mark.parametrize("case", list(KEYS_REFUSED))
def test_keys_that_are_not_made(app, case):
    make, line, fail = KEYS_REFUSED[case]
    answer = exchange(app, make(app), line)
    assert answer.body in ("ip", "kup") and answer.status == 2 and answer.fails == [fail], answer.responses
    assert len(answer.body_node.items[0].items[-1].items[0].items) == 2  # no key pair


def test_what_making_keys_needs():
    def check(change):
        with lab(start=False) as app:
            change(app, app.config["lines"][2]["cmp"])
            app.write_config()
            result = run([cm.BIN / "certmilld", "--config", app.config_path, "--check"], env=app.env, check=False)
            return (result.stdout + result.stderr).decode()

    def without_signer(_, cmp):
        del cmp["signer"]

    def without_usage(app, _):
        app.cmp_ca.issue(app.dir / "tls", "cmp", "Test CMP Responder")
    assert "keygen: keys that are made here are signed for" in check(without_signer)
    assert "line made: cmp keygen needs a signer with a key_file" in check(without_usage)


# --- revocation lists -----------------------------------------------------------------------------

def status_of_crl(name, has=None):
    """CRLStatus by issuer, with the thisUpdate that the client has."""
    return seq(ctx(1, seq(ctx(4, name.public_bytes()))), when(has.strftime("%Y%m%d%H%M%SZ")) if has else b"")


def by_url(url, has=None):
    return seq(ctx(0, ctx(0, tlv(0x86, url.encode()))), when(has.strftime("%Y%m%d%H%M%SZ")) if has else b"")


def newer_crls(app, *statuses, line="line1"):
    answer = exchange(app, genm([info(22, seq(*statuses))], mac()), line)
    assert [which for which, _ in answer.infos] == ["1.3.6.1.5.5.7.4.23"]
    value = answer.info(23)
    return [x509.load_der_x509_crl(one.der) for one in value.items] if value else []


def current_crl(app):
    return x509.load_der_x509_crl(exchange(app, genm([info(6)], mac())).info(6).der)


def test_clients_get_revocation_lists():
    url = "http://127.0.0.1/crl/issuing.crl"

    def config(c):
        c["cas"][0]["crl"] = {"lifetime": "1h", "every": "30m"}
        c["profiles"][0]["crl_url"] = url
    with CmpAppliance(lines=[dict(LINE)], config=config) as app:
        ca = x509.load_pem_x509_certificate((app.dir / "ca/issuing.pem").read_bytes())
        assert wait_for(lambda: exchange(app, genm([info(6)], mac())).body == "genp")
        crl = current_crl(app)
        assert crl.issuer == ca.subject and crl.is_signature_valid(ca.public_key()) and len(crl) == 0
        hour = crl.last_update - datetime.timedelta(hours=1)
        assert newer_crls(app, status_of_crl(ca.subject)) == [crl] == newer_crls(app, by_url(url))
        assert newer_crls(app, status_of_crl(ca.subject, hour)) == [crl]
        assert newer_crls(app, status_of_crl(ca.subject, crl.last_update)) == []
        assert newer_crls(app, by_url(url, crl.last_update)) == []
        assert newer_crls(app, status_of_crl(cm.name("Somebody")), by_url(url + "x")) == []
        assert newer_crls(app, status_of_crl(ca.subject), by_url(url), status_of_crl(cm.name("Somebody"))) == [crl]

        time.sleep(1.1)
        station = Signer(app.station_cert, app.station_key)
        cert = exchange(app, ir(Request(new_key(), "gone"), station, infos=[info(IMPLICIT_CONFIRM, NULL)])).cert
        app.tool("revoke", "--device", "gone", "--reason", "keyCompromise", "--yes")
        app.tool("crl", "publish", "--ca", "issuing")
        assert wait_for(lambda: len(current_crl(app)) == 1)
        second, = newer_crls(app, status_of_crl(ca.subject, crl.last_update))
        assert second.get_revoked_certificate_by_serial_number(cert.serial_number) is not None
        # all of it in one message, over a signature, and the certificates beside it
        answer = exchange(app, genm([info(17), info(6), info(22, seq(by_url(url)))], station))
        assert [v is not None for _, v in answer.infos] == [True] * 3


CRL_QUESTIONS_REFUSED = {
    "no-status": info(22, seq()), "no-value": info(22), "no-source": info(22, seq(seq())),
    "no-names": info(22, seq(seq(ctx(1, seq())))), "two-sources": info(22, seq(seq(ctx(0, ctx(0)), ctx(0, ctx(0))))),
    "integer-time": info(22, seq(seq(ctx(0, ctx(0, tlv(0x86, b"x"))), num(5)))), "not-a-list": info(22, num(1)),
    "unknown-source": info(22, seq(seq(ctx(2, seq())))),
    "current-with-value": info(6, seq(num(1))),
}


@pytest.mark.parametrize("case", list(CRL_QUESTIONS_REFUSED))
def test_questions_for_lists_that_are_none(app, case):
    answer = exchange(app, genm([CRL_QUESTIONS_REFUSED[case]], mac()))
    assert (answer.body, answer.fails) == ("error", ["badRequest"]), answer.responses


def test_no_list_yet():
    with CmpAppliance(lines=[dict(LINE)], config=lambda c: c["cas"][0].update(crl={"every": "none"})) as app:
        ca = x509.load_pem_x509_certificate((app.dir / "ca/issuing.pem").read_bytes())
        answer = exchange(app, genm([info(6)], mac()))
        assert answer.body == "error" and answer.code == "no-crl-yet"
        assert newer_crls(app, status_of_crl(ca.subject)) == []
