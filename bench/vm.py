"""Machines: what it takes to have one, to put one away, to have it back, and to make two of one.

Each step is timed at the API, on a kept connection, from the first byte sent to the last received: POST
of a machine of 256 MiB, then POST of an exec of `true` in it (`cold`: the first of a daemon, when nothing
is ready; `warm`: those after it, once there is a template, as far apart as deleting the one before
takes; `stands ready`: of a daemon with vm.ready = 1, whenever one stands); pause until the view says
paused, asked as fast as it answers; POST resume and then an exec, which is held until the machine runs;
forks of a paused machine, each with an exec, 1, 10 and 20 at once, and the private memory of each QEMU by
its smaps_rollup; the pause of a clone, as each of these forks is; and for how long a machine that runs
stands still when it is forked, as the longest gap in what a process in it sees every 2 ms by the clock,
which is set right again before it goes on (the gaps of a busy host are in there), for a machine with
memory of its own and for a clone. What the machines ran by is named in each row: aims are for emulation
(tcg). Where they ran by KVM there is no aim, and where they did not, KVM is unmeasured.
"""

import concurrent.futures
import glob
import json
import os
import statistics
import time

from measure import Client, Failed, Samples, Skip, kit, timed

ROUNDS, BATCHES = 3, (1, 10, 20)


def machines(d):
    """{pid: private KiB} of this daemon's QEMUs."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        pid = int(path.split("/")[2])
        group = kit.read(f"/proc/{pid}/cgroup")
        if b"qemu-system" in kit.read(path).encode()[:60] and d.name in group:
            lines = kit.read(f"/proc/{pid}/smaps_rollup").splitlines()
            found[pid] = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return found


def settle(client, box, status, seconds=120):
    end = time.monotonic() + seconds
    while (now := client.call("GET", f"/v1/sandboxes/{box}")["status"]) != status:
        if time.monotonic() > end or now in ("error", "failed"):
            raise Failed(f"{box} is {now}, not {status}")


def ready(client, box):
    client.post(f"/v1/sandboxes/{box}/exec", {"cmd": "true"})


def pause(client, box):
    def both():
        client.call("POST", f"/v1/sandboxes/{box}/pause")
        settle(client, box, "paused")
    return timed(both)


def resume(client, box):
    def both():
        client.call("POST", f"/v1/sandboxes/{box}/resume")
        ready(client, box)
    return timed(both)


def born(client):
    box = []

    def both():
        box.append(client.create(runtime="vm"))
        ready(client, box[0])
    return timed(both), box[0]


def cold():
    """One each of daemons that have not had any; bundle and image are made beforehand."""
    ms = []
    for _ in range(ROUNDS):
        with kit.Daemon({"pool.slots": "0", "vm.accel": "auto"}) as d:
            client = Client(d)
            ms.append(born(client)[0])
            client.close()
    return Samples(ms)


def template(d):
    """Until new machines need not boot."""
    if not kit.wait_until(lambda: " vm.template what=ready " in kit.read(d.log_path), 120):
        raise Failed("there is no template")


def standing():
    """Creates that find a machine standing ready, each time the next one does."""
    ms = []
    with kit.Daemon({"pool.slots": "0", "vm.accel": "auto", "vm.warm_mib": "2048", "vm.ready": "1"}) as d:
        client = Client(d)
        client.delete(born(client)[1])
        for n in range(1, ROUNDS + 1):
            if not kit.wait_until(lambda: kit.read(d.log_path).count(" slot.stands ") >= n, 120):
                raise Failed("no machine stands ready")
            took, box = born(client)
            ms.append(took)
            client.delete(box)
        client.close()
    return Samples(ms)


def fork_of(d, source):
    """A fork and an exec in it, on a connection of its own: (ms, id)."""
    client, made = Client(d), []

    def both():
        made.append(client.post(f"/v1/sandboxes/{source}/fork", {})["id"])
        ready(client, made[0])
    ms = timed(both)
    client.close()
    return ms, made[0]


def can_fork(client, source):
    client.s.sendall(client.request("POST", f"/v1/sandboxes/{source}/fork", {}))
    status, body = client.answer()
    if not 200 <= status < 300:
        return False
    client.delete(json.loads(body)["data"]["id"])
    return True


def forks(d, client, source, add):
    running = []
    for n in BATCHES:
        before = set(machines(d))
        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            made = list(pool.map(lambda _: fork_of(d, source), range(n)))
        wall = (time.perf_counter() - start) * 1000
        private = [kib / 1024 for pid, kib in machines(d).items() if pid not in before]
        add(f"fork of one that is paused -> first exec, {n} at once: until the last", wall, "ms",
            200 if n == 1 else None)
        add(f"fork of one that is paused, {n} at once: private memory of each", statistics.mean(private), "MiB", None)
        if n == 1:
            running.append(made[0][1])
        else:
            for _, box in made:
                client.delete(box)
    return running[0]


TICK = """import os, time
last = time.time()
while not os.path.exists("/tmp/enough"):
    time.sleep(0.002)
    now = time.time()
    if os.path.exists("/tmp/count"):
        worst = max(worst, now - last)
    else:
        worst = 0
    last = now
open("/tmp/worst", "w").write(str(worst * 1000))
"""


def sh(client, box, script, *args):
    r = client.post(f"/v1/sandboxes/{box}/exec", {"cmd": "sh", "args": ["-c", script, "sh", *args]})
    return r["result"]["stdout"]


def stands_still(client, box):
    """The longest gap that a process in the source sees while it is forked: ms."""
    sh(client, box, 'rm -f /tmp/enough /tmp/count /tmp/worst; printf %s "$1" >/tmp/tick.py; '
       "(setsid python3 /tmp/tick.py </dev/null >/dev/null 2>&1 &); sleep 2; touch /tmp/count", TICK)
    made = client.post(f"/v1/sandboxes/{box}/fork", {"live": True})["id"]
    worst = sh(client, box, "touch /tmp/enough; for i in $(seq 200); do [ -s /tmp/worst ] && break; "
               "sleep 0.05; done; cat /tmp/worst")
    client.delete(made)
    return float(worst)


def run(b):
    if not os.path.exists("/usr/bin/qemu-system-x86_64"):
        raise Skip("QEMU is not installed (package qemu-system-x86)")
    with kit.Daemon({"pool.slots": "0", "vm.accel": "auto", "vm.warm_mib": "2048"}) as d:
        client = Client(d)
        by = client.call("GET", "/v1/version")["vm"].split(" ", 1)[0]
        emulated = by == "tcg"

        def add(what, value, unit, aim, **more):
            b.add("vm", f"machine ({by}): {what}", value, aim=aim if emulated else None,
                  **({} if isinstance(value, Samples) else {"unit": unit}), **more)

        born(client)  # kernel, initramfs and the image's disk are there from now on
        add("cold boot -> first exec", cold(), None, 2000, short="machine")
        template(d)
        warm, box = [], None
        for _ in range(ROUNDS):
            if box:
                client.delete(box)
            ms, box = born(client)
            warm.append(ms)
        add("warm create -> first exec", Samples(warm), None, 200)
        add("create of one that stands ready -> first exec", standing(), None, 200)
        pauses, resumes = [], []
        for _ in range(ROUNDS):
            pauses.append(pause(client, box))
            resumes.append(resume(client, box))
        add("pause", Samples(pauses), None, 500)
        add("resume -> first exec", Samples(resumes), None, 200)
        pause(client, box)
        if can_fork(client, box):
            running = forks(d, client, box, add)
            resume(client, box)
            for what, source in (("its own memory", box), ("a clone", running)):
                add(f"fork of one that runs, {what}: it stands still",
                    Samples([stands_still(client, source) for _ in range(ROUNDS)]), None, 100)
            add("pause of a clone", pause(client, running), "ms", 500)
        else:
            b.skipped.append("vm: forks of machines are refused by this daemon")
        client.close()
    if emulated:
        b.skipped.append("vm: the same rows with KVM are unmeasured: on this host machines run by tcg")
