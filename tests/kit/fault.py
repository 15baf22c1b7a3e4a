"""Fault points of a binary built with -Dfaults=true (src/base/fault.h), from outside.

	names(path)			{name: may it fail} that a program carries, from its file alone
	points = Points(file)		one role's table, while it runs: WEIR_FAULTS/<role>.faults
	points.arm("api.create.set", HOLD)
	points.held("api.create.set")	the process that waits there, or 0
	points.release()		let go of all that wait, disarm all
"""

import mmap
import os
import struct

KILL, HOLD, FAIL = 1, 2, 3
POINT = struct.Struct("<48sQQIIIIII8x")  # struct fault
SECTION = "weir_faults"
PASSED, ACTED, LEFT, ACTION, ERROR, HELD = 48, 56, 64, 68, 72, 76


def section(path, wanted=SECTION):
    """The bytes of an ELF section, or None."""
    with open(path, "rb") as f:
        data = f.read()
    start, = struct.unpack_from("<Q", data, 0x28)
    size, n, texts = struct.unpack_from("<HHH", data, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", data, start + i * size) for i in range(n)]
    for name, _, _, _, offset, length in heads:
        at = heads[texts][4] + name
        if data[at:data.index(b"\0", at)].decode() == wanted:
            return data[offset:offset + length]
    return None


def text(raw):
    return raw.split(b"\0")[0].decode()


def names(path):
    return {text(p[0]): bool(p[7]) for p in POINT.iter_unpack(section(path) or b"")}


class Points:
    def __init__(self, path):
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)
        self.at = {text(self.map[i:i + 48]): i for i in range(0, len(self.map), POINT.size)}

    def _u32(self, name, field, value=None):
        at = self.at[name] + field
        if value is None:
            return struct.unpack_from("<I", self.map, at)[0]
        struct.pack_into("<I", self.map, at, value)

    def _u64(self, name, field):
        return struct.unpack_from("<Q", self.map, self.at[name] + field)[0]

    def passed(self, name):
        return self._u64(name, PASSED)

    def acted(self, name):
        return self._u64(name, ACTED)

    def held(self, name):
        return self._u32(name, HELD)

    def counts(self):
        return {name: self.passed(name) for name in self.at}

    def arm(self, name, action, nth=1, error=0):
        self._u32(name, ACTION, action)
        self._u32(name, ERROR, error)
        self._u32(name, LEFT, nth)

    def release(self):
        for name in self.at:
            self._u32(name, LEFT, 0)
            self._u32(name, HELD, 0)


def table(directory, role):
    path = os.path.join(directory, f"{role}.faults")
    return Points(path) if os.path.exists(path) else None
