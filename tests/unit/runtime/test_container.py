"""The container runtime's life: start, freeze, end, adopt, crash, sweep; by the driver."""

import contextlib
import glob
import inspect
import os
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from driver import Driver, Refused, why_not  # noqa: E402

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def driver():
    with Driver() as d:
        yield d


def until(condition, seconds=60):
    """Loop devices and mounts go when the kernel's deferred work has run."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, inspect.getsource(condition)
        time.sleep(0.01)


def gone(d):
    end = time.monotonic() + 60
    while d.leaks() and time.monotonic() < end:
        time.sleep(0.01)
    assert d.leaks() == []


@contextlib.contextmanager
def small_disk(mib):
    """A file system of that size for a driver's state."""
    with tempfile.TemporaryDirectory(prefix="weir-rt-", dir="/var/tmp") as top:
        at = f"{top}/state"
        os.mkdir(at)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", f"{top}/disk", f"{mib}M"], check=True)
        subprocess.run(["mount", "-o", "loop", f"{top}/disk", at], check=True)
        try:
            yield at
        finally:
            subprocess.run(["umount", "-l", at], check=True)


def process_is(pid, name="weir-agent"):
    try:
        with open(f"/proc/{pid}/status") as f:
            return "State:\tZ" not in f.read()
    except OSError:
        return False


def test_life(driver):
    pid, _ = driver.spawn()
    out, status = driver.run("sb-1", "id -u; hostname; echo $$")
    assert (out.split()[:2], status) == (["0", "otter"], 0)
    assert process_is(pid)
    assert driver.end("sb-1") == (9, 0)
    gone(driver)


@pytest.mark.parametrize("pooled", [False, True])
def test_many(driver, pooled):
    if pooled:
        for i in range(1, 4):
            driver("park", "bb:1", i, 64)
        driver("park", "bb:1", 4, 96)  # fits none below
    for i in range(1, 6):
        driver.spawn(f"sb-{i}", slot=i)
    for i in range(1, 6):
        assert driver.run(f"sb-{i}", "cat /proc/self/uid_map")[0].split()[1] == \
            str(driver.uid_base + i * 65536)
    for i in range(1, 6):
        driver.end(f"sb-{i}")
    driver("leave")
    gone(driver)


def test_namespaces_are_its_own(driver):
    pid, _ = driver.spawn()
    for ns in "user pid mnt ipc uts cgroup net".split():
        assert os.readlink(f"/proc/{pid}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}"), ns
    assert driver.run("sb-1", "cat /proc/self/cgroup | grep -v ':/$'")[0] == ""


def test_nothing_in_the_hosts_mounts(driver):
    before = open("/proc/self/mounts").read().count(driver.state)
    driver.spawn()
    assert open("/proc/self/mounts").read().count(driver.state) == before


def test_files_written(driver):
    driver.spawn()
    out, _ = driver.run("sb-1", "cat /etc/resolv.conf /etc/hosts /etc/hostname")
    assert "nameserver 169.254.77.1\n" in out and "10.60.0.1\totter\n" in out
    assert driver.run("sb-1", "stat -c %u:%a /etc/resolv.conf /tmp")[0] == "0:644\n0:1777\n"


def test_standard_devices(driver):
    driver.spawn()
    out, status = driver.run("sb-1", "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; "
                                     "echo x > /dev/null; echo x > /dev/shm/x; ls -l /dev/ptmx")
    assert status == 0 and out.split()[:2] == ["3", "3"]


def test_image_with_its_own_ids(driver):
    """An image on disk under weir-build's range shows as root's, and what is written is ours."""
    driver.image("built:1", uid=900000)
    driver.spawn(image="built:1")
    assert driver.run("sb-1", "stat -c %u:%g /bin/busybox; touch /bin/new && "
                              "stat -c %u /bin/new; chmod 700 /bin/busybox && "
                              "stat -c %u:%a /bin/busybox")[0] == "0:0\n0\n0:700\n"


def test_set_user_id_works_inside_only(driver):
    def change(root):
        os.chmod(f"{root}/bin/probe", 0o755)

    driver.image("suid:1", change)
    pid, _ = driver.spawn(image="suid:1")
    assert driver.run("sb-1", "chmod 4755 /bin/probe && stat -c %a /bin/probe")[0] == "4755\n"
    assert os.stat(f"/proc/{pid}").st_uid == driver.uid_base + 65536


def test_freeze(driver):
    driver.spawn()
    assert driver("frozen", "sb-1") == "0"
    driver("freeze", "sb-1")
    assert driver("frozen", "sb-1") == "1"
    driver("freeze", "sb-1")  # twice is no harm
    driver("thaw", "sb-1")
    assert driver.run("sb-1", "echo on")[0] == "on\n"
    driver("freeze", "sb-1")
    assert driver.end("sb-1") == (9, 0)  # a frozen one dies too
    gone(driver)


def test_control_groups_v1():
    with open("/proc/self/mounts") as f:
        if " cgroup rw" not in f.read():
            pytest.skip("this machine has no v1 control groups")
    with Driver(hide_v2=True) as d:
        d.spawn(pids=20)
        # All sandboxes together weigh as much as one process of the host for each processor.
        with open(f"/sys/fs/cgroup/cpu/{d.cgroup}/cpu.shares") as f:
            assert int(f.read()) == min(os.cpu_count(), 256) * 1024
        d("freeze", "sb-1")
        assert d("frozen", "sb-1") == "1"
        d("thaw", "sb-1")
        assert "cpu=" in d("stats", "sb-1")
        assert d.run("sb-1", "probe forks 100")[1] != 0
        d("freeze", "sb-1")
        assert d.end("sb-1") == (9, 0)
        d.spawn("sb-2", slot=2)
        d("freeze", "sb-2")
        d.crash()
        d.start()
        d("sweep")
        d("drop", "sb-2")
        gone(d)


def test_exit_status_and_oom(driver):
    driver.spawn()
    driver.run("sb-1", "kill -9 -1; kill -9 1")
    driver("kill", "sb-1")
    driver("wait", "sb-1")
    assert driver("cleanup", "sb-1").split()[0] == "9"


def test_stats(driver):
    driver.spawn()
    before = dict(p.split("=") for p in driver("stats", "sb-1").split())
    driver.run("sb-1", "dd if=/dev/urandom of=/x bs=1M count=20; sync")
    after = dict(p.split("=") for p in driver("stats", "sb-1").split())
    assert int(after["cpu"]) > int(before["cpu"]) and int(after["pids"]) >= 1
    assert int(after["disk"]) - int(before["disk"]) >= 20 << 20
    assert 0 < int(after["mem"]) <= 128 << 20


def test_cpu_limit(driver):
    driver.spawn(cpu=200)
    t = time.monotonic()
    driver.run("sb-1", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    took = time.monotonic() - t
    used = int(dict(p.split("=") for p in driver("stats", "sb-1").split())["cpu"]) / 1e6
    assert used < 0.35 * took + 0.15


def test_revive(driver):
    driver.spawn()
    driver.run("sb-1", "echo kept > /root/file; echo mine >> /etc/hosts; sync")
    driver.end("sb-1", keep=True)
    with pytest.raises(Refused, match="has a writable layer already"):
        driver.spawn()
    driver.spawn(revive=True)
    out, _ = driver.run("sb-1", "cat /root/file; tail -1 /etc/hosts; touch /root/more")
    assert out == "kept\nmine\n"
    driver.end("sb-1")
    gone(driver)
    with pytest.raises(Refused, match="no writable layer"):
        driver.spawn(revive=True)


def test_revive_at_once_uses_the_same_device(driver):
    """The old mount may still be going away: one file, never two devices."""
    driver.spawn()
    for i in range(5):
        driver.run("sb-1", f"echo {i} > /root/n")
        driver.end("sb-1", keep=True)
        driver.spawn(revive=True)
        assert driver.run("sb-1", "cat /root/n")[0] == f"{i}\n"


def test_revive_in_another_slot_is_refused(driver):
    driver.spawn(slot=3)
    driver.end("sb-1", keep=True)
    with pytest.raises(Refused, match="belongs to another slot"):
        driver.spawn(slot=4, revive=True)
    driver("drop", "sb-1")
    gone(driver)


def test_revive_larger(driver):
    driver.spawn(disk=64)
    driver.run("sb-1", "echo kept > /root/file; sync")
    driver.end("sb-1", keep=True)
    driver.spawn(disk=128, revive=True)
    assert driver.run("sb-1", "cat /root/file")[0] == "kept\n"
    out, status = driver.run("sb-1", "dd if=/dev/zero of=/x bs=1M count=90")
    assert status == 0, out


def test_grow(driver):
    driver.spawn(disk=64)
    assert driver.run("sb-1", "dd if=/dev/zero of=/x bs=1M count=90")[1] != 0
    try:
        driver("grow", "sb-1", 128)
    except Refused as e:
        assert "CAP_SYS_RESOURCE" in e.text
        pytest.skip("root of this machine has no CAP_SYS_RESOURCE and no project quota")
    assert driver.run("sb-1", "dd if=/dev/zero of=/x bs=1M count=90")[1] == 0
    with pytest.raises(Refused, match="cannot shrink"):
        driver("grow", "sb-1", 32)


def test_another_limit_of_memory(driver):
    """More, less, and less than is in use, in whichever hierarchy the limit lives."""
    def fits(mib):
        return driver.run("sb-1", f"dd if=/dev/zero of=/dev/null bs={mib}M count=1")[1] == 0

    driver.spawn(mem=64)
    assert fits(32) and not fits(96)
    driver("limit", "sb-1", 160)
    assert fits(96) and not fits(192)
    assert driver.run("sb-1", "dd if=/dev/zero of=/dev/shm/held bs=1M count=48")[1] == 0
    with pytest.raises(Refused, match="more than 24 MiB are in use"):
        driver("limit", "sb-1", 24)
    assert fits(64), "the limit stayed"
    assert driver.run("sb-1", "rm /dev/shm/held")[1] == 0
    driver("limit", "sb-1", 64)
    assert fits(32) and not fits(96)


def test_growth_of_a_running_disk_without_space():
    """The host's disk is full: refused, and the sandbox goes on as it was."""
    with small_disk(160) as state, Driver(backend="loop", state=state) as driver:
        driver.image("bb:1")
        driver.spawn(disk=64)
        driver.run("sb-1", "echo kept > /root/file; sync")
        layer, = glob.glob(f"{driver.state}/layers/*/disk")
        before = os.path.getsize(layer)
        with open(f"{state}/full", "wb") as full, pytest.raises(OSError, match="No space"):
            while True:
                full.write(b"x" * (1 << 20))
                full.flush()
        with pytest.raises(Refused, match="own disk has less than"):
            driver("grow", "sb-1", 128)
        assert os.path.getsize(layer) == before
        os.unlink(f"{state}/full")
        again = driver.run("sb-1", "cat /root/file && touch /root/more && sync && echo writes")
        assert again[0] == "kept\nwrites\n"
        try:  # the control: there is space now
            driver("grow", "sb-1", 128)
        except Refused as e:
            assert "CAP_SYS_RESOURCE" in e.text
        else:
            assert driver.run("sb-1", "dd if=/dev/zero of=/x bs=1M count=66")[1] == 0


@pytest.mark.parametrize("mounted", [True, False])
def test_a_growth_that_fails_leaves_the_disk_as_it_was(mounted):
    """Were the image left longer, the sandbox could not come back with the size it has."""
    with Driver(backend="loop") as driver:
        driver.spawn(disk=64)
        driver.run("sb-1", "echo kept > /root/file; sync")
        layer, = glob.glob(f"{driver.state}/layers/*/disk")
        size = os.path.getsize(layer)
        if mounted:
            try:
                driver("grow", "sb-1", 128)
                pytest.skip("root of this machine may grow mounted file systems")
            except Refused as e:
                assert "CAP_SYS_RESOURCE" in e.text
        else:
            driver.end("sb-1", keep=True)
            with open(layer, "r+b") as f:
                f.seek(1024 + 0x60)
                whole = f.read(4)
                f.seek(1024 + 0x60)
                f.write(b"\xff\xff\xff\xff")  # features that resize2fs does not know
            with pytest.raises(Refused, match="resize2fs failed"):
                driver.spawn(disk=128, revive=True)
            with open(layer, "r+b") as f:
                f.seek(1024 + 0x60)
                f.write(whole)
        assert os.path.getsize(layer) == size
        if mounted:
            driver.end("sb-1", keep=True)
        driver.spawn(disk=64, revive=True)
        assert driver.run("sb-1", "cat /root/file")[0] == "kept\n"


@pytest.mark.parametrize("reached", [64, 96])
def test_a_growth_that_was_cut_off(reached):
    """kill -9, or the machine's end, while a running sandbox's disk grows from 64 to 128 MiB: the image
    is longer than the row says, the file system anywhere between. It comes back, and can grow on."""
    with Driver(backend="loop") as driver:
        driver.spawn(disk=64)
        driver.run("sb-1", "echo kept > /root/file; sync")
        driver.end("sb-1", keep=True)
        layer, = glob.glob(f"{driver.state}/layers/*/disk")
        until(lambda: subprocess.run(["losetup", "-j", layer], capture_output=True).stdout == b"")
        os.truncate(layer, 128 << 20)
        if reached > 64:
            subprocess.run(["e2fsck", "-fp", layer], stdout=subprocess.DEVNULL)
            subprocess.run(["resize2fs", layer, f"{reached}M"], check=True, stderr=subprocess.DEVNULL)
        driver.spawn(disk=64, revive=True)
        assert driver.run("sb-1", "cat /root/file")[0] == "kept\n"
        fits = f"dd if=/dev/zero of=/x bs=1M count={reached} && echo fits; rm /x"
        assert "fits" not in driver.run("sb-1", fits)[0]
        driver.end("sb-1", keep=True)
        driver.spawn(disk=128, revive=True)
        assert "fits" in driver.run("sb-1", fits)[0]


def test_kill_while_it_grows(driver):
    """kill -9 of the host role at moments spread over a growth: nothing writes to the image after the
    sweep, and the sandbox comes back with its file, its old size or the new one."""
    driver.spawn(disk=64)
    driver.run("sb-1", "echo kept > /root/file; sync")
    driver.end("sb-1", keep=True)
    for i in range(8):
        driver.p.stdin.write(f"spawn sb-1 bb:1 1 128 {128 * (i + 1)} 128 0 revive\n".encode())
        driver.p.stdin.flush()
        time.sleep(i * 0.012)  # spread, not awaited: each moment must do
        driver.crash()
        driver.start()
        driver("sweep")
        driver.spawn(disk=64, revive=True)
        assert driver.run("sb-1", "cat /root/file")[0] == "kept\n"
        driver.end("sb-1", keep=True)
    driver("drop", "sb-1")
    gone(driver)


def test_growth_without_space():
    """The host's disk is full: refused, and the sandbox comes back as it was."""
    with small_disk(96) as state, Driver(backend="loop", state=state) as driver:
        driver.image("bb:1")
        driver.spawn(disk=64)
        driver.run("sb-1", "echo kept > /root/file; sync")
        driver.end("sb-1", keep=True)
        layer, = glob.glob(f"{driver.state}/layers/*/disk")
        with open(f"{state}/full", "wb", buffering=0) as full, pytest.raises(OSError):
            while True:
                full.write(b"x" * (1 << 20))
        with pytest.raises(Refused, match="grow the writable layer|extend|No space"):
            driver.spawn(disk=65536, revive=True)
        os.unlink(f"{state}/full")
        assert os.path.getsize(layer) == 64 << 20
        driver.spawn(disk=64, revive=True)
        assert driver.run("sb-1", "cat /root/file")[0] == "kept\n"
        driver.end("sb-1", keep=True)
        driver.spawn(disk=128, revive=True)  # the control: there is space now
        assert driver.run("sb-1", "cat /root/file; dd if=/dev/zero of=/x bs=1M count=66")[1] == 0


def test_refusals_leave_nothing(driver):
    with pytest.raises(Refused, match="there is no image nope:1"):
        driver.spawn(image="nope:1")
    with pytest.raises(Refused, match="there is no"):
        driver.spawn(image="../bb:1")
    with pytest.raises(Refused, match="not a sandbox id"):
        driver.spawn("../x")
    with pytest.raises(Refused, match="at least"):
        driver.spawn(disk=0)
    gone(driver)


def test_agent_that_cannot_be_executed():
    with tempfile.NamedTemporaryFile("w") as f:
        f.write("not a program")
        f.flush()
        d = Driver()
        d.agent = f.name
        with d:
            with pytest.raises(Refused, match="execute the agent: Exec format error"):
                d.spawn()
            gone(d)


def test_image_without_meta_does_not_exist(driver):
    name = os.path.join(driver.state, "images/names/bb:1")
    os.unlink(os.path.join(name, "meta"))
    with pytest.raises(Refused, match="there is no image bb:1"):
        driver.spawn()


def test_adopt(driver):
    driver.spawn()
    driver.spawn("sb-2", slot=2)
    records = {box: driver("record", box) for box in ("sb-1", "sb-2")}
    driver("freeze", "sb-2")
    driver.crash()
    driver.start()
    for box, record in records.items():
        driver("adopt", box, record)
    driver("sweep")
    assert driver.run("sb-1", "echo still")[0] == "still\n"
    assert driver("frozen", "sb-2") == "1"
    driver("thaw", "sb-2")
    assert driver.run("sb-2", "echo still")[0] == "still\n"
    assert driver.end("sb-1")[0] == -1  # somebody else's child: the status is lost
    driver.end("sb-2")
    gone(driver)


def test_adopt_what_died_meanwhile(driver):
    pid, _ = driver.spawn()
    record = driver("record", "sb-1")
    driver.crash()
    os.kill(pid, 9)
    until(lambda: not process_is(pid))
    driver.start()
    with pytest.raises(Refused, match="has no process any more"):
        driver("adopt", "sb-1", record)
    driver("cleanup", "sb-1")
    gone(driver)


@pytest.mark.parametrize("change", ["pid", "started", "cgroup", "boot"])
def test_adopt_believes_no_recycled_id(driver, change):
    """A live process that is not ours, whatever the record says about it."""
    driver.spawn()
    record = driver("record", "sb-1")
    fields = dict(f.split("=") for f in record.rstrip(";").split(";"))
    other = subprocess.Popen(["sleep", "60"])
    fields[change] = {"pid": str(other.pid), "started": "1", "cgroup": "box-0000000000000000",
                      "boot": "x"}[change]
    driver.crash()
    driver.start()
    with pytest.raises(Refused, match="has no process any more"):
        driver("adopt", "sb-1", ";".join(f"{k}={v}" for k, v in fields.items()))
    driver("kill", "sb-1")
    driver("cleanup", "sb-1")
    driver("sweep")
    assert other.poll() is None
    other.kill()
    other.wait()
    gone(driver)


def test_adopt_a_torn_record(driver):
    driver.spawn()
    driver.crash()
    driver.start()
    with pytest.raises(Refused, match="has no process any more"):
        driver("adopt", "sb-1", "pid=12;cgr")
    driver("kill", "sb-1")
    driver("cleanup", "sb-1")
    driver("sweep")
    gone(driver)


def test_sweep_after_a_crash(driver):
    pids = [driver.spawn(f"sb-{i}", slot=i)[0] for i in range(1, 4)]
    driver("freeze", "sb-2")
    driver("park", "bb:1", 8, 64)
    driver("park", "bb:1", 9, 64)
    driver.crash()
    assert all(process_is(pid) for pid in pids)
    driver.start()
    driver("sweep")
    assert not any(process_is(pid) for pid in pids)
    for i in range(1, 4):
        driver("drop", f"sb-{i}")
    gone(driver)


def test_crash_at_any_time(driver):
    """kill -9 at moments spread over the length of a start: what is left, sweep finds."""
    driver.spawn()
    driver.end("sb-1")
    for delay in [i * 0.002 for i in range(15)]:
        driver.p.stdin.write(b"spawn sb-1 bb:1 1 128 64 128 0\n")
        driver.p.stdin.flush()
        time.sleep(delay)
        driver.crash()
        driver.start()
        driver("sweep")
        driver("drop", "sb-1")
        gone(driver)


def test_close_without_boxes_leaves_no_root(driver):
    driver.spawn()
    driver.end("sb-1")
    driver("park", "bb:1", 2, 64)
    driver.stop()
    for where, dirs, _ in os.walk("/sys/fs/cgroup"):
        assert driver.cgroup not in dirs
    gone(driver)
    driver.start()


def test_boxes_survive_a_clean_stop(driver):
    pid, _ = driver.spawn()
    record = driver("record", "sb-1")
    driver.stop()
    assert process_is(pid)
    driver.start()
    driver("adopt", "sb-1", record)
    driver.end("sb-1")
    gone(driver)
