"""Throughput and packets per second through a sandbox's link: without a filter, Weir's, iptables'.

Three namespaces in a row, made here: a sandbox's, a router's, an outside; links, MACs and routes are
those of host/slotnet.h. Only the filter in the router changes: nothing; the kernel program with a
policy of N rules (weir-bench-datapath link); an iptables chain of the same N rules, of which the last
matches, as in ours; and, with 4,096 rules, that chain behind a rule that lets known connections pass.
iperf3 sends TCP in bulk, then UDP datagrams of 64 bytes as fast as it can. Datagrams are counted as they
arrive in the outside namespace: whether the program behind that wakes in time to read each of them is
not the filter's doing. Client and server have a CPU each; the sender's does all the forwarding. All
filters take turns, ROUNDS times; the median is the figure. Each of ours has an unfiltered
one right before it and is compared with those alone: on a shared machine the same link gives 12 and 26
Gbit/s within a minute. And the host's congestion control is not asked: BBR, where it is the default,
goes by how long the machine's other work lets it wait. A server of its own is bound to each address that is asked, so that
its UDP answers come from there.
"""

import json
import os
import statistics
import subprocess

from measure import Failed, Skip, kit

ROUNDS, SECONDS = 3, "1"
OWN = {4: "10.60.0.1", 6: "fd77:6569:7200::1"}
RULES = (1, 64, 4096)
CPUS = sorted(os.sched_getaffinity(0))
CLIENT_CPU, SERVER_CPU = str(CPUS[0]), str(CPUS[-1])


def address(family, i):
    return f"198.18.{i // 16}.{i % 16 * 16 + 1}" if family == 4 else f"2001:db8:f:{i:x}::1"


def remote(family, rules):
    """The address in the last of `rules` rules."""
    return address(family, 4096 - rules)


def prefix(family, i):
    return f"198.18.{i // 16}.{i % 16 * 16}/28" if family == 4 else f"2001:db8:f:{i:x}::/64"


class Row:
    """Sandbox, router, outside."""

    def __init__(self):
        self.names = [f"weir-bench-{os.getpid()}-{end}" for end in "sro"]
        self.s, self.r, self.o = self.names
        self.servers, self.filter = [], None

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
            inside(name, "ip", "link", "set", "lo", "up")
        ip("-n", self.r, "link", "add", "w1", "address", "02:57:45:49:52:01", "type", "veth",
           "peer", "name", "eth0", "address", "02:57:45:49:52:02", "netns", self.s)
        ip("-n", self.r, "link", "add", "up0", "address", "02:57:45:49:52:03", "type", "veth",
           "peer", "name", "eth0", "address", "02:57:45:49:52:04", "netns", self.o)
        for name, link in ((self.s, "eth0"), (self.r, "w1"), (self.r, "up0"), (self.o, "eth0")):
            ip("-n", name, "link", "set", link, "addrgenmode", "none", "up")
        inside(self.r, "sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for argv in (f"{self.s} addr add 169.254.77.2/32 dev eth0",
                     f"{self.s} addr add {OWN[4]}/32 dev eth0",
                     f"{self.s} route add 169.254.77.1 dev eth0 src {OWN[4]}",
                     f"{self.s} neigh add 169.254.77.1 lladdr 02:57:45:49:52:01 dev eth0",
                     f"{self.s} route add default via 169.254.77.1 src {OWN[4]}",
                     f"{self.s} addr add fe80::77:2/64 dev eth0 nodad",
                     f"{self.s} addr add {OWN[6]}/128 dev eth0 nodad",
                     f"{self.s} neigh add fe80::77:1 lladdr 02:57:45:49:52:01 dev eth0",
                     f"{self.s} route add default via fe80::77:1 dev eth0 src {OWN[6]}",
                     f"{self.r} addr add 169.254.77.1/30 dev w1",
                     f"{self.r} neigh add 169.254.77.2 lladdr 02:57:45:49:52:02 dev w1",
                     f"{self.r} route add {OWN[4]} via 169.254.77.2 dev w1",
                     f"{self.r} addr add fe80::77:1/64 dev w1 nodad",
                     f"{self.r} neigh add fe80::77:2 lladdr 02:57:45:49:52:02 dev w1",
                     f"{self.r} route add {OWN[6]} via fe80::77:2 dev w1",
                     f"{self.r} addr add 192.0.2.1/30 dev up0",
                     f"{self.r} addr add 2001:db8:77::1/64 dev up0 nodad",
                     f"{self.r} neigh add 2001:db8:77::2 lladdr 02:57:45:49:52:04 dev up0",
                     f"{self.o} neigh add 2001:db8:77::1 lladdr 02:57:45:49:52:03 dev eth0",
                     f"{self.r} route add default via 192.0.2.2",
                     f"{self.r} route add default via 2001:db8:77::2",
                     f"{self.o} addr add 192.0.2.2/30 dev eth0",
                     f"{self.o} addr add 2001:db8:77::2/64 dev eth0 nodad",
                     f"{self.o} route add default via 192.0.2.1",
                     f"{self.o} route add default via 2001:db8:77::1"):
            ip("-n", *argv.split())
        for family in (4, 6):
            for rules in RULES:
                self.serve(remote(family, rules), "32" if family == 4 else "128")
        return self

    def serve(self, address, bits):
        ip("-n", self.o, "addr", "add", f"{address}/{bits}", "dev", "lo",
           *(["nodad"] if bits == "128" else []))
        server = subprocess.Popen(
            [*enter(self.o), "taskset", "-c", SERVER_CPU, "iperf3", "--server", "--bind", address,
             "--forceflush"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.servers.append(server)
        for line in server.stdout:
            if "listening" in line:
                return
        raise Failed(f"iperf3 does not listen on {address}")

    def __exit__(self, *_):
        for child in (self.filter, *self.servers):
            if isinstance(child, subprocess.Popen):
                child.kill()
                child.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)

    def unfilter(self):
        if isinstance(self.filter, subprocess.Popen):
            self.filter.stdin.close()
            if self.filter.wait():
                raise Failed("weir-bench-datapath ended with an error")
        elif self.filter:
            self.restore(self.filter, "*filter\n:FORWARD ACCEPT\n:b -\n-F FORWARD\n-F b\nCOMMIT\n")
        self.filter = None

    def restore(self, program, text):
        subprocess.run([*enter(self.r), program], input=text, text=True, check=True)

    def weir(self, family, rules):
        self.unfilter()
        self.filter = subprocess.Popen(
            [*enter(self.r),
             os.path.join(kit.build_dir(), "bench", "weir-bench-datapath"), "link", "w1", OWN[4],
             OWN[6]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.filter.stdin.write(f"commit {family} {rules}\n")
        self.filter.stdin.flush()
        if [self.filter.stdout.readline() for _ in range(2)] != ["ok\n", "ok\n"]:
            raise Failed("weir-bench-datapath does not filter")

    def iptables(self, family, rules, known=False):
        self.unfilter()
        self.filter = "iptables-restore" if family == 4 else "ip6tables-restore"
        established = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
        text = "*filter\n:FORWARD DROP\n:b -\n-F FORWARD\n-F b\n"
        text += f"-A FORWARD {'' if known else '-o w1 '}{established}-A FORWARD -i w1 -j b\n"
        for i in range(rules):
            text += f"-A b -d {prefix(family, 4095 - i)} -p {{proto}} --dport 5201 -j ACCEPT\n"
        # iperf3's own conversation about a UDP test is TCP: at the end, where it costs no datagram
        text = text.replace("{proto}", self.proto) + "-A b -p tcp --dport 5201 -j ACCEPT\nCOMMIT\n"
        self.restore(self.filter, text)

    def iperf(self, family, rules, *more):
        done = inside(self.s, "taskset", "-c", CLIENT_CPU, "iperf3", "--client",
                      remote(family, rules), "--bind", OWN[family], "--json", "--time", SECONDS,
                      *more)
        result = json.loads(done)
        if "error" in result:
            raise Failed(f"iperf3: {result['error']}")
        return result["end"]

    def gbit(self, family, rules):
        return self.iperf(family, rules, "--congestion", "cubic")["sum_received"]["bits_per_second"] / 1e9

    def kpps(self, family, rules):
        before = self.arrived()
        end = self.iperf(family, rules, "--udp", "--bitrate", "0", "--length", "64")["sum"]
        return (self.arrived() - before) / end["seconds"] / 1e3

    def arrived(self):
        """Packets that the outside link has received; iperf3's own conversation is some twenty."""
        links = json.loads(inside(self.o, "ip", "-s", "-json", "link", "show", "eth0"))
        return links[0]["stats64"]["rx"]["packets"]


def enter(name):
    """Into the network namespace alone: `ip netns exec` would hide /sys/fs/bpf."""
    return ["nsenter", f"--net=/run/netns/{name}"]


def ip(*argv):
    inside(None, "ip", *argv)


def inside(name, *argv):
    argv = [*(enter(name) if name else []), *argv]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stdout.strip()[-500:]}")
    return done.stdout


def measured(row, family, figure):
    """{(filter, rules): median}"""
    found = {}
    turns = [turn for n in RULES for turn in (("none", n), ("weir", n))] + \
        [("iptables", n) for n in RULES] + [("known", 4096)]
    for _ in range(ROUNDS):
        for what, rules in turns:
            if what == "none":
                row.unfilter()
            elif what == "weir":
                row.weir(family, rules)
            else:
                row.iptables(family, rules, what == "known")
            found.setdefault((what, rules), []).append(figure(family, rules))
    row.unfilter()
    return {key: statistics.median(values) for key, values in found.items()}


def run(b):
    if subprocess.run(["iptables", "-V"], stdout=subprocess.DEVNULL).returncode:
        raise Skip("iptables is missing")
    with Row() as row:
        for unit, text, proto, figure in (("Gbit/s", "TCP in bulk", "tcp", row.gbit),
                                          ("kpps", "UDP, 64 bytes", "udp", row.kpps)):
            row.proto = proto
            for family in (4, 6):
                found = measured(row, family, figure)
                for rules in RULES:
                    peers = [("no filter", found["none", rules]),
                             ("iptables chain", found["iptables", rules])]
                    if rules == 4096:
                        peers.append(("iptables, known first", found["known", 4096]))
                    b.add("throughput", f"{text}, IPv{family}, {rules} rules",
                          found["weir", rules], peers, unit=unit, better="more", of=0.9,
                          short="throughput, 4,096 rules" if (unit, family, rules) ==
                          ("Gbit/s", 4, 4096) else None)
