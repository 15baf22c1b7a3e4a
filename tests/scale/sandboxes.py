#!/usr/bin/env python3
"""sandboxes.py [N]: N container sandboxes on one machine at once (1,000), and what each costs.

Runs in the lab (tools/with-internet). The daemon grows to 10, 100, … N sandboxes; at each of these
counts the price of one more operation is taken with one client, so that a column of the table at the
end shows what grows with the number of sandboxes. At N everything is looked at: the list and its
pages, each sandbox's policy in the kernel's maps, some with packets, an exec in each; then the same
after an orderly restart and after kill -9; then all are destroyed, and nothing may be left.

Output is TAP with a table between; the last line is one of figures. With N of 1,000 or more a price
that rises above FLAT times what it was at the first count is a failure, too.
"""

import ipaddress
import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402
from kit.crowd import Client, Crowd, at  # noqa: E402
from kit.maps import PORTS_NONE, PORTS_TABLE, Maps  # noqa: E402
from kit.tap import Tap  # noqa: E402

SHAPE = "s-1vcpu-256mb"
CLIENTS = 8
SAMPLES = 40        # of each price, at each count
PACKETS = 20        # sandboxes that are asked to send
PAGE = 100
FLAT = 2.5          # judged for N >= JUDGED; the machine's own noise is below that
JUDGED = 1000
FLAT_PRICES = ("create", "exec", "get", "page", "policy", "destroy")


def random_rules(rng, i):
    """A CreateOS list: some prefixes with ports, and one address that is this sandbox's alone."""
    nets = rng.sample(range(43 * 256, 128 * 256), rng.randrange(1, 12))
    return [f"10.{n // 256}.{n % 256}.0/24:{rng.randrange(1, 65536)}" for n in nets] + \
        [lab_address(i)]


def lab_address(i):
    """Every address of the lab's Internet answers on port 80."""
    return f"203.0.113.{60 + i % 150}"


class Scale:
    def __init__(self, daemon, tap, total):
        self.d, self.tap, self.total = daemon, tap, total
        self.rng = random.Random(total)
        self.boxes = []     # {"id", "rules", "slot"}
        self.prices = {}    # count: {what: ms}
        self.connect()

    def connect(self):
        self.client = Client(self.d.url, self.d.key)
        self.maps = Maps(self.d.name)

    def each(self, boxes, fn):
        with Crowd(self.d.url, self.d.key, CLIENTS) as crowd:
            return crowd.each(boxes, fn), crowd.took

    # --- one operation, by any client ---

    def create(self, client, _=None):
        return {"id": client("POST", "/v1/sandboxes", {"shape": SHAPE})["id"], "rules": None}

    def run(self, client, box, script="true"):
        return client("POST", f"/v1/sandboxes/{box['id']}/exec",
                      {"cmd": "bash", "args": ["-c", script]})["result"]

    def answers(self, client, box):
        r = self.run(client, box, "echo $HOSTNAME $$")
        return r["exit_code"] == 0 and len(r["stdout"].split()) == 2

    def create_and_exec(self, client, i):
        box = self.create(client)
        assert self.answers(client, box), box
        return box

    def police(self, client, box):
        box["rules"] = random_rules(random.Random(box["id"]), box["number"])
        client("PUT", f"/v1/sandboxes/{box['id']}/egress", {"egress": box["rules"]})

    def destroy(self, client, box):
        client("DELETE", f"/v1/sandboxes/{box['id']}")

    # --- prices ---

    def grow(self, count):
        start = time.monotonic()
        new, took = self.each(range(len(self.boxes), count), self.create_and_exec)
        for box in new:
            box["number"] = len(self.boxes)
            self.boxes.append(box)
        seconds = time.monotonic() - start
        self.tap.ok(f"{count} sandboxes live, each of the {len(new)} new answered its exec", True)
        self.tap.say(f"{len(new)} creates + exec by {CLIENTS} clients: {seconds:.1f} s, "
                     f"{len(new) / seconds:.1f} per second, "
                     f"p99 {1000 * at(took, 0.99):.0f} ms")
        return 1000 * seconds / len(new)

    def price(self, fn, samples=SAMPLES):
        took = []
        for i in range(samples):
            start = time.perf_counter()
            fn(i)
            took.append(1000 * (time.perf_counter() - start))
        return at(took, 0.5)

    def take_prices(self, count, crowded_ms):
        one, p = self.client, {"create x8": crowded_ms}
        some = [self.rng.choice(self.boxes) for _ in range(SAMPLES)]
        extra = []
        p["create"] = self.price(lambda i: extra.append(self.create(one)), SAMPLES // 2)
        p["destroy"] = self.price(lambda i: self.destroy(one, extra[i]), SAMPLES // 2)
        p["exec"] = self.price(lambda i: self.run(one, some[i]))
        p["get"] = self.price(lambda i: one("GET", f"/v1/sandboxes/{some[i]['id']}"))
        p["page"] = self.price(lambda i: one("GET", "/v1/sandboxes?status=running&limit=10"))
        p["policy"] = self.price(lambda i: self.police(one, some[i]))
        p.update({f"{role} MiB": kib / 1024 for role, kib in self.d.memory("Pss").items()})
        p["host fds"] = len(os.listdir(f"/proc/{self.d.process.pid}/fd"))
        p["api fds"] = len(os.listdir(f"/proc/{self.d.role('api')}/fd"))
        self.prices[count] = p

    # --- what is right ---

    def check_list(self):
        """Every sandbox once, on pages of 100, in one order; the total on each page."""
        seen, offset, pages_ok = [], 0, True
        while True:
            page = self.client("GET", f"/v1/sandboxes?status=running&limit={PAGE}&offset={offset}")
            about, rows = page["pagination"], page["data"]
            pages_ok &= about["total"] == len(self.boxes) and about["count"] == len(rows)
            if not rows:
                break
            pages_ok &= len(rows) == min(PAGE, len(self.boxes) - offset)
            seen += [row["id"] for row in rows]
            offset += PAGE
        self.tap.ok("pages are full and know the total", pages_ok)
        self.tap.ok(f"all {len(self.boxes)} are listed, each once",
                    sorted(seen) == sorted(box["id"] for box in self.boxes))

    def in_kernel(self):
        """{slot: policy} as the maps have it, for slots with a policy in force."""
        policies = self.maps.policies()
        return {slot: policies.get(policy) for slot, (policy, _) in self.maps.slots().items()
                if policy}

    def check_policies(self, when):
        """Each sandbox's slot carries exactly the prefixes of its list, each with its port, and
        its default; no policy beside these is in the maps."""
        slots, policies = self.maps.slots(), self.maps.policies()
        wrong = [box["id"] for box in self.boxes
                 if not self.says(policies.get(slots.get(box["slot"], (0, 0))[0]), box["rules"])]
        self.tap.ok(f"{when}: {len(self.boxes)} policies are in the kernel as they were put", not wrong,
                    f"{len(wrong)} wrong: {wrong[:5]}")
        # Keys of retired versions are deleted by the next commit or collection.
        self.tap.ok(f"{when}: no policy without a slot", kit.wait_until(self.no_stray_policy, 120))

    @staticmethod
    def says(policy, rules):
        if policy is None or policy.header is None:
            return False
        want = {ipaddress.ip_network(net): port for net, _, port in
                (rule.partition(":") for rule in rules)}
        if set(policy.prefixes) != set(want):
            return False
        for net, port in want.items():
            verdict, ports, _, lo, hi = policy.prefixes[net]
            if port and (ports in (PORTS_NONE, PORTS_TABLE) or (lo, hi) != (int(port), int(port))):
                return False
            if not port and (ports != PORTS_NONE or not verdict):
                return False
        return True

    def no_stray_policy(self):
        return not set(self.maps.policies()) - {policy for policy, _ in self.maps.slots().values()}

    def check_packets(self, when):
        """A few sandboxes: the own address passes, the neighbour's does not."""
        def probe(client, box):
            mine, other = lab_address(box["number"]), lab_address(box["number"] + 1)
            return self.run(client, box, f"for a in {mine} {other}; do "
                            "(exec 3<>/dev/tcp/$a/80) 2>/dev/null && echo yes || echo no; done")
        some = self.rng.sample(self.boxes, min(PACKETS, len(self.boxes)))
        results, _ = self.each(some, probe)
        bad = [r["stdout"] for r in results if r["stdout"] != "yes\nno\n"]
        self.tap.ok(f"{when}: packets of {len(some)} sandboxes meet their policies", not bad, str(bad[:3]))

    def check_exec(self, when):
        answers, took = self.each(self.boxes, self.answers)
        self.tap.ok(f"{when}: all {len(self.boxes)} answer an exec", all(answers))

    def read_slots(self):
        """A sandbox's slot is the last of its address's numbers (range + slot)."""
        views, _ = self.each(self.boxes, lambda c, box: c("GET", f"/v1/sandboxes/{box['id']}"))
        base = int(ipaddress.ip_network(self.d.settings["net.range4"]).network_address)
        for box, view in zip(self.boxes, views):
            box["slot"] = int(ipaddress.ip_address(view["ip"])) - base
        self.tap.ok("no two sandboxes share a slot",
                    len({box["slot"] for box in self.boxes}) == len(self.boxes))

    def restart(self, how):
        before = self.in_kernel()
        start = time.monotonic()
        if how == "kill -9":
            self.d.kill9()
        else:
            self.d.terminate()
        stopped = time.monotonic()
        self.d.start()
        ready = time.monotonic()
        self.connect()
        self.tap.say(f"{how}: stopped in {stopped - start:.2f} s, ready {ready - stopped:.2f} s "
                     "after the start")
        after = self.in_kernel()
        # What the api role puts in force anew has new ids; what is in force is what counts.
        self.tap.ok(f"{how}: the maps say what they said",
                    all(after.get(box["slot"]) == before.get(box["slot"]) for box in self.boxes))
        self.check_list()
        self.check_policies(how)
        self.check_packets(how)
        self.check_exec(how)
        return 1000 * (ready - start)

    def destroy_all(self):
        start = time.monotonic()
        self.each(self.boxes, self.destroy)
        seconds = time.monotonic() - start
        self.tap.say(f"{len(self.boxes)} destroys by {CLIENTS} clients: {seconds:.1f} s")
        listed = self.client("GET", "/v1/sandboxes?status=running&limit=1")["pagination"]["total"]
        self.tap.ok("none is listed as running", listed == 0)
        pool = int(self.d.settings["pool.slots"])
        left = kit.wait_until(lambda: self.left_in_kernel(pool), 180)
        self.tap.ok("links, policies and keys are gone from the maps", left is True,
                    str(self.maps.count()))
        return 1000 * seconds / len(self.boxes)

    def left_in_kernel(self, pool):
        """True once only the pool's slots have links, and no policy has keys."""
        c = self.maps.count()
        return c["weir_links"] <= pool and not any(
            c[m] for m in ("weir_policies", "weir_prefixes", "weir_ports", "weir_pins"))


def table(prices, say):
    counts = sorted(prices)
    say(f"{'ms (p50, one client)':22}" + "".join(f"{n:>10}" for n in counts))
    for what in prices[counts[0]]:
        say(f"{what:22}" + "".join(f"{prices[n].get(what, 0):>10.2f}" for n in counts))


def main():
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    counts = [n for n in (10, 100, 1000) if n < total] + [total]
    kit.prepare()
    began = time.monotonic()
    tap = Tap()
    free = kit.memory_available()
    with kit.Daemon({"pool.slots": "16"}) as d:
        s = Scale(d, tap, total)
        idle = sum(d.memory("Pss").values())
        for count in counts:
            crowded = s.grow(count)
            s.take_prices(count, crowded)
        s.read_slots()
        s.each(s.boxes, s.police)
        s.check_list()
        s.check_policies("put")
        s.check_packets("put")
        grown = sum(d.memory("Pss").values()) - idle
        agents = sum(kit.memory_of(pid, "Pss") for pid in d.agents())
        used = free - kit.memory_available()
        tap.say(f"memory per sandbox: roles {grown / total:.1f} KiB, agent {agents / total:.0f} KiB "
                f"(PSS); the machine's available memory fell by {used / total:.0f} KiB")
        last = s.prices[total]
        last["restart"] = s.restart("restart")
        last["kill -9"] = s.restart("kill -9")
        last["destroy x8"] = s.destroy_all()
    tap.ok("the daemon is gone and left nothing with its name", True)  # Leak was not raised
    table(s.prices, tap.say)
    first = s.prices[counts[0]]
    if total >= JUDGED:
        for what in FLAT_PRICES:
            tap.ok(f"{what} costs at {total} what it cost at {counts[0]}",
                   last[what] <= FLAT * first[what],
                   f"{first[what]:.2f} ms became {last[what]:.2f} ms")
    status = tap.end()
    print(f"scale: {total} sandboxes in {time.monotonic() - began:.0f} s; at {counts[0]} and {total}: " +
          ", ".join(f"{what} {first[what]:.1f} -> {last[what]:.1f} ms" for what in FLAT_PRICES) +
          f"; restart {last['restart']:.0f} ms, kill -9 {last['kill -9']:.0f} ms; "
          f"{grown / total:.0f} + {agents / total:.0f} KiB each", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
