"""From one sandbox to another in a private network: throughput and latency.

Two sandboxes of a throwaway daemon, in a network without rules and then in the same one with 64 rules of
which the last lets them. Peers in the same run: two namespaces with one veth pair between them, which is
the least that can be had, and two on a Linux bridge in a third. iperf3 sends TCP in bulk, then UDP
datagrams of 64 bytes as fast as it can; a byte goes to and fro over TCP for the latency. All of these
run in the namespaces alone, so no limit of a sandbox but its links is measured. All take turns, ROUNDS
times; the median is the figure.
"""

import json
import os
import statistics
import subprocess
import sys

from measure import Failed, Samples, Skip, kit
from kit.api import Api  # noqa: E402

ROUNDS, SECONDS, BYTES = 3, "1", 4000

PONG = """
import socket, sys
s = socket.create_server((sys.argv[1], 5300))
print("listening", flush=True)
c, _ = s.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while c.recv(1):
    c.send(b"x")
"""
PING = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 5300))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range(int(sys.argv[2])):
    t = time.perf_counter()
    s.send(b"x")
    s.recv(1)
    print((time.perf_counter() - t) * 1000)
"""


def run_in(end, *argv):
    done = subprocess.run([*end, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv[:3])}: {done.stdout.strip()[-500:]}")
    return done.stdout


class Pair:
    """Two namespaces, as prefixes of commands, and the second's address."""

    def __init__(self, here, there, address):
        self.here, self.there, self.address = here, there, address

    def served(self, argv, ask):
        server = subprocess.Popen([*self.there, *argv], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        try:
            if not any("listening" in line for line in server.stdout):
                raise Failed(f"{argv[0]} does not listen on {self.address}")
            return ask()
        finally:
            server.kill()
            server.wait()

    def iperf(self, *more):
        return self.served(
            ["iperf3", "--server", "--one-off", "--bind", self.address, "--forceflush"],
            lambda: json.loads(run_in(self.here, "iperf3", "--client", self.address, "--json", "--time",
                                      SECONDS, *more))["end"])

    def gbit(self):
        return self.iperf()["sum_received"]["bits_per_second"] / 1e9

    def kpps(self):
        end = self.iperf("--udp", "--bitrate", "0", "--length", "64")["sum"]
        return (end["packets"] - end["lost_packets"]) / end["seconds"] / 1e3

    def ms(self):
        return self.served([sys.executable, "-c", PONG, self.address], lambda: [
            float(line) for line in
            run_in(self.here, sys.executable, "-c", PING, self.address, str(BYTES)).split()])


class Plain:
    """The peers' namespaces."""

    def __init__(self):
        self.names = [f"weir-bench-{os.getpid()}-{end}" for end in ("a", "b", "c", "d", "br")]

    def enter(self, name):
        return ["nsenter", f"--net=/run/netns/{name}"]

    def __enter__(self):
        a, b, c, d, br = self.names
        for name in self.names:
            run_in([], "ip", "netns", "add", name)
        self.link(a, "eth0", "198.18.200.1/24", b, "eth0", "198.18.200.2/24")
        run_in([], "ip", "-n", br, "link", "add", "br0", "type", "bridge")
        run_in([], "ip", "-n", br, "link", "set", "br0", "up")
        for end, port, address in ((c, "p1", "198.18.201.1/24"), (d, "p2", "198.18.201.2/24")):
            self.link(end, "eth0", address, br, port, None)
            run_in([], "ip", "-n", br, "link", "set", port, "master", "br0")
        self.veth = Pair(self.enter(a), self.enter(b), "198.18.200.2")
        self.bridge = Pair(self.enter(c), self.enter(d), "198.18.201.2")
        return self

    def link(self, one, name, address, other, other_name, other_address):
        run_in([], "ip", "-n", one, "link", "add", name, "type", "veth", "peer", "name", other_name,
               "netns", other)
        for end, link, own in ((one, name, address), (other, other_name, other_address)):
            if own:
                run_in([], "ip", "-n", end, "addr", "add", own, "dev", link)
            run_in([], "ip", "-n", end, "link", "set", link, "up")

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def rules(here, there):
    """63 that speak of others, and the one that lets iperf3 and the byte through."""
    return [{"from": f"other-{i}", "to": there.name, "ports": [i + 1]} for i in range(63)] + \
        [{"from": here.name, "to": there.name, "ports": ["5201-5300"]}]


def run(b):
    if subprocess.run(["iperf3", "--version"], stdout=subprocess.DEVNULL).returncode:
        raise Skip("iperf3 is missing")
    with Plain() as plain, kit.Daemon({"pool.slots": "2"}) as d:
        api = Api(d.url, d.key)
        net = api.ok("POST", "/v1/networks", {"name": "bench"})["id"]
        here, there = (api.create(networks=[{"id": net}]) for _ in range(2))
        address = next(m["ip"] for m in api.ok("GET", f"/v1/networks/{net}")["members"]
                       if m["sandbox_id"] == there.id)
        ours = Pair(*(["nsenter", f"--net=/proc/{box.host_pid()}/ns/net"] for box in (here, there)),
                    address)
        policy = f"/v1/networks/{net}/policy"

        def ruled(figure):
            api.ok("PUT", policy, {"rules": rules(here, there)})
            try:
                return figure(ours)
            finally:
                api.ok("DELETE", policy)

        ways = {"ours": lambda f: f(ours), "rules": ruled, "veth": lambda f: f(plain.veth),
                "bridge": lambda f: f(plain.bridge)}
        for text, unit, figure in (("TCP in bulk", "Gbit/s", Pair.gbit),
                                   ("UDP, 64 bytes", "kpps", Pair.kpps),
                                   ("a byte to and fro", "ms", Pair.ms)):
            found = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, take in ways.items():
                    found[way].append(take(figure))
            if unit == "ms":
                medians = {way: Samples(sum(all_ms, [])) for way, all_ms in found.items()}
            else:
                medians = {way: statistics.median(values) for way, values in found.items()}
            for way, what in (("ours", text), ("rules", f"{text}, 64 rules")):
                b.add("overlay", what, medians[way],
                      [("veth pair", medians["veth"]), ("Linux bridge", medians["bridge"])],
                      unit=unit, better="less" if unit == "ms" else "more",
                      short="overlay" if (way, unit) == ("ours", "Gbit/s") else None)
