"""Does kill -9 of the daemon or a signer, at any moment under load, lose or repeat nothing?"""
import hashlib
import os
import random
import signal
import threading
import time

import certmill as cm
import pytest
from certmill import Appliance, b64, csr, new_key
from cryptography.hazmat.primitives.serialization import Encoding

CYCLES = int(os.environ.get("CERTMILL_KILL_CYCLES", "100"))
PKCS10 = {"Content-Type": "application/pkcs10"}


class Load(threading.Thread):
    """One keep-alive client; remembers what it was given."""

    def __init__(self, app, tag, requests, received):
        super().__init__(daemon=True)
        self.app, self.tag, self.requests, self.received = app, tag, requests, received
        self.stop = False
        self.errors = []
        self.done = 0

    def run(self):
        while not self.stop:
            try:
                self.session()
            except (OSError, ConnectionError):
                time.sleep(0.005)  # the daemon is gone: that is what is tested
            except Exception as e:  # anything else is a finding
                self.errors.append(repr(e))
                return

    def session(self):
        with self.app.connect(timeout=10) as sock:
            stream = sock.makefile("rb")
            while not self.stop:
                name, der = random.choice(self.requests)
                sock.sendall(cm.http_request("POST", self.app.url("simpleenroll"), b64(der), PKCS10))
                status, _, body = cm.read_response(stream)
                if status == 200:
                    self.received.setdefault(name, set()).add(bytes(body))
                    self.done += 1
                elif status != 503:
                    self.errors.append(f"{name}: {status} {body!r}")


def listed(app):
    out = {}
    for row in app.tool_json("cert", "list", "--limit", "1000000")["certificates"]:
        out.setdefault(row["fingerprint"].lower().replace(":", ""), []).append(row)
    return out


def fingerprint(body):
    import base64
    return hashlib.sha256(cm.only_cert(body).public_bytes(Encoding.DER)).hexdigest()


def check(app, received):
    """Every certificate that a client has is in the store, none twice, one for each device."""
    stored = listed(app)
    assert all(len(rows) == 1 for rows in stored.values())
    serials = [row["serial"] for rows in stored.values() for row in rows]
    assert len(serials) == len(set(serials))
    for name, bodies in received.items():
        assert len(bodies) == 1, f"{name} was given {len(bodies)} different certificates"
        assert fingerprint(next(iter(bodies))) in stored, f"{name}: its certificate is not in the store"
    devices = {}
    for rows in stored.values():
        for row in rows:
            devices.setdefault(row["device"], []).append(row)
    assert all(len(rows) == 1 for rows in devices.values()), "a device has two certificates"


def test_kill_the_daemon_under_load():
    random.seed(7)
    received = {}
    with Appliance() as app:
        app.stop()
        for cycle in range(CYCLES):
            requests = [(f"kill-{cycle}-{i}", csr(f"kill-{cycle}-{i}", new_key())) for i in range(12)]
            app.start()
            loads = [Load(app, cycle, requests, received) for _ in range(3)]
            for load in loads:
                load.start()
            if cycle % 4:  # the others are killed while they still start to serve
                end = time.monotonic() + 10
                while time.monotonic() < end and not any(load.done for load in loads):
                    time.sleep(0.001)
            time.sleep(random.uniform(0.0, 0.1) * cm.SLOW)
            app.kill()
            for load in loads:
                load.stop = True
            for load in loads:
                load.join(30)
                assert not load.errors, load.errors
        app.start()  # by itself, on what the last kill left
        assert len(received) > CYCLES / 4, "too little was issued for this to mean anything"
        check(app, received)
        assert "every one fits" in app.tool("journal", "verify")
        # and the same requests again: the same certificates
        name, bodies = next(iter(received.items()))
        print(f"{len(received)} devices over {CYCLES} kills")


def test_signers_die_with_a_killed_daemon():
    with Appliance() as app:
        pids = app.signer_pids()
        assert pids
        app.kill()
        end = time.monotonic() + 10 * cm.SLOW
        while time.monotonic() < end and any(os.path.exists(f"/proc/{p}/exe") and os.access(f"/proc/{p}/exe", os.F_OK)
                                             for p in pids):
            time.sleep(0.05)
        assert not any(alive(p) for p in pids)
        app.start()


def up_signers(app):
    """Those that serve. SoftHSM rewrites its token file at every login, not atomically: a kill just then
    destroys the token, which is SoftHSM's fault and not the question here."""
    import json
    return [s["pid"] for s in json.loads(app.admin("/status")[1])["signers"] if s["state"] == "up"]


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_kill_the_signer_under_load_loses_no_request():
    received = {}
    with Appliance() as app:
        requests = [(f"signer-{i}", csr(f"signer-{i}", new_key())) for i in range(600)]
        work = list(requests)
        lock = threading.Lock()
        problems = []

        def client():
            with app.connect(timeout=60) as sock:
                stream = sock.makefile("rb")
                while True:
                    with lock:
                        if not work:
                            return
                        name, der = work.pop()
                    sock.sendall(cm.http_request("POST", app.url("simpleenroll"), b64(der), PKCS10))
                    status, _, body = cm.read_response(stream)
                    if status != 200:
                        problems.append((name, status, body))
                    received.setdefault(name, set()).add(bytes(body))

        threads = [threading.Thread(target=client, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        kills = 0
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.15)
            for pid in up_signers(app):
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
            if kills >= 4:
                break
        for thread in threads:
            thread.join(120)
        assert kills >= 1
        assert not problems, problems[:3]
        assert len(received) == len(requests)
        check(app, received)


def test_the_same_request_at_the_same_instant_on_two_cores():
    with Appliance() as app:
        for round_ in range(20):
            key = new_key()
            der = csr(f"twin-{round_}", key)
            socks = [app.connect(), app.connect()]  # spread over the two cores
            for sock in socks:
                sock.sendall(cm.http_request("GET", app.url("cacerts")))
                cm.read_response(sock.makefile("rb"))
            gate = threading.Barrier(2)
            answers = [None, None]

            def go(i):
                request = cm.http_request("POST", app.url("simpleenroll"), b64(der), PKCS10)
                gate.wait()
                socks[i].sendall(request)
                answers[i] = cm.read_response(socks[i].makefile("rb"))

            threads = [threading.Thread(target=go, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert [a[0] for a in answers] == [200, 200], answers
            assert answers[0][2] == answers[1][2]
            for sock in socks:
                sock.close()
        rows = app.tool_json("cert", "list", "--limit", "1000")["certificates"]
        assert len(rows) == 20
