"""weir forward, and the tunnels below it, against services of real sandboxes."""

import concurrent.futures
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from kit.api import Refused, listening
from kit.ingress import Wire

# One word chooses what the service does with a connection.
SERVICE = r"""
import hashlib, socket, sys, threading
def talk(s):
    f = s.makefile("rb")
    word = f.readline().strip()
    if word == b"upper":  # line by line
        for line in f:
            s.sendall(line.upper())
    elif word == b"digest":  # what came until the end, told after it
        d = hashlib.sha256()
        while data := f.read1(65536):
            d.update(data)
        s.sendall(d.hexdigest().encode())
    elif word == b"bulk":
        for _ in range(64):
            s.sendall(bytes(range(256)) * 4096)
    elif word == b"first":  # ends its side, then listens on
        s.sendall(b"that is all")
        s.shutdown(socket.SHUT_WR)
        open("/root/heard", "wb").write(f.read())
    s.close()
l = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
while True:
    threading.Thread(target=talk, args=(l.accept()[0],), daemon=True).start()
"""


def listen(box, port):
    box.put("/root/tcp.py", SERVICE.encode())
    r = box.sh(f"setsid python3 /root/tcp.py {port} >/root/log.{port} 2>&1 </dev/null & "
               + listening(port))
    assert r.code == 0, r


class Forward:
    """weir forward under way: ports[i] is where the i-th word listens."""

    def __init__(self, box, *words):
        self.process = subprocess.Popen(["weir", "forward", box.id, *words], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = [self.process.stdout.readline().strip() for word in words if ":" in word]
        self.ports = [int(re.search(r":(\d+) -> |\"local\":(\d+)", x).expand(r"\1\2"))
                      for x in self.lines]

    def connect(self, i=0, host="127.0.0.1"):
        return Wire(socket.create_connection((host, self.ports[i]), timeout=120))

    def complains(self, *words):
        """Read what it says until all of these were in one line."""
        while line := self.process.stderr.readline():
            if all(word in line for word in words):
                return
        raise AssertionError(f"it never said {words}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0
        self.process.stdout.close()
        self.process.stderr.close()


def rest(wire):
    parts = [wire.have]
    while data := wire.sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


def test_several_ports_and_both_families(make_box):
    box = make_box()  # no ingress: a tunnel is the owner's
    listen(box, 7000)
    listen(box, 7001)
    with Forward(box, "0:7000", "[::1]:0:7001", "localhost:0:7000") as f:
        assert f.lines[0] == f"127.0.0.1:{f.ports[0]} -> 7000"
        assert f.lines[1] == f"[::1]:{f.ports[1]} -> 7001"
        for i, host in enumerate(("127.0.0.1", "::1", "127.0.0.1")):
            w = f.connect(i, host).send("upper\n").send("hello\n")
            assert w.until(b"\n") == b"HELLO\n"
            w.close()
    try:
        w = f.connect()
    except ConnectionRefusedError:
        return
    # The number may be somebody else's by now, who knows nothing of our service.
    w.sock.settimeout(10)
    try:
        assert w.send("upper\nhello\n").sock.recv(100) != b"HELLO\n"
    except OSError:
        pass


def test_half_closes_either_way(make_box):
    box = make_box()
    listen(box, 7000)
    data = os.urandom(8 << 20)
    with Forward(box, "0:7000") as f:
        w = f.connect().send(b"digest\n" + data)
        w.sock.shutdown(socket.SHUT_WR)
        assert rest(w).decode() == hashlib.sha256(data).hexdigest()
        w = f.connect().send("first\n")
        assert rest(w) == b"that is all"  # its end came through
        w.send(b"and more")  # and ours is still open
        w.sock.shutdown(socket.SHUT_WR)
        assert box.sh("until [ -s /root/heard ]; do sleep 0.2; done; cat /root/heard").stdout == \
            "and more"
        assert f.connect().send("bulk\n").exactly(64 << 20) == bytes(range(256)) * (256 << 10)


def test_a_hundred_connections_at_once(make_box):
    box = make_box()
    listen(box, 7000)
    all_there = threading.Barrier(100)
    with Forward(box, "0:7000") as f:

        def one(i):
            w = f.connect().send("upper\n")
            all_there.wait(120)
            for k in range(5):
                w.send(f"line {i} {k}\n")
                assert w.until(b"\n") == b"LINE %d %d\n" % (i, k)
            w.close()
            return True

        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            assert all(pool.map(one, range(100)))
        w = f.connect().send("upper\nstill\n")
        assert w.until(b"\n") == b"STILL\n"


def test_a_refused_port_says_so_and_the_others_go_on(make_box):
    box = make_box()
    listen(box, 7000)
    with Forward(box, "0:7000", "0:7777") as f:
        assert f.connect(1).ended()
        f.complains("7777")
        w = f.connect(0).send("upper\nx\n")
        assert w.until(b"\n") == b"X\n"
        listen(box, 7777)
        assert f.connect(1).send("upper\ny\n").until(b"\n") == b"Y\n"


def test_what_cannot_be_forwarded(make_box):
    def refused(code, says, *args):
        done = subprocess.run(["weir", "forward", *args], capture_output=True, text=True, timeout=120)
        assert done.returncode == code and says in done.stderr and not done.stdout, done

    box = make_box()
    for word in ("80", "8000:0", "8000:65536", "x:80", "host.test:8000:80", "::1:8000:80", "1:2:3"):
        refused(2, f'"{word}" is not [ADDRESS:]LOCAL:REMOTE', box.id, word)
    refused(5, "no sandbox", "nobody-here", "0:80")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(1, "Address already in use", box.id, f"{taken.getsockname()[1]}:80")


def test_json_and_an_end_with_its_parent(make_box):
    box = make_box()
    listen(box, 7000)
    with Forward(box, "0:7000", "--json") as f:
        assert json.loads(f.lines[0]) == {"address": "127.0.0.1", "local": f.ports[0], "remote": 7000}
        w = f.connect().send("upper\nx\n")
        assert w.until(b"\n") == b"X\n"
    assert w.ended()


def tunnel(box, port, *lines):
    host, _, at = box.api.host.rpartition(":")
    w = Wire(socket.create_connection((host, int(at)), timeout=120))
    return w.send("\r\n".join([f"POST {box.path}/tunnel/{port} HTTP/1.1", "Host: x",
                               f"X-Api-Key: {box.api.key}", *lines, "", ""]))


UPGRADE = ("Connection: Upgrade", "Upgrade: tcp-tunnel", "Content-Length: 0")


def test_the_route_itself(make_box):
    box = make_box()
    listen(box, 7000)
    w = tunnel(box, 7000, *UPGRADE).send("upper\nwith the head\n")
    answer = w.head()
    assert answer.status == 101 and answer.headers["upgrade"] == "tcp-tunnel"
    assert "upgrade" in answer.headers["connection"].lower()
    assert w.until(b"\n") == b"WITH THE HEAD\n"
    for port, lines, status, says in ((7777, UPGRADE, 502, "7777"), (1028, UPGRADE, 400, "agent"),
                                      (0, UPGRADE, 400, "65535"), (7000, (), 400, "tcp-tunnel")):
        answer = tunnel(box, port, *lines).answer()
        assert answer.status == status and says in answer.body.decode(), answer.body
        assert answer.json["status"] in ("fail", "error")
    w.send("still\n")  # control: refusals concern nobody else
    assert w.until(b"\n") == b"STILL\n"
    box.pause()
    assert w.ended()
    answer = tunnel(box, 7000, *UPGRADE).answer()
    assert answer.status == 409, answer.body
    box.destroy()
    with pytest.raises(Refused):
        box.api.ok("POST", f"{box.path}/tunnel/7000")
    assert tunnel(box, 7000, *UPGRADE).answer().status in (404, 409)
