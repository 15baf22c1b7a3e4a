"""create -> first exec answered, one after the other, with and without a pool of slots.

POST of a sandbox, then POST of an exec of `true` in it, from the first byte sent to the last
received, on a kept connection. Arrivals are as far apart as deleting the one before and running the
peers takes, so the pool is full again; "no pool" is a daemon with pool.slots=0. Peers do the same
work in the same round: `runc run` and `bwrap --unshare-all` of `true` in the same root file system.
"""

import json
import os
import subprocess

from measure import Client, Samples, Skip, image_rootfs, kit, spawn, timed


def bundle(where):
    """An OCI bundle around devbox:1, for runc."""
    if not os.path.isdir(where):
        os.mkdir(where)
        subprocess.run(["runc", "spec"], cwd=where, check=True)
    path = os.path.join(where, "config.json")
    with open(path) as f:
        spec = json.load(f)
    spec["process"]["args"], spec["process"]["terminal"] = ["true"], False
    spec["root"] = {"path": image_rootfs(), "readonly": True}
    with open(path, "w") as f:
        json.dump(spec, f)
    return where


def bwrap_argv():
    return ["bwrap", "--unshare-all", "--ro-bind", image_rootfs(), "/", "--proc", "/proc",
            "--dev", "/dev", "true"]


def works(argv):
    return subprocess.run(argv, capture_output=True).returncode == 0


def peers_of(b):
    """{name: f(round)}, of those that run on this machine."""
    found = {}
    where = bundle(os.path.join(b.dir, "bundle"))
    runc = ["runc", "run", "--bundle", where]
    bwrap = bwrap_argv()
    if works(runc + [f"weir-bench-{os.getpid()}-try"]):
        found["runc run"] = lambda i: spawn(runc + [f"weir-bench-{os.getpid()}-{i}"])
    if works(bwrap):
        found["bwrap"] = lambda i: spawn(bwrap)
    return found


def sequence(d, rounds, peers):
    client = Client(d)
    ours, theirs = [], {name: [] for name in peers}

    def one():
        nonlocal box
        box = client.create()
        client.post(f"/v1/sandboxes/{box}/exec", {"cmd": "true"})

    box = None
    for i in range(rounds + 3):
        ms = timed(one)
        client.delete(box)
        for name, f in peers.items():
            theirs[name].append(timed(lambda: f(i)))
        if i >= 3:  # the first ones fill caches
            ours.append(ms)
    client.close()
    return Samples(ours), [(name, Samples(ms[3:])) for name, ms in theirs.items()]


def run(b):
    peers = peers_of(b)
    if not peers:
        raise Skip("neither runc nor bwrap runs on this machine")
    for what, slots, aim, short in (("create -> first exec, pooled", "16", 5, "create"),
                                    ("create -> first exec, no pool", "0", 25, None)):
        with kit.Daemon({"pool.slots": slots}) as d:
            ours, theirs = sequence(d, b.rounds, peers)
        b.add("create", what, ours, theirs, aim=aim, short=short)
