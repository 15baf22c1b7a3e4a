"""What runs out: the disk, descriptors, memory, processes, an agent's patience. Each has to be said
clearly, and afterwards everything works as before."""

import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from kit import daemon as kit
from kit.api import Api, Refused
from kit.daemon import Daemon
from kit.strays import agents, clean
from world import agent_pid, until

SECONDS = 120


@pytest.fixture(scope="module")
def plain():
    """A daemon of its own for what needs no fault points."""
    kit.prepare()
    with Daemon({"pool.slots": "1", "sandbox.pids": "64"}) as d:
        d.api = Api(d.url, d.key)
        yield d


def refused(act):
    with pytest.raises(Refused) as e:
        act()
    assert e.value.response.says, "an error without a reason"
    return e.value.response


def box_of(d, **more):
    return d.api.create(egress=["203.0.113.1"], **more)


NAMES = {resource.RLIMIT_NOFILE: "Max open files", resource.RLIMIT_AS: "Max address space"}


def limit(pid, which, soft):
    """Set a soft limit of a process as its own user would, which needs no capability; what it was."""
    line = next(x for x in kit.read(f"/proc/{pid}/limits").splitlines() if x.startswith(NAMES[which]))
    old, hard = (-1 if word == "unlimited" else int(word)
                 for word in line[len(NAMES[which]):].split()[:2])
    ids = dict(x.split(":", 1) for x in kit.read(f"/proc/{pid}/status").splitlines() if ":" in x)
    uid, gid = (int(ids[k].split()[0]) for k in ("Uid", "Gid"))
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            resource.prlimit(pid, which, (soft, hard))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the limit cannot be set"
    return old


def rest(d):
    until(lambda: clean(d, d.api, keys=False), SECONDS, "something is left over")


def test_a_full_state_directory():
    """The database's file system is full: a change is refused, what is there goes on, and room
    makes everything work again."""
    kit.prepare()
    d = Daemon({"pool.slots": "0"})
    os.makedirs(d.state_dir, 0o711)
    os.chmod(d.state_dir, 0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=711", "weir-full", d.state_dir],
                   check=True)
    filler = os.path.join(d.state_dir, "filler")
    try:
        d.start()
        api = Api(d.url, d.key)
        box = api.create(egress=["203.0.113.1"])
        with open(filler, "wb", buffering=0) as f:  # or the end of the file fails as well
            while True:
                try:
                    f.write(b"\1" * (1 << 16))
                except OSError:
                    break
        answer = None
        for i in range(200):  # until the journal's own room is used up
            answer = api.request("PUT", f"{box.path}/egress", {"egress": [f"203.0.113.{i + 1}"]})
            if answer.status >= 400:
                break
        assert answer.status >= 500 and answer.says, answer.body
        says = box.refresh()["egress"]
        assert box.exec("true").code == 0, "what runs goes on"
        os.unlink(filler)
        assert box.refresh()["egress"] == says, "a refused change changes nothing"
        box.set_egress(["203.0.113.250"])
        assert box.refresh()["egress"] == ["203.0.113.250"]
        api.create(egress=[]).destroy()
        box.destroy()
    finally:
        if os.path.exists(filler):
            os.unlink(filler)
        try:
            d.terminate()
            d._action("--down")
        finally:
            subprocess.run(["umount", "-l", d.state_dir], check=True)
            d.process = None
            d.stop()


def connect_many(d, n):
    """What each of n connections, open together, is told within a second: a status line, or None."""
    host, port = d.address.rsplit(":", 1)
    open_, said = [], []
    try:
        for _ in range(n):
            s = socket.create_connection((host, int(port)), 5)
            open_.append(s)
            s.settimeout(1)
            try:
                s.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
                said.append(s.recv(4096) or None)
            except OSError:
                said.append(None)
            if said[-1] is None:
                break
    finally:
        for s in open_:
            s.close()
    return said


@pytest.mark.parametrize("role", ["api", "host"])
def test_no_descriptors_left(plain, role):
    d = plain
    box = box_of(d)
    pid = d.role("api") if role == "api" else d.process.pid
    # Of a number that is always taken: how many it has changes with what it does beside.
    before = limit(pid, resource.RLIMIT_NOFILE, 3)
    try:
        if role == "host":
            answer = refused(lambda: box_of(d))
            assert answer.status in (500, 503), answer.body
        else:
            assert None in connect_many(d, 64), "descriptors do not run out"
    finally:
        limit(pid, resource.RLIMIT_NOFILE, before)
    until(lambda: box.exec("true").code == 0, SECONDS, "the role does not recover")
    box_of(d).destroy()
    box.destroy()
    rest(d)


# As much for a role to remember as one request can ask: no two names and networks are alike.
def hungry(i):
    return [f"n{k}.of-sandbox-{i}.{'x' * 60}.{'y' * 60}.test" for k in range(128)] + \
        [f"198.{18 + i % 2}.{i}.{k}" for k in range(128)]


@pytest.mark.parametrize("role", ["api", "edge", "host"])
def test_no_memory_left(plain, role):
    """The role's address space is closed at what it has: what no longer fits is refused with a
    sentence, no role dies of it without being started again, and nothing is left over. The control:
    with memory, as many of the same requests at once are all served."""
    d = plain
    box = box_of(d)
    pid = d.process.pid if role == "host" else d.role(role)
    with open(f"/proc/{pid}/statm") as f:
        size = int(f.read().split()[0]) * 4096
    before = limit(pid, resource.RLIMIT_AS, size)
    seen, made = [], []
    try:
        while len(seen) < 60 and sum(status != 201 for status in seen) < 12:
            try:
                made.append(d.api.create(egress=hungry(len(seen))))
                seen.append(201)
            except Refused as e:
                assert e.response.says
                seen.append(e.response.status)
            except OSError:
                seen.append(0)
    finally:
        if role == "host" or d.role(role) == pid:
            limit(pid, resource.RLIMIT_AS, before)
    assert any(status != 201 for status in seen), "memory was never short"
    address = os.path.join(d.run_dir, "api.addr")
    until(lambda: d._ready(address), SECONDS, f"not ready after {seen}")
    d.api.__init__(d.url, d.key)
    until(lambda: box.exec("true").code == 0, SECONDS, f"no command runs after {seen}")
    for one in made:
        one.destroy()
    for one in [d.api.create(egress=hungry(i)) for i in range(len(seen))]:
        one.destroy()
    box.destroy()
    rest(d)


def test_a_full_process_limit(plain):
    box = box_of(plain)
    box.sh("for i in $(seq 40); do setsid sleep 1000 >/dev/null 2>&1 </dev/null & done; true")
    fill = [threading.Thread(target=refused_exec, args=(box, "sleep", "1000")) for _ in range(40)]
    for thread in fill:  # a shell would give its own place back
        thread.start()
    until(lambda: refused_exec(box), SECONDS, "processes do not run out")
    answer = refused_exec(box)
    assert "process" in answer, answer
    for pid in [p for p in os.listdir("/proc") if p.isdigit()
                and kit.read(f"/proc/{p}/cmdline") == "sleep\0001000\0"
                and f"/{plain.name}/" in kit.read(f"/proc/{p}/cgroup")]:
        os.kill(int(pid), signal.SIGKILL)
    until(lambda: not refused_exec(box), SECONDS, "it does not recover")
    for thread in fill:
        thread.join(SECONDS)
        assert not thread.is_alive()
    box.destroy()
    rest(plain)


def refused_exec(box, *argv):
    try:
        r = box.exec(*(argv or ("true",)))
        return r.error or (f"process status {r.code}" if r.code else "")
    except Refused as e:
        return e.response.says


def test_a_stuck_agent(plain):
    """Process 1 is stopped from outside: what asks it is answered in bounded time, and deleting
    needs no word from it."""
    box = box_of(plain)
    box.put("/root/file", b"a file")
    os.kill(agent_pid(plain, box.ip), signal.SIGSTOP)
    began = time.monotonic()
    read = []  # a file is given up sooner: no byte comes
    reader = threading.Thread(target=lambda: read.append(
        (refused(lambda: box.get("/root/file")), time.monotonic() - began)))
    reader.start()
    answer = refused(lambda: plain.api.ok("POST", f"{box.path}/exec", {"cmd": "true"}, timeout=90))
    assert answer.status in (408, 502, 503, 504), answer.body
    assert "agent" in answer.says, answer.says
    assert time.monotonic() - began < 80
    reader.join(SECONDS)
    assert read and read[0][0].status == 502 and 25 < read[0][1] < 55, read
    assert box.status == "running", "the API itself answers at once"
    other = box_of(plain)
    assert other.exec("true").code == 0, "its neighbour is not held up"
    box.destroy()
    until(lambda: box.status == "destroyed", SECONDS, "a stuck sandbox cannot be deleted")
    other.destroy()
    rest(plain)
    assert not agents(plain)
