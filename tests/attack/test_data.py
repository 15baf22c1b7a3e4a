"""Files and commands: what a sandbox does to the role that reads it."""

import os
import threading
import time

import pytest
from kit.api import Refused


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line.split()[1] for line in f if line.startswith("VmRSS")))


def api_role(about):
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/comm") as f, open(f"/proc/{pid}/stat") as s:
                    parent = int(s.read().rpartition(")")[2].split()[1])
                    if f.read().startswith("weir-api") and parent == about["pid"]:
                        return int(pid)
            except OSError:
                pass
    raise LookupError("no api role")


def test_I6_paths_that_climb(make_box, tmp_path):
    box = make_box()
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    for path in ("/../../../../../../../.." + str(canary), "/root/../../../.." + str(canary),
                 "/proc/1/root" + str(canary), "/proc/self/cwd/../../.." + str(canary)):
        try:
            box.put(path, b"overwritten")
        except Refused as e:
            assert e.response.status in (400, 404, 409, 500) and e.response.status != 500
        assert canary.read_text() == "untouched"
        with pytest.raises(Refused):
            assert box.get(path) != b"untouched"
            raise Refused(box.api.request("GET", "/none"))
    box.put("/root/plain", b"here")  # the control
    assert box.get("/root/plain") == b"here"


def test_I6_links_swapped_during_transfers(make_box, tmp_path):
    """A path component flips between a directory and a link to the host's file, as seen from
    inside; whatever is written or read is the sandbox's own."""
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    box = make_box()
    box.sh("mkdir -p /srv/real && echo own >/srv/real/canary; ln -s / /srv/rootlink")
    box.sh("cat >/root/flip.sh <<'X'\n"
           "while :; do ln -sfn /srv/real /srv/l; ln -sfn " + str(tmp_path) + " /srv/l; "
           "ln -sfn /proc/1/root" + str(tmp_path) + " /srv/l; done\nX\n"
           "setsid sh /root/flip.sh >/dev/null 2>&1 </dev/null &")
    for i in range(60):
        try:
            box.put("/srv/l/canary", f"try {i}".encode())
        except Refused as e:
            assert e.response.status < 500, e
        try:
            assert b"untouched" not in box.get("/srv/l/canary")
        except Refused as e:
            assert e.response.status < 500, e
    assert canary.read_text() == "untouched"
    box.put("/srv/real/canary", b"plain")
    assert box.get("/srv/real/canary") == b"plain"


def test_I6_things_that_are_no_files(make_box):
    box = make_box()
    box.sh("mkfifo /root/fifo; python3 -c 'import socket; "
           "s=socket.socket(socket.AF_UNIX); s.bind(\"/root/sock\")'")
    for path in ("/root/fifo", "/root/sock", "/dev/zero", "/dev/null", "/root"):
        with pytest.raises(Refused) as e:
            box.get(path)
        assert e.value.response.status in (400, 404, 409), path
        with pytest.raises(Refused) as e:
            box.put(path, b"x")
        assert e.value.response.status in (400, 404, 409), path
    assert box.sh("mknod /root/disk b 254 0").code != 0, "no device nodes inside"


def test_I6_a_sparse_bomb(make_box, about):
    box = make_box()
    r = box.sh("truncate -s 100T /root/bomb || truncate -s 1T /root/bomb || truncate -s 200G /root/bomb")
    assert r.code == 0, r
    import http.client
    c = http.client.HTTPConnection(box.api.host, timeout=120)
    c.request("GET", f"{box.path}/files?path=/root/bomb", headers={"X-Api-Key": box.api.key})
    reply = c.getresponse()
    if reply.status == 200:
        reply.read(1 << 20)
    reply.close()
    c.close()
    assert resident_kib(api_role(about)) < 200 << 10
    assert box.sh("echo still here").stdout == "still here\n"


def test_I7_output_that_nobody_reads(make_box, about):
    box = make_box()
    pid = api_role(about)
    before = resident_kib(pid)
    streams = [box.api.stream(box.id, "yes", "x" * 1000) for _ in range(4)]
    for s in streams:
        next(s)  # headers and one chunk; then we stop reading

    def written():
        """Bytes that each has written so far: what is held back writes no more."""
        return box.sh("for p in $(pgrep -x yes); do grep wchar /proc/$p/io; done").stdout.split()[1::2]

    def begun():
        return len(now) == 4 and min(map(int, now)) > 64 << 10

    last, now, end = [], written(), time.monotonic() + 120
    while now != last or not begun():
        assert time.monotonic() < end, f"nothing holds the output back: {last}, {now}"
        assert resident_kib(pid) - before < 64 << 10, "output is kept in memory instead of held back"
        time.sleep(0.5)  # between looks: a writer that runs writes gigabytes in that time
        last, now = now, written()
    assert resident_kib(pid) - before < 64 << 10, "output is kept in memory instead of held back"
    assert box.sh("echo other calls go on").code == 0
    for s in streams:
        s.close()
    end = time.monotonic() + 60
    while box.sh("pgrep -x yes").code == 0:
        assert time.monotonic() < end, "hanging up did not end the command"


def test_I7_one_line_of_a_gigabyte(make_box, about):
    box = make_box(shape="s-1vcpu-1gb")
    pid = api_role(about)
    before = resident_kib(pid)
    r = box.sh("head -c 1000000000 /dev/zero | tr '\\0' a")
    assert len(r.stdout) < 1000000000 and r.error, "truncated, and it says so"
    assert resident_kib(pid) - before < 256 << 10
    assert box.sh("echo next").stdout == "next\n"


def test_I7_a_child_that_holds_the_output(make_box):
    box = make_box()
    assert box.sh("sleep 10000 & echo started").stdout == "started\n"  # longer than any patience
    # The control: a child whose parent waits is waited for.
    assert box.sh("(sleep 1; echo late) & wait").stdout == "late\n"


def test_I7_signals_and_a_crowd(make_box):
    box = make_box()
    assert box.sh("kill -TERM $$").code == 143
    assert box.sh("trap '' TERM; kill -TERM $$; echo survived").stdout == "survived\n"
    results, threads = [], []
    for i in range(40):
        threads.append(threading.Thread(target=lambda i=i: results.append(
            box.sh(f"kill -KILL $$; echo {i}").code)))
        threads[-1].start()
    for t in threads:
        t.join()
    assert results == [137] * 40
    assert box.sh("ps ax | grep -c '[d]efunct'").stdout.strip() == "0", "zombies are reaped"
    assert box.sh("kill -KILL 1; kill -TERM 1; sleep 0.2; echo alive").stdout == "alive\n"
