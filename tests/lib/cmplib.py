"""CMP for tests: an appliance that speaks it, and openssl's client."""
import os
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

import certmill as cm

SECRET = "a-shared-secret-of-the-line"
REFERENCE = "station-1"
CMC_RA = ObjectIdentifier("1.3.6.1.5.5.7.3.28")


class CmpAppliance(cm.Appliance):
    """An Appliance whose lines speak CMP over plain HTTP (plain_port) and HTTPS (port)."""

    def __init__(self, cmp=None, config=None, signer_key="p256", lines=None, **kw):
        self.cmp = {"signer": "cmp", **(cmp or {})}
        self.signer_key = signer_key
        more = config

        def configure(c):
            self.configure(c)
            if more:
                more(c)
        super().__init__(config=configure, lines=lines, **kw)

    def configure(self, c):
        self.plain_port = cm.free_port()
        c["listeners"].append({"address": "127.0.0.1", "port": self.plain_port, "tls": False})
        self.cmp_ca = cm.TestCA("Test CMP CA")
        self.cmp_ca.issue(self.dir / "tls", "cmp", "Test CMP Responder", key=cm.new_key(self.signer_key))
        (self.dir / "tls/cmp-ca.pem").write_bytes(self.cmp_ca.pem())
        c["cmp_signers"] = [{"name": "cmp", "certificate": "tls/cmp.pem", "key_file": "tls/cmp.key"}]
        for line in c["lines"]:
            line.setdefault("cmp", dict(self.cmp))
        (self.dir / "cmp-secret").write_text(SECRET + "\n")
        os.chmod(self.dir / "cmp-secret", 0o600)
        c["stations"][0]["cmp_secret_file"] = "cmp-secret"
        c["stations"][0]["roles"] = ["enroll", "confirm", "revoke"]
        self.ra_cert, self.ra_key = self.station_ca.issue(self.dir, "ra", "Test RA", eku=[CMC_RA])
        self.station_cert, self.station_key = self.station_ca.issue(self.dir, "station", "station-cert")

    def url(self, line="line1", operation="", tls=False):
        host = "https://localhost:%d" % self.port if tls else "http://127.0.0.1:%d" % self.plain_port
        return f"{host}/.well-known/cmp/p/{line}" + (f"/{operation}" if operation else "")

    def key_file(self, stem, kind="p256"):
        key = cm.new_key(kind)
        path = self.dir / f"{stem}.key"
        path.write_bytes(cm.key_pem(key))
        return path

    def openssl(self, cmd, *args, line="line1", tls=False, auth="mac", out=None, check=True, trust=True, **kw):
        """Runs `openssl cmp`; returns (returncode, combined output)."""
        command = ["openssl", "cmp", "-cmd", cmd, "-server", self.url(line, tls=tls), "-batch", "-msg_timeout", "20"]
        if tls:
            command += ["-tls_used", "-tls_trusted", self.dir / "tls/ca.pem"]
        if auth == "mac":
            command += ["-ref", REFERENCE, "-secret", f"pass:{SECRET}"]
        elif auth == "ra":
            command += ["-cert", self.ra_cert, "-key", self.ra_key]
        elif auth == "station":
            command += ["-cert", self.station_cert, "-key", self.station_key]
        elif auth:
            command += ["-cert", auth[0], "-key", auth[1]]
        if trust:
            command += ["-trusted", self.dir / "tls/cmp-ca.pem"]
        if out:
            command += ["-certout", out]
        result = cm.run(command + list(args), check=False, env=dict(os.environ, no_proxy="*"), **kw)
        text = (result.stdout + result.stderr).decode(errors="replace")
        if check and result.returncode != 0:
            raise AssertionError(f"openssl cmp failed ({result.returncode}):\n{text}\n{self.log_text()[-2000:]}")
        return result.returncode, text
