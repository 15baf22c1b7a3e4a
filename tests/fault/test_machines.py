"""Machines that are paused and resumed: the host role is killed at each step, and so is QEMU. The
machine goes on from where it was, and afterwards nothing is left. On a daemon without a lab."""

import glob
import os
import shutil
import signal

import pytest

from kit import fault
from kit.api import Api
from kit.daemon import prepare, wait_until
from world import FaultyDaemon

PAUSE = ["host.freeze.asked", "host.asleep.written", "host.asleep.ended", "host.freeze.done"]
RESUME = ["host.thaw.asked", "host.asleep.loaded", "host.asleep.removed", "host.asleep.running",
          "host.thaw.done"]

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
    machine.api.request("POST", f"{machine.path}/{'resume' if point in RESUME else 'pause'}")
    assert wait_until(lambda: daemon.process.poll() is not None, 60), f"{point} was not passed"
    daemon.start()
    machine.api = Api(daemon.url, daemon.key)
    machine.wait("running" if point in RESUME else "paused", seconds=60)
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
    assert wait_until(lambda: table.held(point), 60), f"{point} was not passed"
    os.kill(processes(daemon, box)[0], signal.SIGKILL)
    table.release()
    box.wait("error", seconds=60)
    assert processes(daemon, box) == []
    if resume:
        box.resume()
        assert box.sh("true").code == 0
    box.destroy()
    assert wait_until(lambda: not os.path.exists(os.path.join(daemon.state_dir, "vm/paused", box.id)), 20)
