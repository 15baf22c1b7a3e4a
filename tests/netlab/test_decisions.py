"""decisions.json with real packets, over both families, in both modes of refusing.

Every deny has its control beside it: the lab answers at every address, and the row's other steps
reach it, so what is refused was refused by the policy; the denial log must name the reason.
"""

import json
import os
import re
import socket
import threading
import time

import pytest

HERE = os.path.dirname(os.path.realpath(__file__))
with open(os.path.join(HERE, "decisions.json")) as f:
    ROWS = json.load(f)["rows"]
CASES = [pytest.param(row, family, id=f"row{row['row']}-v{family}-{row['title'].replace(' ', '_')}")
         for row in ROWS for family in row.get("families", [4, 6])]


def zone():
    """Name -> addresses per family, read from zone.txt: the test's own view of the truth."""
    table = {}
    with open(os.path.join(HERE, "zone.txt")) as lines:
        for line in lines:
            m = re.match(r"(\S+)\.\s+(?:\d+\s+)?(A|AAAA)\s+(\S+)", line)
            if m:
                table.setdefault((m.group(1), 4 if m.group(2) == "A" else 6), m.group(3))
    return table


ZONE = zone()


def places(lab, neighbour, family):
    if family == 4:
        return {"neighbour": neighbour.ip, "host": lab.host4, "lan": lab.lan4,
                "gateway": "169.254.77.1", "meta": "169.254.169.254"}
    return {"neighbour": neighbour.ip6, "host": lab.host6, "gateway": "fe80::77:1%eth0",
            "meta": "fd00:ec2::254"}


def fill(text, where, family):
    if not isinstance(text, str):
        return text
    text = re.sub(r"\{a:([^}]+)\}", lambda m: ZONE[(m.group(1), family)], text)
    return re.sub(r"\{(\w+)\}", lambda m: where[m.group(1)], text)


def asked_at_once(steps):
    """Neighbouring steps that are to be refused change nothing, so they need not wait for each
    other's time-outs: lists of steps."""
    groups = []
    for step in steps:
        refused = step.get("expect") in ("deny", "closed") and not {"dns", "name"} & set(step)
        if refused and groups and groups[-1][0]:
            groups[-1][1].append(step)
        else:
            groups.append((refused, [step]))
    return [group for _, group in groups]


SILENCE_S = 2  # of what is not answered, or need not be


def probe_of(step, family, mode="reject"):
    asked = {k: v for k, v in step.items() if k in ("tcp", "udp", "ping", "name", "dns", "port",
                                                    "type", "server")}
    if "dns" not in asked and "ping" not in asked:
        asked["family"] = family
    if step.get("expect") == "closed" or step.get("expect") == "deny" and mode == "drop":
        asked["timeout"] = SILENCE_S
    return asked


def judge(step, got, box, mode):
    if "addresses" in step:
        assert sorted(got.get("addresses", [])) == step["addresses"], (step, got)
    if "expect" in step:
        want = step["expect"]
        if want == "deny" and "ping" not in step:
            want = {"reject": "refused", "drop": "timeout"}[mode]
        if want == "closed":
            want = got["verdict"] if got["verdict"] in ("refused", "timeout") else "refused"
        assert got["verdict"] == want, (step, got, box.denials()[:5])
    if "reason" in step:
        reasons = step["reason"] if isinstance(step["reason"], list) else [step["reason"]]
        target = step.get("name") or step.get("dns") or step.get("tcp") or step.get("udp") or \
            step.get("ping")
        target = target.split("%")[0]
        end = time.monotonic() + 60
        while not any(d["reason"] in reasons and target in (d.get("name"), d.get("address"))
                      for d in box.denials()):
            assert time.monotonic() < end, (step, got, box.denials())
            time.sleep(0.02)


def run_row(row, family, box, where, mode):
    steps = [{k: fill(v, where, family) for k, v in step.items()} for step in row["do"]]
    for group in asked_at_once(steps):
        results = box.probe(*[probe_of(step, family, mode) for step in group])
        for step, got in zip(group, results if len(group) > 1 else [results]):
            judge(step, got, box, mode)


@pytest.mark.parametrize("row, family", CASES)
def test_reject(row, family, make_box, lab, neighbour):
    box = make_box(claim=row["sandbox0"]) if "sandbox0" in row else make_box(egress=row["egress"])
    run_row(row, family, box, places(lab, neighbour, family), "reject")


@pytest.fixture(scope="module")
def dropping(lab):
    """A daemon that refuses in silence."""
    from kit.api import Api
    from kit.daemon import Daemon
    with Daemon({"egress.refuse": "drop"}) as daemon:
        client = Api(daemon.url, daemon.key)
        box = client.create()
        box.ip6 = box.sh("ip -6 -o addr show dev eth0 scope global | "
                         "sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'").stdout.strip()
        yield client, box
        box.destroy()


@pytest.mark.parametrize("row, family", [c for c in CASES if c.values[0]["row"] in (2, 5, 10) and "egress" in c.values[0]])
def test_drop(row, family, dropping, lab):
    client, neighbour = dropping
    box = client.create(egress=row["egress"])
    try:
        run_row(row, family, box, places(lab, neighbour, family), "drop")
    finally:
        box.destroy()


def test_row12_nothing_passes_after_the_answer(make_box, lab, family):
    """Bytes that arrive without pause show when the cut comes: with the answer to the PUT, not after it,
    and the program hears of it by the next one. (How many milliseconds that is, is printed.)"""
    script = (
        "import socket,time\n"
        f"f=socket.AF_INET{'6' if family == 6 else ''}\n"
        "s=socket.create_connection(socket.getaddrinfo('allowed.test',80,f)[0][4][:2],30)\n"
        "s.sendall(b'GET /bytes?100000000000 HTTP/1.0\\r\\n\\r\\n')\n"
        "s.settimeout(60); s.recv(1); print('data', flush=True)\n"
        "try:\n"
        "  while s.recv(65536): pass\n"
        "except ConnectionResetError: print('cut', time.time())\n")
    late = []
    for _ in range(5):
        box, text, begun = make_box(egress=["allowed.test"]), [], threading.Event()

        def read(box=box, text=text, begun=begun):
            for frame in box.api.stream(box.id, "python3", "-c", script):
                text.append(frame.get("stdout", ""))
                if "data" in "".join(text):
                    begun.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(60), text
        before = box.passed()
        box.set_egress(["denied.test"])
        answered, passed = time.time(), box.passed()
        thread.join(60)
        said = "".join(text).split()
        assert said[:2] == ["data", "cut"], said
        assert box.passed() == passed >= before > 0
        late.append(float(said[2]) - answered)
    print("cut after the answer, ms:", [round(1000 * t, 2) for t in late])


def test_row12_replaced_during_a_download(make_box, lab, family):
    """A tightened policy means it: the running download ends at once, the new list is in force."""
    address = ZONE[("allowed.test", family)]
    box = make_box(egress=["allowed.test"])
    script = (
        "import socket,sys,time\n"
        f"f=socket.AF_INET{'6' if family == 6 else ''}\n"
        "s=socket.create_connection(socket.getaddrinfo('allowed.test',80,f)[0][4][:2],30)\n"
        "s.sendall(b'GET /drip?300 HTTP/1.0\\r\\n\\r\\n')\n"
        "s.settimeout(60)\n"
        "try:\n"
        "  while True:\n"
        "    d=s.recv(4096)\n"
        "    if not d: print('end'); break\n"
        "    print('data', flush=True)\n"
        "except OSError as e: print('cut', type(e).__name__)\n")
    frames, lines = [], threading.Event()

    def read():
        text = ""
        for frame in box.api.stream(box.id, "python3", "-c", script):
            text += frame.get("stdout", "")
            frames.append(frame)
            if "data" in text:
                lines.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert lines.wait(60), frames
    box.set_egress(["denied.test"])
    passed = box.passed()
    thread.join(60)
    said = "".join(f.get("stdout", "") for f in frames).strip().splitlines()[-1].split()
    assert said == ["cut", "ConnectionResetError"], said
    assert box.passed() == passed > 0, "bytes arrived after the answer"
    box.denied("cut", address=address)
    assert box.tcp("denied.test", 80, family=family) == "allow"
    assert box.resolve("allowed.test")["verdict"] == "notfound"


def test_row27_replaced_while_paused(make_box, lab, family):
    """The first packet after resume is judged by the policy that was stored meanwhile."""
    box = make_box(egress=["allowed.test"])
    assert box.tcp("allowed.test", 443, family=family) == "allow"
    # A program that tries all the time, from before the pause to after the resume.
    box.sh("cat >/root/try.py <<'X'\n"
           "import socket,sys,time\n"
           f"a='{ZONE[('allowed.test', family)]}'\n"
           "while True:\n"
           "  t=time.time()\n"
           "  try: socket.create_connection((a,443),1).close(); r='allow'\n"
           "  except OSError: r='deny'\n"
           "  print(r, flush=True)\n"
           "  time.sleep(0.005)\n"
           "X\n"
           "setsid python3 /root/try.py >/root/tries 2>&1 </dev/null &")
    end = time.monotonic() + 60
    while "allow" not in box.sh("cat /root/tries").stdout:
        assert time.monotonic() < end
    box.pause()
    box.set_egress(["denied.test"])
    since = lab.now()
    box.resume()
    end = time.monotonic() + 60
    while "deny" not in box.sh("cat /root/tries").stdout:
        assert time.monotonic() < end
    assert not [f for f in lab.flows(since) if f["dst"] == ZONE[("allowed.test", family)]]
    assert box.tcp("denied.test", 443, family=family) == "allow"
    # The control: the same sequence without tightening lets the program through.
    box.pause()
    box.set_egress(["denied.test", "allowed.test"])
    box.resume()
    assert box.tcp("allowed.test", 443, family=family) == "allow"


def test_the_lab_answers_what_policies_refuse(lab):
    """The control of all controls: from the host, without a sandbox, every refused place answers."""
    for address in ("169.254.169.254", "10.9.9.9", "10.42.0.5", "203.0.113.10", "100.64.0.1"):
        with socket.create_connection((address, 8080), 30) as s:
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert address in s.recv(4096).decode()
