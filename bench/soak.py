"""make soak: create, exec, destroy, over and over with changing policies; then look for what grew.

Prints one line of figures. Fails if a role's memory grew by more than GROWTH_KIB over the second
half, if a cycle failed, or if the daemon left anything behind. Usage: soak.py [CYCLES]
"""

import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from kit import daemon as kit  # noqa: E402
from kit.api import Api  # noqa: E402

CYCLES = 20000
GROWTH_KIB = 2048
RULES = ["example.com", "*.example.org:443", "10.0.0.0/8:8080", "1.1.1.1", "2001:db8::/32", "*"]


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else CYCLES
    random.seed(1)
    kit.prepare()
    start = time.monotonic()
    with kit.Daemon({}) as d:
        api, half = Api(d.url, d.key), {}
        for i in range(cycles):
            if i == cycles // 2:
                half = d.memory("VmRSS")
            box = api.create(egress=random.sample(RULES, random.randrange(len(RULES))))
            assert box.sh("echo ok").stdout == "ok\n"
            api.ok("DELETE", box.path)
        end = d.memory("VmRSS")
    seconds = time.monotonic() - start
    grown = {name: end[name] - half.get(name, end[name]) for name in end}
    print(f"soak: {cycles} cycles in {seconds:.0f} s, {1000 * seconds / cycles:.1f} ms each, "
          "memory grew " + ", ".join(f"{n} {k} KiB" for n, k in sorted(grown.items())))
    return any(k > GROWTH_KIB for k in grown.values())


if __name__ == "__main__":
    sys.exit(main())
