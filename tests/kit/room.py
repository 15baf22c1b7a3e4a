"""A daemon with little room in one place of its state directory.

	with little_room("vm/paused", 16) as (daemon, at, more):
		…		# at: that place, a file system of so many MiB
		more(500)	# and now of so many
"""

import contextlib
import os
import subprocess

from .daemon import Daemon


@contextlib.contextmanager
def little_room(place, mib):
    daemon = Daemon({})
    at = os.path.join(daemon.state_dir, place)
    os.makedirs(at)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "weir-test", at], check=True)
    try:
        daemon.__enter__()
        yield daemon, at, lambda mib: subprocess.run(["mount", "-o", f"remount,size={mib}m", at], check=True)
    finally:
        subprocess.run(["umount", "-l", at], check=True)
        daemon.__exit__(None, None, None)
