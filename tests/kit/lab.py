"""The lab's side of a test: names, addresses, and what really left the host.

Both logs are written in the order packets arrive, so what is absent needs no waiting: a marker is
sent from the host, and what came before it is in the log with it. The times in them are those at which
packets arrived, however late they were written.
"""

import json
import os
import socket
import time


class Lab:
    def __init__(self, path):
        with open(path) as f:
            self.about = json.load(f)
        self.dir, self.ca = self.about["dir"], self.about["ca"]
        self.host4, self.host6 = self.about["host4"], self.about["host6"]
        self.lan4, self.inet4 = self.about["lan4"], self.about["inet4"]
        self.resolver4 = self.about["resolver4"]
        self._marks = 0
        self._read = {}  # of each log: how far, and what was there

    def _lines(self, which, since):
        at, entries = self._read.get(which, (0, []))
        with open(self.about[which], "rb") as f:
            f.seek(at)
            while (line := f.readline()).endswith(b"\n"):
                entries.append(json.loads(line))
                at += len(line)
        self._read[which] = at, entries
        return [e for e in entries if e["t"] >= since]

    def now(self):
        return time.time()

    def queries(self, since=0, **match):
        """DNS queries that reached the Internet; with a barrier, so absence means something."""
        self._barrier()
        return [e for e in self._lines("queries", since)
                if all(e[k] == v for k, v in match.items())]

    def flows(self, since=0, **match):
        """First packets of flows that reached the Internet."""
        self._barrier()
        return [e for e in self._lines("flows", since)
                if all(e[k] == v for k, v in match.items())]

    def _barrier(self):
        """Send one packet and wait until the watcher has logged it: all earlier ones are in too."""
        self._marks += 1
        port = 20000 + (os.getpid() * 131 + self._marks) % 40000
        start = time.time()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"mark", ("203.0.113.250", port))
            source = s.getsockname()[1]
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if any(e["dst"] == "203.0.113.250" and e["dport"] == port and e["sport"] == source
                   for e in self._lines("flows", start - 1)):
                return
            time.sleep(0.005)
        raise AssertionError("the lab's watcher is not watching")

    def sni(self):
        with open(self.about["sni"]) as f:
            return f.read().split()


def wait_flow(lab, since, **match):
    """The first packets of flows that are sure to reach the Internet."""
    end = time.monotonic() + 60
    while not (found := lab.flows(since, **match)):
        assert time.monotonic() < end, \
            f"no packet {match} reached the Internet; there were {lab.flows(since)[-20:]}"
        time.sleep(0.02)
    return found
