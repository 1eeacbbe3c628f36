"""Who may revoke and release, and how much work may a stranger cause?"""
import time

import cmpmsg as m
import pytest
from certmill import new_key
from cmplib import REFERENCE, SECRET, CmpAppliance

IMPLICIT = [m.info(m.IMPLICIT_CONFIRM, m.NULL)]
HOLD, REMOVE_FROM_CRL, UNSPECIFIED = 6, 8, 0


@pytest.fixture(scope="module")
def app():
    with CmpAppliance() as a:
        yield a


def status_of(app, device):
    rows = app.tool_json("cert", "list", "--limit", "1000")["certificates"]
    return [row["status"] for row in rows if row["device"] == device]


def renewed(app, device):
    """A device that has renewed its key: the old and the new one."""
    key = new_key()
    old = m.Signer(m.exchange(app, m.ir(m.Request(key, device), m.Mac(SECRET, REFERENCE), infos=IMPLICIT)).cert, key)
    key = new_key()
    new = m.Signer(m.exchange(app, m.kur(m.Request(key, device), old, infos=IMPLICIT)).cert, key)
    assert status_of(app, device) == ["valid", "superseded"]
    return old, new


def ask(app, auth, cert, reason):
    return m.exchange(app, m.rr([m.rev_of(cert, reason)], auth))


def test_a_replaced_key_revokes_nothing(app):
    old, new = renewed(app, "replaced")
    answer = ask(app, old, new.cert, UNSPECIFIED)
    assert answer.body == "error" and answer.fails == ["certRevoked"]
    assert status_of(app, "replaced") == ["valid", "superseded"]
    assert ask(app, new, new.cert, UNSPECIFIED).body == "rp"
    assert status_of(app, "replaced") == ["revoked", "superseded"]


def test_a_device_does_not_take_back_a_hold(app):
    old, new = renewed(app, "held")
    ra = m.Signer(app.ra_cert, app.ra_key)
    assert ask(app, ra, new.cert, HOLD).body == "rp"
    assert status_of(app, "held")[0] == "on-hold"
    for auth in old, new:
        assert ask(app, auth, new.cert, REMOVE_FROM_CRL).body == "error"
        assert status_of(app, "held")[0] == "on-hold"
    assert ask(app, ra, new.cert, REMOVE_FROM_CRL).body == "rp"
    assert status_of(app, "held")[0] == "valid"


def test_a_revocation_says_when_it_was_made(app):
    _, new = renewed(app, "timeless")
    answer = m.exchange(app, m.rr([m.rev_of(new.cert, UNSPECIFIED)], new, time=b""))
    assert answer.body == "error" and answer.fails == ["badTime"]


def test_what_a_stranger_nests_is_not_looked_at(app):
    stranger_key = new_key()
    cert, key = app.server_ca.issue(app.dir, "stranger", "Stranger", key=stranger_key)
    inner = [m.ir(m.Request(stranger_key, f"stranger-{i}"), m.Mac(SECRET, REFERENCE, iterations=1000))
             for i in range(200)]
    message = m.nested(inner, m.Signer(cert, key))
    start = time.monotonic()
    answer = m.exchange(app, message)
    took = time.monotonic() - start
    assert answer.body == "error" and answer.fails == ["signerNotTrusted"]
    print(f"200 MACs of a stranger refused in {took * 1000:.1f} ms")
    assert status_of(app, "stranger-0") == []
