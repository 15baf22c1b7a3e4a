"""The command line against the real daemon: what it prints, what it returns."""

import json
import os
import subprocess

import pytest


def weir(*argv, stdin=None, env=None, code=0, text=True):
    done = subprocess.run(["weir", *argv], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=text, timeout=60,
                          env={**os.environ, **(env or {})})
    if code is not None:
        assert done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture
def name(api):
    import random
    import string
    name = "cli-" + "".join(random.choices(string.ascii_lowercase, k=8))
    yield name
    weir("rm", name, code=None)


def test_create_list_show_rm(name, api):
    made = weir("create", "--name", name, "--egress", "allowed.test:443").stdout.strip()
    assert made.startswith("sb-")
    listed = weir("ls").stdout
    assert name in listed and "running" in listed and "allowed.test:443" in listed
    rows = json.loads(weir("--json", "ls").stdout)
    assert made in json.dumps(rows)
    assert made in weir("show", name).stdout
    assert json.loads(weir("--json", "show", made).stdout)["name"] == name
    weir("rm", name)
    assert api.get(made)["status"] in ("destroying", "destroyed")
    assert name not in weir("ls").stdout
    assert name in weir("ls", "--all").stdout


def test_exec_hands_on_output_and_status(name):
    weir("create", "--name", name)
    r = weir("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (r.stdout, r.stderr) == ("out\n", "err\n")
    assert weir("exec", name, "--", "sh", "-c", "kill -9 $$", code=137)
    assert "no-such" in weir("exec", name, "no-such-program", code=127).stderr
    r = weir("exec", "-i", name, "--", "sh", "-c", "wc -c", stdin="twelve bytes")
    assert r.stdout.strip() == "12"
    assert weir("exec", name, "printf", "%s|", "a b", "$HOME", "").stdout == "a b|$HOME||"


def test_run_makes_and_destroys(api):
    before = api.ok("GET", "/v1/whoami")["stats"]["running"]
    r = weir("run", "--egress", "allowed.test", "--", "sh", "-c", "echo hi; exit 3", code=3)
    assert r.stdout == "hi\n"
    import time
    end = time.monotonic() + 20
    while api.ok("GET", "/v1/whoami")["stats"]["running"] > before:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_run_tells_what_was_refused(lab):
    r = weir("run", "--egress", "allowed.test", "--", "curl", "-s", "-m", "5", "http://denied.test/",
             code=6)
    assert "denied.test" in r.stderr and "no rule allows the name" in r.stderr
    r = weir("run", "--quiet", "--egress", "allowed.test", "--", "curl", "-s", "http://denied.test/",
             code=6)
    assert "denied.test" not in r.stderr


def test_cp_both_ways(name, tmp_path):
    weir("create", "--name", name)
    here = tmp_path / "a file+x"
    here.write_bytes(os.urandom(300000))
    weir("cp", str(here), f"{name}:/srv/")
    weir("cp", f"{name}:/srv/{here.name}", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == here.read_bytes()
    weir("cp", "-", f"{name}:/root/stdin", stdin="from standard input")
    assert weir("cp", f"{name}:/root/stdin", "-").stdout == "from standard input"
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "leaf").write_text("leaf")
    weir("cp", str(tree), f"{name}:/srv/")
    assert weir("exec", name, "cat", "/srv/tree/sub/leaf").stdout == "leaf"
    assert weir("cp", f"{name}:/no/such", str(tmp_path), code=None).returncode != 0


def test_egress_commands(name, lab):
    weir("create", "--name", name, "--egress", "allowed.test")
    assert weir("egress", "get", name).stdout.strip() == "allowed.test"
    weir("egress", "add", name, "other.test:443", "10.0.0.0/8")
    assert weir("egress", "get", name).stdout.split() == ["allowed.test", "other.test:443", "10.0.0.0/8"]
    weir("egress", "rm", name, "10.0.0.0/8")
    weir("egress", "set", name, "denied.test")
    assert weir("egress", "get", name).stdout.split() == ["denied.test"]
    assert weir("egress", "rm", name, "denied.test", code=None).returncode != 0, "not to allow-all"
    bad = weir("egress", "set", name, "fine.test", "host:99999", code=None)
    assert bad.returncode != 0 and "host:99999" in bad.stderr
    assert weir("egress", "explain", name, "denied.test:443").returncode == 0
    explained = weir("egress", "explain", name, "allowed.test:443", code=6)
    assert "deny" in explained.stdout
    assert "floor" in weir("egress", "explain", name, "169.254.169.254:80", code=6).stdout


def test_denials(name, lab):
    weir("create", "--name", name, "--egress", "allowed.test:443")
    weir("exec", name, "--", "curl", "-s", "-m", "5", "http://allowed.test/", code=7)
    text = weir("denials", name).stdout
    assert "allowed.test:80" in text and "default" in text
    assert any(d["reason"] == "default" for d in
               json.loads(weir("--json", "denials", name).stdout)["denials"])


def test_pause_and_resume(name):
    weir("create", "--name", name)
    weir("pause", name)
    assert "paused" in weir("show", name).stdout
    assert weir("exec", name, "true", code=125).stderr
    weir("resume", name)
    weir("exec", name, "true")


def test_keys_come_and_go(api):
    made = weir("key", "create", "for-a-test").stdout
    key = next(w for w in made.split() if len(w) > 30)
    assert weir("ls", env={"WEIR_API_KEY": key})
    listed = weir("key", "ls").stdout
    assert "for-a-test" in listed and key not in listed
    identity = next(line.split()[0] for line in listed.splitlines() if "for-a-test" in line)
    if not identity.startswith("key-"):
        identity = next(w for w in next(x for x in listed.splitlines() if "for-a-test" in x).split()
                        if w.startswith("key-"))
    weir("key", "rm", identity)
    gone = weir("ls", env={"WEIR_API_KEY": key}, code=None)
    assert gone.returncode != 0 and "key" in gone.stderr


def test_a_key_sees_only_its_own(api, name):
    made = weir("key", "create", "stranger").stdout
    key = next(w for w in made.split() if len(w) > 30)
    weir("create", "--name", name)
    sandbox = json.loads(weir("--json", "show", name).stdout)["id"]
    stranger = weir("show", sandbox, env={"WEIR_API_KEY": key}, code=None)
    same_user = json.loads(weir("--json", "ls", env={"WEIR_API_KEY": key}).stdout)
    if sandbox not in json.dumps(same_user):
        assert stranger.returncode != 0 and "not found" in stranger.stderr


@pytest.mark.parametrize("argv", [["nonsense"], ["create", "--no-such"], ["exec"], ["rm"],
                                  ["egress"], ["cp", "one"]])
def test_wrong_use_says_so(argv):
    r = weir(*argv, code=None)
    assert r.returncode not in (0, 1) and r.stderr.startswith("weir")


def test_a_typo_gets_a_hint(name):
    r = weir("exec", "no-such-sandbox-here", "true", code=125)
    assert "no-such-sandbox-here" in r.stderr


def test_no_daemon_and_wrong_key():
    r = weir("ls", env={"WEIR_URL": "http://127.0.0.1:9"}, code=None)
    assert r.returncode != 0 and "127.0.0.1:9" in r.stderr
    r = weir("ls", env={"WEIR_API_KEY": "wrong"}, code=None)
    assert r.returncode != 0 and "key" in r.stderr


def test_help_version_doctor_completion():
    assert "usage: weir" in weir("--help").stdout
    assert "usage: weir exec" in weir("exec", "--help").stdout
    assert weir("version").stdout.strip()
    assert "ok" in weir("doctor").stdout
    for shell in ("bash", "zsh"):
        script = weir("completion", shell).stdout
        assert "weir" in script
    assert subprocess.run(["bash", "-n"], input=weir("completion", "bash").stdout,
                          text=True).returncode == 0


def test_catalogues():
    assert "devbox:1" in weir("rootfs", "ls").stdout
    assert "s-1vcpu-256mb" in weir("shapes").stdout
