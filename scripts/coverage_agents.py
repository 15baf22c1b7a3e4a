"""What the agents inside sandboxes count, got out of there: a thread of scripts/coverage.py.

	watch = Agents(name, into)	/run/<name>... of every agent on this machine
	watch.end()			adds what all of them counted to the file `into`

The agent of such a build has its counts in a file that is mapped, as all programs there, and nothing
but the name is special: /run of a container is a memory file system of its own. The file is opened
from outside, through /proc/PID/root, as soon as it is there, and read when the process has ended,
whatever ended it: a file without a name keeps what was written. Files of one program have one layout,
so that what any of them counted is the bits of all (a line that ran is a count that is not 0).

In a virtual machine nothing can be opened. There the agent moves its counts into one large page of
memory that begins with MAGIC (scripts/coverage_agent.c), and this thread reads QEMU's: again and
again, since the memory is gone with the process.
"""

import glob
import os
import select
import struct
import threading

TICK_S = 0.05
LARGE = 2 << 20
MAGIC = b"weir agent count"
HEADER, ENTRY = 11 * 8, 48
LATER = "weird"  # what an agent is before it is executed


def counts_at(data):
    """Where in a file of the 8th version the counts begin."""
    _, version, ids, entries, before = struct.unpack_from("<5Q", data)
    assert version & 0xff == 8, version
    return HEADER + ids + entries * ENTRY + before


def pages(pid):
    """Where in the process's memory a large page of a guest's may begin."""
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if end - begin >= 32 * LARGE:
                yield from range(begin, end, LARGE)


class Machine:
    """One QEMU: its guest's counts are at a place in its memory that stays."""

    def __init__(self, pid):
        self.pid, self.at, self.data = pid, None, b""
        self.mem = os.open(f"/proc/{pid}/mem", os.O_RDONLY)

    def find(self):
        for at in pages(self.pid):
            try:
                if os.pread(self.mem, len(MAGIC), at) == MAGIC:
                    return at
            except OSError:
                continue
        return None

    def look(self):
        self.at = self.at or self.find()
        if self.at is None:
            return
        head = len(MAGIC) + 8
        size = int.from_bytes(os.pread(self.mem, 8, self.at + len(MAGIC)), "little")
        data = os.pread(self.mem, size, self.at + head)
        if len(data) == size:
            self.data = data

    def close(self):
        os.close(self.mem)


class Agents(threading.Thread):
    def __init__(self, name, into):
        super().__init__(daemon=True)
        self.name_in_run, self.into = name, into
        self.done = threading.Event()
        self.other = set()  # pids that need no second look
        self.open = {}     # pidfd: [fd, ...] or Machine
        self.watched = set()
        self.files = set()  # (device, inode) of what is open
        self.sums = {}     # size of a file: its bits, as a number
        self.guests = 0    # bits of what machines counted
        self.start()

    def run(self):
        while not self.done.wait(TICK_S):
            self.look()
            self.reap()

    def look(self):
        now = {int(p) for p in os.listdir("/proc") if p.isdigit()}
        self.other &= now
        self.watched &= now
        for pid in now - self.watched - self.other:
            try:
                self.one(pid)
            except OSError:
                pass  # it ended meanwhile
        for held in self.open.values():
            if isinstance(held, Machine):
                try:
                    held.look()
                except OSError:
                    pass

    def one(self, pid):
        try:
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except OSError:
            program = None  # the kernel's, or at its end
        if program and program.startswith("qemu-system"):
            self.hold(pid, Machine(pid))
        elif program and "weir-agent" in program:  # of a container: memfd:weir-agent (deleted)
            for path in glob.glob(f"/proc/{pid}/root/run/{self.name_in_run}*"):
                self.take(pid, path)
        elif program != LATER:
            self.other.add(pid)

    def take(self, pid, path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        st = os.fstat(fd)
        if not st.st_size:  # just made
            os.close(fd)
        elif (st.st_dev, st.st_ino) in self.files:  # a child of one that is watched
            os.close(fd)
            self.watched.add(pid)
        else:
            self.files.add((st.st_dev, st.st_ino))
            self.hold(pid, fd)

    def hold(self, pid, what):
        self.watched.add(pid)
        self.open[os.pidfd_open(pid)] = what

    def reap(self):
        poll = select.poll()
        for fd in self.open:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            self.count(self.open.pop(fd))
            os.close(fd)

    def count(self, what):
        if isinstance(what, Machine):
            self.guests |= int.from_bytes(what.data, "little")
            what.close()
            return
        st = os.fstat(what)
        data = os.pread(what, st.st_size, 0)
        os.close(what)
        self.files.discard((st.st_dev, st.st_ino))
        self.sums[len(data)] = self.sums.get(len(data), 0) | int.from_bytes(data, "little")

    def end(self):
        self.done.set()
        self.join()
        for what in self.open.values():
            self.count(what)
        if self.guests and not self.sums:  # a file of a run before, to put them into
            for path in glob.glob(f"{self.into}-*"):
                with open(path, "rb") as f:
                    data = f.read()
                self.sums[len(data)] = int.from_bytes(data, "little")
        for size, bits in self.sums.items():
            bits |= self.guests << 8 * counts_at(bits.to_bytes(size, "little"))
            with open(f"{self.into}-{os.getpid()}-{size}", "wb") as f:
                f.write(bits.to_bytes(size, "little"))
