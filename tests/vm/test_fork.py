"""Many machines from one that is paused: what ran in it goes on in each, and each is another.

Its own daemon, whose files are looked at; one source serves most tests.
"""

import hashlib
import os
import time

import pytest

from kit.api import Api, Refused
from kit.daemon import Daemon, wait_until
from test_pause import alive, gone, snapshot

# An interpreter that is asked over its socket, and one that draws random numbers whenever it runs.
SERVER = """
import os, socket, threading, time
s = socket.create_server(("127.0.0.1", 9040)); open("/tmp/ready", "w")
drawn = []
it = {"n": 0, "secret": os.urandom(8).hex(), "os": os, "time": time, "drawn": drawn}
def draw():
    while True:
        drawn.append(os.urandom(16).hex()); time.sleep(0.05)
threading.Thread(target=draw, daemon=True).start()
while True:
    c, _ = s.accept(); it["n"] += 1
    c.sendall(repr(eval(c.recv(9999).decode(), it)).encode()); c.close()
"""
# By bash, not Python, which takes a second to begin.
ASK = 'exec 3<>/dev/tcp/127.0.0.1/9040 && printf %s "$0" >&3 && cat <&3 && echo'


@pytest.fixture(scope="module")
def daemon():
    daemon = Daemon({})
    daemon.__enter__()
    daemon.api = Api(daemon.url, daemon.key)
    yield daemon
    daemon.__exit__(None, None, None)


def fork(box, **how):
    made = type(box)(box.api, box.api.ok("POST", f"{box.path}/fork", how))
    assert made.view["forked_from"] == box.id
    return made


def ask(box, expression):
    r = box.sh(ASK, expression)
    assert r.code == 0, r.stderr
    return eval(r.stdout)


@pytest.fixture(scope="module")
def source(daemon):
    box = daemon.api.create(runtime="vm", egress=["allowed.test"], envs={"WHO": "source"})
    box.put("/tmp/server.py", SERVER.encode())
    box.sh("(setsid python3 /tmp/server.py </dev/null >/dev/null 2>&1 &) ; "
           "for i in $(seq 200); do [ -e /tmp/ready ] && break; sleep 0.2; done; echo before >/root/file")
    # paused when it has drawn what its forks will share
    assert ask(box, "[[time.sleep(0.05) for _ in iter(lambda: len(drawn) > 20, True)], n][1]") == 1
    box.pause()
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def forks(source):
    made = [fork(source) for _ in range(3)]
    yield made
    for box in made:
        box.destroy()


def test_an_interpreter_goes_on_in_each(daemon, source, forks):
    """Its variables and its socket are there, and change in one alone; so do files. The source's snapshot
    is as it was."""
    with open(snapshot(daemon, source), "rb") as f:
        before = hashlib.file_digest(f, "sha256").hexdigest()
    secrets = {ask(box, "secret") for box in forks}
    assert len(secrets) == 1
    for i, box in enumerate(forks):
        assert ask(box, f"[it := {i}, n]") == [i, 3]
        assert ask(box, "n") == 4
        box.sh(f"echo {i} >/root/file-{i}; sync")
    for i, box in enumerate(forks):
        assert box.sh("cd /root; echo file*; cat file").stdout == f"file file-{i}\nbefore\n"
    assert source.status == "paused" and gone(source)
    with open(snapshot(daemon, source), "rb") as f:
        assert hashlib.file_digest(f, "sha256").hexdigest() == before


def test_L3_each_is_another(forks, source):
    """Name, addresses, machine id, clock, and randomness from the first byte that a program draws."""
    told, drawn = [], []
    for box in forks:
        t0 = time.time()
        now = float(box.exec("date", "+%s.%N").stdout)
        slow = time.time() - t0  # a busy host: what an exec takes, the wake took too
        assert t0 - 0.5 - 2 * slow < now < t0 + 0.5 + slow
        told.append(box.sh("hostname; cat /etc/machine-id; head -c 16 /dev/urandom | base64; "
                           "cat /proc/sys/kernel/random/uuid; "
                           "openssl ecparam -genkey -name prime256v1 -noout 2>/dev/null | sha256sum; "
                           "python3 -c 'import uuid; print(uuid.uuid4(), uuid.uuid1())'").stdout.split("\n"))
        assert told[-1][0] == box.name
        addresses = box.sh("cat /proc/net/fib_trie").stdout
        assert f"|-- {box.ip}\n" in addresses and f"|-- {source.ip}\n" not in addresses
        drawn.append(ask(box, "drawn"))
    for column in zip(*(t[:-1] for t in told)):
        assert len(set(column)) == len(forks), column
    assert len({box.ip for box in forks} | {source.ip}) == len(forks) + 1
    # The control: up to the pause they are one and the same; from then on they share nothing.
    shared = set(drawn[0]).intersection(*drawn[1:])
    n = len(shared)
    assert n > 10 and all(d[:n] == drawn[0][:n] for d in drawn)
    after = [set(d[n:]) for d in drawn]
    assert all(a for a in after) and not any(a & b for a in after for b in after if a is not b)


def test_what_is_inherited_and_what_is_not(source, forks):
    view = forks[0].refresh()
    for same in ("shape", "rootfs", "runtime", "mem_mib", "disk_mib", "egress", "envs"):
        assert view.get(same) == source.view.get(same), same
    assert view["name"] != source.view["name"] and view["id"] != source.id
    assert forks[0].sh("echo $WHO").stdout == "source\n"
    box = fork(source, envs={"WHO": "fork"}, egress=["denied.test:443"], ingress_enabled=True)
    try:
        assert box.view["egress"] == ["denied.test:443"] and box.view["ingress_enabled"] is True
        assert box.sh("echo $WHO").stdout == "fork\n"
    finally:
        box.destroy()


def test_one_that_stays_paused(daemon, source):
    """No process, until it is resumed; then it is another as well, and can be forked itself."""
    box = fork(source, start_paused=True)
    assert box.view["status"] == "paused" and gone(box) and os.path.exists(snapshot(daemon, box))
    second = fork(box)
    box.resume()
    assert ask(box, "secret") == ask(second, "secret")
    assert box.exec("hostname").stdout == box.name + "\n" and second.exec("hostname").stdout == second.name + "\n"
    for made in (box, second):
        made.destroy()


def test_a_fork_is_paused_and_forked(daemon, forks):
    """A clone's memory is its template's and what it wrote: it is streamed, and goes on from that."""
    box = forks[1]
    n, secret = ask(box, "[n, secret]")
    box.pause()
    child = fork(box)
    box.resume()
    assert ask(child, "[n, secret]") == [n + 1, secret] and ask(box, "[n, secret]") == [n + 1, secret]
    child.destroy()
    box.pause()  # now with memory of its own
    box.resume()
    assert ask(box, "n") == n + 2


def test_only_what_is_paused_is_forked(daemon, forks):
    with pytest.raises(Refused) as e:
        fork(forks[0])
    assert e.value.response.status == 409 and "sandbox is running; cannot fork it" in str(e.value)
    container = daemon.api.create(runtime="container")
    with pytest.raises(Refused) as e:
        fork(container)
    container.destroy()
    assert e.value.response.status == 409 and 'needs the runtime vm (at create: ' in str(e.value)


@pytest.mark.parametrize("body, says", [
    ({"start_paused": "yes"}, "start_paused"), ({"envs": {"A=B": "c"}}, "envs"),
    ({"egress": ["169.254.169.254"]}, "cannot be opened"), ({"ssh_pubkeys": ["nonsense"]}, "ssh_pubkeys"),
    ({"bandwidth_quota_bytes": 1}, "not built yet")])
def test_what_is_refused_changes_nothing(daemon, source, body, says):
    before = {box["id"] for box in daemon.api.ok("GET", "/v1/sandboxes")["data"]}
    with pytest.raises(Refused) as e:
        fork(source, **body)
    assert says in str(e.value)
    assert {box["id"] for box in daemon.api.ok("GET", "/v1/sandboxes")["data"]} == before


def test_the_source_goes_on_at_last(source, forks):
    n, secret = ask(forks[2], "[n, secret]")
    source.resume()
    assert ask(source, "[n, secret]") == [2, secret]
    assert source.sh("cd /root; echo file*").stdout == "file\n"
    assert source.exec("hostname").stdout == source.name + "\n"
    source.pause()


def test_nothing_is_left_of_a_fork(daemon, source):
    box = fork(source)
    layer = os.path.join(daemon.state_dir, "vm/layers", box.id)
    assert os.path.exists(layer)
    box.destroy()
    assert wait_until(lambda: not os.path.exists(layer) and alive(box) is None, 20)
