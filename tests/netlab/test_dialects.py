"""dialects.json with real packets: what OpenSandbox's and sandbox0's policies mean.

The operator's files (deny.always, allow.always) belong to a daemon of their own, whose files are
written for the row and waited for; the row with empty files is their control."""

import json
import os
import tempfile
import time

import pytest

from kit.api import Box
from test_decisions import HERE, fill, places, run_row

with open(os.path.join(HERE, "dialects.json")) as f:
    ROWS = json.load(f)["rows"]


def cases(always):
    return [pytest.param(row, family, id=f"row{row['row']}-v{family}-{row['title'].replace(' ', '_')}")
            for row in ROWS if ("always" in row) == always for family in row["families"]]


def wait_until(what, check, seconds=60):
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
s = socket.create_connection(socket.getaddrinfo('{name}', {port}, f)[0][4][:2], 30)
s.sendall(b'GET /drip?300 HTTP/1.0\\r\\n\\r\\n')
s.settimeout(60)
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
        r = api.request("GET", f"/v1/sandboxes/{box.id}/endpoints/18080?use_server_proxy=true",
                        headers=key, key=False)
        assert r.status == 200, r.body
        self.api, self.headers = api, r.json["headers"]
        self.path = "/" + r.json["endpoint"].split("/", 1)[1] + "/policy"

    def change(self, method, body=None):
        r = self.api.request(method, self.path, body, headers=self.headers, key=False)
        assert r.status == 200, r.body
        return r.json


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


def test_a_policy_through_opensandbox_is_what_all_show(api, lab):
    """Given to a create, then patched: the same packets pass whichever dialect is asked, each shows it in its
    own words, and what one of them does to the sandbox meets it. The control is the packet that passes."""
    def ask(method, path, body=None, dialect="sandbox0"):
        headers = {"Authorization": f"Bearer {api.key}"} if dialect == "sandbox0" else {"OPEN-SANDBOX-API-KEY": api.key}
        r = api.request(method, path, body, headers=headers, key=False)
        assert r.status < 300, r.body
        return r

    made = ask("POST", "/v1/sandboxes", {
        "image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "infinity"], "timeout": 600,
        "resourceLimits": {"cpu": "1", "memory": "256Mi"}, "metadata": {"team": "red"},
        "networkPolicy": {"egress": [{"action": "allow", "target": "allowed.test"},
                                     {"action": "deny", "target": "203.0.113.11"}]}}, "opensandbox").json
    box = Box(api, api.get(made["id"]))
    s0, os_ = f"/api/v1/sandboxes/{box.id}", f"/v1/sandboxes/{box.id}"

    def shown():
        return box.refresh()["egress"], ask("GET", s0 + "/network").json["data"]["egress"]["trafficRules"][1:], [
            (r["action"], r["target"]) for r in Egress(api, box).change("GET")["policy"]["egress"]]

    def reached(*hosts):
        got = box.probe(*[{"tcp": h, "port": 443, "family": 4} for h in hosts])
        return {h for h, g in zip(hosts, got) if g["verdict"] == "allow"}

    try:
        hosts = ("allowed.test", "other.test", "203.0.113.11")
        assert shown() == (["allow allowed.test", "deny 203.0.113.11", "deny everything else"],
                           [{"action": "deny", "cidrs": ["203.0.113.11/32"]},
                            {"action": "allow", "domains": ["allowed.test"]}],
                           [("allow", "allowed.test"), ("deny", "203.0.113.11")])
        assert reached(*hosts) == {"allowed.test"}
        Egress(api, box).change("PATCH", [{"action": "deny", "target": "allowed.test"},
                                          {"action": "allow", "target": "other.test"}])
        assert shown() == (["deny allowed.test", "allow other.test", "deny 203.0.113.11", "deny everything else"],
                           [{"action": "deny", "cidrs": ["203.0.113.11/32"]},
                            {"action": "deny", "domains": ["allowed.test"]},
                            {"action": "allow", "domains": ["other.test"]}],
                           [("deny", "allowed.test"), ("allow", "other.test"), ("deny", "203.0.113.11")])
        assert reached(*hosts) == {"other.test"}
        # Paused by one, resumed by another: it is the same sandbox, with the policy that a third replaced.
        ask("POST", os_ + "/pause", dialect="opensandbox")
        assert (box.status, ask("GET", s0).json["data"]["status"]) == ("paused", "paused")
        ask("PUT", s0 + "/network", {"mode": "allow-all", "egress": {"deniedDomains": ["other.test"]}})
        ask("POST", s0 + "/resume")
        assert ask("GET", os_, dialect="opensandbox").json["status"]["state"] == "Running" and box.status == "running"
        assert Egress(api, box).change("GET")["policy"] == {
            "defaultAction": "allow", "egress": [{"action": "deny", "target": "other.test"}]}
        assert reached(*hosts) == {"allowed.test", "203.0.113.11"}
        assert ask("GET", os_, dialect="opensandbox").json["metadata"] == {"team": "red"}
        assert ask("GET", s0).json["data"]["pod_name"] == box.name
    finally:
        ask("DELETE", os_, dialect="opensandbox")


@pytest.fixture(scope="module")
def operator(lab):
    """A daemon whose operator has files, which the api role's user can read."""
    from kit.api import Api
    from kit.daemon import Daemon
    with tempfile.TemporaryDirectory(dir="/var/tmp") as at:
        os.chmod(at, 0o755)
        with Daemon({"egress.deny_always": f"{at}/deny",
                     "egress.allow_always": f"{at}/allow",
                     "egress.block_doh_443": "on",  # of an address that no other row asks for
                     "egress.doh_blocklist": "203.0.113.54/32"}) as daemon:
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
