"""Memory per idle sandbox, beyond its workload.

N idle sandboxes against none, per sandbox: what the roles grew by and the agents (proportional set
sizes), and what the kernel grew by (slab, stacks, page tables, per-CPU memory: /proc/meminfo before
and after, so nothing else may run meanwhile). The peer is `runc run` of a sleeping command under
conmon, one per container as an engine would run it: conmon's proportional set size and the same
kernel figures; the command itself is workload and not counted, and it has no network at all.
"""

import json
import os
import subprocess
import time

from create import bundle
from measure import Client, Failed, kit

N, PEERS = 100, 20
KERNEL = ("Slab", "KernelStack", "PageTables", "Percpu", "Shmem")


def kernel():
    with open("/proc/meminfo") as f:
        found = dict(line.split(":") for line in f)
    return {name: int(found[name].split()[0]) for name in KERNEL}


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def agents(d):
    found = [p for p in kit.descendants(d.process.pid)
             if kit.read(f"/proc/{p}/cmdline").startswith("weir-agent")]
    if len(found) != N:
        raise Failed(f"{len(found)} agents for {N} sandboxes")
    return found


def ours():
    with kit.Daemon({"pool.slots": "0"}) as d:
        client = Client(d)
        client.delete(client.create())
        roles, before = sum(d.memory("Pss").values()), kernel()
        for _ in range(N):
            client.create()
        after = kernel()
        found = {"roles": (sum(d.memory("Pss").values()) - roles) / N,
                 "agents": sum(pss(p) for p in agents(d)) / N}
        client.close()
    found.update({name: (after[name] - before[name]) / N for name in KERNEL})
    return found


def container(b, i):
    """A container under conmon; its name once it runs, and conmon's pid."""
    name = f"weir-bench-{os.getpid()}-idle{i}"
    at = os.path.join(b.dir, name)
    subprocess.run(["conmon", "--cid", name, "--cuuid", name, "--runtime", "/usr/sbin/runc",
                    "--bundle", os.path.join(b.dir, "idle"), "--container-pidfile", at + ".pid",
                    "--conmon-pidfile", at + ".conmon", "--log-path", at + ".log",
                    "--exit-dir", b.dir, "--socket-dir-path", b.dir], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (os.path.exists(at + ".pid") and os.path.getsize(at + ".pid")):
        if time.monotonic() > end:
            return name, None
        time.sleep(0.01)
    subprocess.run(["runc", "start", name], check=True)
    with open(at + ".conmon") as f:
        return name, int(f.read())


def theirs(b):
    where = bundle(os.path.join(b.dir, "idle"))
    path = os.path.join(where, "config.json")
    with open(path) as f:
        spec = json.load(f)
    spec["process"]["args"] = ["sleep", "600"]
    with open(path, "w") as f:
        json.dump(spec, f)
    names = []
    try:
        names.append(container(b, "first")[0])
        before, pids = kernel(), []
        for i in range(PEERS):
            name, pid = container(b, i)
            names.append(name)
            if not pid:
                return None
            pids.append(pid)
        after = kernel()
        found = {"conmon": sum(pss(p) for p in pids) / PEERS}
    except (OSError, subprocess.CalledProcessError) as e:
        print(f"memory: no peer: {e}")
        return None
    finally:
        for name in names:
            subprocess.run(["runc", "delete", "--force", name], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    found.update({name: (after[name] - before[name]) / PEERS for name in KERNEL})
    return found


def run(b):
    mine, peer = ours(), theirs(b)
    b.add("memory", "memory per idle sandbox, all in", sum(mine.values()),
          [("runc + conmon", sum(peer.values()))] if peer else [], unit="KiB", aim=2048,
          short="memory")
    for name, value in mine.items():
        b.add("memory", f"  of which {name}", value,
              [("runc + conmon", peer.get(name, 0))] if peer and name in peer else [], unit="KiB")
