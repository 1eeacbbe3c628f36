"""Does a CA get a new key while it issues, without a failed request, and does what the old key issued stay good?

openssl judges every certificate and link; devices of the old key renew; every refusal leaves all as it was.
"""
import base64
import hashlib
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from test_cli import CA_INIT, Bench, outside_root, sign, with_no_token

import certmill
from certmill import SLOW, SOFTHSM_MODULE, Appliance, csr, key_pem, new_key, run

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
SUBJECT = ("--subject", "CN=Issuing CA,O=Example")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(Appliance, "default_config", with_no_token(Appliance.default_config))
    b = Bench()
    b.configure(lambda c: c["cas"][0].update(test=False))
    b.a.own_folder = False  # it is ours
    yield b
    try:
        b.a.__exit__(None, None, None)
    finally:
        b.close()


@pytest.fixture
def serving(bench):
    """A root and an issuing CA in the token, and a daemon."""
    bench(*CA_INIT)
    bench.a.start()
    return bench


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def load_cert(bench, path):
    return x509.load_pem_x509_certificate((bench.dir / path).read_bytes())


def spki(cert):
    return cert.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def write(bench, stem, *certs):
    path = bench.dir / f"{stem}.pem"
    path.write_bytes(b"".join(c.public_bytes(PEM) for c in certs))
    return path.name


def published(bench):
    """In no order that says anything: DER sorts them."""
    return certmill.certs_of(bench.a.request("GET", bench.a.url("cacerts"), auth=False)[2])


def key_id(cert):
    return cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def subject_id(cert):
    return cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def issued_by(cert, ca):
    return key_id(cert) == subject_id(ca)


def device(bench, name):
    """Enrolled; the key and certificate as files, for TLS."""
    key = new_key()
    cert = bench.a.enroll_cert(csr(name, key))
    (bench.dir / f"{name}.key").write_bytes(key_pem(key))
    write(bench, name, cert)
    return key, cert


def renew(bench, name):
    """By TLS with the current certificate."""
    status, _, body = bench.a.enroll(csr(name, new_key()), operation="simplereenroll", cert=bench.dir / f"{name}.pem",
                                     key=bench.dir / f"{name}.key")
    return status, certmill.only_cert(body) if status == 200 else body


class Load:
    """Enrollments of new devices, one after the other on each of some connections, until told to stop."""

    def __init__(self, app, connections=3):
        self.app, self.done, self.stopping = app, [], threading.Event()
        self.problems = []
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(connections)]
        for thread in self.threads:
            thread.start()

    def run(self, n):
        try:
            with self.app.connect(timeout=60) as sock:
                stream = sock.makefile("rb")
                i = 0
                while not self.stopping.is_set():
                    i += 1
                    body = certmill.b64(csr(f"load-{n}-{i}", new_key()))
                    sock.sendall(certmill.http_request("POST", self.app.url("simpleenroll"), body,
                                                       {"Content-Type": "application/pkcs10"}))
                    status, _, body = certmill.read_response(stream)
                    (self.done if status == 200 else self.problems).append((status, body))
        except Exception as e:  # pylint: disable=broad-except
            self.problems.append(repr(e))

    def wait_for_more(self, count):
        goal = len(self.done) + count
        assert wait_for(lambda: len(self.done) >= goal or self.problems, 60) and not self.problems, self.problems[:3]

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
        assert not self.problems, self.problems[:3]
        return [certmill.only_cert(body) for _, body in self.done]


def check_links(bench, old, new, old_with_new, new_with_old):
    """RFC 9810 4.4.1"""
    assert old_with_new.subject == old.subject and old_with_new.issuer == new.subject
    assert spki(old_with_new) == spki(old) and key_id(old_with_new) == subject_id(new)
    assert (old_with_new.not_valid_before, old_with_new.not_valid_after) == (old.not_valid_before, old.not_valid_after)
    assert new_with_old.subject == new.subject and new_with_old.issuer == old.subject
    assert spki(new_with_old) == spki(new) and key_id(new_with_old) == subject_id(old)
    assert new_with_old.not_valid_before == new.not_valid_before
    assert new_with_old.not_valid_after == min(old.not_valid_after, new.not_valid_after)
    for link, by in ((old_with_new, new), (new_with_old, old)):
        bench.openssl("verify", "-x509_strict", "-partial_chain", "-trusted", write(bench, "by", by),
                      write(bench, "link", link))


def check_trust(bench, root, old, new, old_with_new, new_with_old, old_device, new_device):
    """From the root with what is published; and from either key of the CA through its link."""
    write(bench, "published", *published(bench))
    for cert in (old_device, new_device):
        bench.openssl("verify", "-CAfile", root, "-untrusted", "published.pem", write(bench, "d", cert))
    for anchor, link, cert in ((old, new_with_old, new_device), (new, old_with_new, old_device)):
        trusted = ("verify", "-x509_strict", "-partial_chain", "-trusted", write(bench, "anchor", anchor))
        bench.openssl(*trusted, "-untrusted", write(bench, "link", link), write(bench, "d", cert))
        alone = run(["openssl", *trusted, write(bench, "d", cert)], cwd=bench.dir, check=False)
        assert alone.returncode != 0, "it is the link that leads there"


# --- under load ---------------------------------------------------------------------------------

def test_rollover_under_load_with_an_outside_root(bench):
    outside_root(bench)
    bench("ca", "csr", "--ca", "issuing", *SUBJECT, "--out", bench.dir / "req.pem")
    sign(bench, "req.pem", "signed.pem")
    bench("ca", "import", "--ca", "issuing", "--certificate", bench.dir / "signed.pem", "--chain",
          bench.dir / "outside.pem")
    old = load_cert(bench, "ca/issuing.pem")
    bench.configure(lambda c: c["tokens"][0].update(signers=2, sessions=2))
    bench.a.start()
    repeat_key, repeat_cert = device(bench, "repeats")
    device(bench, "renews")
    load = Load(bench.a)
    load.wait_for_more(20)

    bench("ca", "rollover", "--ca", "issuing", "--csr", bench.dir / "new.pem")
    assert "Subject: CN = Issuing CA, O = Example" in bench.openssl("req", "-in", "new.pem", "-noout", "-text", "-verify")
    sign(bench, "new.pem", "new-signed.pem", days="25")
    load.wait_for_more(20)
    report = bench.json("ca", "import", "--rollover", "--ca", "issuing", "--certificate", bench.dir / "new-signed.pem")
    assert report["daemon"] == "reloaded" and report["key"]["label"] == "issuing-2" and not report["key"]["extractable"]
    switched = len(load.done)
    load.wait_for_more(20)
    for pid in bench.a.signer_pids():  # signers that start now know the key
        os.kill(pid, signal.SIGKILL)
        load.wait_for_more(30)
    certs = load.stop()

    new = load_cert(bench, "ca/issuing-2.pem")
    own, link = load_cert(bench, "ca/issuing-2-old-with-new.pem"), load_cert(bench, "ca/issuing-2-new-with-old.pem")
    assert spki(new) != spki(old) and new.subject == old.subject
    by_old, by_new = [c for c in certs if issued_by(c, old)], [c for c in certs if issued_by(c, new)]
    assert len(by_old) >= 40 and len(by_new) >= 80 and len(by_old) + len(by_new) == len(certs)
    # answers that came after the report, but for those in flight, are from the new key
    late = [certmill.only_cert(body) for _, body in load.done[switched + len(load.threads):]]
    assert all(issued_by(c, new) for c in late)
    write(bench, "published", *published(bench))
    for i in range(0, len(certs), 50):
        names = [write(bench, f"c{k}", cert) for k, cert in enumerate(certs[i:i + 50])]
        bench.openssl("verify", "-CAfile", "outside.pem", "-untrusted", "published.pem", *names)

    assert set(published(bench)) == {new, load_cert(bench, "outside.pem"), old, own, link}
    check_links(bench, old, new, own, link)
    check_trust(bench, "outside.pem", old, new, own, link, by_old[0], by_new[0])

    status, renewed = renew(bench, "renews")
    assert status == 200 and issued_by(renewed, new)
    assert bench.a.enroll_cert(csr("repeats", repeat_key)) == repeat_cert, "the same again, octet for octet"
    assert "repeats" in bench("cert", "show", f"{repeat_cert.serial_number:032x}")
    assert "ca issuing signs with pkcs11:object=issuing-2" in bench("journal", "list")
    bench("journal", "verify")


# --- a root in the token ------------------------------------------------------------------------

def test_rollover_twice_under_a_root_in_the_token(serving):
    bench = serving
    os.chmod(bench.a.config_path, 0o640)
    os.chmod(bench.dir / "ca/issuing.pem", 0o440)
    text = bench.a.config_path.read_text()
    files = {p.name: p.read_bytes() for p in (bench.dir / "ca").iterdir()}
    first = load_cert(bench, "ca/issuing.pem")
    _, old_device = device(bench, "of-first")
    device(bench, "confirms")

    plan = bench.json("ca", "rollover", "--ca", "issuing", "--dry-run")
    assert plan["dry_run"] and plan["key_label"] == "issuing-2" and plan["key_made"] and "issuing-root" in plan["signed_by"]
    assert "previous: [ca/issuing.pem]" in bench("ca", "rollover", "--ca", "issuing", "--dry-run")
    assert bench.a.config_path.read_text() == text and set(bench.private_keys()) == {"issuing", "issuing-root"}
    assert {p.name: p.read_bytes() for p in (bench.dir / "ca").iterdir()} == files

    report = bench.json("ca", "rollover", "--ca", "issuing", "--years", "5")
    second = load_cert(bench, "ca/issuing-2.pem")
    assert report["certificate"]["file"] == str((bench.dir / "ca/issuing-2.pem").resolve()) and report["key_made"]
    assert second.not_valid_after.year == first.not_valid_after.year - 5
    assert "sensitive, always sensitive, never extractable, local" in bench.private_keys()["issuing-2"]
    assert "CA:TRUE, pathlen:0" in bench.text("ca/issuing-2.pem")
    assert {p.name: p.read_bytes() for p in (bench.dir / "ca").iterdir() if p.name in files} == files
    assert {oct(p.stat().st_mode & 0o777) for p in (bench.dir / "ca").iterdir() if p.name.startswith("issuing-2")} == {
        "0o440"}
    assert bench.a.config_path.stat().st_mode & 0o777 == 0o640
    assert (bench.dir / "certmill.yaml.old").read_text() == text
    links = [load_cert(bench, f"ca/issuing-2-{n}.pem") for n in ("old-with-new", "new-with-old")]
    _, new_device = device(bench, "of-second")
    check_links(bench, first, second, *links)
    check_trust(bench, "ca/root.pem", first, second, *links, old_device, new_device)

    # what a device received before is still confirmed as ours after it
    received = (bench.dir / "confirms.pem").read_bytes()
    status, _, body = bench.a.request(
        "POST", bench.a.url("confirm"), base64.b64encode(x509.load_pem_x509_certificate(received).public_bytes(DER)),
        {"Content-Type": "application/pkix-cert"}, cert=bench.dir / "confirms.pem", key=bench.dir / "confirms.key")
    assert status in (200, 204), body

    bench("ca", "rollover", "--ca", "issuing", "--key", "third-key", "--key-type", "p384")
    third = load_cert(bench, "ca/issuing-3.pem")
    assert {third, second, first, load_cert(bench, "ca/root.pem")} < set(published(bench)) and len(published(bench)) == 6
    for name in ("of-first", "of-second"):
        status, renewed = renew(bench, name)
        assert status == 200 and issued_by(renewed, third), name
    show = bench("ca", "show")
    assert "issuing-3.pem" in show and "complete and valid" in show

    # a start with all of it
    bench.a.stop()
    bench.a.start()
    assert issued_by(bench.a.enroll_cert(csr("restarted", new_key())), third)
    assert hashlib.sha256(old_device.public_bytes(DER)).hexdigest() in bench("cert", "show", "1")


def test_rollover_of_a_self_signed_ca(bench):
    bench.configure(lambda c: c["cas"][0].update(chain=[]))
    bench(*CA_INIT[:6])
    bench.a.start()
    old = load_cert(bench, "ca/issuing.pem")
    _, old_device = device(bench, "old")
    assert bench.json("ca", "rollover", "--ca", "issuing")["signed_by"] == "itself"
    new = load_cert(bench, "ca/issuing-2.pem")
    assert new.issuer == new.subject == old.subject
    links = [load_cert(bench, f"ca/issuing-2-{n}.pem") for n in ("old-with-new", "new-with-old")]
    check_links(bench, old, new, *links)
    assert set(published(bench)) == {new, old, *links}
    _, new_device = device(bench, "new")
    bench.openssl("verify", "-CAfile", "ca/issuing.pem", "-untrusted", write(bench, "link", links[1]),
                  write(bench, "d", new_device))
    bench.openssl("verify", "-CAfile", "ca/issuing-2.pem", "-untrusted", write(bench, "link", links[0]),
                  write(bench, "d", old_device))


def test_rollover_to_another_name_has_no_links(bench):
    bench(*CA_INIT)
    bench("ca", "rollover", "--ca", "issuing")
    assert bench.json("ca", "rollover", "--ca", "issuing", *SUBJECT)["old_with_new"]
    report = bench.json("ca", "rollover", "--ca", "issuing", "--subject", "CN=Another CA,O=Example")
    assert report["old_with_new"] is None and report["new_with_old"] is None and report["daemon"] == "not-running"
    text = bench.a.config_path.read_text()
    assert "old_with_new" not in text and "new_with_old" not in text
    bench.a.start()
    another, issuing = load_cert(bench, "ca/issuing-4.pem"), load_cert(bench, "ca/issuing-3.pem")
    assert {another, issuing} < set(published(bench)) and another.subject != issuing.subject
    assert issued_by(bench.a.enroll_cert(csr("renamed", new_key())), another)


def test_a_key_that_is_there_is_taken_and_the_daemon_told_by_hand(serving):
    bench = serving
    bench("key", "generate", "--label", "prepared", "--type", "p256")
    report = bench.json("ca", "rollover", "--ca", "issuing", "--key", "pkcs11:object=prepared", "--no-reload")
    assert not report["key_made"] and report["daemon"] == "not-asked"
    assert issued_by(bench.a.enroll_cert(csr("before", new_key())), load_cert(bench, "ca/issuing.pem"))
    bench.a.daemon.send_signal(signal.SIGHUP)
    assert wait_for(lambda: "generation=1" in bench.a.log_text())
    assert issued_by(bench.a.enroll_cert(csr("after", new_key())), load_cert(bench, "ca/issuing-2.pem"))


# --- refusals -----------------------------------------------------------------------------------

def hup_is_refused(bench, change, *because):
    good = bench.a.config_path.read_text()
    refused = bench.a.log_text().count("reload-refused")
    bench.configure(change)
    bench.a.daemon.send_signal(signal.SIGHUP)
    assert wait_for(lambda: bench.a.log_text().count("reload-refused") > refused)
    line = [row for row in bench.a.log_text().splitlines() if "reload-refused" in row][-1]
    for words in because:
        assert words in line, line
    bench.a.config_path.write_text(good)
    bench.a.config = json.loads(good)


def test_a_reload_to_a_key_that_cannot_sign_changes_nothing(serving):
    bench, old = serving, load_cert(serving, "ca/issuing.pem")
    load = Load(bench.a, 2)
    hup_is_refused(bench, lambda c: c["cas"][0].update(key="pkcs11:object=missing"), "key-not-found",
                   "object=missing", "nothing was changed")
    bench("key", "generate", "--label", "another", "--type", "p256")
    hup_is_refused(bench, lambda c: c["cas"][0].update(key="pkcs11:object=another"), "not the key that the certificate")
    run(["pkcs11-tool", "--module", SOFTHSM_MODULE, "--token-label", "certmill", "--login", "--pin",
         (bench.dir / "pin").read_text(), "--keypairgen", "--key-type", "EC:prime256v1", "--label", "leaky", "--id",
         "77", "--extractable"], env=bench.a.env)
    hup_is_refused(bench, lambda c: c["cas"][0].update(key="pkcs11:object=leaky"), "CKA_EXTRACTABLE")
    assert set(published(bench)) == {old, load_cert(bench, "ca/root.pem")}
    assert all(issued_by(c, old) for c in load.stop())
    assert issued_by(bench.a.enroll_cert(csr("still", new_key())), old)


def test_a_configuration_that_certmilld_refuses_is_put_back(serving):
    bench = serving
    bench.configure(lambda c: c.update(cores=1 if c["cores"] != 1 else 2))  # takes a restart
    before = bench.a.config_path.read_text()
    error = bench("ca", "rollover", "--ca", "issuing", code=1)
    assert "cores" in error and "as it was" in error
    assert bench.a.config_path.read_text() == before and "issuing-2" in (bench.dir / "certmill.yaml.old").read_text()
    assert issued_by(bench.a.enroll_cert(csr("still", new_key())), load_cert(bench, "ca/issuing.pem"))
    # mended, the same command goes on with the key and the files that are there
    bench.a.stop()
    bench.a.start()
    assert not bench.json("ca", "rollover", "--ca", "issuing")["key_made"]
    assert issued_by(bench.a.enroll_cert(csr("now", new_key())), load_cert(bench, "ca/issuing-2.pem"))


@pytest.mark.parametrize("change, because", [
    (dict(previous=["ca/issuing-2-new-with-old.pem"], new_with_old=None), "signs with now"),
    (dict(previous=["ca/issuing-2.pem"]), "no other file has"),
    (dict(previous=[]), "previous"),
    (dict(previous=["ca/root.pem"]), "no other file has"),
    (dict(previous=["tls/server.pem"]), "not a CA's"),
    (dict(previous=["ca/nothing.pem"]), "nothing.pem"),
    (dict(old_with_new="ca/issuing-2-new-with-old.pem", new_with_old="ca/issuing-2-old-with-new.pem"), "old_with_new"),
    (dict(new_with_old="ca/issuing.pem"), "no other file has"),
    (dict(new_with_old="ca/stations.pem"), "new_with_old does not certify")])
def test_links_that_do_not_fit_are_refused(bench, change, because):
    bench(*CA_INIT)
    bench("ca", "rollover", "--ca", "issuing")
    bench.a.config = json.loads(bench.a.config_path.read_text())
    check = [certmill.BIN / "certmilld", "--config", bench.a.config_path, "--check"]
    run(check)
    bench.configure(lambda c: c.update(cas=[{k: v for k, v in {**c["cas"][0], **change}.items() if v is not None}]))
    done = run(check, check=False)
    assert done.returncode == 1 and because in done.stderr.decode(), done.stderr


def test_reload_over_the_admin_socket_alone(serving):
    """The port is for monitoring; the socket, mode 0600, for the appliance's own user."""
    a = serving.a
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{a.admin_port}/reload", data=b"", timeout=5)
    assert refused.value.code == 403 and "reloaded" not in a.log_text()
    path = a.dir / "run/admin.sock"
    assert path.stat().st_mode & 0o777 == 0o600

    def post(what):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(f"POST {what} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            status, _, body = certmill.read_response(sock.makefile("rb"))
            return status, body
    assert post("/status")[0] == 404
    status, body = post("/reload")
    assert status == 200 and json.loads(body) == {"reloaded": True, "generation": 1, "error": None}
    a.config_path.write_text(a.config_path.read_text().replace("ca/issuing.pem", 'ca/\\"none\\".pem'))
    status, body = post("/reload")
    answer = json.loads(body)
    assert status == 409 and not answer["reloaded"] and answer["generation"] == 1 and 'ca/"none".pem' in answer["error"]


def test_rollover_refuses_what_cannot_be_done(bench):
    bench(*CA_INIT)
    text = bench.a.config_path.read_text()
    rollover = ("ca", "rollover", "--ca", "issuing")
    assert "signs or signed with" in bench(*rollover, "--key", "issuing", code=1)
    assert "EC P-256" in bench(*rollover, "--key", "issuing-root", "--key-type", "p384", code=1)
    bench(*rollover, "--key", "", code=1)
    bench(*rollover, "--key-type", "rsa2048", code=2)
    bench(*rollover, "--subject", "nonsense", code=2)
    bench(*rollover, "--csr", "x.pem", "--years", "3", code=2)
    bench("ca", "import", "--ca", "issuing", "--certificate", "x.pem", "--no-reload", code=2)
    assert "is no token" in bench(*rollover, "--root-token", "nowhere", code=1).replace("there is no", "is no")
    assert bench.a.config_path.read_text() == text and set(bench.private_keys()) == {"issuing", "issuing-root"}
    assert not [p for p in (bench.dir / "ca").iterdir() if "-2" in p.name]


def test_rollover_needs_the_root_or_a_request(bench):
    bench(*CA_INIT, "--offline-root")
    error = bench("ca", "rollover", "--ca", "issuing", code=1)
    assert "--root-token" in error and "--csr" in error
    assert set(bench.private_keys()) == {"issuing"}


def test_an_import_for_another_key_is_refused(bench):
    bench(*CA_INIT)
    outside_root(bench)
    text = bench.a.config_path.read_text()
    take = ("ca", "import", "--rollover", "--ca", "issuing", "--certificate")
    assert "signs with already" in bench(*take, bench.dir / "ca/issuing.pem", code=1)
    bench.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "o.key",
                  "-out", "o.csr", "-subj", "/O=Example/CN=Issuing CA")
    sign(bench, "o.csr", "o.pem")
    assert "no key in token" in bench(*take, bench.dir / "o.pem", "--chain", bench.dir / "outside.pem", code=1)
    bench("ca", "rollover", "--ca", "issuing", "--csr", bench.dir / "new.csr")
    sign(bench, "new.csr", "new.pem")
    assert "root" in bench(*take, bench.dir / "new.pem", code=1), "its root is not among them"
    assert bench.a.config_path.read_text() == text
    # under another root than before: both are published
    bench(*take, bench.dir / "new.pem", "--chain", bench.dir / "outside.pem")
    bench.a.start()
    assert {load_cert(bench, "ca/root.pem"), load_cert(bench, "outside.pem")} < set(published(bench))
    _, cert = device(bench, "after")
    bench.openssl("verify", "-CAfile", "outside.pem", "-untrusted", "ca/issuing-2.pem",
                  write(bench, "d", cert))


BLOCK = """\
# our CA
cas:
  - name: issuing        # the only one
    key: {key}
    certificate: ca/issuing.pem   # \u00e9
    chain:
    - ca/root.pem
# the end
"""


def block_style(bench, key):
    """The same configuration as an operator writes it."""
    rest = "".join(f"{k}: {json.dumps(v)}\n" for k, v in bench.a.config.items() if k != "cas")
    bench.a.config_path.write_text(rest + BLOCK.format(key=key))
    return rest


def test_comments_and_order_of_a_configuration_are_kept(bench):
    bench(*CA_INIT)
    rest = block_style(bench, "pkcs11:object=issuing")
    bench("ca", "rollover", "--ca", "issuing")
    after = bench.a.config_path.read_text()
    assert after.startswith(rest + "# our CA\ncas:\n  - name: issuing        # the only one\n")
    assert "    key: pkcs11:object=issuing-2\n    certificate: ca/issuing-2.pem   # \u00e9\n" in after
    assert after.endswith("    chain:\n    - ca/root.pem\n# the end\n")


def test_a_configuration_that_cannot_be_edited_says_what_to_change(bench):
    bench(*CA_INIT)
    block_style(bench, "|-\n      pkcs11:object=issuing")
    before = bench.a.config_path.read_text()
    done = run([certmill.BIN / "certmill", "-c", bench.a.config_path, "ca", "rollover", "--ca", "issuing"],
               check=False, env=bench.a.env)
    assert done.returncode == 1 and b"cannot be changed safely" in done.stderr
    entries = done.stdout.decode()
    assert "    key: pkcs11:object=issuing-2\n    certificate: ca/issuing-2.pem\n" in entries
    assert bench.a.config_path.read_text() == before
    by_hand = before.replace("    key: |-\n      pkcs11:object=issuing\n    certificate: ca/issuing.pem", entries.rstrip())
    bench.a.config_path.write_text(by_hand)
    bench.a.start()
    assert load_cert(bench, "ca/issuing-2.pem") in published(bench)
