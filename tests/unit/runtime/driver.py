"""The container runtime by hand: images made on the fly, a driver process, boxes in it.

with Driver() as d:
    d.spawn("sb-1")
    text, status = d.run("sb-1", "id")

Everything has names of its own and is gone afterwards; `leaks()` says what is not.
"""

import atexit
import os
import random
import shutil
import signal
import subprocess
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
ROOT = os.path.dirname(TESTS)
PROGRAM = os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"),
                       "tests/unit/runtime/runtime-driver")
PROBES = os.path.join(TESTS, "attack/probes")
LIFT = {"seccomp": 1, "caps": 2, "masks": 4, "fds": 8, "seals": 16, "userns": 32, "links": 64,
        "nodev": 128, "core": 256, "owner": 512}
APPLETS = ("sh cat cp dd df echo grep head hostname id kill ln ls mkdir mknod mount mv nproc ps "
           "readlink rm seq sleep sort stat sync tail touch true umount wc chmod").split()
_agent = []


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


def why_not():
    """Why these tests cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists(PROGRAM):
        return "runtime-driver is not built"
    if not shutil.which("busybox") or not shutil.which("gcc"):
        return "needs busybox-static and gcc"
    return None


def agent():
    """The stand-in agent, which is also the probe, built once."""
    if not _agent:
        where = tempfile.mkdtemp(prefix="weir-agent-")
        atexit.register(shutil.rmtree, where, True)
        sources = [os.path.join(PROBES, f) for f in sorted(os.listdir(PROBES)) if f.endswith(".c")]
        path = os.path.join(where, "agent")
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-o", path, *sources], check=True)
        _agent.append(path)
    return _agent[0]


class Driver:
    def __init__(self, lift=(), backend="auto", state=None, cgroup=None, uid_base=None,
                 hide_v2=False):
        self.state = state or tempfile.mkdtemp(prefix="weir-rt-", dir="/var/tmp")
        self.cgroup = cgroup or f"weir-rt-{os.getpid()}-{random.randrange(1 << 32):08x}"
        # Ranges of parallel test runs need not differ, but a leak should be told from a neighbour's.
        self.uid_base = uid_base or random.randrange(100, 30000) << 16
        self.lift = sum(LIFT[name] for name in lift)
        self.backend = backend
        # On a hybrid host, a mount namespace without the v2 tree is a v1 host.
        self.wrap = ["unshare", "-m", "--propagation", "private", "sh", "-c",
                     'umount -a -t cgroup2 && exec "$@"', "sh"] if hide_v2 else []
        self.agent = agent()
        if not state:
            self.image("bb:1")

    def image(self, name, change=None, uid=0):
        """A root file system of busybox and the probe; change(rootfs) makes it hostile."""
        digest = "%064x" % random.getrandbits(256)
        top = os.path.join(self.state, "images/images", digest)
        root = os.path.join(top, "rootfs")
        for d in "bin etc root tmp proc sys dev".split():
            os.makedirs(os.path.join(root, d))
        shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
        shutil.copy(agent(), os.path.join(root, "bin/probe"))
        for applet in APPLETS:
            os.symlink("busybox", os.path.join(root, "bin", applet))
        os.chmod(os.path.join(root, "tmp"), 0o1777)
        if change:
            change(root)
        for where, dirs, files in os.walk(root):
            for f in [where] + [os.path.join(where, f) for f in dirs + files]:
                os.lchown(f, uid, uid)
        with open(os.path.join(top, "meta"), "w") as f:
            f.write(f"name={name}\ndigest=sha256:{digest}\nbytes=1\nuid_base={uid}\n"
                    "created=2026-01-01T00:00:00Z\n")
        names = os.path.join(self.state, "images/names")
        os.makedirs(names, exist_ok=True)
        os.symlink(f"../images/{digest}", os.path.join(names, name))

    def __enter__(self):
        self.start()
        return self

    def start(self, extra_fds=()):
        self.p = subprocess.Popen(
            [*self.wrap, PROGRAM, self.state, self.agent, f"lift={self.lift}", f"backend={self.backend}",
             f"cgroup={self.cgroup}", f"uid_base={self.uid_base}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=extra_fds)
        self._reply()

    def crash(self):
        """kill -9 of the host role."""
        self.p.send_signal(signal.SIGKILL)
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()

    def stop(self):
        if self.p.poll() is None:
            self.p.stdin.write(b"quit\n")
            self.p.stdin.flush()
            self.p.wait(120)
        self.p.stdin.close()
        self.p.stdout.close()

    def __exit__(self, *_):
        """Whatever a test left is swept by a fresh driver, so that failures leak nothing either."""
        if self.p.poll() is None:
            self.crash()
        self.lift = 0
        self.start()
        self("sweep")
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)

    def _reply(self):
        line = self.p.stdout.readline().decode(errors="replace").rstrip("\n")
        word, _, rest = line.partition(" ")
        if word == "ok":
            return rest
        if word == "error":
            code, _, text = rest.partition(" ")
            raise Refused(int(code), text)
        raise RuntimeError(f"the driver said {line!r}")

    def __call__(self, *words):
        self.p.stdin.write((" ".join(str(w) for w in words) + "\n").encode())
        self.p.stdin.flush()
        return self._reply()

    def spawn(self, box="sb-1", image="bb:1", slot=1, mem=128, disk=64, pids=128, cpu=0,
              revive=False):
        """Returns (pid, microseconds)."""
        reply = self("spawn", box, image, slot, mem, disk, pids, cpu, *["revive"] * revive)
        pid, us = reply.split()
        return int(pid), int(us)

    def run(self, box, command):
        """Returns (output, exit status) of a shell command of one line."""
        n = int(self("run", box, command))
        text = self.p.stdout.read(n).decode(errors="replace")
        output, _, status = text.rpartition("\n")
        return output, int(status) if status.lstrip("-").isdigit() else None

    def end(self, box, keep=False):
        """Kill, wait, clean up: (wait status, oom)."""
        self("kill", box)
        self("wait", box)
        return tuple(int(v) for v in self("cleanup", box, *["keep"] * keep).split())

    def leaks(self):
        """What of ours the kernel still has, as text lines."""
        found = []
        for where, dirs, _ in os.walk("/sys/fs/cgroup"):
            if self.cgroup in dirs:
                found += [f"cgroup {where}/{self.cgroup}/{d}"
                          for d in os.listdir(f"{where}/{self.cgroup}") if d.startswith("box-")]
                dirs.remove(self.cgroup)
        with open("/proc/self/mounts") as f:
            found += [f"mount {line.strip()}" for line in f if self.state in line]
        loops = subprocess.run(["losetup", "-O", "NAME,BACK-FILE", "-n"], stdout=subprocess.PIPE)
        found += [f"loop {line}" for line in loops.stdout.decode().splitlines()
                  if self.state in line and "/layers/volume" not in line]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cgroup") as f:
                    grouped = f"/{self.cgroup}/" in f.read()
                with open(f"/proc/{pid}/status") as f:
                    zombie = "State:\tZ" in f.read()
            except OSError:
                continue
            if grouped and not zombie:
                found.append(f"process {pid}")
        layers = os.path.join(self.state, "layers")
        found += [f"layer {d}" for d in os.listdir(layers)
                  if not d.startswith(".template") and d not in ("volume", "lost+found")]
        return found
