"""Does certmill bulk get a certificate for every request, once, whatever happens on the way?"""
import base64
import json
import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import certmill as cm
import cmp_lab
import pytest
from cmp_lab import CmpLab, certificates, results, write_csrs

COUNT = 300 if cm.SANITIZED else 2000


@pytest.fixture(scope="module")
def lab():
    with CmpLab(token="null") as lab:
        yield lab


def arguments(lab, out, *more, url=None):
    return [str(a) for a in (cm.BIN / "certmill", "--json", "bulk", "--url", url or lab.url(), "--out", out, *more)]


def bulk(lab, out, *more, url=None, status=0):
    """Runs it to its end; its report."""
    done = cm.run(arguments(lab, out, *more, url=url), check=False, timeout=240)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr.decode()


def names(prefix, count=20):
    return [f"{prefix}-{i:05}" for i in range(count)]


def requests(tmp_path, prefix, count=20):
    path = tmp_path / f"{prefix}.ndjson"
    write_csrs(path, names(prefix, count))
    return path


def make_kur(lab, path, count, *more):
    cm.run([cm.BIN / "certmill-bench", "make-kur", "--requests", count, "--out", path, "--port", lab.http_port, "--path",
            "/.well-known/cmp/p/line1", "--issuer", lab.dir / "ca/issuing.pem", "--quiet", *lab.signed(), *more])


@pytest.mark.parametrize("mode", [["--mode", "nested"], ["--mode", "multi"], ["--mode", "multi", "--body", "cr"],
                                  ["--mode", "single"], ["--mode", "nested", "--confirm"],
                                  ["--mode", "multi", "--confirm"], ["--mode", "single", "--confirm"],
                                  ["--batch", "1"], ["--batch", "7", "--responses"]])
def test_modes_signed(lab, tmp_path, mode):
    prefix = "signed" + "".join(mode).replace("-", "")
    report = bulk(lab, tmp_path / "out", *mode, *lab.signed(), requests(tmp_path, prefix))
    assert report["issued"] == 20 and report["failed_in_all"] == 0
    certs = certificates(tmp_path / "out")
    assert sorted(certs) == names(prefix)
    for line in results(tmp_path / "out"):
        pem = (tmp_path / "out/certs" / line["file"]).read_bytes()
        assert cm.x509.load_pem_x509_certificate(pem) == certs[line["id"]]
        assert ("response" in line) == ("--responses" in mode)


@pytest.mark.parametrize("mode", [["--mode", "single"], ["--mode", "multi"], ["--mode", "multi", "--mac", "pbmac1"],
                                  ["--mode", "multi", "--confirm"]])
def test_modes_maced(lab, tmp_path, mode):
    prefix = "maced" + "".join(mode).replace("-", "")
    assert bulk(lab, tmp_path / "o.ndjson", *mode, *lab.maced(), requests(tmp_path, prefix))["issued"] == 20
    assert len((tmp_path / "o.ndjson").read_text().splitlines()) == 20 and not (tmp_path / "certs").exists()


def test_over_tls(lab, tmp_path):
    args = lab.signed() + ["--cacert", lab.dir / "tls/ca.pem"]
    assert bulk(lab, tmp_path / "out", *args, requests(tmp_path, "tls"), url=lab.url(tls=True))["issued"] == 20
    said = bulk(lab, tmp_path / "other", *lab.signed(), "--cacert", lab.trust, requests(tmp_path, "tls-other"),
                url=lab.url(tls=True), status=1)
    assert said["issued"] == 0 and "TLS" in said["stopped_by"]["text"]


def test_every_form_of_input(lab, tmp_path):
    csrs = {n: cm.csr(n, cm.new_key()) for n in names("form", 8)}
    der = list(csrs.values())
    pem = [b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(d) + b"-----END CERTIFICATE REQUEST-----\n"
           for d in der]
    (tmp_path / "in/deeper").mkdir(parents=True)
    (tmp_path / "in/one.der").write_bytes(der[0])
    (tmp_path / "in/deeper/two.der").write_bytes(der[1] + der[2])
    (tmp_path / "in/three.pem").write_bytes(b"text before\n" + pem[3] + b"\n" + pem[4])
    (tmp_path / "in/lines").write_text("\n" + json.dumps({"csr": pem[5].decode(), "id": "named"}) + "\n" +
                                       json.dumps({"csr": base64.b64encode(der[6]).decode()}) + "\n")
    (tmp_path / "in/.hidden").write_bytes(b"nothing")
    (tmp_path / "again.der").write_bytes(der[7] + der[0])
    report = bulk(lab, tmp_path / "out", *lab.signed(), tmp_path / "in", tmp_path / "again.der")
    assert report["issued"] == 8 and report["read"] == 9 and report["failed_in_all"] == 0
    certs = certificates(tmp_path / "out")
    subjects = {c.subject.rfc4514_string()[3:] for c in certs.values()}
    assert subjects == set(csrs) and {"one.der", "named", "three.pem:2"} <= set(certs)


def test_what_is_no_request_is_reported(lab, tmp_path):
    good = base64.b64encode(cm.csr("broken-good", cm.new_key())).decode()
    (tmp_path / "in.ndjson").write_text("\n".join([
        json.dumps({"id": "a", "csr": good}), "{", json.dumps({"id": "b", "csr": "AAAA"}),
        json.dumps({"id": "c"}), json.dumps({"id": "d", "csr": "not base64!"}), json.dumps({"id": "e", "cmp": base64.b64encode(cm.csr("other", cm.new_key())).decode()})]))
    report = bulk(lab, tmp_path / "out", *lab.signed(), tmp_path / "in.ndjson", status=1)
    assert report["issued"] == 1 and report["refused"] == 5
    assert {r["fail"] for r in report["reasons"]} == {"input"}
    failed = [json.loads(line)["id"] for line in open(tmp_path / "out/failures.ndjson")]
    assert set(failed) == {"in.ndjson:2", "b", "c", "d", "e"}


def test_refusals_are_grouped(lab, tmp_path):
    """A device that has a certificate for another key is refused, and not asked for again."""
    assert bulk(lab, tmp_path / "one", *lab.signed(), requests(tmp_path, "again", 10))["issued"] == 10
    second = tmp_path / "second.ndjson"
    write_csrs(second, names("again", 10) + names("fresh", 5))
    report = bulk(lab, tmp_path / "two", *lab.signed(), second, status=1)
    assert report["issued"] == 5 and report["refused"] == 10
    [reason] = report["reasons"]
    assert (reason["fail"], reason["code"], reason["count"]) == ("notAuthorized", "device-already-provisioned", 10)
    report = bulk(lab, tmp_path / "two", *lab.signed(), second, status=1)
    assert report["done_before"] == 15 and report["failed_in_all"] == 10
    assert report["reasons"][0]["count"] == 10
    report = bulk(lab, tmp_path / "two", *lab.signed(), "--retry-refused", second, status=1)
    assert report["done_before"] == 5 and report["refused"] == 10 and report["reasons"][0]["count"] == 10


def test_failures_can_be_fed_in_again(lab, tmp_path):
    """Asked for by one who may not, then by one who may."""
    nobody = ["--cert", lab.dir / "cmp/nobody.pem", "--key", lab.dir / "cmp/nobody.key", "--trust", lab.trust]
    report = bulk(lab, tmp_path / "one", *nobody, requests(tmp_path, "fed"), status=1)
    assert report["issued"] == 0 and report["refused"] == 20 and report["reasons"][0]["count"] == 20
    failures = tmp_path / "one/failures.ndjson"
    assert len(failures.read_text().splitlines()) == 20
    report = bulk(lab, tmp_path / "two", *lab.signed(), failures)
    assert report["read"] == report["issued"] == 20 and not (tmp_path / "two/failures.ndjson").exists()
    assert sorted(certificates(tmp_path / "two")) == names("fed")


def test_a_wrong_proof_is_found_here(lab, tmp_path):
    """An authority that vouches (raVerified) must have looked."""
    der = bytearray(cm.csr("bad-pop", cm.new_key()))
    der[-3] ^= 1
    (tmp_path / "bad.der").write_bytes(der)
    report = bulk(lab, tmp_path / "out", "--mode", "multi", *lab.signed(), tmp_path / "bad.der",
                  requests(tmp_path, "pop", 3), status=1)
    assert report["issued"] == 3 and report["reasons"][0]["fail"] == "badPOP"
    report = bulk(lab, tmp_path / "out2", "--mode", "nested", *lab.signed(), tmp_path / "bad.der", status=1)
    assert report["reasons"][0]["fail"] == "badPOP"


def test_a_sender_that_is_refused_ends_it(lab, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the secret of it")
    wrong.chmod(0o600)
    for args in (["--ref", "station-mac", "--secret-file", wrong, "--trust", lab.trust, "--mode", "multi"],
                 lab.signed()[:4] + ["--trust", lab.dir / "tls/ca.pem"]):
        report = bulk(lab, tmp_path / f"out{len(args)}", *args, requests(tmp_path, f"sender{len(args)}"), status=1)
        assert report["issued"] == 0 and report["stopped_by"], report


def test_rekeying_through_nested_batches_killed_twice(lab, tmp_path):
    """Devices' own kur messages, batched by a gateway that is killed on the way: as many certificates as devices."""
    make_kur(lab, tmp_path / "kur.ndjson", COUNT)
    before = lab.metric("certificates_issued_total")
    args = arguments(lab, tmp_path / "out", *lab.signed(), "--batch", "50", "--connections", "2",
                     tmp_path / "kur.ndjson")
    for share in (0.2, 0.6):
        process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        journal = tmp_path / "out/results.ndjson"
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None and (
                not journal.exists() or journal.read_bytes().count(b"\n") < share * COUNT):
            time.sleep(0.002)
        assert process.poll() is None, "it was over before it could be killed"
        process.kill()
        process.wait()
    with open(journal, "ab") as torn:  # as a power cut would leave it
        torn.write(b'{"state":"issued","digest":"0011')
    report = bulk(lab, tmp_path / "out", *lab.signed(), "--batch", "50", "--connections", "2", tmp_path / "kur.ndjson")
    assert report["issued"] > 0 and report["done_before"] > 0
    assert report["issued_in_all"] == COUNT and report["failed_in_all"] == 0
    assert len(certificates(tmp_path / "out")) == COUNT
    assert sum(1 for _ in (tmp_path / "out/certs").glob("*/*.pem")) == COUNT
    assert lab.metric("certificates_issued_total") - before == COUNT, "each was issued once"


def test_interrupted_it_finishes_what_is_in_flight(lab, tmp_path):
    path = requests(tmp_path, "interrupted", COUNT // 2)
    args = arguments(lab, tmp_path / "out", *lab.signed(), "--batch", "5", "--connections", "1", path)
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not (tmp_path / "out/results.ndjson").exists():
        time.sleep(0.005)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    report = json.loads(out)
    assert process.returncode == 1 and report["interrupted"] and b"same command" in err
    assert len(results(tmp_path / "out")) == report["issued"]
    report = bulk(lab, tmp_path / "out", *lab.signed(), "--batch", "5", "--connections", "1", path)
    assert report["issued_in_all"] == COUNT // 2 == len(certificates(tmp_path / "out"))


def test_a_file_that_was_lost_is_written_again(lab, tmp_path):
    path = requests(tmp_path, "lost", 5)
    bulk(lab, tmp_path / "out", *lab.signed(), path)
    files = sorted((tmp_path / "out/certs").glob("*/*.pem"))
    files[0].unlink()
    files[1].write_bytes(b"")
    report = bulk(lab, tmp_path / "out", *lab.signed(), path)
    assert report["issued"] == 0 and report["done_before"] == 5
    assert all(cm.x509.load_pem_x509_certificate(f.read_bytes()) for f in files)


def test_one_output_is_of_one_run(lab, tmp_path):
    path = requests(tmp_path, "settings", 3)
    bulk(lab, tmp_path / "out", *lab.signed(), path)
    done = cm.run(arguments(lab, tmp_path / "out", "--mode", "multi", *lab.signed(), path), check=False)
    assert done.returncode == 1 and b"begun with" in done.stderr
    (tmp_path / "no-journal.ndjson").write_text("something of mine\n")
    done = cm.run(arguments(lab, tmp_path / "no-journal.ndjson", *lab.signed(), path), check=False)
    assert done.returncode == 1 and (tmp_path / "no-journal.ndjson").read_text() == "something of mine\n"


@pytest.mark.parametrize("args", [[], ["--cert", "x"], ["--ref", "a"], ["--mode", "other"], ["--batch", "0"],
                                  ["--batch", "1025"], ["--body", "ir"], ["--mac", "x"]])
def test_wrong_use(lab, tmp_path, args):
    done = cm.run(arguments(lab, tmp_path / "out", *args, tmp_path), check=False)
    assert done.returncode == 2 and not (tmp_path / "out").exists()


class Broken(BaseHTTPRequestHandler):
    """A server that answers as it is told, then passes on to the appliance."""
    protocol_version = "HTTP/1.1"
    plan = []

    def do_POST(self):
        import http.client
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = self.plan.pop(0) if self.plan else None
        if act == "close":
            self.close_connection = True
            return
        status, headers, answer = 503, {"Retry-After": "1"}, b"busy"
        if act != "busy":
            connection = http.client.HTTPConnection("127.0.0.1", self.server.behind)
            connection.request("POST", self.path, body, {"Content-Type": "application/pkixcmp"})
            reply = connection.getresponse()
            status, headers, answer = reply.status, {}, reply.read()
        if act == "garbage":
            answer = b"\x30\x03\x02\x01\x00"
        if act == "other":  # a protected byte is not what was signed
            answer = answer[:400] + bytes([answer[400] ^ 1]) + answer[401:]
        if act == "lost":  # done, and nobody hears of it
            self.close_connection = True
            return
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if act == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(0, len(answer), 1000):
                self.wfile.write(b"%x\r\n" % len(answer[i:i + 1000]) + answer[i:i + 1000] + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("plan", [["busy"], ["close", "close"], ["garbage"], ["other"], ["lost"], ["chunked"],
                                  ["busy", "lost", "other"]])
def test_a_bad_network_costs_nothing_but_time(lab, tmp_path, plan):
    Broken.plan = list(plan)
    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        server.behind = lab.http_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            before = lab.metric("certificates_issued_total")
            url = f"http://127.0.0.1:{server.server_address[1]}/.well-known/cmp/p/line1"
            report = bulk(lab, tmp_path / "out", *lab.signed(), "--batch", "10", "--connections", "1",
                          requests(tmp_path, "net" + "".join(plan)), url=url)
        finally:
            server.shutdown()
            thread.join()
    assert report["issued"] == 20 and len(certificates(tmp_path / "out")) == 20
    assert lab.metric("certificates_issued_total") - before == 20


def test_no_server_ends_it_in_time(lab, tmp_path):
    port = cm.free_port()
    report = bulk(lab, tmp_path / "out", *lab.signed(), "--give-up", "1", requests(tmp_path, "none"),
                  url=f"http://127.0.0.1:{port}/", status=1)
    assert report["issued"] == 0 and report["unanswered"] == 20 and "refused" in report["stopped_by"]["text"]


def test_memory_is_bounded_by_what_is_in_flight(lab, tmp_path):
    """A long input that was done before: read through, not held."""
    path = requests(tmp_path, "long", 50)
    bulk(lab, tmp_path / "out", *lab.signed(), path)
    lines = path.read_text()
    with open(tmp_path / "long-input.ndjson", "w") as out:
        for _ in range(1000):
            out.write(lines)
    assert os.path.getsize(tmp_path / "long-input.ndjson") > 15_000_000
    process = subprocess.Popen(arguments(lab, tmp_path / "out", *lab.signed(), tmp_path / "long-input.ndjson"),
                               stdout=subprocess.PIPE)
    out = process.stdout.read()
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    assert json.loads(out)["done_before"] == 50_000
    assert cm.SANITIZED or usage.ru_maxrss < 64 * 1024
