"""Floods of clients: too many connections, too slow, too large. What they get is a clear refusal,
what the others get is what they always got."""

import http.client
import json
import os
import re
import resource
import signal
import socket
import threading
import time

import pytest
from conftest import LONG, Roles, beside_programs, only_long, steady

SLOW_S = 75  # the longest of the named limits (60 s and a sweep) and some


@pytest.fixture(autouse=True)
def files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(host, source="127.0.0.2", receive=None):
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(60)
    s.bind((source, 0))
    name, _, port = host.rpartition(":")
    s.connect((name, int(port)))
    return s


def p99(api, n=200, patience=60):
    """Milliseconds of a request on a connection that is kept. Each is answered, within some patience."""
    c, times = http.client.HTTPConnection(api.host, timeout=patience), []
    for _ in range(n):
        start = time.monotonic()
        c.request("GET", "/v1/sandboxes?limit=1", headers={"X-Api-Key": api.key})
        r = c.getresponse()
        r.read()
        times.append((time.monotonic() - start) * 1000)
        assert r.status == 200
    c.close()
    return sorted(times)[n - 1 - n // 100]


class Bystander:
    """A client who wants nothing but its answers, before and in a flood. In the long form it also compares
    its p99 with what that was without: alone, and beside busy programs."""

    def __init__(self, api):
        self.api = api
        if LONG:
            self.quiet, self.busy = p99(api), beside_programs(lambda: p99(api))

    def served(self):
        """Now, in the flood. Returns figures."""
        loud = p99(self.api)
        if not LONG:
            return {}
        seen = iter([loud])
        p99s = steady(lambda: (self.quiet, next(seen, None) or p99(self.api)), lambda: self.busy)
        return {f"{name}_p99_ms": round(ms, 2) for name, ms in zip(("quiet", "busy", "loud"), p99s)}


def test_I4_control_a_bystander_who_is_not_served_is_seen(api, roles):
    """Here the role stands, as one does that a flood keeps busy."""
    pid = roles.pids["weir-api"]
    assert p99(api, 10) > 0
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            p99(api, 1, patience=1)
    finally:
        os.kill(pid, signal.SIGCONT)


def head(api, method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", f"X-Api-Key: {api.key}", *lines, "",
                        ""]).encode()


def answer(s):
    """What came until the server closed, or None if it did neither."""
    data = b""
    try:
        while piece := s.recv(65536):
            data += piece
    except socket.timeout:
        return None
    except ConnectionError:
        pass
    return data


def status(data):
    return int(data.split()[1]) if data else None


def test_I4_ten_thousand_connections(other_daemon, long, figures):
    most, mine = (10000, 7500) if long else (1600, 1200)
    daemon = other_daemon({"api.connections_max": str(most),
                           "api.connections_per_address": str(mine)})
    api, roles = daemon.api, Roles(daemon.process.pid)
    bystander, memory = Bystander(api), roles.memory("weir-api")

    def served(n, source):  # so that each counts as one that may ask again, and not as a slow head
        all_of = [connect(daemon.address, source) for _ in range(n)]
        for s in all_of:
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert all(s.recv(4096).startswith(b"HTTP/1.1 200") for s in all_of)
        return all_of
    idle = served(mine, "127.0.0.2")
    refused = [answer(connect(daemon.address)) for _ in range(20)]
    for data in refused:
        assert status(data) == 503 and b"per address" in data, data
    # Another address still gets what is left of all, and no more.
    others = served(most - mine - 10, "127.0.0.3")
    seen = bystander.served()
    others += served(10, "127.0.0.3")
    flood = [connect(daemon.address, "127.0.0.4") for _ in range(2000 if long else 200)]
    told = [answer(s) for s in flood[:20]]  # later ones are closed without a word
    assert all(status(d) == 503 and b"connections is reached" in d for d in told), told
    grown = roles.memory("weir-api") - memory
    assert grown < 16 + most * 4 / 1024, grown
    for s in idle + others + flood:
        s.close()
    # Who left made room.
    end = time.monotonic() + 60
    while status(one(daemon.address)) != 200:
        assert time.monotonic() < end
    text = api.request("GET", "/metrics").body.decode()
    assert int(re.search(r'limit="connections_per_address"} (\d+)', text)[1]) >= 20
    assert int(re.search(r'limit="connections_max"} (\d+)', text)[1]) >= 20, text
    figures(connections=most, memory_mib=round(grown, 1), **seen)


def one(address, source="127.0.0.2"):
    try:
        s = connect(address, source)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = answer(s)
        s.close()
        return data
    except OSError:
        return None


def test_I4_the_limit_of_files_is_looked_at(other_daemon):
    """Raised to what the connections need, or, where root may not, a start that is refused."""
    from kit.daemon import Leak, NotReady
    try:
        d = other_daemon({"api.connections_max": "65536"})
    except (NotReady, Leak) as e:
        assert "limit of open files" in str(e)
    else:
        with open(f"/proc/{d.process.pid}/limits") as f:
            files = next(line.split() for line in f if line.startswith("Max open files"))
        assert int(files[4]) > 65536


def test_I4_too_large(api, roles):
    memory = roles.memory("weir-api")
    s = connect(api.host)
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"a" * 40000 + b"\r\n\r\n")
    assert status(answer(s)) == 431
    s = connect(api.host)
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: a\r\n" * 200 + b"\r\n")
    assert status(answer(s)) == 431
    s = connect(api.host)
    s.sendall(head(api, "POST", "/v1/sandboxes", "Content-Length: 99999999999"))
    assert status(answer(s)) == 413
    s = connect(api.host)  # chunked: nobody knows before
    s.sendall(head(api, "POST", "/v1/sandboxes", "Transfer-Encoding: chunked"))
    try:
        for _ in range(100):
            s.sendall(b"20000\r\n" + b" " * 131072 + b"\r\n")
    except OSError:
        pass
    assert status(answer(s)) in (413, None)
    # The control: heads and bodies of an honest size.
    s = connect(api.host)
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: " + b"a" * 16000 +
              b"\r\n\r\n")
    assert status(answer(s)) == 200
    assert roles.memory("weir-api") - memory < 40


def test_I4_pipelining_without_reading(api, roles, figures):
    bystander, memory = Bystander(api), roles.memory("weir-api")
    many, kept = head(api, "GET", "/v1/sandboxes?limit=1") * 50, []
    for _ in range(20):
        s = connect(api.host, receive=4096)
        s.setblocking(False)
        sent = 0
        try:
            while sent < 8 << 20:
                sent += s.send(many)
        except BlockingIOError:
            pass
        kept.append(s)
    seen = bystander.served()
    assert roles.memory("weir-api") - memory < 24
    s = connect(api.host)  # the control: who reads gets every answer, in order
    s.sendall(head(api, "GET", "/healthz") * 500 + head(api, "GET", "/healthz", "Connection: close"))
    assert len(re.findall(rb"HTTP/1.1 200", answer(s))) == 501
    for s in kept:
        s.close()
    figures(**seen)


@only_long
def test_I4_control_a_client_who_is_hurt_is_seen(api, roles):
    """steady() says so where a flood takes more than time slices: here the role stands for a second."""
    pid, quiet = roles.pids["weir-api"], p99(api, 50)

    def hurt():
        os.kill(pid, signal.SIGSTOP)
        going_on = threading.Timer(1, os.kill, (pid, signal.SIGCONT))
        going_on.start()
        try:
            return p99(api, 50)
        finally:
            going_on.join()
    with pytest.raises(AssertionError, match="beside the flood"):
        steady(lambda: (quiet, hurt()), lambda: beside_programs(lambda: p99(api, 50)), times=1)


def test_I4_slow_readers(make_box, api, roles, long, figures):
    box = make_box(egress=[])
    assert box.sh("head -c 64000000 /dev/zero >/root/big").code == 0
    bystander, memory = Bystander(api), roles.memory("weir-api")
    kept, n = [], 200 if long else 30
    for i in range(n):
        s = connect(api.host, receive=4096)
        body = json.dumps({"cmd": "yes", "args": ["x" * 1000], "stream": True})
        s.sendall(head(api, "GET", f"{box.path}/files?path=/root/big") if i % 2 else
                  head(api, "POST", f"{box.path}/exec?stream=true", "Content-Type: application/json",
                       f"Content-Length: {len(body)}") + body.encode())
        kept.append(s)
    for s in kept:
        assert s.recv(8, socket.MSG_PEEK).startswith(b"HTTP")
    seen = bystander.served()
    grown = roles.memory("weir-api") - memory
    assert grown < 8 + n * 1.5, grown  # what HTTPD_WRITE_HIGH says, and a frame on its way
    if long:  # they are cut, and with them their commands end
        end = time.monotonic() + SLOW_S
        while "yes" in box.sh("cat /proc/[0-9]*/comm").stdout.split():
            assert time.monotonic() < end
            time.sleep(1)
    for s in kept:
        s.close()
    figures(readers=n, memory_mib=round(grown, 1), **seen)


@only_long  # tests/unit/event/test_httpd.c has the same with shorter times
def test_I4_slow_writers(api, roles):
    """Heads have 20 seconds, bodies 256 bytes a second from the sixtieth second on."""
    memory = roles.memory("weir-api")
    heads = [connect(api.host) for _ in range(100)]
    bodies = [connect(api.host) for _ in range(100)]
    text = head(api, "POST", "/v1/sandboxes", "Content-Type: application/json",
                "Content-Length: 100000")
    for s in bodies:
        s.sendall(text + b"{")
    start, at = time.monotonic(), 0
    while heads or bodies:
        for group, most in ((heads, 60), (bodies, 2 * SLOW_S)):
            for s in group[:]:
                try:
                    s.sendall(text[at:at + 1] if group is heads else b" ")
                    s.setblocking(False)
                    data = s.recv(4096)
                except BlockingIOError:
                    s.setblocking(True)
                    assert time.monotonic() - start < most, "still there"
                    continue
                except OSError:
                    data = b""
                assert data == b"" or status(data) == 408, data
                group.remove(s)
                s.close()
        at += 1
        time.sleep(1)  # a byte a second is what this is about
    assert time.monotonic() - start > 15, "cut too soon: an honest head may take a while"
    assert roles.memory("weir-api") - memory < 24
    assert one(api.host) is not None
