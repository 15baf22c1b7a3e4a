"""dialects.json with real packets: what OpenSandbox's and sandbox0's policies mean.

The operator's files (deny.always, allow.always) belong to a daemon of their own, whose files are
written for the row and waited for; the row with empty files is their control."""

import json
import os
import tempfile
import time

import pytest

from test_decisions import HERE, fill, places, run_row

with open(os.path.join(HERE, "dialects.json")) as f:
    ROWS = json.load(f)["rows"]


def cases(always):
    return [pytest.param(row, family, id=f"row{row['row']}-v{family}-{row['title'].replace(' ', '_')}")
            for row in ROWS if ("always" in row) == always for family in row["families"]]


def wait_until(what, check, seconds=20):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"waited {seconds} s until {what}"
        time.sleep(0.05)


def filled(value, where, family):
    """Placeholders in a whole policy."""
    if isinstance(value, list):
        return [filled(v, where, family) for v in value]
    if isinstance(value, dict):
        return {k: filled(v, where, family) for k, v in value.items()}
    return fill(value, where, family)


HOLD = """setsid python3 -u - >/root/held 2>&1 </dev/null <<'X' &
import socket
f = socket.AF_INET6 if {family} == 6 else socket.AF_INET
s = socket.create_connection(socket.getaddrinfo('{name}', {port}, f)[0][4][:2], 5)
s.sendall(b'GET /drip?20 HTTP/1.0\\r\\n\\r\\n')
s.settimeout(10)
try:
    while s.recv(4096):
        print('data')
    print('end')
except ConnectionResetError:
    print('cut')
X"""


def held(box):
    return box.sh("cat /root/held").stdout


class Egress:
    """A sandbox's policy through OpenSandbox's egress API."""

    def __init__(self, api, box):
        key = {"OPEN-SANDBOX-API-KEY": api.key}
        r = api.request("GET", f"/v1/sandboxes/{box.id}/endpoints/18080", headers=key, key=False)
        assert r.status == 200, r.body
        self.api, self.headers = api, r.json["headers"]
        self.path = "/" + r.json["endpoint"].split("/", 1)[1] + "/policy"

    def change(self, method, body):
        r = self.api.request(method, self.path, body, headers=self.headers, key=False)
        assert r.status == 200, r.body


def play(row, family, api, box, where):
    egress = Egress(api, box)
    if "opensandbox" in row:
        egress.change("PUT", filled(row["opensandbox"], where, family))
    else:
        r = api.request("PUT", f"/api/v1/sandboxes/{box.id}/network",
                        filled(row["sandbox0"], where, family), key=False,
                        headers={"Authorization": f"Bearer {api.key}"})
        assert r.status == 200, r.body
    for step in (filled(step, where, family) for step in row["do"]):
        if "patch" in step or "put" in step:
            method, = set(step)
            egress.change(method.upper(), step[method])
        elif "sh" in step:
            assert box.sh(step["sh"]).stdout.strip() == step["says"], step
        elif "hold" in step:
            box.sh(HOLD.format(name=step["hold"], port=step["port"], family=family))
            wait_until("bytes arrive", lambda: "data" in held(box))
        elif "held" in step and step["held"] == "open":
            before = held(box)
            wait_until("more arrive", lambda: held(box) > before)
        elif "held" in step:
            wait_until("it has ended", lambda: "data" not in held(box)[-6:])
            assert held(box).endswith(step["held"] + "\n")
        else:
            run_row({"do": [step]}, family, box, where, "reject")


@pytest.mark.parametrize("row, family", cases(False))
def test_dialect(row, family, api, make_box, lab, neighbour):
    play(row, family, api, make_box(), places(lab, neighbour, family))


@pytest.fixture(scope="module")
def operator(lab):
    """A daemon whose operator has files, which the api role's user can read."""
    from kit.api import Api
    from kit.daemon import Daemon
    with tempfile.TemporaryDirectory(dir="/var/tmp") as at:
        os.chmod(at, 0o755)
        with Daemon({"egress.deny_always": f"{at}/deny",
                     "egress.allow_always": f"{at}/allow"}) as daemon:
            yield Api(daemon.url, daemon.key), at, daemon


# Not a question to a policy: what a program may do, or what no packet on the link shows.
LIVE_ONLY = {"5.4.1", "5.4.2", "5.4.3", "27"}


def test_both_tables_have_the_same_rows():
    """What is played here is what the compiler and the reference are asked (tests/unit/policy)."""
    with open(os.path.join(HERE, "..", "unit", "policy", "decisions.table")) as f:
        asked = {line.split()[1] for line in f if line.startswith("row ")}
    played = {str(row["row"]) for row in ROWS}
    assert played - LIVE_ONLY == {row for row in asked if row[:2] == "5." or row.isdigit() and 13 <= int(row) <= 24}
    assert not LIVE_ONLY & asked


@pytest.mark.parametrize("row, family", cases(True))
def test_operators_files(row, family, operator, lab):
    api, at, daemon = operator
    for name in ("deny", "allow"):
        with open(f"{at}/new", "w") as f:
            f.write(row["always"].get(name, ""))
        os.chmod(f"{at}/new", 0o644)
        os.replace(f"{at}/new", f"{at}/{name}")
    want = f"deny={len(row['always'].get('deny', '').split())} " \
           f"allow={len(row['always'].get('allow', '').split())} "
    wait_until("the files have been read", lambda: want in ([""] + [
        line for line in daemon.log_tail(400).splitlines() if "egress.always" in line])[-1])
    box = api.create()
    try:
        play(row, family, api, box, {})
    finally:
        box.destroy()
