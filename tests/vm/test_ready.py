"""Machines that stand ready: clones of a template that wait, stopped, for the next create.

Its own daemon, which has one standing. Who was there before is told by QEMU's process.
"""

import glob
import os
import signal
import time

import pytest

from kit.api import Api
from kit.daemon import Daemon, wait_until
from test_sandbox import qemu
from test_warm import figures

LONG = 180


@pytest.fixture(scope="module")
def daemon():
    with Daemon({"vm.warm_mib": "1024", "vm.ready": "1"}) as daemon:
        daemon.api = Api(daemon.url, daemon.key)
        daemon.api.create(runtime="vm").destroy()  # it boots, and is what the next are like
        yield daemon


def qemus(daemon):
    found = set()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                line = f.read()
            with open(path.replace("cmdline", "cgroup")) as f:
                ours = f"/{daemon.name}/vm-" in f.read()
        except OSError:
            continue
        if ours and line.startswith(b"qemu-system") and b"weir.ip4=" in line:
            found.add(int(path.split("/")[2]))
    return found


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


def rests(pid):
    """It has done all that it does before it is taken: no processor time for a moment."""
    before = ticks(pid)
    time.sleep(0.5)
    return ticks(pid) == before


def standing(daemon, *boxes):
    """The QEMU of no sandbox, when it is ready."""
    def one():
        found = qemus(daemon) - {qemu(None, box) for box in boxes}
        return found.pop() if len(found) == 1 else None

    assert wait_until(lambda: (pid := one()) and rests(pid), LONG), (qemus(daemon), daemon.log_tail())
    return one()


def test_the_next_create_has_it(daemon):
    """L1, L3: and it is another in all that must differ, at the right time, under the policy of its create; the
    control is the one after it, which another process is."""
    boxes, told, taken = [], [], 'starts_total{kind="ready"}'
    for name in ("allowed.test", "denied.test"):
        pid = standing(daemon, *boxes)
        was = figures(daemon)
        assert was["ready"] == 1 and was["ready_bytes"] > 256 << 20
        time.sleep(2)  # time that did not pass inside
        box = daemon.api.create(runtime="vm", egress=[name], envs={"WHOSE": name})
        assert qemu(None, box) == pid
        assert figures(daemon)[taken] == was[taken] + 1
        boxes.append(box)
        t0 = time.time()
        now = float(box.exec("date", "+%s.%N").stdout)
        took = time.time() - t0
        assert t0 - 0.5 - 2 * took < now < t0 + 0.5 + took
        told.append(box.sh("hostname; cat /etc/machine-id /etc/hostname; head -c 16 /dev/urandom | base64; "
                           "cat /proc/sys/kernel/random/uuid; echo $WHOSE").stdout.splitlines())
        assert len(told[-1]) == 6 and told[-1][0] == told[-1][2] == box.name and told[-1][5] == name
        assert f"|-- {box.ip}\n" in box.sh("cat /proc/net/fib_trie").stdout
        assert "weir: begin" in box.sh("cat /etc/hosts").stdout and "machine\n" not in box.sh("cat /etc/hosts").stdout
    for column in zip(*told):
        assert len(set(column)) == 2, column
    boxes[0].pause()
    boxes[0].resume()
    assert boxes[0].sh("hostname").stdout == f"{boxes[0].name}\n"
    for box in boxes:
        box.destroy()
        box.wait("destroyed")


def test_one_that_was_killed_is_replaced(daemon):
    pid = standing(daemon)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: pid not in qemus(daemon), 60)
    assert standing(daemon) != pid
    box = daemon.api.create(runtime="vm")
    assert box.sh("echo works").stdout == "works\n"
    box.destroy()
    box.wait("destroyed")


def test_another_size_does_not_fit(daemon):
    pid = standing(daemon)
    box = daemon.api.create(runtime="vm", disk_mib=1025)
    assert qemu(None, box) != pid and box.sh("echo works").stdout == "works\n"
    box.destroy()
    box.wait("destroyed")


def test_none_is_left_by_who_is_killed(daemon):
    """The next daemon has none of the one before."""
    pid = standing(daemon) if qemus(daemon) else None
    daemon.kill9()
    daemon.start()
    daemon.api = Api(daemon.url, daemon.key)
    assert wait_until(lambda: pid not in qemus(daemon), 60)
