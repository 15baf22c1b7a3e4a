#!/usr/bin/env python3
"""Which lines of the attack list have tests, and of which runtimes: reads tests/coverage.table, looks for
test_<id>_ in the Python and C tests and prints one line per attack. Fails when a test names a line that
the table does not have, so neither can drift away from the other.

Tests of tests/vm are about machines, and those marked `machines` run on both; the others are about
containers, and those in C about neither."""

import ast
import glob
import os
import re
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def table():
    for line in open(os.path.join(TESTS, "coverage.table")):
        m = re.match(r"([A-Z]\d+)\t(.*?)(?: -- (.*))?$", line.rstrip("\n"))
        if m:
            yield m.groups()


def functions(path):
    """(name, runtimes) of each function of a file of tests."""
    text = open(path, errors="replace").read()
    if path.endswith(".c"):
        return [(name, ()) for name in re.findall(r"\b(test_\w+)\(void", text)]
    here = ("vm",) if os.path.dirname(path) == os.path.join(TESTS, "vm") else ("container",)
    return [(f.name, ("container", "vm") if any("mark.machines" in ast.unparse(d) for d in f.decorator_list)
             else here) for f in ast.walk(ast.parse(text)) if isinstance(f, ast.FunctionDef)]


def named_tests():
    """Line: its tests, each with its runtimes. A name may have several lines: test_N12_N13_…"""
    found = {}
    for pattern in ("**/test_*.py", "**/test_*.c"):
        for path in glob.glob(os.path.join(TESTS, pattern), recursive=True):
            for name, runtimes in functions(path) if "node_modules" not in path else ():
                for line in re.findall(r"(?<=_)[A-Z]\d+(?=_)", re.match(r"(?:test)?((?:_[A-Z]\d+)*_?)", name).group(1)):
                    found.setdefault(line, []).append(runtimes)
    return found


def main():
    tests, covered, known = named_tests(), 0, set()
    for line, what, waits in table():
        known.add(line)
        n = len(tests.get(line, []))
        covered += bool(n)
        status = f"{n:2} tests" if n > 1 else " 1 test " if n else \
            "waits   " if waits else "not yet "
        where = sorted({r for runtimes in tests.get(line, []) for r in runtimes})
        print(f"  {line:4} {status}  {', '.join(where):13}  {what}" +
              (f" (waits for: {waits})" if waits and not n else ""))
    print(f"  {covered} of {len(known)} lines of the attack list are covered")
    strangers = set(tests) - known
    if strangers:
        print(f"tests name lines that coverage.table lacks: {sorted(strangers)}")
    return 1 if strangers or not known else 0


if __name__ == "__main__":
    sys.exit(main())
