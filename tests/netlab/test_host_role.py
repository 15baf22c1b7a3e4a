"""The host role by itself: `weird` with a played api role (tests/unit/sandbox/play_api.c) in a host
namespace of its own. What it hands out, what it refuses, what survives it and what it leaves."""

import inspect
import os
import random
import select
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time

import pytest

from kit import daemon as kit

IMAGE = "devbox:1"
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def sh(*argv, check=True):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stdout}"
    return done.stdout


def new_id():
    return "sb-0" + "".join(random.choices(ALPHABET, k=25))


def wait_for(what, limit=120):
    """Poll a condition; the limit only decides when to call it failed."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"did not come about in {limit} s: {inspect.getsource(what)}")


class Host:
    """A weird with a played api role, in a "host" namespace with one outside interface."""

    def __init__(self, **settings):
        tag = "".join(random.choices(string.ascii_lowercase, k=5))
        self.name = "h" + tag
        self.ns = "weir-" + self.name
        self.dir = tempfile.mkdtemp(prefix=f"weir-{self.name}-", dir="/var/tmp")
        os.chmod(self.dir, 0o711)
        self.bin = os.path.join(self.dir, "bin")
        os.mkdir(self.bin)
        build = kit.build_dir()
        for name, at in (("weird", "src/cmd/weird"), ("weir-edge", "src/cmd/weir-edge"),
                         ("weir-agent", "src/agent/weir-agent"),
                         ("weir-api", "tests/unit/sandbox/play-api")):
            shutil.copy2(os.path.join(build, at), os.path.join(self.bin, name))
        self.settings = {
            "daemon.name": self.name, "daemon.run_dir": self.dir + "/run",
            "daemon.state_dir": self.dir + "/state", "daemon.image_dir": kit.image_dir(),
            "api.listen": "127.0.0.1:0", "net.range4": "10.99.0.0/20",
            "uid.base": str(65536 * random.randrange(2, 530)),
            **{k.replace("__", "."): v for k, v in settings.items()},
        }
        sh("ip", "netns", "add", self.ns)
        far = "f" + tag
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "out", "type", "veth", "peer", "name", far)
        self.run("ip", "addr", "add", "192.0.2.2/24", "dev", "out")
        for link in ("out", far):
            self.run("ip", "link", "set", link, "up")
        self.run("ip", "route", "add", "default", "via", "192.0.2.1")
        self.process = None
        self.log_path = self.dir + "/log"

    def inside(self, *argv):
        return ("nsenter", f"--net=/run/netns/{self.ns}") + argv

    def run(self, *argv, check=True):
        return sh(*self.inside(*argv), check=check)

    def argv(self, *more):
        argv = [self.bin + "/weird", "--config", "/dev/null"]
        for key, value in self.settings.items():
            argv += ["--set", f"{key}={value}"]
        return self.inside(*argv, *more)

    def start(self):
        address = self.dir + "/run/api.addr"
        if os.path.exists(address):
            os.unlink(address)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(address) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        with open(address) as f:
            host, port = f.read().split()[0].rsplit(":", 1)
        self.api = Line(self, host, int(port))
        return self

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def action(self, flag):
        done = subprocess.run(self.argv(flag), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120)
        return done.returncode, done.stdout

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(180)

    def children(self, name):
        found = []
        for p in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{p}/comm") as f:
                    comm = f.read().strip()
                with open(f"/proc/{p}/environ") as f:
                    if comm == name and f"WEIR_DAEMON={self.name}\0" in f.read() + "\0":
                        found.append(int(p))
            except OSError:
                pass
        return found

    def router(self, *argv):
        return sh("nsenter", f"--net={self.dir}/run/router.ns", *argv)

    def links(self):
        return [w.split("@")[0] for line in self.router("ip", "-o", "link").splitlines()
                for w in [line.split()[1]] if w[0] == "w"]

    def close(self):
        try:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            down = self.action("--down")
            leaks = self.action("--leaks")
            out = self.run("ip", "-o", "link"), self.run("nft", "list", "tables")
            forwarding = self.run("cat", "/proc/sys/net/ipv4/conf/out/forwarding").strip()
        finally:
            sh("ip", "netns", "del", self.ns, check=False)
        assert down == (0, ""), down
        assert leaks == (0, ""), leaks
        assert self.name not in out[0] and out[1] == "", out
        assert forwarding == "0"
        assert not glob_name(self.name)
        shutil.rmtree(self.dir)


def glob_name(name):
    return [p for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory",
                          "/sys/fs/cgroup/pids", "/sys/fs/bpf")
            for p in [os.path.join(top, name)] if os.path.exists(p)]


class Line:
    """The played api role: a line goes, a line comes."""

    def __init__(self, host, address, port):
        self.host, self.address, self.port = host, address, port
        self.sock = None

    def _connect(self):
        # A socket of the host's namespace: made by a thread that visits it.
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.host.ns}", os.O_RDONLY)
        libc = __import__("ctypes").CDLL(None, use_errno=True)
        try:
            assert libc.setns(there, 0x40000000) == 0
            self.sock = socket.create_connection((self.address, self.port), timeout=180)
        finally:
            assert libc.setns(home, 0x40000000) == 0
            os.close(home)
            os.close(there)
        self.file = self.sock.makefile("r")

    def raw(self, text):
        if self.sock is None:
            self._connect()
        self.sock.sendall((text + "\n").encode())

    def read(self):
        line = self.file.readline()
        assert line, f"the played api role is gone: {self.host.log()[-3000:]}"
        return line.split()

    def __call__(self, *words):
        self.raw(" ".join(str(w) for w in words))
        return self.read()

    def ok(self, *words):
        answer = self(*words)
        assert answer[0] == "ok", (words, answer, self.host.log()[-2000:])
        return answer[1:]

    def err(self, *words):
        answer = self(*words)
        assert answer[0] == "err", (words, answer)
        return answer[2], " ".join(answer[3:])

    def list(self):
        boxes = {}
        for item in self.ok("list"):
            id_, slot, link, ifindex, ip, policy, state, status = item.split(",")
            boxes[id_] = {"slot": int(slot), "link": link, "ifindex": int(ifindex), "ip": ip,
                          "policy": int(policy), "state": int(state), "status": int(status)}
        return boxes


@pytest.fixture(scope="module", autouse=True)
def needs():
    if os.geteuid() != 0:
        pytest.skip("needs root")
    kit.build()
    kit.user()
    kit.image(IMAGE)


@pytest.fixture
def host():
    h = Host()
    try:
        yield h.start()
    finally:
        print(h.log())  # pytest shows it if the test failed
        h.close()


def test_life_of_a_sandbox(host):
    """spawn, commit, freeze, thaw, destroy; and nothing is left of it."""
    id_ = new_id()
    slot, link, ifindex, ip, took = host.api.ok("spawn", id_, IMAGE)
    assert ip == f"10.99.0.{slot}"
    assert link in host.links()
    assert host.api.ok("agent", link) == []
    assert host.api.list()[id_]["policy"] == 0
    host.api.ok("commit", id_, slot, 7, "allow")
    assert host.api.list()[id_] == {"slot": int(slot), "link": link, "ifindex": int(ifindex),
                                    "ip": ip, "policy": 7, "state": 0, "status": -1}
    host.api.ok("freeze", id_)
    assert host.api.list()[id_]["state"] == 1
    host.api.ok("freeze", id_)
    host.api.ok("thaw", id_)
    assert int(host.api.ok("stats", id_)[1]) >= 1
    host.api.ok("destroy", id_)
    assert host.api.list() == {}
    assert link not in host.links()
    # A second destroy is as good as the first.
    host.api.ok("destroy", id_)


def first_process(host, id_):
    """Its number, as the host role's record has it."""
    with open(f"{host.dir}/run/sandboxes/{id_}") as f:
        return next(line.split("=")[1].strip() for line in f if line.startswith("rt.pid="))


def groups(pid):
    """The directories of a process's control group, one in each hierarchy that its sandbox uses."""
    with open(f"/proc/{pid}/cgroup") as f:
        paths = [line.strip().split(":", 2) for line in f]
    with open("/proc/self/mountinfo") as f:
        mounts = [(line.split()[4], line.split(" - ")[1].split()) for line in f]
    found = []
    for _, controllers, path in paths:
        for at, (kind, _, options) in mounts:
            if kind == ("cgroup" if controllers else "cgroup2") and "/box-" in path and \
                    all(c in options.split(",") for c in controllers.split(",") if c):
                found.append(at + path)
    return found


def unanswered(line):
    return not select.select([line.sock], [], [], 0)[0]


def test_an_end_that_takes_its_time(host):
    """A control group that cannot be removed yet: that DESTROY waits, nothing else does."""
    id_, other = new_id(), new_id()
    host.api.ok("spawn", id_, IMAGE)
    host.api.ok("spawn", other, IMAGE)
    pid = first_process(host, id_)
    at = groups(pid)
    assert at and all(map(os.path.isdir, at))
    held = at[0] + "/held"
    os.mkdir(held)
    try:
        waiting = Line(host, host.api.address, host.api.port)
        waiting.raw(f"destroy {id_}")
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
        for _ in range(20):  # each a turn of the loop
            host.api.ok("freeze", other)
            host.api.ok("thaw", other)
        host.api.ok("spawn", new_id(), IMAGE)
        host.api.ok("destroy", other)  # the one behind it in the queue
        assert unanswered(waiting) and os.path.isdir(at[0])
    finally:
        os.rmdir(held)
    assert waiting.read()[0] == "ok"
    assert not any(map(os.path.exists, at))
    assert id_ not in host.api.list()


class Frost:
    """A file system of its own, on which writes stop until it is told to let them."""

    def __init__(self, directory):
        self.at, disk = directory + "/frost", directory + "/frost.img"
        os.mkdir(self.at)
        sh("mkfs.ext4", "-q", disk, "16M")
        sh("mount", "-o", "loop", disk, self.at)
        # Frozen for as long as the shell lives: whatever becomes of this process.
        self.shell = subprocess.Popen(
            ["sh", "-c", 'fsfreeze -f "$0" && echo frozen && read x; fsfreeze -u "$0"', self.at],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.shell.stdout.readline() == b"frozen\n"
        self.writers = []

    def writer(self, groups):
        """A process in these control groups that waits for the disk, and for no signal."""
        child = subprocess.Popen(["sh", "-c", 'for g; do echo $$ >"$g/cgroup.procs"; done; : >"$0/x"',
                                  self.at, *groups])
        self.writers.append(child)

        def waits():
            with open(f"/proc/{child.pid}/stat") as f:
                return f.read().rpartition(")")[2].split()[0] == "D"
        wait_for(waits)

    def melt(self):
        self.shell.communicate()

    def close(self):
        self.melt()
        for child in self.writers:
            child.wait(120)
        sh("umount", self.at)


def test_a_sandbox_that_resists_freezing(host):
    """A process that waits for a disk cannot be frozen: that FREEZE waits, nothing else does."""
    id_, other = new_id(), new_id()
    host.api.ok("spawn", id_, IMAGE)
    host.api.ok("spawn", other, IMAGE)
    pid = first_process(host, id_)
    waiting = Line(host, host.api.address, host.api.port)
    frost = Frost(host.dir)
    try:
        frost.writer(groups(pid))
        waiting.raw(f"freeze {id_}")
        for _ in range(3):
            host.api.ok("freeze", other)
            host.api.ok("thaw", other)
        host.api.ok("spawn", new_id(), IMAGE)
        assert host.api.err("thaw", id_) == ("conflict", f"{id_} is being paused")
        assert unanswered(waiting) and host.api.list()[id_]["state"] == 0
        frost.melt()
        assert waiting.read()[0] == "ok"
        assert host.api.list()[id_]["state"] == 1
    finally:
        frost.melt()
        host.api.ok("thaw", id_)
        frost.close()


def test_a_growth_that_takes_its_time():
    """The disk does not answer: GROW waits, nothing else does, and a DESTROY waits for it."""
    host = Host(disk__backend="loop", pool__slots=0)
    state = host.dir + "/state"
    os.mkdir(state)
    sh("mkfs.ext4", "-q", host.dir + "/disk", "512M")
    sh("mount", "-o", "loop", host.dir + "/disk", state)
    try:
        host.start()
        id_, other = new_id(), new_id()
        host.api.ok("spawn", id_, IMAGE)
        host.api.ok("spawn", other, IMAGE)
        growing, ending = (Line(host, host.api.address, host.api.port) for _ in range(2))
        # Frozen for as long as the shell lives: whatever becomes of this process.
        with subprocess.Popen(["sh", "-c", 'fsfreeze -f "$0" && echo frozen && read x; fsfreeze -u "$0"',
                               state], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as frost:
            assert frost.stdout.readline() == b"frozen\n"
            growing.raw(f"grow {id_} 4096")
            for _ in range(20):
                host.api.ok("freeze", other)
                host.api.ok("thaw", other)
            assert host.api.err("grow", id_, "4096")[0] == "conflict"
            ending.raw(f"destroy {id_}")
            assert id_ in host.api.list()
            assert unanswered(growing) and unanswered(ending)
            frost.stdin.close()
        answer = growing.read()
        assert answer[0] == "ok" or "CAP_SYS_RESOURCE" in " ".join(answer), answer
        assert ending.read()[0] == "ok"
        assert list(host.api.list()) == [other]
        host.api.ok("destroy", other)
    finally:
        print(host.log())
        host.stop()
        sh("umount", "-l", state)
        host.close()


def test_pooled_spawn(host):
    """With a ready slot, a spawn is a matter of milliseconds; reported, not judged by time."""
    wait_for(lambda: len(host.links()) >= 4)
    before = set(host.links())
    slot, link, *_ , took = host.api.ok("spawn", new_id(), IMAGE)
    assert link in before, "the link was there before it was asked for"
    print(f"took {took} us")
    wait_for(lambda: len(host.links()) >= 5)


def test_spawn_in_a_slot_that_is_being_made(host):
    """Who names a slot which the pool is making, or has made, gets that one; the next is refused."""
    wait_for(lambda: len(host.links()) >= 4)
    host.stop()
    host.start()  # at once the pool makes its four again
    for slot in ("1", "2", "3", "4"):
        assert host.api.ok("spawn", new_id(), IMAGE, slot)[0] == slot
        assert host.api.err("spawn", new_id(), IMAGE, slot)[0] == "conflict"
    assert len(host.api.list()) == 4


def test_refusals(host):
    """What the broker does not know or cannot take is refused; rules broken cost the role its life."""
    id_ = new_id()
    assert host.api.err("spawn", id_, "no-such-image:1")[0] == "not-found"
    assert host.api.err("spawn", "../../etc", IMAGE)[0] == "invalid"
    assert host.api.err("spawn", new_id(), IMAGE, 4090)[0] == "invalid"
    assert host.api.err("freeze", id_)[0] == "not-found"
    slot, *_ = host.api.ok("spawn", id_, IMAGE)
    assert host.api.err("spawn", id_, IMAGE)[0] == "conflict"
    assert host.api.err("spawn", new_id(), IMAGE, slot)[0] == "conflict"
    assert "is in slot" in host.api.err("commit", id_, int(slot) + 1, 3, "allow")[1]

    api = wait_for(lambda: host.children("weir-api"))
    for message in ("raw 9999 0", "raw 160 24", "raw 34 3"):
        host.api.raw(message)
        wait_for(lambda: host.children("weir-api") not in ([], api))
        api = host.children("weir-api")
        host.api.sock = None
    assert host.log().count("broker.refused") == 3
    assert list(host.api.list()) == [id_], "the sandbox outlived the role"


def test_roles_have_nothing(host):
    """weir-api and weir-edge: no capability, no group, no new privileges, not root."""
    status = dict(x.split("=", 1) for x in " ".join(host.api.ok("ids")).split(";") if x)
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[key], 16) == 0, key
    assert status["NoNewPrivs"] == "1" and status["Groups"] == ""
    assert "0" not in status["Uid"].split()
    edge = wait_for(lambda: host.children("weir-edge"))[0]
    router = os.stat(f"{host.dir}/run/router.ns").st_ino
    assert os.stat(f"/proc/{edge}/ns/net").st_ino == router
    with open(f"/proc/{edge}/status") as f:
        assert "CapEff:\t0000000000000000" in f.read()


def test_role_restart(host):
    """A killed role is back at once, and the other is given a new channel to it."""
    heard = []
    wait_for(lambda: heard.extend(host.api.ok("events")) or heard == ["peers,10"])
    edge = wait_for(lambda: host.children("weir-edge"))
    os.kill(edge[0], signal.SIGKILL)
    wait_for(lambda: heard.extend(host.api.ok("events")) or heard[1:] == ["edge,0"])
    assert host.children("weir-edge") != edge
    id_ = new_id()
    host.api.ok("spawn", id_, IMAGE)
    host.api.raw("quit 3")
    host.api.sock = None
    wait_for(lambda: host.log().count("role.start role=api") == 2)
    assert list(host.api.list()) == [id_]


def test_kill_9_and_adoption(host):
    """kill -9 of the host role: sandboxes run on and are adopted with their policy and link."""
    a, b, c = new_id(), new_id(), new_id()
    slots = {x: host.api.ok("spawn", x, IMAGE) for x in (a, b, c)}
    for n, x in enumerate((a, b)):
        host.api.ok("commit", x, slots[x][0], 10 + n, "allow")
    host.api.ok("freeze", b)
    before = host.api.list()
    host.process.kill()
    host.process.wait()
    wait_for(lambda: not host.children("weir-api") and not host.children("weir-edge"))
    host.start()
    assert host.api.list() == before
    assert sorted(x["state"] for x in before.values()) == [0, 0, 1]
    host.api.ok("agent", before[a]["link"])
    host.api.ok("thaw", b)
    for x in (a, b, c):
        host.api.ok("destroy", x)
    assert host.api.list() == {}


def test_upgrade(host):
    """SIGTERM leaves sandboxes, the next start has them; a policy can be changed."""
    id_ = new_id()
    slot = host.api.ok("spawn", id_, IMAGE)[0]
    host.api.ok("commit", id_, slot, 5, "deny")
    assert host.stop() == 0
    host.start()
    assert host.api.list()[id_]["policy"] == 5
    host.api.ok("commit", id_, slot, 6, "allow")
    assert host.api.list()[id_]["policy"] == 6


def test_death_of_a_sandbox(host):
    """Its first process ends: the api role is told once, the sandbox stays listed as dead."""
    id_ = new_id()
    slot, link, *_ = host.api.ok("spawn", id_, IMAGE)
    host.api.ok("events")
    agents = [int(p) for p in filter(str.isdigit, os.listdir("/proc")) if is_agent(p, host.name)]
    assert agents
    for p in agents:
        os.kill(p, signal.SIGKILL)
    events = wait_for(lambda: host.api.ok("events"))
    assert events[0].startswith(f"exited,{id_},")
    wait_for(lambda: link not in host.links())
    assert host.api.list()[id_]["state"] == 2
    assert host.api.err("spawn", new_id(), IMAGE, slot)[0] == "conflict", "its slot is kept"
    host.stop()
    host.start()
    assert host.api.list()[id_]["state"] == 2, "remembered across a restart"
    host.api.ok("destroy", id_)
    assert host.api.list() == {}
    host.api.ok("spawn", new_id(), IMAGE, slot)


def is_agent(pid, name):
    try:
        with open(f"/proc/{pid}/cgroup") as f, open(f"/proc/{pid}/comm") as g:
            return f":/{name}/" in f.read() and "starter" not in g.read()
    except OSError:
        return False


def test_revive(host):
    """A kept layer comes back under its id and in its reserved slot."""
    id_ = new_id()
    slot = host.api.ok("spawn", id_, IMAGE)[0]
    host.api.ok("destroy", id_, 1)
    host.api.ok("reserve", slot)
    others = [host.api.ok("spawn", new_id(), IMAGE)[0] for _ in range(3)]
    assert slot not in others
    assert host.api.ok("spawn", id_, IMAGE, slot, 1)[0] == slot


def test_sigint_takes_all(host):
    """SIGINT: sandboxes, links, rules, programs, everything goes."""
    for _ in range(3):
        host.api.ok("spawn", new_id(), IMAGE)
    assert host.stop(signal.SIGINT) == 0
    assert host.action("--leaks") == (0, "")


def test_down_after_kill_9(host):
    """`--down` works on what a killed daemon left, and says nothing."""
    host.api.ok("spawn", new_id(), IMAGE)
    host.process.kill()
    host.process.wait()
    code, out = host.action("--leaks")
    assert code == 1 and "router.ns" in out and "process" in out
    # close() runs --down and looks everywhere.


def test_second_daemon(host):
    """The run directory has one owner; another daemon beside it is no trouble."""
    done = subprocess.run(host.argv(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1 and "another weird" in done.stdout
    other = Host(net__range4="10.98.0.0/20")
    try:
        other.start()
        id_ = new_id()
        other.api.ok("spawn", id_, IMAGE)
        assert id_ not in host.api.list()
    finally:
        other.close()


def test_new_address_is_floor(host):
    """An address that the host gains is closed to sandboxes without anybody asking."""
    host.run("ip", "addr", "add", "203.0.113.5/32", "dev", "lo")
    wait_for(lambda: "floor.add address=203.0.113.5" in host.log())
    host.run("ip", "addr", "del", "203.0.113.5/32", "dev", "lo")
    wait_for(lambda: "floor.drop address=203.0.113.5" in host.log())


def test_missing_user():
    h = Host(daemon__user="nobody-has-this")
    try:
        done = subprocess.run(h.argv(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 1
        assert "useradd --system" in done.stdout
    finally:
        h.close()


def test_ipv6(host):
    """A host with IPv6: links get it too, and what was changed for it goes back."""
    host.stop()
    assert host.action("--down") == (0, "")
    host.run("ip", "addr", "add", "2001:db8::2/64", "dev", "out", "nodad")
    keys = ("net/ipv6/conf/all/forwarding", "net/ipv6/conf/out/accept_ra",
            "net/ipv6/conf/out/force_forwarding")

    def values():
        return [host.run("cat", "/proc/sys/" + k, check=False) for k in keys]

    before = values()
    host.start()
    assert host.api.ok("info")[2] == "1"
    id_ = new_id()
    slot, link, *_ = host.api.ok("spawn", id_, IMAGE)
    assert f"fd77:6569:7200::{int(slot):x} via fe80::77:2 dev {link}" in \
        host.router("ip", "-6", "route")
    assert values() != before
    host.stop(signal.SIGINT)
    assert values() == before


def test_burst(host):
    """Creates that come at once are all answered, and each has its own slot."""
    ids = [new_id() for _ in range(24)]
    for id_ in ids:
        host.api.raw(f"spawn {id_} {IMAGE}")
    answers = [host.api.read() for _ in ids]
    assert all(a[0] == "ok" for a in answers), answers
    assert len({a[1] for a in answers}) == len(ids)
    assert set(host.api.list()) == set(ids)
    for id_ in ids:
        host.api.raw(f"destroy {id_}")
    assert all(host.api.read()[0] == "ok" for _ in ids)
    assert host.api.list() == {}
