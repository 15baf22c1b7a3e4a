"""A daemon's pinned maps, read from outside: what the kernel really has.

	maps = Maps(daemon.name)
	maps.slots()		{slot: (policy id, ifindex)} of slots that have a link
	maps.policies()		{policy id: Policy}: header, prefixes and port keys as sets
	maps.members()		{slot: numbers of its private networks}
	maps.calls()		who may call whom in each
	maps.count()		{map: entries} of all that can grow

Speaks to bpf(2) itself, so that it shares nothing with what it looks at but the layout in
src/bpf/maps.h.
"""

import ctypes
import ipaddress
import mmap
import os
import struct

BPF_LOOKUP, BPF_NEXT_KEY, BPF_OBJ_GET = 1, 4, 7
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
SLOTS_MAX = 65000
SLOT = struct.Struct("<IIII16sQQHHIII")  # struct weir_slot
DECISION = struct.Struct("<BBHHH")     # struct weir_decision; a table's number is two of these
PORTS_NONE, PORTS_TABLE = 0, 1         # others: bits of enum weir_ports
LAYOUT = {"weir_links": (4, 4), "weir_policies": (4, 16), "weir_prefixes": (24, 8),
          "weir_pins": (20, 16), "weir_ports": (16, 4), "weir_flows": (28, 32),
          "weir_members": (4, 36), "weir_nets": (4, 8), "weir_calls": (20, 4)}
EDGE = 0x80000000  # port tables of the edge role

libc = ctypes.CDLL(None, use_errno=True)


def bpf(cmd, attr):
    buffer = ctypes.create_string_buffer(attr.ljust(144, b"\0"), 144)
    r = libc.syscall(SYS_BPF, cmd, buffer, 144)
    if r < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return r


class Map:
    def __init__(self, path):
        name = ctypes.create_string_buffer(path.encode() + b"\0")
        self.fd = bpf(BPF_OBJ_GET, struct.pack("<Q", ctypes.addressof(name)))
        self.key, self.value = LAYOUT.get(os.path.basename(path), (4, SLOT.size))
        # What both calls read and write; the kernel sees the same memory each time.
        self._key = ctypes.create_string_buffer(self.key)
        self._out = ctypes.create_string_buffer(max(self.key, self.value))
        self._attr = struct.pack("<IIQQQ", self.fd, 0, ctypes.addressof(self._key),
                                 ctypes.addressof(self._out), 0)
        self._first = struct.pack("<IIQQQ", self.fd, 0, 0, ctypes.addressof(self._out), 0)

    def keys(self):
        attr = self._first
        while True:
            try:
                bpf(BPF_NEXT_KEY, attr)
            except FileNotFoundError:
                return
            attr = self._attr
            key = self._out.raw[:self.key]
            self._key.raw = key
            yield key
            self._key.raw = key  # a lookup in between used it

    def get(self, key):
        self._key.raw = key
        bpf(BPF_LOOKUP, self._attr)
        return self._out.raw[:self.value]

    def close(self):
        os.close(self.fd)


class Policy:
    def __init__(self):
        self.header = None
        self.prefixes = {}  # network: (verdict, ports, rule, lo, hi)
        self.ports = {}     # (table, proto, first port, prefix length): (verdict, named, rule)

    def __eq__(self, other):
        return (self.header, self.prefixes, self.ports) == \
            (other.header, other.prefixes, other.ports)


def network(scope, bits, raw):
    family = ipaddress.IPv6Network if scope & 1 else ipaddress.IPv4Network
    return family((raw if scope & 1 else raw[:4], bits - 32))


class Maps:
    def __init__(self, name):
        self.dir = f"/sys/fs/bpf/{name}"

    def _open(self, name):
        return Map(os.path.join(self.dir, name))

    def slots(self):
        m = self._open("weir_slots")
        try:
            with mmap.mmap(m.fd, (SLOTS_MAX + 1) * SLOT.size, prot=mmap.PROT_READ) as memory:
                found = {i: SLOT.unpack_from(memory, i * SLOT.size)[:2]
                         for i in range(1, SLOTS_MAX + 1)}
        finally:
            m.close()
        return {i: (policy, link) for i, (policy, link) in found.items() if policy or link}

    def policies(self):
        found = {}
        for name in ("weir_policies", "weir_prefixes", "weir_ports"):
            m = self._open(name)
            for key in m.keys():
                value = m.get(key)
                if name == "weir_policies":
                    found.setdefault(struct.unpack("<I", key)[0], Policy()).header = value
                elif name == "weir_prefixes":
                    bits, scope, raw = struct.unpack("<II16s", key)
                    found.setdefault(scope >> 1, Policy()).prefixes[network(scope, bits, raw)] = \
                        DECISION.unpack(value)
                else:
                    bits, policy, table, proto, _, port = struct.unpack("<IIIBB2s", key)
                    if not table & EDGE:
                        found.setdefault(policy, Policy()).ports[
                            (table, proto, int.from_bytes(port, "big"), bits - 80)] = \
                            struct.unpack("<BBH", value)
            m.close()
        return found

    def members(self):
        """{slot: numbers of its private networks} of slots that are in any."""
        m, found = self._open("weir_members"), {}
        for key in list(m.keys()):
            try:
                n, *numbers = struct.unpack("<9I", m.get(key))
            except FileNotFoundError:  # it went meanwhile
                continue
            found[struct.unpack("<I", key)[0]] = numbers[:n]
        m.close()
        return found

    def calls(self):
        """{network number: (default, {(from, to, proto, first port, prefix length): (rule, verdict)})}"""
        m, nets, found = self._open("weir_nets"), {}, {}
        for key in list(m.keys()):
            version, default = struct.unpack("<II", m.get(key))
            found[struct.unpack("<I", key)[0]] = nets[version] = (default, {})
        m.close()
        m = self._open("weir_calls")
        for key in list(m.keys()):
            bits, version, source, target, proto, port, _ = struct.unpack("<IIIIB2sB", key)
            if version in nets:
                nets[version][1][source, target, proto, int.from_bytes(port, "big"), bits - 104] = \
                    struct.unpack("<HBB", m.get(key))[:2]
        m.close()
        return found

    def count(self):
        found = {}
        for name in LAYOUT:
            m = self._open(name)
            found[name] = sum(1 for _ in m.keys())
            m.close()
        return found
