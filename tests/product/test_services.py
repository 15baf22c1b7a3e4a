"""Services of real sandboxes, reached from outside."""

import hashlib
import os

import pytest

from kit.ingress import Door, serve


@pytest.fixture
def door(about):
    return Door(about)


@pytest.fixture(scope="module")
def served(make_lasting_box):
    """On 8000 for all, on 8001 by loopback alone."""
    return serve(make_lasting_box(ingress_enabled=True), 8000, also=[(8001, "127.0.0.1")])


def test_routable_as_soon_as_create_answers(make_box, door):
    box = make_box(ingress_enabled=True)
    assert door.get(box, 8000).status == 502  # known, and nothing listens
    serve(box, 8000)
    for tls in (False, True):
        answer = door.get(box, 8000, "/a?b=c", "Authorization: Bearer mine", tls=tls)
        assert answer.status == 200 and answer.json["line"] == "GET /a?b=c HTTP/1.1"
        assert answer.saw("host") == ["localhost:8000"]
        assert answer.saw("authorization") == ["Bearer mine"]
        assert answer.saw("x-forwarded-proto") == ["https" if tls else "http"]
    serve(box, 8001, "127.0.0.1", also=[(8002, "::1")])
    for port in (8001, 8002):  # through the agent
        assert door.get(box, port).status == 200
    box.sh("pkill -f servic[e].py; while pgrep -f servic[e].py; do sleep 0.1; done")
    assert door.get(box, 8000).status == 502


def test_the_three_ways_to_name_a_port(served, door):
    box, w = served, door.connect()
    for text in (door.ask(box, 8000, "/x"),
                 f"GET /x HTTP/1.1\r\nHost: h\r\nOpenSandbox-Ingress-To: {box.id}-8000\r\n\r\n",
                 f"GET /{box.id}/8000/x HTTP/1.1\r\nHost: h\r\n\r\n",
                 f"GET /sandboxes/{box.id}/proxy/8000/x HTTP/1.1\r\nHost: h\r\n\r\n"):
        assert w.send(text).answer().json["line"] == "GET /x HTTP/1.1"


@pytest.mark.parametrize("port", [8000, 8001])
def test_streams_both_ways(served, door, machines, port):
    box, mib = served, 8 if machines else 64
    w = door.connect().send(door.ask(box, port, "/events"))
    assert w.head().status == 200
    for i in range(3):
        assert w.until(b"\n\n") == b"data: %d\n\n" % i
        box.sh(f"echo > /root/next.{port}")
    assert w.ended()
    w = door.connect().send(door.ask(box, port, "/", "Connection: Upgrade", "Upgrade: websocket"))
    assert w.head().status == 101
    for i in range(100):
        w.send("message %03d" % i)
        assert w.exactly(11) == b"MESSAGE %03d" % i
    w.close()
    data = os.urandom(1 << 20)
    w = door.connect().send(door.ask(box, port, "/", f"Content-Length: {mib << 20}", method="PUT"))
    digest = hashlib.sha256()
    for _ in range(mib):
        digest.update(data)
        w.send(data)
    assert w.answer().body.decode() == digest.hexdigest()
    w.send(door.ask(box, port, f"/bulk/{mib << 20}"))
    assert w.answer().body == bytes(range(256)) * (mib << 12)


def test_off_paused_and_gone(make_box, door):
    box = serve(make_box(ingress_enabled=True), 8000)
    w = door.connect()
    assert w.send(door.ask(box, 8000)).answer().status == 200
    box.api.ok("PATCH", box.path, {"ingress_enabled": False})
    assert w.send(door.ask(box, 8000)).answer().status == 404
    box.api.ok("PATCH", box.path, {"ingress_enabled": True})
    assert w.send(door.ask(box, 8000)).answer().status == 200
    box.pause()
    assert w.send(door.ask(box, 8000)).answer().status == 503
    box.resume()
    assert w.send(door.ask(box, 8000)).answer().status == 200
    box.api.ok("PATCH", box.path, {"ingress_hold": True})
    box.pause()
    assert w.send(door.ask(box, 8000)).answer().status == 200  # it waited, and that woke it
    assert box.status == "running"
    box.destroy()
    assert w.send(door.ask(box, 8000)).answer().status == 404
