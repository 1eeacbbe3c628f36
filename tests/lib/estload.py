"""A continuous EST load of a few keep-alive connections that keeps book of all it is told.

A request answered 503 was answered, not accepted: the same request is sent again, until it is accepted or the load has
been stopped for RETRY_S. Anything else that is not a certificate is a problem, as is a connection that ends.
"""
import base64
import hashlib
import threading
import time

import certmill as cm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

PKCS10 = {"Content-Type": "application/pkcs10"}
RETRY_S = 10
MARGIN_S = 2.5  # of a busy machine, over a deadline


class Answer:
    """One answer: when it was there, how long it took, and its code ("" with a certificate)."""

    def __init__(self, sent, got, code):
        self.sent, self.got, self.code = sent, got, code
        self.seconds = got - sent


class Load:
    """with Load(app) as load: ...faults...; then load.check()"""

    def __init__(self, app, connections=4, pause=0.01, tag="load"):
        self.app, self.pause, self.tag = app, pause, tag
        self.answers, self.bodies, self.problems = [], {}, []
        self._stop, self._lock, self._next = threading.Event(), threading.Lock(), 0
        self._stopped_at = None
        self.resigned, self._given_up = False, 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self._stopped_at = time.monotonic()
        self._stop.set()
        for thread in self._threads:
            thread.join((RETRY_S + 30) * cm.SLOW)
            if thread.is_alive():
                self.problems.append("a request is not answered at all")

    def _run(self):
        try:
            with self.app.connect(timeout=40) as sock:
                stream = sock.makefile("rb")
                while not self._stop.is_set():
                    self._enroll(sock, stream)
                    time.sleep(self.pause)
        except Exception as e:  # whatever it is, it is a finding
            self.problems.append(repr(e))

    def _enroll(self, sock, stream):
        with self._lock:
            name = f"{self.tag}-{self._next}"
            self._next += 1
        request = cm.http_request("POST", self.app.url("simpleenroll"), cm.b64(cm.csr(name, cm.new_key())), PKCS10)
        while True:
            sent = time.monotonic()
            sock.sendall(request)
            status, headers, body = cm.read_response(stream)
            code = "" if status == 200 else body.split(b":")[0].decode()
            self.answers.append(Answer(sent, time.monotonic(), code))
            if status == 200:
                self.bodies[name] = bytes(body)
                return
            if status != 503 or int(headers.get("retry-after", 0)) < 1:
                self.problems.append((name, status, headers, body))
                return
            if self.resigned:
                self._given_up += 1
                return
            if self._stopped_at and time.monotonic() - self._stopped_at > RETRY_S * cm.SLOW:
                self.problems.append(f"{name}: still refused, {code}")
                return
            time.sleep(0.05)

    def resign(self):
        """Service will not resume: refused requests are not sent again."""
        self.resigned = True

    # what was seen

    def done(self):
        return len(self.bodies)

    def wait(self, count, seconds=15):
        """Until so many more have a certificate."""
        target, end = self.done() + count, time.monotonic() + seconds * cm.SLOW
        while self.done() < target and not self.problems:
            assert time.monotonic() < end, f"{self.done()} of {target} certificates after {seconds} s"
            time.sleep(0.01)

    def wait_refused(self):
        assert wait_for(lambda: self._given_up > 0), "nobody is refused"

    def refusals(self):
        counts = {}
        for answer in list(self.answers):
            if answer.code:
                counts[answer.code] = counts.get(answer.code, 0) + 1
        return counts

    def check(self, deadline_s, at_least):
        """After the daemon has stopped: nothing lost, nothing wrong, nobody waited too long."""
        assert not self.problems, self.problems[:3]
        assert self.done() >= at_least / (4 if cm.SANITIZED else 1), "too few requests for this to mean anything"
        assert self.done() + self._given_up == self._next, "a request has no certificate"
        assert not any(sim.status()["control_errors"] for sim in self.app.sims), "a fault was not understood"
        slowest = max(answer.seconds for answer in self.answers)
        assert slowest < (deadline_s + MARGIN_S) * cm.SLOW, f"a request waited {slowest:.1f} s"
        stored = {row["fingerprint"].lower().replace(":", ""): row for row in
                  self.app.tool_json("cert", "list", "--limit", "1000000")["certificates"]}
        issuer = cm.x509.load_pem_x509_certificate((self.app.dir / "ca/issuing.pem").read_bytes())
        for name, body in self.bodies.items():
            cert, = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
            issuer.public_key().verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
            row = stored.get(hashlib.sha256(cert.public_bytes(Encoding.DER)).hexdigest())
            assert row and row["device"] == name, f"{name}: its certificate is not in the store"
        devices = [row["device"] for row in stored.values()]
        assert len(devices) == len(set(devices)), "a device has two certificates"


# --- what the daemon says of itself ---------------------------------------------------------------

def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * cm.SLOW
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def token_status(app, index=0):
    import json
    return json.loads(app.admin("/status")[1])["tokens"][index]


def signers(app):
    import json
    return json.loads(app.admin("/status")[1])["signers"]


def labelled(app, row):
    """The value of one row of /metrics by its whole name, e.g. token_logins_total{token="sim-0"}."""
    for line in app.admin("/metrics")[1].splitlines():
        if line.startswith("certmill_" + row + " "):
            return float(line.rsplit(" ", 1)[1])
    raise KeyError(row)
