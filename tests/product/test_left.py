"""Requests that wait when something else ends: their client leaves, or their sandbox is destroyed.

What they wait for is stopped from outside, so that all of them wait at once: process 1 of the sandbox, or
a role. Each request is known to be good, since it was answered before.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import urllib.parse

import pytest

from kit import strays
from kit.daemon import wait_until

SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
FORM = (b'--x\r\nContent-Disposition: form-data; name="metadata"; filename="m"\r\n\r\n{"path":"/root/u"}\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\ntext\r\n--x--\r\n')
EXECD = "/sandboxes/{id}/proxy/44772"
V0 = "/api/v1/sandboxes/{id}"
V1 = "/v1/sandboxes/{id}"

# What asks the sandbox's agent, in all dialects: what the awake one's answer is, and the request.
ASKS = [
    (200, "POST", V1 + "/exec", {"cmd": "true"}),
    (200, "POST", V1 + "/exec?stream=true", {"cmd": "true", "stream": True}),
    (200, "GET", V1 + "/files?path=/root/f", None),
    (200, "PUT", V1 + "/files?path=/root/g", b"text"),
    (200, "POST", V1 + "/ssh-pubkeys", {"keys": [SSH]}),
    (502, "POST", V1 + "/tunnel/9", None),
    (200, "POST", EXECD + "/command", {"command": "true"}),
    (404, "GET", EXECD + "/command/status/none", None),
    (404, "GET", EXECD + "/command/none/logs", None),
    (500, "DELETE", EXECD + "/command?id=none", None),
    (200, "POST", EXECD + "/session", {}),
    (404, "POST", EXECD + "/session/none/run", {"command": "true"}),
    (404, "DELETE", EXECD + "/session/none", None),
    (200, "GET", EXECD + "/files/info?path=/root/f", None),
    (200, "POST", EXECD + "/files/permissions", {"/root/f": {"mode": 644}}),
    (200, "POST", EXECD + "/files/replace", {"/root/f": {"old": "a", "new": "a"}}),
    (200, "GET", EXECD + "/files/search?path=/root&pattern=f", None),
    (200, "GET", EXECD + "/directories/list?path=/root", None),
    (200, "POST", EXECD + "/directories", {"/root/d": {"mode": 755}}),
    (200, "POST", EXECD + "/files/upload", FORM),
    (200, "GET", EXECD + "/files/download?path=/root/f", None),
    (200, "GET", EXECD + "/code/contexts?language=bash", None),
    (200, "POST", EXECD + "/code/context", {"language": "bash"}),
    (200, "POST", EXECD + "/code", {"code": "true", "context": {"language": "bash"}}),
    (201, "POST", EXECD + "/pty", {}),
    (404, "GET", EXECD + "/pty/none", None),
    (404, "DELETE", EXECD + "/pty/none", None),
    (502, "GET", EXECD + "/proxy/9/", None),
    (200, "GET", V0 + "/files?path=/root/f", None),
    (200, "POST", V0 + "/files?path=/root/h", b"text"),
    (200, "GET", V0 + "/files/stat?path=/root/f", None),
    (200, "GET", V0 + "/files/list?path=/root", None),
    (200, "POST", V0 + "/files/move", {"source": "/root/f", "destination": "/root/f"}),
    (200, "GET", V0 + "/contexts", None),
    (201, "POST", V0 + "/contexts", {"cmd": {"command": ["true"]}}),
    (404, "GET", V0 + "/contexts/none", None),
    (404, "POST", V0 + "/contexts/none/restart", None),
    (404, "POST", V0 + "/contexts/none/input", {"data": "x"}),
    (404, "POST", V0 + "/contexts/none/exec", {"data": "x"}),
    (404, "DELETE", V0 + "/contexts/none", None),
]

# What asks the host role, and the edge.
HOSTED = [
    (200, "GET", EXECD + "/metrics", None),
    (200, "PATCH", V1, {"ingress_enabled": True}),
    (200, "PUT", V1 + "/egress", {"egress": ["allowed.test"]}),
    (200, "PUT", V0, {"config": {"auto_resume": True}}),
    (200, "PUT", V0 + "/services", {"services": []}),
    (200, "PUT", V0 + "/network", {"mode": "allow-all"}),
    (200, "PUT", "/v1/networks/{net}/policy", {"rules": []}),
]
EDGED = [
    (200, "GET", V1 + "/egress/explain?to=allowed.test:443", None),
    (200, "PUT", V1 + "/egress", {"egress": ["allowed.test"]}),
]


class Asked:
    """A request that was sent, on a connection of its own."""

    def __init__(self, daemon, ask, **names):
        expected, method, path, body = ask
        self.what, self.expected = f"{method} {path}", expected
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = ("multipart/form-data; boundary=x" if body is FORM else "application/octet-stream"
                if isinstance(body, bytes) else "application/json")
        lines = [f"{method} {path.format(**names)} HTTP/1.1", "Host: x", f"X-Api-Key: {daemon.key}",
                 f"Authorization: Bearer {daemon.key}", f"Content-Type: {kind}",
                 f"Content-Length: {len(data)}"]
        lines += (["Connection: Upgrade", "Upgrade: tcp-tunnel"] if "/tunnel/" in path
                  else ["Connection: close"])
        where = urllib.parse.urlsplit(daemon.url)
        self.sock = socket.create_connection((where.hostname, where.port), timeout=60)
        self.sock.sendall("\r\n".join(lines + ["", ""]).encode() + data)

    def answer(self):
        reply = http.client.HTTPResponse(self.sock)
        reply.begin()
        body = reply.read()
        self.sock.close()
        return reply.status, body


def connections(daemon):
    text = daemon.api.request("GET", "/metrics").body.decode()
    return int(next(line.split()[1] for line in text.splitlines()
                    if line.startswith("weir_http_connections ")))


@pytest.fixture(scope="module")
def daemon():
    from kit.api import Api
    from kit.daemon import Daemon
    with Daemon({"api.connections_per_address": "400"}) as d:
        d.api = Api(d.url, d.key)
        yield d


class Stopped:
    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):  # it may have been ended meanwhile
            os.kill(self.pid, signal.SIGCONT)


def awake(daemon, asks, **names):
    answers = [(a, *a.answer()) for a in (Asked(daemon, ask, **names) for ask in asks)]
    wrong = [(a.what, status, body[:300]) for a, status, body in answers if status != a.expected]
    assert not wrong, "\n".join(map(str, wrong))


def test_of_a_stopped_agent(daemon):
    box = daemon.api.create()
    box.put("/root/f", b"a file")
    agent, = strays.agents(daemon)
    awake(daemon, ASKS, id=box.id)
    alone = connections(daemon)

    # Their clients leave: nothing of them stays, and the sandbox is as it was.
    with Stopped(agent):
        waiting = [Asked(daemon, ask, id=box.id) for ask in ASKS]
        assert connections(daemon) == alone + len(ASKS), "one of them was answered by nobody's word"
        for a in waiting:
            a.sock.close()
        assert wait_until(lambda: connections(daemon) == alone, 120)
    assert box.sh("cat /root/f").stdout == "a file"

    # Their sandbox goes: each is told, and none waits for the time-out of the agent.
    with Stopped(agent):
        waiting = [Asked(daemon, ask, id=box.id) for ask in ASKS]
        assert connections(daemon) == alone + len(ASKS)
        box.destroy()
        for a in waiting:  # a stream that had begun breaks off
            status, body = a.answer()
            assert 400 <= status < 600 or b"error" in body, (a.what, status, body[:300])


@pytest.mark.parametrize("role, asks", [("host", HOSTED), ("edge", EDGED)], ids=["host", "edge"])
def test_of_a_stopped_role(daemon, role, asks):
    box = daemon.api.create()
    net = daemon.api.ok("POST", "/v1/networks", {"name": f"left-{role}"})["id"]
    awake(daemon, asks, id=box.id, net=net)
    alone = connections(daemon)
    with Stopped(daemon.process.pid if role == "host" else daemon.role(role)):
        waiting = [Asked(daemon, ask, id=box.id, net=net) for ask in asks]
        connections(daemon)
        for a in waiting:
            a.sock.close()
        assert wait_until(lambda: connections(daemon) == alone, 120)
    # What was asked for is done or is not; the role goes on.
    box.set_egress(["denied.test"])
    assert daemon.api.ok("GET", f"{box.path}/egress")
    box.destroy()
