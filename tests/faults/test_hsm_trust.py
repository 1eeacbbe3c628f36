"""Is a PIN that was refused tried once, does a wrong signature never get out, and is a key that can be extracted for
test lines alone?"""
import os
import signal
import time

import certmill as cm
import pytest
from certmill import Appliance, csr, new_key
from estload import Load, labelled, signers, token_status, wait_for

ALARM = "ALARM-pin-refused"


def tries(app):
    status = app.sims[0].status()
    return status["login_calls"], status["user_pin_wrong"]


def refused_at_start(app):
    """Starts the daemon, which must give up; its log of this start."""
    before = len(app.log_text())
    app.start(wait=False)
    assert app.daemon.wait(60 * cm.SLOW) == 1
    app.daemon = None
    return app.log_text()[before:]


# --- PIN ----------------------------------------------------------------------------------------------

def test_a_wrong_pin_at_start_is_tried_once_with_several_signers():
    with Appliance(token="sim", signers=4, start=False) as app:
        (app.dir / "pin").write_text("999999")
        logins, wrong = tries(app)
        log = refused_at_start(app)
        assert tries(app) == (logins + 1, wrong + 1)
        assert log.count(ALARM) == 1 and "token=sim-0" in log and "correct the PIN" in log
        assert "pin-wrong" in log and "999999" not in log and cm.PIN not in log
        (app.dir / "pin").write_text(cm.PIN)
        app.start()
        app.enroll_cert(csr("pin-after", new_key()))
        assert tries(app)[1] == wrong + 1


def test_a_pin_that_became_wrong_is_tried_once_by_a_signer_that_restarts():
    with Appliance(token="sim", signers=3) as app:
        (app.dir / "pin").write_text("999999")
        first, second, third = (s["pid"] for s in signers(app))
        wrong = tries(app)[1]
        with Load(app) as load:
            load.wait(50)
            os.kill(first, signal.SIGKILL)
            assert wait_for(lambda: [s["state"] for s in signers(app)].count("failed") == 1)
            assert app.admin("/health")[0] == 200  # the others are logged in and sign
            load.wait(50)
            os.kill(second, signal.SIGKILL)  # its successor is not even started
            assert wait_for(lambda: [s["state"] for s in signers(app)].count("failed") == 2)
            load.wait(50)
        assert not load.refusals(), load.refusals()
        assert tries(app)[1] == wrong + 1
        assert app.log_text().count(ALARM) == 1
        assert token_status(app)["errors"]["pin"] == 1 == labelled(app, 'token_errors_total{token="sim-0",class="pin"}')
        said = app.tool("status")
        assert said.count("failed") == 2 and "PIN refused" in said and "1 of 3" in said
        os.kill(third, signal.SIGKILL)
        assert wait_for(lambda: app.admin("/health")[0] == 503)
        assert wait_for(lambda: app.enroll(csr("pin-none", new_key()))[0] == 503)
        time.sleep(2)
        assert tries(app)[1] == wrong + 1
        app.stop()
        load.check(10, 150)


def test_a_pin_changed_on_the_token_is_tried_once_by_all_who_lost_their_login():
    with Appliance(token="sim", signers=3) as app:
        wrong = tries(app)[1]
        with Load(app) as load:
            load.wait(50)
            # the same effect as a changed PIN: the device says no to the right one
            app.sims[0].control({"kind": "error", "calls": ["login"], "answer": "CKR_PIN_INCORRECT"},
                                {"kind": "sessions-lost", "start_ms": 100})
            calls = tries(app)[0]
            assert wait_for(lambda: all(s["state"] == "failed" for s in signers(app)))
            time.sleep(1)
            assert app.sims[0].status()["errors"] == 1, "the PIN was tried more than once"
            assert app.log_text().count(ALARM) == 1
            assert app.admin("/health")[0] == 503
            load.resign()
            load.wait_refused()
        assert set(load.refusals()) <= {"pin-wrong", "signer-unavailable"}, load.refusals()
        assert tries(app) == (calls + 1, wrong)
        app.stop()
        load.check(10, 50)


# --- signatures -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("fault", [{"every": 500}, {"one_in": 60}, {"at_call": 700, "for_calls": 3}])
def test_a_wrong_signature_gets_out_never(fault):
    with Appliance(token="sim") as app:
        app.sims[0].control(dict(fault, kind="wrong-signature"))
        with Load(app, pause=0) as load:
            load.wait(1000, 30)
        injected = app.sims[0].status()["wrong_signatures"]
        assert injected >= 2
        assert load.refusals() == {"token-signature-wrong": injected}
        assert app.metric("token_signatures_wrong_total") == injected
        assert labelled(app, 'token_wrong_signatures_total{token="sim-0"}') == injected
        assert token_status(app)["wrong_signatures"] == injected
        assert app.log_text().count("ALARM-token-signature-wrong") == injected
        app.stop()
        load.check(10, 1000)  # every certificate verifies


# --- keys that can be extracted ---------------------------------------------------------------------------

def reload(app):
    """Sends SIGHUP; true when the configuration was taken."""
    before = len(app.log_text())
    app.write_config()
    app.daemon.send_signal(signal.SIGHUP)
    assert wait_for(lambda: "reload" in app.log_text()[before:])
    return "reload-refused" not in app.log_text()[before:]


def weak_key(app):
    """Another key of that name, one that can be extracted, and a certificate for it."""
    ca = cm.TestCA("Test Weak CA")
    (app.dir / "weak.der").write_bytes(ca.key.private_bytes(
        cm.serialization.Encoding.DER, cm.serialization.PrivateFormat.PKCS8, cm.serialization.NoEncryption()))
    tool = ["pkcs11-tool", "--module", cm.SOFTHSM_MODULE, "--token-label", "certmill", "--login", "--pin", cm.PIN]
    cm.run([*tool, "--write-object", app.dir / "weak.der", "--type", "privkey", "--label", "weak", "--id", "77",
            "--extractable", "--usage-sign"], env=app.env)
    (app.dir / "ca/weak.pem").write_bytes(ca.pem())
    app.config["cas"].append({"name": "weak", "key": "pkcs11:object=weak", "certificate": "ca/weak.pem"})


def test_a_key_that_can_be_extracted_is_for_test_lines_alone():
    with Appliance(start=False) as app:
        weak_key(app)
        lines = app.config["lines"]
        lines.append(dict(lines[0], name="trial", ca="weak", test=True))
        lines.append(dict(lines[0], name="product", ca="weak"))
        app.write_config()
        log = refused_at_start(app)
        assert "it can be extracted (CKA_EXTRACTABLE): only for lines with test: true" in log, log
        assert "key=weak" in log

        request = ["--config", app.config_path, "ca", "csr", "--ca", "weak", "--subject", "CN=Weak"]
        out = cm.run([cm.BIN / "certmill", *request], env=app.env, check=False)
        assert out.returncode == 1 and b"only for lines with test: true" in out.stderr, out.stderr

        lines[-1]["test"] = True  # every line that uses it
        app.write_config()
        out = cm.run([cm.BIN / "certmill", *request], env=app.env, check=False)
        assert b"only for lines" not in out.stderr, out.stderr
        app.start()
        assert app.enroll(csr("weak-1", new_key()), line="trial")[0] == 200
        lines[-1]["test"] = False
        assert not reload(app)
        assert "ca weak cannot sign with" in app.log_text()
        assert app.enroll(csr("weak-2", new_key()), line="product")[0] == 200  # as before
        del lines[-1]
        assert reload(app)
        # a line whose key stays in its token may be marked and unmarked as one likes
        lines[0]["test"] = True
        assert reload(app)
        lines[0]["test"] = False
        assert reload(app)


def test_a_ca_marked_as_test_wants_its_lines_marked():
    with Appliance(start=False) as app:
        def check(code, said=b""):
            app.write_config()
            out = cm.run([cm.BIN / "certmilld", "--config", app.config_path, "--check"], env=app.env, check=False)
            assert out.returncode == code and said in out.stderr, out.stderr
        app.config["cas"][0]["test"] = True
        check(1, b"lines[0].test: ca 'issuing' is marked as test: every line that uses it needs test: true")
        for line in app.config["lines"]:
            line["test"] = True
        check(0)
        app.start()
        app.config["lines"][1]["test"] = False
        assert not reload(app)
        assert "lines[1].test" in app.log_text()
