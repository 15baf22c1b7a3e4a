"""A throwaway daemon: unique in everything a machine has only once, gone without a trace.

	with Daemon({"egress.refuse": "drop"}) as d:
		d.url, d.key		# ready
		d.kill9(); d.start()	# same state again

A number taken by flock fixes the address ranges and user ids, and begins the name, so any number of
daemons can run side by side. Leaving stops the daemon, has `weird --down` take everything away, asks
`weird --leaks`, and then looks for itself at links, mounts, cgroups, loop devices, BPF pins, nft
tables and processes that carry the name. Leak is raised for what is left, and for secrets in the log.
"""

import fcntl
import glob
import http.client
import json
import os
import pwd
import random
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time

from . import secrets

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LOCKS = "/run/lock/weir-daemons"
READY_S = 180
STOP_S = 120
GRACE_S = 60


class Leak(Exception):
    pass


class NotReady(Exception):
    pass


def build_dir():
    return os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"))


def image_dir():
    return os.environ.get("WEIR_IMAGE_DIR", "/var/cache/weir/images")


def program(name):
    found = os.path.join(build_dir(), "src", "cmd", name)
    return found if os.path.exists(found) else (shutil.which(name) or found)


def build():
    """Build the tree if that was not done; quiet unless it fails or takes long."""
    if os.environ.get("WEIR_NO_BUILD"):
        return
    os.makedirs(LOCKS, exist_ok=True)
    lock_name = "build-" + build_dir().replace("/", "_")
    with open(os.path.join(LOCKS, lock_name), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(build_dir(), "build.ninja")):
            quiet("meson", "setup", build_dir(), cwd=ROOT)
        quiet("ninja", "-C", build_dir())


def quiet(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def image(name="devbox:1"):
    """Make sure the machine's image store has it; a build prints its progress."""
    if os.path.exists(os.path.join(image_dir(), "names", name, "meta")):
        return
    env = dict(os.environ, WEIR_RECIPES=os.path.join(ROOT, "scripts", "images"))
    done = subprocess.run([program("weir-build"), name, "--store", image_dir(), "--network",
                           "host"], env=env, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"building the image {name} failed")


def prepare():
    """All that a daemon needs and a machine may not have yet: the build, the user, the images."""
    build()
    user()
    for name in os.environ.get("WEIR_IMAGES", "devbox:1").split():
        image(name)


def user(name="weir"):
    try:
        pwd.getpwnam(name)
    except KeyError:
        quiet("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
              "--shell", "/usr/sbin/nologin", name)


def surrounding(*keys):
    """What the daemon above this one was told: for tests whose sandboxes are what they are elsewhere."""
    try:
        with open(os.environ["WEIR_DAEMON"]) as f:
            told = json.load(f)["settings"]
    except (KeyError, FileNotFoundError):
        return {}
    return {key: told[key] for key in keys if key in told}


class Daemon:
    def __init__(self, settings=None, log=None):
        os.makedirs(LOCKS, exist_ok=True)
        self.number, self._lock = self._take_number()
        self.name = f"t{self.number}" + "".join(random.choices(string.ascii_lowercase, k=3))
        self.dir = tempfile.mkdtemp(prefix=f"weird-{self.name}-", dir="/var/tmp")
        os.chmod(self.dir, 0o711)
        self.run_dir = os.path.join(self.dir, "run")
        self.state_dir = os.path.join(self.dir, "state")
        self.log_path = log or os.path.join(self.dir, "log")
        self.settings = {
            "daemon.name": self.name,
            "daemon.run_dir": self.run_dir,
            "daemon.state_dir": self.state_dir,
            "daemon.image_dir": image_dir(),
            "api.listen": "127.0.0.1:0",
            "ingress.listen": "127.0.0.1:0",
            "net.range4": f"10.{128 + self.number // 16}.{self.number % 16 * 16}.0/20",
            "net.range6": f"fd77:6569:72{self.number // 256:02x}:{self.number % 256:x}::/64",
            "pool.slots": "4",  # most daemons here make a sandbox or two
            "vm.warm_mib": "0",  # how a machine begins does not depend on the tests before
            "vm.ready": "0",
            "vm.accel": "tcg",  # figures and failures that do not depend on the host's KVM
            "uid.base": str(1048576 + self.number * 65536 % 33554432),
            **(settings or {}),
        }
        self.process = None
        self.url = self.key = self.ingress = None  # ingress: "127.0.0.1:port"

    @staticmethod
    def _take_number():
        for n in range(1, 2000):
            lock = open(os.path.join(LOCKS, str(n)), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return n, lock
            except OSError:
                lock.close()
        raise SystemExit("2,000 daemons are running; that is enough")

    def argv(self, *more):
        argv = [program("weird"), "--config", "/dev/null"]
        for key, value in self.settings.items():
            argv += ["--set", f"{key}={value}"]
        return argv + list(more)

    def environment(self):
        return {"WEIR_RECIPES": os.path.join(ROOT, "scripts", "images"),
                "WEIR_GUEST_DIR": "/var/cache/weir/guest", **os.environ}

    def start(self):
        address = os.path.join(self.run_dir, "api.addr")
        if os.path.exists(address):
            os.unlink(address)
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.argv(), stdout=self.log, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL, env=self.environment(),
                                        start_new_session=True)
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise NotReady(f"weird ended with {self.process.returncode}\n{self.log_tail()}")
            if self._ready(address):
                return self
            time.sleep(0.02)
        raise NotReady(f"weird was not ready after {READY_S} s\n{self.log_tail()}")

    def _ready(self, address):
        try:
            with open(address) as f:
                where = f.read().split()[0]
        except (OSError, IndexError):
            return False
        with open(os.path.join(self.run_dir, "ingress.addr")) as f:
            self.ingress = f.read().split()[0]
        self.address = where
        self.url = f"http://{where}"
        try:
            c = http.client.HTTPConnection(where, timeout=5)
            c.request("GET", "/readyz")
            if c.getresponse().status != 200:
                return False
        except OSError:
            return False
        keys = glob.glob(os.path.join(self.state_dir, "**", "admin.key"), recursive=True)
        if not keys:
            return False
        with open(keys[0]) as f:
            self.key = f.read().strip()
        return True

    def log_tail(self, lines=40):
        try:
            with open(self.log_path, errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except OSError:
            return ""

    def terminate(self):
        """An orderly stop; sandboxes stay."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise Leak(f"weird did not stop within {STOP_S} s\n{self.log_tail()}") from None

    def kill9(self, pid=None):
        """kill -9 of the host role, or of another of its processes."""
        if pid:
            os.kill(pid, signal.SIGKILL)
        elif self.process:
            self.process.kill()
            self.process.wait()

    def role(self, name):
        """The pid of a role ("api", "edge"): the host role's children, by program name."""
        return next((p for p in descendants(self.process.pid)
                     if comm(p).startswith(f"weir-{name}")), None)

    def memory(self, what):
        """{role: KiB} of "VmRSS" or "Pss", as the kernel counts it."""
        found = {}
        for name, pid in (("host", self.process.pid), ("api", self.role("api")),
                          ("edge", self.role("edge"))):
            found[name] = memory_of(pid, what)
        return found

    def agents(self):
        """The pids of this daemon's sandboxes' first processes."""
        group = f"/{self.settings.get('cgroup.root') or self.name}/"
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit()
                and group in read(f"/proc/{pid}/cgroup")
                and "NSpid:\t" in (status := read(f"/proc/{pid}/status"))
                and status.split("NSpid:\t")[1].split("\n")[0].split("\t")[1:] == ["1"]]

    def stop(self):
        """Stop, take everything away, look for leaks. Raises Leak; always forgets its files."""
        problems = []
        try:
            try:
                self.terminate()
            except Leak as e:
                problems.append(str(e))
            problems += [f"its log: {what}" for what in self.logged_secrets()]
            down = self._action("--down")
            if down:
                problems.append(down)
            # The dead may still wait for the machine's init to collect them.
            end = time.monotonic() + GRACE_S
            while left := [x for x in [self._action("--leaks")] if x] + self.leaks():
                if time.monotonic() > end:
                    problems += left
                    break
                time.sleep(0.05)
        finally:
            if not problems:
                shutil.rmtree(self.dir, ignore_errors=True)
            self._lock.close()
        if problems:
            raise Leak(f"daemon {self.name} left something behind (its files: {self.dir}):\n  " +
                       "\n  ".join(problems))

    def _action(self, flag):
        """Run weird with one of its actions; what went wrong, or None."""
        done = subprocess.run(self.argv(flag), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=self.environment(), timeout=120)
        if done.returncode:
            return f"weird {flag}: status {done.returncode}: {done.stdout.strip()[-2000:]}"
        return None

    def logged_secrets(self):
        values = secrets.told(self.dir) + ([self.key.encode()] if self.key else [])
        try:
            with open(self.log_path, "rb") as f:
                return secrets.found(f.read(), values)
        except FileNotFoundError:  # it never started
            return []

    def leaks(self):
        """What still carries our name, apart from our own files."""
        found = []

        def look(kind, lines):
            found.extend(f"{kind}: {line.strip()}" for line in lines
                         if self.name in line or self.dir in line)

        look("link", output("ip", "-o", "link").splitlines())
        look("nft", output("nft", "list", "tables").splitlines())
        look("mount", open("/proc/self/mountinfo").readlines())
        look("cgroup", (d for top in ("/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*",
                                      "/sys/fs/cgroup/*/*/*")
                        for d in glob.glob(top) if os.path.isdir(d)))
        look("loop", (f"{f}: {read(f)}" for f in glob.glob("/sys/block/loop*/loop/backing_file")))
        look("bpf", glob.glob("/sys/fs/bpf/**", recursive=True))
        look("netns", glob.glob("/run/netns/*"))
        look("process", (f"{p} {line}" for p in os.listdir("/proc") if p.isdigit()
                         for line in [read(f"/proc/{p}/cmdline").replace("\0", " ") + " " +
                                      read(f"/proc/{p}/cgroup").replace("\n", " ")]
                         if int(p) not in (os.getpid(), os.getppid())))
        return found

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            try:
                self.stop()
            except (Leak, subprocess.SubprocessError, OSError) as e:
                print(e, file=sys.stderr)
            raise

    def __exit__(self, kind, *_):
        try:
            self.stop()
        except Leak as e:
            if kind:  # the first failure is the one to see
                print(e, file=sys.stderr)
            else:
                raise


def output(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def memory_of(pid, what):
    """KiB of "VmRSS" or "Pss" of one process."""
    file = "smaps_rollup" if what == "Pss" else "status"
    with open(f"/proc/{pid}/{file}") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what + ":"))


def memory_available():
    """KiB that the machine could still give, by its own account."""
    return next(int(line.split()[1]) for line in open("/proc/meminfo")
                if line.startswith("MemAvailable:"))


def wait_until(what, seconds):
    """Poll a condition; its value, or None after that long."""
    end = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
    return value


def comm(pid):
    return read(f"/proc/{pid}/comm").strip()


def descendants(pid):
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        for task in glob.glob(f"/proc/{p}/task/*/children"):
            kids = [int(c) for c in read(task).split()]
            out += kids
            todo += kids
    return out
