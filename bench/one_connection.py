#!/usr/bin/env python3
"""One connection, large batches: does one client keep both processors busy?

Bulk enrollment over CMP, 1000 certificates a message, signed, null token, four messages under way on
one connection. In turn: the appliance (its signers too) held on one processor, the generator on
another; and the appliance with two cores on two processors that it shares with the generator. A pair
of runs from which the host took more than a fiftieth of the processors' time is shown and made again.

usage: bench/one_connection.py [ROUNDS [REQUESTS]]     (3, 40000; CERTMILL_BIN: the build's bin)
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/lib"))
import certmill as cm  # noqa: E402
import cmp_lab  # noqa: E402

STOLEN_MAX = 0.02
TRIES = 4  # pairs of runs for a round


def processes(pid):
    """The process and all that it started."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in open(f"/proc/{pid}/task/{task}/children").read().split():
            found += processes(int(child))
    return found


def hold_on(processor, pid):
    for process in processes(pid):
        for task in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(task), {processor})


def processor_time():
    """(at work, all, stolen by other machines), of all processors."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    return user + nice + system + irq + softirq, user + nice + system + idle + iowait + irq + softirq + steal, steal


def measure(cores, requests):
    alone = cores == 1
    with cmp_lab.CmpLab(token="null", cores=cores, config=lambda c: c["log"].update(level="warn")) as lab:
        pid = lab.daemon.pid
        if alone:
            hold_on(0, pid)
        command = [cm.BIN / "certmill-bench", "cmp", "--port", lab.http_port, "--path", "/.well-known/cmp/p/line1",
                   "--issuer", lab.dir / "ca/issuing.pem", "--cert", lab.ra[0], "--key", lab.ra[1], "--trust", lab.trust,
                   "--per-message", 1000, "--connections", 1, "--pipeline", 4, "--requests", requests,
                   "--server-pid", pid, "--quiet", "--json", "-"]
        bench = subprocess.Popen([str(part) for part in command], env=lab.env, stdout=subprocess.PIPE, text=True,
                                 preexec_fn=(lambda: os.sched_setaffinity(0, {1})) if alone else None)
        while lab.metric("requests_total") < 2 and bench.poll() is None:
            time.sleep(0.05)
        before = processor_time()
        while lab.metric("certificates_issued_total") < 0.9 * requests and bench.poll() is None:
            time.sleep(0.1)
        after = processor_time()
        figures = json.loads(bench.communicate(timeout=120)[0])
        if bench.returncode != 0:
            sys.exit("one_connection.py: not every certificate was issued and checked")
    passed = after[1] - before[1]
    return {"rate": figures["rate"], "server_us": figures["server_cpu_us"], "generator_us": figures["generator_cpu_us"],
            "busy": (after[0] - before[0]) / passed, "stolen": (after[2] - before[2]) / passed}


def pair(requests):
    runs = []
    for cores in (1, 2):
        run = measure(cores, requests)
        print(f"{cores:5} {run['rate']:10.0f} {run['server_us']:10.1f} {run['generator_us']:13.1f} "
              f"{run['busy']:14.2f} {run['stolen']:7.2f}", flush=True)
        runs.append(run)
    return runs


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 40000
    if os.cpu_count() != 2:
        sys.exit("one_connection.py: made for two processors (taskset does not count)")
    ratios, busy, repeated = [], [], 0
    print("cores     rate/s  server us  generator us   busy of both  stolen")
    while len(ratios) < rounds and repeated < TRIES * rounds:
        one, two = pair(requests)
        if max(one["stolen"], two["stolen"]) > STOLEN_MAX:
            repeated += 1
            continue
        ratios.append(two["rate"] / one["rate"])
        busy.append(two["busy"])
    if not ratios:
        sys.exit("one_connection.py: the host has other work: try again later")
    print(f"two cores over one: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), target 1.6; "
          f"both busy: {statistics.median(busy):.2f} ({min(busy):.2f} to {max(busy):.2f}), target 0.90; "
          f"{len(ratios)} pairs, {repeated} disturbed")


if __name__ == "__main__":
    main()
