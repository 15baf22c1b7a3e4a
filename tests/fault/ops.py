"""The operations that are disturbed, each with what must be true afterwards.

An operation prepares its sandbox, acts as a client would, and checks: `outcome` is what the client
saw, the API and the sandbox itself are asked for the rest. Both ends of an operation are right
as long as the client was not told otherwise.
"""

import ipaddress
import os
import threading

from kit.api import Box, Refused
from kit.maps import Maps
from kit.strays import agents
from world import ALIVE, FINAL_S, REACH_S, TIGHT, agent_pid, until

NARROW = ["allowed.test", f"{ALIVE}:7"]
WIDE = NARROW + [TIGHT]
_names = iter(range(1, 1 << 30))
_lock = threading.Lock()


def new_name():
    with _lock:
        return f"s{next(_names)}"


def works(world, trial, box, seconds=REACH_S):
    """A command runs in it. True, or a violation."""
    try:
        until(lambda: box.exec("true").code == 0, seconds, "no command runs in it any more")
        return True
    except AssertionError as e:
        trial.wrong(str(e))
        return False


class Op:
    kills = ("host", "api", "edge", "agent")
    egress = NARROW
    creates = False  # the sandbox itself

    @property
    def name(self):
        return type(self).__name__.lower()

    def prepare(self, world):
        return world.api.create(name=new_name(), egress=self.egress)

    def settle(self, world, subject):
        pass

    def first_process(self, world, subject, before):
        return agent_pid(world.daemon, subject.ip)

    def subject_after(self, world, subject, outcome):
        return subject

    def clean(self, world, subject):
        if subject is None:
            return
        try:
            if subject.status not in ("destroyed", "destroying"):
                subject.destroy()
        except Refused as e:
            if e.response.status != 404:
                raise AssertionError(f"cannot destroy it: {e}") from e
        try:
            until(lambda: subject.status in ("destroyed", "failed"), FINAL_S,
                  lambda: f"not destroyed but {subject.view['status']}")
        except Refused:
            pass

    def check(self, world, trial, subject, outcome):
        """The subject lives, or says why not and lives again after a resume."""
        view = world.final(trial, subject)
        state = view["status"]
        if state == "error":
            if not reason(view):
                trial.wrong(f"it is in error and does not say why: {view}")
            if trial.kill != "agent":
                trial.wrong(f"it is in error: {reason(view)}")
            subject.resume()
        elif state == "paused" and self.name not in ("pause", "resume"):
            trial.wrong("it is paused")
        if subject.status == "paused":
            subject.resume()
        if subject.status == "running":
            works(world, trial, subject)
        else:
            trial.wrong(f"it is {subject.view['status']}: {reason(subject.view)}")
        self.check_error(trial, outcome)

    def check_error(self, trial, outcome):
        if outcome.error is not None and not outcome.error.strip(": "):
            trial.wrong("the client was given no reason")


def reason(view):
    return view.get("failure_reason") or view.get("reason") or view.get("error") or ""


class Create(Op):
    creates = True

    def prepare(self, world):
        self.asked = new_name()
        self.box = None
        self.network = network(world)
        return None

    def act(self, world, _):
        self.box = world.api.create(name=self.asked, egress=self.egress,
                                    networks=[{"id": self.network}])
        return self.box

    def find(self, world):
        view = world.by_name(self.asked)
        return Box(world.api, view) if view else None

    def first_process(self, world, _, before):
        return next(iter(set(agents(world.daemon)) - before), None)

    def subject_after(self, world, _, outcome):
        return self.find(world)

    def check(self, world, trial, _, outcome):
        box = until(lambda: (self.find(world), True), REACH_S, "the list is not to be had")[0]
        if outcome.acked and not box:
            trial.wrong("it was answered with success and is not there")
            return
        if not box:
            self.check_error(trial, outcome)
            return
        view = world.final(trial, box)
        if view["status"] == "running":
            if view["egress"] != self.egress:
                trial.wrong(f"its policy is {view['egress']}")
            check_member(world, trial, box, True)
            works(world, trial, box)
        elif outcome.acked and trial.kill != "agent":
            trial.wrong(f"it was answered with success and is {view['status']}: {reason(view)}")
        elif not reason(view):
            trial.wrong(f"it is {view['status']} and does not say why")


class Miss(Create):
    """Nothing that is parked fits: its disk has another size each time."""
    sizes = iter(range(2049, 4096))

    def act(self, world, _):
        self.box = world.api.create(name=self.asked, egress=self.egress, disk_mib=next(self.sizes),
                                    networks=[{"id": self.network}])
        return self.box


class Exec(Op):
    def act(self, world, box):
        r = box.sh("echo one; echo two >&2; sleep 0.05; echo three")
        assert (r.stdout, r.stderr) == ("one\nthree\n", "two\n") or r.error or r.code, r
        if r.error:
            raise OSError(r.error)
        return r


class Stream(Op):
    def act(self, world, box):
        frames = list(world.api.stream(box.id, "bash", "-c", "echo one; sleep 0.05; echo two"))
        ends = [f for f in frames if f.get("type") in ("exit", "error") or "exit_code" in f]
        if not ends:
            raise OSError(f"the stream ended without an end: {frames}")
        return frames


SIZE = 400_000


class Upload(Op):
    def prepare(self, world):
        box = super().prepare(world)
        box.put("/root/file", b"old")
        self.content = os.urandom(SIZE)
        return box

    def act(self, world, box):
        return box.put("/root/file", self.content)

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        try:
            now = box.get("/root/file")
            hidden = box.sh("ls -A /root | grep weir-put || true").stdout.strip()
        except (Refused, OSError) as e:
            trial.wrong(f"the file cannot be had: {e!r}")
            return
        if now not in (b"old", self.content):
            trial.wrong(f"the file is neither old nor new: {len(now)} bytes")
        if outcome.acked and now != self.content:
            trial.wrong("the upload was answered with success and is not there")
        if hidden:
            trial.wrong(f"half an upload is left: {hidden}")


class Download(Op):
    def prepare(self, world):
        box = super().prepare(world)
        self.content = os.urandom(SIZE)
        box.put("/root/file", self.content)
        return box

    def act(self, world, box):
        got = box.get("/root/file")
        if got != self.content:
            raise AssertionError(f"{len(got)} wrong bytes were taken for the file")
        return got

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        if outcome.error and "wrong bytes" in outcome.error:
            trial.wrong(outcome.error)
        try:
            if box.get("/root/file") != self.content:
                trial.wrong("the file has changed")
        except (Refused, OSError) as e:
            trial.wrong(f"the file cannot be had: {e!r}")


class Policy(Op):
    """From `egress` to `after`; TIGHT is the address whose verdict changes."""

    def prepare(self, world):
        box = super().prepare(world)
        if box.udp(TIGHT) != ("allow" if TIGHT in self.egress else "deny") and TIGHT in self.egress:
            raise AssertionError("the control: what the policy allows does not pass")
        return box

    def act(self, world, box):
        return box.set_egress(self.after)

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        now = box.refresh()["egress"]
        if now not in (self.egress, self.after):
            trial.wrong(f"the policy is neither: {now}")
        if outcome.acked and now != self.after:
            trial.wrong("the change was answered with success and is lost")
        try:
            passes = box.udp(TIGHT) == "allow"
        except (Refused, OSError, AssertionError) as e:
            trial.wrong(f"no probe: {e!r}")
            return
        if passes != (TIGHT in now):
            trial.wrong(f"the policy is {now}, but {TIGHT} {'passes' if passes else 'does not'}")


class Tighten(Policy):
    egress, after = WIDE, NARROW


class Loosen(Policy):
    egress, after = NARROW, WIDE


NETWORK = "fellows"


def network(world):
    try:
        return world.api.ok("GET", f"/v1/networks/{NETWORK}")["id"]
    except Refused:
        return world.api.ok("POST", "/v1/networks", {"name": NETWORK})["id"]


def slot_of(world, box):
    first = ipaddress.ip_network(world.daemon.settings["net.range4"]).network_address
    return int(ipaddress.ip_address(box.ip)) - int(first)


def check_member(world, trial, box, wanted=None):
    """Books and kernel say the same, and what the client was told."""
    booked = any(m["sandbox_id"] == box.id
                 for m in world.api.ok("GET", f"/v1/networks/{NETWORK}")["members"])
    slot = slot_of(world, box)
    if wanted is not None and booked != wanted:
        trial.wrong(f"answered with success, and it is {'a' if booked else 'no'} member")
    try:
        until(lambda: (slot in Maps(world.daemon.name).members()) == booked, REACH_S,
              f"{'a' if booked else 'no'} member in the books, and another thing in the kernel")
    except AssertionError as e:
        trial.wrong(str(e))


class Join(Op):
    joins = True

    def prepare(self, world):
        network(world)
        return world.api.create(name=new_name(), egress=self.egress,
                                networks=[] if self.joins else [{"id": NETWORK}])

    def act(self, world, box):
        return world.api.ok("POST", f"{box.path}/networks", {"id": NETWORK})

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        check_member(world, trial, box, self.joins if outcome.acked else None)


class Leave(Join):
    joins = False

    def act(self, world, box):
        return world.api.ok("DELETE", f"{box.path}/networks/{NETWORK}")


class Rule(Leave):
    """Who may call whom in its network: nobody but it, on one port, and before that everybody."""
    ports = iter(range(1, 65536))

    def prepare(self, world):
        box = super().prepare(world)
        world.api.ok("DELETE", f"/v1/networks/{NETWORK}/policy")
        self.port = next(self.ports)
        return box

    def act(self, world, box):
        return world.api.ok("PUT", f"/v1/networks/{NETWORK}/policy", {"rules": [
            {"from": box.name, "to": "*", "ports": [self.port], "protocol": "tcp"}]})

    def check(self, world, trial, box, outcome):
        Op.check(self, world, trial, box, outcome)
        ruled = world.api.ok("GET", f"/v1/networks/{NETWORK}/policy")["default"] == "deny"
        if outcome.acked and not ruled:
            trial.wrong("answered with success, and there are no rules")
        slot = slot_of(world, box)
        want = (0, {(slot, 0, 6, self.port, 16): (0, 1)}) if ruled else (1, {})
        maps = Maps(world.daemon.name)
        try:
            until(lambda: maps.calls().get(maps.members()[slot][0]) == want, REACH_S,
                  lambda: f"wanted {want}, the kernel has {maps.calls()}")
        except AssertionError as e:
            trial.wrong(str(e))


class Turn(Op):
    """A change of state, answered before it is done."""
    def act(self, world, box):
        return world.api.ok("POST", f"{box.path}/{self.verb}")

    def settle(self, world, box):
        box.wait(self.want)

    def check(self, world, trial, box, outcome):
        view = world.final(trial, box)
        if outcome.acked and view["status"] != self.want and trial.kill != "agent":
            trial.wrong(f"a {self.verb} was accepted, and it is {view['status']}: {reason(view)}")
        super().check(world, trial, box, outcome)


class Pause(Turn):
    verb, want = "pause", "paused"


class Resume(Turn):
    verb, want = "resume", "running"

    def prepare(self, world):
        return super().prepare(world).pause()


class Resize(Op):
    """Of a running sandbox's disk. Where root may not grow a mounted file system, it is refused then."""

    def prepare(self, world):
        box = super().prepare(world)
        self.before = box.view["disk_mib"]
        return box

    def act(self, world, box):
        try:
            return world.api.ok("POST", f"{box.path}/resize", {"disk_mib": self.before + 1024})
        except Refused as e:
            if e.response.status != 501:
                raise
            return None

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        now = box.refresh()["disk_mib"]
        if now != (self.before + 1024 if outcome.value else self.before) and outcome.acked or \
                now not in (self.before, self.before + 1024):
            trial.wrong(f"the disk had {self.before} MiB and has {now}")
        try:
            if box.sh("echo kept > /root/kept && sync && cat /root/kept").stdout != "kept\n":
                trial.wrong("the disk does not take a file")
        except (Refused, OSError) as e:
            trial.wrong(f"the disk cannot be tried: {e!r}")


class Destroy(Op):
    def act(self, world, box):
        return box.destroy()

    def settle(self, world, box):
        box.wait("destroyed")

    def check(self, world, trial, box, outcome):
        view = world.final(trial, box)
        if outcome.acked and view["status"] != "destroyed":
            trial.wrong(f"a delete was accepted, and it is {view['status']}: {reason(view)}")
        if view["status"] != "destroyed":
            super().check(world, trial, box, outcome)


class Name(Op):
    """A name is asked for the first time, and what it leads to is connected to."""

    egress = ["allowed.test:443", f"{ALIVE}:7"]

    def prepare(self, world):
        box = super().prepare(world)
        box.tcp(ALIVE, 7)  # brings the probe in
        return box

    def act(self, world, box):
        if box.tcp("allowed.test", 443) != "allow":
            raise OSError("the name did not resolve, or its address was closed")

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        try:
            until(lambda: box.tcp("allowed.test", 443) == "allow", REACH_S, "the name stays closed")
        except AssertionError as e:
            trial.wrong(str(e))


class Background(Op):
    """A command that outlives its call, by OpenSandbox's execd."""
    def act(self, world, box):
        r = world.api.request("POST", f"/sandboxes/{box.id}/proxy/44772/command",
                              {"command": "sleep 0.05; echo two", "background": True})
        if r.status != 200 or b'"init"' not in r.body:
            raise OSError(f"{r.status}: {r.body[:200]!r}")

    def settle(self, world, box):
        until(lambda: world.table("agent", box).passed("agent.proc.ended"), REACH_S,
              "the command does not end")


OPS = [Create(), Miss(), Exec(), Stream(), Background(), Upload(), Download(), Tighten(), Loosen(),
       Join(), Leave(), Rule(), Pause(), Resume(), Resize(), Destroy(),
       Name()]
