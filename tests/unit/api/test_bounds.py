"""What one client or one sandbox can take from the others: a share, and never the last of it."""

import json
import os
import socket
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_role import role, settings, until  # noqa: E402, F401


def memory(role):
    for line in open(f"/proc/{role.pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) >> 10


def kept_within(role, before, mib):
    """A sanitizer keeps what was freed for a while."""
    with open(f"/proc/{role.pid}/exe", "rb") as f:
        sanitized = b"__asan_init" in f.read()
    return memory(role) - before < mib + 768 * sanitized


def held(role):
    for line in role.get("/metrics").body.decode().splitlines():
        if line.startswith("weir_exec_held_bytes "):
            return int(line.split()[1])


def unread(role, text):
    """A request whose answer nobody reads."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", role.port))
    s.sendall(text)
    return s


def head(role, method, path, n):
    return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {role.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {n}\r\n\r\n").encode()


def test_exec_tells_much_in_pieces(role):
    sb = role.create()["id"]
    text = "a" + "\u20ac\u00fc\U0001f600" * 60000
    r = role.exec(sb, "bytes", text.encode().hex())
    assert r.headers["transfer-encoding"] == "chunked"
    assert r.data["result"] == {"stdout": text, "stderr": "", "exit_code": 0}
    assert isinstance(r.data["exec_ms"], (int, float))
    r = role.exec(sb, "bytes", (b"\xe2\x82" + b"\0" * 200000 + b"\xf0\x9f").hex()).data["result"]
    assert r["stdout"] == "\ufffd\ufffd" + "\0" * 200000 + "\ufffd\ufffd"
    assert held(role) == 0


def test_answers_that_nobody_reads(role):
    sb = role.create()["id"]
    body = json.dumps({"cmd": "flood", "args": ["16384"]}).encode()
    before = memory(role)
    kept = [unread(role, head(role, "POST", f"/v1/sandboxes/{sb}/exec", len(body)) + body)
            for _ in range(20)]
    for s in kept:
        assert s.recv(4, socket.MSG_PEEK) == b"HTTP"  # its command is over
    other = role.create()["id"]  # its neighbour does not notice
    for _ in range(20):
        assert len(role.exec(other, "flood", "4096").data["result"]["stdout"]) == 4 << 20
        assert held(role) <= 64 << 20  # a fifth of all, however many commands one sandbox runs
        assert kept_within(role, before, 150)
    for s in kept:
        s.close()
    until("let go", lambda: held(role) == 0)


def test_bodies_that_never_end(role):
    before = memory(role)
    kept = [unread(role, head(role, "POST", "/v1/sandboxes", 8 << 20)) for _ in range(60)]
    for s in kept:
        s.settimeout(5)
        try:
            s.sendall(b" " * ((8 << 20) - 1))
        except OSError:
            pass  # refused: no memory for it
    role.create()
    assert kept_within(role, before, 320)
    for s in kept:
        s.close()


@pytest.mark.parametrize("settings", [["api.connections_max = 32"]])
def test_no_key_holds_all_connections(role):
    sb = role.create()["id"]
    streams = [role.stream(f"/v1/sandboxes/{sb}/denials?follow=true") for _ in range(8)]
    assert all(r.status == 200 for r in streams)
    role.get("/v1/whoami").fails(429, "rate")
    assert role.get("/healthz", key=None).status == 200
    streams.pop().connection.close()
    key = until("room again", lambda: (lambda a: a.data["key"] if a.status < 300 else None)(
        role.post("/v1/keys", {"name": "other"})))
    streams.append(role.stream(f"/v1/sandboxes/{sb}/denials?follow=true"))
    assert role.get("/v1/whoami", key=key).status == 200  # every key has its own
    for r in streams:
        r.close()
        r.connection.close()


def test_an_edge_is_told_in_step(role):
    """SYNCED means that every SET has been taken; a few are under way at a time."""
    ids = [role.create()["id"] for _ in range(150)]
    role.calls()
    role.host("hold SET")
    role.host("edge")
    told = []
    until("all are told", lambda: (told.extend(role.calls()), len(told) >= len(ids))[1])
    assert sorted(c[1] for c in told) == sorted(ids) and {c[0] for c in told} == {"SET"}
    role.host("release")
    until("the edge knows that it has all", lambda: ["SYNCED"] == [c[0] for c in role.calls()])
