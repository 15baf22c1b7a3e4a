"""Each fault point once, with its own role killed there. The whole matrix is `make faults`."""

import os

import pytest
from kit import fault
from kit.api import Refused
from kit.daemon import build_dir, prepare
from kit.lab import Lab
from operations import BY_NAME
from test_machines import COPY, COPY_API, COPY_HAND, FORK, PAUSE, READY, RESUME, TEMPLATE
from world import World

BINARIES = {"host": "src/cmd/weird", "api": "src/cmd/weir-api", "edge": "src/cmd/weir-edge",
            "agent": "src/agent/weir-agent"}
# Passed only when something fails.
BY_FAILURE = {"api.create.undo", "api.policy.undo", "api.nets.undo", "api.ingress.undo"}
# What kills what: the operation in which each point is tried.
FIRST = {"host.record": "create", "host.spawn": "create", "host.commit": "tighten",
         "host.policy": "loosen", "host.freeze": "pause", "host.thaw": "resume",
         "host.destroy": "destroy", "host.grow": "resize", "host.starter": "miss", "host.inside": "miss",
         "host.nets": "join", "api.nets": "leave", "host.net": "rule", "api.netpolicy": "rule",
         "api.create": "create", "api.policy": "tighten", "api.pause": "pause",
         "api.resume": "resume", "api.delete": "destroy", "api.exec": "exec", "api.put": "upload",
         "api.get": "download", "edge.set": "loosen", "edge.retire": "tighten",
         "edge": "name", "edge.pin": "name", "agent.exec": "stream", "agent.put": "upload",
         "agent.get": "download", "agent.file": "download", "agent.proc": "background",
         "api.ingress": "close", "host.ingress": "open", "edge.ingress": "close",
         "api.token": "revoke", "api.wake": "wake", "edge.hold": "wake", "edge.visit": "visit"}
# Passed by machines only, and tried in test_machines.py.
MACHINES = {p for p in PAUSE + RESUME if ".asleep." in p} | {*FORK, *TEMPLATE, *READY, *COPY, *COPY_HAND,
                                                            *COPY_API}
# Points of an operation that only one kind of it passes.
OF_A_KIND = {"api.create.ingress": "born"}


def points():
    for path in BINARIES.values():
        yield from fault.names(os.path.join(build_dir(), path))


def tried():
    return [p for p in points() if p not in BY_FAILURE and p.rsplit(".", 1)[0] in FIRST]


def in_turn():
    """One point of each role after the other: a role that dies again and again is started later each
    time, and a new host role forgets that."""
    seen = {}
    for point in sorted(tried()):
        role = point.split(".")[0]
        seen[role] = seen.get(role, 0) + 1
        yield seen[role], role, point


@pytest.fixture(scope="module")
def world():
    if "WEIR_LAB" not in os.environ:
        pytest.skip("no lab: run this below tools/with-internet")
    prepare()
    with World(Lab(os.environ["WEIR_LAB"])) as w:
        yield w
        w.rest(keys=True)


def test_every_point_has_its_turn():
    """A new point must be tried here, or be one of those that only a failure reaches."""
    known = set(points())
    assert len(known) > 50, "is this a build with -Dfaults=true?"
    assert known - set(tried()) - BY_FAILURE == {"agent.wake.asked", "agent.wake.done",
                                                 *MACHINES}


@pytest.mark.parametrize("point", [p for _, _, p in sorted(in_turn())]
                         if os.path.isdir(build_dir()) else [])
def test_kill_at(world, point):
    op = BY_NAME[OF_A_KIND.get(point) or FIRST[point.rsplit(".", 1)[0]]]
    trial = world.trial(op, point, point.split(".")[0])
    assert trial.reached, f"{op.name} does not pass {point}"
    assert not trial.violations, "\n".join(trial.violations)


@pytest.mark.parametrize("op, point, kill", [
    ("open", "api.ingress.stored", "host"), ("open", "host.ingress.done", "edge"),
    ("open", "edge.ingress.done", "host"), ("close", "api.ingress.host", "edge"),
    ("close", "host.ingress.asked", "api"), ("close", "edge.ingress.asked", "host")])
def test_another_role_dies_while_a_sandbox_is_opened_or_closed(world, op, point, kill):
    trial = world.trial(BY_NAME[op], point, kill)
    assert trial.reached, f"{op} does not pass {point}"
    assert not trial.violations, "\n".join(trial.violations)


@pytest.mark.parametrize("point, op", [("host.record.save", "create"),
                                       ("host.policy.written", "tighten"),
                                       ("host.policy.written", "create")])
def test_a_failed_step_is_undone_and_said(world, point, op):
    """No process ends; one step of the host role says ENOSPC."""
    op = BY_NAME[op]
    subject = op.prepare(world)
    table = world.table("host")
    table.arm(point, fault.FAIL, error=28)
    with pytest.raises(Exception) as said:
        op.act(world, subject)
    assert said.value.response.status in (500, 503), said.value
    assert said.value.response.says, "and a reason"
    if subject:
        assert subject.refresh()["egress"] == op.egress
        assert subject.udp("203.0.113.30") == ("allow" if "203.0.113.30" in op.egress else "deny")
    op.clean(world, op.subject_after(world, subject, None))
    world.rest()


def test_a_growth_that_fails_in_the_middle(world):
    """The disk of a running sandbox is longer already when the host role is told ENOSPC."""
    op = BY_NAME["resize"]
    box = op.prepare(world)
    world.table("host").arm("host.grow.resized", fault.FAIL, error=28)
    with pytest.raises(Refused) as said:
        world.api.ok("POST", f"{box.path}/resize", {"disk_mib": op.before + 1024})
    assert said.value.response.status in (500, 503) and said.value.response.says
    assert box.refresh()["disk_mib"] == op.before
    assert box.sh("echo kept > /root/kept && sync && cat /root/kept").stdout == "kept\n"
    op.clean(world, box)
    world.rest()


def test_a_release_carries_no_point():
    release = os.path.join(os.path.dirname(build_dir()), os.environ.get("WEIR_RELEASE", "build"))
    if not os.path.exists(os.path.join(release, BINARIES["host"])):
        pytest.skip(f"{release} is not built")
    for path in BINARIES.values():
        with open(os.path.join(release, path), "rb") as f:
            data = f.read()
        assert fault.section(os.path.join(release, path)) is None
        assert b"WEIR_FAULTS" not in data
        for name in points():
            assert name.encode() + b"\0" not in data, f"{path} holds {name}"
        with open(os.path.join(build_dir(), path), "rb") as f:  # the control
            assert fault.SECTION.encode() in f.read() or path.endswith("agent")
