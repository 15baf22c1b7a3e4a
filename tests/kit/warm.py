"""python3 -m kit.warm, below tools/with-daemon: machines need not boot from now on.

A machine has to boot, and the template for those after it is made in the background: of many tests that
begin at once each would boot its own, for seconds each on a busy host. So one is made for nobody, and
the daemon's log tells when the template is there.
"""

import json
import os
import sys

from .api import SHAPE, Api, Box
from .daemon import read, wait_until

READY_S = 300


def ready(log_path, n=1):
    """Until the daemon has had n templates."""
    return wait_until(lambda: read(log_path).count(" vm.template what=ready ") >= n, READY_S)


def main():
    with open(os.environ["WEIR_DAEMON"]) as f:
        about = json.load(f)
    api = Api(os.environ["WEIR_URL"], os.environ["WEIR_API_KEY"])
    box = Box(api, api.ok("POST", "/v1/sandboxes", {"shape": SHAPE, "runtime": "vm"}, timeout=READY_S))
    if not ready(about["log"]):
        sys.exit(f"warm: there is no template after {READY_S} s")
    box.destroy()


if __name__ == "__main__":
    main()
