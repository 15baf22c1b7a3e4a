"""A paused machine is a file: its process and its memory are gone, and what ran in it goes on later.

Its own daemon, since processes are killed and files are spoilt here; one machine serves all tests that
leave it running.
"""

import hashlib
import os
import shutil
import signal
import time

import pytest

from kit.api import Api
from kit.daemon import Daemon, wait_until
from kit.room import little_room
from test_sandbox import qemu
from test_warm import said, spares, templates

COUNTER = """
import os, socket
s = socket.create_server(("127.0.0.1", 9040)); open("/tmp/ready", "w")
n, secret = 0, os.urandom(8).hex()
while True:
    c, _ = s.accept(); n += 1
    c.sendall(f"{n} {secret}".encode()); c.close()
"""
ASK = "exec 3<>/dev/tcp/127.0.0.1/9040 && cat <&3"  # by bash, not Python, which takes a second to begin


@pytest.fixture(scope="module")
def daemon():
    daemon = Daemon({})
    daemon.__enter__()
    daemon.api = Api(daemon.url, daemon.key)
    yield daemon
    daemon.__exit__(None, None, None)


@pytest.fixture(scope="module")
def machine(daemon):
    box = daemon.api.create(runtime="vm")
    box.put("/tmp/counter.py", COUNTER.encode())
    box.sh("(setsid python3 /tmp/counter.py </dev/null >/dev/null 2>&1 &) ; "
           "for i in $(seq 200); do [ -e /tmp/ready ] && break; sleep 0.2; done")
    yield box
    box.destroy()


def snapshot(daemon, box):
    return os.path.join(daemon.state_dir, "vm/paused", box.id)


def counted(box):
    r = box.sh(ASK)
    assert r.code == 0, r.stderr
    n, secret = r.stdout.split()
    return int(n), secret


def alive(box):
    try:
        return qemu(None, box)
    except AssertionError:
        return None


def gone(box):
    """Its process has ended: killed before the pause is answered for, but a busy host takes a moment for it."""
    return wait_until(lambda: alive(box) is None, 60)


def test_a_process_and_its_socket_survive(daemon, machine):
    n, secret = counted(machine)
    boot = machine.sh("cat /proc/sys/kernel/random/boot_id; hostname; cat /etc/machine-id").stdout
    pid = qemu(None, machine)
    machine.pause()
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 60)  # somebody has waited for it
    assert gone(machine)
    assert os.path.getsize(snapshot(daemon, machine)) > 20 << 20
    machine.resume()
    assert not os.path.exists(snapshot(daemon, machine))
    assert alive(machine) not in (None, pid)
    assert counted(machine) == (n + 1, secret)
    assert machine.sh("cat /proc/sys/kernel/random/boot_id; hostname; cat /etc/machine-id").stdout == boot
    assert abs(int(machine.sh("date +%s%N").stdout) - time.time_ns()) < 5e9
    machine.sh("dd if=/dev/urandom of=/root/data bs=1M count=8 2>/dev/null; sync")
    assert machine.sh("stat -c %s /root/data").stdout == "8388608\n"


def test_it_is_found_again_by_the_next_host_role(daemon, machine):
    """kill -9 of weird while it is paused loses nothing; so does one while it runs again."""
    n, secret = counted(machine)
    machine.pause()
    daemon.kill9()
    daemon.start()
    daemon.api = machine.api = Api(daemon.url, daemon.key)
    machine.wait("paused")
    assert gone(machine)
    machine.resume()
    assert counted(machine) == (n + 1, secret)
    pid = qemu(None, machine)
    daemon.kill9()
    daemon.start()
    daemon.api = machine.api = Api(daemon.url, daemon.key)
    machine.wait("running")
    assert counted(machine) == (n + 2, secret) and qemu(None, machine) == pid


def test_L9_what_was_altered_is_refused(daemon, machine):
    """Cut short, with one bit changed in head, devices or memory, or of another QEMU: an error that says so.
    As it was: it goes on."""
    n, secret = counted(machine)
    machine.pause()
    path = snapshot(daemon, machine)
    good = path + ".good"
    shutil.copy(path, good)

    def flip(at):
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))

    def other_qemu():
        with open(path, "r+b") as f:
            head = f.read(4096)
            n = next(n for n in range(4064) if hashlib.sha256(head[:n]).digest() == head[n:n + 32])
            head = head[:12] + b"\x01" + head[13:n]
            f.seek(0)
            f.write(head + hashlib.sha256(head).digest())

    size = os.path.getsize(path)
    assert size == (4 << 20) + (machine.view["mem_mib"] << 20)
    assert os.stat(path).st_blocks * 512 < size  # what was never used is a hole
    for spoil, says in ((lambda: os.truncate(path, size - 1), "cut short"),
                        (lambda: flip(size // 2), "digest"), (lambda: flip(5000), "digest"),
                        (other_qemu, "written by QEMU"), (lambda: flip(40), "head"),
                        (lambda: flip(8), "version"), (lambda: flip(0), "is none")):
        shutil.copy(good, path)
        spoil()
        machine.api.ok("POST", f"{machine.path}/resume")
        machine.wait("error")
        assert says in str(machine.view), (says, machine.view)
        assert gone(machine)
    os.rename(good, path)  # the control
    machine.resume()
    assert counted(machine) == (n + 1, secret)


def test_there_is_no_template_where_none_is_wanted(daemon, machine):
    """One has booted, and the limit of their memory is 0: the control of test_warm."""
    assert said(daemon, "ready") == 0 and templates(daemon) == [] and spares(daemon) == []


def test_the_end_of_qemu_is_the_sandboxs(machine):
    """After resumes and another host role it is watched as before. The last for this machine."""
    os.kill(qemu(None, machine), signal.SIGKILL)
    machine.wait("error")


def test_L8_a_full_disk_leaves_it_running():
    """A pause that cannot be written fails and says why; with room it works. Destroyed while it is paused,
    nothing is left."""
    with little_room("vm/paused", 16) as (daemon, at, more):
        box = Api(daemon.url, daemon.key).create(runtime="vm")
        box.sh("echo here >/run/here")
        pid = qemu(None, box)
        said = box.api.request("POST", f"{box.path}/pause").says
        box.wait("running")
        assert "No space left" in str(box.view) + str(said), box.view
        assert box.exec("cat", "/run/here").stdout == "here\n" and qemu(None, box) == pid
        assert os.listdir(at) == ["empty"]
        more(500)  # the control
        box.pause()
        assert gone(box)
        box.resume()
        assert box.exec("cat", "/run/here").stdout == "here\n"
        box.pause()
        assert os.path.exists(os.path.join(at, box.id))
        box.destroy()
        assert wait_until(lambda: os.listdir(at) == ["empty"], 60)
