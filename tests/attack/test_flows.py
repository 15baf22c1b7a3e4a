"""Flows that are over, or never began, and segments that pretend otherwise."""

import json
import struct
import subprocess
import sys
import time

import pytest
from kit import raw
from kit.api import Api
from kit.lab import wait_flow

SERVER = {4: "203.0.113.20", 6: "2001:db8:1::20"}
SYN, PSH, ACK = 0x02, 0x08, 0x10

TALK = """
import json, socket, sys, time
s = socket.create_connection((sys.argv[1], 7), 30)
print(json.dumps(s.getsockname()[:2]), flush=True)
while True:
    s.sendall(b"x")
    s.recv(1)
    time.sleep(0.02)
"""

# A raw segment from the server's address, as it would come by the uplink.
FROM_OUTSIDE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for line in sys.stdin:
    s.sendto(bytes.fromhex(line), (sys.argv[1], 0))
"""


def segment(source, port, server, flags=ACK | PSH):
    return raw.eth(raw.ip(source, server, 6, raw.tcp(
        source, server, port, 7, flags, seq=70000, ack=0 if flags == SYN else 70000,
        payload=b"" if flags == SYN else b"late")))


def arrived(lab, since, server):
    return [f for f in lab.flows(since, dst=server)]


def quiet_moment(lab, server):
    """The lab logs a flow anew once it was silent for a while: a mark in its log, late enough."""
    since = lab.now()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        lab.flows(since)  # each waits for the watcher
    return lab.now()


def test_N9_a_cut_flow_is_not_revived(make_box, lab, family):
    """The state of the flow is deleted, the segments go on: a mid-stream segment opens nothing, not
    even where the very same ports were allowed a moment ago."""
    server = SERVER[family]
    box = make_box(egress=[server])
    talk = box.api.stream(box.id, "python3", "-c", TALK, server)
    source, port = json.loads(next(talk)["stdout"])
    box.set_egress(["198.51.100.7"])
    box.denied("cut", address=server)
    talk.close()
    since = quiet_moment(lab, server)
    for _ in range(8):
        raw.send(box, *[segment(source, port, server)] * 5)
    box.denied("unsolicited", address=server)
    # Nor with the rule back: what is in the middle of no flow is refused under any policy.
    box.set_egress([server])
    raw.send(box, *[segment(source, port, server)] * 5)
    assert arrived(lab, since, server) == []
    # The control: the same ports, from the beginning.
    raw.send(box, segment(source, port, server, SYN))
    wait_flow(lab, since, dst=server)


def test_N9_a_flow_that_never_began(make_box, lab, family):
    """conntrack's loose mode would take it up in the middle. Even an allowed address begins with a
    SYN here."""
    server = SERVER[family]
    since = lab.now()
    for rules in (["198.51.100.7"], [server], []):
        box = make_box(egress=rules)
        source = box.ip if family == 4 else box.sh(
            "ip -6 -o addr show dev eth0 scope global | sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'"
        ).stdout.strip()
        raw.send(box, *[segment(source, 41000, server)] * 3)
        box.denied("unsolicited", address=server)
        assert arrived(lab, since, server) == []
    raw.send(box, segment(source, 41000, server, SYN))
    wait_flow(lab, since, dst=server)


def test_N9_the_far_end_goes_on_after_the_cut(make_box, about, lab):
    """The host's masquerading may still know the connection; the link does not."""
    server = SERVER[4]
    box = make_box(egress=[server])
    talk = box.api.stream(box.id, "python3", "-c", TALK, server)
    _, port = json.loads(next(talk)["stdout"])
    router = f"{about['run_dir']}/router.ns"
    late = raw.ipv4(server, box.ip, 6, raw.tcp(server, box.ip, 7, port, ACK | PSH, seq=9, ack=9,
                                               payload=b"from outside"))

    def reaches():
        with raw.Listen(box) as listening:
            subprocess.run(["nsenter", f"--net={router}", sys.executable, "-c", FROM_OUTSIDE,
                            box.ip], input=(late.hex() + "\n") * 3, text=True, check=True)
            return any(b"from outside" in frame for frame in listening.frames())

    assert reaches(), "the control: while the flow lives, the segment comes in"
    box.set_egress(["198.51.100.7"])
    box.denied("cut", address=server)
    assert not reaches()
    box.denied("unsolicited", address=server, direction="in")
    talk.close()


def test_H13_a_refusal_is_no_success(pair, lab, family):
    """Nobody accepts in the server's place to hang up after it: a refused connection never was one, and
    a datagram's sender hears of it."""
    server = SERVER[family]
    closed, opened = pair(["allowed.test"], [server])
    tries = [{"tcp": server, "port": 7}, {"udp": server, "port": 7}]
    since = lab.now()
    assert [r["verdict"] for r in closed.probe(*tries)] == ["refused", "refused"]
    closed.denied("default", address=server)
    assert lab.flows(since, dst=server) == []
    assert [r["verdict"] for r in opened.probe(*tries)] == ["allow", "allow"]


SPEAK = """
import socket, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.create_connection((host, port), 5)
s.settimeout(5)
if port == 5432:
    s.sendall(b"\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f")
    assert s.recv(1) == b"S"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    s = context.wrap_socket(s, server_hostname=host)
    s.sendall(b"over TLS")
print(s.recv(100).decode("latin-1").strip())
"""
GREETINGS = {22: "SSH-2.0-lab_1.0", 25: "220 mail.test ESMTP lab", 3306: "5.5.5-lab", 5432: "over TLS"}


def test_H8_servers_that_speak_first(make_box, lab, family):
    """Nothing waits for what a client says before it lets a connection be: a greeting comes to who has not
    said a word, and a connection may become TLS later. What is not allowed is not greeted."""
    box = make_box(egress=["203.0.113.9", *(f"mail.test:{port}" for port in GREETINGS)])
    host = "mail.test"
    if family == 6:
        host = "2001:db8:1::54"
        box.set_egress([f"[{host}]:{port}" for port in GREETINGS])
    for port, greeting in GREETINGS.items():
        got = box.exec("python3", "-c", SPEAK, host, str(port))
        assert greeting in got.stdout, (port, got)
    since = lab.now()
    box.set_egress([f"198.51.100.7:{port}" for port in GREETINGS])
    for port in (22, 5432):
        got = box.exec("python3", "-c", SPEAK, host if family == 6 else "203.0.113.54", str(port))
        assert got.code and "ConnectionRefused" in got.stderr, (port, got)
    assert lab.flows(since, dst="203.0.113.54" if family == 4 else host) == []


MANY = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
frame = bytearray(bytes.fromhex(sys.argv[1]))
for port in range(int(sys.argv[2]), int(sys.argv[3])):
    struct.pack_into(">H", frame, 34, port)
    while True:
        try:
            s.send(frame)
            break
        except OSError:  # the queue of the link is full
            pass
"""


CALM = """
import select, socket
waiting = []
for _ in range(20):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("203.0.113.20", 9999))
    waiting.append(s)
for _ in range(6):  # the host looks for a free port at random, and not for long: who asks again has another chance
    for s in waiting:
        s.send(b"calm")
    while ready := select.select(waiting, [], [], 1)[0]:
        waiting = [s for s in waiting if s not in ready]
print(20 - len(waiting))
"""


def test_N18_nat_ports_used_up(api, other_daemon):
    """All sandboxes leave with the host's address, so they share its ports: 64,512 towards one port of one
    server. One user cannot have them all; his limit is what keeps him from it."""
    target = "203.0.113.20"

    def others_answered(api, *cuts):
        """When one user's sandboxes have sent, each from its part of the ports: how many of another's 20 sockets are
        answered, and how many sandboxes met their limit."""
        keys = [api.ok("POST", "/v1/keys", {"name": name})["key"] for name in ("greedy", "calm")]
        greedy, calm = (Api(api.url, key) for key in keys)
        boxes = [greedy.create(egress=[target]) for _ in cuts[1:]]
        for box, first, end in zip(boxes, cuts, cuts[1:]):
            segment = struct.pack(">HHHH", 0, 9999, 9, 0) + b"n"  # without a checksum, which IPv4 allows
            frame = raw.eth(raw.ipv4(box.ip, target, 17, segment)).hex()
            subprocess.run(raw.inside(box, MANY, frame, str(first), str(end)), check=True)
        box = calm.create(egress=[target])
        answered = int(box.exec("python3", "-c", CALM).stdout)
        limited = [b for b in boxes if any(d["reason"] == "flow_limit" for d in b.denials())]
        for b in (*boxes, box):
            b.destroy()
        return answered, len(limited)

    assert others_answered(api, 1024, 34816, 45056) == (20, 2)
    lifted = other_daemon({"egress.flows_per_sandbox": "200000", "egress.flows_per_user": "400000"})
    answered, limited = others_answered(lifted.api, 1024, 22528, 44032, 65536)
    assert limited == 0 and answered < 10, (answered, limited)
