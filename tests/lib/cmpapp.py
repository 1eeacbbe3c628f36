"""A factory whose lines speak CMP in every way that can be configured, and the callers it knows, for hand-made messages."""
import itertools
import signal
import time

import certmill as cm
from cmplib import REFERENCE, SECRET, CmpAppliance
from cmpmsg import ACCEPTED, Mac, Request, Signer, certconf, exchange, ir

_numbers = itertools.count(1)


def device_name(stem="device"):
    return f"{stem}-{next(_numbers)}"


class Factory(CmpAppliance):
    """Lines: line1, and one by each name in LINES with that CMP configuration. config: changes the rest at last."""
    LINES = {
        "strict": {"mode": "strict"},
        "timed": {"require_time": True, "time_window": "2m"},
        "anytime": {"time_window": "none"},
        "whole": {"batch": "whole"},
        "few": {"requests_max": 2},
        "quick": {"confirm_wait": "2s"},
        "explicit": {"implicit_confirm": False},
        "held": {"poll_after": 40},
        "picky": {},
        "norenew": {},
    }

    def __init__(self, config=None, **kw):
        self.last = config
        super().__init__(config=self.more, **kw)
        self.mac = Mac(SECRET, REFERENCE)
        self.ra = Signer(self.ra_cert, self.ra_key)
        self.station = Signer(self.station_cert, self.station_key)

    def more(self, config):
        base = {key: value for key, value in config["lines"][0].items() if key != "cmp"}
        for name, cmp in self.LINES.items():
            config["lines"].append(dict(base, name=name, cmp={"signer": "cmp", **cmp}))
        by_name = {line["name"]: line for line in config["lines"]}
        by_name["held"]["hold"] = True
        by_name["norenew"]["renewal"] = False
        config["profiles"].append({"name": "p384only", "base": "tls-device", "keys": ["p384"]})
        by_name["picky"]["profile"] = "p384only"
        config["lines"].append(dict(base, name="bysan", device_id="san-dns", cmp={"signer": "cmp"}))
        config["lines"].append(dict(base, name="unsigned", cmp={}))  # MACs alone
        config["lines"].append(dict(base, name="estonly"))
        config["stations"][1]["roles"] = ["enroll", "confirm", "revoke"]
        config["stations"].append({"name": "station-3", "roles": ["confirm"], "cmp_secret_file": "cmp-secret"})
        config["stations"].append({"name": "station-2", "roles": ["enroll"], "cmp_reference": "other-station",
                                   "cmp_secret_file": "cmp-secret"})
        if self.last:
            self.last(config)

    @property
    def other(self):
        """A station with the right to enroll and no other."""
        return Mac(SECRET, "other-station")

    @property
    def powerless(self):
        """A station that may not enroll."""
        return Mac(SECRET, "station-3")

    def reload(self, change):
        """Changes the configuration and waits until the daemon has taken it."""
        change({line["name"]: line for line in self.config["lines"]})
        self.write_config()
        seen = self.log_text().count("reloaded")
        self.daemon.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10 * cm.SLOW
        while self.log_text().count("reloaded") == seen:
            assert time.monotonic() < end, self.log_text()[-2000:]
            time.sleep(0.02)

    def foreign(self, cn, ca=None, **kw):
        """A Signer with a certificate of `ca` (the line's trust anchor when not given)."""
        stem = device_name("foreign")
        cert, key = (ca or self.station_ca).issue(self.dir, stem, cn, **kw)
        return Signer(cert, key)

    def enroll(self, cn=None, line="line1", key=None, confirm=True):
        """A device's Signer, by its new certificate."""
        key = key or cm.new_key()
        asked = ir([Request(key, cn or device_name())], self.mac)
        answer = exchange(self, asked, line)
        assert answer.status == ACCEPTED, answer.responses
        if confirm:
            assert exchange(self, certconf(answer, asked), line).body == "pkiconf"
        return Signer(answer.cert, key)

    def serves(self, line="line1"):
        """Whatever came before, the next good request is served."""
        key = cm.new_key("p384" if line == "picky" else "p256")
        answer = exchange(self, ir([Request(key, device_name("next"))], self.mac), line)
        assert answer.body == "ip" and answer.status in (ACCEPTED, 3), answer.responses
        return answer

    def refuses(self, asked, fail, code, line="line1", body="error", protected="same", index=0, **kw):
        """A message that is refused with one failInfo bit and a code, and harms nobody after it."""
        answer = exchange(self, asked, line, protected=protected, **kw)
        assert answer.body == body, (answer.body, answer.responses)
        refusal = answer.responses[index]
        assert (refusal.fails, refusal.code, refusal.status) == ([fail], code, 2), refusal
        assert refusal.cert is None and refusal.encrypted is None
        self.serves(line)
        return answer
