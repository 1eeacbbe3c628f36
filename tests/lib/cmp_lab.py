"""An appliance that serves CMP, and those who ask it: a registration authority, a station with a secret.

with CmpLab() as lab: lab.url(), lab.ra (certificate and key), lab.trust, lab.secret
"""
import base64
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import certmill as cm

CMC_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
CMC_CA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27")
SECRET = "a secret of this line"


class MessageCA(cm.TestCA):
    """Its certificates have the key identifiers and usages that signers of messages need."""
    __test__ = False

    def _cert(self, subject, public, issuer, ca=False, eku=(), san=None, days=30, start=-1):
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(self.now + self.delta(days=start))
                   .not_valid_after(self.now + self.delta(days=days))
                   .add_extension(x509.BasicConstraints(ca, None), True)
                   .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False))
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(eku)), False)
        return builder.sign(self.key, hashes.SHA256())


class CmpLab(cm.Appliance):
    """token "sim": hsm/sim at the speed of software."""

    def __init__(self, cmp=None, config=None, start=True, token="softhsm", **kw):
        self.http_port = cm.free_port()

        def more(settings):
            if token == "sim":
                self._make_sim(settings)
            settings["listeners"].append({"address": "127.0.0.1", "port": self.http_port, "tls": False})
            settings["cmp_signers"] = [{"name": "answers", "certificate": "cmp/signer.pem", "chain": ["cmp/ca.pem"],
                                        "key_file": "cmp/signer.key"}]
            settings["stations"].append({"name": "station-mac", "cmp_secret_file": "cmp/secret",
                                         "roles": ["enroll", "confirm", "ra"]})
            for line in settings["lines"]:
                line["cmp"] = dict({"signer": "answers"}, **(cmp or {}))
                line["trust_anchors"] = ["ca/stations.pem", "cmp/ca.pem"]
            if config:
                config(settings)
        super().__init__(config=more, start=False, token="softhsm" if token == "sim" else token, **kw)
        folder = self.dir / "cmp"
        folder.mkdir(exist_ok=True)
        if not (folder / "ca.pem").exists():
            ca = MessageCA("Test Message CA")
            ca.issue(folder, "signer", "CMP answers", eku=[CMC_CA])
            ca.issue(folder, "ra", "Gateway RA", eku=[CMC_RA])
            ca.issue(folder, "nobody", "Nobody")
            (folder / "ca.pem").write_bytes(ca.pem())
            (folder / "secret").write_text(SECRET + "\n")
            (folder / "secret").chmod(0o600)
        self.trust, self.secret = folder / "ca.pem", folder / "secret"
        self.ra = folder / "ra.pem", folder / "ra.key"
        if start:
            self.start()

    def _make_sim(self, settings):
        (self.dir / "sim.yaml").write_text("token: {directory: sim}\n")
        self.env["CERTMILL_HSMSIM_CONFIG"] = str(self.dir / "sim.yaml")
        (self.dir / "pin").write_text(cm.PIN)
        (self.dir / "pin").chmod(0o600)
        module = cm.BIN / "libcertmill-hsmsim.so"
        cm.run([cm.BIN / "certmill", "token", "init", "--module", module, "--label", "sim", "--pin-file",
                self.dir / "pin"], env=self.env)
        settings["tokens"][0].update(module=str(module), uri="pkcs11:token=sim")

    def url(self, line="line1", operation="", tls=False):
        scheme, port = ("https", self.port) if tls else ("http", self.http_port)
        return f"{scheme}://127.0.0.1:{port}/.well-known/cmp/p/{line}{'/' + operation if operation else ''}"

    def signed(self):
        """Options of the tools for the registration authority."""
        return ["--cert", self.ra[0], "--key", self.ra[1], "--trust", self.trust]

    def maced(self):
        return ["--ref", "station-mac", "--secret-file", self.secret]


def write_csrs(path, names):
    """NDJSON of requests with a key of its own each."""
    with open(path, "w") as out:
        for name in names:
            csr = cm.csr(name, cm.new_key())
            out.write(json.dumps({"id": name, "csr": base64.b64encode(csr).decode()}) + "\n")


def results(folder):
    with open(folder / "results.ndjson") as lines:
        return [json.loads(line) for line in lines]


def certificates(folder):
    """Of the journal, by id; all of them are different."""
    issued = [r for r in results(folder) if r["state"] == "issued"]
    certs = {r["id"]: x509.load_der_x509_certificate(base64.b64decode(r["cert"])) for r in issued}
    assert len(certs) == len(issued) == len({c.serial_number for c in certs.values()})
    return certs


def public_bytes(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
