#!/usr/bin/env python3
"""The whole kill matrix: every operation, every point it passes, every role killed there.

	matrix.py [--op NAME]... [--role NAME]... [--point TEXT]

Runs below tools/with-internet with WEIR_BUILD naming a build with fault points. Prints violations
as they are found, then one line of figures; ends with 1 if there was any.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from kit import daemon  # noqa: E402
from kit.lab import Lab  # noqa: E402
from operations import OPS  # noqa: E402
from world import World  # noqa: E402


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--op", action="append")
    ask.add_argument("--kill", action="append")
    ask.add_argument("--point", default="")
    ask.add_argument("-v", action="store_true")
    ask = ask.parse_args()
    daemon.prepare()
    lab = Lab(os.environ["WEIR_LAB"])
    began, trials, points, unreached, violations = time.monotonic(), 0, set(), [], []
    for op in OPS:
        if ask.op and op.name not in ask.op:
            continue
        with World(lab) as world:
            for role, names in world.passes(op).items():
                for point in names:
                    if ask.point not in point:
                        continue
                    if role == "agent" and op.creates:
                        continue  # its agent's table comes into being with it
                    for kill in op.kills:
                        if ask.kill and kill not in ask.kill:
                            continue
                        start = time.monotonic()
                        trial = world.trial(op, point, kill)
                        if ask.v:
                            print(f"{time.monotonic() - start:5.2f} s {trial} "
                                  f"{'' if trial.reached else 'NOT REACHED'}", flush=True)
                        if not trial.reached:
                            unreached.append(trial)
                            continue
                        points.add(point)
                        trials += 1
                        for text in trial.violations:
                            print(f"VIOLATION {text}", flush=True)
                        violations += trial.violations
            print(f"{op.name}: {trials} trials so far, {len(violations)} violations, "
                  f"{world.sprayer.sent} frames sent, {time.monotonic() - began:.0f} s", flush=True)
    if unreached:
        print("not reached: " + "; ".join(map(str, unreached)))
    print(f"faults: {len(points)} points, {trials} kills in {len(OPS)} operations, "
          f"{len(violations)} violations, {time.monotonic() - began:.0f} s")
    return 1 if violations or not trials else 0


if __name__ == "__main__":
    sys.exit(main())
