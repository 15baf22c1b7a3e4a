"""OpenSandbox's execd: commands whose client does not read, an api role that is killed, and services
through its proxy."""

import hashlib
import json
import os
import socket
import threading
import urllib.parse

from kit.daemon import wait_until
from kit.ingress import Wire, serve

FLOOD_LINES = 500_000
LINE = "0123456789" * 4  # and a line end: 20 MB in all


def stream(daemon, box, command):
    """A /command whose answer nobody has read yet."""
    where = urllib.parse.urlsplit(daemon.url)
    s = socket.create_connection((where.hostname, where.port), timeout=120)
    body = json.dumps({"command": command}).encode()
    s.sendall(f"POST /sandboxes/{box.id}/proxy/44772/command HTTP/1.1\r\nHost: x\r\n"
              f"X-Api-Key: {daemon.api.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def init(s):
    """The id of the command, from the first event."""
    got = b""
    while b'"init"' not in got or b"\n\n" not in got.split(b'"init"')[1]:
        got += s.recv(4096)
    return json.loads(next(line for line in got.split(b"\n") if b'"init"' in line))["text"]


def status(daemon, box, command):
    return daemon.api.request("GET", f"/sandboxes/{box.id}/proxy/44772/command/status/{command}").json


def test_slow_readers_and_a_killed_role(other_daemon):
    daemon = other_daemon()
    box = daemon.api.create()
    box.sh("true")
    before = daemon.memory("VmRSS")["api"]

    # Who does not read is waited for, at the cost of a few frames each.
    flood = f"yes {LINE} | head -n {FLOOD_LINES}; echo over >/tmp/over"
    slow = [stream(daemon, box, flood) for _ in range(8)]
    commands = [init(s) for s in slow]
    quick = stream(daemon, box, "echo quick")
    assert len(init(quick)) == 32  # the others do not hold it up
    assert all(status(daemon, box, c)["running"] for c in commands)
    assert daemon.memory("VmRSS")["api"] - before < 8 * 16 * 1024
    assert box.sh("ls /tmp/over").code != 0
    # The control: those who read get all of it, and the command ends.
    reader = slow.pop()
    seen = 0
    reader.settimeout(120)
    while not seen or b"execution_complete" not in piece:
        piece = (piece[-100:] if seen else b"") + reader.recv(1 << 20)
        seen += len(piece)
    assert seen > FLOOD_LINES * 0.5 * len(LINE)
    assert wait_until(lambda: box.sh("ls /tmp/over").code == 0, 120)

    # The role goes; a command that was streamed goes on, and can be asked about.
    alive = stream(daemon, box, "until [ -e /tmp/go ]; do sleep 0.2; done; exit 5")
    command = init(alive)
    daemon.kill9(daemon.role("api"))
    try:
        while alive.recv(4096):
            pass  # the client hears of it by the end of its stream
    except ConnectionResetError:
        pass
    assert wait_until(lambda: daemon.api.request("GET", "/readyz", key=False).status == 200, 120)
    assert status(daemon, box, command)["running"]
    box.sh("touch /tmp/go")
    assert wait_until(lambda: not status(daemon, box, command)["running"], 120)
    assert status(daemon, box, command)["exit_code"] == 5
    for s in slow:
        s.close()

    # Who is at a terminal when the daemon stops is told so: a Close frame of 1001.
    base = f"/sandboxes/{box.id}/proxy/44772/pty"
    where = urllib.parse.urlsplit(daemon.url)
    w = Wire(socket.create_connection((where.hostname, where.port), timeout=120))
    pty = daemon.api.request("POST", base, {}).json["session_id"]
    w.send(f"GET {base}/{pty}/ws HTTP/1.1\r\nHost: x\r\nX-Api-Key: {daemon.api.key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert w.head().status == 101
    w.until(b"connected")
    daemon.terminate()
    w.until(b"\x03\xe9the daemon stops")
    assert w.ended()


def test_a_service_through_execd(make_box, api):
    """/proxy/{port}: to loopback, as ever long as bodies are, events when they are said, and raw
    bytes after an upgrade that the service agrees to."""
    box = serve(make_box(), 8000, "127.0.0.1")
    where = urllib.parse.urlsplit(api.url)
    base = f"/sandboxes/{box.id}/proxy/44772/proxy/8000"

    def connect():
        return Wire(socket.create_connection((where.hostname, where.port), timeout=120))

    def ask(path, more="", method="GET"):
        return f"{method} {base}{path} HTTP/1.1\r\nHost: weir.example\r\nX-Api-Key: {api.key}\r\n{more}\r\n"

    w = connect()
    for path in ("/a%20b?c=%2F", ""):
        a = w.send(ask(path, "Cookie: a=b\r\n")).answer()
        assert a.status == 200 and a.json["line"] == f"GET {path or '/'} HTTP/1.1"
        assert a.saw("host") == ["127.0.0.1:8000"] and a.saw("cookie") == ["a=b"]
        assert a.saw("x-api-key") == [] and a.saw("x-forwarded-for") == [where.hostname]
    assert w.send(ask("/bulk/33554432")).answer().body == bytes(range(256)) * 131072
    body = os.urandom(16 << 20)
    w.send(ask("/", f"Content-Length: {len(body)}\r\n", "PUT")).send(body)
    assert w.answer().body.decode() == hashlib.sha256(body).hexdigest()

    # The second event is not said before the first was seen.
    events = connect().send(ask("/events"))
    assert events.head().headers["content-type"] == "text/event-stream"
    for i in range(3):
        events.until(b"data: %d\n\n" % i)
        box.sh("echo >/root/next.8000")
    events.until(b"0\r\n\r\n")

    tunnel = connect().send(ask("/ws", "Connection: upgrade\r\nUpgrade: WebSocket\r\n"))
    a = tunnel.head()
    assert a.status == 101 and a.headers["upgrade"] == "WebSocket"
    text = b"x" * (1 << 20)
    sender = threading.Thread(target=lambda: tunnel.send(text))
    sender.start()
    assert tunnel.exactly(len(text)) == text.upper()
    sender.join()
    # Half-closed, the service says its last and both are gone.
    tunnel.sock.shutdown(socket.SHUT_WR)
    assert tunnel.ended()

    # A pause cuts what is open; nothing listens on 8001.
    events = connect().send(ask("/events"))
    events.until(b"data: 0\n\n")
    box.pause()
    events.until(b"\r\n")  # of the chunk
    assert events.ended()
    box.resume()
    base = base.replace("8000", "8001")
    a = w.send(ask("/")).answer()
    assert a.status == 502 and a.json["code"] == "BACKEND_CONNECTION_FAILED"
