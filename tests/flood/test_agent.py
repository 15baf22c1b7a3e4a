"""Agents that are not ours any more. What a sandbox runs as its first process cannot be replaced, so
root of the host puts a double in its way: inside the sandbox's network namespace connections to the
agent's port are redirected to a process of this test. It stands for an agent that was taken over;
the api role must answer its clients in bounded time, with the right error, in bounded memory."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import LONG
from kit.double import DOUBLE


class Double:
    """In the place of a sandbox's agent, for conversations that begin from now on."""

    def __init__(self, box, how):
        net = ["nsenter", f"--net=/proc/{box.host_pid()}/ns/net"]
        self.process = subprocess.Popen(net + [sys.executable, "-c", DOUBLE, "2028", how],
                                        stdout=subprocess.PIPE, text=True)
        self.sent, self.asked, self.ended = 0, threading.Event(), threading.Event()
        redirect = subprocess.run(net + ["nft", "-f", "-"], text=True, stderr=subprocess.STDOUT,
                                  stdout=subprocess.PIPE, input="""
table ip double {
	chain catch {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 169.254.77.2 tcp dport 1028 dnat to 169.254.77.2:2028
	}
}
""")
        if self.process.stdout.readline() != "listening\n" or redirect.returncode:
            self.stop()
            raise RuntimeError(f"the double does not stand: {redirect.stdout}")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("asked"):
                self.asked.set()
            elif line.startswith("end"):
                self.ended.set()
            else:
                self.sent = int(line)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def hostile(make_box):
    doubles = []

    def make(how):
        box = make_box(egress=[])
        assert box.sh("echo ours").stdout == "ours\n"  # the control: it was an agent like any other
        doubles.append(Double(box, how))
        return box, doubles[-1]
    yield make
    for d in doubles:
        d.stop()


def ask(box, method="POST", path="/exec"):
    """(status, seconds)"""
    start = time.monotonic()
    body = {"cmd": "true", "args": []} if method == "POST" else None
    r = box.api.request(method, box.path + path, body)
    return r.status, time.monotonic() - start


# How, and the seconds within which it is over: before anybody's patience is, which is a minute. (A dribble
# takes the ten of its frame: long form.)
NONSENSE = [("garbage", 50), ("length", 50), ("close", 50), ("hello", 50)] + [("dribble", 50)] * LONG


@pytest.mark.parametrize("how,seconds", NONSENSE)
def test_an_agent_that_talks_nonsense(hostile, roles, how, seconds):
    box, _ = hostile(how)
    memory = roles.memory("weir-api")
    status, took = ask(box)
    assert status == 502 and took < seconds, (status, took)
    if how != "dribble":
        assert ask(box, "GET", "/files?path=/etc/hostname")[0] == 502
        assert box.api.request("PUT", box.path + "/files?path=/x", raw=b"x" * 100000).status == 502
    assert roles.memory("weir-api") - memory < 8


def test_an_agent_that_is_reached_late(make_box):
    """One of ours, in a machine, say, whose host is busy: the conversation begins after six seconds."""
    box = make_box(egress=[])
    net = ["nsenter", f"--net=/proc/{box.host_pid()}/ns/net", "nft"]
    subprocess.run([*net, "-f", "-"], text=True, check=True, input="""
table ip late {
	chain lost {
		type filter hook input priority filter; policy accept;
		ip daddr 169.254.77.2 tcp dport 1028 tcp flags syn counter drop
	}
}
""")

    def lost():
        return int(subprocess.run([*net, "list", "table", "ip", "late"], text=True, check=True,
                                  stdout=subprocess.PIPE).stdout.split("packets ")[1].split()[0])

    said = []
    asked = threading.Thread(target=lambda: said.append(box.sh("echo late").stdout))
    asked.start()
    wait(lost, "nobody asks it")
    began = time.monotonic()
    wait(lambda: time.monotonic() - began > 6 and lost() >= 3, "it is not asked again")
    subprocess.run([*net, "delete", "table", "ip", "late"], check=True)
    asked.join(60)
    assert said == ["late\n"]


def test_an_agent_that_never_answers(hostile, long):
    box, double = hostile("silent")
    if long:
        status, took = ask(box)
        assert status == 502 and took < 70, (status, took)
        return
    # A minute is what a slow disk is given. Who does not want to wait leaves, and nothing is kept.
    c = http.client.HTTPConnection(box.api.host, timeout=60)
    c.request("POST", box.path + "/exec", body=json.dumps({"cmd": "true"}),
              headers={"X-Api-Key": box.api.key, "Content-Type": "application/json"})
    assert double.asked.wait(60)
    assert not double.ended.is_set()
    c.close()
    assert double.ended.wait(60)
    box.destroy()


def test_an_agent_without_an_end(hostile, roles, figures):
    """Endless output: kept up to the limit while somebody waits, then counted as truncated; when
    the client leaves, the conversation ends."""
    box, double = hostile("endless")
    memory = roles.memory("weir-api")
    s = request(box, False)
    wait(lambda: double.sent > 256 << 20, "it may send as much as it likes")
    assert roles.memory("weir-api") - memory < 48
    s.close()
    assert double.ended.wait(60)
    figures(sent_mib=double.sent >> 20, kept_mib=round(roles.memory("weir-api") - memory, 1))


def test_a_client_that_does_not_read(hostile, roles):
    """Nothing is taken from the agent that the client does not take: the agent's own socket fills."""
    box, double = hostile("endless")
    memory = roles.memory("weir-api")
    s = request(box, True)
    assert s.recv(4, socket.MSG_PEEK) == b"HTTP"
    still, since = -1, time.monotonic()
    while time.monotonic() - since < 1:  # nothing has moved for a second
        if double.sent != still:
            still, since = double.sent, time.monotonic()
        assert double.sent < 64 << 20
        time.sleep(0.05)
    assert roles.memory("weir-api") - memory < 8
    got = 0
    while got < 100 << 20:  # the control: it goes on as soon as the client does
        got += len(s.recv(1 << 20))
    assert double.sent > still
    s.close()
    assert double.ended.wait(60)


def request(box, stream):
    body = json.dumps({"cmd": "true", "stream": stream}).encode()
    host, _, port = box.api.host.rpartition(":")
    s = socket.socket()
    if stream:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.settimeout(60)
    s.connect((host, int(port)))
    s.sendall(f"POST {box.path}/exec{'?stream=true' if stream else ''} HTTP/1.1\r\nHost: x\r\n"
              f"X-Api-Key: {box.api.key}\r\nContent-Type: application/json\r\n"
              f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def wait(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)
