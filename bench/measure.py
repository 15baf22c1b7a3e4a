"""What every row is made with: a client without overhead, samples, and the run's table.

	client = Client(d)                    one kept connection, raw: 15 µs of Python per request
	client.post("/v1/sandboxes", {...})   the answer's "data"; raises Failed on anything but success
	sampled(n, f)                         Samples of f(): .p50 and .p99 in ms
	b.add("exec", "exec of true", samples, peers=[("runc exec", samples)], aim=2)

A row's figure is a number in `unit`, or Samples (then the unit is ms and p99 is shown beside). A
peer's figure is made the same way in the same run. `aim` is a bound for the figure (`aim_p99` for its
99th percentile), `of` one for the ratio to the first peer: an upper bound, or a lower one where `better` is "more". `ok`
is what else must hold.
"""

import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402

SHAPE = "s-1vcpu-256mb"


class Failed(Exception):
    pass


class Skip(Exception):
    """This machine cannot show the row; the text says why."""


class Client:
    """Requests are bytes made beforehand, answers are read by Content-Length: what is timed is the
    daemon and two system calls."""

    def __init__(self, d):
        host, port = d.address.rsplit(":", 1)
        self.s = socket.create_connection((host, int(port)), timeout=120)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.key = d.key

    def request(self, method, path, body=None, size=None):
        """The bytes of one request. body: JSON, or bytes; size: they follow by other means."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: weir\r\nX-Api-Key: {self.key}\r\n"
        if body is not None or size is not None:
            head += ("Content-Type: application/json\r\n" if size is None else "") + \
                f"Content-Length: {len(body) if size is None else size}\r\n"
        return head.encode() + b"\r\n" + (body or b"")

    def answer(self):
        """(status, body) of the next answer."""
        status, length, got = self.answer_head()
        while len(got) < length:
            more = self.s.recv(length - len(got))
            if not more:
                raise Failed("the connection broke")
            got += more
        return status, bytes(got)

    def answer_head(self):
        got = bytearray()
        while (end := got.find(b"\r\n\r\n")) < 0:
            more = self.s.recv(65536)
            if not more:
                raise Failed("the connection broke")
            got += more
        head = bytes(got[:end]).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15:].split(b"\r\n", 1)[0]) if at >= 0 else 0
        return int(head[9:12]), length, got[end + 4:]

    def send(self, raw):
        self.s.sendall(raw)
        status, body = self.answer()
        if not 200 <= status < 300:
            raise Failed(f"{raw[:80]!r}: {status} {body[:300]!r}")
        return body

    def call(self, method, path, body=None):
        body = self.send(self.request(method, path, body))
        return json.loads(body)["data"] if body else None

    def post(self, path, body):
        return self.call("POST", path, body)

    def create(self, **more):
        return self.post("/v1/sandboxes", dict({"shape": SHAPE}, **more))["id"]

    def delete(self, box):
        self.call("DELETE", f"/v1/sandboxes/{box}")

    def close(self):
        self.s.close()


class Samples:
    def __init__(self, ms):
        self.ms = sorted(ms)
        self.p50 = statistics.median(self.ms)
        self.p99 = self.ms[min(len(self.ms) - 1, int(len(self.ms) * 0.99))]


def timed(f):
    start = time.perf_counter()
    f()
    return (time.perf_counter() - start) * 1000


def sampled(n, f):
    return Samples([timed(f) for _ in range(n)])


def spawn(argv, ok=True):
    """Run and wait, with as little of Python's own time as can be had; output is thrown away."""
    null = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=null)
    _, status = os.waitpid(pid, 0)
    if ok and status:
        raise Failed(f"{' '.join(argv)}: status {os.waitstatus_to_exitcode(status)}")


def image_rootfs():
    return os.path.realpath(os.path.join(kit.image_dir(), "names", "devbox:1", "rootfs"))


def machine():
    def first(path, key):
        try:
            with open(path) as f:
                return next((line.split(":", 1)[1].strip() for line in f
                             if line.startswith(key)), "")
        except OSError:
            return ""

    gib = int(first("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    distribution = "unknown"
    if os.path.exists("/etc/os-release"):
        with open("/etc/os-release") as f:
            distribution = next((line.split("=", 1)[1].strip().strip('"') for line in f
                                 if line.startswith("PRETTY_NAME=")), distribution)
    return (f"{first('/proc/cpuinfo', 'model name') or platform.machine()}, {os.cpu_count()} CPUs, "
            f"{gib:.0f} GiB, {distribution}, Linux {platform.release()}")


class Bench:
    """One run: the rows so far, and a directory for what they need."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.rows, self.skipped, self.short = [], [], []
        self._dir = tempfile.TemporaryDirectory(prefix="weir-bench-", dir="/var/tmp")
        self.dir = self._dir.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._dir.cleanup()

    def add(self, group, what, figure, peers=(), unit="ms", better="less", aim=None,
            aim_p99=None, of=None, ok=None, short=None):
        row = {"group": group, "what": what, "unit": unit, "better": better, **plain(figure),
               "peers": [{"name": name, **plain(f)} for name, f in peers if f is not None]}
        for peer in row["peers"]:
            peer["ratio"] = round(row["value"] / peer["value"], 5) if peer["value"] else None
        fails = []
        if aim is not None:
            row["aim"] = aim
            fails.append(row["value"] > aim if better == "less" else row["value"] < aim)
        if ok is not None:
            fails.append(not ok)
        if aim_p99 is not None:
            row["aim_p99"] = aim_p99
            fails.append(row["p99"] > aim_p99)
        if of is not None and row["peers"]:
            ratio = row["peers"][0]["ratio"]
            row["aim_of_peer"] = of
            fails.append(ratio > of if better == "less" else ratio < of)
        if fails:
            row["met"] = not any(fails)
        if short:
            self.short.append(f"{short} {number(row['value'])} {unit}")
        self.rows.append(row)
        print("\n".join(text_lines(row)), flush=True)


def plain(figure):
    if isinstance(figure, Samples):
        return {"value": round(figure.p50, 4), "p99": round(figure.p99, 4), "n": len(figure.ms)}
    return {"value": round(float(figure), 4)}


# --- showing ---

def number(v):
    if v is None:
        return "–"
    return f"{v:,.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.3g}"


def aim_text(row):
    sign = "≤" if row["better"] == "less" else "≥"
    out = [f"{sign} {number(row['aim'])}"] if "aim" in row else []
    if "aim_p99" in row:
        out.append(f"p99 ≤ {number(row['aim_p99'])}")
    if "aim_of_peer" in row:
        out.append(f"{sign} {number(row['aim_of_peer'])} × peer")
    return ", ".join(out)


def verdict(row):
    return {True: "yes", False: "NO", None: ""}[row.get("met")]


COLUMNS = f"{'what':44} {'aim':>14} {'figure':>9} {'p99':>9} {'unit':6} {'met':3}  " \
          f"{'peer':>9} {'p99':>9} {'ratio':>7}  peer"


def text_lines(row):
    peers = row["peers"] or [None]
    for i, peer in enumerate(peers):
        if i == 0:
            left = f"{row['what']:44} {aim_text(row):>14} {number(row['value']):>9} " \
                   f"{number(row['p99']) if 'p99' in row else '':>9} {row['unit']:6} " \
                   f"{verdict(row):3}"
        else:
            left = " " * 91
        yield (left + (f"  {number(peer['value']):>9} "
                       f"{number(peer['p99']) if 'p99' in peer else '':>9} "
                       f"{number(peer['ratio']):>7}  {peer['name']}" if peer else "")).rstrip()


def markdown(result):
    """The table of doc/performance.md."""
    out = [f"{result['machine']}; {result['when']}, {result['commit']}.", "",
           "| what | aim | figure | p99 | met | peer | ratio |", "|---|---|---|---|---|---|---|"]
    for row in result["rows"]:
        unit = row["unit"]
        peers = "; ".join(
            f"{p['name']} {number(p['value'])} {unit}" +
            (f" (p99 {number(p['p99'])})" if "p99" in p else "") for p in row["peers"])
        ratios = "; ".join(number(p["ratio"]) for p in row["peers"])
        out.append(f"| {row['what']} | {aim_text(row)} | {number(row['value'])} {unit} | "
                   f"{number(row['p99']) if 'p99' in row else ''} | "
                   f"{ {True: 'yes', False: '**no**', None: ''}[row.get('met')]} | "
                   f"{peers} | {ratios} |")
    out += [f"\n{s}" for s in result["skipped"]]
    return "\n".join(out) + "\n"
