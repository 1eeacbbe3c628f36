"""Is a CMP message that comes again (lost answer, other connection, restarted or killed daemon) answered with the same
octets, and nothing issued twice?"""
import os
import random
import signal
import threading
import time

import certmill as cm
import cmpmsg as m
import pytest
from certmill import new_key, run
from cmplib import REFERENCE, SECRET, CmpAppliance
from estload import wait_for
from cryptography.hazmat.primitives.serialization import Encoding

LINE = {"ca": "issuing", "profile": "device", "device_id": "subject-cn", "trust_anchors": ["ca/stations.pem"]}
ROUNDS = 12


def make(**kw):
    return CmpAppliance(lines=[dict(LINE, name="line1"),
                               dict(LINE, name="held", hold=True, cmp={"signer": "cmp", "poll_after": 1})], **kw)


def post(app, der, line="line1", sock=None):
    status, _, body = m.http(app, der, line, sock=sock)
    assert status == 200, (status, body)
    return body


def certificates(app):
    return app.tool_json("cert", "list", "--limit", "100000")["certificates"]


def of_device(app, device):
    return [row for row in certificates(app) if row["device"] == device]


def mac(**kw):
    return m.Mac(SECRET, REFERENCE, **kw)


def ra(app):
    return m.Signer(app.ra_cert, app.ra_key)


class Log:
    """What was sent and what came back."""

    def __init__(self, app):
        self.app, self.said = app, []

    def say(self, message, line="line1"):
        answer = m.exchange(self.app, message, line)
        self.said.append((message, line, answer))
        return answer

    def repeat(self):
        for message, line, answer in self.said:
            again = post(self.app, message.der(), line)
            assert again == answer.der, f"{message.body} of {line}: {m.Answer(again).body}"


def dialogues(app, auth, log):
    """Every message at every point of a dialogue, by one kind of protection."""
    def tag(name):
        return f"{name}-{type(auth).__name__}"

    implicit = m.info(m.IMPLICIT_CONFIRM, m.NULL)
    log.say(m.ir(m.Request(new_key(), tag("implicit")), auth, infos=[implicit]))
    log.say(m.ir(m.Request(new_key(), tag("unconfirmed")), auth))
    first = m.cr(m.Request(new_key("p384"), tag("confirmed")), auth)
    log.say(m.certconf(log.say(first), first))
    first = m.p10cr(cm.csr(tag("p10"), new_key()), auth)
    log.say(m.certconf(log.say(first), first))
    first = m.ir(m.Request(new_key(), tag("rejected")), auth)
    answer = log.say(first)
    log.say(m.certconf(answer, first, [m.cert_status(answer.cert, status=m.REJECTION)]))
    first = m.ir(m.Request(new_key(), tag("failed")), auth)
    log.say(m.error(log.say(first), first))
    # some of several are refused
    log.say(m.ir([m.Request(new_key(), tag("good"), 0), m.Request(new_key(), tag("bad"), 1, pop=None),
                  m.Request(new_key(), tag("good-too"), 2)], auth))
    # while it waits
    first = m.ir(m.Request(new_key(), tag("waits")), auth)
    answer = log.say(first, "held")
    assert answer.status == m.WAITING
    polled = log.say(m.pollreq(answer, first), "held")
    assert polled.body == "pollRep"
    polled = m.pollreq(polled, first)
    log.said.pop()  # the next one takes its place
    log.say(polled, "held")


def device_dialogues(app, log):
    key, next_key = new_key(), new_key()
    first = m.ir(m.Request(key, "updated"), mac())
    answer = m.exchange(app, first)
    m.exchange(app, m.certconf(answer, first))
    device = m.Signer(answer.cert, key)
    first = m.kur(m.Request(next_key, "updated"), device)
    updated = log.say(first)
    assert updated.cert is not None, updated.code
    log.say(m.certconf(updated, first))
    other = m.exchange(app, m.ir(m.Request(new_key(), "revoked"), mac(), infos=[m.info(m.IMPLICIT_CONFIRM, m.NULL)]))
    log.say(m.rr([m.rev_of(other.cert, 1), m.rev_of(other.cert, 1)], ra(app)))


def test_the_same_answer_again():
    with make() as app:
        log = Log(app)
        for auth in (mac(), ra(app)):
            dialogues(app, auth, log)
        device_dialogues(app, log)
        before = certificates(app)
        log.repeat()
        app.kill()
        app.start()
        log.repeat()
        app.stop()
        app.start()
        log.repeat()
        assert certificates(app) == before
        assert "every one fits" in app.tool("journal", "verify")


def test_a_poll_that_ends_the_wait_comes_again():
    with make() as app:
        first = m.ir(m.Request(new_key(), "held-1"), ra(app))
        waits = m.exchange(app, first, "held")
        assert post(app, first.der(), "held") == waits.der
        app.config["lines"][1]["hold"] = False
        app.write_config()
        app.daemon.send_signal(signal.SIGHUP)
        poll, answer = m.pollreq(waits, first), None
        end = time.monotonic() + 10 * cm.SLOW
        while answer is None or answer.body == "pollRep":
            assert time.monotonic() < end
            answer = m.exchange(app, poll, "held")
            last, poll = poll, m.pollreq(answer, first)
        assert answer.body == "ip" and answer.cert is not None
        confirm = m.certconf(answer, first)
        assert post(app, last.der(), "held") == answer.der
        app.kill()
        app.start()
        assert post(app, last.der(), "held") == answer.der
        done = m.exchange(app, confirm, "held")
        assert done.body == "pkiconf" and post(app, confirm.der(), "held") == done.der
        assert len(certificates(app)) == 1


def test_a_crash_before_the_answer_is_on_record():
    """What was done is committed before the answer is: who asks again is told that it is done."""
    with make() as app:
        issued = [m.exchange(app, m.ir(m.Request(new_key(), f"lost-{n}"), mac(), infos=[m.info(m.IMPLICIT_CONFIRM, m.NULL)]))
                  for n in range(3)]
        details = [m.rev_of(issued[0].cert, 1), m.rev_of(issued[1].cert, 6), m.rev_of(issued[0].cert, 1)]
        asked = m.rr(details, ra(app))
        waits = m.ir(m.Request(new_key(), "lost-too"), mac())
        first, cert = m.exchange(app, asked), m.exchange(app, waits).cert
        assert [r.fails for r in first.responses] == [[], [], ["certRevoked"]]
        app.kill()
        run([cm.BIN / "forget_dialogues", app.dir / "store"])
        app.start()
        before = certificates(app)
        again = m.exchange(app, asked)
        assert again.der != first.der and [r.fails for r in again.responses] == [r.fails for r in first.responses]
        assert m.exchange(app, waits).cert == cert and certificates(app) == before
        # another request for the same is told that it comes too late
        other = m.exchange(app, m.rr(details[:1], ra(app)))
        assert other.responses[0].fails == ["certRevoked"]


def test_a_full_line_lets_nobody_more_wait():
    """WAITING_PER_LINE_MAX (limits.h) requests wait but one: who comes last is told so, until somebody is through."""
    with make() as app:
        app.stop()
        run([cm.BIN / "wait_many", app.dir / "store", "held", 9999])
        app.start()
        first = m.ir(m.Request(new_key(), "fits"), mac())
        waits = m.exchange(app, first, "held")
        assert waits.status == m.WAITING
        more = m.ir(m.Request(new_key(), "does-not"), mac())
        for _ in range(2):
            refused = m.exchange(app, more, "held")
            assert (refused.body, refused.fails) == ("error", ["systemUnavail"]) and refused.code == "waiting-full"
            app.kill()
            app.start()
        # the line is full for those who wait; who waits already polls, or gives up
        assert post(app, first.der(), "held") == waits.der
        poll = m.pollreq(waits, first)
        polled = m.exchange(app, poll, "held")
        assert polled.body == "pollRep"
        assert m.exchange(app, m.ir(m.Request(new_key(), "elsewhere"), mac())).cert is not None
        assert m.exchange(app, m.error(polled, first), "held").body == "pkiconf"
        assert m.exchange(app, more, "held").status == m.WAITING


def at_once(app, ders, line="line1"):
    """Sends each on a connection of its own (connections go to the cores in turn), all at the same instant."""
    socks = [m.connect(app) for _ in ders]
    start = threading.Barrier(len(ders))
    answers = [None] * len(ders)

    def one(i):
        start.wait()
        answers[i] = post(app, ders[i], line, sock=socks[i])
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(ders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for sock in socks:
        sock.close()
    return answers


def test_the_same_request_on_two_cores_at_once():
    with make() as app:
        for i in range(ROUNDS):
            auth = ra(app) if i % 2 else mac()
            first = m.ir([m.Request(new_key(), f"twin-{i}-{k}", k) for k in range(3)], auth)
            one, other = at_once(app, [first.der()] * 2)
            assert one == other
            answer = m.check(m.Answer(one), first, app)
            assert len(answer.certs) == 3 and all(answer.certs)
            confirms = [m.Answer(a) for a in at_once(app, [m.certconf(answer, first).der()] * 2)]
            assert [a.body for a in confirms] == ["pkiconf"] * 2
        rows = certificates(app)
        assert len(rows) == 3 * ROUNDS and len({row["device"] for row in rows}) == len(rows)


def test_the_same_update_and_the_same_batch_on_two_cores_at_once():
    with make() as app:
        for i in range(ROUNDS // 2):
            key = new_key()
            first = m.ir(m.Request(key, f"update-{i}"), mac(), infos=[m.info(m.IMPLICIT_CONFIRM, m.NULL)])
            device = m.Signer(m.exchange(app, first).cert, key)
            update = m.kur(m.Request(new_key(), f"update-{i}"), device)
            one, other = at_once(app, [update.der()] * 2)
            assert one == other and m.Answer(one).cert is not None
            inner = [m.ir(m.Request(new_key(), f"batch-{i}-{k}"), ra(app)) for k in range(4)]
            batches = [m.Answer(a) for a in at_once(app, [m.nested(inner, ra(app)).der() for _ in range(2)])]
            assert [a.der for a in batches[0].inner] == [a.der for a in batches[1].inner]
            assert all(a.cert for a in batches[0].inner)
        rows = certificates(app)
        assert len(rows) == 6 * (ROUNDS // 2)


def test_killed_before_the_answer():
    """Whatever was done when the daemon was killed: the same message afterwards gets one certificate for its device, and
    from then on the same octets."""
    random.seed(11)
    with make() as app:
        for i in range(ROUNDS):
            auth = ra(app) if i % 2 else mac()
            first = m.ir(m.Request(new_key(), f"killed-{i}"), auth)
            with m.connect(app) as sock:
                sock.sendall(cm.http_request("POST", m.path_of(), first.der(), {"Content-Type": m.MEDIA_TYPE},
                                             basic=False))
                time.sleep(random.uniform(0, 0.008) * cm.SLOW)
                app.kill()
            app.start()
            answer = m.exchange(app, first)
            assert answer.cert is not None and post(app, first.der()) == answer.der
            confirm = m.certconf(answer, first)
            with m.connect(app) as sock:
                sock.sendall(cm.http_request("POST", m.path_of(), confirm.der(), {"Content-Type": m.MEDIA_TYPE},
                                             basic=False))
                time.sleep(random.uniform(0, 0.004) * cm.SLOW)
                app.kill()
            app.start()
            done = m.exchange(app, confirm)
            assert done.body == "pkiconf" and post(app, confirm.der()) == done.der
            assert [row["fingerprint"] for row in of_device(app, f"killed-{i}")] == [
                answer.cert.fingerprint(cm.hashes.SHA256()).hex()]
        assert "every one fits" in app.tool("journal", "verify")


def with_key_in_a_token(**kw):
    """An appliance whose answers are signed by a token of their own, so that signing them can be stopped alone."""
    def config(c):
        c["tokens"].append(dict(c["tokens"][0], name="answers", uri="pkcs11:token=answers"))
        c["cas"][0]["tokens"] = ["softhsm"]
        c["cmp_signers"][0].pop("key_file")
        c["cmp_signers"][0].update(key="pkcs11:object=answers", tokens=["answers"])
    app = make(config=config, start=False, **kw)
    run(["softhsm2-util", "--init-token", "--free", "--label", "answers", "--pin", cm.PIN, "--so-pin", cm.PIN],
        env=app.env)
    run(["softhsm2-util", "--import", app.dir / "tls/cmp.key", "--token", "answers", "--label", "answers", "--id", "07",
         "--pin", cm.PIN], env=app.env)
    app.start()
    return app


def signer_of(app, token):
    """The process id of a token's signer since the last start."""
    rows = [row for row in app.log_text().splitlines() if f"signer-up token={token} " in row]
    return int(rows[-1].split("pid=")[1].split()[0])


@pytest.mark.parametrize("kind", ["ir", "kur"])
def test_killed_before_the_answer_was_protected(kind):
    """A certificate is on record together with its answer, or not at all: it does not wait for nobody."""
    with with_key_in_a_token() as app:
        auth, key = ra(app), new_key()
        implicit = [m.info(m.IMPLICIT_CONFIRM, m.NULL)]
        count = 0
        if kind == "kur":
            old_key = new_key()
            auth = m.Signer(m.exchange(app, m.ir(m.Request(old_key, "crashed"), auth, infos=implicit)).cert, old_key)
            count = 1
        first = (m.kur if kind == "kur" else m.ir)(m.Request(key, "crashed"), auth)
        os.kill(signer_of(app, "answers"), signal.SIGSTOP)  # the certificate is made, its answer cannot be
        with m.connect(app) as sock:
            sock.sendall(cm.http_request("POST", m.path_of(), first.der(), {"Content-Type": m.MEDIA_TYPE}, basic=False))
            assert wait_for(lambda: answer_is_in_flight(app))
            assert len(certificates(app)) == count
            app.kill()
        app.start()
        assert len(certificates(app)) == count
        answer = m.exchange(app, first)
        assert len(certificates(app)) == count + 1
        assert post(app, first.der()) == answer.der
        assert m.exchange(app, m.certconf(answer, first)).body == "pkiconf"
        assert len(certificates(app)) == count + 1
        assert app.tool_json("device", "show", "crashed")["state"] == "confirmed"


def answer_is_in_flight(app):
    return any(token["token"] == "answers" and token["in_flight"] > 0 for token in app.tool_json("status")["tokens"])


def test_an_outer_answer_that_could_not_be_made():
    """What was inside is recorded as it was decided: not as foreseen where a device came twice, refused where another
    dialogue took the id meanwhile; and the exchange ends."""
    with with_key_in_a_token() as app:
        key, tid = new_key(), m.fresh()
        twice = [m.ir(m.Request(key, "twice"), mac()) for _ in range(2)]
        lost = m.ir(m.Request(new_key(), "lost"), mac(), tid=tid)
        os.kill(signer_of(app, "answers"), signal.SIGSTOP)
        outer = [m.nested(inner, ra(app)).der() for inner in (twice, [lost])]
        answered = [None] * len(outer)

        def send(i):
            with m.connect(app, 60 * cm.SLOW) as sock:
                answered[i] = m.http(app, outer[i], sock=sock)[0]
        threads = [threading.Thread(target=send, args=(i,)) for i in range(len(outer))]
        for thread in threads:
            thread.start()
        assert wait_for(lambda: answer_is_in_flight(app))
        assert m.exchange(app, m.ir(m.Request(new_key(), "winner"), mac(), tid=tid)).body == "ip"
        for thread in threads:
            thread.join(60 * cm.SLOW)
        assert set(answered) <= {200, 503}, answered  # by the second round the token may be back
        assert len(of_device(app, "twice")) == 1 and not of_device(app, "lost")
        answers = [m.exchange(app, message) for message in twice]
        for message, answer in zip(twice, answers):
            assert answer.status == 0 and answer.cert == answers[0].cert
            assert post(app, message.der()) == answer.der
            assert m.exchange(app, m.certconf(answer, message)).body == "pkiconf"
        assert m.exchange(app, lost).fails == ["transactionIdInUse"]


def test_one_id_for_two_dialogues_at_once():
    """The second to be recorded is refused, and nothing is issued for it."""
    with make() as app:
        for round_ in range(2 * ROUNDS):
            tid = m.fresh()
            asked = [m.ir(m.Request(new_key(), f"race-{round_}-{side}"), mac(), tid=tid) for side in "ab"]
            answers = at_once(app, [message.der() for message in asked])
            accepted = [m.Answer(answer).body == "ip" for answer in answers]
            assert accepted.count(True) == 1, [m.Answer(answer).body for answer in answers]
            for side, answer, ok in zip("ab", answers, accepted):
                rows = of_device(app, f"race-{round_}-{side}")
                assert [row["status"] for row in rows] == (["valid"] if ok else [])
                assert ok or m.Answer(answer).fails == ["transactionIdInUse"]


def test_one_device_in_two_dialogues_at_once():
    """Whichever is decided second finds the device's certificate, in the place of the one that was made for it."""
    with make() as app:
        for round_ in range(2 * ROUNDS):
            key, name = new_key(), f"twice-{round_}"
            asked = [m.ir(m.Request(key, name), mac()) for _ in range(2)]
            answers = [m.Answer(answer) for answer in at_once(app, [message.der() for message in asked])]
            assert [answer.body for answer in answers] == ["ip", "ip"]
            assert answers[0].cert == answers[1].cert
            assert len(of_device(app, name)) == 1
            for message, answer in zip(asked, answers):
                assert post(app, message.der()) == answer.der
                assert m.exchange(app, m.certconf(answer, message)).body == "pkiconf"


def test_one_device_with_two_keys_in_two_dialogues_at_once():
    with make() as app:
        for round_ in range(2 * ROUNDS):
            asked = [m.ir(m.Request(new_key(), f"torn-{round_}"), mac()) for _ in range(2)]
            answers = [m.Answer(answer) for answer in at_once(app, [message.der() for message in asked])]
            assert [answer.body for answer in answers] == ["ip", "ip"]
            accepted = [answer for answer in answers if answer.status == 0]
            assert len(accepted) == 1 and len(of_device(app, f"torn-{round_}")) == 1
