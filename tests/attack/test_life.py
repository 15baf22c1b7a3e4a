"""The moments between: no packet before its policy."""

import glob
import os
import subprocess
import sys
import time

from kit import daemon as kit
from kit import raw

TARGET = "203.0.113.20"
HAMMER = ("import socket,time\n"
          "while True:\n"
          "  s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
          f"  try: s.sendto(b'x',('{TARGET}',9999))\n"
          "  except OSError: pass\n"
          "  s.close(); time.sleep(0.0005)\n")


def slot_namespaces(pid):
    """Ready slots: network namespaces that only the host role's descriptors hold."""
    own = os.stat("/proc/self/ns/net").st_ino
    seen = set()
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        try:
            st = os.stat(fd)
            if not os.readlink(fd).startswith("net:[") or st.st_ino in seen | {own}:
                continue
        except OSError:
            continue
        seen.add(st.st_ino)
        links = subprocess.run(["nsenter", f"--net={fd}", "ip", "-o", "addr"],
                               stdout=subprocess.PIPE, text=True).stdout
        if "169.254.77.2/" in links:
            own4 = [line.split()[3].split("/")[0] for line in links.splitlines()
                    if " inet " in line and "eth0" in line and "169.254" not in line]
            yield fd, own4[0] if own4 else None


def test_L1_a_ready_slot_is_quarantined(other_daemon, lab):
    daemon = other_daemon({"pool.slots": "3"})
    end = time.monotonic() + 60
    while not (slots := list(slot_namespaces(daemon.process.pid))):
        assert time.monotonic() < end, "no ready slots"
    since = lab.now()
    for fd, address in slots:
        frames = [raw.eth(raw.ipv4(src, TARGET, 17, raw.udp(src, TARGET, 4321, 9999)))
                  for src in (address, "169.254.77.2") if src]
        frames += [raw.eth(raw.ipv4(address, "8.8.8.8", 17, raw.udp(
            address, "8.8.8.8", 4321, 53, b"\0\1\1\0\0\1\0\0\0\0\0\0\5other\4test\0\0\1\0\1")))]
        subprocess.run(["nsenter", f"--net={fd}", sys.executable, "-c", raw.SENDER], text=True,
                       input="".join(f.hex() + "\n" for f in frames), check=True)
    assert lab.flows(since, dst=TARGET) == []
    assert lab.queries(since, name="other.test") == []
    # The control: the same slots, once they are sandboxes, send the same frames.
    boxes = [daemon.api.create(egress=[]) for _ in slots]
    for box in boxes:
        raw.send(box, raw.eth(raw.ipv4(box.ip, TARGET, 17, raw.udp(box.ip, TARGET, 4321, 9999))))
    end = time.monotonic() + 60
    while not lab.flows(since, dst=TARGET):
        assert time.monotonic() < end
    for box in boxes:
        box.destroy()


def hammering(box):
    box.put("/root/hammer.py", HAMMER.encode())
    box.sh("setsid python3 /root/hammer.py >/dev/null 2>&1 </dev/null &")
    box.denied("default", address=TARGET)


def test_L1_resume(make_box, lab):
    box = make_box(egress=["allowed.test"])
    since = lab.now()
    hammering(box)
    for _ in range(5):
        box.pause()
        box.resume()
        assert box.sh("true").code == 0
    assert lab.flows(since, dst=TARGET) == []
    box.set_egress([TARGET])  # the control: it has been hammering all the time
    end = time.monotonic() + 60
    while not lab.flows(since, dst=TARGET):
        assert time.monotonic() < end


def test_L1_adoption(other_daemon, lab):
    """The daemon is killed and comes back while the sandbox sends: links keep their program."""
    daemon = other_daemon()
    box = daemon.api.create(egress=["allowed.test"])
    since = lab.now()
    hammering(box)
    for role in ("host", "api", "edge"):
        if role == "host":
            daemon.kill9()
            daemon.start()
        else:
            pid = daemon.role(role)
            assert pid, f"no {role} role"
            daemon.kill9(pid)
            end = time.monotonic() + 60
            while daemon.role(role) in (None, pid) or \
                    not daemon._ready(os.path.join(daemon.run_dir, "api.addr")):
                assert time.monotonic() < end, f"{role} did not come back"
                time.sleep(0.02)
        box.api.__init__(daemon.url, daemon.key)
        assert box.wait("running").sh("pgrep -f hammer.py >/dev/null").code == 0, "adopted alive"
    assert lab.flows(since, dst=TARGET) == []
    box.set_egress([TARGET])
    end = time.monotonic() + 60
    while not lab.flows(since, dst=TARGET):
        assert time.monotonic() < end
    assert kit.Leak
