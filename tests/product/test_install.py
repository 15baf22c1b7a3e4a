"""What `meson install` puts where, and that the daemon works from there.

The tree is installed below a temporary directory, which is then mounted over the prefix in a mount
namespace of its own: programs find each other by their real paths, and the machine is left alone.
"""

import json
import os
import re
import shutil
import stat
import subprocess

import pytest

from kit.daemon import Daemon, ROOT, build_dir

CONFIG = "share/doc/weir/weird.conf.example"
UNIT = "lib/systemd/system/weird.service"
PROGRAMS = {"bin/weir", "sbin/weird", "libexec/weir/weir-api", "libexec/weir/weir-edge",
            "libexec/weir/weir-agent", "libexec/weir/weir-build", "libexec/weir/images/debian_12",
            "libexec/weir/images/devbox_1", "libexec/weir/images/fetch", "libexec/weir/weir-rootfs",
            "libexec/weir/weir-guest"}
SCRIPTS = {"libexec/weir/images/debian_12", "libexec/weir/images/devbox_1",
           "libexec/weir/images/fetch", "libexec/weir/weir-guest"}
TEXTS = {"share/man/man1/weir.1", "share/man/man5/weird.conf.5", "share/man/man8/weird.8",
         "share/man/man8/weir-build.8", CONFIG, UNIT,
         "share/doc/weir/README.md", "share/doc/weir/NEWS", "share/doc/weir/LICENSE",
         "share/doc/weir/openapi.json", "share/doc/weir/openapi-opensandbox.json",
         "share/doc/weir/openapi-sandbox0.json", "share/doc/weir/opensandbox.md",
         "share/doc/weir/sandbox0.md", "share/doc/weir/networks.md", "share/doc/weir/ingress.md",
         "share/doc/weir/threat-model.md", "share/doc/weir/privilege.md",
         "share/doc/weir/vm-snapshots.md", "share/bash-completion/completions/weir",
         "share/zsh/site-functions/_weir"}


def run(*argv, code=0, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, **kw)
    assert code is None or done.returncode == code, (argv, done.returncode, done.stdout[-3000:])
    return done.stdout


class Tree:
    """An installation below dir, seen at prefix by whoever enters its mount namespace."""

    def __init__(self, dir, prefix):
        self.dir, self.prefix = dir, prefix
        self.root = os.path.join(dir, prefix.lstrip("/"))
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount --bind "$1" "$2" && echo mounted && exec cat', "sh", self.root, prefix],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "mounted\n"
        self.enter = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]

    def path(self, name):
        return os.path.join(self.root, name)

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def run(self, name, *argv, **kw):
        """A program of the installation, by its installed path."""
        return run(*self.enter, os.path.join(self.prefix, name), *argv, **kw)

    def close(self):
        self.holder.stdin.close()
        self.holder.wait(60)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    directory = str(tmp_path_factory.mktemp("dest"))
    os.chmod(directory, 0o755)
    options = json.loads(run("meson", "introspect", "--buildoptions", build_dir()))
    prefix = next(o["value"] for o in options if o["name"] == "prefix")
    if not os.path.isdir(prefix):
        pytest.skip(f"the build is made for {prefix}, which is not there to be mounted over")
    run("meson", "install", "-C", build_dir(), "--no-rebuild", "--destdir", directory)
    tree = Tree(directory, prefix)
    yield tree
    tree.close()


class InstalledDaemon(Daemon):
    def __init__(self, tree):
        super().__init__()
        self.tree = tree

    def argv(self, *more):
        return [*self.tree.enter, os.path.join(self.tree.prefix, "sbin/weird"),
                *super().argv(*more)[1:]]

    def environment(self):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def test_all_is_there_and_nothing_else(tree):
    found = set()
    for directory, _, files in os.walk(tree.root):
        found |= {os.path.relpath(os.path.join(directory, f), tree.root) for f in files}
    assert found == PROGRAMS | TEXTS
    assert sorted(os.listdir(tree.dir)) == [tree.prefix.lstrip("/").split("/")[0]]
    for name in found:
        mode = stat.S_IMODE(os.stat(tree.path(name)).st_mode)
        assert mode == (0o755 if name in PROGRAMS else 0o644), (name, oct(mode))


def test_programs_need_no_library_of_the_build(tree):
    for name in PROGRAMS - SCRIPTS:
        libraries = run("ldd", tree.path(name), code=None)
        assert "not found" not in libraries and ROOT not in libraries, libraries
        assert "RUNPATH" not in run("readelf", "-d", tree.path(name)), name


def test_the_example_is_the_defaults(tree):
    example = os.path.join(tree.prefix, CONFIG)
    assert tree.run("sbin/weird", "--config", example, "--check") == ""
    assert tree.run("sbin/weird", "--config", example, "--print-config") == \
        tree.run("sbin/weird", "--config", "/dev/null", "--print-config")


def test_weird_complains_about_configurations(tree, tmp_path):
    bad = tmp_path / "bad.conf"
    bad.write_text("pool.slots = 4\n\npool.slot = 5\napi.listen = everywhere\n")
    says = tree.run("sbin/weird", "--config", str(bad), "--check", code=1)
    assert f"{bad}:3: " in says and f"{bad}:4: api.listen" in says, "every complaint, with its line"
    # What only several keys together can violate, from the file and from --set alike.
    bad.write_text("net.overlay4 = 10.60.4.0/24\n")
    for argv in (["--config", str(bad)], ["--config", "/dev/null", "--set",
                                          "net.overlay4=10.60.4.0/24"]):
        assert "overlaps net.range4" in tree.run("sbin/weird", *argv, "--check", code=1)
    tree.run("sbin/weird", "--config", str(bad), "--set", "net.range4=10.61.0.0/16", "--check")
    # Keys whose default is another key's value.
    shown = tree.run("sbin/weird", "--config", "/dev/null", "--set", "daemon.name=two", "--set",
                     "daemon.state_dir=/srv/two", "--print-config")
    assert "daemon.image_dir = /srv/two/images\n" in shown and "cgroup.root = two\n" in shown
    assert "No such file" in tree.run("sbin/weird", "--config", "/no/such", "--check", code=1)
    assert "--help" in tree.run("sbin/weird", "--never", code=2)
    assert "unexpected" in tree.run("sbin/weird", "start", code=2)
    assert re.fullmatch(r"weird \d+\.\d+\.\d+\n", tree.run("sbin/weird", "--version"))


@pytest.mark.parametrize("page", sorted(t for t in TEXTS if "/man/" in t), ids=os.path.basename)
def test_manuals(tree, page):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    run("mandoc", "-T", "lint", "-W", "warning", tree.path(page))
    # Each file that a manual sends its reader to, and that installing makes, is there.
    for name in re.findall(rf"{tree.prefix}/[\w./-]+", tree.read(page)):
        assert os.path.exists(tree.path(os.path.relpath(name, tree.prefix))), name


def test_the_unit_fits_its_place(tree, tmp_path):
    unit = tree.read(UNIT)
    programs = re.findall(r"^ExecStart\w*=(\S+)", unit, re.M)
    assert programs and all(p == os.path.join(tree.prefix, "sbin/weird") for p in programs)
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    verify = [*tree.enter, "systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    says = run(*verify, os.path.join(tree.prefix, UNIT), code=None)
    assert "weird.service" not in says, says
    # The control: it would have said so.
    (tmp_path / "weird.service").write_text(unit.replace("sbin/weird", "sbin/weirdo"))
    assert "weird.service" in run(*verify, str(tmp_path / "weird.service"), code=None)


def test_paths_follow_another_prefix(tmp_path):
    build = str(tmp_path / "build")
    run("meson", "setup", build, ROOT, "--prefix", "/opt/weir")
    targets = ["scripts/weird.service", "scripts/weird.conf.5"]
    run("ninja", "-C", build, *targets)
    for target in targets:
        with open(os.path.join(build, target)) as f:
            text = f.read()
        assert "/opt/weir/" in text and "/usr/local" not in text
    plan = json.loads(run("meson", "introspect", "--install-plan", build))
    places = [f["destination"] for kind in plan.values() for f in kind.values()]
    assert places and not [p for p in places if p.startswith("/")], "all below the prefix"


def test_completions_load_from_where_they_lie(tree):
    done = run("bash", "--norc", "-uc", 'source "$1" && complete -p weir', "bash",
               tree.path("share/bash-completion/completions/weir"))
    assert "-F _weir weir" in done


def test_the_daemon_runs_from_there(tree, lab):
    """weird finds its roles and the agent in libexec, the command finds weird."""
    with InstalledDaemon(tree) as daemon:
        env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "WEIR_URL": daemon.url,
               "WEIR_API_KEY": daemon.key}
        said = tree.run("bin/weir", "run", "-q", "-e", "allowed.test:443", "--", "curl", "-sk", "-o",
                        "/dev/null", "-w", "%{http_code}", "https://allowed.test/", env=env)
        assert said == "200"
        for role in ("api", "edge"):
            exe = os.readlink(f"/proc/{daemon.role(role)}/exe")
            assert exe.endswith(f"/libexec/weir/weir-{role}"), exe
        doctor = tree.run("bin/weir", "doctor", env=env)
        assert f"{tree.prefix}/sbin/weird --probe" in doctor and not re.search("^bad", doctor, re.M)
    assert f"{tree.prefix}/libexec/weir/images" in tree.run("libexec/weir/weir-build", "--help",
                                                            code=None)
