"""N12, N13, N21: private networks entered by strangers. The intruder of each test becomes a member at
its end, and then reaches what it could not."""

import re

import pytest

from kit import raw
from kit.api import Api
from kit.nets import Nets, serve

AGENT_PORT = 1028


@pytest.fixture
def nets(api):
    n = Nets(api)
    yield n
    for net in n.made:
        for m in net.get()["members"]:
            net.api.request("DELETE", f"/v1/sandboxes/{m['sandbox_id']}")
    n.close()


@pytest.fixture
def victim(nets, make_box):
    """Two members with servers, and their network."""
    net = nets.new()
    one, two = (make_box(networks=[{"id": net.id}]) for _ in range(2))
    serve(one, 80)
    serve(two, 80)
    assert one.tcp(net.ip(two), 80) == "allow"
    return net, one, two


def overlay(box):
    """Its own overlay address, member or not, as it stands inside."""
    out = box.sh("ip -4 -o addr show dev eth0").stdout
    return next(a for a in re.findall(r"inet ([0-9.]+)/", out) if a not in ("169.254.77.2", box.ip))


def syn(source, target, port=80, **mac):
    return raw.eth(raw.ip(source, target, 6, raw.tcp(source, target, 4444, port)), **mac)


def heard_of(frames, source):
    return [f for f in frames if raw.addr(source) in f]


@pytest.mark.parametrize("rules", [[], ["0.0.0.0/0"]])
def test_N21_stranger_at_every_door(victim, make_box, rules):
    net, one, _ = victim
    ip, stranger = net.ip(one), make_box(egress=rules)
    assert stranger.tcp(ip, 80) == "refused"
    stranger.denied("overlay", address=ip)
    assert stranger.udp(ip, 80) == "refused"
    assert stranger.probe({"ping": ip, "timeout": 2})["verdict"] != "allow"
    for name in (f"{one.name}.fc.local", f"{one.name}.{net.name}.fc.local", f"{one.id}.fc.local"):
        assert stranger.resolve(name)["verdict"] == "notfound"
    net.attach(stranger)
    assert stranger.tcp(ip, 80) == stranger.tcp(f"{one.name}.fc.local", 80) == "allow"


def test_N21_rule_inside_the_overlay_opens_nothing(victim, make_box):
    net, one, _ = victim
    ip = net.ip(one)
    stranger = make_box()
    r = stranger.api.request("PUT", f"{stranger.path}/egress", {"egress": [f"{ip}:80"]})
    assert r.status == 400 or stranger.tcp(ip, 80) == "refused"
    net.attach(stranger)
    assert stranger.tcp(ip, 80) == "allow"


def test_N21_after_leaving(victim, make_box):
    net, one, two = victim
    ip = net.ip(one)
    assert two.tcp(ip, 80) == "allow"
    net.detach(two)
    assert two.tcp(ip, 80) == "refused"
    assert two.resolve(one.name)["verdict"] == "notfound"
    # Neither by a segment of a connection that was there, nor from the other side.
    with raw.Listen(one) as heard:
        mine = overlay(two)
        raw.send(two, raw.eth(raw.ip(mine, ip, 6, raw.tcp(mine, ip, 4444, 80, flags=0x10))))
        two.denied("overlay", address=ip)
        assert not heard_of(heard.frames(), mine)
    net.attach(two)
    assert two.tcp(ip, 80) == "allow"


def test_N21_another_users_network_of_the_same_name(victim, api, make_box, nets):
    net, one, _ = victim
    key = api.ok("POST", "/v1/keys", {"name": "intruder"})
    other = Api(api.url, key["key"])
    try:
        twin = nets.new(net.name, other)
        intruder = other.create(name=one.name[:20] + "x", networks=[{"id": twin.id}])
        namesake = other.create(name=one.name, networks=[{"id": twin.id}])
        for door in (net.id, net.id.upper()):
            assert other.request("GET", f"/v1/networks/{door}").status == 404
            assert other.request("DELETE", f"/v1/networks/{door}").status == 404
            assert other.request("POST", f"{intruder.path}/networks", {"id": door}).status == 404
            assert other.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb",
                                                           "networks": [{"id": door}]}).status == 404
        assert intruder.tcp(net.ip(one), 80) == "refused"
        # The name means the user's own.
        got = intruder.resolve(one.name)
        assert twin.ip(namesake) in str(got) and net.ip(one) not in str(got)
        assert intruder.resolve(f"{one.id}.fc.local")["verdict"] == "notfound"
        serve(namesake, 80)
        assert intruder.tcp(one.name, 80) == "allow"
    finally:
        for view in other.ok("GET", "/v1/sandboxes?status=running")["data"]:
            other.ok("DELETE", f"/v1/sandboxes/{view['id']}")


def test_N21_management_port_of_a_member(victim):
    net, one, two = victim
    ip = net.ip(one)
    assert two.tcp(ip, AGENT_PORT) == "refused"
    two.denied("overlay", address=ip, port=AGENT_PORT)
    assert two.tcp("169.254.77.2", AGENT_PORT, timeout=2) != "allow"
    assert two.tcp(ip, 80) == "allow"


def test_N12_forged_overlay_sources(victim, make_box):
    """A stranger says it is a member; a member says it is another, or speaks to the world as itself."""
    net, one, two = victim
    ip, friend = net.ip(one), net.ip(two)
    stranger = make_box(egress=[])
    with raw.Listen(one) as heard:
        raw.send(stranger, syn(friend, ip), syn(friend, ip, dst=raw.SANDBOX_MAC),
                 syn(friend, ip, dst=b"\xff" * 6))
        stranger.denied("spoof", address=ip)
        raw.send(stranger, syn(overlay(stranger), ip), syn(stranger.ip, ip))
        stranger.denied("overlay", address=ip)
        stranger.denied("floor", address=ip)
        frames = heard.frames()
        assert not heard_of(frames, friend) and not heard_of(frames, stranger.ip)
    with raw.Listen(one) as heard:
        raw.send(two, syn(ip, ip), syn(overlay(stranger), ip), syn(two.ip, ip))
        two.denied("spoof", address=ip)
        raw.send(two, syn(friend, "203.0.113.9"))
        two.denied("spoof", address="203.0.113.9")
        raw.send(two, syn(friend, ip))  # the control: as itself, to a fellow
        frames = heard.frames(raw.addr(friend) + raw.addr(ip))
        assert heard_of(frames, friend)
        assert not heard_of(frames, two.ip) and not heard_of(frames, overlay(stranger))


def test_N21_member_speaks_for_others(victim):
    """ICMP errors about conversations in which the sender has no part, and redirects."""
    net, one, two = victim
    ip, me = net.ip(one), net.ip(two)

    def error(quoted, kind=3, code=4):
        return raw.eth(raw.ip(me, ip, 1, raw.icmp_error(kind, code, quoted, mtu=600)))

    abroad = raw.ip(one.ip, "203.0.113.9", 6, raw.tcp(one.ip, "203.0.113.9", 4444, 443))
    ours = raw.ip(ip, me, 6, raw.tcp(ip, me, 4445, 80))
    with raw.Listen(one) as heard:
        raw.send(two, error(abroad), error(raw.ip(me, ip, 6, raw.tcp(me, ip, 4446, 80))))
        two.denied("unsolicited", address=ip)
        raw.send(two, error(abroad, 5, 1))
        two.denied("protocol", address=ip)
        raw.send(two, error(ours))  # the control
        errors = [f for f in heard_of(heard.frames(ours[:28]), me) if f[23] == 1]
        assert len(errors) == 1 and ours[:28] in errors[0]


def test_N12_N13_arp_and_broadcast_of_the_overlay(victim, make_box):
    net, one, two = victim
    ip = net.ip(one)
    stranger = make_box(egress=[])
    mine, evil = overlay(stranger), raw.SANDBOX_MAC
    wide = b"\xff" * 6
    with raw.Listen(one) as heard:
        for box in (stranger, two):
            me = overlay(box)
            raw.send(box, raw.eth(raw.arp(1, evil, me, b"\0" * 6, ip), 0x0806, dst=wide),
                     raw.eth(raw.arp(2, evil, ip, wide, ip), 0x0806, dst=wide),
                     raw.eth(raw.ip(me, "10.42.255.255", 17, raw.udp(me, "10.42.255.255", 5353, 5353))),
                     raw.eth(raw.ip(me, "255.255.255.255", 17, raw.udp(me, "255.255.255.255", 5353, 5353)),
                             dst=wide),
                     raw.eth(raw.ip(me, "224.0.0.251", 17, raw.udp(me, "224.0.0.251", 5353, 5353)),
                             dst=b"\x01\0\x5e\0\0\xfb"))
            box.denied("spoof")
        frames = heard.frames()
        assert not heard_of(frames, mine) and not heard_of(frames, overlay(two))
    assert two.tcp(ip, 80) == "allow" and one.tcp(net.ip(two), 80) == "allow"


def test_N13_scan_of_the_overlay(victim, make_box):
    """Whoever is there and whoever is not look alike to a stranger."""
    net, one, _ = victim
    ip = net.ip(one)
    stranger = make_box(egress=[])
    base = ip.rsplit(".", 2)[0]
    there, nowhere = stranger.probe({"tcp": ip, "port": 80}, {"tcp": f"{base}.250.250", "port": 80})
    assert {k: there[k] for k in ("verdict", "error")} == {k: nowhere[k] for k in ("verdict", "error")}
    net.attach(stranger)
    assert stranger.tcp(ip, 80) == "allow"
