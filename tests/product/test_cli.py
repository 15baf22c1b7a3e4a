"""The command line against the real daemon: what each command prints, its --json, its exit status.

How answers are read and words are put is tested against a played daemon (tests/unit/cmd); here every
command does what it says.
"""

import json
import os
import re
import signal
import subprocess
import tarfile
import time
import uuid

import pytest

from kit.api import listening

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
ID = re.compile(r"sb-[0-9a-z]{26}")


class Cli:
    """weir as somebody with an empty home runs it; the daemon and its key are in the environment."""

    def __init__(self, home):
        self.home = str(home)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.home, "LC_ALL": "C.UTF-8",
                    "WEIR_URL": os.environ["WEIR_URL"], "WEIR_API_KEY": os.environ["WEIR_API_KEY"]}

    def __call__(self, *args, code=0, env=None, binary=False, **kw):
        kw.setdefault("stdin", None if "input" in kw else subprocess.DEVNULL)
        if kw["stdin"] is None:
            del kw["stdin"]
        done = subprocess.run(["weir", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=not binary, env=self.with_env(env), timeout=300, **kw)
        assert code is None or done.returncode == code, \
            (args, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def with_env(self, env):
        merged = {**self.env, **(env or {})}
        return {k: v for k, v in merged.items() if v is not None}

    def start(self, *args, **kw):
        return subprocess.Popen(["weir", *args], env=self.env, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)

    def json(self, *args, code=0):
        return json.loads(self(*args, "--json", code=code).stdout)

    def lines(self, *args):
        """NDJSON."""
        return [json.loads(line) for line in self(*args).stdout.splitlines()]


@pytest.fixture
def weir(api, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def box(weir):
    """A sandbox made by the command line: its name."""
    name = "cli-" + uuid.uuid4().hex[:8]
    weir("create", "--name", name, "--egress", "allowed.test")
    yield name
    weir("rm", name, code=None)


def eventually(what, seconds=120):
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def table(text):
    """Rows of a printed table as dictionaries; columns begin where their heads do."""
    head, *rows = text.splitlines()
    starts = [m.start() for m in re.finditer(r"\S+(?: \S+)*", head)] + [None]
    names = [head[a:b].strip() for a, b in zip(starts, starts[1:])]
    return [{n: row[a:b].strip() for n, a, b in zip(names, starts, starts[1:])} for row in rows]


# --- making, listing, showing, ending ------------------------------------------------------------

def test_a_life(weir, api):
    made = weir("create", "--name", "cli-life", "--egress", "allowed.test:443", "-e", "10.9.0.0/16",
                "--env", "COLOUR=blue", "--env", "FROM_HERE", "--disk", "512", "--auto-pause", "600",
                "--shape", "s-1vcpu-512mb", "--rootfs", "devbox:1", env={"FROM_HERE": "there"})
    ident = made.stdout.strip()
    try:
        assert ID.fullmatch(ident) and made.stderr == "", "standard output is the id and nothing else"
        seen = weir.json("show", "cli-life")
        assert seen["id"] == ident and seen["egress"] == ["allowed.test:443", "10.9.0.0/16"]
        assert seen["disk_mib"] == 512 and seen["auto_pause_after_seconds"] == 600
        assert seen["mem_mib"] == 512 and seen["rootfs"] == "devbox:1"
        shown = weir("show", ident).stdout
        for text in ("cli-life", ident, "running", "10.9.0.0/16", "600 s", "runtime ", "FROM_HERE"):
            assert text in shown, shown
        assert "blue" not in shown and "there" not in shown, "values of variables are secrets"
        assert weir("exec", "cli-life", "--", "sh", "-c", "echo $COLOUR $FROM_HERE").stdout == \
            "blue there\n"

        row = next(r for r in table(weir("ls").stdout) if r["NAME"] == "cli-life")
        assert row["STATUS"] == "running" and row["ID"] == ident
        assert row["MAY REACH"] == "allowed.test:443 and 1 more"
        assert "cli-life" in weir("ls", "-q").stdout.split()
        assert ident in [b["id"] for b in weir.json("ls")]

        weir("pause", "cli-life")
        assert weir.json("show", "cli-life")["status"] == "paused"
        refused = weir("exec", "cli-life", "true", code=125)
        assert "paused" in refused.stderr and "weir resume" in refused.stderr
        weir("resume", "cli-life")
        assert weir.json("pause", "cli-life")["status"] == "paused"
        assert weir.json("resume", "cli-life")["status"] == "running"
    finally:
        weir("rm", "cli-life")
    assert "cli-life" not in weir("ls", "-q").stdout.split()
    assert ident in [b["id"] for b in weir.json("ls", "--all")]
    gone = weir("show", "no-such-box", code=5)
    assert "there is no sandbox" in gone.stderr and "weir ls" in gone.stderr


def test_create_without_words(weir):
    made = weir.json("create")
    try:
        assert made["status"] == "running" and made["name"] and not made["egress"]
        assert weir("egress", "get", made["id"]).stdout == "*\n"
    finally:
        assert weir.json("rm", made["name"])["id"] == made["id"]


def test_rm_of_several(weir):
    """Each is tried, names are free at once, and the first failure is the status."""
    weir("create", "--name", "cli-a")
    weir("create", "--name", "cli-b")
    weir("rm", "cli-a", "cli-none", "cli-b", code=5)
    assert not {"cli-a", "cli-b"} & set(weir("ls", "-q").stdout.split())
    weir("create", "--name", "cli-a")
    weir("rm", "--no-wait", "cli-a")
    eventually(lambda: "cli-a" not in weir("ls", "-q").stdout.split())


def test_one_tree_under_three_names(weir, box):
    for prefix in ([], ["sandbox"], ["sb"]):
        assert weir(*prefix, "exec", box, "--", "echo", "hi").stdout == "hi\n"
        assert box in weir(*prefix, "ls", "--quiet").stdout.split()
        assert box in weir(*prefix, "list", "--quiet").stdout.split()
        assert weir(*prefix, "egress", "get", box).stdout == "allowed.test\n"
        assert weir.json(*prefix, "get", box)["name"] == box
        assert weir(*prefix, "exec", "--help").stdout == weir("exec", "--help").stdout
        assert weir(*prefix, "--help").stdout == weir("--help").stdout


def test_every_command_has_help(weir):
    commands = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  ", weir("--help").stdout, re.M)
    assert len(commands) >= 22, commands
    for command in commands:
        text = weir(*command.split(), "--help", env={"WEIR_URL": "http://127.0.0.1:1"}).stdout
        assert text.startswith(f"weir {command}: ") and "--json" in text, text


# --- exec and run ----------------------------------------------------------------------------------

@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 7", 7), ("exit 255", 255),
                                          ("kill -TERM $$", 143), ("kill -9 $$", 137)])
def test_exec_hands_its_status_on(weir, box, script, code):
    weir("exec", box, "--", "sh", "-c", script, code=code)


def test_exec_of_what_is_not_there(weir, box):
    weir("exec", box, "no-such-program", code=127)
    weir("exec", box, "/etc/passwd", code=126)
    weir("exec", "no-such-box", "true", code=125)


def test_exec_keeps_streams_apart(weir, box):
    done = weir("exec", box, "--", "sh", "-c", "echo out; echo err >&2; printf '\\303\\274\\n'")
    assert (done.stdout, done.stderr) == ("out\n\u00fc\n", "err\n")
    # From the command on, nothing is ours to read, and no shell is in between.
    assert weir("exec", box, "echo", "--json", "-n", "a  b", "$HOME").stdout == "--json -n a  b $HOME\n"


def test_exec_reads_standard_input_when_asked(weir, box):
    text = "line\n" * 100000
    assert weir("exec", "-i", box, "--", "wc", "-c", input=text).stdout.split() == [str(len(text))]
    assert weir("exec", box, "--", "wc", "-c", input="unread").stdout == "0\n"
    done = weir("exec", "-i", box, "cat", input=b"\xff\xfe", binary=True, code=125)
    assert b"weir cp" in done.stderr


def test_exec_in_json(weir, box):
    frames = weir.lines("exec", "--json", box, "--", "sh", "-c", "echo one; echo two >&2")
    assert frames[-1] == {"exit_code": 0}
    assert "".join(f.get("stdout", "") for f in frames) == "one\n"
    assert "".join(f.get("stderr", "") for f in frames) == "two\n"


def test_exec_streams_and_ends_with_us(weir, box):
    """Output comes as it is made; leaving kills the command."""
    child = weir.start("exec", box, "--", "sh", "-c", "echo first; exec sleep 4711")
    assert child.stdout.readline() == "first\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(120) == 128 + signal.SIGTERM
    child.communicate()
    eventually(lambda: weir("exec", box, "pgrep", "-f", "^sleep 4711", code=None).returncode == 1)


def test_run_is_create_exec_rm(weir, lab):
    done = weir("run", "--egress", "allowed.test:443", "--name", "cli-run", "--", "sh", "-c",
                "curl -sk -o /dev/null -w '%{http_code}\\n' https://allowed.test/;"
                "curl -s -m 50 http://denied.test/; exit 9", code=9)
    assert done.stdout == "200\n"
    assert re.search(r"refused: dns denied\.test +no rule allows the name", done.stderr), done.stderr
    assert "cli-run" not in weir("ls", "-q").stdout.split()
    quiet = weir("run", "-q", "-e", "allowed.test", "curl", "-s", "http://denied.test/", code=6)
    assert quiet.stderr == ""
    kept = weir("run", "--keep", "--name", "cli-kept", "-i", "cat", input="through\n")
    assert kept.stdout == "through\n" and "kept as cli-kept" in kept.stderr
    weir("rm", "cli-kept")


def test_run_leaves_nothing_on_interrupt(weir):
    child = weir.start("run", "--name", "cli-int", "--", "sh", "-c", "echo up; exec sleep 600")
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(120) == 130
    child.communicate()
    assert "cli-int" not in weir("ls", "-q").stdout.split()


# --- files -------------------------------------------------------------------------------------------

def test_cp_a_big_file_both_ways(weir, box, tmp_path):
    size = 96 << 20
    big, back = tmp_path / "big.bin", tmp_path / "back.bin"
    with open(big, "wb") as f:
        for _ in range(size >> 20):
            f.write(os.urandom(1 << 20))
    weir("cp", str(big), f"{box}:/root/")
    inside = weir("exec", box, "sha256sum", "/root/big.bin").stdout.split()[0]
    here = subprocess.run(["sha256sum", big], stdout=subprocess.PIPE, text=True).stdout.split()[0]
    assert inside == here
    weir("cp", f"{box}:/root/big.bin", str(back))
    assert subprocess.run(["cmp", big, back]).returncode == 0
    assert not [p for p in os.listdir(tmp_path) if ".weir-" in p], "nothing half-done stays"


def test_cp_a_directory_both_ways(weir, box, tmp_path):
    tree = tmp_path / "tree"
    (tree / "a b" / "empty").mkdir(parents=True)
    (tree / "a b" / "f\u00fcr.txt").write_text("text\n")
    (tree / "script").write_text("#!/bin/sh\necho ran\n")
    (tree / "script").chmod(0o755)
    (tree / "link").symlink_to("script")
    for i in range(300):
        (tree / f"n{i}").write_bytes(bytes([i % 256]) * i)
    weir("cp", str(tree), f"{box}:/srv/tree")
    assert weir("exec", box, "/srv/tree/link").stdout == "ran\n"
    assert weir("exec", box, "cat", "/srv/tree/a b/f\u00fcr.txt").stdout == "text\n"
    weir("cp", f"{box}:/srv/tree", str(tmp_path / "new"))
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "new"]).returncode == 0
    assert os.path.isdir(tmp_path / "new" / "a b" / "empty")
    assert os.access(tmp_path / "new" / "script", os.X_OK)
    into = tmp_path / "into"
    into.mkdir()
    weir("cp", f"{box}:/srv/tree", str(into))
    assert sorted(os.listdir(into / "tree")) == sorted(os.listdir(tree))
    assert weir("exec", box, "sh", "-c", "ls -A /tmp").stdout == "", "no archive stays inside"


def test_cp_by_pipes_and_names(weir, box, tmp_path):
    weir("cp", "-", f"{box}:/root/in", input="piped\n")
    assert weir("cp", f"{box}:/root/in", "-").stdout == "piped\n"
    weir("cp", f"{box}:/root/in", str(tmp_path))
    assert (tmp_path / "in").read_text() == "piped\n"
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho tool\n")
    tool.chmod(0o755)
    weir("sb", "cp", str(tool), f"{box}:/usr/local/bin/tool")
    assert weir("exec", box, "tool").stdout == "tool\n"


def test_cp_says_what_is_wrong(weir, box, tmp_path):
    missing = weir("cp", f"{box}:/nowhere", str(tmp_path / "x"), code=5)
    assert "no such file" in missing.stderr.lower()
    assert not (tmp_path / "x").exists()
    assert "absolute" in weir("cp", f"{box}:relative", "x", code=2).stderr
    assert "neither" in weir("cp", "x", "y", code=2).stderr
    assert "both" in weir("cp", f"{box}:/x", f"{box}:/y", code=2).stderr
    assert "No such file" in weir("cp", str(tmp_path / "none"), f"{box}:/x", code=1).stderr


def test_an_archive_from_inside_stays_in_its_place(weir, box, tmp_path):
    """Links that a sandbox made do not lead a copy out of its target."""
    weir("exec", box, "--", "sh", "-c",
         f"mkdir /srv/evil; ln -s {tmp_path} /srv/evil/out; ln -s /etc/passwd /srv/evil/passwd")
    weir("cp", f"{box}:/srv/evil", str(tmp_path / "evil"))
    assert os.readlink(tmp_path / "evil" / "passwd") == "/etc/passwd", "a link stays a link"
    # And what tar itself is made to say: an archive that writes through a link of its own.
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as t:
        link = tarfile.TarInfo("dir")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        t.addfile(link)
        t.addfile(tarfile.TarInfo("dir/escaped"))
    (tmp_path / "un").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "un", "--no-same-owner", "-xf", path],
                   stderr=subprocess.DEVNULL)
    assert not (tmp_path / "escaped").exists(), "this machine's tar follows links in archives"


# --- the network ---------------------------------------------------------------------------------------

def test_egress_edits(weir, box, lab):
    def code():
        return weir("exec", box, "--", "curl", "-sk", "-m", "50", "-o", "/dev/null", "-w", "%{http_code}",
                    "https://denied.test/", code=None).stdout

    assert code() == "000"
    added = weir("egress", "add", box, "denied.test:443", "*.wild.test", "ALLOWED.test")
    assert added.stdout.split() == ["allowed.test", "denied.test:443", "*.wild.test"]
    assert code() == "200"
    assert weir("egress", "rm", box, "denied.test:443").stdout.split() == ["allowed.test", "*.wild.test"]
    assert code() == "000"
    assert "no rule" in weir("egress", "rm", box, "never.test", code=5).stderr
    assert weir("egress", "set", box, "203.0.113.0/24:443").stdout == "203.0.113.0/24:443\n"
    last = weir("egress", "rm", box, "203.0.113.0/24:443", code=1)
    assert "last rule" in last.stderr and "'*'" in last.stderr
    assert weir("egress", "get", box).stdout == "203.0.113.0/24:443\n"
    weir("egress", "set", box, "*")
    assert code() == "200"
    view = weir.json("egress", "set", box, "allowed.test")
    assert view["egress"] == ["allowed.test"]
    assert weir.json("egress", "get", box)["egress"] == ["allowed.test"]
    assert weir.json("egress", "add", box, "b.test")["egress"] == ["allowed.test", "b.test"]
    assert weir.json("egress", "rm", box, "b.test")["egress"] == ["allowed.test"]


def test_bad_rules_get_a_hint(weir, box):
    bad = weir("egress", "set", box, "http://x.test", code=1)
    assert "egress[0]" in bad.stderr and "rules look like" in bad.stderr
    floor = weir("egress", "add", box, "169.254.169.254", code=1)
    assert "cannot be opened" in floor.stderr
    assert weir("egress", "get", box).stdout == "allowed.test\n", "a refused change changes nothing"


@pytest.mark.parametrize("target, code, says", [
    ("allowed.test:443", 0, "allow"), ("denied.test:443", 6, "deny"),
    ("169.254.169.254:80", 6, "floor"), ("8.8.8.8:53", 6, "")])
def test_explain(weir, box, target, code, says):
    text = weir("egress", "explain", box, target, code=code).stdout
    assert text.startswith("allow" if code == 0 else "deny") and says in text
    data = weir.json("egress", "explain", box, target, code=code)
    assert data["verdict"] == ("allow" if code == 0 else "deny")


def test_explain_says_what_happens(weir, box, lab):
    """Its word, and then a real connection."""
    for target, port in (("allowed.test", 443), ("allowed.test", 80), ("denied.test", 443),
                         ("203.0.113.20", 443), ("192.0.2.2", 22)):
        said = weir("egress", "explain", box, f"{target}:{port}", code=None).returncode
        did = weir("exec", box, "--", "timeout", "50", "bash", "-c", f"exec 3<>/dev/tcp/{target}/{port}",
                   code=None).returncode
        assert (said == 0) == (did == 0), (target, port, said, did)


def test_denials(weir, box, lab):
    weir("exec", box, "--", "curl", "-s", "-m", "50", "http://203.0.113.20:8080/", code=None)
    weir("exec", box, "--", "getent", "hosts", "denied.test", code=None)

    def lines():
        text = weir("denials", box).stdout
        return text if "203.0.113.20:8080" in text and "denied.test" in text else None

    text = eventually(lines)
    assert re.search(r"^\d\d:\d\d:\d\d  tcp 203\.0\.113\.20:8080  \S", text, re.M), text
    assert re.search(r"^\d\d:\d\d:\d\d  dns denied\.test  no rule allows the name", text, re.M), text
    data = weir.json("denials", box)
    assert {d["reason"] for d in data["denials"]} >= {"name"}
    assert len(weir("denials", "--limit", "1", box).stdout.splitlines()) <= 2


def test_denials_follow(weir, box, lab):
    child = weir.start("denials", "--follow", box)
    try:
        for name in ("one.denied.test", "two.denied.test"):
            weir("exec", box, "--", "getent", "hosts", name, code=2)
            line = child.stdout.readline()
            while name not in line:
                assert line, child.stderr.read()
                line = child.stdout.readline()
    finally:
        child.send_signal(signal.SIGINT)
    assert child.wait(120) == 0, "Ctrl-C is how following ends"
    child.communicate()
    child = weir.start("denials", "-f", "--json", box)
    weir("exec", box, "--", "getent", "hosts", "three.denied.test", code=2)
    line = child.stdout.readline()
    while json.loads(line).get("name") != "three.denied.test":
        line = child.stdout.readline()
    child.send_signal(signal.SIGINT)
    child.communicate()


# --- the daemon ----------------------------------------------------------------------------------------

def test_lists_of_the_daemon(weir):
    shapes = table(weir("shapes").stdout)
    assert [s["SHAPE"] for s in shapes] == [s["id"] for s in weir.json("shapes")]
    images = table(weir("rootfs", "ls").stdout)
    assert next(i for i in images if i["NAME"] == "devbox:1")["DEFAULT"] == "yes"
    assert "devbox:1" in weir.json("rootfs", "ls")["rootfs"]
    assert weir("rootfs", "list").stdout == weir("rootfs", "ls").stdout


def test_versions(weir):
    text = weir("version").stdout
    assert re.search(r"^weir +\d+\.\d+\.\d+$", text, re.M) and "container" in text
    data = weir.json("version")
    assert data["client"] == data["daemon"]["version"]
    assert weir("--version").stdout == text
    assert "does not answer" in weir("--url", "http://127.0.0.1:1", "version").stdout


def test_a_key_from_making_to_revoking(weir):
    key = weir("key", "create", "cli-key").stdout.strip()
    listed = next(k for k in weir.json("key", "ls") if k["name"] == "cli-key")
    assert key not in weir("key", "ls").stdout, "a key is shown once"
    assert next(k for k in table(weir("key", "list").stdout) if k["NAME"] == "cli-key")["ID"] == \
        listed["id"]

    other = {"WEIR_API_KEY": key}
    ident = weir("create", env=other).stdout.strip()
    # Somebody else's sandboxes are not there; managing keys is for admins.
    assert weir("show", ident, env={"WEIR_API_KEY": None}, code=4)
    assert weir("ls", "-q", env=other).stdout.count("\n") == 1
    assert weir("exec", ident, "--", "echo", "mine", env=other).stdout == "mine\n"
    weir("show", ident, code=5)
    assert "may not" in weir("key", "ls", env=other, code=4).stderr
    assert "may not" in weir("key", "create", "x", env=other, code=4).stderr
    weir("rm", ident, env=other)

    weir("key", "rm", listed["id"])
    assert "does not know the API key" in weir("ls", env=other, code=4).stderr
    weir("key", "rm", listed["id"], code=5)
    admin = weir.json("key", "create", "--admin", "cli-admin")
    assert weir.json("key", "revoke", admin["id"]) is not None


def test_doctor(weir, about):
    done = weir("doctor")
    assert not re.search(r"^bad", done.stdout, re.M), done.stdout
    for step in ("address", "key", "connection", "ready", "access", "version", "rootfs"):
        assert re.search(rf"^(ok|warn) +{step} ", done.stdout, re.M), done.stdout
    # The weird of the same build was asked, and its lines passed on.
    assert re.search(r"^ok +machine +\S+/weird --probe", done.stdout, re.M), done.stdout
    assert "packet programs" in done.stdout
    found = weir.json("doctor")
    assert [x["result"] for x in found if x["check"] == "names"] in (["ok"], ["warn"])
    assert {f["check"] for f in found} >= {"machine", "connection", "access"}
    assert all(f["result"] in ("ok", "warn") and isinstance(f["todo"], str) for f in found)


def test_doctor_without_a_daemon(weir):
    done = weir("--url", "http://127.0.0.1:1", "doctor", code=1)
    assert re.search(r"^bad +connection .*\n +.*\"weird\"", done.stdout, re.M), done.stdout
    found = json.loads(weir("--url", "http://127.0.0.1:1", "--json", "doctor", code=1).stdout)
    assert [f for f in found if f["check"] == "connection"][0]["result"] == "bad"


# --- what goes wrong says what to do -----------------------------------------------------------------

@pytest.mark.parametrize("args, code, says", [
    (["create", "--shape", "s-9"], 1, "s-1vcpu-256mb"),
    (["create", "--rootfs", "nix:9"], 1, "devbox:1"),
    (["create", "--name", "Not a name"], 1, "name"),
    (["create", "--egress", "a..b"], 1, "rules look like"),
    (["create", "--egress"], 2, "needs a value"),
    (["create", "--env", "NOT_SET_HERE"], 2, "NAME=VALUE"),
    (["create", "--disk", "much"], 2, "not a number"),
    (["craete"], 2, 'did you mean "create"'),
    (["egress"], 2, "get, set, add, rm, explain"),
    (["egress", "put", "x"], 2, "get, set, add, rm, explain"),
    (["exec", "box"], 2, "COMMAND"),
    (["ls", "extra"], 2, "unexpected"),
    (["ls", "--never"], 2, "--never"),
    ([], 2, "weir --help"),
    (["show", "sb-01jq2m8z6k3v9x4c7b5n1t0hga"], 5, "weir ls"),
    (["net", "create", "Not_a_name"], 1, "name: must match"),
    (["net", "show", "none"], 5, "weir net ls"),
    (["net", "rm", "none"], 5, "weir net ls"),
    (["net"], 2, "create, ls, show, rm, attach, detach, policy"),
    (["url", "box", "99999"], 2, "1 to 65535"),
    (["url", "none", "80"], 5, "weir ls"),
    (["ingress", "token"], 2, "create SANDBOX PORT"),
    (["forward", "box", "8000"], 2, "[ADDRESS:]LOCAL:REMOTE"),
    (["rootfs", "build", "no/such:image"], 1, ""),
    (["--url", "http://127.0.0.1:1", "ls"], 3, "weir doctor"),
    (["--url", "ftp://x", "ls"], 2, "not a URL")])
def test_errors_come_with_a_hint(weir, args, code, says):
    done = weir(*args, code=code)
    assert done.stdout == "", done.stdout
    assert done.stderr.startswith("weir: ") and says in done.stderr, done.stderr


def test_a_private_key_never_leaves(weir, tmp_path):
    private = tmp_path / "id"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n")
    done = weir("create", "--ssh-key", str(private), code=2)
    assert "private key" in done.stderr and ".pub" in done.stderr
    public = tmp_path / "id.pub"
    public.write_text("# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9xyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyx"
                      "yxyxyxyx me@here\n")
    ident = weir("create", "--ssh-key", str(public)).stdout.strip()
    try:
        assert "ssh-ed25519" in weir("exec", ident, "cat", "/root/.ssh/authorized_keys").stdout
    finally:
        weir("rm", ident)


def test_keys_and_addresses_come_from_where_the_manual_says(weir):
    url, key = weir.env.pop("WEIR_URL"), weir.env.pop("WEIR_API_KEY")
    config = os.path.join(weir.home, ".config", "weir", "config")
    os.makedirs(os.path.dirname(config))
    with open(config, "w") as f:
        f.write(f"# mine\nurl = {url}/\napi_key = {key}\n")
    os.chmod(config, 0o600)
    weir("ls")
    assert config in weir("doctor").stdout
    os.chmod(config, 0o644)
    assert "can be read by others" in weir("doctor").stdout
    weir("ls", env={"WEIR_API_KEY": "wrong"}, code=4)
    weir("ls", env={"WEIR_URL": "http://127.0.0.1:1"}, code=3)
    weir("--url", url, "ls", env={"WEIR_URL": "http://127.0.0.1:1"})
    with open(config, "a") as f:
        f.write("colour = blue\n")
    assert f"{config}:4" in weir("ls", code=2).stderr


# --- terminals and shells ----------------------------------------------------------------------------

def test_what_a_sandbox_says_cannot_drive_the_terminal(weir, box):
    """A name asked for inside is printed outside."""
    weir("exec", box, "--", "python3", "-c",
         "import socket,struct\n"
         "n=b'\\x09\\x1b[2Jevil\\x04test\\x00'\n"
         "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(3)\n"
         "s.sendto(struct.pack('>6H',7,256,1,0,0,0)+n+struct.pack('>HH',1,1),('169.254.77.1',53))\n"
         "try: s.recv(512)\nexcept OSError: pass")
    weir("exec", box, "--", "getent", "hosts", "after.denied.test", code=2)
    text = eventually(lambda: (t := weir("denials", box).stdout) and "after.denied" in t and t)
    assert "\x1b" not in text


def test_colours_are_for_terminals(weir, box):
    def on_a_terminal(**env):
        done = subprocess.run(["script", "-qec", f"weir show {box}", "/dev/null"],
                              stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                              env=weir.with_env({"TERM": "xterm", **env}))
        return done.stdout

    assert "\x1b[" in on_a_terminal() and "\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b" not in weir("show", box, env={"TERM": "xterm"}).stdout


def complete(weir, *words):
    """What bash offers after these words, the last of them unfinished."""
    script = ('source <(weir completion bash)\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n'
              'COMPREPLY=()\n_weir\nprintf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "-uc", script, "bash", *words], env=weir.with_env(None),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def test_completion_in_bash(weir, box):
    assert {"create", "exec", "egress", "sandbox"} <= complete(weir, "weir", "")
    assert complete(weir, "weir", "den") == {"denials"}
    assert complete(weir, "weir", "egress", "e") == {"explain"}
    assert box in complete(weir, "weir", "show", "cli-")
    assert box in complete(weir, "weir", "sb", "exec", "cli-")
    assert f"{box}:/" in complete(weir, "weir", "cp", "cli-")
    assert complete(weir, "weir", "create", "--eg") == {"--egress"}
    assert "s-1vcpu-256mb" in complete(weir, "weir", "create", "--shape", "s-1")
    assert "devbox:1" in complete(weir, "weir", "create", "--rootfs", "d")
    # Each operand by what it is, whatever stands before it.
    for ahead in (["url"], ["forward"], ["ingress", "on"], ["ingress", "token", "ls"], ["net", "attach"],
                  ["ingress", "token", "create", "--name", "guest"]):
        assert box in complete(weir, "weir", *ahead, "cli-"), ahead
    assert complete(weir, "weir", "ingress", "token", "r") == {"revoke"}
    assert complete(weir, "weir", "ingress", "on", "--access", "") == {"open", "token"}
    net = "cli-" + uuid.uuid4().hex[:8]
    weir("net", "create", net)
    try:
        for ahead in (["net", "show"], ["net", "rm", "other"], ["net", "policy"], ["net", "attach", box],
                      ["create", "--net"]):
            assert complete(weir, "weir", *ahead, "cli-") == {net}, ahead
    finally:
        weir("net", "rm", net)
    for done in (["url", box], ["net", "show", net, ""], ["ingress", "token", "create", box]):
        assert box not in complete(weir, "weir", *done, "cli-"), done
    with open(os.path.join(ROOT, "scripts", "completion", "weir.bash")) as f:
        assert weir("completion", "bash").stdout == f.read()


def test_completion_in_zsh(weir):
    text = weir("completion", "zsh").stdout
    assert text.startswith("#compdef weir\n")
    if subprocess.run(["sh", "-c", "command -v zsh"], stdout=subprocess.DEVNULL).returncode:
        pytest.skip("zsh is not installed: only bash's completion is loaded")
    assert subprocess.run(["zsh", "-n", "/dev/stdin"], input=text, text=True).returncode == 0


def test_a_closed_pipe_is_no_drama(weir, box):
    done = subprocess.run(f"weir exec {box} -- seq 1 2000000 | head -n 1", shell=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=weir.with_env(None))
    assert done.stdout == "1\n" and "Traceback" not in done.stderr


# --- visitors -------------------------------------------------------------------------------------

def test_visitors(weir, box):
    def visit(*args):
        return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *args], text=True,
                              stdout=subprocess.PIPE).stdout

    assert "cannot be reached" in weir("url", box, "8000", code=1).stderr
    weir("ingress", "on", "--ports", "--no-ports=proxy", box, code=2)
    assert "open, token" in weir("ingress", "on", "--access", "all", box, code=1).stderr
    assert "SANDBOX PORT" in weir("ingress", "token", "create", box, code=2).stderr
    assert "SANDBOX" in weir("ingress", "token", "ls", box, "8000", code=2).stderr
    assert "weir ingress token ls" in weir("ingress", "token", "revoke", box, "none", code=5).stderr
    weir("ingress", "on", "--ports=both", box, code=2)
    template = weir("ingress", "on", "--access", "token", "--ports=direct", box).stdout.strip()
    assert template.count("<port>") == 1
    url = weir("url", box, "8000").stdout.strip()
    assert url == template.replace("<port>", "8000")
    assert weir.json("url", box, "8000") == {"url": url, "port": 8000, "access": "token"}
    weir("exec", box, "--", "bash", "-c", "for p in 8000 8080; do setsid python3 -m http.server $p >/dev/null 2>&1 "
         f"</dev/null & {listening('$p')}; done")
    assert visit(url) == "401"
    token = weir("ingress", "token", "create", "--name", "guest", box, "8000").stdout.strip()
    assert visit("-H", f"X-Weir-Ingress-Token: {token}", url) == visit(f"{url}/?weir_token={token}") == "200"
    row, = table(weir("ingress", "token", "ls", box).stdout)
    assert row["NAME"] == "guest" and row["PORT"] == "8000" and row["EXPIRES"] == "never"
    second = weir.json("ingress", "token", "create", "--expires", "600", box, "8000")
    assert second["token"].startswith("wit_") and second["expires_at"] > second["created_at"]
    listed = weir.json("ingress", "token", "ls", box)
    assert {t["id"] for t in listed} == {row["ID"], second["id"]} and "token" not in listed[0]
    weir("ingress", "token", "revoke", box, row["ID"], second["id"])
    assert weir.json("ingress", "token", "ls", box) == []
    assert visit("-H", f"X-Weir-Ingress-Token: {token}", url) == "401"
    direct, = weir.json("ingress", "on", "--access", "open", box)["host_ports"].items()
    assert direct[0] == "direct" and visit(url) == visit(f"http://{direct[1]}") == "200"
    assert set(weir.json("ingress", "on", "--ports", box)["host_ports"]) == {"proxy", "direct"}
    assert set(weir.json("ingress", "on", "--no-ports=direct", box)["host_ports"]) == {"proxy"}
    assert visit(f"http://{direct[1]}") == "000"
    assert "host_ports" not in weir.json("ingress", "off", "--no-ports", box)
    assert visit(url) == "404"
    weir("url", box, "8000", code=1)


WITHOUT_NAMES = r"""
set -e
mount --bind "$1" /etc/nsswitch.conf
exec tools/with-daemon -- bash -ec '
    weir doctor | grep names
    weir create --name paths --ingress >/dev/null
    weir exec paths -- bash -c "cd /srv; setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &
        timeout 55 bash -c \"until : </dev/tcp/127.0.0.1/8000; do sleep 0.05; done\" 2>/dev/null"
    weir url paths 8000
    curl -s -o /dev/null -w "%{http_code}\\n" "$(weir url paths 8000)/"'
"""


def test_names_or_paths(weir, box, tmp_path):
    """Where *.localhost leads nowhere, addresses are published that resolve everywhere."""
    assert "names below localhost lead here" in weir("doctor").stdout
    assert ".localhost:" in weir("ingress", "on", box).stdout
    plain = tmp_path / "nsswitch.conf"
    plain.write_text("passwd: files\ngroup: files\nhosts: files\n")
    done = subprocess.run(["unshare", "--mount", "bash", "-c", WITHOUT_NAMES, "-", plain], text=True, cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, env={
                              **os.environ, "WEIR_NO_BUILD": "1"})
    assert done.returncode == 0, (done.stdout, done.stderr)
    *names, url, status = done.stdout.splitlines()
    assert "do not resolve: services are published by path" in " ".join(names)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/sb-[0-9a-z]{26}/8000", url) and status == "200"


SLOW_GETENT = "#!/bin/sh\nsleep 3\nPATH=/usr/bin:/bin exec getent \"$@\"\n"


def test_a_slow_answer_about_names_is_waited_for(other_daemon, tmp_path, monkeypatch):
    """What a busy machine says late is what it says: by it all addresses are made until the daemon ends."""
    (tmp_path / "getent").write_text(SLOW_GETENT)
    (tmp_path / "getent").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    daemon = other_daemon()
    assert " ingress.paths " not in daemon.log_tail(1000)
    box = daemon.api.create(ingress_enabled=True)
    assert ".localhost:" in json.dumps(box.view)


# --- private networks -----------------------------------------------------------------------------

def test_networks(weir, box):
    name = "cli-" + uuid.uuid4().hex[:8]
    ident = weir("net", "create", name).stdout.strip()
    assert re.fullmatch(r"net-[0-9a-z]{26}", ident)
    other = weir("create", "--net", name, "--egress", "192.0.2.1").stdout.strip()
    try:
        assert weir.json("net", "show", name)["member_count"] == 1
        assert weir.json("net", "attach", box, ident) == {"ok": True}
        assert {"id": ident, "members": 2} in [
            {"id": n["id"], "members": n["member_count"]} for n in weir.json("net", "ls")]
        members = {m["sandbox_id"]: m for m in weir.json("net", "show", ident)["members"]}
        shown = table(weir("net", "show", name).stdout)
        assert {r["NAME"] for r in shown} == {m["name"] for m in members.values()} and len(shown) == 2
        assert {r["ADDRESS"] for r in shown} == {m["ip"] for m in members.values()}
        assert weir("exec", box, "--", "getent", "hosts", members[other]["name"]).stdout.split()[0] == \
            members[other]["ip"]
        assert weir("egress", "explain", box, members[other]["ip"] + ":80").returncode == 0
        row = next(r for r in table(weir("net", "ls").stdout) if r["NAME"] == name)
        assert row["MEMBERS"] == "2" and row["ID"] == ident
        assert "active members" in weir("net", "rm", name, code=1).stderr
        assert weir("net", "policy", name).stdout == "default allow\n"
        one, two = box, members[other]["name"]
        said = weir("net", "policy", name, f"{one} {two} 80,8000-8099/tcp", "deny * *", f"{two} * icmp").stdout
        assert said == f"allow {one} {two} 80,8000-8099/tcp\ndeny * *\nallow {two} * icmp\ndefault deny\n"
        assert weir("net", "policy", name, *said.splitlines()[:3]).stdout == said  # it can be given back
        policy = weir.json("net", "policy", name)
        assert policy["default"] == "deny" and [r["action"] for r in policy["rules"]] == ["allow", "deny", "allow"]
        assert weir("egress", "explain", box, members[other]["ip"] + ":80").returncode == 0
        weir("egress", "explain", box, members[other]["ip"] + ":81", code=6)
        weir("net", "policy", name, one, code=2)
        assert "rules[0].ports" in weir("net", "policy", name, f"{one} {two} 0", code=1).stderr
        assert weir("net", "policy", name, "closed").stdout == "default deny\n"
        assert weir("net", "policy", name, "open").stdout == "default allow\n"
        weir("net", "detach", box, name)
        assert "weir net ls" in weir("net", "detach", box, name, code=5).stderr
        assert "weir net ls" in weir("net", "attach", box, "none", code=5).stderr
        weir("egress", "explain", box, members[other]["ip"] + ":80", code=6)
    finally:
        weir("rm", other, code=None)
    assert weir.json("net", "rm", name) == {"ok": True}
    weir("net", "show", name, code=5)
    made = weir.json("net", "create", name)
    assert made["name"] == name and made["member_count"] == 0
    assert weir("net", "rm", made["id"]).stdout == ""
