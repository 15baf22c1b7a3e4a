"""Another build takes over from the one before (L7), and a host that lacks something (L10)."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from kit import daemon as kit
from kit.api import Api

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from test_restart import (ALLOWED, DENIED, Talk, first_process, hammer, lifted,  # noqa: E402
                          nothing_left, until)

BPFFS = "/sys/fs/bpf"


LATER = ("weird", "weir-api", "weir-edge")  # tests/later


def later_build(where):
    """A directory like the build's, with the programs of the build to come in it."""
    build = kit.build_dir()
    for name in (*(f"cmd/{name}" for name in LATER), "cmd/weir", "agent/weir-agent"):
        to = f"{where}/src/{name}"
        os.makedirs(os.path.dirname(to), exist_ok=True)
        base = os.path.basename(name)
        shutil.copy2(f"{build}/tests/later/{base}" if base in LATER else f"{build}/src/{name}", to)
    for directory, _, _ in os.walk(where):
        os.chmod(directory, 0o755)
    return where


def test_the_later_build_is_one():
    """Whoever knows a version is compiled for it: another file would mix two builds in one program."""
    knows = set(subprocess.run(["grep", "-lwrE", "WEIR_(MAPS|LIVES)_VERSION|IPC_VERSION", "src",
                                "--include=*.c"], stdout=subprocess.PIPE, text=True, check=True,
                               cwd=kit.ROOT).stdout.split())
    with open(os.path.join(kit.ROOT, "tests/later/meson.build")) as f:
        listed = {"src/" + name for name in re.findall(r"src/((?!cmd/)\w+/\w+\.c)'", f.read())}
    assert knows == listed


def from_build(daemon, monkeypatch, where):
    monkeypatch.setenv("WEIR_BUILD", where)  # an absolute path stands for itself
    daemon.start()
    daemon.api.__init__(daemon.url, daemon.key)


def log_of(daemon):
    with open(daemon.log_path, errors="replace") as f:
        return f.read()


def programs_on_links(daemon):
    """{link: {"ingress": id, "egress": id}} of the classifiers in the router namespace."""
    inside = ["nsenter", f"--net={daemon.run_dir}/router.ns"]
    found = {}
    links = subprocess.run([*inside, "ip", "-o", "link"], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True).stdout
    for name in (line.split()[1].rstrip(":").split("@")[0] for line in links.splitlines()):
        if not (name[0] == "w" and name[1:].isdigit()):
            continue
        for hook in ("ingress", "egress"):
            shown = subprocess.run([*inside, "tc", "-j", "filter", "show", "dev", name, hook],
                                   stdout=subprocess.PIPE, text=True).stdout
            ids = [f["options"]["prog"]["id"] for f in json.loads(shown or "[]")
                   if "options" in f and "prog" in f["options"]]
            found.setdefault(name, {})[hook] = ids
    return found


def pinned_programs(daemon):
    ids = {}
    for hook, name in (("ingress", "weir_from_sandbox"), ("egress", "weir_to_sandbox")):
        shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned",
                                f"{BPFFS}/{daemon.name}/{name}"], stdout=subprocess.PIPE, check=True)
        ids[hook] = [json.loads(shown.stdout)["id"]]
    return ids


@pytest.fixture
def upgraded(other_daemon, lab, monkeypatch):
    """A daemon with a sandbox that talks to whom it may and hammers at whom it may not."""
    daemon = other_daemon()
    box = daemon.api.create(egress=["allowed.test", "198.51.100.7"])
    named, literal = Talk(box, "allowed.test"), Talk(box, "198.51.100.7")
    hammer(box)
    yield daemon, box, named, literal
    monkeypatch.undo()


def layouts(daemon):
    """What the pins say of themselves: the version of all, and that of sandboxes' lives."""
    words = subprocess.run(["bpftool", "-j", "map", "lookup", "pinned",
                            f"{BPFFS}/{daemon.name}/weir_version", "key", "0", "0", "0", "0"],
                           stdout=subprocess.PIPE, check=True, text=True).stdout
    value = [int(x, 16) for x in json.loads(words)["value"]]
    return [int.from_bytes(value[i:i + 4], "little") for i in (0, 4)]


def layouts_write(daemon, maps, lives):
    value = [*maps.to_bytes(4, "little"), *lives.to_bytes(4, "little")]
    subprocess.run(["bpftool", "map", "update", "pinned", f"{BPFFS}/{daemon.name}/weir_version",
                    "key", "0", "0", "0", "0", "value", *map(str, value)], check=True)


def test_L7_a_later_build_takes_over(upgraded, lab, tmp_path, monkeypatch):
    """Forth, and back again: layouts of maps and messages differ, sandboxes, flows and what names
    had opened stay, nothing opens, and links run the program of the new build."""
    daemon, box, named, literal = upgraded
    for kind in ("A", "AAAA"):
        assert box.dns("allowed.test", kind)["addresses"]
    since = lab.now()
    here, later = kit.build_dir(), later_build(str(tmp_path))
    first, (maps, lives) = first_process(box), layouts(daemon)
    for where, now_maps in ((later, maps + 1), (here, maps)):
        before, ours = programs_on_links(daemon), log_of(daemon).count("datapath.lives")
        daemon.terminate()
        named.goes_on()  # with no daemon at all
        from_build(daemon, monkeypatch, where)
        assert layouts(daemon) == [now_maps, lives]
        assert log_of(daemon).count("datapath.lives") == ours + 1
        for talk in (named, literal):
            talk.goes_on()
        now = programs_on_links(daemon)
        want = pinned_programs(daemon)
        shared = set(before) & set(now)
        assert shared and all(now[link] == want != before[link] for link in shared), (before, now)
        assert first_process(box.wait("running")) == first
        # By addresses that were learned before: nobody asks for names anew.
        until(lambda: box.tcp(ALLOWED[4], 443) == "allow", "a pin was lost")
        assert box.tcp(ALLOWED[6], 443) == "allow" and box.tcp(DENIED[4], 443) == "refused"
        assert lab.queries(since, name="allowed.test") == []
        box.set_egress(["allowed.test", "198.51.100.7", f"{now_maps}.wild.test"])
        for talk in (named, literal):
            talk.goes_on()
        assert box.dns("denied.test")["rcode"] == 3
    assert "datapath.stale" not in log_of(daemon)
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


def unknown_version(daemon):
    """Both layouts are of a build that we know nothing of."""
    layouts_write(daemon, 99, 99)


def older_version(daemon):
    """Another layout of sandboxes' lives, under maps that call themselves ours."""
    layouts_write(daemon, layouts(daemon)[0], 0)


def before_versions(daemon):
    """As builds left it that had no weir_version."""
    os.unlink(f"{BPFFS}/{daemon.name}/weir_version")


def other_shape(daemon):
    """A map of ours is somebody else's: it would say that everything is allowed."""
    path = f"{BPFFS}/{daemon.name}/weir_prefixes"
    os.unlink(path)
    subprocess.run(["bpftool", "map", "create", path, "type", "hash", "key", "4", "value", "4",
                    "entries", "8", "name", "weir_prefixes"], check=True)


def other_lives(daemon):
    """A later build's, whose flows are none of ours."""
    layouts_write(daemon, layouts(daemon)[0] + 1, layouts(daemon)[1])
    path = f"{BPFFS}/{daemon.name}/weir_flows"
    os.unlink(path)
    subprocess.run(["bpftool", "map", "create", path, "type", "hash", "key", "4", "value", "4",
                    "entries", "8", "name", "weir_flows"], check=True)


def a_hole(daemon):
    """A half-finished removal by hand."""
    os.unlink(f"{BPFFS}/{daemon.name}/weir_pins")


def test_L7_what_another_version_left(upgraded, lab):
    """Not obeyed, not even for a moment: the links get the new program, which knows nobody, and
    each sandbox is quarantined until its stored policy is in force again. Connections do not
    outlive it: the price of a layout that is not ours."""
    daemon, box, _, literal = upgraded
    since = lab.now()
    for stale in (unknown_version, older_version, before_versions, other_shape, other_lives, a_hole):
        before, said = programs_on_links(daemon), log_of(daemon).count("datapath.stale")
        daemon.terminate()
        stale(daemon)
        literal.goes_on()  # the program from before goes by what it has
        daemon.start()
        daemon.api.__init__(daemon.url, daemon.key)
        assert log_of(daemon).count("datapath.stale") == said + 1, stale
        # Its state went with the maps: a segment in the middle of nothing is refused, whatever the
        # policy says. A new connection is judged by what is stored, once that is in force.
        literal.ended()
        literal = Talk(box, "198.51.100.7")
        now = programs_on_links(daemon)
        want = pinned_programs(daemon)
        shared = set(before) & set(now)
        assert shared and all(now[link] == want != before[link] for link in shared), (stale, now)
        until(lambda: box.dns("allowed.test", timeout=0.5).get("rcode") == 0, "no names")
        assert box.tcp(ALLOWED[4], 443) == "allow"
        assert box.dns("denied.test")["rcode"] == 3
    assert "datapath.lives" not in log_of(daemon)
    assert nothing_left(lab, since)
    lifted(box, lab, ["allowed.test"])


# --- L10 ---

def lacking(*rules):
    return [sys.executable, os.path.join(kit.ROOT, "tests/kit/without.py"), *rules, "--"]


def mounts(change):
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{change}; exec "$@"', "sh"]


LACKS = {
    "root": (["setpriv", "--reuid=65534", "--clear-groups", "--"], "runs as root"),
    "files": (["prlimit", "--nofile=64:64", "setpriv", "--bounding-set=-sys_resource", "--"],
              "limit of open files"),
    "namespaces": (lacking("unshare:ENOSYS"), "cannot make a network namespace"),
    "CAP_SYS_ADMIN": (["setpriv", "--bounding-set=-sys_admin", "--"],
                      "CAP_SYS_ADMIN"),
    "CAP_NET_ADMIN": (["setpriv", "--bounding-set=-net_admin", "--"], "CAP_NET_ADMIN"),
    "sysctls": (mounts("mount --bind -o ro /proc/sys /proc/sys"), "/proc/sys must be writable"),
    "transparent sockets": (lacking("setsockopt,1=0,2=19:ENOPROTOOPT"), "transparent sockets"),
    "nf_tables": (lacking("socket,0=16,2=12:EPROTONOSUPPORT"), "nf_tables"),
    "bpf": (lacking("bpf:ENOSYS"), "BPF"),
    "CAP_BPF": (lacking("bpf:EPERM"), "BPF"),
    "bpf file system": (mounts("mount -t tmpfs none /sys/fs/bpf") + lacking("mount:ENODEV"),
                        "BPF file system"),
    "cgroups": (mounts("umount -l -a -t cgroup2,cgroup"), "memory controller"),
    "overlayfs": (lacking("fsopen:ENOSYS"), "overlayfs"),
    "id-mapped mounts": (lacking("mount_setattr:ENOSYS"), "id-mapped mounts"),
    "openat2": (lacking("openat2:ENOSYS"), "openat2"),
    "memory files": (lacking("memfd_create:ENOSYS"), "memory file"),
    "seccomp": (lacking("seccomp:ENOSYS"), "seccomp filters"),
    **{call: (lacking(f"{call}:ENOSYS"), call) for call in (
        "clone3", "close_range", "move_mount", "open_tree", "pidfd_open", "pidfd_send_signal",
        "pivot_root", "setns")},
}


def test_L10_a_host_that_lacks_something(upgraded, lab):
    """Each thing is taken away for real, beside a sandbox that lives: weird does not start and says
    what is missing, and what the sandbox may is as before. Then, on the same host with all in its
    place, it starts: the control."""
    daemon, box, named, literal = upgraded
    daemon.terminate()
    since = lab.now()
    wrong = []
    for name, (before, sentence) in LACKS.items():
        try:
            done = subprocess.run([*before, *daemon.argv()], stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.STDOUT, env=daemon.environment(), timeout=120)
            if done.returncode == 0 or sentence not in done.stdout:
                wrong.append((name, done.returncode, done.stdout[-500:]))
        except subprocess.TimeoutExpired as e:
            wrong.append((name, "it started", (e.stdout or b"")[-500:]))
        if not os.path.exists(f"{BPFFS}/{daemon.name}/weir_pins"):
            wrong.append((name, "took the pins away"))
    for talk in (named, literal):
        talk.goes_on()
    assert wrong == []
    assert nothing_left(lab, since)
    daemon.start()
    daemon.api.__init__(daemon.url, daemon.key)
    for talk in (named, literal):
        talk.goes_on()
    assert box.wait("running").dns("denied.test")["rcode"] == 3
    lifted(box, lab, ["allowed.test"])
