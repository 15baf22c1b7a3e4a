"""Roles that die, hang or lose each other while sandboxes live on: what was allowed goes on, what
was not stays shut, and the rest comes back.

They share a daemon of their own, since its roles are killed."""

import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest
from kit import daemon as kit
from kit.api import Api
from kit.maps import EDGE, PORTS_TABLE, Maps
from kit.strays import edge_policies

ALLOWED = {4: "203.0.113.10", 6: "2001:db8:1::10"}
DENIED = {4: "203.0.113.20", 6: "2001:db8:1::20"}
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
libc = ctypes.CDLL(None, use_errno=True)

# An echo conversation that counts: "up", then a line each time a byte came back.
TALK = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), 60)
s.settimeout(60)
n = 0
while True:
    s.sendall(b"x")
    if not s.recv(1):
        break
    n += 1
    print(n, flush=True)
    time.sleep(0.01)
"""

# Never allowed: two sends each few milliseconds, on and on.
HAMMER = """
import socket, time
while True:
    for family, to in ((socket.AF_INET, "203.0.113.20"), (socket.AF_INET6, "2001:db8:1::20")):
        try:
            s = socket.socket(family, socket.SOCK_DGRAM)
            s.sendto(b"x", (to, 9999))
            s.close()
        except OSError:
            pass
    time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    """The service manager's socket, as systemd would hand it to weird."""
    path = str(tmp_path_factory.mktemp("manager") / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s, pytest.MonkeyPatch.context() as m:
        s.bind(path)
        m.setenv("NOTIFY_SOCKET", path)
        m.setenv("WATCHDOG_USEC", "120000000")
        yield s


@pytest.fixture(scope="module")
def daemon(manager):
    with kit.Daemon() as d:
        d.api = Api(d.url, d.key)
        yield d


@pytest.fixture
def box(daemon, lab):
    made = []

    def make(egress):
        made.append(daemon.api.create(egress=egress))
        return made[-1]

    yield make
    for each in made:
        each.destroy()


def until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)
    return value


def first_process(box):
    """Pid 1 of the sandbox, as the host numbers it."""
    namespace = os.readlink(f"/proc/{box.host_pid()}/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace and \
                    kit.read(f"/proc/{pid}/status").split("NSpid:")[1].split("\n")[0].split()[-1] == "1":
                return int(pid)
        except (OSError, IndexError):
            continue
    raise LookupError(f"no first process of {box.id}")


class Talk:
    """A conversation inside a sandbox with an echo server, and how far it has come."""

    def __init__(self, box, host):
        box.put("/root/talk.py", TALK.encode())
        box.sh(f"setsid python3 /root/talk.py {host} >/root/talk-{host} 2>&1 </dev/null &")
        # Read from outside: there may be no daemon to ask.
        self.out = f"/proc/{first_process(box)}/root/root/talk-{host}"
        self.goes_on()

    def text(self):
        with open(self.out) as f:
            return (f.read().splitlines() or [""])[-1]

    def goes_on(self):
        """It is alive now: another byte comes back, on the same connection."""
        before = self.text()
        until(lambda: (now := self.text()).isdigit() and now != before, self.text)

    def ended(self):
        until(lambda: self.text() and not self.text().isdigit(), self.text)


def hammer(box):
    box.put("/root/hammer.py", HAMMER.encode())
    box.sh("setsid python3 /root/hammer.py >/dev/null 2>&1 </dev/null &")
    box.denied("default", address=DENIED[4])


def nothing_left(lab, since):
    return [lab.flows(since, dst=DENIED[family]) for family in (4, 6)] == [[], []]


def lifted(box, lab, rules):
    """The control of every "nothing left": the same packets pass once a rule says so."""
    since = lab.now()
    box.set_egress(rules + [DENIED[4], DENIED[6]])
    until(lambda: lab.flows(since, dst=DENIED[4]) and lab.flows(since, dst=DENIED[6]),
          "the hammer hits nothing even when it may")


def back(daemon, role, before):
    """The role's new process answers."""
    until(lambda: daemon.role(role) not in (None, before), f"no new {role} role")
    until(lambda: daemon._ready(os.path.join(daemon.run_dir, "api.addr")), "not ready")
    daemon.api.__init__(daemon.url, daemon.key)


def log_of(daemon):
    with open(daemon.log_path, errors="replace") as f:
        return f.read()


def test_D17_the_proxy_is_killed(daemon, box, lab):
    box = box(egress=["allowed.test"])
    since = lab.now()
    talk = Talk(box, "allowed.test")
    hammer(box)
    for _ in range(3):
        pid = daemon.role("edge")
        os.kill(pid, signal.SIGKILL)
        until(lambda: box.dns("allowed.test", timeout=0.2).get("rcode") == 0, "no answers again")
        assert daemon.role("edge") != pid
        talk.goes_on()
        assert box.tcp(ALLOWED[4], 443) == "allow", "a pin was lost"
        assert box.dns("denied.test")["rcode"] == 3
    box.denied("name", name="denied.test")
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def stopped(pid):
    return kit.read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] == "T"


def test_D17_the_proxy_hangs(daemon, box, lab):
    """Stopped, as by a debugger: names wait, pinned flows live, and no other way out opens. It is
    found out, and a new one takes its place that knows what was learned."""
    box = box(egress=["allowed.test", "*.wild.test"])
    talk = Talk(box, "allowed.test")
    hammer(box)
    since = lab.now()
    ways = [{"dns": "stuck.wild.test", "type": "A", "server": server, "tcp": tcp, "timeout": 0.3}
            for server in (None, "8.8.8.8", lab.resolver4, lab.about["resolver6"])
            for tcp in (False, True)]
    for attempt in range(20):
        pid = daemon.role("edge")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: stopped(pid), "it does not stop")
        # Not by a name: that would be asked for, and wait.
        untold, *got = box.probe({"tcp": "203.0.113.41", "port": 443}, *ways)
        unheard = lab.queries(since, name="stuck.wild.test") == []
        if daemon.role("edge") == pid and stopped(pid):
            break  # what was seen was seen while it hung
    else:
        pytest.fail("replaced too soon to be looked at, twenty times")
    assert untold["verdict"] == "refused", "an address nobody was told"
    assert [r.get("rcode") for r in got] == [None] * len(ways), got
    assert unheard
    talk.goes_on()
    assert box.tcp(ALLOWED[4], 443) == "allow"
    until(lambda: daemon.role("edge") not in (None, pid), "nobody noticed")
    assert "role.stuck role=edge" in log_of(daemon)
    # The control: the same name, now that a proxy runs.
    until(lambda: box.dns("stuck.wild.test", timeout=0.5).get("rcode") == 0, "still stuck")
    assert lab.queries(since, name="stuck.wild.test")
    assert box.tcp("203.0.113.41", 443) == "allow"
    # What the old one learned, the new one knows: a new policy keeps the flow, and nobody asks.
    since = lab.now()
    box.set_egress(["allowed.test"])
    talk.goes_on()
    assert box.tcp(ALLOWED[4], 443) == "allow"
    assert lab.queries(since, name="allowed.test") == []
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def test_D17_the_api_role_hangs(daemon, box, lab):
    """Flows and names go on without it; a new one adopts the sandboxes, and commands run again."""
    box = box(egress=["allowed.test"])
    talk = Talk(box, "allowed.test")
    hammer(box)
    since = lab.now()
    first, pid = first_process(box), daemon.role("api")
    edge = daemon.role("edge")
    # The control: a short stop is nobody's end.
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stopped(pid), "it does not stop")
    os.kill(pid, signal.SIGCONT)
    assert box.sh("echo and on").stdout == "and on\n" and daemon.role("api") == pid
    os.kill(pid, signal.SIGSTOP)
    talk.goes_on()
    until(lambda: daemon.role("api") not in (None, pid), "nobody noticed")
    back(daemon, "api", pid)
    assert "role.stuck role=api" in log_of(daemon)
    assert box.wait("running").sh("echo still here").stdout == "still here\n"
    assert first_process(box) == first and daemon.role("edge") == edge
    talk.goes_on()
    assert box.dns("denied.test")["rcode"] == 3
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def test_D17_the_host_role_hangs(daemon, manager):
    """Whoever started it can see that: it tells of itself every second, and stops telling."""
    def heard(seconds):
        manager.settimeout(seconds)
        try:
            return manager.recv(64)
        except (TimeoutError, BlockingIOError):
            return None

    while heard(0):
        pass
    assert heard(60) == b"WATCHDOG=1"
    os.kill(daemon.process.pid, signal.SIGSTOP)
    until(lambda: stopped(daemon.process.pid), "it does not stop")
    while heard(0):
        pass
    assert heard(1.5) is None
    os.kill(daemon.process.pid, signal.SIGCONT)
    assert heard(60) == b"WATCHDOG=1"
    for role in ("api", "edge"):
        assert "NOTIFY_SOCKET" not in kit.read(f"/proc/{daemon.role(role)}/environ")


def test_D12_names_outlive_the_proxy(daemon, box, lab):
    """A policy change right after a restart of the edge: the new policy allows the same name, and
    the connection that the name opened before goes on, though this edge was never asked."""
    box = box(egress=["allowed.test", "other.test:7"])
    ported = {4: "203.0.113.23", 6: "2001:db8:1::23"}
    for name in ("allowed.test", "other.test"):
        for kind in ("A", "AAAA"):
            assert box.dns(name, kind)["addresses"]
    talks = [Talk(box, where[family]) for where in (ALLOWED, ported) for family in (4, 6)]
    for victim in ("edge", "host"):
        since = lab.now()
        pid = daemon.role("edge")
        if victim == "edge":
            os.kill(pid, signal.SIGKILL)
        else:
            daemon.kill9()
            daemon.start()
        back(daemon, "edge", pid)
        box.set_egress([f"{victim}.test", "allowed.test", "other.test:7"])
        for talk in talks:
            talk.goes_on()
        for family in (4, 6):
            assert box.tcp(ALLOWED[family], 443) == "allow"
            assert box.tcp(ported[family], 443) == "refused", "the port is part of the rule still"
        assert lab.queries(since, name="allowed.test") == [], "nobody asked anew"
    # The control: what the new policy does not name any more is cut.
    box.set_egress(["other.test:7"])
    for family, talk in zip((4, 6), talks):
        talk.ended()
        box.denied("cut", address=ALLOWED[family])
    for talk in talks[2:]:
        talk.goes_on()


def shared_socket(one, other):
    """A duplicate of the socket by which two processes talk to each other."""
    out = subprocess.run(["ss", "-xapH"], stdout=subprocess.PIPE, text=True, check=True).stdout
    ends = {}
    for line in out.splitlines():
        words = line.split()
        if words[0] == "u_seq" and f"pid={one}," in line:
            fd = next(p.split("fd=")[1].split(")")[0] for p in line.split("(")
                      if f"pid={one}," in p)
            ends[words[7]] = int(fd)  # by the far end's number
    for line in out.splitlines():
        words = line.split()
        if words[0] == "u_seq" and f"pid={other}," in line and words[5] in ends:
            pidfd = libc.syscall(SYS_PIDFD_OPEN, one, 0)
            fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, ends[words[5]], 0)
            os.close(pidfd)
            assert fd >= 0, os.strerror(ctypes.get_errno())
            return socket.socket(fileno=fd)
    raise LookupError(f"{one} and {other} share no socket:\n{out}")


def test_L6_the_channel_between_living_roles_breaks(daemon, box, lab):
    box = box(egress=["allowed.test"])
    talk = Talk(box, "allowed.test")
    hammer(box)
    since = lab.now()
    api, edge = daemon.role("api"), daemon.role("edge")
    for i in range(2):
        with shared_socket(api, edge) as s:
            s.shutdown(socket.SHUT_RDWR)
        until(lambda: log_of(daemon).count("role.pair") > i, "nobody paired them")
        # Refusals are told again, policies reach the edge again, nobody was restarted for it.
        name = f"again{i}.test"
        until(lambda: box.dns(name)["rcode"] == 3 and
              [d for d in box.denials() if d.get("name") == name], "the edge cannot be heard")
        box.set_egress(["allowed.test", f"{i}.wild.test"])
        assert box.dns(f"{i}.wild.test")["addresses"] == ["203.0.113.41"]
        assert box.dns("other.test")["rcode"] == 3
        talk.goes_on()
    assert (daemon.role("api"), daemon.role("edge")) == (api, edge)
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def in_force(box, lab):
    """What the policy says, seen from the API and from inside."""
    assert box.api.ok("GET", box.path + "/egress")["egress"] == ["allowed.test", "198.51.100.7"]
    until(lambda: box.dns("allowed.test", timeout=0.5).get("rcode") == 0, "no names")
    results = box.probe(
        *[{"tcp": "allowed.test", "port": 443, "family": family, "timeout": 10}
          for family in (4, 6)],
        {"tcp": "198.51.100.7", "port": 443, "timeout": 10},
        *[{"tcp": DENIED[family], "port": 443} for family in (4, 6)],
        {"dns": "denied.test", "type": "A", "server": None})
    assert [r.get("verdict") for r in results[:5]] == ["allow"] * 3 + ["refused"] * 2, results
    assert results[5]["rcode"] == 3


def reboot(daemon):
    """As far as one machine can play it: every process of the daemon dies, and all that lived in
    the kernel is gone; the state directory stays."""
    daemon.kill9()
    here = [pid for pid in os.listdir("/proc") if pid.isdigit() and
            f"/{daemon.name}/" in kit.read(f"/proc/{pid}/cgroup")]
    for pid in here:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    until(lambda: not [pid for pid in here if f"/{daemon.name}/" in
                       kit.read(f"/proc/{pid}/cgroup") and "Z" not in
                       kit.read(f"/proc/{pid}/stat").rpartition(")")[2][:3]], "still there")
    for line in kit.read("/proc/self/mounts").splitlines():
        if line.split()[1].startswith(daemon.run_dir):
            subprocess.run(["umount", "-l", line.split()[1]], check=True)
    shutil.rmtree(daemon.run_dir)
    shutil.rmtree(f"/sys/fs/bpf/{daemon.name}")
    subprocess.run(["ip", "link", "del", f"{daemon.name}0"], stderr=subprocess.DEVNULL)
    subprocess.run(["nft", "delete", "table", "inet", daemon.name], stderr=subprocess.DEVNULL)


def test_L2_the_policy_survives(daemon, box, lab):
    box = box(egress=["allowed.test", "198.51.100.7"])
    hammer(box)
    since = lab.now()
    in_force(box, lab)

    def pause():
        box.pause()
        box.resume()

    def restart():
        daemon.terminate()
        daemon.start()

    def kill():
        daemon.kill9()
        daemon.start()

    def kill_api():
        pid = daemon.role("api")
        os.kill(pid, signal.SIGKILL)
        back(daemon, "api", pid)

    for step in (pause, restart, kill_api):
        step()
        daemon.api.__init__(daemon.url, daemon.key)
        box.wait("running")
        in_force(box, lab)
    box.pause()
    kill()
    daemon.api.__init__(daemon.url, daemon.key)
    box.wait("paused").resume()
    in_force(box, lab)
    box.sh("echo kept >/root/kept; sync")
    reboot(daemon)
    daemon.start()
    daemon.api.__init__(daemon.url, daemon.key)
    box.wait("error")
    box.resume()
    assert box.sh("cat /root/kept").stdout == "kept\n"
    in_force(box, lab)
    hammer(box)
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def leads_to(link):
    try:
        return os.readlink(link)
    except OSError:
        return ""  # closed meanwhile


def kernel_objects(daemon):
    """What a sandbox costs the kernel, counted."""
    inside = ["nsenter", f"--net={daemon.run_dir}/router.ns"]
    count = {
        "links": len([line for line in subprocess.run(
            [*inside, "ip", "-o", "link"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True).stdout.splitlines() if line.split()[1][0] == "w"]),
        "mounts": sum(daemon.dir in line
                      for line in kit.read(f"/proc/{daemon.process.pid}/mountinfo").splitlines()),
        "cgroups": sum(daemon.name in path for path, _, _ in os.walk("/sys/fs/cgroup")),
        "namespaces": sum(leads_to(f"/proc/{daemon.process.pid}/fd/{fd}").startswith("net:")
                          for fd in os.listdir(f"/proc/{daemon.process.pid}/fd")),
        "files": len(os.listdir(f"/proc/{daemon.process.pid}/fd")),
        "loops": sum(daemon.dir in kit.read(f) for f in
                     glob.glob("/sys/block/loop*/loop/backing_file")),
        "layers": len(glob.glob(f"{daemon.state_dir}/layers/sb-*")),
    }
    for name in ("links", "policies", "prefixes", "ports", "pins", "names"):
        shown = subprocess.run(["bpftool", "-j", "map", "dump", "pinned",
                                f"/sys/fs/bpf/{daemon.name}/weir_{name}"], stdout=subprocess.PIPE)
        count[f"map {name}"] = len(json.loads(shown.stdout))
    return count


def test_L6_what_a_former_edge_left_is_collected(daemon, box):
    """A pin and its table of ports under a policy that nobody has: the edge that lives takes them away,
    and not those of a policy in force."""
    mine = box(["allowed.test:443", "allowed.test:8443"])
    assert mine.sh("getent ahostsv4 allowed.test").code == 0
    maps = Maps(daemon.name)
    in_force = {policy for policy, _ in maps.slots().values() if policy}
    assert edge_policies(maps) & in_force, "the control: it has pins"
    before, nobodys, table = edge_policies(maps) & in_force, 0x3ffffff0, EDGE | 7

    def put(name, key, value):
        subprocess.run(["bpftool", "map", "update", "pinned", f"{maps.dir}/{name}", "key",
                        *map(str, key), "value", *map(str, value)], check=True)
    put("weir_ports", struct.pack("<IIIBBH", 96, nobodys, table, 6, 0, 443), struct.pack("<BBH", 1, 1, 0))
    put("weir_pins", struct.pack("<I4B12x", nobodys << 1, 203, 0, 113, 10),
        struct.pack("<BBHIQ", 0, PORTS_TABLE, 0, table, time.clock_gettime_ns(time.CLOCK_MONOTONIC)))
    assert nobodys in edge_policies(maps)
    until(lambda: nobodys not in edge_policies(maps), "both are gone")
    assert before <= edge_policies(maps)


def test_L6_nothing_leaks_over_many_lives(daemon, lab):
    """Create, use, kill: the sandbox, or a role, or all. The kill matrix of each step is a test of
    its own; here it is the sum that must not grow."""
    def life(i):
        rules = ["allowed.test", "other.test:443", "203.0.113.0/28:80"]
        two = [daemon.api.create(egress=rules) for _ in range(2)]
        for b in two:
            b.probe({"dns": "allowed.test", "type": "A"}, {"dns": "other.test", "type": "A"})
        os.kill(first_process(two[0]), signal.SIGKILL)
        if i % 3 == 0:
            daemon.kill9()
            daemon.start()
            daemon.api.__init__(daemon.url, daemon.key)
        elif i % 3 == 1:
            pid = daemon.role("edge")
            os.kill(pid, signal.SIGKILL)
            back(daemon, "edge", pid)
        for b in two:
            b.wait("running", "error").destroy()
            b.wait("destroyed")

    def settled():
        """The pool is full again, and the collectors have been round."""
        life(2)
        seen = [kernel_objects(daemon)]
        until(lambda: seen.append(kernel_objects(daemon)) or seen[-1] == seen[-2] and
              seen[-1]["map policies"] == seen[-1]["map pins"] == seen[-1]["map names"] == 0,
              lambda: f"not settled: {seen[-2:]}")
        return seen[-1]

    life(0)
    life(1)
    first = settled()
    for i in range(3):
        life(i)
    assert settled() == first
    # The control: what lives is counted.
    alive = daemon.api.create(egress=["203.0.113.0/28:80"])
    now = kernel_objects(daemon)
    assert now["map policies"] == 1 and now["map prefixes"] and now["layers"] == first["layers"] + 1
    alive.destroy()
