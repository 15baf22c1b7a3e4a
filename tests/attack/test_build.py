"""A build of an image against its fences: a recipe that reaches out, stays for ever, eats memory and
disk. Below tools/with-internet. The control of what is refused is the same recipe under a daemon whose
build.allow is everything, and the same act from outside; that of a limit is the same recipe within it."""

import contextlib
import json
import os
import socket
import tempfile
import threading

import pytest

HOST_LO = 18099
REACH = """#!/bin/sh
exec /usr/bin/python3 - "$1" <<'P'
import os, socket, sys, urllib.request
open(sys.argv[1] + "/made", "w").write("x")
def attempt(what, act):
    try:
        act()
        print("reached", what)
    except Exception as e:
        print("stopped", what, type(e).__name__)
def tcp(host, port, seconds=4):
    return lambda: socket.create_connection((host, port), seconds).close()
def unix(name):
    def act():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(4)
        s.connect(name)
    return act
attempt("allowed", tcp("allowed.test", 80, 60))
attempt("allowed-port", tcp("allowed.test", 8080, 60))
attempt("name", tcp("denied.test", 80, 60))
attempt("address", tcp("203.0.113.20", 80, 60))
attempt("address6", tcp("2001:db8:1::20", 80))
attempt("resolver", lambda: socket.create_connection(("203.0.113.53", 53), 4).sendall(b"x" * 40) or 1 / 0)
attempt("metadata", tcp("169.254.169.254", 80))
attempt("host", tcp("@HOST@", @PORT@))
attempt("loopback", tcp("127.0.0.1", @PORT@))
attempt("socket", unix("@SOCKET@"))
attempt("abstract", unix("\\0@ABSTRACT@"))
attempt("neighbour", tcp("@NEIGHBOUR@", 22022))
print("links", sorted(os.listdir("/sys/class/net")) and sorted(n for _, n in socket.if_nameindex()))
P
"""


@pytest.fixture
def recipes(monkeypatch):
    """recipes(name, text): what a daemon started from here on builds."""
    with tempfile.TemporaryDirectory(prefix="weir-recipes-", dir="/var/tmp") as at:
        monkeypatch.setenv("WEIR_RECIPES", at)

        def write(name, text):
            with open(f"{at}/{name}", "w") as f:
                f.write(text)
            os.chmod(f"{at}/{name}", 0o755)

        yield write


@pytest.fixture
def store():
    with tempfile.TemporaryDirectory(prefix="weir-store-", dir="/var/tmp") as at:
        os.chmod(at, 0o755)
        yield at


def build(api, name):
    """(lines of the log, status)"""
    r = api.request("POST", "/v1/rootfs/build", {"name": name})
    assert r.status == 200, r.body
    said = [json.loads(line) for line in r.body.decode().splitlines()]
    assert said[-1].get("final"), said
    return [s["line"] for s in said if "line" in s], said[-1]["status"]


@contextlib.contextmanager
def listeners(*sockets):
    """Something to be reached at each."""
    threads = []

    def serve(s):
        with contextlib.suppress(OSError):
            while True:
                s.accept()[0].close()

    for s in sockets:
        s.listen(8)
        threads.append(threading.Thread(target=serve, args=(s,), daemon=True))
        threads[-1].start()
    try:
        yield
    finally:
        for s in sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


def test_I9_a_build_reaches_only_what_it_may(lab, other_daemon, recipes, store):
    path, abstract = f"/run/weir-build-{os.getpid()}.sock", f"weir-build-{os.getpid()}"
    on_all, on_path, on_name = (socket.socket(), socket.socket(socket.AF_UNIX),
                                socket.socket(socket.AF_UNIX))
    on_all.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    on_all.bind(("0.0.0.0", HOST_LO))
    on_path.bind(path)
    os.chmod(path, 0o777)
    on_name.bind("\0" + abstract)
    settings = {"daemon.image_dir": store, "dns.upstream": lab.resolver4}
    closed = other_daemon({**settings, "build.allow": "allowed.test:80"})
    opened = other_daemon({**settings, "build.allow": "*"})
    text = REACH.replace("@HOST@", lab.host4).replace("@PORT@", str(HOST_LO)) \
        .replace("@SOCKET@", path).replace("@ABSTRACT@", abstract) \
        .replace("@NEIGHBOUR@", closed.settings["net.range4"].replace(".0/20", ".1"))
    recipes("reach_1", text)
    recipes("reach_2", text)
    try:
        with listeners(on_all, on_path, on_name):
            since = lab.now()
            log, status = build(closed.api, "reach:1")
            assert status == "ready", log
            for what in ("allowed-port", "name", "address", "address6", "resolver", "metadata", "host",
                         "loopback", "socket", "abstract", "neighbour"):
                assert any(line.startswith(f"stopped {what} ") for line in log), (what, log)
            assert "reached allowed" in log and "links ['eth0', 'lo']" in log, log
            assert "refused: the name denied.test is not in build.allow" in log
            assert "refused: 203.0.113.20 port 80 is not in build.allow" in log
            assert not lab.queries(since, name="denied.test")
            assert {f["dst"] for f in lab.flows(since) if f["dport"] == 80} == {"203.0.113.10"}

            log, status = build(opened.api, "reach:2")  # lifted: the attempts are armed
            for what in ("allowed", "allowed-port", "name", "address"):
                assert f"reached {what}" in log, log
            for s in (("127.0.0.1", HOST_LO), (lab.host4, HOST_LO)):
                socket.create_connection(s, 60).close()
            for s in (path, "\0" + abstract):
                with socket.socket(socket.AF_UNIX) as c:
                    c.connect(s)
    finally:
        os.unlink(path)


def test_I9_a_build_has_limits(other_daemon, recipes, store):
    """Time, memory, disk, each with a recipe that stays within."""
    eat = "/usr/bin/python3 -c 'x = bytearray(%d << 20)'\n"
    fill = "dd if=/dev/zero of=$1/big bs=1M count=%d 2>/dev/null\n"
    for name, text in (("sleep_1", "exec sleep 1000"), ("sleep_2", "sleep 0.1; touch $1/x"),
                       ("eat_1", eat % 300), ("eat_2", eat % 20 + "touch $1/x"),
                       ("fill_1", fill % 100), ("fill_2", fill % 20),
                       ("files_1", "for i in $(seq 20); do mkdir $1/$i; (cd $1/$i; seq 1000 | xargs touch) || exit 1;"
                        " done")):
        recipes(name, f"#!/bin/sh\nset -e\n{text}\n")
    d = other_daemon({"daemon.image_dir": store, "build.memory_mib": 128, "build.disk_mib": 64})
    hurried = other_daemon({"daemon.image_dir": store, "build.time_s": 1})
    for kind, daemon, why in (("sleep", hurried, "ended after 1 seconds (build.time_s)"),
                              ("eat", d, "failed (status"), ("fill", d, "its disk is full")):
        log, status = build(daemon.api, f"{kind}:1")
        assert status == "failed" and any(why in line for line in log), (kind, log)
        log, status = build(d.api, f"{kind}:2")
        assert status == "ready", (kind, log)
    log, status = build(d.api, "files:1")
    assert status == "failed" and any("its disk is full" in line for line in log), log
    assert sorted(os.listdir(f"{store}/names")) == ["eat:2", "fill:2", "sleep:2"]
