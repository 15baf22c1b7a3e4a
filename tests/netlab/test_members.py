"""Row 26 of the decision table: a member of a network reaches a peer in it on any port under any egress
policy, and none of it is egress. Row 10's other half, a peer of no shared network, is in decisions.json."""

import pytest

from kit.nets import Nets, serve


@pytest.fixture(scope="module")
def peer(api):
    nets = Nets(api)
    net = nets.new()
    box = serve(api.create(networks=[{"id": net.id}]), 80, 9000)
    yield net, box
    for member in net.get()["members"]:
        api.request("DELETE", f"/v1/sandboxes/{member['sandbox_id']}")
    nets.close()


@pytest.mark.parametrize("egress", [[], ["0.0.0.0/0"], ["1.2.3.4"], ["*.allowed.test:443"], ["10.0.0.0/8:1"]],
                         ids=" ".join)
def test_row_26(peer, api, egress):
    net, there = peer
    here = api.create(egress=egress)
    ip = net.ip(there)
    assert here.tcp(ip, 80) == "refused"  # the control
    net.attach(here)
    for port in (80, 9000):
        assert here.tcp(ip, port) == here.tcp(there.name, port) == "allow"
    assert here.probe({"ping": ip})["verdict"] == "allow"
    counted = api.ok("GET", f"{here.path}/counters")
    assert counted["out_bytes"] == counted["in_bytes"] == 0 and counted["overlay_out_bytes"] > 0
