"""Machines that are paused, resumed and forked: the host role is killed at each step, and so is QEMU. The
machine goes on from where it was, and afterwards nothing is left. On a daemon without a lab."""

import contextlib
import glob
import os
import shutil
import signal
import threading
import time

import pytest

from kit import fault
from kit.api import Api
from kit.daemon import prepare, wait_until
from world import FaultyDaemon

PAUSE = ["host.freeze.asked", "host.asleep.written", "host.asleep.ended", "host.freeze.done"]
RESUME = ["host.thaw.asked", "host.asleep.loaded", "host.asleep.removed", "host.asleep.running",
          "host.thaw.done"]
FORK = ["host.fork.fill", "host.fork.load", "host.fork.copied"]
TEMPLATE = ["host.template.up", "host.template.held"]
READY = ["host.ready.up", "host.ready.go"]
# Of a machine that runs: in the host role, in its hand while the machine runs and stands still, in the api role.
COPY = ["host.copy.begun", "host.copy.done", "host.copy.rest"]
COPY_HAND = ["host.copy.stopped", "host.copy.copied"]
COPY_API = ["api.fork.begun", "api.fork.held", "api.fork.copied", "api.fork.let_go"]

pytestmark = pytest.mark.skipif(
    not (shutil.which("qemu-system-x86_64") and glob.glob("/boot/vmlinuz-*-cloud-amd64")),
    reason="needs QEMU (package qemu-system-x86) and a kernel (package linux-image-cloud-amd64)")


@pytest.fixture(scope="module")
def daemon():
    prepare()
    daemon = FaultyDaemon()
    daemon.__enter__()
    yield daemon
    daemon.__exit__(None, None, None)


@pytest.fixture(scope="module")
def machine(daemon):
    box = Api(daemon.url, daemon.key).create(runtime="vm")
    assert box.sh("echo $RANDOM$RANDOM >/dev/shm/secret; (setsid sleep 99999 &) </dev/null >/dev/null 2>&1").code == 0
    box.secret = box.exec("cat", "/dev/shm/secret").stdout
    yield box
    box.api = Api(daemon.url, daemon.key)  # it may have been started again since
    box.destroy()


def processes(daemon, box):
    """QEMUs of this machine, by the address on their command line."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            text = open(path, "rb").read()
        except OSError:
            continue
        if text.startswith(b"qemu-system") and f"weir.ip4={box.ip} ".encode() in text:
            found.append(int(path.split("/")[2]))
    return found


@pytest.mark.parametrize("point", PAUSE + RESUME)
def test_the_host_role_is_killed(daemon, machine, point):
    if point in RESUME:
        machine.pause()
    table = fault.table(daemon.faults, "host")
    table.arm(point, fault.KILL)
    with contextlib.suppress(OSError):  # killed before it answered, or after
        machine.api.request("POST", f"{machine.path}/{'resume' if point in RESUME else 'pause'}")
    assert wait_until(lambda: daemon.process.poll() is not None, 180), f"{point} was not passed"
    daemon.start()
    machine.api = Api(daemon.url, daemon.key)
    machine.wait("running" if point in RESUME else "paused", seconds=180)
    if point in PAUSE:
        assert processes(daemon, machine) == []
        machine.resume()
    assert len(processes(daemon, machine)) == 1
    assert machine.exec("cat", "/dev/shm/secret").stdout == machine.secret
    assert machine.exec("pgrep", "-x", "sleep").code == 0
    assert os.listdir(os.path.join(daemon.state_dir, "vm/paused")) == ["empty"]


@pytest.mark.parametrize("point", ["host.freeze.asked", "host.asleep.loaded"])
def test_qemu_is_killed(daemon, point):
    """In the middle of a pause there is nothing to go on from: an error, and nothing is left. In the
    middle of a resume the file is still there, and another resume works."""
    box = Api(daemon.url, daemon.key).create(runtime="vm")
    resume = point == "host.asleep.loaded"
    if resume:
        box.pause()
    table = fault.table(daemon.faults, "host")
    table.arm(point, fault.HOLD)
    box.api.request("POST", f"{box.path}/{'resume' if resume else 'pause'}")
    assert wait_until(lambda: table.held(point), 180), f"{point} was not passed"
    os.kill(processes(daemon, box)[0], signal.SIGKILL)
    table.release()
    box.wait("error", seconds=180)
    assert processes(daemon, box) == []
    if resume:
        box.resume()
        assert box.sh("true").code == 0
    box.destroy()
    assert wait_until(lambda: not os.path.exists(os.path.join(daemon.state_dir, "vm/paused", box.id)), 180)


# --- forks ---

@pytest.fixture(scope="module")
def paused(daemon):
    box = Api(daemon.url, daemon.key).create(runtime="vm")
    assert box.sh("echo $RANDOM$RANDOM >/dev/shm/secret").code == 0
    box.secret = box.exec("cat", "/dev/shm/secret").stdout
    box.pause()
    yield box
    box.api = Api(daemon.url, daemon.key)
    box.resume()
    assert box.exec("cat", "/dev/shm/secret").stdout == box.secret
    box.destroy()


def fork(box, **how):
    return box.api.request("POST", f"{box.path}/fork", how)


def only(daemon, box):
    """No disk or file of a machine that does not live."""
    def left():
        at = os.path.join(daemon.state_dir, "vm")
        live = {b["id"] for b in box.api.ok("GET", "/v1/sandboxes")["data"]
                if b["status"] not in ("failed", "destroying", "destroyed")}
        there = os.listdir(f"{at}/layers") + os.listdir(f"{at}/paused")
        return {n for n in there if not n.startswith((".template-", ".trash")) and n != "empty"} - live

    assert wait_until(lambda: not left(), 180), left()


def a_fork_works(source, **how):
    r = fork(source, **how)
    assert r.status == 201, r.body
    child = type(source)(source.api, r.data)
    assert child.exec("cat", "/dev/shm/secret").stdout == source.secret
    child.destroy()
    child.wait("destroyed")


@pytest.mark.parametrize("point, how", zip(FORK, ({}, {}, {"start_paused": True})))
def test_the_starter_of_a_fork_is_killed(daemon, paused, point, how):
    """An error, and nothing is left; the next one fills what it left unfilled."""
    table = fault.table(daemon.faults, "host")
    if point == "host.fork.fill":  # a template nobody has filled yet
        paused.resume()
        paused.pause()
    table.arm(point, fault.KILL)
    r = fork(paused, **how)
    assert r.status >= 500, r.body
    only(daemon, paused)
    a_fork_works(paused)
    only(daemon, paused)


@pytest.mark.parametrize("point, how", [
    ("host.spawn.slot", {}), ("host.spawn.started", {}), ("host.spawn.recorded", {"start_paused": True}),
    ("host.commit.done", {})])
def test_the_host_role_is_killed_in_a_fork(daemon, paused, point, how):
    """Nobody was answered: there is no child. The source is paused as it was."""
    table = fault.table(daemon.faults, "host")
    table.arm(point, fault.KILL)
    with pytest.raises(OSError):
        fork(paused, **how)
    assert wait_until(lambda: daemon.process.poll() is not None, 180), f"{point} was not passed"
    daemon.start()
    paused.api = Api(daemon.url, daemon.key)
    paused.wait("paused")
    only(daemon, paused)
    a_fork_works(paused)


def test_qemu_of_a_fork_is_killed(daemon, paused):
    table = fault.table(daemon.faults, "host")
    table.arm("host.fork.load", fault.HOLD)
    asked = threading.Thread(target=lambda: answers.append(fork(paused)))
    answers = []
    asked.start()
    assert wait_until(lambda: table.held("host.fork.load"), 180)
    starter = table.held("host.fork.load")
    group = [line for line in open(f"/proc/{starter}/cgroup") if "/vm-" in line][0].strip().rsplit("/", 1)[1]
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            pid = int(path.split("/")[2])
            if group in open(path).read() and pid != starter:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    table.release()
    asked.join(180)
    assert answers and answers[0].status >= 500, answers
    only(daemon, paused)
    a_fork_works(paused)


# --- forks of one that runs ---

@pytest.fixture
def runs(daemon, machine):
    """It goes on, its processes as well, and what was begun of a fork is gone."""
    machine.api = Api(daemon.url, daemon.key)  # it may have been started again since
    yield machine
    machine.api = Api(daemon.url, daemon.key)
    machine.wait("running", seconds=180)
    assert machine.exec("cat", "/dev/shm/secret").stdout == machine.secret
    assert wait_until(lambda: machine.sh("grep -h . /sys/fs/cgroup/*/cgroup.freeze").stdout.strip("0\n") == "", 180)
    only(daemon, machine)


def live(box):
    return fork(box, live=True)


@pytest.mark.parametrize("point", COPY_HAND)
def test_the_hand_of_a_copy_is_killed(daemon, runs, point):
    """The machine stands still then, and is let go on."""
    pid = processes(daemon, runs)
    fault.table(daemon.faults, "host").arm(point, fault.KILL)
    assert live(runs).status >= 500
    assert processes(daemon, runs) == pid


@pytest.mark.parametrize("point", COPY + COPY_HAND)
def test_the_host_role_is_killed_in_a_copy(daemon, runs, point):
    """At a step of its own, or while its hand has the machine stopped: the next host role lets it go on."""
    pid = processes(daemon, runs)
    table = fault.table(daemon.faults, "host")
    if point in COPY:
        table.arm(point, fault.KILL)
        with pytest.raises(OSError):
            live(runs)
    else:
        table.arm(point, fault.HOLD)
        asked = threading.Thread(target=lambda: pytest.raises(OSError, live, runs))
        asked.start()
        assert wait_until(lambda: table.held(point), 180)
        daemon.kill9()
        asked.join(180)
        table.release()
    assert wait_until(lambda: daemon.process.poll() is not None, 180), f"{point} was not passed"
    daemon.start()
    assert processes(daemon, runs) == pid


@pytest.mark.parametrize("point", COPY_API)
def test_the_api_role_is_killed_in_a_copy(daemon, runs, point):
    table, pid = fault.table(daemon.faults, "api"), daemon.pid("api")
    table.arm(point, fault.KILL)
    with pytest.raises(OSError):
        live(runs)
    assert wait_until(lambda: daemon.pid("api") not in (None, pid), 180), f"{point} was not passed"
    assert wait_until(lambda: daemon._ready(os.path.join(daemon.run_dir, "api.addr")), 180)


def test_after_all_that_a_fork_works(daemon, runs):
    """The control of the others."""
    a_fork_works(runs, live=True)


def test_qemu_is_killed_while_it_is_copied(daemon):
    """It is gone, as it would be at any time, and nothing is left of the copy."""
    box = Api(daemon.url, daemon.key).create(runtime="vm")
    table, answers = fault.table(daemon.faults, "host"), []
    table.arm("host.copy.stopped", fault.HOLD)
    asked = threading.Thread(target=lambda: answers.append(live(box)))
    asked.start()
    assert wait_until(lambda: table.held("host.copy.stopped"), 180)
    os.kill(processes(daemon, box)[0], signal.SIGKILL)
    table.release()
    asked.join(180)
    assert answers and answers[0].status >= 400, answers
    box.wait("error", seconds=180)
    only(daemon, box)
    box.destroy()
    box.wait("destroyed")
    only(daemon, box)


# --- templates of new machines ---

@pytest.mark.parametrize("point", TEMPLATE)
def test_the_starter_of_a_template_is_killed(point):
    """Nothing is left of it, and creates boot as before."""
    with FaultyDaemon({"vm.warm_mib": "1024"}) as daemon:
        api = Api(daemon.url, daemon.key)
        table = fault.table(daemon.faults, "host")
        table.arm(point, fault.KILL)
        box = api.create(runtime="vm")
        assert wait_until(lambda: "vm.template what=failed" in daemon.log_tail(1000), 180)
        only(daemon, box)
        box.destroy()
        box = api.create(runtime="vm")
        assert box.sh("true").code == 0
        box.destroy()


# --- machines that stand ready ---

def test_killed_where_one_stands_ready():
    """Its starter before it is ready: it is given up, and creates are clones. The host role when it is taken: there
    is no sandbox afterwards, and nothing is left of the machine."""
    up, go = READY
    with FaultyDaemon({"vm.warm_mib": "1024", "vm.ready": "1"}) as daemon:
        api = Api(daemon.url, daemon.key)
        table = fault.table(daemon.faults, "host")
        table.arm(up, fault.KILL)
        box = api.create(runtime="vm")
        assert wait_until(lambda: "slot.make" in daemon.log_tail(1000), 120), daemon.log_tail()
        only(daemon, box)
        box.destroy()
        box = api.create(runtime="vm")  # from the next template; and another machine is made to stand
        assert box.sh("true").code == 0
        table.arm(go, fault.KILL)
        with pytest.raises(OSError):
            for _ in range(20):
                api.create(runtime="vm").destroy()
                time.sleep(1)
        assert wait_until(lambda: daemon.process.poll() is not None, 60), "none was taken"
        daemon.start()
        box.api = Api(daemon.url, daemon.key)
        assert box.sh("echo works").stdout == "works\n"
        only(daemon, box)
        box.destroy()
