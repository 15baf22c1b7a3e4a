"""Flood tests: one sandbox, client or agent takes all it can get, and the others must not notice.

The short form runs in `make check`, on whatever machine, beside whatever else: counters, bounds of
memory, and a neighbour who is answered all the while. No time decides there. WEIR_FLOOD=long (`make
floods`) sends as much as the attack list says and compares the neighbour's p99 as well. Every test
reports the figures it saw; `make floods` prints them as one line."""

import json
import os
import subprocess
import threading

import pytest
from kit.api import Result
from kit.daemon import build_dir, comm

LONGEST_S = 600  # a million connections from a slow machine
LONG = os.environ.get("WEIR_FLOOD") == "long"
FIGURES = os.environ.get("WEIR_FLOOD_FIGURES")


@pytest.fixture
def long():
    return LONG


@pytest.fixture
def figures(request):
    """figures(name=value, …): what this test saw."""
    def report(**seen):
        line = " ".join(f"{k}={v}" for k, v in seen.items())
        print(line)
        if FIGURES:
            with open(FIGURES, "a") as f:
                f.write(json.dumps({"test": request.node.name, **seen}) + "\n")
    return report


class Running:
    """A program of a sandbox that runs beside the test; result() waits for it."""

    def __init__(self, box, words):
        self.got = None
        self._thread = threading.Thread(target=self._run, args=(box, words), daemon=True)
        self._thread.start()

    def _run(self, box, words):
        self.got = Result(box.api.ok("POST", f"{box.path}/exec",
                                     {"cmd": "/root/flood", "args": words}, timeout=LONGEST_S))

    def result(self):
        self._thread.join(LONGEST_S)
        assert self.got is not None and self.got.code == 0, self.got
        return {k: int(v) for k, v in (w.split("=") for w in self.got.stdout.split())}


@pytest.fixture
def flood(make_box):
    """flood(box, …) starts flood.c with these words inside."""
    ready = set()

    def start(box, *words):
        if box.id not in ready:
            with open(os.path.join(build_dir(), "tests", "flood", "flood"), "rb") as f:
                box.put("/root/flood", f.read())
            assert box.sh("chmod +x /root/flood").code == 0
            ready.add(box.id)
        return Running(box, [str(w) for w in words])
    return start


@pytest.fixture
def roles(about):
    return Roles(about["pid"])


class Roles:
    """What the roles of a daemon cost: memory in MiB and CPU seconds."""

    def __init__(self, pid):
        self.pids = {"weird": pid}
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            for child in f.read().split():
                if comm(child) in ("weir-api", "weir-edge"):
                    self.pids[comm(child)] = int(child)

    def memory(self, name):
        with open(f"/proc/{self.pids[name]}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024

    def cpu(self, name):
        with open(f"/proc/{self.pids[name]}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


MEASUREMENTS = 3

only_long = pytest.mark.only_long  # a test of the long form only


def pytest_configure(config):
    config.addinivalue_line("markers", "only_long: of the long form only")


def pytest_collection_modifyitems(items):
    items[:] = [i for i in items if LONG or not i.get_closest_marker("only_long")]


def beside_programs(measure):
    """What a neighbour measures while each processor has one program that does nothing but run."""
    hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        return measure()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def steady(measure, beside, times=MEASUREMENTS):
    """The judge of the long form. The neighbour does not notice: measure() returns (quiet, loud) p99s of
    one and the same minute, and loud is at most twice quiet. On a small machine any program that runs costs more than that, a
    flood's own sender, too; then loud is at most twice what beside() says, a p99 beside_programs()
    and without the flood: it may cost a neighbour time slices, and nothing else.

    The machine may be shared. A flood that hurts does so every time, a neighbour of the whole machine
    does not: so of up to MEASUREMENTS rounds one must hold. Returns the last, for the figures."""
    rounds = []
    for _ in range(times):
        quiet, loud = measure()
        busy = beside() if loud > 2 * quiet else quiet
        rounds.append((quiet, busy, loud))
        if loud <= 2 * max(quiet, busy):
            return rounds[-1]
    raise AssertionError(f"p99 (quiet, beside programs, beside the flood): {rounds}")
