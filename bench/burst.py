"""100 creates at once, every one answering an exec of `true`: time until the last has.

100 connections, one loop: each sends its POST, and its exec as soon as the first is answered. One
warm daemon with the pool that is named, and full: a burst begins when what the one before left has
gone and the pool is ready. Three bursts, the median is the figure. Any answer but success, or an exit
code but 0, counts as failed. `bwrap` has no daemon to burst into: its peer figure is 100 of them
started at once.
"""

import json
import os
import select
import time

from create import bwrap_argv, works
from measure import Client, Samples, kit

N, BURSTS = 100, 3
SETTLE_S = 10


class One:
    """One client of the burst: create, exec, done."""

    def __init__(self, d):
        self.c, self.got, self.box, self.ok = Client(d), b"", None, False
        self.c.s.setblocking(False)

    def begin(self):
        self.c.s.send(self.c.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb"}))

    def readable(self):
        """True when finished, one way or the other."""
        more = self.c.s.recv(65536)
        self.got += more
        head, found, body = self.got.partition(b"\r\n\r\n")
        if more and (not found or len(body) < length_of(head)):
            return False
        if not head[9:10] == b"2":
            return True
        self.got = b""
        data = json.loads(body)["data"]
        if self.box:
            self.ok = data["result"]["exit_code"] == 0
            return True
        self.box = data["id"]
        self.c.s.send(self.c.request("POST", f"/v1/sandboxes/{self.box}/exec", {"cmd": "true"}))
        return False


def length_of(head):
    at = head.lower().find(b"content-length:")
    return int(head[at + 15:].split(b"\r\n", 1)[0])


def burst(d):
    """(ms, how many answered)."""
    crowd = {}
    poll = select.epoll()
    for one in (One(d) for _ in range(N)):
        crowd[one.c.s.fileno()] = one
        poll.register(one.c.s.fileno(), select.EPOLLIN)
    left = set(crowd)
    start = time.perf_counter()
    for one in crowd.values():
        one.begin()
    while left:
        events = poll.poll(60)
        if not events:
            break
        for fd, _ in events:
            if fd in left and crowd[fd].readable():
                left.discard(fd)
                poll.unregister(fd)
    ms = (time.perf_counter() - start) * 1000
    client = Client(d)
    for one in crowd.values():
        if one.box:
            client.delete(one.box)
        one.c.close()
    client.close()
    return ms, sum(one.ok for one in crowd.values())


def busy_ms():
    """What all processors have worked so far."""
    with open("/proc/stat") as f:
        ticks = [int(x) for x in f.readline().split()[1:]]
    return (sum(ticks) - ticks[3] - ticks[4]) * 1000 / os.sysconf("SC_CLK_TCK")


def settled(d, pool):
    """The last burst's sandboxes are gone, the pool is full, and nobody is busy with either. On a
    machine that does not come to rest: after a while all the same."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        before = busy_ms()
        time.sleep(0.25)
        if busy_ms() - before < 50 and len(d.agents()) == pool:
            return


def bwraps(argv):
    start = time.perf_counter()
    pids = [os.posix_spawnp(argv[0], argv, os.environ) for _ in range(N)]
    for pid in pids:
        os.waitpid(pid, 0)
    return (time.perf_counter() - start) * 1000


def run(b):
    peer = None
    if works(bwrap_argv()):
        peer = Samples([bwraps(bwrap_argv()) for _ in range(BURSTS)])
    for slots in ("100", "16", "0"):
        with kit.Daemon({"pool.slots": slots}) as d:
            client = Client(d)
            client.delete(client.create())
            client.close()
            done = []
            for _ in range(BURSTS):
                settled(d, int(slots))
                done.append(burst(d))
        answered = sum(ok for _, ok in done)
        figure = Samples([ms for ms, _ in done])
        b.add("burst", f"burst of {N}, pool of {slots}: {100 * answered / N / BURSTS:.0f} % answered",
              figure, [("bwrap, 100 at once", peer)], aim=400 if slots == "100" else None,
              ok=answered == N * BURSTS,
              short=f"burst {100 * answered / N / BURSTS:.0f} %" if slots == "100" else None)
