#!/usr/bin/env python3
"""check.py [STAGE...]: everything that CI runs, in stages, and one line at the end.

Three stages run at a time, one that takes processors (builds, sanitizers, emulation) and two that
mostly wait (for packets, for time-outs, for processes to end); those that compare times run after
them, alone. Each writes build/check/<stage>.log and closes with one line: what it counted, how long
it took, and how much of that the processors were busy for it. A stage that fails shows the end of
its log; others still run unless they need it. Skips are listed with their reasons, then failures with
theirs: whoever sees only the end sees what matters. The last line is "N passed, N failed, N skipped";
the exit status is 0 only if nothing failed. `--list` names the stages. WEIR_BUILD names another
build directory than build.
"""

import os
import re
import subprocess
import sys
import threading
import time

from results import Count, Failed, ended, failure, junit, last_words, meson_results, shown, tap

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import machine  # noqa: E402

BUILD = os.environ.get("WEIR_BUILD", "build")
POINTS = os.environ.get("WEIR_FAULTS_BUILD", "build-clang")  # the one with fault points
LOGS = os.path.join(ROOT, BUILD, "check")
START = time.monotonic()
SILENCE_S = 30  # a stage that takes longer says that it is still there
PATIENCE = 10  # times meson's limits, which are for a machine that does nothing else


def python_with_pytest():
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import pytest"], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    sys.exit("check: pytest is missing: run scripts/deps.sh test")


PYTHON = python_with_pytest()


def say(text):
    print(f"[{time.monotonic() - START:6.1f} s] {text}", flush=True)


def run(log, *argv, env=None, ok=(0,)):
    """Run argv with its output in the log. Returns the status; Failed if it is not in ok."""
    log.write(f"+ {' '.join(argv)}\n")
    log.flush()
    child = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    log.busy_s += used.ru_utime + used.ru_stime
    if ok and child.returncode not in ok:
        raise Failed(f"{argv[0]} ended with {child.returncode}")
    return child.returncode


# --- stages --------------------------------------------------------------------------------------

def setup(log, build, *options, env=None):
    if not os.path.exists(os.path.join(ROOT, build, "build.ninja")):
        run(log, "meson", "setup", build, "-Dwerror=true", *options, env=env)


def stage_gcc(log):
    "build with gcc, warnings are errors"
    setup(log, BUILD)
    run(log, "ninja", "-C", BUILD)
    count = Count()
    count.passed = 1
    return count


def stage_unit(log):
    "unit, property and replay tests"
    run(log, "meson", "test", "-C", BUILD, "--no-rebuild", "--print-errorlogs",
        "--timeout-multiplier", str(PATIENCE), ok=None)
    return meson_results(BUILD)


PROGRAMS = ("weird", "weir", "weir-api", "weir-edge", "weir-build", "weir-rootfs")


def stage_clang(log):
    "build the programs with clang and with fault points, warnings are errors"
    setup(log, "build-clang", "-Dfaults=true", env={"CC": "clang"})
    run(log, "meson", "configure", "build-clang", "-Dfaults=true")  # one made before there were any
    run(log, "ninja", "-C", "build-clang", "src/agent/weir-agent", *(f"src/cmd/{p}" for p in PROGRAMS))
    count = Count()
    count.passed = 1
    return count


def pytest(log, name, *argv, env=None, before=()):
    xml = os.path.join(LOGS, f"{name}.xml")
    if os.path.exists(xml):
        os.unlink(xml)
    status = run(log, *before, PYTHON, "-m", "pytest", "-q", "-rs", f"--junitxml={xml}", *argv,
                 ok=None, env={"WEIR_NO_BUILD": "1", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})})
    count = junit(xml)
    if status and not count.failed:  # the tests passed, but what surrounds them did not: a leak, say
        count.failures.append(ended(name, f"ended with {status} after its tests", log.name))
    return count


def stage_kernel61(log):
    "kernel program, lab core and a container on Linux 6.1"
    xml = os.path.join(LOGS, "kernel61.xml")
    if os.path.exists(xml):
        os.unlink(xml)
    # The guest has no network to build an image with.
    run(log, "tools/with-daemon", "--", "true", env={"WEIR_NO_BUILD": "1", "WEIR_IMAGES": "debian:12"})
    # What the guest writes is gone with it, so the results come out on its console.
    status = run(log, "tools/on-6.1", "--", "tests/on-6.1", PYTHON, ok=None,
                 env={"WEIR_NO_BUILD": "1"})
    log.flush()
    text = open(log.name, errors="replace").read()
    m = re.search(r"<\?xml.*?</testsuites>", text, re.S)
    if not m:
        raise Failed(f"no results came out of the guest (status {status})")
    with open(xml, "w") as f:
        f.write(m.group(0))
    count = junit(xml)
    for said, how, unit in re.findall(r"(.*?)^UNIT (ok|failed|skipped) ([^\r\n]*)", text, re.M | re.S):
        if how == "ok":
            count.passed += 1
        elif how == "failed":
            count.failures.append(failure(unit, "\n".join(last_words(said))))
        else:
            count.skipped.append(unit)
    return count


def stage_asan(log):
    "all of it built with clang, warnings are errors; the same tests under its sanitizers"
    # Unoptimised code builds three times sooner than -O1, and hides no null offset from them; the
    # compilers broken on purpose are caught in the other build.
    setup(log, "build-asan", "-Db_sanitize=address,undefined", "-Db_lundef=false",
          "-Doptimization=0", "-Dvariants=false", env={"CC": "clang"})
    run(log, "ninja", "-C", "build-asan")
    run(log, "meson", "test", "-C", "build-asan", "--no-rebuild", "--print-errorlogs",
        "--timeout-multiplier", str(2 * PATIENCE), ok=None,
        env={"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1",
             "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
    return meson_results("build-asan")


def stage_tree(log):
    "the arrows between rooms, the manual pages, the tools"
    return pytest(log, "tree", "tests/unit/test_rooms.py", "tests/unit/test_secrets.py",
                  "tests/unit/test_text.py", "tests/unit/test_conf_manual.py",
                  "tests/unit/test_tokens.py", "tests/unit/test_dialect_table.py",
                  "tests/unit/test_results.py")


LAB = ("tools/with-internet", "--", "tools/with-daemon", "--")


def stage_netlab(log):
    "the decision table with real packets"
    return pytest(log, "netlab", "tests/netlab", before=LAB)


def stage_product(log):
    "the container runtime alone; the API and the command line against the real daemon"
    run(log, "tests/client/install")  # an image of a registry is asked for by the published client
    return pytest(log, "product", "tests/unit/runtime", "tests/product", before=LAB)


def stage_client(log):
    "the published client, unmodified"
    run(log, "tests/client/install")
    tap_file = os.path.join(LOGS, "client.tap")
    status = run(log, *LAB, "tests/client/run", tap_file, ok=None, env={"WEIR_NO_BUILD": "1"})
    count = tap(tap_file)
    if status and not count.failed:
        count.failures.append(ended("client", f"ended with {status} after its tests", log.name))
    return count


# What of the products' and clients' tests runs on machines here, and what only make vm has time for: tests/machines.
def stage_vm(log):
    "virtual machines: what they boot from, sandboxes that are some; the products' and clients' tests on them"
    if why := machine.lacking():
        count = Count()
        count.skipped.append(f"vm: needs {why}")
        return count
    run(log, "tests/client/install")
    results = [os.path.join(LOGS, f"vm.{kind}") for kind in ("xml", "tap")]
    for path in filter(os.path.exists, results):
        os.unlink(path)
    status = run(log, *LAB[:3], "--set", "runtime.default=vm", "--set", "vm.warm_mib=2048", "--",
                 "tests/machines", LOGS, "check", ok=None,
                 env={"WEIR_NO_BUILD": "1", "PYTHON": PYTHON})
    count = junit(results[0])
    count.add(tap(results[1]))
    if status and not count.failed:
        count.failures.append(ended("vm", f"ended with {status} after its tests", log.name))
    return count


def stage_attack(log):
    "what must fail, with its controls"
    return pytest(log, "attack", "tests/attack", before=LAB)


def stage_flood(log):
    "one sandbox, client or agent takes all it can get: the short forms"
    return pytest(log, "flood", "tests/flood", before=LAB)


def stage_faults(log):
    "each fault point, with its role killed there; machines, with QEMU killed as well"
    return pytest(log, "faults", "tests/fault/test_kills.py", "tests/fault/test_machines.py",
                  before=LAB[:2], env={"WEIR_BUILD": POINTS})


def tap_programs(log, name, *programs):
    """Test programs that print TAP into the stage's log, one after the other."""
    statuses = [run(log, *argv, ok=None, env={"WEIR_NO_BUILD": "1"}) for argv in programs]
    count = tap(log.name)
    if any(statuses) and not count.failed:
        count.failures.append(ended(name, f"ended with {max(statuses)} after its tests", log.name))
    return count


def stage_scale(log):
    "100 sandboxes, and 1,000 policied slots, at once; make scale is the long form"
    return tap_programs(log, "scale", ("build/tests/scale/scale-slots", "1000"),
                        ("tools/with-internet", "--", PYTHON, "tests/scale/sandboxes.py", "100"))


def stage_soak(log):
    "200 lives of sandboxes: nothing grows, nothing stays; make soak is the long form"
    return tap_programs(log, "soak", (PYTHON, "bench/soak.py", "200"))


def stage_coverage(log):
    "which lines of the attack list are covered"
    table = subprocess.run([PYTHON, "tests/attack/coverage.py"], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log.write(table.stdout)
    print(table.stdout, end="")
    if table.returncode:
        raise Failed("the coverage table does not hold")
    return Count()


STAGES = {name[6:]: f for name, f in list(globals().items()) if name.startswith("stage_")}
NEEDS = {"unit": "gcc", "tree": "gcc", "netlab": "gcc", "product": "gcc", "client": "gcc",
         "attack": "gcc", "flood": "gcc", "scale": "gcc", "soak": "gcc", "kernel61": "gcc", "vm": "gcc",
         "faults": "gcc" if POINTS == BUILD else "clang"}
BUSY = ("gcc", "unit", "clang", "asan", "kernel61")
ALONE = ("flood", "scale", "soak", "coverage")


class Run:
    """The wanted stages under way: who may start, what came out. All of it under one lock."""

    def __init__(self, wanted):
        self.waiting = list(wanted)
        self.running = {}  # name: when it began
        self.broken = set()
        self.total = Count()
        self.changed = threading.Condition()

    def ready(self, name):
        need = NEEDS.get(name)
        return need not in self.waiting and need not in self.running

    def next(self, busy):
        """The next stage for a lane of busy or of waiting stages, taken; None when none is left.
        A lane that has none of its own helps the others."""
        with self.changed:
            while together := [name for name in self.waiting if name not in ALONE]:
                mine = [name for name in together if (name in BUSY) == busy] or together
                for name in filter(self.ready, mine):
                    self.waiting.remove(name)
                    self.running[name] = time.monotonic()
                    return name
                self.changed.wait()
        return None

    def ended(self, name, count, why, path, busy_s):
        with self.changed:
            took = time.monotonic() - self.running.pop(name)
            self.total.add(count)
            say(f"  {name}: {count} in {took:.1f} s, processors {busy_s:.1f} s")
            if count.failed:
                self.broken.add(name)
                print(f"----- {name}: {why or 'failures'}; the end of "
                      f"{os.path.relpath(path, ROOT)}:")
                with open(path, errors="replace") as log:
                    print("".join(log.readlines()[-60:]))
                print("-----", flush=True)
            self.changed.notify_all()

    def stage(self, name):
        path, why, need = os.path.join(LOGS, f"{name}.log"), None, NEEDS.get(name)
        say(f"{name}: {STAGES[name].__doc__}")
        with open(path, "w", buffering=1) as log:
            log.busy_s = 0
            try:
                if need in self.broken:
                    raise Failed(f"not run, {need} failed")
                count = STAGES[name](log)
            except Exception as e:  # a stage of which nothing is heard must not look like none
                count, why = Count(), str(e) if isinstance(e, Failed) else repr(e)
                count.failures.append(ended(name, why, path))
        self.ended(name, count, why, path, log.busy_s)

    def lane(self, busy):
        while name := self.next(busy):
            self.stage(name)

    def all(self):
        lanes = [threading.Thread(target=self.lane, args=(busy,), daemon=True)
                 for busy in (True, False, False)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        while self.waiting:
            self.running[name := self.waiting.pop(0)] = time.monotonic()
            self.stage(name)


def heartbeat(run):
    """Whoever watches sees that a long stage is still there."""
    said = {}
    while True:
        time.sleep(1)
        now = time.monotonic()
        for name, began in list(run.running.items()):
            if now - max(began, said.get(name, 0)) >= SILENCE_S:
                said[name] = now
                say(f"  {name}: still running, log in {BUILD}/check/{name}.log")


def main():
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        for name, f in STAGES.items():
            print(f"{name:10} {f.__doc__}")
        return 0
    for name in wanted:
        if name not in STAGES:
            sys.exit(f"check: no stage called {name}: {', '.join(STAGES)}")
    wanted = wanted or list(STAGES)
    for need in {NEEDS[name] for name in wanted if name in NEEDS} - set(wanted):
        wanted.insert(0, need)
    os.makedirs(LOGS, exist_ok=True)

    run = Run(wanted)
    threading.Thread(target=heartbeat, args=(run,), daemon=True).start()
    run.all()
    for what, lines in (("skipped", run.total.skipped), ("failed", list(shown(run.total.failures)))):
        if lines:
            print(f"{what}:")
        for line in lines:
            print(f"  {line}")
    say("done")
    print(run.total)
    return 1 if run.total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
