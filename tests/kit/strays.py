"""What a running daemon has in the kernel and on disk that none of its sandboxes stands for.

`weird --leaks` asks whether anything is left when nothing should be. Here the daemon is alive, and
the question is whether what it has is *owned*: each slot, link, policy, pin, control group, layer,
loop device and process belongs to a sandbox that the API lists, or to the pool of ready slots.
"""

import glob
import ipaddress
import mmap
import os
import subprocess

from kit.daemon import comm, read
from kit.maps import Maps, SLOT

LIVE = ("creating", "running", "pausing", "paused", "resuming", "destroying")  # have a slot
KEPT = LIVE + ("error",)  # have a disk
STARTER = "weir-starter"  # the name of a starter, and of a first process until its exec


def sandboxes(api):
    found, offset = [], 0
    while True:
        page = api.ok("GET", f"/v1/sandboxes?limit=100&offset={offset}")["data"]
        found += page
        if len(page) < 100:
            return found
        offset += 100


def groups(daemon):
    """The control groups of its sandboxes and parked starters, in every hierarchy."""
    return [d for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/*")
            for d in glob.glob(f"{top}/{daemon.name}/box-*") if os.path.isdir(d)]


def members(daemon, name=None):
    """Processes in the daemon's control groups."""
    pids = {int(pid) for d in groups(daemon) for pid in read(f"{d}/cgroup.procs").split()}
    return [pid for pid in pids if name is None or comm(pid) == name]


def firsts(daemon):
    """Process 1 of each sandbox, also of those parked in the pool, as the host numbers it."""
    def is_first(pid):
        ids = read(f"/proc/{pid}/status").partition("\nNSpid:")[2].split("\n")[0].split()
        return len(ids) > 1 and ids[-1] == "1"

    return [pid for pid in members(daemon) if is_first(pid)]


def agents(daemon):
    """Those that are somebody's: an agent runs in them."""
    return [pid for pid in firsts(daemon) if comm(pid) != STARTER]


def links(daemon):
    """Names and indices of the slots' links in the router namespace."""
    out = subprocess.run(["nsenter", f"--net={daemon.run_dir}/router.ns", "ip", "-o", "link"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return {int(number): name.strip().split("@")[0]
            for number, name in (line.split(":")[:2] for line in out.splitlines())
            if name.strip()[0] == "w"}


def slots_of(maps, n):
    """As Maps.slots(), but only the numbers that this daemon's range can hold."""
    m = maps._open("weir_slots")
    try:
        with mmap.mmap(m.fd, n * SLOT.size, prot=mmap.PROT_READ) as memory:
            return {i: words[:2] for i, words in enumerate(SLOT.iter_unpack(memory[:]))
                    if words[0] or words[1]}
    finally:
        m.close()


def edge_policies(maps):
    """Policy ids that keys of the edge role name: its pins and port tables."""
    found = set()
    for name, shift, at in (("weir_pins", 1, 0), ("weir_ports", 0, 4)):
        m = maps._open(name)
        found |= {int.from_bytes(key[at:at + 4], "little") >> shift for key in m.keys()}
        m.close()
    return found


def extra(kind, have, allowed, spare=0):
    more = sorted(set(have) - set(allowed), key=str)
    if len(more) > spare:
        yield f"{kind}: {more} beside {sorted(allowed, key=str)} and {spare} spare"


def look(daemon, api, keys=True):
    """One sentence after another, what is quick to see first. Keys of a policy that no slot has in
    force may stay for some seconds (datapath.h): keys=False does not ask for them."""
    pool = int(daemon.settings.get("pool.slots", 4))
    network = ipaddress.ip_network(daemon.settings["net.range4"])
    boxes = sandboxes(api)
    kept = {b["id"] for b in boxes if b["status"] in KEPT}
    # An address is a slot; while it is being created a sandbox may have none to show yet.
    mine = {int(ipaddress.ip_address(b["ip"])) - int(network[0]) for b in boxes
            if b["status"] in LIVE and b.get("ip")}

    maps = Maps(daemon.name)
    slots = slots_of(maps, network.num_addresses)
    yield from extra("slot", slots, mine, pool)
    yield from extra("sandbox without a slot", mine, slots)
    yield from extra("slot with a policy and no sandbox", (s for s in slots if slots[s][0]), mine)
    in_force = {policy for policy, _ in slots.values() if policy}
    if keys:
        yield from extra("policy", maps.policies(), in_force)
        yield from extra("policy of the edge's keys", edge_policies(maps), in_force)
    linked = {index for _, index in slots.values() if index}
    if (n := maps.count()["weir_links"]) > len(linked):
        yield f"{n} entries of weir_links for {len(linked)} slots"
    yield from extra("record", os.listdir(os.path.join(daemon.run_dir, "sandboxes")), kept)

    for group in groups(daemon):
        if not read(f"{group}/cgroup.procs").strip() and os.path.isdir(group):
            yield f"control group without a process: {group}"
    running, parked = agents(daemon), members(daemon, STARTER)
    if len(running) != len(mine):
        yield f"{len(running)} agents for {len(mine)} sandboxes"
    if len(parked) > pool:
        yield f"{len(parked)} parked sandboxes for a pool of {pool}"

    link = links(daemon)
    yield from extra("link without a slot", link, linked, 1)  # one may be in the making
    yield from extra("slot without a link", linked, link)
    layers = os.path.join(daemon.state_dir, "layers")
    layers = {name.split(".img")[0] for name in os.listdir(layers)} if os.path.isdir(layers) else ()
    yield from extra("layer", (n for n in layers if n.startswith("sb-")), kept)
    yield from extra("spare layer", (n for n in layers if n.startswith(".spare")), (), pool + 1)
    files = (read(f"/sys/block/{d}/loop/backing_file").strip() for d in os.listdir("/sys/block")
             if d.startswith("loop"))
    yield from extra("loop device", (f for f in files if f.startswith(daemon.dir) and "/sb-" in f
                                     and not any(i in f for i in kept)), ())
    with open("/proc/self/mountinfo") as f:
        yield from extra("mount", (m for m in f if daemon.dir in m and "/router.ns" not in m), ())


def strays(daemon, api, keys=True):
    return list(look(daemon, api, keys))


def clean(daemon, api, keys=True):
    return next(look(daemon, api, keys), None) is None
