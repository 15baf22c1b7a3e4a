"""Other ways to ask for a name than port 53: encrypted ones, those of the local link, and the sandbox's own
file of hosts; names that two parsers would read differently, and names beside a wildcard."""

import json
import struct

import pytest
from kit import raw
from kit.lab import wait_flow

RESOLVER = {4: "9.9.9.9", 6: "2620:fe::fe"}
LOCAL = {  # protocol: (port, group or broadcast address)
    "mdns": (5353, {4: "224.0.0.251", 6: "ff02::fb"}),
    "llmnr": (5355, {4: "224.0.0.252", 6: "ff02::1:3"}),
    "netbios": (137, {4: "255.255.255.255"}),
}


@pytest.mark.parametrize("kind", ["tcp", "udp"])  # DNS over TLS, DNS over QUIC
def test_D5_encrypted_resolvers(pair, lab, kind, family):
    server = RESOLVER[family]
    literal = server if family == 4 else f"[{server}]"
    closed, opened = pair(["allowed.test", f"{literal}:53"], [f"{literal}:853"])
    since = lab.now()
    assert closed.probe({kind: server, "port": 853})["verdict"] == "refused"
    closed.denied("default", address=server)
    assert lab.flows(since, dst=server) == []
    # Named with that port it is let through: explicit is allowed.
    opened.probe({kind: server, "port": 853, "timeout": 1})
    wait_flow(lab, since, dst=server, dport=853)


@pytest.mark.parametrize("protocol", LOCAL)
def test_D5_resolvers_of_the_local_link(make_box, lab, protocol, family):
    """Even where everything is allowed: groups and broadcasts are floor, and no neighbour hears."""
    port, groups = LOCAL[protocol]
    if family not in groups:
        return  # NetBIOS knows no IPv6
    box, neighbour = make_box(egress=[]), make_box(egress=[])
    source = box.ip if family == 4 else box.sh(
        "ip -6 -o addr show dev eth0 scope global | sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'"
    ).stdout.strip()
    mark = f"who-is-{protocol}".encode()

    def question(to):
        return raw.eth(raw.ip(source, to, 17, raw.udp(source, to, port, port, mark)))

    with raw.Listen(neighbour) as listening:
        raw.send(box, *[question(groups[family])] * 3)
        box.denied("floor", address=groups[family])
        assert not any(mark in frame for frame in listening.frames())
    # The control: the same bytes to somebody who may be asked.
    elsewhere = {4: "203.0.113.10", 6: "2001:db8:1::10"}[family]
    since = lab.now()
    raw.send(box, question(elsewhere))
    wait_flow(lab, since, dst=elsewhere, dport=port)


def test_D6_https_under_an_open_policy(other_daemon, make_box, lab):
    """Under a policy that allows everything, a public resolver on port 443 is an address like any
    other. The operator's floor.deny takes it away, whatever a user's rule says; port 53 of the same
    address goes on being answered, by us."""
    daemon = other_daemon({"floor.deny": "9.9.9.9/32, 2620:fe::fe/128"})
    tries = [{kind: server, "port": 443} for kind in ("tcp", "udp") for server in RESOLVER.values()]
    for rules in ([], ["0.0.0.0/0", "::/0"]):
        box = daemon.api.create(egress=rules)
        since = lab.now()
        assert "allow" not in [r["verdict"] for r in box.probe(*tries)]
        for server in RESOLVER.values():
            box.denied("floor", address=server)
            assert lab.flows(since, dst=server) == []
            if not rules:
                assert box.dns("allowed.test", server=server)["addresses"] == ["203.0.113.10"]
                assert lab.queries(since, server=server) == [], "asked of ours"
        box.destroy()
    for literal in ("9.9.9.9", "[2620:fe::fe]"):
        refused = daemon.api.request("POST", "/v1/sandboxes",
                                     {"shape": "s-1vcpu-256mb", "egress": [literal]})
        assert refused.status == 400 and "cannot be opened by a rule" in refused.says
    # The control: the other daemon's operator denies nothing.
    assert [r["verdict"] for r in make_box(egress=[]).probe(*tries)] == ["allow"] * 4


def question(*labels):
    return struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + b"".join(
        bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack(">HH", 1, 1)


@pytest.mark.parametrize("labels", [
    (b"evil\0", b"wild", b"test"), (b"evil.test\0", b"wild", b"test"), (b"evil\0.wild.test",),
    (b"evil.wild", b"test"), (b"evil", b"wild\0", b"test"), (b"ev il", b"wild", b"test")],
    ids=["nul", "nul-dot", "one-label", "dot", "nul-in-parent", "space"])
def test_H9_a_name_that_two_parsers_read_differently(make_box, lab, labels):
    """A suffix check that carries on where the resolver stops: neither sees the name here."""
    box = make_box(egress=["*.wild.test"])
    since = lab.now()
    got = box.dns("x", raw=question(*labels).hex(), timeout=0.5)
    assert got.get("rcode") != 0, got
    box.denied("dns_invalid")
    assert lab.queries(since) == []
    # The control: the same bytes without the trick.
    plain = "h9-" + labels[0].hex()[:40]  # nobody asked for it before: not in a cache
    assert box.dns("x", raw=question(plain.encode(), b"wild", b"test").hex())["rcode"] == 0
    assert lab.queries(since, name=f"{plain}.wild.test")


@pytest.mark.parametrize("rule", ["evil\0.wild.test", "evil.test\0.wild.test", "*.wild.test\0",
                                  "ev il.wild.test", "wild.test\r\n", "evil@wild.test"])
def test_H9_a_rule_that_two_parsers_read_differently(api, rule):
    r = api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "egress": [rule]})
    assert r.status == 400 and "egress[0]" in r.body.decode(), r.body


# What reads like a wildcard's suffix: its apex, a longer label, a name it is the beginning of.
@pytest.mark.parametrize("name", ["allowed.test", "notallowed.test", "allowed.test.evil.test"])
def test_H10_a_name_beside_a_wildcard(pair, lab, name):
    closed, opened = pair(["*.allowed.test"], [name])
    since = lab.now()
    assert closed.dns(name)["rcode"] == 3
    closed.denied("name", name=name)
    assert lab.queries(since, name=name) == []
    assert closed.dns("sub.allowed.test")["rcode"] == 0  # the wildcard itself is in force
    assert opened.dns(name)["rcode"] == 0


@pytest.mark.parametrize("rule", ["*.", "*.*.test", "al*.test", "*allowed.test", "allowed.*"])
def test_H10_a_star_that_is_no_label(api, rule):
    """Refused, or it would mean to one reader what it does not mean to another; `*.test` is the control."""
    def create(rule):
        return api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "egress": [rule]})

    r = create(rule)
    assert r.status == 400 and "egress[0]" in r.body.decode(), r.body
    r = create("*.test")
    assert r.status == 200, r.body
    assert api.request("DELETE", f"/v1/sandboxes/{json.loads(r.body)['data']['id']}").status < 300


def test_H11_its_own_hosts_file(pair, lab):
    """The name is allowed, the address that the sandbox says it has is not."""
    closed, opened = pair(["allowed.test"], [])
    tried = "curl -sS -o /dev/null -m 50 http://allowed.test/"
    assert closed.sh(tried).code == 0
    for box in (closed, opened):
        assert box.sh("echo '203.0.113.20 allowed.test' >>/etc/hosts").code == 0
    since = lab.now()
    assert closed.sh(tried).code == 7  # could not connect
    closed.denied("default", address="203.0.113.20")
    assert lab.flows(since, dst="203.0.113.20") == []
    assert opened.sh(tried).code == 0
