"""I10, on machines: who broke out of a guest is a QEMU. Each attempt is a system call that a running QEMU is
made to do (kit/puppet.py): with its own user, root, namespaces, filters and descriptors, where it must fail
with the error that names the defence; and one of a process outside the jail, where it must succeed."""

import contextlib
import mmap
import os
import re
import socket
import struct
import subprocess

import pytest

from kit.daemon import wait_until
from kit.puppet import AT_FDCWD, Killed, Puppet
from test_sandbox import qemu

NEWUSER, NEWNET = 0x10000000, 0x40000000
AF_VSOCK, AF_PACKET = 40, 17
SOFTWARE_CLOCK = struct.pack("II", 1, 112) + bytes(104)  # for perf_event_open
ARRAY = struct.pack("IIII", 2, 4, 4, 1) + bytes(112)  # for bpf's MAP_CREATE
RING_OF_THE_SESSION = (0, -3, 1)


@contextlib.contextmanager
def sleeper(uid=None):
    """A process outside the jail; uid: of that user, without capabilities."""
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid is not None else []
    process = subprocess.Popen([*who, "sleep", "600"])
    try:
        wait_until(lambda: open(f"/proc/{process.pid}/comm").read() == "sleep\n", 10)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def taken(api):
    """The machine whose QEMU is not ours any more."""
    box = api.create(runtime="vm", egress=[])
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def puppets(taken, about):
    """attempt(name, …): what a system call gives in QEMU, as its user outside the jail, and as root there."""
    pid = qemu(about, taken)
    with open(f"/proc/{pid}/status") as f:
        uid = int(re.search(r"^Uid:\t(\d+)", f.read(), re.M).group(1))
    with sleeper(uid) as same_user, sleeper() as root:
        ours = [Puppet(p).__enter__() for p in (pid, same_user, root)]

        def attempt(name, *args):
            return [p.tries(name, *args) for p in ours]
        attempt.qemu, attempt.pid, attempt.free = ours[0], pid, ours[2]
        yield attempt


@pytest.fixture(scope="module")
def victim():
    """A process of somebody else's."""
    with sleeper() as pid:
        yield pid


def descriptor(pid, what):
    """The lowest one that leads there."""
    for fd in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        if re.search(what, os.readlink(f"/proc/{pid}/fd/{fd}")):
            return fd
    raise LookupError(what)


def test_I10_files_of_the_host(puppets, taken, victim, about, tmp_path):
    """No path leads anywhere; and if one did, another machine's disk belongs to nobody it can be."""
    disk = os.path.join(about["state_dir"], "vm/layers", taken.id, "disk")
    made = str(tmp_path / "made").encode()
    assert puppets("openat", AT_FDCWD, disk.encode(), os.O_RDWR) == ["ENOENT", "EACCES", "ok"]
    assert puppets("openat", AT_FDCWD, f"/proc/{victim}/mem".encode(), 0) == ["ENOENT", "EACCES", "ok"]
    for path in (b"/etc/passwd", b"../../../../etc/passwd", b"/proc/self/status", b"/usr/bin/env", b"/dev/null"):
        assert puppets("openat", AT_FDCWD, path, 0) == ["ENOENT", "ok", "ok"], path
    assert puppets("mkdir", made, 0o700) == ["ENOENT", "EACCES", "ok"]
    assert puppets("chroot", b"/") == ["EPERM", "EPERM", "ok"]
    assert puppets.qemu.tries("mkdir", b"/made", 0o700) == "EROFS"


def test_I10_processes_and_sockets_of_the_host(puppets, victim):
    assert puppets("kill", victim, 0) == ["ESRCH", "EPERM", "ok"]
    assert puppets("process_vm_readv", victim, bytes(16), 0, bytes(16), 0, 0)[0] != "EFAULT"
    assert puppets("ptrace", 16, victim, 0, 0) == ["ESRCH", "EPERM", "ok"]
    with socket.create_server(("127.0.0.1", 0)) as inet, socket.socket(socket.AF_UNIX) as unix:
        name = f"\0weir-{os.getpid()}"
        unix.bind(name)
        unix.listen()
        for family, where, error in (
                (socket.AF_INET, struct.pack("=HH", socket.AF_INET, socket.htons(inet.getsockname()[1])) +
                 socket.inet_aton("127.0.0.1") + bytes(8), "ENETUNREACH"),
                (socket.AF_UNIX, struct.pack("=H", socket.AF_UNIX) + name.encode(), "ECONNREFUSED")):
            inside, outside = (p.call("socket", family, socket.SOCK_STREAM, 0) for p in (puppets.qemu, puppets.free))
            assert puppets.qemu.tries("connect", inside, where, len(where)) == error
            assert puppets.free.tries("connect", outside, where, len(where)) == "ok"
    for family in (AF_VSOCK, AF_PACKET):  # the first knows no namespaces
        assert puppets("socket", family, socket.SOCK_STREAM if family == AF_VSOCK else socket.SOCK_RAW, 0)[0] == \
            "EAFNOSUPPORT"
    assert puppets.free.tries("socket", AF_PACKET, socket.SOCK_RAW, 0) == "ok"


@pytest.mark.parametrize("name, args, inside", [
    ("bpf", [0, ARRAY, len(ARRAY)], "EPERM"),
    ("perf_event_open", [SOFTWARE_CLOCK, 0, -1, -1, 0], "EPERM"), ("keyctl", RING_OF_THE_SESSION, "EPERM"),
    ("add_key", [b"user", b"weir", b"x", 1, -2], "EPERM"), ("userfaultfd", [1], "EPERM"),
    ("fanotify_init", [0, 0], "EPERM"), ("io_uring_setup", [4, bytes(120)], "ENOSYS")],
    ids=["bpf", "perf", "keyctl", "add_key", "userfaultfd", "fanotify", "io_uring"])
def test_I10_what_the_kernels_holes_are_reached_by(puppets, name, args, inside):
    mine, free = puppets.qemu.tries(name, *args), puppets.free.tries(name, *args)
    assert mine == inside
    if name == "io_uring_setup" and free == "EPERM":
        pytest.skip("this host gives nobody io_uring, so there is no control")
    assert free == "ok"


def test_I10_files_that_it_holds(puppets, taken):
    """The image is everybody's, and not to be written; the disk is its own; what came from a template is sealed."""
    q, pid = puppets.qemu, puppets.pid
    image, disk = descriptor(pid, r"/rootfs\.ext4$"), descriptor(pid, r"/disk$")
    writable = (0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED)
    assert q.tries("pwrite64", image, b"x", 1, 0) == "EBADF"
    assert q.tries("mmap", *writable, image, 0) == "EACCES"
    assert q.tries("mmap", *writable, disk, 0) == "ok"  # the control
    memory = descriptor(pid, "memfd:weir-memory")
    with open(f"/proc/{pid}/maps") as f:
        clone = any("memfd:weir-memory" in line and line.split()[1].endswith("p") for line in f)
    assert q.tries("mmap", *writable, memory, 0) == ("EPERM" if clone else "ok")


def test_I10_limits_that_it_has(puppets):
    """No dumps of what it has in memory, which a core_pattern with a pipe would get even with a limit of 0."""
    endless = struct.pack("QQ", 2 ** 64 - 1, 2 ** 64 - 1)
    puppets.qemu.call("prlimit64", 0, 4, endless, 0)  # RLIMIT_CORE: it is told that it may
    with open(f"/proc/{puppets.pid}/limits") as f:
        limits = {line[:25].strip(): line[26:].split() for line in f}
    assert limits["Max core file size"][:2] == ["1", "1"]
    assert puppets.free.tries("prlimit64", 0, 4, endless, 0) == "ok"


def test_it_is_a_machine_as_before(puppets, taken):
    """The control of all that: it was a QEMU at work all the time. It is let go, and goes on."""
    puppets.qemu.__exit__(None)
    try:
        assert taken.sh("echo here").stdout == "here\n"
    finally:
        puppets.qemu.__enter__()


def test_I10_a_nested_namespace_is_its_end_CVE_2022_1015(puppets, taken, about):
    """The last: one in which it would be root, with nf_tables to itself. It is killed, and nothing of it stays."""
    assert puppets.free.tries("unshare", NEWUSER | NEWNET) == "ok"
    with open(f"/proc/{puppets.pid}/cgroup") as f:
        group = re.search(r"/vm-[0-9a-f]+", f.read()).group(0)[1:]
    with pytest.raises(Killed):
        puppets.qemu.call("unshare", NEWUSER | NEWNET)
    taken.destroy()
    taken.wait("destroyed")
    assert wait_until(lambda: group not in subprocess.getoutput("find /sys/fs/cgroup -type d -name 'vm-*'"), 30)
    router = ["nsenter", f"--net={about['run_dir']}/router.ns", "ip", "-4", "route"]
    assert wait_until(lambda: f"{taken.ip} " not in subprocess.check_output(router, text=True), 30)
