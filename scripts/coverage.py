#!/usr/bin/env python3
"""coverage.py [STAGE...]: which lines of src/ the test suite runs; per room, with what is never run.

A build of its own (build-coverage, or WEIR_BUILD) counts, and the stages named (those of check.py;
unit, netlab, product, attack and client by default) are run with it. --report tells again what the
last run saw; --missing FILE prints the lines of a file that were not run.

clang counts in files that are mapped when a program starts (its continuous mode). So it holds for
programs that are killed, that may open no file any more, that are another user, in other namespaces,
or a fork that ends in exec: what ran is counted, however it ended. A program with a clean environment
finds its file by the name that was compiled in; a role that ran as somebody else before could not
open the same one, which is why the tests' own environment names another.

Not counted: the kernel program (the decision table is its measure), and the agent inside a real
sandbox, where the file is out of sight; as process 1 of its unit tests it is. One of these, agent's
stays_small, fails here, because what counts is not small.
"""

import collections
import glob
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.environ.get("WEIR_BUILD", "build-coverage")
# Short, and reachable for every user, wherever the tree lies.
COUNTS = f"/var/tmp/weir-coverage-{os.stat(ROOT).st_ino}-{BUILD}"
STAGES = ["unit", "netlab", "product", "attack", "client"]
ROOMS = ["base", "event", "wire", "policy", "datapath", "host", "runtime", "sandbox", "edge", "api",
         "agent", "cmd"]


def build():
    """The agent has a compiler of its own, which cannot count: clang stands in for that one too."""
    native = os.path.join(ROOT, BUILD, "coverage.ini")
    os.makedirs(os.path.dirname(native), exist_ok=True)
    with open(native, "w") as f:
        f.write(f"[constants]\ncount = ['-fprofile-instr-generate={COUNTS}/role-%m%c']\n"
                "map = ['-fcoverage-mapping', '-mllvm', '-runtime-counter-relocation']\n"
                "[binaries]\nc = 'clang'\nmusl-gcc = ['clang'] + count + map\n"
                "[built-in options]\nc_args = count + map\nc_link_args = count\n")
    if not os.path.exists(os.path.join(ROOT, BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, "--native-file", native], cwd=ROOT, check=True)
    subprocess.run(["ninja", "-C", BUILD], cwd=ROOT, check=True)


def run(stages):
    shutil.rmtree(COUNTS, ignore_errors=True)
    os.mkdir(COUNTS)
    os.chmod(COUNTS, 0o1777)
    build()  # programs run by the build count as well, so the directory is there before
    env = dict(os.environ, WEIR_BUILD=BUILD, LLVM_PROFILE_FILE=f"{COUNTS}/test-%m%c")
    return subprocess.run([sys.executable, "scripts/check.py", *stages], cwd=ROOT, env=env).returncode


def export():
    """What llvm-cov knows of every object of src/ (programs would leave out what none links)."""
    merged = os.path.join(ROOT, BUILD, "coverage.profdata")
    files = [f for f in glob.glob(f"{COUNTS}/*") if os.path.getsize(f)]
    if not files:
        sys.exit("coverage: nothing was counted yet: run scripts/coverage.py")
    subprocess.run([tool("llvm-profdata"), "merge", "-o", merged, *files], check=True)
    objects = [o for o in glob.glob(os.path.join(ROOT, BUILD, "src/**/*.o"), recursive=True)
               if "llhttp" not in o and not o.endswith(".bpf.o") and ".debug." not in o]
    objects.append(os.path.join(ROOT, BUILD, "src/agent/weir-agent"))
    more = [a for o in objects[1:] for a in ("-object", o)]
    text = subprocess.run([tool("llvm-cov"), "export", objects[0], *more, "-instr-profile", merged],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return json.loads(text)["data"][0]


def tool(name):
    return shutil.which(name + "-14") or shutil.which(name) or sys.exit(f"coverage: no {name}")


def in_tree(path):
    path = os.path.relpath(os.path.realpath(path), ROOT)
    return path if path.startswith("src" + os.sep) else None


def lines(file):
    """{line: how often it ran}, as llvm-cov counts: the most of what begins there and what goes on."""
    on = collections.defaultdict(list)
    for at, _, count, counted, begins, gap in file["segments"]:
        on[at].append((count, counted, begins and not gap))
    seen, before = {}, (0, False)  # the count in force, and whether it is one
    for at in range(min(on), max(on) + 1) if on else ():
        counts = [count for count, counted, begins in on[at] if counted and begins]
        counts += [before[0]] if before[1] else []
        if counts:
            seen[at] = max(counts)
        before = on[at][-1][:2] if on[at] else before
    return seen


def report(data):
    room = collections.defaultdict(lambda: [0, 0, 0, 0])  # lines, run; functions, run
    never = collections.defaultdict(dict)
    for f in data["files"]:
        path = in_tree(f["filename"])
        if path:
            sums, add = room[path.split(os.sep)[1]], f["summary"]
            for i, (what, of) in enumerate((("lines", "count"), ("lines", "covered"),
                                            ("functions", "count"), ("functions", "covered"))):
                sums[i] += add[what][of]
    for f in data["functions"]:
        path = in_tree(f["filenames"][0])
        if path:  # one function in several programs is one
            at = f["regions"][0][0]
            name, count = never[path].get(at, (None, 0))
            never[path][at] = (f["name"].split(":")[-1], max(count, f["count"]))
    print(f"{'room':10} {'lines':>6} {'run':>6} {'%':>6}   {'functions':>9} {'never run':>9}")
    total = [0, 0, 0, 0]
    for name in ROOMS:
        n = room[name]
        total = [a + b for a, b in zip(total, n)]
        print(row(name, n))
    print(row("all", total))
    print("functions never run:")
    for path in sorted(never):
        names = [name for _, (name, count) in sorted(never[path].items()) if not count]
        if names:
            print(f"  {path}: {', '.join(names)}")


def row(name, n):
    return (f"{name:10} {n[0]:6} {n[1]:6} {100 * n[1] / max(n[0], 1):6.1f}   "
            f"{n[2]:9} {n[2] - n[3]:9}")


def missing(data, wanted):
    for f in data["files"]:
        if in_tree(f["filename"]) != wanted:
            continue
        text = open(os.path.join(ROOT, wanted)).read().split("\n")
        for at, count in sorted(lines(f).items()):
            if not count and text[at - 1].strip() not in ("", "}", "{"):
                print(f"{at:5} {text[at - 1]}")


def main():
    args = sys.argv[1:]
    if args[:1] == ["--missing"]:
        data = export()
        for path in args[1:]:
            print(f"--- {path}")
            missing(data, path)
        return 0
    status = 0 if args == ["--report"] else run(args or STAGES)
    report(export())
    return status


if __name__ == "__main__":
    sys.exit(main())
