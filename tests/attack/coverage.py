#!/usr/bin/env python3
"""Which lines of the attack list have tests: reads tests/coverage.table, looks for test_<id>_ in the
Python and C tests and prints one line per attack. Fails when a test names a line that the table
does not have, so neither can drift away from the other."""

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


def named_tests():
    found = {}
    for pattern, definition in (("**/test_*.py", r"^\s*def (test_([A-Z]\d+)_\w+)"),
                                ("**/test_*.c", r"\b(test_([A-Z]\d+)_\w+)\(void")):
        for path in glob.glob(os.path.join(TESTS, pattern), recursive=True):
            if "node_modules" not in path:
                for name, line in re.findall(definition, open(path, errors="replace").read(), re.M):
                    found.setdefault(line, []).append(name)
    return found


def main():
    tests, covered, known = named_tests(), 0, set()
    for line, what, waits in table():
        known.add(line)
        n = len(tests.get(line, []))
        covered += bool(n)
        status = f"{n:2} tests" if n > 1 else " 1 test " if n else \
            "waits   " if waits else "not yet "
        print(f"  {line:4} {status}  {what}" + (f" (waits for: {waits})" if waits and not n else ""))
    print(f"  {covered} of {len(known)} lines of the attack list are covered")
    strangers = set(tests) - known
    if strangers:
        print(f"tests name lines that coverage.table lacks: {sorted(strangers)}")
    return 1 if strangers or not known else 0


if __name__ == "__main__":
    sys.exit(main())
