"""Packets by hand, and sending them from a sandbox's network namespace.

A sandbox has neither NET_RAW nor NET_ADMIN, so what these tests send could not be sent from inside.
They stand for a sandbox that has escaped its capabilities but not its link: the last fence is tried
alone. `send()` runs as root of the host, inside the sandbox's namespace, on its eth0.
"""

import ipaddress
import os
import struct
import subprocess
import sys

GATEWAY_MAC = bytes((0x02, 0x57, 0x45, 0x49, 0x52, 0x01))
SANDBOX_MAC = bytes((0x02, 0x57, 0x45, 0x49, 0x52, 0x02))


def addr(a):
    return ipaddress.ip_address(a).packed


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    s = sum(struct.unpack(f">{len(data) // 2}H", data))
    while s >> 16:
        s = (s & 0xFFFF) + (s >> 16)
    return ~s & 0xFFFF


def eth(payload, kind=None, src=SANDBOX_MAC, dst=GATEWAY_MAC):
    if kind is None:
        kind = 0x86DD if payload[0] >> 4 == 6 else 0x0800
    return dst + src + struct.pack(">H", kind) + payload


def ipv4(src, dst, proto, payload, ident=1, flags=0, offset=0, options=b""):
    ihl = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | ihl, 0, ihl * 4 + len(payload), ident,
                       flags << 13 | offset, 64, proto, 0, addr(src), addr(dst)) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(src, dst, proto, payload, hops=64):
    return struct.pack(">IHBB16s16s", 6 << 28, len(payload), proto, hops, addr(src),
                       addr(dst)) + payload


def ip(src, dst, proto, payload):
    return (ipv6 if ":" in dst else ipv4)(src, dst, proto, payload)


def pseudo(src, dst, proto, n):
    if ":" in dst:
        return addr(src) + addr(dst) + struct.pack(">IHBB", n, 0, 0, proto)
    return addr(src) + addr(dst) + struct.pack(">BBH", 0, proto, n)


def udp(src, dst, sport, dport, payload=b"x"):
    head = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0)
    c = checksum(pseudo(src, dst, 17, len(head + payload)) + head + payload) or 0xFFFF
    return head[:6] + struct.pack(">H", c) + payload


def tcp(src, dst, sport, dport, flags=0x02, seq=1000, ack=0, payload=b""):
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 65535, 0, 0)
    c = checksum(pseudo(src, dst, 6, len(head + payload)) + head + payload)
    return head[:16] + struct.pack(">H", c) + head[18:] + payload


def icmp_echo(payload=b"", ident=7):
    head = struct.pack(">BBHHH", 8, 0, 0, ident, 1)
    return struct.pack(">BBHHH", 8, 0, checksum(head + payload), ident, 1) + payload


def icmp_error(kind, code, quoted, mtu=0):
    """An ICMP error about `quoted`, an IPv4 packet."""
    body = struct.pack(">HH", 0, mtu) + quoted
    c = checksum(struct.pack(">BBH", kind, code, 0) + body)
    return struct.pack(">BBH", kind, code, c) + body


def icmp6(src, dst, kind, body):
    head = struct.pack(">BBH", kind, 0, 0) + body
    c = checksum(pseudo(src, dst, 58, len(head)) + head)
    return head[:2] + struct.pack(">H", c) + head[4:]


def arp(op, sender_mac, sender, target_mac, target):
    return struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, op, sender_mac, addr(sender), target_mac,
                       addr(target))


SENDER = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for line in sys.stdin:
    s.send(bytes.fromhex(line))
"""

LISTENER = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3))
s.settimeout(0.1)
print("listening", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        frame, where = s.recvfrom(65535)
    except TimeoutError:
        continue
    if where[2] != 4:
        print(frame.hex(), flush=True)
"""


def inside(box, code, *args):
    return ["nsenter", f"--net=/proc/{box.host_pid()}/ns/net", sys.executable, "-c", code, *args]


def send(box, *frames):
    """Send frames from the sandbox's namespace; returns when all are on the link."""
    subprocess.run(inside(box, SENDER), input="".join(f.hex() + "\n" for f in frames), text=True,
                   check=True, env={"PATH": os.environ["PATH"]})


class Listen:
    """with Listen(box) as l: …; l.frames() are those that have reached the sandbox until then."""

    def __init__(self, box, seconds=120):
        self.box = box
        self.process = subprocess.Popen(inside(box, LISTENER, str(seconds)),
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "listening\n"
        return self

    def frames(self, last=None):
        """All until the one that contains these bytes: else until one of ours, a command for its agent,
        behind all that is on the link already."""
        found = []
        if last is None:
            last = f"mark-{os.urandom(8).hex()}".encode()
            self.box.sh(f": {last.decode()}")
        for line in self.process.stdout:
            found.append(bytes.fromhex(line))
            if last in found[-1]:
                return found
        raise AssertionError(f"{last} did not come; there were {[f.hex() for f in found][-20:]}")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
