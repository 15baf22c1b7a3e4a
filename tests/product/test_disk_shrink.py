"""A disk never becomes smaller, and the refusal says how large it is."""

import pytest


@pytest.mark.parametrize("mib", [256, 64, 0, -1])
def test_a_disk_does_not_shrink(api, make_box, mib):
    box = make_box(disk_mib=256)
    r = api.request("POST", f"{box.path}/resize", {"disk_mib": mib})
    assert r.status == 400 and "256" in r.json["data"]["disk_mib"], r.body
    assert box.refresh()["disk_mib"] == 256
