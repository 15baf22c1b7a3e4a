"""Commands by OpenSandbox's execd: a client that does not read, and an api role that is killed."""

import json
import socket
import urllib.parse

from kit.daemon import wait_until

FLOOD_LINES = 500_000
LINE = "0123456789" * 4  # and a line end: 20 MB in all


def stream(daemon, box, command):
    """A /command whose answer nobody has read yet."""
    where = urllib.parse.urlsplit(daemon.url)
    s = socket.create_connection((where.hostname, where.port), timeout=60)
    body = json.dumps({"command": command}).encode()
    s.sendall(f"POST /sandboxes/{box.id}/proxy/44772/command HTTP/1.1\r\nHost: x\r\n"
              f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
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
    wait_until(lambda: box.sh("ls /tmp/over").code == 0, 60)

    # The role goes; a command that was streamed goes on, and can be asked about.
    alive = stream(daemon, box, "until [ -e /tmp/go ]; do sleep 0.02; done; exit 5")
    command = init(alive)
    daemon.kill9(daemon.role("api"))
    try:
        while alive.recv(4096):
            pass  # the client hears of it by the end of its stream
    except ConnectionResetError:
        pass
    wait_until(lambda: daemon.api.request("GET", "/readyz", key=False).status == 200, 60)
    assert status(daemon, box, command)["running"]
    box.sh("touch /tmp/go")
    wait_until(lambda: not status(daemon, box, command)["running"], 60)
    assert status(daemon, box, command)["exit_code"] == 5
    for s in slow:
        s.close()
