"""Visitors in masses: connections that are held, readers and writers that do not go on, a service
that dies under them. What each costs the edge has a bound, and the others are served."""

import resource
import selectors
import socket

import pytest
from conftest import Roles
from kit.api import Api
from kit.daemon import Daemon
from kit.ingress import Door

IDLE_KIB = 4  # of the edge's process, for a connection that has asked and waits
SLOW_KIB = 640  # two pieces, two heads, and what an allocator keeps beside them

# Every connection is one task; /stall is never answered nor read, /bulk never ends.
SERVICE = r"""
import asyncio, os
async def serve(r, w):
    try:
        while head := await r.readuntil(b"\r\n\r\n"):
            if b" /stall" in head:
                open("/root/stalled", "ab").write(b"x")
                await asyncio.sleep(3600)
            if b" /bulk" in head:
                w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
                while True:
                    w.write(bytes(65536))
                    await w.drain()
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await w.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        w.close()
async def main():
    await asyncio.start_server(serve, "0.0.0.0", 8000, backlog=4096)
    open("/root/pid", "w").write(str(os.getpid()))
    await asyncio.sleep(36000)
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def house():
    """A daemon of its own, whose edge has held nothing when the first test begins."""
    with Daemon() as daemon:
        box = Api(daemon.url, daemon.key).create(ingress_enabled=True)
        box.put("/root/service.py", SERVICE.encode())
        r = box.sh("setsid python3 /root/service.py >/root/log 2>&1 </dev/null & timeout 55 bash -c "
                   "'until [ -s /root/pid ]; do sleep 0.05; done'")
        assert r.code == 0, r
        daemon.box, daemon.door = box, Door({"run_dir": daemon.run_dir})
        assert daemon.door.get(box, 8000).status == 200
        yield daemon


def connect(door, i=0, receive=None):
    """From one of some addresses: each may have a third of all connections."""
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(120)
    s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    s.bind((f"127.0.0.{10 + i // 2000}", 0))
    s.connect(door.at)
    return s


ANSWER = b"HTTP/1.1 200 OK\r\n"


def ask_all(conns, ask):
    """The same request on all at once; how many were answered."""
    waiting = selectors.DefaultSelector()
    for s in conns:
        s.sendall(ask)
        waiting.register(s, selectors.EVENT_READ)
    answered = 0
    while left := len(waiting.get_map()):
        ready = waiting.select(120)
        assert ready, f"{left} of {len(conns)} are left without an answer"
        for key, _ in ready:
            data = key.fileobj.recv(4096)
            answered += data.startswith(ANSWER) and data.endswith(b"ok")
            waiting.unregister(key.fileobj)
    waiting.close()
    return answered


def fill(conns):
    """Send on all until none takes more: they are stopped. Whoever took all of it was not."""
    waiting, data, sent = selectors.DefaultSelector(), bytes(1 << 16), 0
    for s in conns:
        s.setblocking(False)
        waiting.register(s, selectors.EVENT_WRITE)
    while ready := waiting.select(0.5):
        sent += sum(key.fileobj.send(data) for key, _ in ready)
        assert sent < len(conns) * (64 << 20), "nobody stops it"
    waiting.close()


def test_I4_connections_are_held(house, long, figures):
    n_idle, n_busy, rounds = (10000, 1000, 20) if long else (500, 100, 5)
    roles, door = Roles(house.process.pid), house.door
    ask = door.ask(house.box, 8000).encode()
    before = roles.memory("weir-edge")
    idle = []
    for at in range(0, n_idle, 500):
        some = [connect(door, at + i) for i in range(500)]
        assert ask_all(some, ask) == len(some)
        idle += some
    kib = (roles.memory("weir-edge") - before) * 1024 / n_idle
    busy = [connect(door, n_idle + i) for i in range(n_busy)]
    for _ in range(rounds):
        assert ask_all(busy, ask) == n_busy
    for s in idle[::97]:  # they are still there
        assert ask_all([s], ask) == 1
    figures(idle=n_idle, busy=n_busy, requests=rounds * n_busy, idle_kib=round(kib, 2))
    # The first 500 also pay for what is shared by all.
    assert kib <= IDLE_KIB * (1 if long else 4)
    for s in idle + busy:
        s.close()


def test_I4_who_does_not_go_on_costs_little(house, long, figures):
    n = 100 if long else 16
    roles, door, box = Roles(house.process.pid), house.door, house.box
    before = roles.memory("weir-edge")
    readers = [connect(door, receive=4096) for _ in range(n)]
    for s in readers:
        s.sendall(door.ask(box, 8000, "/bulk").encode())
        assert s.recv(17).startswith(ANSWER)
    writers = [connect(door) for _ in range(n)]
    head = door.ask(box, 8000, "/stall", "Content-Length: 1000000000", method="POST").encode()
    for s in writers:
        s.sendall(head)
    fill(writers)
    kib = (roles.memory("weir-edge") - before) * 1024 / (2 * n)
    assert door.get(box, 8000).status == 200  # beside them
    figures(slow=2 * n, slow_kib=round(kib, 1))
    assert kib <= SLOW_KIB

    # The service dies: who waits for it hears so, as does who comes next.
    stalled = connect(door)
    stalled.sendall(door.ask(box, 8000, "/stall?").encode())
    assert box.sh(f"timeout 55 bash -c 'until [ $(stat -c %s /root/stalled) -gt {n} ]; do sleep 0.02; "
                  "done'; kill -9 $(cat /root/pid)").code == 0
    stalled.settimeout(60)
    assert stalled.recv(4096).startswith(b"HTTP/1.1 502 ")
    assert door.get(box, 8000).status == 502
    for s in readers[:16]:  # half an answer is no answer: a reset
        s.settimeout(60)
        with pytest.raises(ConnectionResetError):
            while s.recv(1 << 20):
                pass
    for s in readers + writers:
        s.close()
