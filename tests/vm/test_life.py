"""A machine falls asleep when nobody uses it, wakes for who comes, and can be ended at any moment."""

import os
import threading

import pytest

from kit.api import Box
from kit.daemon import wait_until
from kit.ingress import Door, serve


def sandbox0(api, method, path, body=None):
    return api.ok(method, "/api/v1" + path, body, headers={"Authorization": f"Bearer {api.key}"})


@pytest.fixture
def claimed(api):
    """A machine by sandbox0's dialect, which can say how soon it sleeps and who wakes it."""
    made = sandbox0(api, "POST", "/sandboxes", {"template": "vm", "config": {
        "services": [{"id": "web", "port": 8000, "ingress": {"public": True, "routes": [
            {"id": "all", "path_prefix": "/", "resume": True}]}}]}})
    box = Box(api, api.get(made["sandbox_id"]))
    yield box
    box.destroy()


def test_it_sleeps_when_idle_and_wakes_for_a_visitor(api, claimed, about):
    box = serve(claimed, 8000)
    assert box.view["runtime"] == "vm"
    door, boot = Door(about), box.sh("cat /proc/sys/kernel/random/boot_id").stdout
    sandbox0(api, "PUT", f"/sandboxes/{box.id}", {"config": {"ttl": 2}})
    box.wait("paused", seconds=60)
    sandbox0(api, "PUT", f"/sandboxes/{box.id}", {"config": {"ttl": 600}})
    answers = []
    visitors = [threading.Thread(target=lambda: answers.append(door.get(box, 8000, "/held"))) for _ in range(5)]
    for v in visitors:
        v.start()
    for v in visitors:
        v.join(60)
    assert [a.status for a in answers] == [200] * 5
    assert {a.json["line"] for a in answers} == {"GET /held HTTP/1.1"}
    assert box.status == "running"
    assert box.sh("cat /proc/sys/kernel/random/boot_id").stdout == boot  # it went on; it did not begin anew

    # What follows a resume at once is held until it runs, and has what was there.
    data = os.urandom(1 << 20)
    box.put("/root/data", data)
    box.pause()
    api.ok("POST", f"{box.path}/resume")
    assert box.get("/root/data") == data

    box.pause()
    box.destroy()
    box.wait("destroyed")
    assert door.get(box, 8000).status != 200


def test_it_is_ended_while_it_falls_asleep_and_while_it_wakes(api, make_box, about):
    for verbs in (["pause"], ["pause", "resume"]):
        box = make_box(runtime="vm")
        for verb in verbs:
            api.ok("POST", f"{box.path}/{verb}")
            if verb != verbs[-1]:
                box.wait("paused")
        box.destroy()
        box.wait("destroyed", seconds=60)
        left = os.path.join(about["state_dir"], "vm")
        assert wait_until(lambda: not [f for d in ("paused", "layers") for f in os.listdir(f"{left}/{d}")
                                       if box.id in f], 30)
