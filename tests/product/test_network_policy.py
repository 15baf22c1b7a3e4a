"""Rules of a private network with real packets: who may call whom, answers, changes while it runs."""

import threading

import pytest

from kit import raw
from kit.api import listening
from kit.nets import Nets, serve

ECHO = ("setsid python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.bind((\"0.0.0.0\", 9999)); [s.sendto(*s.recvfrom(65535)) for _ in iter(int, 1)]' "
        ">/dev/null 2>&1 </dev/null &")


@pytest.fixture(scope="module")
def three(make_lasting_box):
    """Each with servers on 80 and 81."""
    return [serve(make_lasting_box(egress=["1.2.3.4"]), 80, 81) for _ in range(3)]


@pytest.fixture
def world(api, three):
    """web, db and other, in a network that is new."""
    nets = Nets(api)
    net = nets.new()
    for box in three:
        net.attach(box)
    yield net, *three
    for member in net.get()["members"]:
        if member["sandbox_id"] in [box.id for box in three]:
            api.ok("DELETE", f"/v1/sandboxes/{member['sandbox_id']}/networks/{net.id}")
        else:
            api.request("DELETE", f"/v1/sandboxes/{member['sandbox_id']}")
    nets.close()


def rule(net, *rules, **more):
    return net.api.ok("PUT", f"/v1/networks/{net.id}/policy", {"rules": list(rules), **more})


def calls(here, net, there, port=80):
    return here.tcp(net.ip(there), port)


def test_who_may_call_whom(world):
    net, web, db, other = world
    assert {calls(a, net, b) for a in (web, db, other) for b in (web, db, other) if a is not b} == {"allow"}
    rule(net, {"from": web.name, "to": db.id, "ports": ["80"], "protocol": "tcp"})
    assert calls(web, net, db) == "allow" and web.tcp(db.name, 80) == "allow"
    for here, there, port in ((web, db, 81), (db, web, 80), (other, db, 80), (web, other, 80), (db, other, 81)):
        assert calls(here, net, there, port) == "refused", (here.name, there.name, port)
    got = web.denied("overlay", address=net.ip(db), port=81)
    assert got["network"] == net.name and net.name in got["text"] and "rule" not in got
    assert web.probe({"ping": net.ip(db), "timeout": 2})["verdict"] != "allow"
    # A rule that denies is named.
    rule(net, {"from": other.name, "to": "*", "action": "deny"}, {"from": "*", "to": "*"})
    assert calls(db, net, other) == calls(web, net, db, 81) == "allow"
    assert calls(other, net, db) == "refused"
    got = other.denied("overlay", network=net.name, rule_index=0)
    assert got["rule"] == f"deny {other.name} -> *"
    assert web.probe({"ping": net.ip(db)})["verdict"] == "allow"
    why = other.api.ok("GET", f"{other.path}/egress/explain?to={db.name}:80")
    assert (why["verdict"], why["network"], why["rule_index"]) == ("deny", net.name, 0)
    net.api.ok("DELETE", f"/v1/networks/{net.id}/policy")
    assert calls(other, net, db) == "allow"


def test_N21_answers_pass_and_open_nothing(world):
    net, web, db, _ = world
    me, ip = net.ip(web), net.ip(db)
    rule(net, {"from": web.name, "to": db.name, "ports": ["80", "9999"]}, {"from": web.name, "to": db.name,
                                                                          "protocol": "icmp"})
    db.sh(ECHO)
    db.sh("timeout 55 bash -c 'until grep -q :270F /proc/net/udp; do sleep 0.2; done'")
    assert web.probe({"udp": ip, "port": 9999})["verdict"] == "allow"
    assert web.probe({"udp": ip, "port": 9999, "size": 5000})["verdict"] == "allow"  # in fragments
    assert web.probe({"ping": ip})["verdict"] == "allow"
    assert db.probe({"ping": me, "timeout": 2})["verdict"] != "allow"
    udp = lambda sport, dport: raw.eth(raw.ip(ip, me, 17, raw.udp(ip, me, sport, dport, b"back")))
    tcp = lambda sport, dport, flags: raw.eth(raw.ip(ip, me, 6, raw.tcp(ip, me, sport, dport, flags)))
    ask = lambda sport, dport: raw.eth(raw.ip(me, ip, 17, raw.udp(me, ip, sport, dport)))
    with raw.Listen(web) as heard:
        raw.send(web, ask(5000, 9999))
        # To another port, from another port; a call of its own from a port that was called; a segment
        # from one that may not be.
        raw.send(db, udp(9999, 5001), udp(9998, 5000), tcp(80, 80, 0x02), tcp(81, 80, 0x10))
        for port in (5001, 5000, 80):
            db.denied("overlay", address=me, port=port, network=net.name)
        raw.send(db, udp(9999, 5000))  # the control: an answer
        got = [f for f in heard.frames(b"back") if b"back" in f or f[23] == 6]
        assert len(got) == 1 and got[0][34:38] == b"\x27\x0f\x13\x88", got


STREAM = r"""
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7000))
print("open", flush=True)
n = 0
while True:
    data = s.recv(100)
    if not data:
        break
    n += 1
    print(n, flush=True)
"""
SERVER = r"""
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 7000)); s.listen()
while True:
    c, _ = s.accept()
    try:
        while True:
            c.sendall(b"tick"); time.sleep(0.1)
    except OSError:
        pass
"""


def lines(box, path):
    return box.sh(f"cat {path} | wc -l").stdout.strip()


def grows(box, path, seconds=50):
    return box.sh(f"n=$(wc -l <{path}); timeout {seconds} bash -c "
                  f"\"until [ \\$(wc -l <{path}) -gt $((n + 3)) ]; do sleep 0.2; done\"").code == 0


def test_a_change_meets_conversations_that_are_open(world):
    """The called one speaks, the caller is silent: what stays allowed goes on, what is not ends."""
    net, web, db, _ = world
    db.put("/root/server.py", SERVER.encode())
    web.put("/root/stream.py", STREAM.encode())
    assert db.sh(f"setsid python3 /root/server.py >/dev/null 2>&1 </dev/null & {listening(7000)}").code == 0
    web.sh(f"setsid python3 /root/stream.py {net.ip(db)} >/root/got 2>/root/err </dev/null &")
    assert web.sh("timeout 55 bash -c 'until grep -q 3 /root/got; do sleep 0.2; done'").code == 0
    rule(net, {"from": web.name, "to": db.name, "ports": ["7000"]})  # from none to these
    assert grows(web, "/root/got")
    rule(net, {"from": "*", "to": db.name, "ports": ["7000-7001"]})  # others, which allow it too
    assert grows(web, "/root/got")
    rule(net, {"from": db.name, "to": web.name, "ports": ["80"]})  # the other way round: not this
    assert not grows(web, "/root/got", 2)
    db.denied("overlay", network=net.name)
    assert calls(db, net, web) == "allow"


def test_changes_are_atomic(world):
    """Whoever both versions allow never notices."""
    net, web, db, other = world
    versions = [[{"from": web.name, "to": db.name, "ports": ["80"]}, {"from": other.name, "to": db.name}],
                [{"from": "*", "to": other.name}, {"from": web.name, "to": db.name, "ports": ["79-82"]}]]
    rule(net, *versions[0])
    stop, turns = threading.Event(), []

    def change():
        while not stop.is_set():
            rule(net, *versions[len(turns) % 2])
            turns.append(1)

    t = threading.Thread(target=change)
    t.start()
    try:
        ip = net.ip(db)
        r = web.sh(f"timeout 150 bash -c 'for i in {{1..150}}; do : </dev/tcp/{ip}/80 || echo lost; done; echo over'")
    finally:
        stop.set()
        t.join()
    assert r.stdout == "over\n" and len(turns) > 10, (r, len(turns))
    rule(net, *versions[1])
    assert calls(other, net, db) == "refused"  # the control: the versions differ


def test_N21_a_name_means_who_is_called_so(world, make_box):
    net, web, db, other = world
    rule(net, {"from": "client", "to": db.name, "ports": ["80"]})
    first = make_box(name="client", networks=[{"id": net.id}])
    assert calls(first, net, db) == "allow" and calls(web, net, db) == "refused"
    # Whoever comes into its slot is somebody else.
    first.destroy()
    first.wait("destroyed")
    for _ in range(3):
        assert calls(make_box(networks=[{"id": net.id}]), net, db) == "refused"
    second = make_box(name="client")
    net.attach(second)
    assert calls(second, net, db) == "allow"
    net.detach(second)
    assert calls(second, net, db) == "refused"


def test_one_network_is_enough(world, api):
    net, web, db, _ = world
    rule(net)  # nobody
    assert calls(web, net, db) == "refused"
    nets = Nets(api)
    second = nets.new()
    for box in (web, db):
        second.attach(box)
    assert calls(web, net, db) == "allow"
    second.detach(db)
    assert calls(web, net, db) == "refused"
    second.detach(web)
    nets.close()
