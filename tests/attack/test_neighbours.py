"""A neighbour, a hostile process and a greedy client against a whole daemon."""

import http.client
import json
import os
import socket
import subprocess
import threading

# As a stub resolver does, it asks twice before it gives up.
ASK = """import os, socket, time
def ask(name):
    m = os.urandom(2) + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0"
    m += b"".join(bytes([len(l)]) + l for l in name.encode().split(b".")) + b"\\0\\0\\1\\0\\1"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(15)
    s.connect(("169.254.77.1", 53))
    s.send(m)
    try:
        return s.recv(2000)[3] & 15 == 0
    except OSError:
        return False
good = 0
for _ in range(50):
    good += ask("allowed.test") or ask("allowed.test")
    time.sleep(0.02)
print(good)
"""
FLOOD = """import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("169.254.77.1", 53))
m = b"ab\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3com\\0\\0\\1\\0\\1"
end = time.time() + 6
n = 0
while time.time() < end:
    for i in range(200):
        try:
            s.send(m)
            n += 1
        except OSError:
            pass
print(n)
"""
# IP_FREEBIND needs no capability; the answer must still be that there is no such way.
KNOCK = """import socket
def knock(source, target, freebind):
    s = socket.socket()
    s.settimeout(2)
    try:
        if freebind:
            s.setsockopt(socket.IPPROTO_IP, 15, 1)
        if source:
            s.bind((source, 0))
        s.connect((target, 1028))
        s.send(b"\\0\\0\\0\\0\\6\\0\\0\\0")  # whatever: an agent that listens would answer or wait
        return s.recv(1) != b""
    except OSError:
        return False
print([knock(s, t, f) for s, t, f in (
    ("", "169.254.77.2", False), ("169.254.77.2", "169.254.77.2", False),
    ("169.254.77.1", "169.254.77.2", True), ("", "127.0.0.1", False))])
"""


def child(about, name):
    """The role of this name. Other children of the host role come and go meanwhile."""
    out = subprocess.run(["pgrep", "-P", str(about["pid"]), "-x", name], stdout=subprocess.PIPE,
                         text=True).stdout.split()
    assert len(out) == 1, f"there is no {name}, or more than one: {out}"
    return int(out[0])


def memory(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) >> 10


def test_a_flood_of_queries_is_the_flooders_own(make_box, lab):
    quiet = make_box(egress=["allowed.test"])
    floods = [make_box(egress=[]) for _ in range(2)]
    sent = []
    threads = [threading.Thread(target=lambda b=b: sent.append(b.exec("python3", "-c", FLOOD)))
               for b in floods]
    for t in threads:
        t.start()
    good = quiet.exec("python3", "-c", ASK)
    for t in threads:
        t.join()
    assert sum(int(r.stdout) for r in sent) > 20000, sent
    assert int(good.stdout) == 50, good


def test_the_agents_door_is_closed_from_inside(make_box):
    r = make_box(egress=[]).exec("python3", "-c", KNOCK)
    assert r.stdout == "[False, False, False, False]\n", r


def test_unread_answers_and_unfinished_bodies(make_box, api, about):
    pid = child(about, "weir-api")
    before = memory(pid)
    box = make_box(egress=[])
    kept = []
    for _ in range(6):
        c = http.client.HTTPConnection(api.host, timeout=60)
        c.connect()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.request("POST", box.path + "/exec", headers={"X-Api-Key": api.key}, body=json.dumps(
            {"cmd": "sh", "args": ["-c", "head -c 16777216 /dev/zero; head -c 16777216 /dev/zero >&2"]}))
        kept.append(c.sock)
    for s in kept:
        assert s.recv(4, socket.MSG_PEEK) == b"HTTP"  # the command is over
    assert memory(pid) - before < 150  # what one sandbox may have us keep, and some
    host, port = api.host.rsplit(":", 1)
    for _ in range(40):
        s = socket.create_connection((host, int(port)), timeout=60)
        kept.append(s)
        s.sendall(f"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.key}\r\n"
                  f"Content-Length: {8 << 20}\r\n\r\n".encode())
        try:
            s.sendall(b" " * ((8 << 20) - 1))
        except OSError:
            pass  # there is no memory for it
    assert memory(pid) - before < 500
    assert make_box(egress=[]).sh("echo well").stdout == "well\n"
    for s in kept:
        s.close()


def test_the_edges_memory_is_its_own(about):
    """The two roles share a user id, and the api role can open files."""
    assert os.stat(f"/proc/{child(about, 'weir-edge')}/mem").st_uid == 0
