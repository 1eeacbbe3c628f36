"""A token or its signers fail under load, each in its way: is nothing lost, does nobody wait past the deadline, does
service resume by itself, and do /status and /metrics say what happened?"""
import json
import os
import random
import signal
import time

import certmill as cm
from certmill import Appliance
from estload import Load, labelled, signers, token_status, wait_for

ALL = {"calls": ["all"]}
GONE = {"signer-unavailable", "signer-failed", "deadline"}


def appliance(sims=({},), signers=1, sessions=4, deadline_ms=5000, **kw):
    def quick(config):
        for token in config["tokens"]:
            token["deadline_ms"] = deadline_ms
    return Appliance(token="sim", sims=sims, signers=signers, sessions=sessions, config=quick, **kw)


def up(app):
    return [s["pid"] for s in signers(app) if s["state"] == "up"]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was killed a moment ago and /status does not know yet


def serves_again(app, load):
    """By itself: the same processes or their successors, all up, no breaker open, healthy."""
    load.wait(50)
    assert wait_for(lambda: all(s["state"] == "up" and s["breaker"] == "closed" for s in signers(app)))
    assert app.admin("/health")[0] == 200


def test_any_signer_killed_again_and_again():
    random.seed(3)
    with appliance(signers=2) as app:
        with Load(app) as load:
            killed = set()  # a process that is killed counts as up until its parent has looked
            end = time.monotonic() + 6
            while time.monotonic() < end:
                load.wait(20)
                alive = [pid for pid in up(app) if pid not in killed]
                if len(alive) == 2:  # one of them, so that the other can take over
                    victim = random.choice(alive)
                    killed.add(victim)
                    kill(victim)
            refused_before = load.refusals()
            for pid in set(up(app)) - killed:  # then both at once: a moment without any
                killed.add(pid)
                kill(pid)
            serves_again(app, load)
            kills = len(killed)
        assert kills >= 4 and not refused_before, (kills, refused_before)
        assert set(load.refusals()) <= GONE, load.refusals()
        status = token_status(app)
        assert status["restarts"] == kills == labelled(app, 'signer_restarts_total{signer="0",token="sim-0"}') + \
            labelled(app, 'signer_restarts_total{signer="1",token="sim-0"}')
        assert status["signed"] <= app.sims[0].status()["signatures"]
        app.stop()
        load.check(5, 500)


def test_a_device_error_of_five_seconds_is_bridged_by_the_other_token():
    with appliance(sims=({}, {})) as app:
        pids = up(app)
        with Load(app) as load:
            load.wait(100)
            app.sims[0].control(dict(ALL, kind="error", answer="CKR_DEVICE_ERROR", start_ms=0, length_ms=5000))
            assert wait_for(lambda: token_status(app, 0)["breakers_open"] == 1, 5)
            assert labelled(app, 'token_breakers_open{token="sim-0"}') == 1
            assert labelled(app, 'signer_breaker_state{signer="0",token="sim-0"}') >= 1
            assert "breaker " in app.tool("status") and "retry " in app.tool("status")
            before = token_status(app, 1)["signed"]
            load.wait(200)
            assert token_status(app, 1)["signed"] > before and app.admin("/health")[0] == 200
            time.sleep(4 * cm.SLOW)
            before = token_status(app, 0)["signed"]
            assert wait_for(lambda: token_status(app, 0)["signed"] > before + 10)
            serves_again(app, load)
        assert not load.refusals(), load.refusals()
        assert up(app) == pids and token_status(app, 0)["restarts"] == 0
        assert token_status(app, 0)["errors"]["retry"] >= 8 and not any(token_status(app, 1)["errors"].values())
        assert labelled(app, 'token_errors_total{token="sim-0",class="retry"}') == token_status(app)["errors"]["retry"]
        app.stop()
        load.check(5, 500)


def test_a_device_error_of_five_seconds_on_the_only_token_is_refused_and_passes():
    with appliance() as app:
        pids = up(app)
        with Load(app) as load:
            load.wait(100)
            app.sims[0].control(dict(ALL, kind="error", answer="CKR_DEVICE_ERROR", start_ms=0, length_ms=5000))
            # what was accepted waits for the token, as long as its deadline; what comes later is refused
            assert wait_for(lambda: token_status(app)["breakers_open"] == 1, 5)
            with Load(app, tag="later") as later:
                assert wait_for(lambda: "signer-unavailable" in later.refusals(), 5)
                assert app.admin("/health")[0] == 503 or wait_for(lambda: app.admin("/health")[0] == 503, 3)
                assert token_status(app)["waiting"] + token_status(app)["in_flight"] > 0
                time.sleep(4 * cm.SLOW)
                serves_again(app, load)
                later.wait(50)
        refusals = [load.refusals(), later.refusals()]
        assert set().union(*refusals) <= GONE, refusals
        assert up(app) == pids, "it recovered by a restart"
        counted = json.loads(app.admin("/status")[1])["refusals"]
        assert counted == {code: sum(r.get(code, 0) for r in refusals) for code in set().union(*refusals)}
        app.stop()
        for each in (load, later):
            each.check(5, 50)


def test_sessions_that_become_invalid_are_opened_again():
    with appliance(sessions=8) as app:
        pids, logins = up(app), token_status(app)["logins"]
        with Load(app, pause=0) as load:
            load.wait(50)
            app.sims[0].control({"kind": "sessions-lost", "every": 150})  # of calls of any kind: also in the repair
            load.wait(900)
            app.sims[0].control()
            serves_again(app, load)
        lost = app.sims[0].status()["sessions_lost"]
        assert lost >= 20 and not load.refusals(), (lost, load.refusals())
        status = token_status(app)
        assert lost / 2 < status["errors"]["reopen"] <= 9 * lost  # a session of each worker and the one that holds the login
        assert up(app) == pids
        # with its sessions the login is gone: once again for each time, whatever the number of workers
        assert logins < status["logins"] <= logins + 2 * lost
        assert app.sims[0].status()["user_pin_wrong"] == 0
        app.stop()
        load.check(5, 700)


def test_a_stall_of_ten_seconds_goes_to_the_other_token_then_to_the_deadline():
    with appliance(sims=({}, {}), deadline_ms=3000) as app:
        pids = up(app)
        with Load(app) as load:
            load.wait(100)
            app.sims[0].control(dict(kind="stall", start_ms=0, length_ms=10000))
            start = time.monotonic()
            load.wait(300)
            assert not load.refusals()  # moved, at the cost of a moment
            assert max(a.seconds for a in load.answers) < 1.5 * cm.SLOW
            assert token_status(app, 0)["in_flight"] > 0
            app.sims[1].control(dict(kind="stall", start_ms=0, length_ms=int(10000 - 1000 * (time.monotonic() - start))))
            assert wait_for(lambda: load.refusals(), 8)
            assert token_status(app, 0)["waiting"] + token_status(app, 1)["in_flight"] > 0
            time.sleep(max(0, start + 10 - time.monotonic()))
            serves_again(app, load)
        assert set(load.refusals()) <= {"deadline", "signer-unavailable"} and "deadline" in load.refusals()
        assert up(app) == pids
        passed = sum(token_status(app, i)["deadlines_passed"] for i in (0, 1))
        assert 0 < passed <= load.refusals()["deadline"] + 8  # the rest waited with nobody
        assert app.metric('refusals_total{code="deadline"}') == load.refusals()["deadline"]
        assert labelled(app, 'token_deadlines_passed_total{token="sim-1"}') == token_status(app, 1)["deadlines_passed"]
        app.stop()
        load.check(3, 400)


def test_a_throttling_token_is_asked_less():
    rate = 150
    sim = {"rate_limit": {"per_second": rate, "burst": 10, "answer": "CKR_DEVICE_MEMORY"},
           "engines": 12, "service": [{"constant_us": 25000}]}
    with appliance(sims=(sim,), sessions=12) as app:
        with Load(app, connections=12, pause=0) as load:
            load.wait(50)
            start = time.monotonic()
            load.wait(750, 20)
            took = time.monotonic() - start
        throttled = app.sims[0].status()["throttled"]
        assert throttled > 0 and 750 / took > 0.7 * rate / cm.SLOW, (throttled, 750 / took)
        assert set(load.refusals()) <= GONE and sum(load.refusals().values()) < 0.05 * load.done(), load.refusals()
        status = token_status(app)
        assert status["errors"]["retry"] == throttled and status["restarts"] == 0
        app.stop()
        load.check(5, 360)


def test_a_module_that_crashes_on_its_thousandth_call():
    with appliance(signers=1) as app:
        app.sims[0].control({"kind": "crash", "how": "segv", "at_call": 1000})
        with Load(app, pause=0) as load:
            load.wait(1200, 30)
            serves_again(app, load)
        assert app.sims[0].status()["crashes"] == 1 and not load.refusals(), load.refusals()
        assert token_status(app)["restarts"] == 1 and "signer-died" in app.log_text()
        assert token_status(app)["signed"] >= load.done() - 64  # the count goes on over processes, but for the last moment
        app.stop()
        load.check(5, 1000)


def test_a_token_that_vanishes_and_returns():
    with appliance() as app:
        with Load(app) as load:
            for answer in ("CKR_TOKEN_NOT_PRESENT", "CKR_DEVICE_REMOVED"):
                load.wait(100)
                app.sims[0].control({"kind": "vanish", "start_ms": 0, "length_ms": 2500, "answer": answer})
                assert wait_for(lambda: token_status(app)["breakers_open"] == 1, 2.4)
                assert app.admin("/health")[0] == 503 and "breaker " in app.tool("status")
                time.sleep(2.5)
                serves_again(app, load)
        assert set(load.refusals()) <= GONE, load.refusals()
        assert app.sims[0].status()["vanishes"] == 2 and app.sims[0].status()["user_pin_wrong"] == 0
        errors = token_status(app)["errors"]
        assert errors["reopen"] + errors["reinit"] + errors["retry"] > 0
        app.stop()
        load.check(5, 200)
