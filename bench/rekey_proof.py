#!/usr/bin/env python3
"""Re-keys many devices through nested batches with certmill bulk, kills it twice on the way, and counts.

Not part of the test suite: 200,000 devices take some minutes. The devices get a first certificate, make a kur message
each (certmill-bench make-kur), and a gateway sends them 100 to a batch. The proof: as many certificates in the journal as
devices, all serials and keys different, as many files, and the appliance issued exactly as many.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/lib"))
import certmill as cm  # noqa: E402
import cmp_lab  # noqa: E402


def run_until(args, journal, lines):
    """Kills it once the journal has so many lines; returns its seconds."""
    start = time.monotonic()
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen, offset = 0, 0
    while seen < lines:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
        if journal.exists():
            with open(journal, "rb") as file:
                file.seek(offset)
                more = file.read()
            seen, offset = seen + more.count(b"\n"), offset + len(more)
    process.kill()
    process.wait()
    return time.monotonic() - start, seen


def count_results(folder):
    ids, serials, certs = set(), set(), set()
    with open(folder / "results.ndjson") as lines:
        for line in lines:
            record = json.loads(line)
            assert record["state"] == "issued", record
            for have, new in ((ids, record["id"]), (serials, record["serial"]), (certs, hash(record["cert"]))):
                assert new not in have, record
                have.add(new)
    return len(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--token", choices=["sim", "softhsm"], default="sim")
    parser.add_argument("--cores", type=int, default=2)
    o = parser.parse_args()
    with cmp_lab.CmpLab(token=o.token, cores=o.cores,
                        config=lambda c: c["store"].update(map_size=16 << 30)) as lab:
        start = time.monotonic()
        kur = lab.dir / "kur.ndjson"
        cm.run([cm.BIN / "certmill-bench", "make-kur", "--requests", o.devices, "--out", kur, "--port", lab.http_port,
                "--path", "/.well-known/cmp/p/line1", "--issuer", lab.dir / "ca/issuing.pem", "--quiet",
                *lab.signed()], timeout=3600, env=lab.env)
        print(f"{o.devices} devices with a first certificate, and their kur messages ({kur.stat().st_size >> 20} MiB): "
              f"{time.monotonic() - start:.0f} s", flush=True)
        before = lab.metric("certificates_issued_total")
        out = lab.dir / "rekey"
        args = [str(a) for a in (cm.BIN / "certmill", "--json", "bulk", "--url", lab.url(), "--out", out, "--batch",
                                 o.batch, "--connections", o.connections, *lab.signed(), kur)]
        seconds = 0
        for share in (0.3, 0.65):
            took, seen = run_until(args, out / "results.ndjson", int(share * o.devices))
            seconds += took
            print(f"killed after {took:.1f} s, {seen} lines in the journal", flush=True)
        done = cm.run(args, timeout=3600)
        report = json.loads(done.stdout)
        seconds += report["seconds"]
        issued = lab.metric("certificates_issued_total") - before
        files = sum(len(names) for _, _, names in os.walk(out / "certs"))
        journal = count_results(out)
        print(f"the last run: {report['issued']} issued at {report['rate']:.0f}/s, {report['done_before']} done before")
        print(f"journal {journal}, files {files}, issued by the appliance {issued:.0f}, failed {report['failed_in_all']}")
        print(f"over all runs {o.devices / seconds:.0f} certificates/s, with two kills and three starts")
        assert journal == files == issued == report["issued_in_all"] == o.devices and report["failed_in_all"] == 0
        print("exactly as many certificates as devices")


if __name__ == "__main__":
    main()
