"""One daemon built with fault points, and everything that must stay true of it whatever is killed.

	with World(lab) as w:
		trial = w.trial("create", "host.policy.flipped", kill="host")
		trial.violations	what did not hold, as sentences

A *trial* is one operation (ops.py) during which one process is killed with SIGKILL, at the very
moment some role passes the named point: either the role itself (the point kills it), or another
one (the point holds its role, the victim is killed, the point lets go). Then the daemon must become
whole by itself (the host role's supervisor; for the host role itself a new start with the same
configuration), and the following must hold:

	* The operation was finished or undone, and its sandbox is in a final state that says why.
	* What was answered with success is so; what was not is one of the two, and the kernel does
	  what the API says.
	* A bystander was not touched: its commands run, its policy is the same, its flow goes on.
	* Not one packet passed that the policy in force refuses. Frames towards a refused address
	  leave the namespace of every sandbox, parked ones too, a few hundred a second; each trial
	  has a port of its own, and the lab must not have seen it.
	* Nothing is left that no sandbox stands for (kit/strays.py).
"""

import ctypes
import os
import signal
import socket
import threading
import time

from kit import fault, raw
from kit.api import Api, Refused
from kit.daemon import Daemon, comm, descendants, read
from kit.strays import agents, clean, firsts, sandboxes, strays

REFUSED, TIGHT, ALIVE = "203.0.113.20", "203.0.113.30", "203.0.113.7"
WHOLE_S, FINAL_S, REACH_S, CLEAN_S = 180, 120, 120, 120
FINAL = ("running", "paused", "error", "failed", "destroyed")
# Points in a child of the agent: it alone dies of being killed there.
WORKERS = ("agent.put.opened", "agent.put.received", "agent.put.renamed", "agent.get.opened")
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)

# In the bystander: a connection that must never break, and how far it is.
ECHO = f"""
import socket, time
s = socket.create_connection(("{ALIVE}", 7), 60)
n = 0
while True:
    s.sendall(b"%d\\n" % n)
    assert s.recv(64)
    n += 1
    with open("/run/alive.new", "w") as f: f.write(str(n))
    __import__("os").rename("/run/alive.new", "/run/alive")
    time.sleep(0.02)
"""


class FaultyDaemon(Daemon):
    def __init__(self, settings=None):
        super().__init__(settings)
        self.faults = os.path.join(self.dir, "faults")
        os.mkdir(self.faults)
        os.chmod(self.faults, 0o1777)

    def environment(self):
        return dict(super().environment(), WEIR_FAULTS=self.faults)

    def pid(self, role):
        if role == "host":
            return self.process.pid if self.process.poll() is None else None
        return next((p for p in descendants(self.process.pid) if comm(p) == f"weir-{role}"), None)


def until(what, seconds, why):
    end = time.monotonic() + seconds
    while True:
        try:
            if value := what():
                return value
        except (OSError, ValueError, Refused):
            value = None
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why() if callable(why) else why}")
        time.sleep(0.01)


def agent_pid(daemon, ip):
    """The first process of the sandbox with this address."""
    return next((pid for pid in agents(daemon)
                 if f"|-- {ip}\n" in read(f"/proc/{pid}/net/fib_trie")), None)


class Sprayer(threading.Thread):
    """Frames towards REFUSED from inside the namespace of every sandbox, from its first process on,
    as root of the host would send them: whatever is inside could not send more."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.daemon_, self.port, self.ends = daemon, 1, False
        self.own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.sockets, self.sent, self.skip = {}, 0, set()

    def places(self):
        for pid in firsts(self.daemon_):
            yield f"/proc/{pid}/ns/net"

    def look(self):
        found = {}
        for place in self.places():
            try:
                if not os.readlink(place).startswith("net:["):
                    continue
                inode = os.stat(place).st_ino
                if inode in self.skip:
                    continue
                found[inode] = self.sockets.get(inode) or self.enter(place)
                if not found[inode]:
                    self.skip.add(inode)
                    del found[inode]
            except OSError:
                continue
        for inode in set(self.sockets) - set(found):
            self.sockets[inode][0].close()
        self.sockets = found

    def enter(self, place):
        """A packet socket on the namespace's eth0, and the address it has."""
        fd = os.open(place, os.O_RDONLY)
        try:
            if libc.setns(fd, CLONE_NEWNET):
                return None
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.connect((REFUSED, 9))
                    source = probe.getsockname()[0]
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
                s.bind(("eth0", 0))
                return (s, source) if source.startswith("10.") else None
            except OSError:
                return None
        finally:
            os.close(fd)
            libc.setns(self.own, CLONE_NEWNET)

    def run(self):
        looked = 0
        while not self.ends:
            if time.monotonic() - looked > 0.1:
                self.look()
                looked = time.monotonic()
            for s, source in self.sockets.values():
                try:
                    s.send(raw.eth(raw.ipv4(source, REFUSED, 17,
                                            raw.udp(source, REFUSED, 40000, self.port))))
                    self.sent += 1
                except OSError:
                    pass
            time.sleep(0.005)


class Outcome:
    """What a client saw of the operation."""

    def __init__(self):
        self.done = threading.Event()
        self.value = self.error = None

    def run(self, act):
        try:
            self.value = act()
        except Refused as e:
            self.error = f"{e.response.status}: {e.response.says}"
        except Exception as e:  # a broken connection, in whatever way
            self.error = f"lost: {e!r}"
        self.done.set()

    @property
    def acked(self):
        return self.done.is_set() and self.error is None


class Trial:
    def __init__(self, world, op, point, kill):
        self.world, self.op, self.point, self.kill = world, op, point, kill
        self.violations, self.reached = [], True

    def __str__(self):
        return f"{self.op.name} at {self.point}, {self.kill} killed"

    def wrong(self, text):
        self.violations.append(f"{self}: {text}")


class World:
    def __init__(self, lab, settings=None):
        self.lab = lab
        self.daemon = FaultyDaemon({"pool.slots": "2", "edge.workers": "1", **(settings or {})})
        self.api = None
        self.ports = iter(range(10001, 60000))
        self.tables = {}

    # --- life ---

    def __enter__(self):
        self.daemon.start()
        self.api = Api(self.daemon.url, self.daemon.key)
        self.sprayer = Sprayer(self.daemon)
        try:
            self.bystander = self.api.create(name="bystander", egress=["allowed.test", f"{ALIVE}:7"])
            self.bystander.put("/root/echo.py", ECHO.encode())
            self.bystander.sh("setsid python3 /root/echo.py >/run/echo.log 2>&1 </dev/null &")
            self.alive = 0
            until(self.flowing, REACH_S, "the bystander's connection does not begin")
            self.sprayer.start()
            self.control()
        except BaseException as e:
            self.__exit__(type(e))
            raise
        return self

    def __exit__(self, kind, *_):
        self.sprayer.ends = True
        if self.sprayer.is_alive():
            self.sprayer.join()
        for s, _ in self.sprayer.sockets.values():
            s.close()
        self.daemon.__exit__(kind, None, None)

    def control(self):
        """The very frames that must not pass do, where the policy is open."""
        port, since = next(self.ports), self.lab.now()
        self.sprayer.port = port
        box = self.api.create(egress=[])
        until(lambda: self.lab.flows(since, dst=REFUSED, dport=port), REACH_S,
              "frames of an open sandbox do not reach the lab: this would find nothing")
        box.destroy()
        self.rest()

    def rest(self, keys=False):
        """Until nothing is left over; keys of retired policies may take some seconds."""
        until(lambda: clean(self.daemon, self.api, keys), CLEAN_S,
              lambda: f"left over: {strays(self.daemon, self.api, keys)}")

    def table(self, role, box=None):
        if role == "agent":
            pid = agent_pid(self.daemon, box.ip if box else None)
            return fault.table(f"/proc/{pid}/root/run", "agent") if pid else None
        if role not in self.tables:
            self.tables[role] = fault.table(self.daemon.faults, role)
        return self.tables[role]

    def whole(self):
        """All roles live and answer; the host role is started again if it was killed."""
        if self.daemon.process.poll() is not None:
            self.daemon.start()
        until(lambda: all(self.daemon.pid(r) for r in ("api", "edge")), WHOLE_S, "a role is missing")
        address = os.path.join(self.daemon.run_dir, "api.addr")
        until(lambda: self.daemon._ready(address), WHOLE_S, "the API is not ready")
        self.api.__init__(self.daemon.url, self.daemon.key)

    def flowing(self):
        r = self.bystander.exec("cat", "/run/alive")
        now = int(r.stdout) if r.code == 0 and r.stdout.strip() else 0
        if now <= self.alive:
            return False
        self.alive = now
        return True

    # --- which points an operation passes ---

    def passes(self, op):
        """{role: points} that one undisturbed run goes through."""
        subject = op.prepare(self)
        self.rest()
        roles = [r for r in ("host", "api", "edge", "agent")]
        before = {r: t.counts() for r in roles if (t := self.table(r, subject))}
        agent = self.table("agent", subject) if subject else None
        outcome = Outcome()
        outcome.run(lambda: op.act(self, subject))
        assert outcome.acked, f"{op.name} without any fault: {outcome.error}"
        op.settle(self, subject)
        found = {}
        for role in roles:
            now = agent if role == "agent" and agent else \
                self.table(role, op.subject_after(self, subject, outcome))
            if now:
                found[role] = [n for n, c in now.counts().items()
                               if c > before.get(role, {}).get(n, 0)]
        op.clean(self, op.subject_after(self, subject, outcome))
        return found

    # --- one trial ---

    def trial(self, op, point, kill):
        trial = Trial(self, op, point, kill)
        role = point.split(".")[0]
        subject = op.prepare(self)
        trial.port = self.sprayer.port = next(self.ports)
        trial.since = self.lab.now()
        outcome = Outcome()
        try:
            table = self.table(role, subject)
            own = kill == role and role != "agent"
            pid = self.daemon.pid(kill) if kill != "agent" else None
            before = set(agents(self.daemon))
            table.arm(point, fault.KILL if kill == role else fault.HOLD)
            acted = table.acted(point)
            client = threading.Thread(target=outcome.run, args=(lambda: op.act(self, subject),))
            client.start()
            try:
                until(lambda: table.acted(point) > acted and (kill == role or table.held(point)),
                      REACH_S, f"{point} was not passed")
            except AssertionError:
                trial.reached = False
            if trial.reached and kill != role:
                victim = pid if kill != "agent" else op.first_process(self, subject, before)
                if victim:
                    os.kill(victim, signal.SIGKILL)
                    if kill == "host":
                        self.daemon.process.wait()
                    else:
                        until(lambda: not alive(victim), REACH_S, f"{kill} does not die")
                else:
                    trial.reached = False
            table.release()
            if own and kill == "host" and trial.reached and not point.startswith(
                    ("host.starter", "host.inside")):
                self.daemon.process.wait(REACH_S)
            elif own and trial.reached and pid:
                until(lambda: not alive(pid) or point.startswith(("host.starter", "host.inside")),
                      REACH_S, f"{kill} does not die")
            self.whole()
            client.join(REACH_S)
            if client.is_alive():
                trial.wrong("the client was left without an answer")
                client.join(60)
            op.check(self, trial, subject, outcome)
            self.check(trial)
        except AssertionError as e:
            trial.wrong(str(e))
            if self.daemon.process.poll() is not None:
                self.daemon.start()
        finally:
            for t in self.tables.values():
                t.release()
        try:
            op.clean(self, op.subject_after(self, subject, outcome))
            self.rest()
        except AssertionError as e:
            trial.wrong(str(e))
        return trial

    def check(self, trial):
        try:
            until(self.flowing, REACH_S, lambda: "the bystander's connection broke: " +
                  self.bystander.sh("cat /run/echo.log; cat /run/alive").stdout[-300:])
            if self.bystander.status != "running":
                trial.wrong(f"the bystander is {self.bystander.view['status']}")
            if self.bystander.view["egress"] != ["allowed.test", f"{ALIVE}:7"]:
                trial.wrong(f"the bystander's policy is {self.bystander.view['egress']}")
        except (Refused, OSError, KeyError) as e:
            trial.wrong(f"the bystander does not answer: {e!r}")
        if through := self.lab.flows(trial.since, dst=REFUSED, dport=trial.port):
            trial.wrong(f"{len(through)} packets passed that the policy refuses")

    def final(self, trial, box):
        """Wait for a final state; its view. A sandbox whose first process was killed does not run,
        and the API has to notice by itself."""
        ended = trial.kill == "agent" and trial.reached and trial.point not in WORKERS

        def settled():
            view = box.refresh()
            return view["status"] in FINAL and not (ended and view["status"] == "running") and view
        try:
            return until(settled, FINAL_S, lambda: f"still {box.view['status']}")
        except AssertionError as e:
            trial.wrong(str(e))
            return box.view

    def by_name(self, name):
        return next((b for b in sandboxes(self.api) if b.get("name") == name), None)


def alive(pid):
    state = read(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()
    return bool(state) and state[0] not in "ZX"
