"""DNS: CPU per answer and latency, ours beside unbound, dnsmasq and a bare echo, in one run.

Runs in network namespaces of its own: every server has one, with a veth to a client's namespace and
one to an authority (knotd) that knows all names; ours is a whole daemon, and the client's namespace
is that of a sandbox. dnsperf asks each the same stream: NAMES names, all of them cached before the
measurement begins. Counted is the time the scheduler gave to the server's process (schedstat,
nanoseconds), nothing of the client's, so figures hold whatever the client's speed; a tracer or a
neighbour on the machine disturbs them. Server and client have a CPU each.

	dns.py [--seconds S] [--json FILE] [ROW ...]	rows: udp tcp denied flood latency uncached
"""

import argparse
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402
from kit.api import Api  # noqa: E402

NAMES = 1000
ZONE = "bench.test"
RATES = (1000, 10000, 50000, 0)  # queries a second; 0: as fast as 100 in flight allow
CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE = 0x00020000, 0x40000000, 16384, 1 << 18
SERVER_CPU, CLIENT_CPU = "0", "1"
AUTHORITY = "192.0.2.1"
EVENTS = ("cycles:u", "cycles:k", "instructions:u", "instructions:k")

UNBOUND = """server:
    directory: "{dir}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    verbosity: 0
    do-daemonize: no
    interface: 0.0.0.0
    access-control: 0.0.0.0/0 allow
    num-threads: 1
    module-config: "iterator"
    msg-cache-size: 64m
    rrset-cache-size: 128m
    incoming-num-tcp: 100
    do-not-query-localhost: no
    local-zone: "test." nodefault
forward-zone:
    name: "."
    forward-addr: {authority}
"""
KNOT = """server:
    rundir: "{dir}"
    listen: 0.0.0.0@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{dir}/knot-db"
log:
  - target: stdout
    any: warning
template:
  - id: default
    storage: "{dir}"
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: "."
    file: "{dir}/zone"
"""


def command(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"dns: {' '.join(argv)}: {done.stdout.strip()}")
    return done.stdout


def own_namespaces():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) or \
            libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise SystemExit(f"dns: namespaces of its own: {os.strerror(ctypes.get_errno())}")
    command("ip", "link", "set", "lo", "up")


class Space:
    """A network namespace, held by a sleeping process, or that of a process that exists."""

    def __init__(self, pid=None):
        self.holder = None
        if pid is None:
            self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c",
                                            "ip link set lo up; echo; exec sleep infinity"],
                                           stdout=subprocess.PIPE)
            self.holder.stdout.readline()
            pid = self.holder.pid
        self.pid = pid

    def argv(self, *argv):
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    def run(self, *argv):
        return command(*self.argv(*argv))

    def close(self):
        if self.holder:
            self.holder.kill()
            self.holder.wait()


def join(a, address_a, b, address_b):
    """A veth between two namespaces."""
    join.n = getattr(join, "n", 0) + 1
    one, two = f"v{join.n}a", f"v{join.n}b"
    command("ip", "link", "add", one, "netns", str(a.pid), "type", "veth",
        "peer", "name", two, "netns", str(b.pid))
    for space, link, address in ((a, one, address_a), (b, two, address_b)):
        space.run("ip", "addr", "add", address, "dev", link)
        space.run("ip", "link", "set", link, "up")


def agent_of(daemon, box):
    """The first process of a sandbox: by its address and, since daemons on one machine may share a
    range after one was killed, by its cgroup, which carries the daemon's name."""
    return next(int(p) for p in os.listdir("/proc") if p.isdigit() and
                kit.comm(p).startswith(("weir-agent", "memfd:weir-agen")) and
                daemon.name in kit.read(f"/proc/{p}/cgroup") and
                f" {box.ip}\n" in kit.read(f"/proc/{p}/net/fib_trie"))


class Server:
    """Something that answers on port 53, and where to ask it from."""

    def __init__(self, name, pid, client, address):
        self.name, self.pid, self.client, self.address = name, pid, client, address

    def pin(self):
        command("taskset", "-a", "-p", "-c", SERVER_CPU, str(self.pid))

    def counters(self):
        """A perf that counts the process's cycles and instructions until it is interrupted."""
        argv = ["perf", "stat", "-x,", "-p", str(self.pid), "-e",
                ",".join(EVENTS)]
        return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    def cpu_ns(self):
        """What the scheduler gave to the process, and to children it has buried (dnsmasq, TCP)."""
        ns = 0
        for task in [self.pid] + kit.descendants(self.pid):
            for path in glob.glob(f"/proc/{task}/task/*/schedstat"):
                text = kit.read(path)
                ns += int(text.split()[0]) if text else 0
        stat = kit.read(f"/proc/{self.pid}/stat").rsplit(")", 1)[1].split()
        return ns + (int(stat[13]) + int(stat[14])) * 10 ** 9 // os.sysconf("SC_CLK_TCK")

    def ask(self, data, seconds=None, rate=0, tcp=False, passes=None, verbose=False, flight=100):
        argv = ["taskset", "-c", CLIENT_CPU, "dnsperf", "-s", self.address, "-d", data, "-c", "8",
                "-q", str(flight), "-t", "2"]
        argv += ["-l", str(seconds)] if seconds else ["-n", str(passes)]
        argv += ["-Q", str(rate)] if rate else []
        argv += ["-m", "tcp"] if tcp else []
        argv += ["-v"] if verbose else []
        return self.client.run(*argv)


def figure(pattern, text):
    m = re.search(pattern, text)
    return float(m.group(1)) if m else 0.0


class Lab:
    def __init__(self, directory):
        self.dir, self.closing, self.servers = directory, [], []
        try:
            self.world()
            self.weir()
            self.peers()
        except BaseException:
            self.close()
            raise

    def spawn(self, space, *argv):
        log = open(os.path.join(self.dir, "peers.log"), "ab")
        p = subprocess.Popen(space.argv(*argv), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.closing.append(lambda: (p.kill(), p.wait()))
        return p

    def space(self):
        s = Space()
        self.closing.append(s.close)
        return s

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def world(self):
        """The authority, its names, and the streams of queries."""
        os.mkdir(os.path.join(self.dir, "knot-db"))
        names = [f"h{i}.{ZONE}" for i in range(NAMES)]
        self.file("zone", "$TTL 86400\n. SOA ns.test. host.test. 1 3600 600 86400 5\n"
                  f". NS ns.test.\nns.test. A {AUTHORITY}\n*.miss.{ZONE}. A 203.0.113.9\n" +
                  "".join(f"{n}. A 203.0.{i // 250}.{i % 250 + 1}\n"
                          for i, n in enumerate(names)))
        self.hits = self.file("hits", "".join(f"{n} A\n" for n in names))
        self.denied = self.file("denied", "".join(f"h{i}.denied.test A\n" for i in range(NAMES)))
        self.here, self.authority = Space(os.getpid()), self.space()
        join(self.here, "192.0.2.2/24", self.authority, AUTHORITY + "/24")
        self.here.run("ip", "route", "add", "default", "via", AUTHORITY)
        self.knot = self.spawn(self.authority, "knotd", "-c",
                               self.file("knot.conf", KNOT.format(dir=self.dir)))

    def weir(self):
        d = kit.Daemon({"dns.upstream": AUTHORITY, "dns.qps": "100000",
                        "dns.pins_per_sandbox": "4096"})
        self.daemon = d.start()
        self.closing.append(d.stop)
        api = Api(d.url, d.key)
        # As many rules as the dialect takes, the one that allows last.
        box = api.create(egress=[f"*.n{i}.test" for i in range(254)] + [f"*.{ZONE}"])
        self.servers.append(Server("weir", d.role("edge"), Space(agent_of(d, box)),
                                   "169.254.77.1"))

    def peers(self):
        echo = os.path.join(self.dir, "dns_echo")
        command("cc", "-O2", "-o", echo, os.path.join(ROOT, "bench", "dns_echo.c"))
        unbound = self.file("unbound.conf", UNBOUND.format(dir=self.dir, authority=AUTHORITY))
        for i, (name, argv) in enumerate((
                ("unbound", ["unbound", "-d", "-c", unbound]),
                ("dnsmasq", ["dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "-S", AUTHORITY, "-c",
                             "10000", "-u", "root", "-x", os.path.join(self.dir, "dnsmasq.pid")]),
                ("echo", [echo, "one"]), ("echo, batches", [echo, "batch"]))):
            space, client = self.space(), self.space()
            join(space, f"10.98.{i}.1/24", client, f"10.98.{i}.2/24")
            join(space, f"10.99.{i}.2/24", self.authority, f"10.99.{i}.1/24")
            space.run("ip", "route", "add", "default", "via", f"10.99.{i}.1")
            p = self.spawn(space, *argv)
            self.servers.append(Server(name, p.pid, client, f"10.98.{i}.1"))
        client = self.space()
        join(self.authority, "10.97.0.1/24", client, "10.97.0.2/24")
        self.direct = Server("authority", self.knot.pid, client, "10.97.0.1")
        for s in self.servers + [self.direct]:
            self.ready(s)
            s.pin()

    def ready(self, server):
        """Answers, and has every name in its cache."""
        end = time.monotonic() + 20
        while True:
            text = server.ask(self.hits, passes=1, rate=5000)
            if figure(r"Queries completed: +(\d+)", text) >= NAMES and \
                    ("echo" in server.name or "NOERROR 1000 (100.00%)" in text):
                return
            if time.monotonic() > end:
                raise SystemExit(f"dns: {server.name} does not answer:\n{text}\n" +
                                 kit.read(os.path.join(self.dir, "peers.log"))[-2000:])

    def close(self):
        for f in reversed(self.closing):
            f()


def run(b):
    """The row of bench.py: in a process of its own, since it leaves the machine's namespaces."""
    import measure
    for tool in ("dnsperf", "unbound", "dnsmasq", "knotd", "cc"):
        if not shutil.which(tool):
            raise measure.Skip(f"{tool} is missing: run scripts/deps.sh bench")
    with tempfile.NamedTemporaryFile("r", suffix=".json") as f:
        subprocess.run([sys.executable, __file__, "--json", f.name, "udp", "latency"], check=True,
                       stdout=subprocess.DEVNULL)
        rows = json.load(f)

    def figure_of(server, **want):
        return next(r for r in rows if r["server"] == server and
                    all(r.get(k) == v for k, v in want.items()))

    peers = ("unbound", "dnsmasq", "echo, batches")
    for rate in (10000, 50000):
        b.add("dns", f"CPU per cached answer at {rate:,}/s", figure_of("weir", rate=rate)[
              "us_per_query"], unit="us", of=1.0,
              peers=[(p, figure_of(p, rate=rate)["us_per_query"]) for p in peers])
    b.add("dns", "cached answer, median", figure_of("weir", what="latency")["p50_us"], unit="us",
          peers=[(p, figure_of(p, what="latency")["p50_us"]) for p in
                 ("unbound", "dnsmasq", "authority")])


class Bench:
    def __init__(self, lab, seconds):
        self.lab, self.seconds, self.rows = lab, seconds, []
        self.perf = shutil.which("perf")

    def servers(self, echo=True):
        return [s for s in self.lab.servers if echo or "echo" not in s.name]

    def load(self, what, server, data, rate, **kw):
        perf = server.counters() if self.perf else None
        cpu = server.cpu_ns()
        text = server.ask(data, seconds=self.seconds, rate=rate, **kw)
        cpu = server.cpu_ns() - cpu
        done = figure(r"Queries completed: +(\d+)", text)
        sent = figure(r"Queries sent: +(\d+)", text)
        row = {"what": what, "server": server.name, "rate": rate,
               "per_second": round(figure(r"Queries per second: +([\d.]+)", text)),
               "lost": round(100 * (1 - done / max(sent, 1)), 2),
               "us_per_query": round(cpu / max(sent, 1) / 1000, 2),
               "rcodes": (re.search(r"Response codes: +(.*)", text) or [0, ""])[1]}
        if perf:
            perf.send_signal(signal.SIGINT)
            for line in perf.communicate()[1].splitlines():
                value, _, event = line.split(",")[:3]
                if value.isdigit():
                    row[event] = round(int(value) / max(sent, 1))
        self.rows.append(row)
        counted = " ".join(f"{row.get(e, 0):>6}" for e in EVENTS)
        print(f"{what:10} {server.name:14} {rate or 'max':>7} {row['per_second']:>9} "
              f"{row['us_per_query']:>8.2f}  {counted}  lost {row['lost']} %  {row['rcodes']}", flush=True)

    def bench_udp(self):
        """Cached answers over UDP at several rates."""
        for rate in RATES:
            for s in self.servers():
                # dns.qps ends at 100,000: above it answers would be refusals.
                self.load("udp", s, self.lab.hits, rate or 95000)

    def bench_tcp(self):
        for s in self.servers(echo=False):
            self.load("tcp", s, self.lab.hits, 10000, tcp=True)

    def bench_denied(self):
        """Names that the policy refuses."""
        self.load("denied", self.lab.servers[0], self.lab.denied, 10000)

    def percentiles(self, what, server, lines):
        us = sorted(float(x) * 1e6 for x in re.findall(r"^> NOERROR .* ([\d.]+)$", lines, re.M))
        row = {"what": what, "server": server.name, "n": len(us),
               "p50_us": round(statistics.median(us), 1),
               "p99_us": round(us[int(len(us) * 0.99)], 1)}
        self.rows.append(row)
        print(f"{what:10} {server.name:14} p50 {row['p50_us']:>7.1f} us  p99 {row['p99_us']:>7.1f} "
              f"us  n {row['n']}", flush=True)

    def bench_latency(self):
        """Cached answers at a low rate, beside asking the authority itself."""
        for s in self.servers(echo=False) + [self.lab.direct]:
            self.percentiles("latency", s, s.ask(self.lab.hits, seconds=self.seconds, rate=500,
                                                 verbose=True))

    def bench_uncached(self):
        """Names never asked before, each travels to the authority: beside asking that directly."""
        for s in self.servers(echo=False) + [self.lab.direct]:
            # One stream per server, each name once: nobody finds a name that was asked before.
            stamp = f"{s.name[0]}{int(time.time())}"
            data = self.lab.file("misses", "".join(f"m{stamp}x{i}.miss.{ZONE} A\n"
                                                   for i in range(500 * self.seconds)))
            self.percentiles("uncached", s, s.ask(data, passes=1, rate=500, verbose=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    kit.prepare()
    own_namespaces()
    with tempfile.TemporaryDirectory(prefix="weir-dns-") as directory:
        os.chmod(directory, 0o755)
        lab = None
        try:
            lab = Lab(directory)
            b = Bench(lab, args.seconds)
            print(f"{'what':10} {'server':14} {'rate':>7} {'answers/s':>9} {'CPU us':>8}  "
                  "cycles and instructions per query, in user space and kernel")
            for name in args.names or ["udp", "tcp", "denied", "latency", "uncached"]:
                getattr(b, "bench_" + name)()
        finally:
            if lab:
                lab.close()
    if args.json:
        with open(args.json, "w") as f:
            json.dump(b.rows, f, indent=1)


if __name__ == "__main__":
    main()
