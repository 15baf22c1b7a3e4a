"""I10, on machines: what root of a guest tries with a kernel of its own. One machine for all that leaves it
alive; what ends it is tried on others."""

import contextlib
import glob
import hashlib
import os

import pytest

from kit.api import Refused
from kit.daemon import wait_until
from kit.double import DOUBLE
from test_sandbox import qemu


@pytest.fixture(scope="module")
def machine(api):
    box = api.create(runtime="vm", egress=[])
    yield box
    box.destroy()


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) >> 10


def test_I10_what_a_machine_has(machine):
    """Three devices on no bus that could be searched, and no directory of the host's: nothing of the kind of
    GHSA-2gv2-cffp-j227 can be there."""
    has = machine.sh("cat /sys/bus/virtio/devices/*/device; ls /sys/bus/pci/devices 2>/dev/null; "
                     "cut -d' ' -f3 /proc/mounts").stdout.split()
    assert sorted(has[:3]) == ["0x0001", "0x0002", "0x0002"]
    assert set(has[3:]) <= {"proc", "sysfs", "devtmpfs", "overlay", "devpts", "tmpfs", "cgroup2"}, has


def test_I10_the_shared_image_is_not_the_guests_CVE_2020_2025(machine, about):
    """The image's disk takes no write, whatever its kernel believes of it; its own does, up to its end."""
    pid = qemu(about, machine)
    image, disk = (next(os.readlink(f) for f in glob.glob(f"/proc/{pid}/fd/*") if os.readlink(f).endswith(name))
                   for name in ("/rootfs.ext4", "/disk"))

    def digest():
        with open(image, "rb") as f:
            return hashlib.sha256(f.read(4 << 20)).hexdigest()
    before, size = (digest(), os.stat(image).st_mtime_ns), os.stat(disk).st_size
    write = "dd if=/dev/urandom of={} bs=4096 count=2 seek={} conv=fsync,notrunc 2>&1"
    got = machine.sh("blockdev --setrw /dev/vda; cat /sys/block/vda/size; " + write.format("/dev/vda", 100))
    assert got.code and (digest(), os.stat(image).st_mtime_ns) == before, got
    got = machine.sh(write.format("/dev/vdb", size // 4096))
    assert "No space left" in got.stdout and os.stat(disk).st_size == size, got
    before = os.stat(disk).st_mtime_ns  # the control
    assert machine.sh(write.format("/root/own", 0)).code == 0 and os.stat(disk).st_mtime_ns != before


PORTS = r"""
import ctypes, mmap, sys
assert ctypes.CDLL(None).iopl(3) == 0
code = mmap.mmap(-1, 4096, prot=7)
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
def function(offset, instructions):
    code[offset:offset + len(instructions)] = instructions
    return ctypes.CFUNCTYPE(ctypes.c_uint8, ctypes.c_uint32, ctypes.c_uint32)(at + offset)
outb = function(0, b"\x89\xfa\x89\xf0\xee\xc3")
outw = function(16, b"\x89\xfa\x89\xf0\x66\xef\xc3")
inb = function(32, b"\x89\xfa\x31\xc0\xec\xc3")
found = b""
for key in (*range(0x20), *range(0x8000, 0x8010)):  # all that the firmware is told
    outw(0x510, key)
    found += bytes(inb(0x511, 0) for _ in range(400 if key == 0x15 else 80))
sys.stdout.buffer.write(found)
quiet = {0x60, 0x64, 0x70, 0x71, 0x92, 0xcf9, *range(0x3f8, 0x400)}  # what restarts it, its clock and console
for port in range(0x20, 0x700):
    if port not in quiet:
        for value in (0, 0x55, 0xff):
            outb(port, value)
            inb(port, 0)
"""


def test_I10_ports_of_the_board(machine, about):
    """What the firmware can be asked is the guest's own kernel and its words, and nothing of the host; what
    is written where nothing is goes nowhere."""
    machine.put("/root/ports.py", PORTS.encode())
    told = machine.sh("python3 -S /root/ports.py >/root/told")
    assert told.code == 0, told
    text = machine.get("/root/told")
    assert b"QEMU" in text and b"console=ttyS0" in text  # the control
    for word in (about["run_dir"], about["state_dir"], "/var/", os.uname().nodename, "/dev/fdset"):
        assert word.encode() not in text, word
    assert machine.sh("echo here").stdout == "here\n"


def test_I10_the_console_is_nobodys(machine, about):
    """Written to without end, with the byte among it by which a machine says that it is up: nobody listens."""
    machine.sh("printf 'n\\006%.0s' $(seq 2000) >/root/noise; (while :; do cat /root/noise; done) "
               ">/dev/ttyS0 2>/dev/null </dev/null & echo $! >/run/noise")
    machine.pause()
    machine.resume()
    assert machine.sh("kill -0 $(cat /run/noise) && kill -9 $(cat /run/noise); echo $?").stdout == "0\n"
    assert rss_mib(qemu(about, machine)) < machine.view["mem_mib"] + 160


BOMB = """
import os, signal
pids = []
for _ in range(300):
    pids.append(os.fork())
    if not pids[-1]:
        signal.pause()
hog = os.fork()
if hog == 0:
    open("/proc/self/oom_score_adj", "w").write("1000")
    held = []
    while True:
        held.append(b"x" * (8 << 20))
status = os.waitstatus_to_exitcode(os.waitpid(hog, 0)[1])
print(len(pids), status, flush=True)
for p in pids:
    os.kill(p, 9)
"""


def test_I10_bombs_stay_inside(machine, about):
    """More processes than its QEMU may have, and more memory than the machine has: its own kernel's trouble. On the
    host it is the same few threads, within the memory that was promised."""
    r = machine.exec("python3", "-S", "-c", BOMB)
    assert r.stdout == "300 -9\n", r
    pid = qemu(about, machine)
    assert len(os.listdir(f"/proc/{pid}/task")) <= 64
    assert rss_mib(pid) < machine.view["mem_mib"] + 160
    assert machine.sh("echo here").stdout == "here\n"


TAKE_PLACE = """
set -e
ip netns add double
mtu=$(cat /sys/class/net/eth0/mtu)
ip link set eth0 netns double
in="ip -n double"
$in link set lo up; $in link set eth0 mtu $mtu up
$in addr add 169.254.77.2/32 dev eth0
$in neigh add 169.254.77.1 lladdr 02:57:45:49:52:01 dev eth0
$in route add 169.254.77.1 dev eth0
ip netns exec double python3 -S /root/double.py 1028 "as asked" || true
$in link set eth0 netns 1
ip link set eth0 mtu $mtu up
ip addr add 169.254.77.2/32 dev eth0
ip neigh replace 169.254.77.1 lladdr 02:57:45:49:52:01 dev eth0
ip route replace 169.254.77.1 dev eth0
"""


def test_I10_an_impostor_of_the_agent(machine, api):
    """Root of the guest takes the link from the agent and answers in its place: garbage, a length of 4 GiB, half
    a message, greetings without end. The caller is told that nobody answers as an agent does; others go on."""
    machine.put("/root/double.py", DOUBLE.encode())
    machine.put("/root/take", TAKE_PLACE.encode())
    with contextlib.suppress(Refused, TimeoutError):  # the answer may come too late for the link
        machine.sh("(sleep 1; exec setsid bash /root/take) </dev/null >/root/taken 2>&1 &")

    def said(how, limit_s=12):
        try:
            r = api.request("POST", f"{machine.path}/exec", {"cmd": how, "args": []}, timeout=limit_s)
            return r.says if r.status == 502 else str(r.status)
        except TimeoutError:
            return "silence"
    assert wait_until(lambda: said("garbage") not in ("200", "silence") and "reached" not in said("garbage"), 60)
    says = {how: said(how, 60) for how in ("garbage", "length", "close", "hello", "back")}
    assert not {"200", "404", "silence"} & set(says.values()), says

    def ours():
        try:
            return machine.exec("echo", "ours").stdout == "ours\n"
        except (Refused, TimeoutError):
            return False
    assert wait_until(ours, 90)  # the control


@pytest.mark.parametrize("how", ["b", "c", "o"], ids=["restarts", "panics", "is switched off"])
def test_I10_an_end_from_inside(api, about, how):
    """The API says that it is over, and its memory, processes and disk are free."""
    box = api.create(runtime="vm")
    pid = qemu(about, box)
    with contextlib.suppress(Refused):  # the answer may come too late for the machine
        box.sh(f"(sleep 0.5; echo {how} >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &")
    box.wait("error")
    assert "ended" in box.view["reason"]
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 30)
    with pytest.raises(Refused) as e:
        box.exec("true")
    assert e.value.response.status == 409
    box.destroy()
    box.wait("destroyed")
    left = os.path.join(about["state_dir"], "vm/layers", box.id)
    assert wait_until(lambda: not os.path.exists(left), 30)
