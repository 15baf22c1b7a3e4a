"""A process of this host that is made to do system calls of ours, as who took it over would: in its own
namespaces, as its own user, through its own filters, with its own descriptors.

	with Puppet(pid) as p:
		p.call("openat", AT_FDCWD, b"/etc/passwd", 0)	# a descriptor, or -errno

One thread is stopped by ptrace, is given registers and single-stepped over a `syscall` instruction of its
own vDSO. Afterwards it goes on where it was. A filter that kills, kills it: Killed.
"""

import ctypes
import errno
import os
import signal
import struct
import time

NUMBERS = {
    "mmap": 9, "ioctl": 16, "pwrite64": 18, "socket": 41, "connect": 42, "execve": 59, "kill": 62, "ftruncate": 77,
    "mkdir": 83, "ptrace": 101, "chroot": 161, "add_key": 248, "keyctl": 250, "openat": 257, "unshare": 272,
    "fallocate": 285, "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302, "process_vm_readv": 310,
    "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
}
SEIZE, INTERRUPT, GETREGS, SETREGS, STEP, DETACH = 0x4206, 0x4207, 12, 13, 9, 17
RDI, RSI, RDX, R10, R8, R9 = 14, 13, 12, 7, 9, 8  # in user_regs_struct
RAX, ORIG_RAX, RIP = 10, 15, 16
WALL = 0x40000000
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


class Killed(Exception):
    """By this signal."""


def ptrace(request, pid, data=None):
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


class Puppet:
    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        ptrace(SEIZE, self.pid)
        try:
            ptrace(INTERRUPT, self.pid)
            self._wait()
            self.saved = self._regs()
            self.mem = os.open(f"/proc/{self.pid}/mem", os.O_RDWR)
            self.at = self._syscall_instruction()
            self.buffer = self.call("mmap", 0, 1 << 16, 3, 0x22, -1, 0)
            assert self.buffer > 0, self.buffer
        except BaseException:
            ptrace(DETACH, self.pid)
            raise
        return self

    def __exit__(self, kind, *_):
        os.close(self.mem)
        if kind is not Killed:
            self._set(self.saved)
            ptrace(DETACH, self.pid)

    def _wait(self):
        """The signal that it stopped at. A filter may end this one thread alone: then nobody is told."""
        while True:
            pid, status = os.waitpid(self.pid, WALL | os.WNOHANG)
            if pid:
                break
            with open(f"/proc/{self.pid}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    raise Killed("its thread")
            time.sleep(0.001)
        if os.WIFSIGNALED(status):
            raise Killed(signal.Signals(os.WTERMSIG(status)).name)
        return os.WSTOPSIG(status)

    def _regs(self):
        regs = (ctypes.c_uint64 * 27)()
        ptrace(GETREGS, self.pid, ctypes.addressof(regs))
        return regs

    def _set(self, regs):
        ptrace(SETREGS, self.pid, ctypes.addressof(regs))

    def _syscall_instruction(self):
        with open(f"/proc/{self.pid}/maps") as f:
            low, high = next(line.split()[0].split("-") for line in f if line.endswith("[vdso]\n"))
        code = os.pread(self.mem, int(high, 16) - int(low, 16), int(low, 16))
        return int(low, 16) + code.index(b"\x0f\x05")

    def call(self, name, *args):
        """Its result. bytes are given by address, with a NUL behind them."""
        values, at = [], getattr(self, "buffer", 0)
        for a in args:
            if isinstance(a, bytes):
                os.pwrite(self.mem, a + b"\0", at)
                a, at = at, (at + len(a) + 16) & ~15
            values.append(a)
        regs = (ctypes.c_uint64 * 27)(*self.saved)
        for place, value in zip((RDI, RSI, RDX, R10, R8, R9), values):
            regs[place] = value & (1 << 64) - 1
        regs[RAX], regs[ORIG_RAX], regs[RIP] = NUMBERS[name], (1 << 64) - 1, self.at
        self._set(regs)
        ptrace(STEP, self.pid)
        stop = self._wait()
        while stop != signal.SIGTRAP:  # a signal of its own, or one that a filter sends
            ptrace(STEP, self.pid)
            stop = self._wait()
        return struct.unpack("q", struct.pack("Q", self._regs()[RAX]))[0]

    def tries(self, name, *args):
        """"ok", or the name of the error."""
        r = self.call(name, *args)
        return errno.errorcode[-r] if r < 0 else "ok"
