"""Operations of ingress that are disturbed: opening, closing, a visit, a visit that wakes, a token that
is revoked.

Beside what is true of every operation (ops.py): what is off is reached by nobody, from the moment its
owner was told so and whatever is killed after that. A knocker asks all the time, each time over a new
connection, and notes when it began to ask, when it was answered, and what.
"""

import threading
import time

from kit.api import Box
from kit.ingress import Door, serve
from ops import Op, new_name, works
from world import REACH_S, until

PORT = 8000


def visit(world, box, *lines):
    """The status of one request from outside; OSError where there is no answer."""
    host, port = world.daemon.ingress.rsplit(":", 1)
    door = Door.__new__(Door)
    door.at = (host, int(port))
    try:
        return door.get(box, PORT, "/", *lines).status
    except (AssertionError, ValueError) as e:  # it ended in the middle
        raise OSError(str(e)) from e


class Knocker(threading.Thread):
    def __init__(self, world, box, *lines):
        super().__init__(daemon=True)
        self.world, self.box, self.lines = world, box, lines
        self.heard, self.ends = [], threading.Event()
        self.start()

    def run(self):
        while not self.ends.wait(0.01):
            began = time.monotonic()
            try:
                status = visit(self.world, self.box, *self.lines)
                self.heard.append((began, time.monotonic(), status))
            except OSError:
                pass

    def stop(self):
        """[(when it was asked, when answered, status)], and no more of it."""
        self.ends.set()
        self.join()
        return self.heard


class Visited(Op):
    """With a service that is asked from outside."""
    kills = ("host", "api", "edge")
    fields = {"ingress_enabled": True}

    def prepare(self, world):
        box = world.api.create(name=new_name(), egress=self.egress, **self.fields)
        return serve(box, PORT)

    def reached(self, world, trial, box, *lines, status=200):
        try:
            until(lambda: visit(world, box, *lines) == status, REACH_S,
                  lambda: f"a visitor is not answered {status} any more")
        except AssertionError as e:
            trial.wrong(str(e))


class Visit(Visited):
    def act(self, world, box):
        status = visit(world, box)
        if status != 200:
            raise OSError(f"answered {status}")

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        self.reached(world, trial, box)


class Wake(Visited):
    """The visitor of a paused sandbox waits until it is back."""
    fields = {"ingress_enabled": True, "ingress_hold": True}

    def prepare(self, world):
        return super().prepare(world).pause()

    def act(self, world, box):
        status = visit(world, box)
        if status != 200:
            raise OSError(f"answered {status}")

    def settle(self, world, box):
        box.wait("running")

    def check(self, world, trial, box, outcome):
        self.reached(world, trial, box)  # which wakes it, if the first one did not
        if world.final(trial, box)["status"] != "running":
            trial.wrong(f"a visitor was answered and it is {box.view['status']}")
        super().check(world, trial, box, outcome)


class Toggle(Visited):
    def prepare(self, world):
        self.acked = None
        box = super().prepare(world)
        self.knocker = Knocker(world, box)
        until(lambda: self.knocker.heard, REACH_S, "nobody answers")
        return box

    def act(self, world, box):
        self.asked = time.monotonic()
        world.api.ok("PATCH", box.path, {"ingress_enabled": self.after})
        self.acked = time.monotonic()

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        on = box.refresh()["ingress_enabled"]
        if outcome.acked and on != self.after:
            trial.wrong("it was answered with success and is lost")
        self.reached(world, trial, box, status=200 if on else 404)
        heard = self.knocker.stop()
        if not heard:
            trial.wrong("nobody was answered in all that time: this would find nothing")
        for began, ended, status in heard:
            if status == 200 and self.closed(began, ended):
                trial.wrong("a visitor came in while it was off")
                break

    def clean(self, world, subject):
        self.knocker.stop()
        super().clean(world, subject)


class Open(Toggle):
    fields, after = {}, True

    def closed(self, _, ended):
        return ended < self.asked


class Close(Toggle):
    after = False

    def closed(self, began, _):
        return self.acked is not None and began > self.acked


class Revoke(Visited):
    fields = {"ingress_enabled": True, "ingress_access": "token"}

    def prepare(self, world):
        self.acked = None
        box = super().prepare(world)
        self.token = world.api.ok("POST", f"{box.path}/ingress/tokens", {"port": PORT})
        self.line = f"X-Weir-Ingress-Token: {self.token['token']}"
        assert visit(world, box, self.line) == 200 and visit(world, box) == 401
        self.knocker = Knocker(world, box, self.line)
        return box

    def act(self, world, box):
        world.api.ok("DELETE", f"{box.path}/ingress/tokens/{self.token['id']}")
        self.acked = time.monotonic()

    def check(self, world, trial, box, outcome):
        super().check(world, trial, box, outcome)
        listed = world.api.ok("GET", f"{box.path}/ingress/tokens")
        there = any(t["id"] == self.token["id"] for t in listed["data"])
        if outcome.acked and there:
            trial.wrong("it was answered with success and the token is still there")
        self.reached(world, trial, box, self.line, status=200 if there else 401)
        if any(status == 200 and self.acked is not None and began > self.acked
               for began, _, status in self.knocker.stop()):
            trial.wrong("a revoked token opened")

    def clean(self, world, subject):
        self.knocker.stop()
        super().clean(world, subject)


class Born(Visited):
    """A create that is to be visited at once; no service runs in it yet, and it says so."""
    creates = True

    def prepare(self, world):
        self.asked = new_name()
        return None

    def act(self, world, _):
        return world.api.create(name=self.asked, egress=self.egress, ingress_enabled=True)

    def subject_after(self, world, _, outcome):
        view = world.by_name(self.asked)
        return Box(world.api, view) if view else None

    def check(self, world, trial, _, outcome):
        box = self.subject_after(world, _, outcome)
        if not box:
            if outcome.acked:
                trial.wrong("it was answered with success and is not there")
            return
        if world.final(trial, box)["status"] == "running":
            works(world, trial, box)
            self.reached(world, trial, box, status=502)
        elif outcome.acked:
            trial.wrong(f"it was answered with success and is {box.view['status']}")


INGRESS_OPS = [Visit(), Wake(), Open(), Close(), Revoke(), Born()]
