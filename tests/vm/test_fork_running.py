"""Forks of a machine that runs: it goes on as if nothing had been, and each fork is another from its
first instruction. In the lab, whose Internet tells what left.

One source serves the tests; a clone of a template is another kind of source, and is made from its pause.
"""

import os
import subprocess
import time

import pytest

from kit.api import Api, Box, Refused
from kit.daemon import wait_until
from kit.room import little_room
from test_fork import ASK, SERVER, ask, fork
from test_sandbox import qemu

ECHO, TARGET = "203.0.113.10", "203.0.113.20"

# It answers what it is asked also when that fails; and it knocks at TARGET all the time.
SERVER = "def attempt(e):\n    try: return eval(e, it)\n    except Exception as x: return type(x).__name__\n" + \
    SERVER.replace("eval(c.recv(9999).decode(), it)", "attempt(c.recv(9999).decode())").replace(
        "threading.Thread(target=draw", """
def knock():
    while True:
        try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("%s", 9999))
        except OSError: pass
        time.sleep(0.05)
threading.Thread(target=knock, daemon=True).start()
threading.Thread(target=draw""" % TARGET)
CONNECT = f"[c := __import__('socket').create_connection(('{ECHO}', 7), 10), c.settimeout(4), 1][2]"


def says(box, word):
    """What comes back over the connection that the interpreter has."""
    return ask(box, f"[c.sendall({word!r}), c.recv(99)][1]")


def live(box, **how):
    return fork(box, live=True, **how)


def serving(box):
    box.put("/tmp/server.py", SERVER.encode())
    box.sh("(setsid python3 /tmp/server.py </dev/null >/dev/null 2>&1 &) ; "
           "for i in $(seq 400); do [ -e /tmp/ready ] && break; sleep 0.2; done; echo before >/root/file")
    assert ask(box, "n") == 1
    return box


@pytest.fixture(scope="module")
def source(api, lab):
    box = serving(api.create(runtime="vm", egress=[ECHO, "allowed.test"], envs={"SECRET": "source"}))
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def clone(source):
    """A source whose memory is a template's, and what it wrote since."""
    source.pause()
    box = fork(source)
    source.resume()
    yield box
    box.destroy()


def told(box, expression, script):
    """What its interpreter and its shell say, in one command."""
    r = box.sh(f"{ASK}; {script}", expression)
    assert r.code == 0, r.stderr
    first, *rest = r.stdout.splitlines()
    return eval(first), rest


def gone_on(source, made, secret, n):
    """Each counts on by itself; files that one writes are its own; what they draw from now on differs."""
    for i, box in enumerate([source, *made]):
        assert told(box, f"[it := {i}, n, secret]", f"echo {i} >/root/file-{i}; hostname") == \
            ([i, n, secret], [box.name])
    drawn = []
    for i, box in enumerate([source, *made]):
        (it, numbers), files = told(box, "[it, drawn]", "cd /root; echo file*; cat file; rm file-*")
        assert it == i and files == [f"file file-{i}", "before"]
        drawn.append(numbers)
    common = set(drawn[0]).intersection(*drawn[1:])
    assert len(common) > 10  # the control: from before the first fork
    children = [set(d) - set(drawn[0]) for d in drawn[1:]]
    assert all(children) and not any(a & b for a in children for b in children if a is not b)


def test_an_interpreter_goes_on_in_each_and_in_the_source(source):
    pid, secret = qemu(None, source), ask(source, "secret")
    n = ask(source, "n")
    made = [live(source) for _ in range(3)]
    gone_on(source, made, secret, n + 1)
    assert source.status == "running" and qemu(None, source) == pid
    for box in made:
        box.destroy()


def test_L3_a_clone_is_forked_as_well(clone):
    """Its own pages over the template's: what it wrote a moment ago is there."""
    clone.sh("head -c 3000000 /dev/urandom | tee /dev/shm/bytes | sha256sum >/root/sum; sync")
    box = live(clone)
    assert box.sh("sha256sum </dev/shm/bytes | diff - /root/sum").code == 0
    told = [b.sh("hostname; cat /etc/machine-id; head -c 16 /dev/urandom | base64; "
                 "cat /proc/sys/kernel/random/uuid; openssl ecparam -genkey -name prime256v1 -noout 2>/dev/null | "
                 "sha256sum").stdout.split("\n")[:-1] for b in (clone, box)]
    assert all(a != b for a, b in zip(*told)), told
    assert f"|-- {clone.ip}\n" not in box.sh("cat /proc/net/fib_trie").stdout
    before = time.time()
    now = float(box.exec("date", "+%s.%N").stdout)
    slow = time.time() - before
    assert before - 0.5 - 2 * slow < now < before + 0.5 + slow
    box.pause()  # it is a machine like any other
    box.resume()
    again = live(box)
    assert ask(again, "secret") == ask(clone, "secret")
    again.destroy()
    box.destroy()


def test_L4_secrets_and_open_connections_stay_with_the_source(source, lab):
    """The child has the descriptor, and the connection is not its own: nothing of it arrives. Keys and
    environment are the source's unless others are given."""
    assert ask(source, CONNECT) == 1 and says(source, b"one") == b"one"
    box = live(source, envs={"OTHER": "child"})
    try:
        assert says(box, b"child") in ("TimeoutError", "timeout", "ConnectionResetError", "BrokenPipeError", b"")
        assert says(source, b"two") == b"two"  # and nothing else has come back on it
        assert box.sh("echo ${SECRET-none} $OTHER").stdout == "none child\n"
        assert source.sh("echo $SECRET ${OTHER-none}").stdout == "source none\n"
        assert ask(box, CONNECT) == 1 and says(box, b"three") == b"three"  # the control: one of its own
    finally:
        box.destroy()


ROUTES = "ip -o route; ip -o -6 route show dev eth0 | sed 's/ expires [^ ]*//'; ip -o neigh | cut -d' ' -f1-5"


def test_L5_a_fork_does_not_disturb_its_source(source):
    """Its connection, routes and neighbours; its clock is right, and its processes did not end."""
    assert ask(source, CONNECT) == 1
    before = source.sh(ROUTES).stdout
    held = "grep -c ' 0A7100CB:0007 01 ' /proc/net/tcp"  # established with ECHO
    for i in range(2):
        box = live(source)
        word = f"word {i}".encode()
        assert says(source, word) == word
        box.destroy()
    assert source.sh(ROUTES).stdout == before and "169.254.77.1" in before
    t = time.time()
    now = float(source.exec("date", "+%s.%N").stdout)
    assert t - 0.5 < now < time.time() + 0.5
    assert int(source.sh(held).stdout) >= 1
    source.set_egress(["allowed.test"])  # the control: one that is disturbed is noticed
    assert says(source, b"cut") in ("TimeoutError", "timeout", "ConnectionResetError", "BrokenPipeError")
    source.set_egress([ECHO, "allowed.test"])


def test_L1_no_packet_before_the_forks_policy(source, lab):
    """The source may not knock at TARGET, and neither may its forks, which do so from their first moment; nor
    may a fork of a paused one that might."""
    since = lab.now()
    made = [live(source) for _ in range(2)]
    assert all(b.sh("pgrep -f server.py >/dev/null").code == 0 for b in made)
    assert lab.flows(since, dst=TARGET) == []
    made[0].set_egress([TARGET])  # the control
    end = time.monotonic() + 30
    while not lab.flows(since, dst=TARGET):
        assert time.monotonic() < end
    made[0].pause()
    since = lab.now()
    child = fork(made[0], egress=["allowed.test"])
    assert child.sh("pgrep -f server.py >/dev/null").code == 0
    assert lab.flows(since, dst=TARGET) == []
    for box in (child, *made):
        box.destroy()


def verdicts(box):
    return [r["verdict"] == "allow" for r in box.probe({"tcp": ECHO, "port": 7}, {"tcp": TARGET, "port": 7})]


def test_L2_a_fork_has_its_sources_policy(source):
    """And keeps it over a pause; one that is given another has that, and the source has not."""
    box = live(source)
    assert box.view["egress"] == source.refresh()["egress"]
    box.pause()
    box.resume()
    assert verdicts(box) == [True, False]
    box.destroy()
    box = live(source, egress=[TARGET])
    assert verdicts(box) == [False, True]
    assert verdicts(source) == [True, False]
    box.destroy()


def test_L3_one_that_cannot_be_reseeded_is_refused(api, source):
    """Its processes would draw what the source draws. The same source, with its generator: a fork."""
    def forked():  # others make sandboxes beside
        return [b for b in api.ok("GET", "/v1/sandboxes?limit=500")["data"] if b.get("forked_from") == source.id]

    running = {b["id"] for b in forked() if b["status"] == "running"}
    assert source.sh("echo >/tmp/none; mount --bind /tmp/none /dev/urandom").code == 0
    try:
        with pytest.raises(Refused) as e:
            live(source)
        assert e.value.response.status >= 500
        failed = [b for b in forked() if b["status"] == "failed"]
        assert any("seed the random numbers" in str(b) for b in failed), failed
        assert {b["id"] for b in forked() if b["status"] == "running"} == running
    finally:
        assert source.sh("umount /dev/urandom").code == 0
    live(source).destroy()


def test_it_is_asked_for(source):
    """Without `live` a machine that runs is not forked, as CreateOS has it; a child of one begins running."""
    with pytest.raises(Refused) as e:
        fork(source)
    assert e.value.response.status == 409 and "sandbox is running; cannot fork it" in str(e.value)
    with pytest.raises(Refused) as e:
        live(source, start_paused=True)
    assert e.value.response.status == 400 and "start_paused" in str(e.value)


def test_the_command_line_forks_what_runs(api, source):
    done = subprocess.run(["weir", "fork", source.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    box = Box(api, api.ok("GET", f"/v1/sandboxes/{done.stdout.strip()}"))
    assert box.view["forked_from"] == source.id and ask(box, "secret") == ask(source, "secret")
    assert source.status == "running"
    box.destroy()


def test_one_that_is_being_paused_is_waited_for(source):
    """A fork that is asked for meanwhile is a fork of the paused one."""
    secret = ask(source, "secret")
    r = source.api.request("POST", f"{source.path}/pause")
    assert r.status == 202 and r.data["status"] == "pausing", r.body
    box = fork(source)
    assert source.status == "paused" and ask(box, "secret") == secret
    box.destroy()
    source.resume()
    assert ask(source, "secret") == secret


def test_L9_a_full_disk_costs_the_fork_alone():
    """The source's disk cannot be copied: the fork says so, nothing is left of it, and the source goes on."""
    with little_room("vm/layers", 160) as (daemon, at, more):
        box = Api(daemon.url, daemon.key).create(runtime="vm")
        assert box.sh("echo here >/run/here; head -c 90000000 /dev/urandom >/root/data; sync").code == 0
        pid, before = qemu(None, box), sorted(os.listdir(at))
        with pytest.raises(Refused) as e:
            live(box)
        failed = box.api.ok("GET", "/v1/sandboxes")["data"]
        assert "No space left" in str(e.value) + str(failed)
        assert box.exec("cat", "/run/here").stdout == "here\n" and qemu(None, box) == pid
        assert wait_until(lambda: sorted(os.listdir(at)) == before, 20), os.listdir(at)
        more(600)  # the control
        child = live(box)
        assert child.exec("cat", "/run/here").stdout == "here\n"
        child.destroy()
        box.destroy()
