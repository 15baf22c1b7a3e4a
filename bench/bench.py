"""make bench: Weir against its named peers, in one run on one machine.

Prints a table and writes build/bench.json. Each figure is a median (p50) and a 99th percentile
over N rounds; a peer does the same work in the same run, interleaved with ours so that a busy
moment hits both. bench/README.md says how each figure is made. Needs root.

Usage: bench.py [--rounds N] [name ...]
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402

SHAPE = "s-1vcpu-256mb"


class Client:
    """One kept connection; raises on anything but success."""

    def __init__(self, d):
        self.key = d.key
        self.c = http.client.HTTPConnection(d.url.split("//")[1], timeout=60)

    def __call__(self, method, path, body=None):
        raw = None if body is None else json.dumps(body)
        self.c.request(method, path, raw, {"X-Api-Key": self.key})
        reply = self.c.getresponse()
        text = reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {text[:300]}")
        return json.loads(text)["data"]


def timed(f, *args):
    start = time.perf_counter()
    value = f(*args)
    return (time.perf_counter() - start) * 1000, value


def summary(samples):
    s = sorted(samples)
    return {"p50_ms": round(statistics.median(s), 3),
            "p99_ms": round(s[min(len(s) - 1, int(len(s) * 0.99))], 3), "n": len(s)}


class Bench:
    def __init__(self, d, rounds):
        self.d, self.rounds = d, rounds
        self.api = Client(d)
        self.rows = []

    def row(self, what, ours, peer=None, peer_name=None):
        r = {"what": what, "weir": ours}
        if peer:
            r["peer"], r["peer_name"] = peer, peer_name
            r["ratio"] = round(ours["p50_ms"] / peer["p50_ms"], 3)
        self.rows.append(r)
        print(f"{what:38} {ours['p50_ms']:>9.2f} {ours['p99_ms']:>9.2f}"
              + (f" {peer['p50_ms']:>9.2f}  {r['ratio']:>7.2f}  {peer_name}" if peer else ""),
              flush=True)

    def create(self):
        return self.api("POST", "/v1/sandboxes", {"shape": SHAPE})["id"]

    def create_exec(self):
        box = self.create()
        self.api("POST", f"/v1/sandboxes/{box}/exec", {"cmd": "true"})
        return box

    def bundle(self, where):
        """An OCI bundle around the same root file system, for runc."""
        rootfs = os.path.realpath(os.path.join(kit.image_dir(), "names", "devbox:1", "rootfs"))
        subprocess.run(["runc", "spec"], cwd=where, check=True)
        path = os.path.join(where, "config.json")
        with open(path) as f:
            spec = json.load(f)
        spec["process"]["args"], spec["process"]["terminal"] = ["true"], False
        spec["root"] = {"path": rootfs, "readonly": True}
        with open(path, "w") as f:
            json.dump(spec, f)
        return rootfs

    def bench_create(self):
        """create -> first exec answered, one after the other, against runc run and bwrap."""
        where = tempfile.mkdtemp(prefix="weir-bench-")
        ours, runc, bwrap = [], [], []
        try:
            rootfs = self.bundle(where)
            for i in range(self.rounds):
                ms, box = timed(self.create_exec)
                ours.append(ms)
                self.api("DELETE", f"/v1/sandboxes/{box}")
                run = subprocess.run
                ms, done = timed(lambda: run(["runc", "run", f"weir-bench-{os.getpid()}-{i}"],
                                             cwd=where, capture_output=True))
                if done.returncode == 0:
                    runc.append(ms)
                ms, done = timed(lambda: run(
                    ["bwrap", "--unshare-all", "--ro-bind", rootfs, "/", "--proc", "/proc",
                     "--dev", "/dev", "true"], capture_output=True))
                if done.returncode == 0:
                    bwrap.append(ms)
                time.sleep(0.05)  # a pool refills between arrivals; bursts are measured apart
        finally:
            shutil.rmtree(where)
        for name, peer in (("runc run", runc), ("bwrap", bwrap)):
            if peer:
                self.row("create -> first exec", summary(ours), summary(peer), name)
            else:
                print(f"{'create -> first exec':38} {name} does not run on this machine")
        if not runc and not bwrap:
            self.row("create -> first exec", summary(ours))

    def bench_burst(self):
        """100 creates at once, each answering an exec: time until the last one has."""
        n, boxes, failed = 100, [], []

        def one():
            api = Client(self.d)
            try:
                box = api("POST", "/v1/sandboxes", {"shape": SHAPE})["id"]
                boxes.append(box)
                api("POST", f"/v1/sandboxes/{box}/exec", {"cmd": "true"})
            except Exception as e:  # noqa: BLE001 - counted and shown
                failed.append(str(e))

        threads = [threading.Thread(target=one) for _ in range(n)]
        start = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        ms = (time.perf_counter() - start) * 1000
        for box in boxes:
            self.api("DELETE", f"/v1/sandboxes/{box}")
        self.row(f"burst of {n} creates + exec ({len(failed)} failed)",
                 {"p50_ms": round(ms, 1), "p99_ms": round(ms, 1), "n": 1, "failed": len(failed)})

    def bench_exec(self):
        """exec of true through the API, on a kept connection."""
        box = self.create()
        try:
            path = f"/v1/sandboxes/{box}/exec"
            ours = [timed(self.api, "POST", path, {"cmd": "true"})[0]
                    for _ in range(self.rounds * 5)]
            self.row("exec true", summary(ours))
        finally:
            self.api("DELETE", f"/v1/sandboxes/{box}")

    def bench_policy(self):
        """PUT of an egress list, answered when it is in the kernel; nft adds one element."""
        box = self.create()
        table = f"weirbench{os.getpid()}"
        nft = ["nft"]
        try:
            subprocess.run(nft + [f"add table inet {table}; add set inet {table} s "
                                  "{ type ipv4_addr . inet_service; }"], check=True)
            for count in (1, 64, 256):
                ours, peer = [], []
                for i in range(self.rounds):
                    rules = [f"10.{i % 250}.{k}.0/24:{1000 + k}" for k in range(count)]
                    ours.append(timed(self.api, "PUT", f"/v1/sandboxes/{box}/egress",
                                      {"egress": rules})[0])
                    elements = ", ".join(f"10.{i % 250}.{k}.0 . {1000 + k}"
                                         for k in range(count))
                    peer.append(timed(lambda e=elements: subprocess.run(
                        nft + [f"flush set inet {table} s; add element inet {table} s "
                               f"{{ {e} }}"], check=True))[0])
                self.row(f"policy PUT, {count} rules", summary(ours), summary(peer), "nft")
        finally:
            subprocess.run(nft + [f"delete table inet {table}"], check=False)
            self.api("DELETE", f"/v1/sandboxes/{box}")

    def bench_memory(self):
        """PSS of the agent of idle sandboxes, and what the roles grew by per sandbox."""
        n, before = 50, sum(self.d.memory("Pss").values())
        boxes = [self.create() for _ in range(n)]
        grown = (sum(self.d.memory("Pss").values()) - before) / n
        for box in boxes:
            self.api("DELETE", f"/v1/sandboxes/{box}")
        print(f"{'memory per idle sandbox, roles (PSS)':38} {grown:>7.0f} KiB")
        self.rows.append({"what": "memory per idle sandbox, roles", "kib": round(grown, 1)})


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), "unknown processor")
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    kit.prepare()
    print(machine())
    print(f"{'what':38} {'p50 ms':>9} {'p99 ms':>9} {'peer p50':>9}  {'ratio':>7}  peer")
    with kit.Daemon({"pool.slots": "16"}) as d:
        b = Bench(d, args.rounds)
        for name in args.names or [n[6:] for n in dir(b) if n.startswith("bench_")]:
            getattr(b, "bench_" + name)()
    with open(os.path.join(kit.build_dir(), "bench.json"), "w") as f:
        json.dump({"machine": machine(), "rows": b.rows}, f, indent=1)


if __name__ == "__main__":
    main()
