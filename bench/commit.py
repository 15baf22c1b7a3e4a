"""The kernel part of a policy change: datapath_commit() while 10, 1,000 and 4,000 slots have policies.

weir-bench-datapath (datapath.c) gives every slot a policy, then commits new ones slot after slot:
compiling the rules, writing their keys, flipping the slot, and deleting the keys of former versions
are all in the time. The peer replaces as many elements of one of as many nft sets, by libnftables in
one process that keeps its context; no program is started.
"""

import ctypes
import json
import os
import subprocess

from measure import Samples, kit, sampled

ROUNDS, PEER_ROUNDS = 3000, 60
CLONE_NEWNET = 0x40000000


class Nft:
    """libnftables on one table, in a network namespace of its own, in a process of its own."""

    def __init__(self):
        self.lib = ctypes.CDLL("libnftables.so.1")
        self.lib.nft_ctx_new.restype = ctypes.c_void_p
        self.ctx = ctypes.c_void_p(self.lib.nft_ctx_new(0))

    def __call__(self, text):
        if self.lib.nft_run_cmd_from_buffer(self.ctx, text.encode()):
            raise RuntimeError("libnftables: the command failed")


def elements(count, salt):
    return ", ".join(f"198.18.{(k + salt) // 16 % 256}.{(k + salt) % 16 * 16} . {1000 + k}"
                     for k in range(count))


def nft_replace(sets, count, rounds):
    """What a thread of a forked process measures: replacing all elements of one set."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    nft = Nft()
    nft("add table inet b")
    for first in range(0, sets, 500):
        nft("\n".join(f"add set inet b s{i} {{ type ipv4_addr . inet_service; "
                      f"elements = {{ {elements(count, i)} }}; }}"
                      for i in range(first, min(sets, first + 500))))
    turn = iter(range(1, rounds + 1))

    def one():
        i = next(turn)
        at = i * 2654435761 % sets
        nft(f"flush set inet b s{at}; add element inet b s{at} {{ {elements(count, i * 7)} }}")

    return sampled(rounds, one).ms


def apart(f, *args):
    """f's JSON-able result from a forked child: its namespace and context go with it."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        try:
            with os.fdopen(w, "w") as out:
                json.dump(f(*args), out)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else None


def datapath(*args):
    done = subprocess.run([os.path.join(kit.build_dir(), "bench", "weir-bench-datapath"),
                           *(str(a) for a in args)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def run(b):
    for slots, rules in ((10, 1), (1000, 1), (4000, 1), (4000, 8), (10, 64), (10, 256), (10, 4096)):
        rounds = ROUNDS if rules < 64 else 300 if rules < 4096 else 30
        ours = Samples([ns / 1e3 for ns in datapath("commit", slots, rules, rounds)])
        theirs = apart(nft_replace, slots, rules, PEER_ROUNDS if rules < 4096 else 10)
        b.add("commit", f"policy, kernel part: {rules} rules, {slots:,} slots", ours,
              [("libnftables", Samples([ms * 1e3 for ms in theirs]))] if theirs else [], unit="µs",
              aim_p99=50 if rules == 1 else None,
              short="kernel part at 4,000" if (slots, rules) == (4000, 1) else None)
