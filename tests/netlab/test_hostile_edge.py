"""A compromised edge role against the host role: it asks for sockets and never reads an answer."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_host_role import Host, needs, new_id, wait_for, IMAGE  # noqa: E402, F401

# struct chan_head: type, kind, serial, status, size. 127.0.0.1 as struct ip, then tcp and count.
HOSTILE = """#!/usr/bin/python3
import socket, struct, time
BOOT_DONE, UPSTREAM, CALL = 3, 160, 2  # enum ipc_type, enum chan_kind
s = socket.socket(fileno=3)
while True:
    data, _, _, _ = s.recvmsg(40000, 4096)
    if struct.unpack("=H", data[:2])[0] == BOOT_DONE:
        break
ask = bytes([4, 127, 0, 0, 1] + [0] * 12)
ask += bytes(-len(ask) % 4) + struct.pack("=II", 0, 4)
for serial in range(1, 4000):
    s.send(struct.pack("=HHIiI", UPSTREAM, CALL, serial, 0, len(ask)) + ask)
time.sleep(3600)
"""


@pytest.fixture
def hostile():
    h = Host(dns__upstream="127.0.0.1")
    os.unlink(h.bin + "/weir-edge")
    with open(h.bin + "/weir-edge", "w") as f:
        f.write(HOSTILE)
    os.chmod(h.bin + "/weir-edge", 0o755)
    try:
        yield h.start()
    finally:
        print(h.log())
        h.close()


def test_sockets_that_nobody_takes(hostile):
    wait_for(lambda: "answers wait to be read" in hostile.log())
    fds = len(os.listdir(f"/proc/{hostile.process.pid}/fd"))
    assert fds < 1000, fds
    hostile.api.ok("spawn", new_id(), IMAGE)  # the host role has descriptors for others
