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
    for step in row["do"]:
        if "patch" in step:
            egress.change("PATCH", step["patch"])
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
