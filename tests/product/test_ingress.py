"""What an owner does with ingress, as visitors see it: on and off, ports of the host, tokens, and a
crowd before a sleeping sandbox. Services themselves are test_services.py's."""

import concurrent.futures
import re
import time
import urllib.request

import pytest

from kit.ingress import Door, serve


@pytest.fixture
def door(about):
    return Door(about)


def patch(box, **fields):
    return box.api.ok("PATCH", box.path, fields)


def test_who_is_in_is_out_when_it_is_switched_off(make_box, door):
    box = serve(make_box(ingress_enabled=True), 8000)
    w = door.connect()
    assert w.send(door.ask(box, 8000, "/events")).head().status == 200
    w.until(b"data: 0\n")
    patch(box, ingress_enabled=False)
    assert door.get(box, 8000).status == 404
    w.have = b""
    assert w.ended()
    patch(box, ingress_enabled=True)
    assert door.get(box, 8000).status == 200  # control, and at once


def test_a_thousand_visitors_make_one_resume(about, make_box, door, machines):
    n = 250 if machines else 1000  # a machine's service by emulation: a few hundred requests a second
    box = serve(make_box(ingress_enabled=True, ingress_hold=True), 8000)
    box.pause()
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = [r.status for r in pool.map(lambda _: door.get(box, 8000), range(n))]
    assert answers.count(200) == n, {s: answers.count(s) for s in set(answers)}
    with open(about["log"]) as f:
        resumes = [line for line in f if box.id in line and "event=resume" in line]
    assert len(resumes) == 1, resumes


def test_ports_of_the_host(make_box, door):
    box = make_box(host_ports=True)  # by name it stays closed
    serve(box, 8080, also=[(9000, "0.0.0.0")])
    ports = box.api.ok("GET", box.path)["host_ports"]

    def get(address, path):
        with urllib.request.urlopen(f"http://{address}{path}", timeout=120) as r:
            return r.status

    assert get(ports["direct"], "/") == 200 and get(ports["proxy"], "/proxy/9000/") == 200
    assert door.get(box, 8080).status == 404
    box.pause()
    box.resume()
    assert box.api.ok("GET", box.path)["host_ports"] == ports and get(ports["direct"], "/") == 200
    patch(box, host_ports={"proxy": False})  # each by itself
    with pytest.raises(OSError):
        get(ports["proxy"], "/proxy/9000/")
    assert get(ports["direct"], "/") == 200
    patch(box, host_ports={"proxy": True, "direct": False})
    with pytest.raises(OSError):
        get(ports["direct"], "/")
    assert get(ports["proxy"], "/proxy/9000/") == 200
    patch(box, host_ports=False)
    with pytest.raises(OSError):
        get(ports["proxy"], "/proxy/9000/")


def test_a_browser_shows_its_token_once(make_box, door):
    box = serve(make_box(ingress_enabled=True, ingress_access="token"), 8000)
    made = box.api.ok("POST", f"{box.path}/ingress/tokens", {"port": 8000})
    first = door.get(box, 8000, f"/page?weir_token={made['token']}")
    assert first.status == 200 and made["token"] not in first.body.decode()
    cookie = f"Cookie: {first.headers['set-cookie'].split(';')[0]}"
    again = door.get(box, 8000, "/page", cookie)
    assert again.status == 200 and made["token"] not in again.body.decode()
    assert door.get(box, 8000).status == 401
    box.api.ok("DELETE", f"{box.path}/ingress/tokens/{made['id']}")
    assert door.get(box, 8000, "/page", cookie).status == 401


def test_use_is_counted_apart_from_egress(make_box, door):
    box = serve(make_box(ingress_enabled=True), 8000)
    answers = [door.get(box, 8000) for _ in range(5)]
    assert [r.status for r in answers] == [200] * 5
    end = time.monotonic() + 120
    while True:
        counters = box.api.ok("GET", f"{box.path}/counters")
        if counters["ingress_requests"] == 5 and not counters["ingress_open"]:
            break
        assert time.monotonic() < end, counters
        time.sleep(0.05)
    assert counters["ingress_out_bytes"] > 0 and counters["out_bytes"] == 0
    metrics = box.api.request("GET", "/metrics").body.decode()
    told = {name: int(n) for name, n in re.findall(
        rf'^weir_sandbox_ingress_(\w+){{sandbox="{box.id}"}} (\d+)$', metrics, re.M)}
    assert told["requests_total"] == 5 and told["refused_total"] == told["failed_total"] == told["open"] == 0
    assert told["out_bytes_total"] == sum(len(r.body) for r in answers)  # of bodies; the kernel counts packets
