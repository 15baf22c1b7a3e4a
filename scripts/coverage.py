#!/usr/bin/env python3
"""coverage.py [STAGE...]: which lines of src/ the test suite runs; per room, with what is never run.

A build of its own (build-coverage, or WEIR_BUILD) counts, and the stages named (those of check.py;
all that run programs of src/ on this kernel by default) are run with it.

	--add STAGE...	keep what was counted before: a run in pieces
	--run CMD...	the same with a command, which finds this build in WEIR_BUILD
	--report	tell again what was seen
	--files		where most is missing
	--missing FILE	the lines of a file that were not run
	--publish	write the table into doc/reliability.md

clang counts in files that are mapped when a program starts (its continuous mode). So it holds for
programs that are killed, that may open no file any more, that are another user, in other namespaces,
or a fork that ends in exec: what ran is counted, however it ended. A program with a clean environment
finds its file by the name that was compiled in; a role that ran as somebody else before could not
open the same one, which is why the tests' own environment names another. The agent's is in a sandbox:
coverage_agents.py gets it out.

Not counted: the kernel program (the decision table is its measure). One unit test, agent's
stays_small, fails here, because what counts is not small.
"""

import collections
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import zip_longest

import coverage_agents

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.environ.get("WEIR_BUILD", "build-coverage")
# Short, and reachable for every user, wherever the tree lies.
COUNTS = f"/var/tmp/weir-coverage-{os.stat(ROOT).st_ino}-{BUILD}"
AGENT = "weir-agent-counts"
STAGES = ["unit", "netlab", "product", "attack", "client", "flood", "vm", "faults"]
MARKS = ("<!-- make coverage -->", "<!-- end -->")
ROOMS = ["bpf", "base", "event", "wire", "policy", "datapath", "host", "runtime", "sandbox", "edge", "api",
         "agent", "cmd"]


def build():
    """The agent has a compiler of its own, which cannot count: clang stands in for that one too.
    Unoptimised code is built three times sooner, and fault points count as lines of what they are in."""
    native = os.path.join(ROOT, BUILD, "coverage.ini")
    text = (f"[constants]\ncount = ['-fprofile-instr-generate={COUNTS}/role-%m%c']\n"
            "map = ['-fcoverage-mapping', '-mllvm', '-runtime-counter-relocation']\n"
            f"agent = ['-fprofile-instr-generate=/run/{AGENT}-%m%c', "
            f"'{ROOT}/scripts/coverage_agent.c']\n"
            "[binaries]\nc = 'clang'\nmusl-gcc = ['clang'] + agent + map\n"
            "[built-in options]\nc_args = count + map\nc_link_args = count\n")
    os.makedirs(os.path.dirname(native), exist_ok=True)
    with open(native, "a+") as f:
        f.seek(0)
        if f.read() != text:
            f.truncate(0)
            f.write(text)
    if not os.path.exists(os.path.join(ROOT, BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, "--native-file", native, "-Dfaults=true",
                        "-Dvariants=false", "-Doptimization=0"], cwd=ROOT, check=True)
    subprocess.run(["ninja", "-C", BUILD], cwd=ROOT, check=True)


def run(argv, add=False):
    if not add:
        shutil.rmtree(COUNTS, ignore_errors=True)
    os.makedirs(COUNTS, exist_ok=True)
    os.chmod(COUNTS, 0o1777)
    build()  # programs run by the build count as well, so the directory is there before
    env = dict(os.environ, WEIR_BUILD=BUILD, WEIR_FAULTS_BUILD=BUILD, WEIR_NO_BUILD="1",
               LLVM_PROFILE_FILE=f"{COUNTS}/test-%m%c")
    agents = coverage_agents.Agents(AGENT, f"{COUNTS}/agent")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was seen is kept
    try:
        return subprocess.run(argv, cwd=ROOT, env=env).returncode
    finally:
        agents.end()


def export():
    """What llvm-cov knows of every object of src/ (programs would leave out what none links), and of those
    of tests, since some include the file that they test."""
    merged = os.path.join(ROOT, BUILD, "coverage.profdata")
    files = [f for f in glob.glob(f"{COUNTS}/*") if os.path.getsize(f)]
    if not files:
        sys.exit("coverage: nothing was counted yet: run scripts/coverage.py")
    subprocess.run([tool("llvm-profdata"), "merge", "-o", merged, *files], check=True)
    objects = [o for o in glob.glob(os.path.join(ROOT, BUILD, "[st]*/**/*.o"), recursive=True)
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


def rooms(data):
    """{room: [lines, run; functions, run]}, and the sum of all."""
    sums = {name: [0, 0, 0, 0] for name in ROOMS}
    for f in data["files"]:
        path = in_tree(f["filename"])
        if path:
            add = f["summary"]
            counts = (add["lines"]["count"], add["lines"]["covered"],
                      add["functions"]["count"], add["functions"]["covered"])
            name = path.split(os.sep)[1]
            sums[name] = [a + b for a, b in zip(sums[name], counts)]
    return sums, [sum(n) for n in zip(*sums.values())]


def never_run(data):
    """{file: names of functions}; one function in several programs is one."""
    counts = collections.defaultdict(dict)
    for f in data["functions"]:
        path = in_tree(f["filenames"][0])
        if path:
            at = f["regions"][0][0]
            _, count = counts[path].get(at, (None, 0))
            counts[path][at] = (f["name"].split(":")[-1], max(count, f["count"]))
    never = {path: [name for _, (name, count) in sorted(at.items()) if not count]
             for path, at in sorted(counts.items())}
    return {path: names for path, names in never.items() if names}


def report(data):
    sums, total = rooms(data)
    print(f"{'room':10} {'lines':>6} {'run':>6} {'%':>6}   {'functions':>9} {'never run':>9}")
    for name, n in [*sums.items(), ("all", total)]:
        print(row(name, n))
    print("functions never run:")
    for path, names in never_run(data).items():
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


def files(data):
    """What is missing where, most first."""
    left = sorted(((f["summary"]["lines"]["count"] - f["summary"]["lines"]["covered"],
                    f["summary"]["lines"]["count"], in_tree(f["filename"])) for f in data["files"]
                   if in_tree(f["filename"])), reverse=True)
    for missed, of, path in left:
        if missed:
            print(f"{missed:5} of {of:5}  {path}")


def publish(data):
    """The table of doc/reliability.md, between its marks: what stands there is what was measured."""
    sums, total = rooms(data)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    half = (len(ROOMS) + 1) // 2
    cells = [f"| {name} | {sums[name][0]:,} | {100 * sums[name][1] / max(sums[name][0], 1):.1f} |"
             for name in ROOMS]
    text = (f"Of {total[0]:,} lines of src/ {total[1]:,} ran at {commit}: "
            f"{100 * total[1] / total[0]:.1f} %; of {total[2]:,} functions all but "
            f"{total[2] - total[3]}.\n\n| room | lines | % | | room | lines | % |\n"
            "|---|---|---|---|---|---|---|\n"
            + "".join(f"{left} {right}\n" for left, right in zip_longest(
                cells[:half], cells[half:], fillvalue="| | | |")))
    path = os.path.join(ROOT, "doc/reliability.md")
    with open(path) as f:
        before, _, rest = f.read().partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        sys.exit(f"coverage: {path} has no place for the table")
    with open(path, "w") as f:
        f.write(before + MARKS[0] + "\n" + text + MARKS[1] + after)


def main():
    args = sys.argv[1:]
    tell = {"--report": report, "--files": files, "--publish": publish}
    if args[:1] == ["--missing"]:
        data = export()
        for path in args[1:]:
            print(f"--- {path}")
            missing(data, path)
        return 0
    if args and args[0] in tell:
        tell[args[0]](export())
        return 0
    if args[:1] == ["--run"]:
        return run(args[1:], add=True)
    add = args[:1] == ["--add"]
    status = run([sys.executable, "scripts/check.py", *(args[add:] or STAGES)], add)
    report(export())
    return status


if __name__ == "__main__":
    sys.exit(main())
