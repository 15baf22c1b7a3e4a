"""Names as a way out, and answers as a way in."""

import json
import random
import socket
import string
import struct
import time

import pytest
from kit import raw

RESOLVER6 = "2001:db8:1::53"


def secret():
    return "x" + "".join(random.choices(string.ascii_lowercase, k=20))


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_D1_data_in_a_name_that_is_not_allowed(pair, lab, tcp):
    closed, opened = pair(["allowed.test"], ["allowed.test", "*.wild.test"])
    since, name = lab.now(), f"{secret()}.wild.test"
    got = closed.dns(name, tcp=tcp, edns=1232)
    assert got["rcode"] == 3 and got["ede"] and got["ede"][0][0] in (15, 16, 17, 18), got
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    assert opened.dns(name, tcp=tcp)["rcode"] == 0
    assert lab.queries(since, name=name)


@pytest.mark.parametrize("server", ["8.8.8.8", "1.1.1.1"])
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_D2_straight_to_a_public_resolver(pair, lab, server, tcp):
    closed, opened = pair(["allowed.test"], [])
    since, name = lab.now(), f"{secret()}.wild.test"
    assert closed.dns(name, server=server, tcp=tcp)["rcode"] == 3
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    assert opened.dns(name, server=server, tcp=tcp)["rcode"] == 0
    assert {q["server"] for q in lab.queries(since, name=name)} == {server}


def test_D3_not_dns_at_all_on_port_53(pair, lab):
    closed, opened = pair(["allowed.test"], ["203.0.113.99"])
    since = lab.now()
    for payload in ("00", "deadbeef" * 8, "00" * 512):
        closed.dns("x", server="203.0.113.99", raw=payload, timeout=0.3)
    assert lab.flows(since, dst="203.0.113.99") == []
    assert [q for q in lab.queries(since) if q["raw"]] == []
    closed.denied("dns_invalid")
    # Lifted, the address is a resolver: queries travel to it, what is no query still does not.
    opened.dns("x", server="203.0.113.99", raw="deadbeef" * 8, timeout=0.3)
    assert lab.flows(since, dst="203.0.113.99") == []
    assert opened.dns("other.test", server="203.0.113.99")["rcode"] == 0
    assert {q["server"] for q in lab.queries(since, name="other.test")} == {"203.0.113.99"}


def test_D4_straight_to_the_resolver_that_the_host_uses(pair, lab):
    closed, opened = pair(["allowed.test"], [lab.resolver4])
    since, name = lab.now(), f"{secret()}.wild.test"
    assert closed.dns(name, server=lab.resolver4)["rcode"] == 3
    assert closed.tcp(lab.resolver4, 443) == "refused"
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    assert opened.dns(name, server=lab.resolver4)["rcode"] == 0
    assert lab.queries(since, name=name)
    assert opened.tcp(lab.resolver4, 443) == "allow"


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_D7_a_resolver_over_ipv6(pair, lab, tcp):
    closed, opened = pair(["allowed.test"], [f"[{RESOLVER6}]:53"])
    since, name = lab.now(), f"{secret()}.wild.test"
    assert closed.dns(name, "AAAA", server=RESOLVER6, tcp=tcp)["rcode"] == 3
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    assert opened.dns(name, "AAAA", server=RESOLVER6, tcp=tcp)["rcode"] == 0
    assert {q["server"] for q in lab.queries(since, name=name)} == {RESOLVER6}


def test_D8_a_denied_url_makes_nobody_resolve_it(pair, lab):
    closed, opened = pair(["allowed.test"], ["*.wild.test"])
    since, name = lab.now(), f"{secret()}.wild.test"
    r = closed.sh(f"curl -sk -m 50 https://{name}/; echo $?; getent ahosts {name}; echo $?; "
                  f"python3 -c 'import socket; socket.gethostbyname(\"{name}\")' 2>/dev/null; echo $?")
    assert r.stdout.split() == ["6", "2", "1"], r
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    assert opened.sh(f"curl -sk -m 50 -o /dev/null https://{name}/").code == 0
    assert lab.queries(since, name=name)


CARRY = """
import json, os, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("169.254.77.1", 53))
s.settimeout(float(sys.argv[2]))
codes, began = {}, time.monotonic()
for i in range(int(sys.argv[1])):
    data = f"x{i:04}" + os.urandom(29).hex()  # 63 octets, the most that a label holds
    m = os.urandom(2) + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0"
    m += b"".join(bytes([len(l)]) + l.encode() for l in (data, "wild", "test")) + b"\\0\\0\\1\\0\\1"
    s.send(m)
    try:
        code = str(s.recv(2000)[3] & 15)
    except TimeoutError:
        break  # beyond the refusals that are answered there is silence
    codes[code] = codes.get(code, 0) + 1
print(json.dumps([codes, time.monotonic() - began]))
"""


def test_D9_data_below_an_allowed_wildcard(make_box, other_daemon, lab):
    """What a wildcard allows carries data: as much as the rate of queries allows, and no more."""
    def carry(box, patience):
        since = lab.now()
        codes, seconds = json.loads(box.exec("python3", "-c", CARRY, "300", patience).stdout)
        told = {q["name"] for q in lab.queries(since) if (q["name"] or "").endswith(".wild.test")}
        return codes, seconds, len(told)

    qps = 10
    limited = other_daemon({"dns.qps": str(qps)}).api.create(egress=["*.wild.test"])
    codes, seconds, told = carry(limited, "3")
    assert codes["5"] and told == codes["0"] <= qps * (2 + seconds), (codes, seconds, told)
    limited.denied("dns_limit")
    codes, _, told = carry(make_box(egress=["*.wild.test"]), "60")  # the control: it is the rate
    assert codes == {"0": 300} and told == 300, (codes, told)


def test_D9_labels_and_names_that_are_too_long(make_box, lab):
    """A name as long as it may be is asked; one octet more, in a label or in all, and it is no name."""
    box, since = make_box(egress=["*.wild.test"]), lab.now()

    def ask(*labels):
        text = query(".".join((*labels, "wild", "test")))
        return box.dns("x", raw=text.hex(), timeout=2)

    full = "a" * 63
    most = (full, full, full, "b" * 51)  # 253 octets as text, 255 on the wire
    assert ask(*most)["rcode"] == 0 and len(lab.queries(since)[-1]["name"]) == 253
    for labels in (("c" * 64,), (full, full, full, "d" * 52), (full,) * 4):
        since = lab.now()
        got = ask(*labels)
        assert got.get("rcode") != 0 and not got.get("addresses"), got
        assert not [q for q in lab.queries(since) if labels[-1] in (q["name"] or "")]
    box.denied("dns_invalid")


@pytest.mark.parametrize("kind", ["TXT", "NULL", "ANY", "HTTPS", "SVCB", "CNAME", "65280"])
def test_D10_other_record_types(pair, lab, kind):
    closed, opened = pair(["text.test"], ["*.wild.test"])
    since, name = lab.now(), f"{secret()}.wild.test"
    closed.dns(name, kind)
    assert lab.queries(since, name=name) == []
    closed.denied("name", name=name)
    opened.dns(name, "A")
    assert lab.queries(since, name=name)


def test_D10_https_records_lose_keys_and_hints(make_box):
    box = make_box(egress=["https.test", "text.test"])
    got = box.dns("https.test", "HTTPS")
    assert got["rcode"] == 0
    for _, kind, _, value in got["answers"]:
        assert kind == "HTTPS"
        rdata = bytes.fromhex(value)
        at, keys = 3, []
        while at + 4 <= len(rdata):
            key, n = struct.unpack_from(">HH", rdata, at)
            keys.append(key)
            at += 4 + n
        assert 5 not in keys, "ECH would hide the name"
        assert 4 not in keys and 6 not in keys, "hints would be addresses nobody pinned"
    # The control: types of an allowed name are answered.
    assert "68656c6c6f" in box.dns("text.test", "TXT")["answers"][0][3]


def test_D10_aliases(make_box, lab):
    box = make_box(egress=["to-denied.test", "chain1.test", "loop1.test", "alias.test"])
    chain = box.dns("chain1.test")
    assert chain["addresses"] == ["203.0.113.70"] and box.tcp("203.0.113.70", 443) == "allow"
    # An allowed name may point where it likes; the target's own name gains nothing.
    assert box.dns("to-denied.test")["rcode"] == 0
    since = lab.now()
    assert box.dns("denied.test")["rcode"] == 3
    assert lab.queries(since, name="denied.test") == []
    box.denied("name", name="denied.test")
    assert box.dns("loop1.test")["rcode"] in (0, 2) and box.dns("loop1.test")["addresses"] == []
    assert box.dns("alias.test")["addresses"] == ["203.0.113.10"]  # the server is still there


REBIND = {
    "rebind-loopback.test": ("A", "127.0.0.1"), "rebind-private.test": ("A", "10.1.1.1"),
    "rebind-metadata.test": ("A", "169.254.169.254"), "rebind-cgnat.test": ("A", "100.64.0.1"),
    "rebind-zero.test": ("A", "0.0.0.0"), "rebind-overlay.test": ("A", "10.42.0.5"),
    "rebind-ecs.test": ("A", "169.254.170.2"), "rebind-loopback6.test": ("AAAA", "::1"),
    "rebind-mapped6.test": ("AAAA", "::ffff:10.1.1.1"), "rebind-ula6.test": ("AAAA", "fc00::1"),
    "rebind-link6.test": ("AAAA", "fe80::1"), "rebind-meta6.test": ("AAAA", "fd00:ec2::254"),
    "rebind-nat64.test": ("AAAA", "64:ff9b::a9fe:a9fe"),
}
OPENED = {"rebind-private.test": "10.1.1.0/24", "rebind-cgnat.test": "100.64.0.0/10",
          "rebind-ula6.test": "fc00::/7"}


@pytest.mark.parametrize("name", REBIND)
def test_D11_an_allowed_name_points_inside(make_box, name):
    kind, address = REBIND[name]
    box = make_box(egress=[name])
    got = box.dns(name, kind)
    assert got["addresses"] == [], got
    if name != "rebind-mapped6.test":  # not an address of that family at all: dropped unjudged
        box.denied("rebind", name=name)
    if address not in ("127.0.0.1", "::1", "0.0.0.0"):  # those are the sandbox itself
        assert box.tcp(address, 80) != "allow"
    if name in OPENED:  # lifted by a prefix rule
        box.set_egress([name, OPENED[name]])
        assert box.dns(name, kind)["addresses"] == [address]
        assert box.tcp(name, 80) == "allow"


def test_D11_first_good_then_ours(make_box):
    name = f"{secret()}.flip.test"
    box = make_box(egress=["*.flip.test"])
    assert box.dns(name)["addresses"] == ["203.0.113.81"]
    assert box.dns(name)["addresses"] == []
    box.denied("rebind", name=name)
    assert box.tcp("203.0.113.81", 80) == "allow"  # what was learned rightly still works


def test_D11_lifted_by_the_operator(other_daemon, lab):
    daemon = other_daemon({"floor.allow": "169.254.169.254/32"})
    box = daemon.api.create(egress=["rebind-metadata.test", "169.254.169.254"])
    assert box.dns("rebind-metadata.test")["addresses"] == ["169.254.169.254"]
    assert box.tcp("169.254.169.254", 80) == "allow"


def test_D12_lifetimes(make_box, family):
    """TTL 0 works at once; a live connection outlasts the TTL; so does the client's own cache for
    a while. What was never learned stays shut: that is the control."""
    box = make_box(egress=["zero.test", "short.test"])
    assert box.tcp("zero.test", 443, family=family) == "allow"
    if family == 6:
        return  # short.test has no AAAA
    script = ("import socket,time\n"
              "a=socket.gethostbyname('short.test')\n"
              "s=socket.create_connection((a,7),30); s.settimeout(30)\n"
              "for i in range(16):\n"
              "  s.sendall(b'x'); assert s.recv(1)==b'x'; time.sleep(0.25)\n"
              "print(a)\n")
    r = box.exec("python3", "-c", script)
    assert r.code == 0 and r.stdout.strip() == "203.0.113.60", r
    assert box.tcp("203.0.113.60", 443) == "allow"
    assert box.tcp("203.0.113.61", 7777) != "timeout"
    assert box.tcp("203.0.113.62", 443) == "refused"
    box.denied("default", address="203.0.113.62")


def test_D13_a_name_with_ever_new_addresses(other_daemon, lab):
    cap = 160  # an answer may hold 64; the least that is kept is two of those
    daemon = other_daemon({"dns.pins_per_sandbox": str(cap)})
    box = daemon.api.create(egress=["rotate.test", "many.test"])
    learned = []
    for _ in range(40):  # eight each, never the same: their TTL is 0
        learned += [a for a in box.dns("rotate.test")["addresses"] if a not in learned]
    assert len(learned) == 320, learned
    results = box.probe(*[{"tcp": a, "port": 80} for a in learned])
    allowed = [a for a, r in zip(learned, results) if r["verdict"] == "allow"]
    assert len(allowed) <= cap, len(allowed)
    assert set(learned[-8:]) <= set(allowed), "the newest answer must work"
    refused = next(a for a in learned if a not in allowed)
    box.denied("default", address=refused)
    # The control: a name with a steady set keeps all of it, asked however often.
    calm = daemon.api.create(egress=["many.test"])
    for _ in range(5):
        addresses = calm.dns("many.test", edns=4096)["addresses"]
    assert len(addresses) == 60
    results = calm.probe(*[{"tcp": a, "port": 80} for a in addresses])
    assert all(r["verdict"] == "allow" for r in results)


def test_D14_truncation_case_dots_and_search(make_box):
    box = make_box(egress=["allowed.test", "huge.test", "many.test"])
    small = box.dns("huge.test", "TXT")
    assert small["tc"] and not small["answers"]
    whole = box.dns("huge.test", "TXT", tcp=True)
    assert len(whole["answers"]) == 24
    wide = box.dns("many.test", edns=4096)
    assert not wide["tc"] and len(wide["addresses"]) == 60
    mixed = box.dns("aLLoWeD.TeSt")
    assert mixed["answers"][0][0] == "aLLoWeD.TeSt" and mixed["addresses"] == ["203.0.113.10"]
    assert box.tcp("203.0.113.10", 443) == "allow"
    assert box.resolve("allowed.test.")["verdict"] == "allow"
    # Search lists go on after NXDOMAIN; REFUSED would stop them.
    box.sh("cp /etc/resolv.conf /root/r; { cat /root/r; echo 'search nowhere.test'; "
           "echo 'options ndots:5'; } >/etc/resolv.conf")
    assert box.resolve("allowed.test")["verdict"] == "allow"
    assert box.dns("allowed.test.nowhere.test")["rcode"] == 3
    box.denied("name", name="allowed.test.nowhere.test")


def query(name, ident=77):
    out = struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0)
    for part in name.split("."):
        out += bytes([len(part)]) + part.encode()
    return out + b"\0" + struct.pack(">HH", 1, 1)


def test_D16_a_query_in_anothers_name(make_box, lab):
    attacker, victim = make_box(egress=["allowed.test"]), make_box(egress=["allowed.test"])
    since = lab.now()
    frame = raw.eth(raw.ipv4(victim.ip, "8.8.8.8", 17,
                             raw.udp(victim.ip, "8.8.8.8", 4000, 53, query("allowed.test"))))
    raw.send(attacker, *[frame] * 3)
    attacker.denied("spoof")
    assert lab.queries(since, name="allowed.test") == []
    assert victim.tcp("203.0.113.10", 443) == "refused", "pinned for the victim"
    # The control: the same frame with its own source is a query like any other.
    own = raw.eth(raw.ipv4(attacker.ip, "8.8.8.8", 17,
                           raw.udp(attacker.ip, "8.8.8.8", 4000, 53, query("allowed.test"))))
    raw.send(attacker, own)
    end = time.monotonic() + 60
    while attacker.tcp("203.0.113.10", 443) != "allow":
        assert time.monotonic() < end
    assert victim.tcp("203.0.113.10", 443) == "refused"


def test_D16_a_forged_answer(make_box, about, lab):
    """Answers thrown at the proxy's own sockets, by a sandbox, from every likely source."""
    box, liar = make_box(egress=["allowed.test"]), make_box(egress=["allowed.test"])
    network, _, length = about["settings"]["net.range4"].partition("/")
    last = struct.unpack(">I", socket.inet_aton(network))[0] + 2 ** (32 - int(length)) - 1
    uplinks = [socket.inet_ntoa(struct.pack(">I", last - i)) for i in (1, 2)]
    forged = struct.pack(">6H", 77, 0x8180, 1, 1, 0, 0) + query("allowed.test")[12:] + \
        struct.pack(">HHHIH4s", 0xC00C, 1, 1, 3600, 4, socket.inet_aton("203.0.113.66"))

    def throw(box, src):
        """At each place where the proxy's sockets may be, and many of the ports they may have."""
        raw.send(box, *[raw.eth(raw.ipv4(src, dst, 17, raw.udp(src, dst, 53, port, forged)))
                        for dst in uplinks + ["169.254.77.1"] for port in range(32768, 33768, 50)])

    # Events are rate-bounded per sandbox: each kind comes from one of its own.
    throw(box, box.ip)
    end = time.monotonic() + 60
    while not any(d["reason"] in ("floor", "gateway") for d in box.denials()):
        assert time.monotonic() < end, box.denials()
    throw(liar, lab.resolver4)
    liar.denied("spoof")
    for each in (box, liar):
        assert each.dns("allowed.test")["addresses"] == ["203.0.113.10"]
        assert each.tcp("203.0.113.66", 443) == "refused"
