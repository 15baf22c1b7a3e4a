#!/usr/bin/env python3
"""floods.py [PYTEST ARGS]: the flood tests in their long forms, then one line of figures.

A figure is test.name=value, as the test reported it; with several forms of a test each has its own.
"""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

SUITES = ("tests/flood", "tests/product/test_ways.py")  # one by one: each has a conftest of its own


def main():
    python = sys.executable if subprocess.run([sys.executable, "-c", "import pytest"],
                                              stderr=subprocess.DEVNULL).returncode == 0 \
        else "/usr/bin/python3"
    status = 0
    with tempfile.NamedTemporaryFile("r", prefix="floods-") as figures:
        for suite in SUITES:
            done = subprocess.run(
                ["tools/with-internet", "--", "tools/with-daemon", "--", python, "-m", "pytest", "-q",
                 "-rs", "--durations=5", "-p", "no:cacheprovider", suite, *sys.argv[1:]], cwd=ROOT,
                env=dict(os.environ, WEIR_FLOOD="long", WEIR_FLOOD_FIGURES=figures.name))
            status = status or done.returncode
        seen = [json.loads(line) for line in figures]
    print("floods:", " ".join(f"{entry['test'].removeprefix('test_')}.{name}={value}"
                              for entry in seen for name, value in entry.items() if name != "test"))
    return status


if __name__ == "__main__":
    sys.exit(main())
