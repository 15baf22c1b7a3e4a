"""exec of `true` in a running sandbox, round trip through the API.

POST of an exec on a kept connection, against `runc exec` into a running container of the same root
file system, round by round in between.
"""

import os
import subprocess

from create import bundle
from measure import Client, Samples, kit, spawn, timed


def container(b):
    """A runc container that only sleeps; its name, or None."""
    where = bundle(os.path.join(b.dir, "sleeper"))
    path = os.path.join(where, "config.json")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text.replace('["true"]', '["sleep", "600"]'))
    name = f"weir-bench-{os.getpid()}-sleeper"
    null = subprocess.DEVNULL
    done = subprocess.run(["runc", "run", "--detach", "--bundle", where, name],
                          stdin=null, stdout=null, stderr=null)
    return name if done.returncode == 0 else None


def run(b):
    peer = container(b)
    ours, theirs = [], []
    try:
        with kit.Daemon({"pool.slots": "4"}) as d:
            client = Client(d)
            raw = client.request("POST", f"/v1/sandboxes/{client.create()}/exec", {"cmd": "true"})
            for i in range(b.rounds * 5 + 5):
                ms = timed(lambda: client.send(raw))
                if i >= 5:
                    ours.append(ms)
                if peer and i % 5 == 0:
                    theirs.append(timed(lambda: spawn(["runc", "exec", peer, "true"])))
            client.close()
    finally:
        if peer:
            spawn(["runc", "delete", "--force", peer])
    b.add("exec", "exec of true", Samples(ours),
          [("runc exec", Samples(theirs[1:]))] if peer else [], aim=2, short="exec")
