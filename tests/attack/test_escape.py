"""I10, continued: the classes of holes that other runtimes had, played against ours. Each attempt
stands beside the same act where the defence is lifted, or done from the host's side, so that it is
known to be armed."""

import ctypes
import os
import stat
import sys
import threading

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../unit/runtime"))

from driver import Driver, Refused, why_not  # noqa: E402

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def image_root(driver, name="bb:1"):
    names = os.path.join(driver.state, "images/names")
    return os.path.join(os.path.realpath(os.path.join(names, name)), "rootfs")


def test_I10_nf_tables_from_a_nested_namespace_CVE_2022_1015():
    with Driver() as d:
        d.spawn()
        assert d.run("sb-1", "probe nft-nested") == ("EPERM\n", 1)
    with Driver(lift=("seccomp",)) as d:
        d.spawn()
        out, _ = d.run("sb-1", "probe nft-nested")
        if out != "ok\n":
            pytest.skip(f"this kernel gives nobody a nested namespace with nf_tables: {out.strip()}")


def test_I10_shared_image_is_not_the_guests_CVE_2020_2025():
    """Everything that can be done to a file of the image, from inside, as its root."""
    acts = ("echo hacked > /etc/shared", "echo hacked >> /etc/shared", "rm -f /etc/shared",
            "mv /etc/shared /etc/moved", "chmod 777 /etc/shared", "ln -f /etc/shared /etc/other",
            "cp /bin/true /bin/busybox.new; mv /bin/busybox.new /etc/shared")

    def change(root):
        with open(f"{root}/etc/shared", "w") as f:
            f.write("from the image\n")

    with Driver() as d:
        d.image("shared:1", change)
        path = os.path.join(image_root(d, "shared:1"), "etc/shared")
        before = os.stat(path)
        for i, act in enumerate(acts, 1):
            box = f"sb-{i}"
            d.spawn(box, image="shared:1", slot=i)
            assert d.run(box, act)[1] == 0, act
            now = os.stat(path)
            assert (now.st_ino, now.st_mode, now.st_nlink, now.st_mtime_ns, now.st_ctime_ns) == \
                (before.st_ino, before.st_mode, before.st_nlink, before.st_mtime_ns,
                 before.st_ctime_ns), act
        d.spawn("sb-20", image="shared:1", slot=20)
        assert d.run("sb-20", "cat /etc/shared")[0] == "from the image\n"
        # The control: written from the host's side, where the image is writable, all see it.
        with open(path, "w") as f:
            f.write("from the host\n")
        d.spawn("sb-21", image="shared:1", slot=21)
        assert d.run("sb-21", "cat /etc/shared")[0] == "from the host\n"


@pytest.mark.parametrize("name", ["dev", "proc"])
def test_I10_mount_target_swapped_in_a_race_CVE_2021_30465(name):
    """The mount target flips between a directory and a link while boxes start."""
    def change(root):
        if not os.path.isdir(f"{root}/{name}"):
            os.mkdir(f"{root}/{name}")
        os.symlink("/tmp", f"{root}/trap")

    def flip(root, stop):
        one, other = f"{root}/{name}".encode(), f"{root}/trap".encode()
        while not stop.is_set():
            assert libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0

    def spawns(d, times):
        """How often a box started, and how often it was refused."""
        root, stop, started, refused = image_root(d, "race:1"), threading.Event(), 0, 0
        thread = threading.Thread(target=flip, args=(root, stop))
        thread.start()
        try:
            for i in range(1, times + 1):
                try:
                    d.spawn(f"sb-{i}", image="race:1", slot=i)
                except Refused:
                    refused += 1
                    continue
                started += 1
                yield f"sb-{i}"
                d.end(f"sb-{i}")
        finally:
            stop.set()
            thread.join()
        assert started + refused == times

    with open("/proc/self/mounts") as f:
        before = f.read().splitlines()
    with Driver() as d:
        d.image("race:1", change)
        for box in spawns(d, 12):
            inside = [line.split()[1] for line in d.run(box, "cat /proc/mounts")[0].splitlines()]
            assert f"/{name}" in inside or not inside
            assert "/tmp" not in inside
        assert d.leaks() == []
        with open("/proc/self/mounts") as f:
            assert [line for line in f.read().splitlines()
                    if line not in before and d.state in line] == []
    # The control: without the check the mount goes where the link points.
    with Driver(lift=("links",)) as d:
        d.image("race:1", lambda root: (change(root), os.rename(f"{root}/{name}", f"{root}/x"),
                                        os.rename(f"{root}/trap", f"{root}/{name}")))
        try:
            d.spawn(image="race:1")
            assert "/tmp" in [line.split()[1] for line in
                              d.run("sb-1", "cat /proc/mounts /tmp/mounts")[0].splitlines()]
        except Refused as e:
            assert name == "proc", e  # it finds nothing below /proc any more, and gives up


def test_I10_writes_below_proc_are_not_redirected_CVE_2025_52881():
    """The image brings a /proc of its own, whose files lead elsewhere: what the runtime writes to a
    process's files there must not land in the trap."""
    traps = ("self/oom_score_adj", "self/uid_map", "self/setgroups", "self/attr/exec",
             "1/oom_score_adj", "sys/kernel/hostname")

    def change(root):
        os.makedirs(f"{root}/proc/self/attr")
        os.makedirs(f"{root}/proc/1")
        os.makedirs(f"{root}/proc/sys/kernel")
        with open(f"{root}/etc/victim", "w") as f:
            f.write("untouched")
        for trap in traps:
            os.symlink("/etc/victim", f"{root}/proc/{trap}")

    with Driver() as d:
        d.image("traps:1", change)
        d.spawn(image="traps:1")
        assert d.run("sb-1", "cat /etc/victim")[0] == "untouched"
        assert d.run("sb-1", "cat /proc/1/oom_score_adj") == ("200\n", 0), "it was written for real"
        assert d.run("sb-1", "stat -f -c %T /proc")[0] == "proc\n"
        root = image_root(d, "traps:1")
        assert open(f"{root}/etc/victim").read() == "untouched"
        # The control: the same write by somebody who believes the path, in the image's root.
        pid = os.fork()
        if pid == 0:
            os.chroot(root)
            with open("/proc/self/oom_score_adj", "w") as f:
                f.write("200")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert open(f"{root}/etc/victim").read() == "200"


def test_I10_host_copy_of_the_agent_CVE_2019_5736():
    """The program that is pid 1 inside is a file of the host: written through every handle there is
    from inside, it stays as it was."""
    with Driver() as d:
        with open(d.agent, "rb") as f:
            before = f.read()
        d.spawn()
        script = ("for f in /proc/1/exe /proc/self/exe /proc/1/map_files/*; do "
                  "echo hacked > $f; done 2>/dev/null; "
                  "ln /proc/1/exe /tmp/x 2>/dev/null && echo hacked > /tmp/x; "
                  "ls -l /proc/1/exe")
        assert "memfd" in d.run("sb-1", script)[0]
        with open(d.agent, "rb") as f:
            assert f.read() == before
        d.spawn("sb-2", slot=2)
        assert d.run("sb-2", "echo well")[0] == "well\n"
        # The control: from the host's side it is a file like any other.
        assert os.access(d.agent, os.W_OK) and stat.S_ISREG(os.stat(d.agent).st_mode)
    with Driver(lift=("seals",)) as d:
        d.spawn()
        assert "memfd" not in d.run("sb-1", "ls -l /proc/1/exe")[0]
