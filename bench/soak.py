#!/usr/bin/env python3
"""soak.py [CYCLES]: create, exec, change the policy, destroy, over and over; then what grew.

Some clients at once, each cycle with random policies. After a tenth of the cycles and at the end,
when no sandbox lives, the memory and the descriptors of every role are compared: what grew by more
than the bounds below is a leak, whatever its name. A failed cycle, a line of complaint in the
kernel's log since the start and anything that the daemon leaves behind fail it, too.

Output is TAP; the last line is one of figures. 20,000 cycles unless told otherwise.
"""

import os
import random
import re
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402
from kit.crowd import Crowd, at  # noqa: E402
from kit.tap import Tap  # noqa: E402

CYCLES = 20000
CLIENTS = 3
SLICES = 20         # lines of progress; the first two are what memory is compared with
# Resident memory that a role may have gained since: the store's page cache (2 MB) fills up, and
# the allocator keeps a few pages more or less.
GROWTH_KIB = 3072
GROWTH_FDS = 8
SETTLE_S = 120      # the last sandboxes' links and records to be gone
RULES = ["example.com", "*.example.org:443", "12.0.0.0/8:8080", "1.1.1.1", "2001:db9::/32", "*",
         "9.9.9.9:53", "198.51.100.0/24:80"]
BAD = re.compile(r"\bBUG\b|WARNING:|Oops|general protection|refcount_t|unregister_netdevice: waiting"
                 r"|neighbour: .*overflow|blocked for more than|EXT4-fs (error|warning)|I/O error"
                 r"|possible recursive locking|rcu.*stall|page allocation failure")


class KernelLog:
    """What the kernel has said since this was made."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.lines, self.bad = 0, []

    def read(self):
        while True:
            try:
                line = os.read(self.fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # overtaken by the ring: what is still there follows
            self.lines += 1
            text = line.partition(";")[2].strip().split("\n")[0]
            if BAD.search(text):
                self.bad.append(text)


class Soak:
    def __init__(self, daemon, seed):
        self.d, self.seed = daemon, seed

    def cycle(self, client, i):
        rng = random.Random(self.seed + i)

        def rules():
            return rng.sample(RULES, rng.randrange(len(RULES)))
        box = client("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "egress": rules()})["id"]
        done = client("POST", f"/v1/sandboxes/{box}/exec", {"cmd": "echo", "args": [str(i)]})
        assert done["result"]["stdout"] == f"{i}\n", done
        if i % 2:
            client("PUT", f"/v1/sandboxes/{box}/egress", {"egress": rules()})
        client("DELETE", f"/v1/sandboxes/{box}")

    def measure(self):
        """Once nothing lives: {role: (KiB resident, descriptors)}."""
        records = os.path.join(self.d.run_dir, "sandboxes")
        kit.wait_until(lambda: not os.listdir(records), SETTLE_S)
        fds = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in
               (("host", self.d.process.pid), ("api", self.d.role("api")),
                ("edge", self.d.role("edge")))}
        return {name: (kib, fds[name]) for name, kib in self.d.memory("VmRSS").items()}


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else CYCLES
    kit.prepare()
    tap, log = Tap(), KernelLog()
    start = time.monotonic()
    with kit.Daemon({}) as d:
        roles = {name: d.role(name) for name in ("api", "edge")}
        soak, early, took = Soak(d, 1), None, []
        for k in range(SLICES):
            with Crowd(d.url, d.key, CLIENTS) as crowd:
                crowd.each(range(cycles * k // SLICES, cycles * (k + 1) // SLICES), soak.cycle)
                took += crowd.took
            now = soak.measure()
            if k == SLICES // 10 - 1:
                early = now
            tap.say(f"{cycles * (k + 1) // SLICES} cycles, {time.monotonic() - start:.0f} s: " +
                    ", ".join(f"{n} {kib} KiB {fds} fds" for n, (kib, fds) in sorted(now.items())))
            log.read()
        tap.ok(f"{cycles} cycles, none failed", True)
        tap.ok("no role was started anew", roles == {name: d.role(name) for name in roles})
        for name in sorted(now):
            kib, fds = (now[name][i] - early[name][i] for i in (0, 1))
            tap.ok(f"{name}: memory grew by {kib} KiB since the first tenth, at most {GROWTH_KIB}",
                   kib <= GROWTH_KIB)
            tap.ok(f"{name}: descriptors grew by {fds}, at most {GROWTH_FDS}", fds <= GROWTH_FDS)
    seconds = time.monotonic() - start
    tap.ok("nothing with the daemon's name is left", True)  # Leak was not raised
    log.read()
    tap.ok(f"the kernel has no complaint among its {log.lines} lines", not log.bad, str(log.bad[:5]))
    status = tap.end()
    print(f"soak: {cycles} cycles in {seconds:.0f} s by {CLIENTS} clients, p50 {1000 * at(took, 0.5):.0f} "
          f"p99 {1000 * at(took, 0.99):.0f} ms; grew: " +
          ", ".join(f"{n} {now[n][0] - early[n][0]} KiB" for n in sorted(now)) +
          f"; {len(log.bad)} kernel complaints", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
