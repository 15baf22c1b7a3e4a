"""I10: a sandboxed program tries to get out of its container, or to bring the host down.

Each attempt is made twice: in a box as it is, where it must fail with the errno that names the
defence, and in a box with that defence lifted (runtime/lift.h), where it must succeed. Where two
defences stand behind each other, each is shown to hold alone.
"""

import ctypes
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../unit/runtime"))

from driver import Driver, Refused, why_not  # noqa: E402

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def lifted():
    """One running box per set of lifted defences: lifted("seccomp", "caps")("mount")."""
    drivers = {}

    def box(*lift):
        if lift not in drivers:
            drivers[lift] = Driver(lift=lift)
            drivers[lift].start()
            drivers[lift].spawn("sb-1")

        def attempt(*words):
            out, status = drivers[lift].run("sb-1", "probe " + " ".join(words))
            return "ok" if status == 0 else out.split()[-1]

        attempt.sh = lambda command: drivers[lift].run("sb-1", command)
        attempt.pid = int(drivers[lift]("record", "sb-1").split("pid=")[1].split(";")[0])
        return attempt

    yield box
    for d in drivers.values():
        d.__exit__()


def refused_by_filter(lifted, name, errno, *also):
    """The filter alone stops it: without the filter (and `also`, if other things would) it works."""
    assert lifted()(name) == errno
    assert lifted("seccomp", *also)(name) == "ok"


# --- namespaces ---

@pytest.mark.parametrize("how,errno", [("unshare-user", "EPERM"), ("clone-user", "EPERM"),
                                       ("clone3-user", "ENOSYS")])
def test_I10_nested_user_namespace(lifted, how, errno):
    refused_by_filter(lifted, how, errno)


@pytest.mark.parametrize("how", ["unshare-net", "unshare-mnt", "unshare-time", "setns"])
def test_I10_other_namespaces(lifted, how):
    refused_by_filter(lifted, how, "EPERM", "caps")


# --- mounts: the filter and the missing capability, each alone ---

@pytest.mark.parametrize("how", ["mount", "fsopen", "mount-cgroup"])
def test_I10_mount(lifted, how):
    assert lifted()(how) == "EPERM"
    assert lifted("seccomp")(how) == "EPERM"
    assert lifted("caps")(how) == "EPERM"
    assert lifted("seccomp", "caps")(how) == "ok"


def test_I10_read_only_proc_sys_stays(lifted):
    assert lifted()("remount") == "EPERM"
    assert lifted()("umount") == "EPERM"
    # With both gone the sandbox may take its own mounts apart; ids still keep it from the host.
    assert lifted("seccomp", "caps")("remount") == "ok"
    assert lifted("seccomp", "caps")("rewrite", "/proc/sys/kernel/core_pattern") == "EACCES"


# --- kernel interfaces ---

@pytest.mark.parametrize("name,errno", [
    ("keyctl", "EPERM"), ("add-key", "EPERM"), ("request-key", "EPERM"),
    ("userfaultfd", "EPERM"), ("perf", "EPERM"), ("io-uring", "ENOSYS"),
    ("personality", "ENOSYS")])
def test_I10_kernel_interface(lifted, name, errno):
    if name == "io-uring" and lifted("seccomp")(name) in ("ENOSYS", "EPERM"):
        pytest.skip("this kernel has no io_uring, so there is no control")
    # Debian's kernel leaves perf to root alone; there the control is root.
    refused_by_filter(lifted, name, errno, *["caps", "userns"] * (name == "perf"))


@pytest.mark.parametrize("name", ["bpf", "open-by-handle", "kexec"])
def test_I10_root_only_interface(lifted, name):
    assert lifted()(name) == "EPERM"
    if lifted("seccomp", "caps", "userns")(name) == "ENOSYS":
        pytest.skip(f"this kernel has no {name}, so there is no control")
    assert lifted("seccomp")(name) == "EPERM"
    assert lifted("seccomp", "caps", "userns")(name) == "ok"


@pytest.mark.parametrize("name", ["i386", "x32"])
def test_I10_foreign_abi(lifted, name):
    assert lifted()(name) == "ENOSYS"
    if lifted("seccomp")(name) != "ok":
        pytest.skip("this kernel has no such ABI, so there is no control")


def test_I10_tiocsti_CVE_2017_5226(lifted):
    with open("/proc/sys/dev/tty/legacy_tiocsti") if os.path.exists(
            "/proc/sys/dev/tty/legacy_tiocsti") else open("/dev/null") as f:
        legacy = f.read().strip() != "0"
    assert lifted()("tiocsti") == "EPERM"
    assert lifted()("tiocsti-high") == "EPERM"
    if legacy:
        assert lifted("seccomp")("tiocsti") == "ok"
        assert lifted("seccomp")("tiocsti-high") == "ok"


def test_I10_tioclinux(lifted):
    refused_by_filter(lifted, "tioclinux", "EPERM")


@pytest.mark.parametrize("name", ["tiocsetd", "tiocsetd-high"])
def test_I10_line_discipline(lifted, name):
    """Each is a module of the host, loaded for whoever has a terminal."""
    refused_by_filter(lifted, name, "EPERM")
    assert lifted()("tiocgetd") == "ok"


# --- sockets ---

@pytest.mark.parametrize("name,errno", [("packet", "EAFNOSUPPORT"), ("alg", "EAFNOSUPPORT"),
                                        ("netlink-nft", "EPROTONOSUPPORT"),
                                        ("family-high", "ENOSYS")])
def test_I10_socket_family(lifted, name, errno):
    assert lifted()(name) == errno
    if lifted("seccomp", "caps", "userns")(name) in ("EAFNOSUPPORT", "EPROTONOSUPPORT"):
        pytest.skip("this kernel has no such sockets, so there is no control")
    assert lifted("seccomp", "caps", "userns")(name) == "ok"


def test_I10_raw_socket(lifted):
    """The capability is missing, and what there is belongs to no namespace with links in it."""
    assert lifted()("raw") == "EPERM"
    assert lifted("caps")("raw") == "EPERM"
    assert lifted("caps", "userns")("raw") == "ok"


@pytest.mark.parametrize("name", ["pair-inet", "pair-high"])
def test_I10_pairs_of_other_families(lifted, name):
    """The kernel makes two sockets, and loads their module, before it says that there are no pairs
    of them."""
    assert lifted()(name) == "EAFNOSUPPORT"
    assert lifted("seccomp")(name) == "EOPNOTSUPP"


def test_I10_useful_sockets_work(lifted):
    assert lifted()("pair-unix") == "ok"
    assert lifted()("netlink-route") == "ok"
    assert lifted()("sctp") == "EPROTONOSUPPORT"


# --- /proc and /sys ---

@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/panic_on_oom",
                                  "/proc/sys/kernel/modprobe", "/proc/sys/fs/file-max"])
def test_I10_host_sysctl(lifted, path):
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    assert lifted()("rewrite", path) in ("EROFS", "EACCES")
    assert lifted("userns")("rewrite", path) == "EROFS"
    assert lifted("masks")("rewrite", path) in ("EACCES", "EPERM")
    assert lifted("userns", "masks")("rewrite", path) == "ok"


@pytest.mark.parametrize("path", ["/proc/sysrq-trigger", "/proc/kmsg", "/proc/keys",
                                  "/proc/timer_list", "/proc/kallsyms"])
def test_I10_masked_file(lifted, path):
    """CVE-2025-31133: the cover is the real null device, not what the image calls so."""
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    assert lifted().sh(f"stat -c %t:%T {path}") == ("1:3\n", 0)
    assert lifted("masks").sh(f"stat -c %F {path}")[0].startswith("regular")


@pytest.mark.parametrize("path", ["/sys/firmware", "/sys/kernel/debug", "/proc/acpi"])
def test_I10_masked_directory(lifted, path):
    if not os.path.isdir(path):
        pytest.skip(f"this kernel has no {path}")
    assert lifted().sh(f"stat -f -c %T {path}") == ("tmpfs\n", 0)
    assert lifted("masks").sh(f"stat -f -c %T {path}")[0] != "tmpfs\n"


def test_I10_sysfs_read_only_and_own_links(lifted):
    assert lifted().sh("ls /sys/class/net") == ("lo\n", 0)
    assert lifted()("open-write", "/sys/kernel/mm/transparent_hugepage/enabled") in (
        "EROFS", "EACCES", "ENOENT")
    assert "sysfs ro," in lifted().sh("grep ' /sys ' /proc/mounts")[0]
    assert "sysfs rw," in lifted("masks").sh("grep ' /sys ' /proc/mounts")[0]


def test_I10_release_agent(lifted):
    """No control group file system is in sight and none can be mounted (test_I10_mount)."""
    assert lifted().sh("grep -cE \" cgroup2? \" /proc/mounts") == ("0\n", 1)
    assert lifted().sh("ls -A /sys/fs/cgroup") == ("", 0)


def test_I10_oom_score_cannot_be_lowered(lifted):
    assert lifted()("oom-score") == "EACCES"
    assert lifted().sh("cat /proc/1/oom_score_adj") == ("200\n", 0)


# --- capabilities and identities ---

def test_I10_capabilities(lifted):
    """CVE-2022-27650 among them: nothing inheritable, so no program gains by file capabilities."""
    lines = dict(line.split(":\t") for line in
                 lifted().sh("grep Cap /proc/self/status")[0].splitlines())
    assert lines["CapInh"] == lines["CapAmb"] == "0" * 16
    assert lines["CapBnd"] == lines["CapPrm"] == lines["CapEff"]
    bits = int(lines["CapBnd"], 16)
    for bit in (12, 13, 16, 17, 19, 21, 22, 25, 27, 39):  # NET_ADMIN … MKNOD, BPF
        assert not bits >> bit & 1
    assert lifted()("sethostname") == "EPERM"
    full = lifted("caps").sh("grep CapBnd /proc/self/status")[0].split()[1]
    assert int(full, 16) >> 21 & 1


def test_I10_ids_are_not_the_hosts(lifted):
    pid = lifted().pid
    assert os.stat(f"/proc/{pid}").st_uid >= 100 << 16
    assert os.stat(f"/proc/{lifted('userns').pid}").st_uid == 0


# --- devices ---

def test_I10_device_node_of_the_image():
    def change(root):
        os.mknod(f"{root}/bin/node", 0o020666, os.makedev(1, 8))

    for lift, expected in (((), "EACCES\n"), (("nodev",), "ok\n")):
        with Driver(lift=lift) as d:
            d.image("nodes:1", change)
            d.spawn(image="nodes:1")
            assert d.run("sb-1", "probe open /bin/node")[0] == expected


def test_I10_mknod(lifted):
    assert lifted()("mknod") == "EPERM"
    assert lifted("caps")("mknod") == "EPERM"
    assert lifted("caps", "userns")("mknod") == "EACCES"  # made, but the root is nodev
    assert lifted("caps", "userns", "nodev")("mknod") == "ok"


# --- the classes of runc's and crun's holes ---

def test_I10_agent_overwrite_CVE_2019_5736(lifted):
    """/proc/1/exe is a sealed memory file: no name, no writer, nothing of the host behind it."""
    out, _ = lifted().sh("probe seals")
    assert out.startswith("links=0 sealed=1") and not out.endswith("ok\n")
    out, _ = lifted("seals").sh("probe seals")
    assert out.startswith("links=1 sealed=0")


@pytest.mark.parametrize("lift,leaks", [((), False), (("fds",), True)])
def test_I10_leaked_descriptor_CVE_2024_21626(lift, leaks):
    """A directory of the host, open and inheritable in the host role when the box starts."""
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    d = Driver(lift=lift)
    try:
        d.start(extra_fds=(fd,))
        d.spawn()
        seen = [int(n) for n in d.run("sb-1", "ls /proc/1/fd")[0].split()]
        if leaks:
            assert fd in seen
            assert "work" in d.run("sb-1", f"ls /proc/1/fd/{fd}/")[0] or \
                set(os.listdir("/")) == set(d.run("sb-1", f"ls -A /proc/1/fd/{fd}/")[0].split())
        else:
            assert seen == [0, 1, 2, 3]
            assert d.run("sb-1", "readlink /proc/1/cwd; ls /proc/1/cwd")[0].startswith("/\nbin\n")
    finally:
        os.close(fd)
        d.__exit__()


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "run"])
def test_I10_mount_target_is_a_link_CVE_2026_47766(name):
    """crun's /dev, runc's CVE-2019-19921 /proc: an image that points a mount target elsewhere."""
    def change(root):
        if os.path.isdir(f"{root}/{name}"):
            os.rmdir(f"{root}/{name}")
        os.symlink("/tmp", f"{root}/{name}")

    with Driver() as d:
        d.image("links:1", change)
        with pytest.raises(Refused, match=f"/{name} of the image is not a directory"):
            d.spawn(image="links:1")
        assert d.leaks() == []
    with Driver(lift=("links",)) as d:
        d.image("links:1", change)
        d.spawn(image="links:1")


def test_I10_mount_target_is_a_file():
    def change(root):
        os.rmdir(f"{root}/proc")
        open(f"{root}/proc", "w").close()

    with Driver() as d:
        d.image("file:1", change)
        with pytest.raises(Refused, match="/proc of the image is not a directory"):
            d.spawn(image="file:1")


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "hostname"])
@pytest.mark.parametrize("target", ["/etc/victim", "../../../../../../etc/victim"])
def test_I10_file_we_write_is_a_link(name, target):
    """Writes are redirected neither inside the image nor out of it."""
    def change(root):
        with open(f"{root}/etc/victim", "w") as f:
            f.write("untouched")
        os.symlink(target, f"{root}/etc/{name}")

    with Driver() as d:
        d.image("etc:1", change)
        d.spawn(image="etc:1")
        assert d.run("sb-1", "cat /etc/victim")[0] == "untouched"
        assert d.run("sb-1", f"stat -c %F /etc/{name}") == ("regular file\n", 0)
    assert not os.path.exists("/etc/victim")
    with Driver(lift=("links",)) as d:
        d.image("etc:1", change)
        d.spawn(image="etc:1")
        assert d.run("sb-1", "cat /etc/victim")[0] != "untouched"
    assert not os.path.exists("/etc/victim")


def test_I10_etc_is_a_link_out():
    """/etc -> an absolute path: resolved inside the image, like everything after the pivot."""
    def change(root):
        os.rmdir(f"{root}/etc")
        os.symlink("/var/victim", f"{root}/etc")
        os.makedirs(f"{root}/var/victim")

    with Driver() as d:
        d.image("etc:1", change)
        d.spawn(image="etc:1")
        assert "169.254.77.1" in d.run("sb-1", "cat /var/victim/resolv.conf")[0]
    assert not os.path.exists("/var/victim")


def test_I10_null_device_of_the_image_CVE_2025_31133():
    def change(root):
        os.symlink("/proc/sys/kernel/core_pattern", f"{root}/dev/null")

    with Driver() as d:
        d.image("null:1", change)
        d.spawn(image="null:1")
        assert d.run("sb-1", "stat -c %t:%T /dev/null /proc/timer_list")[0] == "1:3\n1:3\n"


def test_I10_devices_are_nobody_elses():
    """A node is a file: who shares it can lock it, and be told when a neighbour opens it."""
    def nodes(driver, box):
        return driver.run(box, "stat -L -c '%n %d:%i %t:%T %a' /dev/null /dev/zero /dev/full "
                               "/dev/random /dev/urandom /dev/tty")[0].splitlines()

    with Driver() as d:
        d.spawn("sb-1", slot=1)
        d.spawn("sb-2", slot=2)
        one, two = nodes(d, "sb-1"), nodes(d, "sb-2")
        assert [line.split()[2:] for line in one] == [line.split()[2:] for line in two] == [
            [number, "666"] for number in ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0")]
        host = [os.stat(line.split()[0]) for line in one]
        where = [line.split()[1] for line in one + two] + [f"{st.st_dev}:{st.st_ino}" for st in host]
        assert len(set(where)) == len(where)
        assert d.run("sb-1", "echo x > /dev/null && head -c 4 /dev/urandom | wc -c")[0] == "4\n"


def test_I10_console_of_the_image_CVE_2025_52565():
    def change(root):
        os.symlink("/proc/sysrq-trigger", f"{root}/dev/console")

    with Driver() as d:
        d.image("console:1", change)
        d.spawn(image="console:1")
        assert d.run("sb-1", "ls /dev/console")[1] != 0


def test_I10_core_pattern_pipe(lifted):
    """A crash must not start the host's core handler: the limit is one byte and stays so."""
    assert lifted().sh("probe core-limit") == ("core=1 ok\n", 0)
    assert lifted("seccomp").sh("probe core-limit") == ("core=0 ok\n", 0)


# --- bombs ---

def bomb(probe, arg, **limits):
    with Driver() as d:
        d.spawn(**limits)
        out, status = d.run("sb-1", f"probe {probe} {arg}")
        alive = d.run("sb-1", "echo still here")[0] == "still here\n"
        n = int(out.split("=")[1].split()[0]) if "=" in out else None
        return n, out.split()[-1] if out.split() else "", status, alive


def test_I10_fork_bomb():
    n, end, _, alive = bomb("forks", 300, pids=64)
    assert n < 64 and end == "EAGAIN" and alive
    n, end, _, alive = bomb("forks", 300, pids=400)
    assert n == 300 and end == "ok" and alive


def test_I10_memory_bomb():
    _, _, status, alive = bomb("memory", 200, mem=64)
    assert status == 137 and alive
    _, end, status, alive = bomb("memory", 200, mem=300)
    assert (end, status, alive) == ("ok", 0, True)


def test_I10_memory_bomb_in_tmpfs():
    """What is written to /dev/shm and /run is the sandbox's memory."""
    with Driver() as d:
        d.spawn(mem=64)
        _, status = d.run("sb-1", "dd if=/dev/zero of=/dev/shm/x bs=1M count=200; "
                                  "dd if=/dev/zero of=/run/x bs=1M count=200")
        assert status != 0
    with Driver() as d:
        d.spawn(mem=400)
        assert d.run("sb-1", "dd if=/dev/zero of=/dev/shm/x bs=1M count=200")[1] == 0


def test_I10_disk_bomb():
    n, end, _, alive = bomb("disk", 200, disk=64)
    assert n <= 64 and end in ("ENOSPC", "EDQUOT") and alive
    n, end, _, alive = bomb("disk", 200, disk=512)
    assert n == 200 and end == "ok" and alive


def test_I10_inode_bomb():
    n, end, _, alive = bomb("inodes", 30000, disk=64)
    assert n <= 64 * 64 + 1024 and end in ("ENOSPC", "EDQUOT") and alive
    n, end, _, alive = bomb("inodes", 30000, disk=1024)
    assert n == 30000 and end == "ok" and alive


def test_I10_inode_bomb_in_tmpfs():
    with Driver() as d:
        d.spawn(mem=256)
        out, _ = d.run("sb-1", "i=0; while touch /dev/f$i 2>/dev/null; do i=$((i+1)); "
                               "[ $i -ge 3000 ] && break; done; echo $i")
        assert int(out) < 1024


def test_I10_what_the_kernel_counts_per_user(lifted):
    """inotify, queued signals and message queues have limits per user: the sandbox is one of its own."""
    def made(*lift):
        out, _ = lifted(*lift).sh("probe inotify")
        return int(out.split("inotify=")[1].split()[0])

    with open("/proc/sys/user/max_inotify_instances") as f:
        limit = int(f.read())
    if limit > 512:
        pytest.skip(f"user.max_inotify_instances is {limit}: more than a process has descriptors")
    libc = ctypes.CDLL(None, use_errno=True)
    held = [libc.inotify_init1(os.O_CLOEXEC) for _ in range(20)]
    try:
        assert min(held) >= 0
        assert made() == limit
        assert made("owner") <= limit - len(held)
    finally:
        for fd in held:
            os.close(fd)
