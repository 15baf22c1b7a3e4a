"""SIGUSR1 makes an edge worker say what it counted: one line, in which a refused question shows."""

import re
import signal
import os
import time

LIMIT_S = 120


def lines(path):
    with open(path, errors="replace") as f:
        return [line for line in f if "edge.counters" in line]


def told(daemon, seen):
    os.kill(daemon.role("edge"), signal.SIGUSR1)
    end = time.monotonic() + LIMIT_S
    while len(now := lines(daemon.log_path)) <= seen:
        assert time.monotonic() < end, daemon.log_tail()
        time.sleep(0.02)
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", now[-1])}


def test_a_worker_tells_what_it_counted(other_daemon):
    daemon = other_daemon()
    assert not lines(daemon.log_path)
    box = daemon.api.create(egress=["allowed.test"])
    before = told(daemon, 0)
    assert before["sandboxes"] == 1 and before["refused_name"] == 0, before
    box.sh("getent hosts refused.test")
    after = told(daemon, 1)
    assert after["refused_name"] > 0 and after["queries"] > before["queries"], after
