"""Tunnels in the api role, with an agent that echoes on port 7; see test_role.py."""

import os
import socket
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_role import role, settings, until  # noqa: E402, F401

UPGRADE = {"Connection": "keep-alive, Upgrade", "Upgrade": "TCP-tunnel", "Content-Length": "0"}


def ask(role, sb, port, headers=UPGRADE, method="POST", more=b""):
    s = socket.create_connection(("127.0.0.1", role.port), 20)
    lines = [f"{method} /v1/sandboxes/{sb}/tunnel/{port} HTTP/1.1", "Host: x", f"X-Api-Key: {role.key}"]
    lines += [f"{k}: {v}" for k, v in headers.items()]
    s.sendall("\r\n".join(lines + ["", ""]).encode() + more)
    return s


def head(s):
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        assert byte, text
        text += byte
    return text.decode()


def tunnel(role, sb, port=7, **kw):
    s = ask(role, sb, port, **kw)
    text = head(s)
    assert text.startswith("HTTP/1.1 101 ") and "upgrade: tcp-tunnel" in text.lower(), text
    names = [line.split(":")[0].lower() for line in text.split("\r\n")[1:] if line]
    assert len(names) == len(set(names)) and "connection" in names
    return s


def rest(s):
    data = b""
    while piece := s.recv(65536):
        data += piece
    return data


def test_bytes_pass_and_ends_are_halves(role):
    sb = role.create()["id"]
    s = tunnel(role, sb, more=b"early ")  # what came with the head is not lost
    s.sendall(b"late")
    s.shutdown(socket.SHUT_WR)
    assert rest(s) == b"early late"
    until("no tunnel is left", lambda: role.post(f"/v1/sandboxes/{sb}/pause").status in (200, 202))


def test_more_than_any_buffer_holds(role):
    """Sent to its end before anything is read: each side waits for the other."""
    s = tunnel(role, role.create()["id"])
    body = os.urandom(1 << 20) * 6
    sender = threading.Thread(target=lambda: (s.sendall(body), s.shutdown(socket.SHUT_WR)))
    sender.start()
    back = rest(s)
    assert (len(back), back == body) == (len(body), True)
    sender.join()


def test_refusals(role):
    sb = role.create()["id"]
    for port, headers, status, word in (
            (0, UPGRADE, 400, "65535"), (65536, UPGRADE, 400, "65535"), ("x", UPGRADE, 400, "65535"),
            (1028, UPGRADE, 400, "agent"), (7, {}, 400, "Upgrade"),
            (7, {"Connection": "Upgrade", "Upgrade": "websocket"}, 400, "tcp-tunnel"),
            (7, {"Upgrade": "tcp-tunnel"}, 400, "tcp-tunnel"), (81, UPGRADE, 502, "81")):
        s = ask(role, sb, port, {**headers, "Connection": headers.get("Connection", "close")})
        text = head(s)
        assert f" {status} " in text.split("\r\n")[0] and "application/json" in text, (port, text)
        length = int(text.lower().split("content-length: ")[1].split("\r\n")[0])
        assert word in s.recv(length).decode()
        s.close()
    role.post(f"/v1/sandboxes/sb-{'0' * 26}/tunnel/7").fails(404, "id")
    role.get(f"/v1/sandboxes/{sb}/tunnel/7").fails(405)


def test_a_service_that_hangs_up(role):
    s = tunnel(role, role.create()["id"], 9)
    assert rest(s) == b""


def test_a_pause_breaks_it(role):
    sb = role.create()["id"]
    s = tunnel(role, sb)
    s.sendall(b"x")
    assert s.recv(1) == b"x"
    role.post(f"/v1/sandboxes/{sb}/pause")
    assert rest(s) == b""
    role.settled(sb, "paused")
    text = head(ask(role, sb, 7))
    assert " 409 " in text


def test_clients_that_leave(role):
    sb = role.create()["id"]
    for _ in range(20):
        ask(role, sb, 7).close()
        tunnel(role, sb).close()
    many = [tunnel(role, sb) for _ in range(128)]
    until("one too many", lambda: " 503 " in head(ask(role, sb, 7)))
    for s in many:
        s.close()
    until("room again", lambda: " 101 " in head(ask(role, sb, 7)))
