"""What virtual machines are made of, without a daemon: the bundle of kernel and initramfs, the image
as a disk, and one machine that boots from them and is woken."""

import errno
import glob
import hashlib
import os
import shutil
import subprocess

import pytest
from kit.machine import GATEWAY, Machine, Refused, memory_file, seal

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"))
GUEST, ROOTFS = (os.path.join(BUILD, "src/cmd", name) for name in ("weir-guest", "weir-rootfs"))
AGENT = os.path.join(BUILD, "src/agent/weir-agent")
UID_BASE = 4293918720
WORDS = ("weir.ip4=10.60.0.5 weir.ip6=fd57::5 weir.overlay=10.42.0.5 weir.overlays=10.42.0.0/16 "
         "weir.mtu=1400 weir.host=first")
KERNEL = max(glob.glob("/boot/vmlinuz-*-cloud-amd64"), default="").removeprefix("/boot/vmlinuz-")
SEED = dict(wall_ns=1_900_000_000 * 10**9, entropy=os.urandom(32))


def run(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)


def bundle_in(directory, agent=AGENT, *more, **kw):
    done = run(GUEST, "--dir", str(directory), "--agent", str(agent), *more, **kw)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundle_in(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An image of busybox and of what an image may hold to annoy whoever reads it."""
    store = tmp_path_factory.mktemp("store")
    image = store / "images" / ("0" * 64)
    root = image / "rootfs"
    for d in ("bin", "etc", "root", "a dir\n-q", "odd"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    for name in ("sh", "cat", "mount", "ip", "ls", "hostname", "id", "date", "hexdump", "ps", "touch", "wc",
                 "head", "df", "tail", "rm"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "odd/shadow").symlink_to("/etc/shadow")
    (root / "odd/-d").write_text("dash\n")
    (root / "a dir\n-q" / "file").write_text("newline\n")
    os.mkfifo(root / "odd/fifo")
    for at, dirs, files in os.walk(root):
        for path in [at] + [os.path.join(at, f) for f in dirs + files]:
            os.chown(path, UID_BASE, UID_BASE, follow_symlinks=False)
    os.chown(root / "odd/-d", UID_BASE + 1000, UID_BASE + 50)
    os.chmod(root / "odd/-d", 0o4755)
    (image / "meta").write_text(f"name=tiny:1\ndigest=sha256:{'0' * 64}\nbytes=1\n"
                                f"uid_base={UID_BASE}\ncreated=2026-01-01T00:00:00Z\n")
    (store / "names").mkdir()
    (store / "names/tiny:1").symlink_to(f"../images/{'0' * 64}")
    return store


@pytest.fixture(scope="module")
def root(store):
    done = run(ROOTFS, "tiny:1", "--store", str(store))
    assert (done.returncode, done.stderr) == (0, "")
    return store / "images" / ("0" * 64) / "rootfs.ext4"


@pytest.fixture
def disk(tmp_path):
    return disk_in(tmp_path)


def disk_in(directory):
    for d in ("upper", "work"):
        (directory / "tree" / d).mkdir(parents=True)
    path = directory / "disk"
    run("mke2fs", "-q", "-t", "ext4", "-d", directory / "tree", path, "64M", check=True)
    return path


@pytest.fixture(scope="module")
def vm(bundle, root, tmp_path_factory):
    memory, disk = memory_file(256), disk_in(tmp_path_factory.mktemp("disk"))
    with Machine(bundle, root, disk, WORDS, memory=memory) as machine:
        machine.ready()
        machine.memory, machine.disk = memory, disk
        yield machine
    os.close(memory)


def debugfs(path, command):
    return run("debugfs", "-R", command, path, check=True).stdout


# --- the disk of an image ---

def test_owners_are_those_inside(root):
    assert "User:     0   Group:     0" in debugfs(root, "stat /bin/busybox")
    odd = debugfs(root, "stat /odd/-d")
    assert "User:  1000   Group:    50" in odd and "Mode:  04755" in odd


def test_the_tree_is_taken_as_it_is(root):
    assert 'dest: "/etc/shadow"' in debugfs(root, "stat /odd/shadow").replace("Fast link ", "")
    assert "Type: FIFO" in debugfs(root, "stat /odd/fifo")
    assert debugfs(root, 'cat "/odd/-d"') == "dash\n"
    assert "lost+found" not in debugfs(root, "ls /")
    assert run("e2fsck", "-fn", root).returncode == 0


def test_the_disk_is_roots_and_not_to_be_written(root):
    at = root.stat()
    assert (at.st_uid, at.st_gid, at.st_mode & 0o777) == (0, 0, 0o444)


def test_several_ask_for_the_disk_at_once(store, root):
    os.unlink(root)
    asked = [subprocess.Popen([ROOTFS, "tiny:1", "--store", str(store)]) for _ in range(4)]
    assert [p.wait(60) for p in asked] == [0] * 4
    before = root.stat()
    assert run(ROOTFS, "tiny:1", "--store", str(store)).returncode == 0
    assert (root.stat().st_ino, root.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(p.name for p in root.parent.iterdir()) == ["meta", "rootfs", "rootfs.ext4"]


@pytest.mark.parametrize("argv, said", [
    (["none:1", "--store", "{store}"], "there is no image none:1"),
    (["../x:1", "--store", "{store}"], "there is no such image"),
    (["tiny:1", "--store", "/nowhere"], "open the image store /nowhere: No such file or directory"),
    (["tiny:1"], "usage: weir-rootfs NAME --store DIR")])
def test_a_disk_that_cannot_be(store, argv, said):
    done = run(ROOTFS, *[a.format(store=store) for a in argv])
    assert done.returncode and said in done.stderr


# --- the bundle ---

def test_a_bundle_is_made_once(bundle):
    directory = os.path.dirname(bundle)
    before = os.stat(os.path.join(bundle, "kernel"))
    assert bundle_in(directory) == bundle
    assert os.stat(os.path.join(bundle, "kernel")).st_ino == before.st_ino
    assert os.readlink(os.path.join(directory, "current")) == os.path.basename(bundle)


def test_another_agent_is_another_bundle(bundle, tmp_path):
    (tmp_path / "agent").write_bytes(open(AGENT, "rb").read() + b"\0")
    other = bundle_in(tmp_path / "guest", tmp_path / "agent")
    assert os.path.basename(other) != os.path.basename(bundle)


def test_several_ask_for_a_bundle_at_once(tmp_path):
    argv = [GUEST, "--dir", str(tmp_path / "guest"), "--agent", AGENT]
    asked = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {p.communicate(timeout=60)[0] for p in asked}
    assert len(said) == 1 and os.path.exists(os.path.join(said.pop().strip(), "initrd"))
    assert not list((tmp_path / "guest").glob(".new-*"))


@pytest.mark.parametrize("more, path, said", [
    (["--kernel", "9.9.9-none"], None, "/boot/vmlinuz-9.9.9-none"),
    (["--kernel", KERNEL], "/usr/bin", "modprobe is missing: install the package kmod"),
    (["--kernel", "/etc/passwd"], None, "/etc/passwd is neither an ELF image nor packed with lz4")])
def test_a_bundle_that_cannot_be(tmp_path, more, path, said):
    python = [os.path.realpath("/usr/bin/python3")] if path else []
    empty = tmp_path / "bin"
    empty.mkdir()
    lz4 = "/usr/bin/lz4"
    if path and os.path.exists(lz4):
        (empty / "lz4").symlink_to(lz4)
    env = {**os.environ, "PATH": str(empty)} if path else None
    done = run(*python, GUEST, "--dir", str(tmp_path / "guest"), "--agent", AGENT, *more, env=env)
    assert done.returncode == 1 and said in done.stderr
    assert not [p for p in (tmp_path / "guest").glob("*") if p.name != "lock"]


# --- a machine ---

def test_the_agent_is_its_first_process(vm):
    assert vm.sh("cat /proc/1/comm") == "init"
    assert vm.sh("id -u; cat /proc/sys/kernel/osrelease").startswith("0\n6.")


def test_its_root_is_the_image_with_a_layer(vm, root):
    before = root.stat()
    mounts = {line.split()[1]: line.split() for line in vm.sh("cat /proc/mounts").splitlines()}
    assert mounts["/"][2] == "overlay" and "lowerdir=/root" in mounts["/"][3]
    assert {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/sys/fs/cgroup"} <= set(mounts)
    assert vm.sh('cat "/odd/-d"; echo mine >/odd/-d; cat /odd/-d') == "dash\nmine"
    assert vm.sh("ls /modules /init 2>&1 || true").count("No such file") == 2
    assert (root.stat().st_mtime_ns, root.stat().st_size) == (before.st_mtime_ns, before.st_size)


def test_its_link_is_as_a_containers(vm):
    addresses = vm.sh("ip -o addr show dev eth0")
    for address in ("169.254.77.2/32", "10.60.0.5/32", "10.42.0.5/32", "fd57::5/128", "fe80::77:2/64"):
        assert f" {address} " in addresses, addresses
    assert "mtu 1400" in vm.sh("ip link show dev eth0") and "tentative" not in addresses
    routes = vm.sh("ip route; ip -6 route show default")
    for route in (f"default via {GATEWAY} dev eth0  src 10.60.0.5",
                  f"10.42.0.0/16 via {GATEWAY} dev eth0  src 10.42.0.5",
                  f"{GATEWAY} dev eth0 scope link  src 10.60.0.5", "default via fe80::77:1"):
        assert route in routes, routes
    assert "PERMANENT" in vm.sh(f"ip neigh show {GATEWAY}")
    assert vm.sh("cat /etc/resolv.conf").startswith(f"nameserver {GATEWAY}")
    assert vm.sh("hostname") == "first"


def test_a_wake_makes_another_of_it(vm):
    """Time, name, addresses, machine id: as for a copy that shall be someone else."""
    before = vm.sh("ip -o addr show dev eth0")
    vm.wake(hostname="second", ip4="10.60.0.9", ip6="fd57::9", overlay="10.42.0.9",
            machine=bytes(range(16)), **SEED)
    after = vm.sh("ip -o addr show dev eth0")
    for old, new in (("10.60.0.5/", "10.60.0.9/"), ("10.42.0.5/", "10.42.0.9/"),
                     ("fd57::5/", "fd57::9/")):
        assert old in before and old not in after and new in after, after
    routes = vm.sh("ip route; ip -6 route show default")
    assert "src 10.60.0.9" in routes and "src 10.42.0.9" in routes and "fe80::77:1" in routes
    assert "0.5" not in routes
    assert vm.sh("cat /etc/machine-id") == bytes(range(16)).hex()
    assert vm.sh("hostname; cat /etc/hostname") == "second\nsecond"
    assert 0 <= int(vm.sh("date +%s")) - 1_900_000_000 < 60
    assert "10.60.0.9\tsecond" in vm.sh("cat /etc/hosts")
    vm.wake(hostname="second", ip4="10.60.0.9", ip6="fd57::9", overlay="10.42.0.9", **SEED)
    assert vm.sh("ip -o addr show dev eth0") == after


def test_its_randomness_is_ready_after_a_wake(vm):
    vm.wake(**SEED)
    first, second = (vm.sh("head -c 16 /dev/random | hexdump -e '16/1 \"%02x\"'") for _ in range(2))
    assert len(first) == 32 and first != second


def test_what_runs_is_held_until_a_wake(vm):
    """Whatever control group it made itself; what its owner had frozen stays so."""
    vm.sh("cd /sys/fs/cgroup; mkdir theirs cold; echo 1 >cold/cgroup.freeze; "
          "for n in a b; do (while :; do echo x >>/dev/shm/$n; done) >/dev/null 2>&1 & echo $! >/dev/shm/pid-$n; done; "
          "cat /dev/shm/pid-b >theirs/cgroup.procs; : >/dev/shm/late")

    def sizes():
        return [vm.size("/dev/shm/a"), vm.size("/dev/shm/b")]

    before = sizes()
    while any(a == b for a, b in zip(before, sizes())):
        pass  # the control: they run
    vm.sleep()
    vm.sleep()  # twice is as once
    held = sizes()
    late = vm.begin("echo begun >/dev/shm/late")  # what is started now is held as well
    for _ in range(10):
        assert sizes() == held
    assert vm.size("/dev/shm/late") == 0
    vm.wake(**SEED)
    assert late.exit() == (0, "") and vm.size("/dev/shm/late") > 0
    while any(a == b for a, b in zip(held, sizes())):
        pass
    assert vm.sh("cat /sys/fs/cgroup/cold/cgroup.freeze /sys/fs/cgroup/theirs/cgroup.freeze") == "1\n0"
    vm.sh("kill -9 $(cat /dev/shm/pid-a /dev/shm/pid-b)")


def test_its_disk_grows_with_a_wake(vm):
    def size():
        return int(vm.sh("df -k / | tail -1").split()[1])

    before = size()
    vm.qmp("block_resize", device="disk", size=96 << 20)
    assert size() == before  # the control: nobody has told it
    vm.wake(**SEED)
    assert before + 30000 < size() < 96 << 10


@pytest.mark.parametrize("lacking", [{"entropy": b""}, {"wall_ns": 0}, {"entropy": b"x" * 31}])
def test_a_wake_without_time_or_randomness_is_refused(vm, lacking):
    name = vm.sh("hostname")
    values = {k: v for k, v in {**SEED, **lacking}.items() if v}
    with pytest.raises(Refused, match="cannot wake a machine without its time and 32 bytes of entropy"):
        vm.wake(hostname="never", **values)
    assert vm.sh("hostname") == name


def test_a_machine_that_is_told_nonsense_ends(bundle, root, disk):
    with Machine(bundle, root, disk, "weir.ip4=10.60.0") as machine:
        assert machine.ended() == 0
        assert b"weir-init: weir.ip4=10.60.0: expected an IPv4 address" in machine.said


def test_a_machine_without_a_file_system_ends(bundle, root, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with Machine(bundle, root, tmp_path / "disk") as machine:
        assert machine.ended() == 0
        assert b"weir-init: mount /disk: " in machine.said


# --- copies ---

def digest(fd):
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def test_copies_of_one_machine_become_two(bundle, root, vm, tmp_path):
    """One template that nobody can write, not even root; two machines go on from it, and are woken. It ends the
    machine that the others of this file share, so it is the last."""
    memory, disk = vm.memory, vm.disk
    vm.wake(**SEED)
    vm.sh("echo before >/dev/shm/f")
    with pytest.raises(OSError) as busy:
        seal(memory)  # the control: as long as it is a machine's own, it is written
    assert busy.value.errno == errno.EBUSY
    state = vm.save()
    vm.end()
    seal(memory)
    before, told = digest(memory), []
    for n in (1, 2):
        shutil.copy(disk, tmp_path / f"disk{n}")
        with Machine(bundle, root, tmp_path / f"disk{n}", memory=memory, state=state) as copy:
            copy.wake(hostname=f"copy{n}", ip4=f"10.60.0.{n}", machine=bytes([n] * 16), wall_ns=n * 10**18,
                      entropy=os.urandom(32))
            told.append(copy.sh("cat /dev/shm/f; hostname; cat /etc/machine-id; "
                                "head -c 8 /dev/urandom | hexdump -e '8/1 \"%02x\"'").split("\n"))
            copy.sh("echo after >/dev/shm/f; head -c 20000000 /dev/urandom >/dev/shm/more")
    assert [t[:3] for t in told] == [["before", f"copy{n}", f"0{n}" * 16] for n in (1, 2)]
    assert told[0][3] != told[1][3] and len(told[0][3]) == 16
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x", 0)
    assert digest(memory) == before
    os.close(state)
