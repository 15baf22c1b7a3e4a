"""The lab's side of a test: names, addresses, and what really left the host.

Both logs are written in the order packets arrive, so `quiet()` needs no waiting: it sends a marker
from the host and returns what came before it.
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

    def _lines(self, which, since):
        with open(self.about[which]) as f:
            for line in f:
                if line.endswith("\n"):
                    entry = json.loads(line)
                    if entry["t"] >= since:
                        yield entry

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
        end = time.monotonic() + 5
        while time.monotonic() < end:
            if any(e["dst"] == "203.0.113.250" and e["dport"] == port and e["sport"] == source
                   for e in self._lines("flows", start - 1)):
                return
            time.sleep(0.005)
        raise AssertionError("the lab's watcher is not watching")

    def sni(self):
        with open(self.about["sni"]) as f:
            return f.read().split()
