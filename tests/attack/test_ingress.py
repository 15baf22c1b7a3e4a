"""Ingress: who comes in without being let in, what gets in that should not, and who wears it out."""

import json
import socket
import time

import pytest

from kit.api import Box
from kit.ingress import Door, Wire, serve


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
    end = time.monotonic() + 60
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


GUARD = "OpenSandbox-Secure-Access"


def endpoint(box, port, query=""):
    r = box.api.request("GET", f"/v1/sandboxes/{box.id}/endpoints/{port}{query}", key=False,
                        headers={"OPEN-SANDBOX-API-KEY": box.api.key})
    assert r.status == 200, r.body
    return r.json


@pytest.fixture
def osb(api):
    """A sandbox of OpenSandbox's API."""
    r = api.request("POST", "/v1/sandboxes", {
        "image": {"uri": "devbox:1"}, "timeout": 600, "entrypoint": ["sleep", "infinity"],
        "resourceLimits": {"cpu": "1", "memory": "256Mi"}}, key=False,
        headers={"OPEN-SANDBOX-API-KEY": api.key})
    assert r.status == 202, r.body
    box = Box(api, api.get(r.json["id"]))
    yield box
    box.destroy()


@pytest.fixture
def stranger(api):
    """Somebody else's key."""
    made = api.ok("POST", "/v1/keys", {"name": "stranger"})
    yield made["key"]
    api.request("DELETE", f"/v1/keys/{made['id']}")


def command(box, to, path, *lines, host="h"):
    """Tries to leave a mark inside."""
    body = json.dumps({"command": "echo mine >>/root/taken"})
    w = Wire(socket.create_connection(to, timeout=120))
    try:
        w.send("\r\n".join([f"POST {path}/command HTTP/1.1", f"Host: {host}", *lines,
                            f"Content-Length: {len(body)}", "", body]))
        status = w.head().status
        if status == 200:
            w.until(b"execution_complete")
        return status
    finally:
        w.close()


def at(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def test_I11_a_host_name_is_no_key(make_box, osb, door, stranger):
    api, theirs = osb.api, serve(make_box(ingress_enabled=True), 8000)
    claimed = make_box(claim={"mode": "allow-all"})  # has no name: but its owner never chose execd
    server = at(api.host)
    serve(osb, 8000)
    # The control: unless visitors have a name for it, the id is the key of OpenSandbox's.
    assert command(osb, server, f"/sandboxes/{osb.id}/proxy/44772") == 200
    assert osb.sh("rm /root/taken").code == 0
    told = {box: [endpoint(box, port, "?use_server_proxy=true")["headers"][GUARD] for port in (44772, 8000)]
            for box in (osb, theirs)}
    port_of_host = at(endpoint(osb, 44772)["endpoint"].split("/")[0])
    for on in (True, False):  # who has seen the name still knows it when it is gone
        api.ok("PATCH", osb.path, {"ingress_enabled": on})
        for box, other in ((osb, theirs), (theirs, osb)):
            assert door.get(box, 8000).status == (404 if box is osb and not on else 200)
            ulid = door.host(box, 8000).rsplit("-", 1)[0]  # all that a visitor knows
            ways = [(server, f"{v1}/sandboxes/{sb}/proxy/44772{fold}", "h") for v1 in ("", "/v1")
                    for sb in (f"sb-{ulid}", f"sb_{ulid}", f"SB-{ulid.upper()}") for fold in ("", "/proxy/44772")]
            ways += [(door.at, "", f"{ulid}-44772.localhost"), (door.at, f"/sb-{ulid}/44772", "h")]
            if box is osb:
                ways.append((port_of_host, "/proxy/44772", "h"))
            execd, other_port = told[box]
            wrong = ["X: y", f"{GUARD}:", f"{GUARD}: {execd[:-1]}", f"{GUARD}: {execd.swapcase()}",
                     f"{GUARD}: {other_port}", f"{GUARD}: {told[other][0]}", f"X-Api-Key: {stranger}",
                     "X-Api-Key: x", f"Authorization: Bearer {stranger}", f"X-EXECD-ACCESS-TOKEN: {execd}"]
            for to, path, host in ways:
                for line in wrong[:1] if to != server else wrong:
                    status = command(box, to, path, line, host=host)
                    # Without a way in it is a port as any other.
                    here = to != door.at or (box is osb and on)
                    expected = 404 if line == f"X-Api-Key: {stranger}" else 401
                    assert status == expected if here else status in (404, 502), (path, line, status)
            # The server's proxy, sockets and what lies behind execd's own proxy.
            for path in ("proxy/8000/", "proxy/44772/proxy/8000/", "proxy/44772/ping", "proxy/44772/pty/x/ws",
                         "proxy/44772/files/download?path=/etc/passwd"):
                r = api.request("GET", f"/sandboxes/{box.id}/{path}", key=False)
                assert r.status == 401 and set(r.json) == {"code", "message"} and GUARD in r.json["message"]
            assert box.sh("cat /root/taken").code != 0
            # The controls: the same with what its owner has.
            path = f"/sandboxes/{box.id}/proxy/44772"
            for line in (f"{GUARD}: {execd}", f"X-Api-Key: {api.key}", f"OPEN-SANDBOX-API-KEY: {api.key}"):
                assert command(box, server, path, line) == 200, line
            assert box.sh("wc -l </root/taken; rm /root/taken").stdout == "3\n"
            r = api.request("GET", f"/sandboxes/{box.id}/proxy/8000/", key=False, headers={GUARD: other_port})
            assert r.status == 200 and other_port not in r.body.decode()
        assert command(osb, port_of_host, "/proxy/44772", f"{GUARD}: {told[osb][0]}") == 200
        assert osb.sh("rm /root/taken").code == 0
    # A visitor does not wake what sleeps, either.
    assert command(claimed, server, f"/sandboxes/{claimed.id}/proxy/44772") == 401
    assert command(claimed, server, f"/sandboxes/{claimed.id}/proxy/44772", f"X-Api-Key: {api.key}") == 200
