"""The disks of machines: they grow while they are used, and their end, or the host's, is an error inside.

The host's file system with the disks on it is a small one here, so the daemon is one of its own.
"""

import os
import subprocess

import pytest

from kit.api import Api
from kit.daemon import Daemon

HOST_MIB = 200


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    daemon = Daemon({})
    at = os.path.join(daemon.state_dir, "vm/layers")
    os.makedirs(at)
    small = tmp_path_factory.mktemp("host") / "disk"
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", small, f"{HOST_MIB}M"], check=True)
    subprocess.run(["mount", "-o", "loop", small, at], check=True)  # not tmpfs: its pages are QEMU's memory
    try:
        with daemon:
            box = Api(daemon.url, daemon.key).create(runtime="vm", disk_mib=64)
            box.at, box.image = at, os.path.join(at, box.id, "disk")
            yield box
            box.destroy()
            box.wait("destroyed")
            subprocess.run(["umount", "-l", at], check=True)  # the daemon has it open
    finally:
        if os.path.ismount(at):
            subprocess.run(["umount", "-l", at], check=True)


def resize(box, mib):
    return box.api.request("POST", f"{box.path}/resize", {"disk_mib": mib})


def size_mib(box):
    return int(box.sh("df --output=size -BM / | tail -1").stdout.strip().rstrip("M"))


def write(box, name, mib):
    return box.sh(f"dd if=/dev/zero of=/root/{name} bs=1M count={mib} conv=fsync")


def test_a_full_disk_grows_while_it_is_used(machine):
    full = write(machine, "a", 100)
    assert full.code and "No space left on device" in full.stderr
    machine.sh("truncate -s -3M /root/a; head -c 2000000 /dev/urandom >/root/r; sync; sha256sum /root/r >/run/sum")
    assert write(machine, "b", 20).code  # the control
    assert resize(machine, 128).data == {"id": machine.id, "disk_mib": 128}
    assert machine.refresh()["disk_mib"] == 128 and 100 < size_mib(machine) <= 128
    assert os.path.getsize(machine.image) == 128 << 20
    assert write(machine, "b", 20).code == 0
    assert machine.sh("sha256sum -c /run/sum").code == 0


@pytest.mark.parametrize("mib", [128, 64, 0, -1, 1 << 30])
def test_it_never_becomes_smaller(machine, mib):
    r = resize(machine, mib)
    assert r.status == 400 and "128" in r.json["data"]["disk_mib"], r.body
    assert machine.refresh()["disk_mib"] == 128 and os.path.getsize(machine.image) == 128 << 20


def test_a_paused_machine_is_not_resized_and_comes_back_with_its_size(machine):
    machine.pause()
    assert resize(machine, 192).status == 409
    machine.resume()
    assert 100 < size_mib(machine) <= 128 and machine.sh("sha256sum -c /run/sum").code == 0


def test_a_full_host_is_an_error_inside_and_no_end(machine):
    """More is promised than the host has: the machine hears of it, and goes on."""
    assert resize(machine, 256).status == 200
    assert 200 < size_mib(machine) <= 256
    with open(os.path.join(machine.at, "of another"), "wb") as f:
        host = os.statvfs(machine.at)
        os.posix_fallocate(f.fileno(), 0, host.f_bavail * host.f_frsize - (8 << 20))
    r = resize(machine, 384)  # nor does a disk grow where nothing is left
    assert r.status == 503 and "the host's own disk" in r.says, r.body
    assert machine.refresh()["disk_mib"] == 256
    assert write(machine, "c", 12).code
    assert machine.exec("echo", "here").stdout == "here\n"
