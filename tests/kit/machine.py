"""A virtual machine from the bundle of weir-guest, alone: QEMU, a tap in a network namespace of its
own, and the agent's protocol. No daemon; the caller plays the host and the api role.

	with Machine(bundle, root, disk, "weir.ip4=10.60.0.5") as vm:
		vm.ready(); vm.wake(hostname="otter"); vm.run("id -u")

Needs root. By software emulation (TCG) unless told otherwise.
"""

import ctypes
import fcntl
import glob
import json
import mmap
import os
import select
import shutil
import socket
import struct
import subprocess
import time

SANDBOX, GATEWAY = "169.254.77.2", "169.254.77.1"
MAC_SANDBOX, MAC_GATEWAY = "02:57:45:49:52:02", "02:57:45:49:52:01"
PORT = 1028
READY = b"\x06"
EXEC, GET, WAKE, SLEEP, END, STDOUT, STDERR, EXIT, OK, ERROR = 1, 3, 4, 14, 33, 34, 35, 37, 38, 39
TUNSETIFF, TAP_FLAGS = 0x400454CA, 0x0002 | 0x1000 | 0x4000  # tap, no header but virtio-net's
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def lacking():
    """What machines need and this host has not, as words."""
    return ", ".join(what for there, what in (
        (os.geteuid() == 0, "root"),
        (shutil.which("qemu-system-x86_64"), "QEMU (package qemu-system-x86)"),
        (glob.glob("/boot/vmlinuz-*-cloud-amd64"), "a kernel (package linux-image-cloud-amd64)"),
        (os.path.exists("/dev/net/tun"), "/dev/net/tun")) if not there)


def tsc_khz():
    """The guest's time stamp counter is the host's: its rate, over 50 ms of the monotonic clock."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl rdx,32; or rax,rdx; ret
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    t0, c0 = time.monotonic_ns(), rdtsc()
    time.sleep(0.05)
    t1, c1 = time.monotonic_ns(), rdtsc()
    return (c1 - c0) * 1000000 // (t1 - t0)


def field(tag, value):
    return struct.pack(">BxxxI", tag, len(value)) + value


def frame(kind, body=b""):
    return struct.pack(">BBHI", kind, 0, 0, len(body)) + body


class Refused(Exception):
    """An ERROR frame: errno and a sentence."""


class Talk:
    def __init__(self, sock):
        self.sock, self.bytes = sock, b""

    def next(self):
        while len(self.bytes) < 8 or len(self.bytes) < 8 + struct.unpack_from(">I", self.bytes, 4)[0]:
            more = self.sock.recv(1 << 16)
            if not more:
                return None, b""
            self.bytes += more
        kind, length = self.bytes[0], struct.unpack_from(">I", self.bytes, 4)[0]
        body, self.bytes = self.bytes[8:8 + length], self.bytes[8 + length:]
        return kind, body

    def exit(self):
        """Of a command, to its end: its status and what it wrote, both streams."""
        out = b""
        while True:
            kind, body = self.next()
            if kind in (STDOUT, STDERR):
                out += body
            elif kind == ERROR:
                raise Refused(body)
            elif kind in (EXIT, None):
                f = fields(body)
                return (struct.unpack(">I", f.get(1, bytes(4)))[0],
                        (out + f.get(3, b"")).decode().strip())


def fields(body):
    out, at = {}, 0
    while at < len(body):
        tag, length = struct.unpack_from(">BxxxI", body, at)
        out[tag] = body[at + 8:at + 8 + length]
        at += 8 + length
    return out


class Namespace:
    """A network namespace with a name of its own; sockets made inside stay there."""

    def __init__(self):
        self.name = f"weirvm-{os.getpid()}-{id(self) & 0xffffff:x}"
        self.ip("netns", "add", self.name)
        self.fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)

    @staticmethod
    def ip(*argv):
        subprocess.run(["ip", *argv], check=True)

    def __enter__(self):
        if libc.setns(self.fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def __exit__(self, *exc):
        if libc.setns(self.home, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def tap(self):
        """The host's end of a link, as the router namespace has it."""
        with self:
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"w1", TAP_FLAGS))
        for argv in (["link", "set", "lo", "up"], ["addr", "add", f"{GATEWAY}/32", "dev", "lo"],
                     ["link", "set", "w1", "address", MAC_GATEWAY, "up"],
                     ["neigh", "add", SANDBOX, "lladdr", MAC_SANDBOX, "dev", "w1"],
                     ["route", "add", SANDBOX, "dev", "w1"]):
            self.ip("-n", self.name, *argv)
        return fd

    def close(self):
        os.close(self.fd)
        os.close(self.home)
        self.ip("netns", "del", self.name)


class Qmp:
    """QEMU's control channel; descriptors go along with a command."""

    def __init__(self, sock):
        self.sock, self.lines = sock, sock.makefile("r")
        sock.settimeout(30)
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, fd=None, **arguments):
        said = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self.sock, [said], [] if fd is None else [fd])
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def ignore_shared(self):
        self("migrate-set-capabilities",
             capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def until(self, command, done, seconds=30):
        end = time.monotonic() + seconds
        while (status := self(command)["status"]) not in done:
            assert time.monotonic() < end and status != "failed", f"{command}: {status}"
            time.sleep(0.002)


def memory_file(mib):
    fd = os.memfd_create("weir-memory", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, mib << 20)
    return fd


def seal(fd):
    """Nobody writes, shortens or extends it any more. Fails while a machine maps it as its own."""
    fcntl.fcntl(fd, 1033, 0x1 | 0x2 | 0x4 | 0x8)  # F_ADD_SEALS: SEAL, SHRINK, GROW, WRITE


class Machine:
    """memory: a memory_file(), the machine's own or, with state, a template's (doc/vm-snapshots.md);
    then it goes on from where state was saved instead of booting."""

    def __init__(self, bundle, root, disk, words="", mib=256, memory=None, state=None):
        self.net = Namespace()
        self.process, self.console, self.said = None, -1, b""
        tap = self.net.tap()
        read, write = os.pipe()
        self.qmp_socket, theirs = socket.socketpair()
        more = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
        if memory is not None:
            more += ["-machine", "memory-backend=ram", "-object",
                     f"memory-backend-file,id=ram,size={mib}M,mem-path=/proc/self/fd/{memory},"
                     f"share={'on' if state is None else 'off'}"]
        if state is not None:
            more += ["-S", "-incoming", "defer"]
        try:
            line = open(os.path.join(bundle, "cmdline")).read().strip()
            self.started = time.monotonic()
            self.process = subprocess.Popen([
                "qemu-system-x86_64", "-M", "microvm,pit=off,pic=off,rtc=on,isa-serial=on",
                "-accel", "tcg,thread=multi,tb-size=64", "-m", str(mib), "-nodefaults",
                "-no-user-config", "-display", "none", "-no-reboot",
                "-chardev", f"file,id=tty,path=/dev/fd/{write}", "-serial", "chardev:tty",
                "-kernel", os.path.join(bundle, "kernel"), "-initrd", os.path.join(bundle, "initrd"),
                "-append", f"{line} console=ttyS0 loglevel=1 tsc=reliable "
                f"tsc_early_khz={tsc_khz()} {words}",
                "-drive", f"if=none,id=root,file={root},format=raw,readonly=on",
                "-device", "virtio-blk-device,drive=root,serial=root",
                "-drive", f"if=none,id=disk,file={disk},format=raw,cache=unsafe",
                "-device", "virtio-blk-device,drive=disk,serial=disk",
                "-netdev", f"tap,id=n0,fd={tap}",
                "-device", f"virtio-net-device,netdev=n0,mac={MAC_SANDBOX}", *more],
                stdin=subprocess.DEVNULL,
                pass_fds=[tap, write, theirs.fileno(), *([] if memory is None else [memory])])
            self.console = read
        finally:
            os.close(tap)
            os.close(write)
            theirs.close()
        try:
            self.qmp = Qmp(self.qmp_socket)
            if state is not None:
                self.qmp.ignore_shared()
                self.go_on_from(state)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.end()

    def end(self):
        """At any time; more than once."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.qmp_socket.close()
            os.close(self.console)
            self.process = None
        if self.net:
            self.net.close()
            self.net = None

    def save(self):
        """Stop, and save the devices; the memory file has the rest."""
        state = os.memfd_create("weir-state")
        self.qmp.ignore_shared()
        self.qmp("stop")
        self.qmp("getfd", state, fdname="state")
        self.qmp("migrate", uri="fd:state")
        self.qmp.until("query-migrate", {"completed"})
        return state

    def go_on_from(self, state):
        os.lseek(state, 0, os.SEEK_SET)
        self.qmp("getfd", state, fdname="state")
        self.qmp("migrate-incoming", uri="fd:state")
        self.qmp.until("query-migrate", {"completed"})
        self.qmp("cont")

    def listen(self, until, seconds):
        """Read the console until it has said this, or the machine ended; True if it has."""
        end = time.monotonic() + seconds
        while until not in self.said:
            ready, _, _ = select.select([self.console], [], [], max(0, end - time.monotonic()))
            more = os.read(self.console, 4096) if ready else b""
            if not more:
                return False
            self.said += more
        return True

    def ready(self, seconds=60):
        assert self.listen(READY, seconds), f"the machine did not get ready: {self.said!r}"
        return time.monotonic() - self.started

    def ended(self, seconds=60):
        self.listen(b"\0never", seconds)
        return self.process.wait(seconds)

    def talk(self, first):
        with self.net:
            sock = socket.socket()
        sock.settimeout(30)
        sock.bind((GATEWAY, 0))
        sock.connect((SANDBOX, PORT))
        sock.sendall(first)
        return Talk(sock)

    def begin(self, script):
        return self.talk(frame(EXEC, field(1, b"/bin/sh") + field(1, b"-c") + field(1, script.encode())) +
                         frame(END))

    def run(self, script):
        """A command's exit status and what it wrote, both streams."""
        return self.begin(script).exit()

    def sh(self, script):
        status, out = self.run(script)
        assert status == 0, f"{script}: {out}"
        return out

    def wake(self, **values):
        """Fields of WAKE by name; raises Refused with the agent's sentence."""
        tags = {"hostname": 1, "ip4": 2, "ip6": 3, "wall_ns": 4, "entropy": 5, "overlay": 8,
                "machine": 9}
        body = b""
        for name in sorted(values, key=tags.get):
            v = values[name]
            if name in ("ip4", "ip6", "overlay"):
                v = socket.inet_pton(socket.AF_INET6 if name == "ip6" else socket.AF_INET, v)
            elif name == "wall_ns":
                v = struct.pack(">Q", v)
            body += field(tags[name], v.encode() if isinstance(v, str) else v)
        kind, answer = self.talk(frame(WAKE, body)).next()
        if kind != OK:
            raise Refused(fields(answer).get(2, b"").decode())

    def size(self, path):
        """Of a file, as the agent's own process sees it: whatever is held."""
        kind, answer = self.talk(frame(GET, field(1, path.encode()))).next()
        if kind != OK:
            raise Refused(fields(answer).get(2, b"").decode())
        return struct.unpack(">Q", fields(answer).get(3, bytes(8)))[0]

    def sleep(self):
        """Hold all that runs in it, until a wake."""
        kind, answer = self.talk(frame(SLEEP)).next()
        if kind != OK:
            raise Refused(fields(answer).get(2, b"").decode())
