"""Ingress: who comes in without being let in, what gets in that should not, and who wears it out."""

import time

import pytest

from kit.ingress import Door, serve


@pytest.fixture
def door(about):
    return Door(about)


def token(box, port, **more):
    return box.api.ok("POST", f"{box.path}/ingress/tokens", {"port": port, **more})


def shown(t):
    return f"X-Weir-Ingress-Token: {t}"


def test_I1_a_token_opens_its_own_door_only(make_box, door):
    box, other = (serve(make_box(ingress_enabled=True, ingress_access="token"), 8000)
                  for _ in range(2))
    serve(box, 8001)
    mine, short = token(box, 8000), token(box, 8000, expires_in_seconds=1)
    text = mine["token"]
    ways = [shown(text), f"Cookie: weir-ingress-token={text}"]
    refused = [(box, 8001, shown(text)), (other, 8000, shown(text)), (box, 8000, "X: y"),
               (box, 8000, shown(text[:-1])), (box, 8000, shown(text + "0")),
               (box, 8000, shown("x" * 8000)), (box, 8000, shown(text.swapcase()))]
    for who, port, line in refused:
        assert door.get(who, port, "/", line).status == 401, line[:100]
    # The control: the same requests with the right token, which the service never sees.
    for line in ways:
        answer = door.get(box, 8000, "/", line)
        assert answer.status == 200 and text not in str(answer.json)
    answer = door.get(box, 8000, f"/?weir_token={text}")
    assert answer.status == 200 and text not in str(answer.json)
    assert door.get(box, 8001, "/", shown(token(box, 8001)["token"])).status == 200
    end = time.monotonic() + 10
    while door.get(box, 8000, "/", shown(short["token"])).status != 401:
        assert time.monotonic() < end, "an expired token still opens"
        time.sleep(0.05)
    box.api.ok("DELETE", f"{box.path}/ingress/tokens/{mine['id']}")
    assert door.get(box, 8000, "/", shown(text)).status == 401


def test_I2_streams_need_the_token_too(make_box, door):
    box = serve(make_box(ingress_enabled=True, ingress_access="token"), 8000)
    text = token(box, 8000)["token"]
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    assert door.get(box, 8000, "/", *upgrade).status == 401
    assert door.get(box, 8000, "/events").status == 401
    w = door.connect().send(door.ask(box, 8000, "/", *upgrade) + "not for you")
    assert w.answer().status == 401
    w = door.connect().send(door.ask(box, 8000, "/", *upgrade, shown(text)))
    assert w.head().status == 101
    assert w.send("hello").exactly(5) == b"HELLO"
    w = door.connect().send(door.ask(box, 8000, "/events", shown(text)))
    assert w.head().status == 200 and w.until(b"\n\n") == b"data: 0\n\n"


def test_I3_names_ports_and_headers_cannot_be_forged(make_box, door):
    box = serve(make_box(ingress_enabled=True), 8000)
    closed = serve(make_box(), 8000)
    # Whom one may not reach, by whichever name.
    for text, status in ((door.ask(closed, 8000), 404),
                         (f"GET /{closed.id}/8000/ HTTP/1.1\r\nHost: h\r\n\r\n", 404),
                         (door.ask(box, 8000, "/", f"OpenSandbox-Ingress-To: {closed.id}-8000"), 404),
                         (door.ask(box, 1028), 403), (door.ask(box, 1029), 403),
                         (f"GET /{box.id}/1028/ HTTP/1.1\r\nHost: h\r\n\r\n", 403),
                         (f"GET http://{door.host(closed, 8000)}/ HTTP/1.1\r\n"
                          f"Host: {door.host(box, 8000)}\r\n\r\n", 400),
                         (f"GET / HTTP/1.1\r\nHost: {door.host(box, 8000)}\r\n"
                          f"Host: {door.host(closed, 8000)}\r\n\r\n", 400)):
        w = door.connect()
        assert w.send(text).answer().status == status, text
        w.close()
    key = box.api.key
    answer = door.get(box, 8000, "/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil",
                      "Forwarded: for=1.2.3.4", f"X-Api-Key: {key}", f"Open-Sandbox-Api-Key: {key}",
                      f"Authorization: Bearer {key}", "Connection: Host, X-Forwarded-For")
    assert answer.status == 200 and key not in str(answer.json)
    assert answer.saw("x-forwarded-for") == ["127.0.0.1"] and not answer.saw("forwarded")
    assert answer.saw("x-forwarded-host") == [door.host(box, 8000)]
    # A connection that is kept does not outlive its sandbox in another's place.
    w = door.connect()
    assert w.send(door.ask(box, 8000)).answer().status == 200
    old = box.id
    box.destroy()
    following = serve(make_box(ingress_enabled=True), 8000)
    assert w.send(door.ask(old, 8000)).answer().status == 404
    assert w.send(door.ask(following, 8000)).answer().status == 200


def test_I4_slow_idle_and_many(make_box, door):
    box = serve(make_box(ingress_enabled=True, ingress_hold=True), 8000)
    slow = [door.connect().send(f"GET / HTTP/1.1\r\nHost: {door.host(box, 8000)}\r\nX: ")
            for _ in range(400)]
    idle = [door.connect() for _ in range(400)]
    assert door.get(box, 8000).status == 200  # beside them
    assert door.get(box, 8000, "/", "X: " + "a" * 40000).status == 431
    for w in slow + idle:
        w.close()
    box.pause()
    waiting = [door.connect().send(door.ask(box, 8000, f"/{i}")) for i in range(300)]
    for i, w in enumerate(waiting):
        answer = w.answer()
        assert answer.status == 200 and answer.json["line"] == f"GET /{i} HTTP/1.1"
        w.close()
    assert box.status == "running"
