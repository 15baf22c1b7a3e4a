"""What no log may hold. A daemon of the kit is asked at its end (daemon.py), so every suite looks.

Keys and tokens that a daemon makes are known by their shape. What a client chose for a secret, a
password or an environment, is known by having been told: tests/conftest.py has a fixture for that.
"""

import os
import re

SHAPES = {"an API key": rb"weir_[0-9a-f]{64}", "a token of ingress": rb"wit_[0-9a-f]{64}"}
LEAST = 8  # shorter ones would be found by chance


def tell(directory, value):
    """From now on the log of the daemon with this directory must not hold the value."""
    if len(value) < LEAST or "\n" in value:
        raise ValueError("too short, or not one line: it would be found by chance")
    with open(os.path.join(directory, "secrets"), "a") as f:
        f.write(value + "\n")
    return value


def told(directory):
    try:
        with open(os.path.join(directory, "secrets"), "rb") as f:
            return f.read().split()
    except OSError:
        return []


def found(log, values=()):
    """Which lines of a log (bytes) hold one, without saying it again."""
    out = []
    for number, line in enumerate(log.splitlines(), 1):
        kinds = [kind for kind, shape in SHAPES.items() if re.search(shape, line)]
        kinds += ["a secret of a test"] * any(value in line for value in values)
        out += [f"line {number}: {kind}, by {line.split()[1:2]}" for kind in kinds]
    return out
