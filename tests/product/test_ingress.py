"""Services of sandboxes as their visitors see them, through the real proxy."""

import base64
import concurrent.futures
import hashlib
import os
import socket
import struct
import time
import urllib.request

import pytest

from kit.web import Site


@pytest.fixture
def site(about, make_box):
    return Site(about, make_box(ingress_enabled=True)).serve()


def patch(box, **fields):
    return box.api.ok("PATCH", box.path, fields)


def test_reachable_the_moment_create_answers(api, about, make_box):
    box = make_box(ingress_enabled=True)
    r = Site(about, box).get()
    assert r.status == 502 and b"nothing listens" in r.body  # routed, and said at once
    closed = make_box()
    assert Site(about, closed).get().status == 404
    assert Site(about, box).get(port=1028).status in (400, 403, 404)


def test_by_the_published_address_and_in_both_schemes(site):
    url = site.box.api.ok("GET", site.box.path)["ingress_url_template"].replace("<port>", "8000")
    host = url.split("/")[2]
    request = urllib.request.Request(url + "/hello")
    if host.startswith(site.box.id[3:]):  # this machine may not resolve below localhost
        request = urllib.request.Request(f"http://{site.address}/hello", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=20) as r:
        assert r.status == 200 and r.read() == b"hello"
    for tls in (False, True):
        assert site.get("/hello", tls=tls).body == b"hello"
    head = site.get("/head", headers={"Authorization": "Bearer mine", "X-Api-Key": "platform"}).body.decode()
    assert "Host: localhost:8000" in head and "Authorization: Bearer mine" in head
    assert "X-Forwarded-For: 127.0.0.1" in head and "platform" not in head


def test_services_on_loopback_only(about, make_box):
    site = Site(about, make_box(ingress_enabled=True)).serve(8001, "127.0.0.1")
    assert site.get(port=8001).body == b"hello"


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        assert piece, data
        data += piece
    return data


def test_websocket(site):
    host, port = site.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as s:
        key = base64.b64encode(os.urandom(16)).decode()
        s.sendall((f"GET /ws HTTP/1.1\r\nHost: {site.host()}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(s, 1)
        accept = base64.b64encode(hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert head.startswith(b"HTTP/1.1 101 ") and accept in head
        for text in (b"hello", os.urandom(100), os.urandom(3000)):
            mask = os.urandom(4)
            size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack("!H", len(text))
            s.sendall(b"\x82" + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
            back = read_exactly(s, 2)
            n = back[1] if back[1] < 126 else struct.unpack("!H", read_exactly(s, 2))[0]
            assert read_exactly(s, n) == text[::-1]


def test_events_come_as_they_happen(site):
    c = site.connect()
    c.request("GET", "/events", headers={"Host": site.host()})
    r = c.getresponse()
    assert r.fp.readline() == b"data: 1\n"  # the second is only made after this one was seen
    assert site.get("/go").status == 200
    assert r.fp.readline() + r.fp.readline() == b"\ndata: 2\n"
    c.close()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_64_mib_up_and_down(site, tls):
    body = os.urandom(1 << 20) * 64
    assert site.get("/", method="POST", body=body, tls=tls).body.decode() == hashlib.sha256(body).hexdigest()
    down = site.get(f"/bytes/{64 << 20}", tls=tls).body
    assert down == bytes(range(256)) * (len(down) // 256) and len(down) == 64 << 20


def test_toggled(site):
    c = site.connect()
    c.request("GET", "/events", headers={"Host": site.host()})
    r = c.getresponse()
    assert r.fp.readline() == b"data: 1\n"
    patch(site.box, ingress_enabled=False)
    assert site.get().status == 404
    try:  # who was in is out
        assert b"data: 2" not in r.fp.read()
    except OSError:
        pass
    patch(site.box, ingress_enabled=True)
    assert site.get().status == 200


def test_paused_killed_destroyed(site):
    site.box.pause()
    assert site.get().status == 503
    site.box.resume()
    assert site.get().status == 200
    site.box.sh("pkill -9 -f service.py")
    began = time.monotonic()
    assert site.get().status == 502 and time.monotonic() - began < 5
    site.serve()
    assert site.get().status == 200
    site.box.destroy()
    assert site.get().status == 404


def test_a_thousand_visitors_make_one_resume(about, make_box):
    box = make_box(ingress_enabled=True, ingress_hold=True)
    site = Site(about, box).serve()
    box.pause()
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = [r.status for r in pool.map(lambda _: site.get(), range(1000))]
    assert answers.count(200) == 1000, {s: answers.count(s) for s in set(answers)}
    with open(about["log"]) as f:
        resumes = [line for line in f if box.id in line and "event=resume" in line]
    assert len(resumes) == 1, resumes


def test_ports_of_the_host(about, make_box):
    box = make_box(host_ports=True)  # by name it stays closed
    site = Site(about, box).serve(8080).serve(9000)
    ports = box.api.ok("GET", box.path)["host_ports"]

    def get(address, path):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as r:
            return r.read()

    assert get(ports["direct"], "/") == b"hello" and get(ports["proxy"], "/proxy/9000/") == b"hello"
    assert site.get(port=8080).status == 404
    box.pause()
    box.resume()
    assert box.api.ok("GET", box.path)["host_ports"] == ports and get(ports["direct"], "/") == b"hello"
    patch(box, host_ports=False)
    with pytest.raises(OSError):
        get(ports["direct"], "/")


def test_tokens(about, make_box):
    box = make_box(ingress_enabled=True, ingress_access="token")
    site = Site(about, box).serve()
    made = box.api.ok("POST", f"{box.path}/ingress/tokens", {"port": 8000})
    token = {"X-Weir-Ingress-Token": made["token"]}
    assert site.get().status == 401 and site.get(headers=token).status == 200
    assert made["token"] not in site.get("/head", headers=token).body.decode()
    first = site.get(f"/head?weir_token={made['token']}")
    cookie = first.getheader("Set-Cookie")
    assert cookie and site.get(headers={"Cookie": cookie.split(";")[0]}).status == 200
    box.api.ok("DELETE", f"{box.path}/ingress/tokens/{made['id']}")
    assert site.get(headers=token).status == 401


def test_use_keeps_it_awake_and_is_counted(site):
    for _ in range(5):
        site.get()
    end = time.monotonic() + 10
    while site.box.api.ok("GET", f"{site.box.path}/counters")["ingress_requests"] < 5:
        assert time.monotonic() < end
        time.sleep(0.05)
    counters = site.box.api.ok("GET", f"{site.box.path}/counters")
    assert counters["ingress_out_bytes"] > 0 and counters["out_bytes"] == 0
