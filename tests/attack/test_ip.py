"""Packets: the ways around a rule."""

import json
import socket
import subprocess
import threading
import time

import pytest
from kit import raw
from kit.lab import wait_flow

ALLOWED = {4: "203.0.113.10", 6: "2001:db8:1::10"}
DENIED = {4: "203.0.113.20", 6: "2001:db8:1::20"}


def own(box, family):
    if family == 4:
        return box.ip
    return box.sh("ip -6 -o addr show dev eth0 scope global | "
                  "sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'").stdout.strip()


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.02)
    return value


def test_N1_the_literal_address_of_an_allowed_host(make_box, family):
    box = make_box(egress=["allowed.test"])
    assert box.tcp(ALLOWED[family], 443) == "refused"
    box.denied("default", address=ALLOWED[family])
    assert box.resolve("allowed.test", family=family)["verdict"] == "allow"
    assert box.tcp(ALLOWED[family], 443) == "allow"


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3",
                                  "0x7f.1"])
def test_N2_numbers_in_disguise(api, make_box, lab, host):
    r = api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "egress": [host]})
    assert r.status == 400 and host in r.says, r.body
    box = make_box(egress=[])
    since = lab.now()
    got = box.dns(host)
    assert got["rcode"] != 0 and not got["addresses"]
    assert lab.queries(since, name=host) == []
    box.denied("dns_invalid")
    control = f"n2-{abs(hash(host))}.wild.test"  # a name nobody asked for before: not in a cache
    assert box.dns(control)["rcode"] == 0 and lab.queries(since, name=control)


def test_N3_ipv6_and_its_disguises(pair):
    closed, opened = pair(["allowed.test"], [])
    assert closed.tcp(DENIED[6], 443) == "refused"
    closed.denied("default", address=DENIED[6])
    assert closed.tcp("::ffff:203.0.113.20", 443) == "refused"
    closed.denied("default", address=DENIED[4])
    for address in ("2002:cb00:7114::1", "2001:0:cb00:7114::1", "64:ff9b::cb00:7114"):
        assert closed.tcp(address, 443) == "refused"
        closed.denied("floor", address=address)
        assert opened.tcp(address, 443) == "refused", "an embedded address escapes IPv4 rules"
    for address in ("fe80::77:1%eth0", "ff02::1%eth0", "fe80::1234%eth0"):
        assert closed.probe({"udp": address, "port": 9999, "timeout": 0.5})["verdict"] != "allow"
    assert opened.tcp(DENIED[6], 443) == "allow"
    assert opened.tcp("::ffff:203.0.113.20", 443) == "allow"


PROTOCOLS = {"GRE": 47, "IPIP": 4, "6in4": 41, "SCTP": 132, "ESP": 50, "raw": 253}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_N4_protocols_without_ports(make_box, lab, name, family):
    box, number = make_box(egress=[]), PROTOCOLS[name]
    since = lab.now()
    source = own(box, family)
    raw.send(box, raw.eth(raw.ip(source, DENIED[family], number, b"tunnel" * 4)))
    box.denied("protocol")
    assert lab.flows(since, dst=DENIED[family]) == []


def test_N4_the_operator_may_let_them_pass_and_a_restart_changes_nothing(other_daemon, lab):
    daemon = other_daemon({"egress.other_protocols": "allow"})
    opened, closed = daemon.api.create(egress=[]), daemon.api.create(egress=["203.0.113.0/24"])
    for target in ("203.0.113.20", "203.0.113.21"):
        since = lab.now()
        for box in (opened, closed):
            raw.send(box, raw.eth(raw.ipv4(box.ip, target, 47, b"\0\0\x08\0" + b"tunnel" * 4)))
        wait_flow(lab, since, proto=47, dst=target)
        closed.denied("protocol", address=target)
        if target.endswith("20"):
            daemon.kill9()
            daemon.start()
            for box in (opened, closed):
                box.api.__init__(daemon.url, daemon.key)
                box.wait("running")


def test_N4_data_in_echo_requests(pair, lab):
    closed, opened = pair(["allowed.test"], ["203.0.113.20"])
    since = lab.now()
    closed.sh("ping -n -c3 -i0.2 -W1 -s 1000 -p feedface 203.0.113.20")
    assert lab.flows(since, dst="203.0.113.20") == []
    closed.denied("default", address="203.0.113.20")
    assert opened.sh("ping -n -c1 -W30 -s 1000 203.0.113.20").code == 0


def test_N5_fragments_that_hide_their_ports(make_box, lab):
    box = make_box(egress=["203.0.113.20:9999", "allowed.test:443"])
    since = lab.now()
    whole = raw.udp(box.ip, DENIED[4], 5000, 9999, b"f" * 64)
    tiny = raw.ipv4(box.ip, DENIED[4], 17, whole[:8], ident=9, flags=1)
    rest = raw.ipv4(box.ip, DENIED[4], 17, whole[8:], ident=9, offset=1)
    overlap = raw.ipv4(box.ip, DENIED[4], 17, b"\x13\x88\x00\x50" + b"o" * 28, ident=9, offset=0,
                       flags=1)
    raw.send(box, *map(raw.eth, (tiny, overlap, rest)))
    box.denied("fragment")
    assert lab.flows(since, dst=DENIED[4]) == []
    six = own(box, 6)
    u6 = raw.udp(six, DENIED[6], 5000, 9999, b"f" * 64)
    fragment = bytes((17, 0, 0, 1, 0, 0, 0, 9)) + u6[:16]
    hops = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((17, 0, 1, 4, 0, 0, 0, 0)) + u6
    raw.send(box, raw.eth(raw.ipv6(six, DENIED[6], 44, fragment)),
             raw.eth(raw.ipv6(six, DENIED[6], 0, hops)))
    assert lab.flows(since, dst=DENIED[6]) == []
    until(lambda: [d for d in box.denials() if d.get("address") == DENIED[6]], box.denials)
    # The controls: the unfragmented datagram may go; and under default allow fragments pass.
    assert box.udp(DENIED[4]) == "allow"
    opened = make_box(egress=[])
    whole = raw.udp(opened.ip, DENIED[4], 5000, 9999, b"f" * 64)
    raw.send(opened, raw.eth(raw.ipv4(opened.ip, DENIED[4], 17, whole[:16], ident=9, flags=1)),
             raw.eth(raw.ipv4(opened.ip, DENIED[4], 17, whole[16:], ident=9, offset=2)))
    wait_flow(lab, since, dst=DENIED[4], proto=17, sport=5000)


def test_N6_a_pinned_address_on_another_port(make_box, family):
    box = make_box(egress=["allowed.test:443"])
    assert box.tcp("allowed.test", 443, family=family) == "allow"
    for port in (80, 8443, 22, 1):
        assert box.tcp(ALLOWED[family], port) == "refused"
        box.denied("default", address=ALLOWED[family], port=port)
    box.set_egress(["allowed.test:443", "allowed.test:80"])
    assert box.tcp(ALLOWED[family], 80) == "allow", "still pinned, and now the rule has the port"


FLOWS = {
    "udp": "s=socket.socket({f},socket.SOCK_DGRAM); s.connect((a,9999)); s.settimeout(5)\n"
           "def beat(): s.send(b'b'); s.recv(9)\n",
    "icmp": "s=socket.socket({f},socket.SOCK_DGRAM,socket.IPPROTO_ICMP{v6}); s.connect((a,0))\n"
            "s.settimeout(5)\n"
            "def beat(): s.send(bytes(({kind},0,0,0,0,0,0,1))+b'x'*8); s.recv(999)\n",
}


@pytest.mark.parametrize("kind", FLOWS)
def test_N8_established_flows_are_cut(make_box, lab, kind, family):
    """TCP is test_decisions.py's row 12. Bound: nothing passes after the new list was answered."""
    box = make_box(egress=[ALLOWED[family], DENIED[family]])
    v6 = family == 6
    body = FLOWS[kind].format(f="socket.AF_INET6" if v6 else "socket.AF_INET",
                              v6="V6" if v6 else "", kind=128 if v6 else 8)
    script = ("import socket,time,sys\n"
              f"a='{DENIED[family]}'\n" + body +
              "while True:\n"
              "  try: beat(); print('ok',flush=True)\n"
              "  except OSError: print('no',flush=True); s.settimeout(0.2)\n"
              "  time.sleep(0.01)\n")
    box.put("/root/flow.py", script.encode())
    box.sh("setsid python3 /root/flow.py >/root/flow 2>&1 </dev/null &")
    until(lambda: "ok" in box.sh("tail -1 /root/flow").stdout, lambda: box.sh("tail -3 /root/flow"))
    box.set_egress([ALLOWED[family]])
    passed = box.passed()
    box.denied("cut", address=DENIED[family])
    until(lambda: box.sh("tail -10 /root/flow").stdout == "no\n" * 10, lambda: box.sh("tail -10 /root/flow"))
    assert box.passed() == passed, "it went on after the list was replaced"
    box.set_egress([ALLOWED[family], DENIED[family]])  # the control: allowed again, it goes on
    until(lambda: "ok" in box.sh("tail -1 /root/flow").stdout, lambda: box.sh("tail -3 /root/flow"))
    assert box.passed() > passed


def test_N8_the_far_end_is_told(make_box, lab):
    box = make_box(egress=["203.0.113.20"])
    script = ("import socket,time\ns=socket.create_connection(('203.0.113.20',7),30)\n"
              "print('up',flush=True)\n"
              "while True:\n  s.sendall(b'x'); s.recv(1); time.sleep(0.02)\n")
    frames = box.api.stream(box.id, "python3", "-c", script)
    assert next(frames).get("stdout") == "up\n"

    def connections():
        out = subprocess.run(["nsenter", f"--net=/proc/{lab.about['internet_pid']}/ns/net", "ss",
                              "-Htn", "state", "established", "src", "203.0.113.20:7"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        return len(out.splitlines())

    until(lambda: connections() == 1, connections)
    box.set_egress(["203.0.113.21"])
    until(lambda: not connections(), "no RST reached the server")
    frames.close()


def test_N10_policies_swapped_under_load(make_box, lab):
    """Every policy allows the one address and never the other, by ever different rules: no packet of
    the first may be refused, none of the second may pass, whatever moment it meets."""
    padding = ["198.51.0.0:7", *[f"198.51.{i // 100}.{i % 100}:{1000 + i}" for i in range(1, 254)]]
    lists = [["203.0.113.10"], ["203.0.113.10:7"] + padding[:1], padding + ["203.0.113.0/28:7"],
             padding[:128] + ["203.0.113.8/29"], ["203.0.113.10:7", "203.0.113.10:9999"]]
    box = make_box(egress=lists[0])
    script = ("import socket,time,json\n"
              "good=bad=refused=0\n"
              "g=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); g.connect(('203.0.113.10',7)); g.settimeout(30)\n"
              "b=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); b.connect(('203.0.113.20',7)); b.setblocking(False)\n"
              "import os\n"
              "while not os.path.exists('/root/stop'):\n"
              "  try:\n"
              "    g.send(b'x'); g.recv(9); good+=1\n"
              "    if good==101: open('/root/enough','w')\n"
              "  except OSError: refused+=1\n"
              "  try: b.send(b'y')\n"
              "  except OSError: pass\n"
              "  try: b.recv(9); bad+=1\n"
              "  except OSError: pass\n"
              "print(json.dumps([good,refused,bad]))\n")
    box.put("/root/load.py", script.encode())
    box.sh("setsid python3 /root/load.py >/root/result 2>&1 </dev/null &")
    since = lab.now()
    turns = iter(range(1 << 30))

    def swapped():
        for _ in range(20):
            box.set_egress(lists[next(turns) % len(lists)])
        return box.sh("test -e /root/enough").code == 0 and next(turns) > 60

    until(swapped, lambda: box.sh("cat /root/result"), 180)
    # Several at once: the last one to be answered need not be the last one in force, but what GET
    # says is in force.
    threads = [threading.Thread(target=box.set_egress, args=(lists[i % len(lists)],))
               for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    box.sh("touch /root/stop")
    out = until(lambda: box.sh("cat /root/result").stdout.strip(), "it did not stop")
    good, refused, bad = json.loads(out)
    assert good > 100 and refused == 0 and bad == 0, (good, refused, bad)
    assert lab.flows(since, dst="203.0.113.20") == []
    box.denied("default", address="203.0.113.20")
    final = box.api.ok("GET", f"{box.path}/egress")["egress"]
    assert final in lists
    assert box.tcp("198.51.0.0", 7) == ("allow" if padding[0] in final else "refused"), final[:3]


@pytest.mark.parametrize("count", [0, 1, 256])
def test_N10_sizes(make_box, count):
    box = make_box(egress=["203.0.113.20"])
    rules = [f"203.0.{i // 250}.{i % 250}:443" for i in range(count)]
    box.set_egress(rules)
    assert box.tcp("203.0.0.0" if count else "203.0.113.20", 443) == "allow"
    if count:
        assert box.tcp(f"203.0.{(count - 1) // 250}.{(count - 1) % 250}", 443) == "allow"
        assert box.tcp("203.0.113.20", 443) == "refused"


def test_N10_edges(make_box):
    box = make_box(egress=["allowed.test"])
    for rules in (["1.1.1.1"] * 257, ["255.255.255.255"], ["0.0.0.0"], ["::"], [""], ["*", 5],
                  "text", {"a": 1}):
        r = box.api.request("PUT", f"{box.path}/egress", {"egress": rules})
        assert r.status == 400 and "egress" in r.says, (rules, r.body)
    assert box.api.ok("GET", f"{box.path}/egress")["egress"] == ["allowed.test"]


def floor_rules(lab, about, api):
    return ["169.254.169.254", "169.254.0.0/16", "127.0.0.1:80", "127.0.0.0/8", lab.host4,
            "10.42.0.1", "10.42.3.0/24", "224.0.0.1", "0.0.0.0/8",
            about["settings"]["net.range4"], "fe80::1", "::1", "ff02::1", "fd00:ec2::254",
            f"[{lab.host6}]:22"]


def test_N11_rules_inside_the_floor_are_refused(api, about, lab, make_box):
    for rule in floor_rules(lab, about, api):
        r = api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "egress": [rule]})
        assert r.status == 400 and rule in r.says and "cannot be opened" in r.says, (rule, r.body)
    box = make_box(egress=["0.0.0.0/0", "::/0", "10.0.0.0/8"])  # these overlap: the floor wins
    for target, reason in (("169.254.169.254", "floor"), (lab.host4, "floor"), ("10.42.0.5", "overlay")):
        assert box.tcp(target, 80) == "refused"
        box.denied(reason, address=target)
    assert box.tcp("203.0.113.77", 80) == "allow" and box.tcp("10.9.9.9", 80) == "allow"


def test_N11_lifted_by_the_operator(other_daemon, lab):
    daemon = other_daemon({"floor.allow": "169.254.169.254/32", "floor.deny": "203.0.113.0/24"})
    box = daemon.api.create(egress=["169.254.169.254"])
    assert box.tcp("169.254.169.254", 80) == "allow"
    r = daemon.api.request("PUT", f"{box.path}/egress", {"egress": ["203.0.113.10"]})
    assert r.status == 400 and "cannot be opened" in r.says
    box.set_egress([])
    assert box.tcp("203.0.113.10", 80) == "refused"
    box.denied("floor", address="203.0.113.10")


def test_N12_addresses_that_are_not_its_own(make_box, lab, family):
    box, other = make_box(egress=[]), make_box(egress=[])
    mine, theirs, target = own(box, family), own(other, family), DENIED[family]
    since = lab.now()

    def syn(source, **mac):
        return raw.eth(raw.ip(source, target, 6, raw.tcp(source, target, 4444, 80)), **mac)

    outside = "198.51.100.7" if family == 4 else "2001:db8:9::7"
    raw.send(box, syn(theirs), syn(outside), syn(mine, src=b"\x02\x99\x99\x99\x99\x99"),
             syn("169.254.77.2" if family == 4 else "fe80::77:2"))
    box.denied("spoof")
    assert lab.flows(since, dst=target) == []
    raw.send(box, syn(mine))
    wait_flow(lab, since, dst=target, sport=4444)


def test_N12_arp_neighbour_and_dhcp_tricks(make_box, lab):
    box, victim = make_box(egress=[]), make_box(egress=[])
    six = own(box, 6)
    evil = raw.SANDBOX_MAC
    broadcast = b"\xff" * 6
    frames = [
        raw.eth(raw.arp(2, evil, "169.254.77.1", broadcast, "169.254.77.1"), 0x0806, dst=broadcast),
        raw.eth(raw.arp(1, evil, victim.ip, b"\0" * 6, victim.ip), 0x0806, dst=broadcast),
        raw.eth(raw.arp(1, evil, box.ip, b"\0" * 6, victim.ip), 0x0806, dst=broadcast),
        # A router advertisement, and a neighbour advertisement for the gateway.
        raw.eth(raw.ipv6("fe80::77:2", "ff02::1", 58, raw.icmp6(
            "fe80::77:2", "ff02::1", 134, bytes.fromhex("4000070800000000") + b"\0" * 4), 255),
            dst=b"\x33\x33\0\0\0\1"),
        raw.eth(raw.ipv6("fe80::77:1", "ff02::1", 58, raw.icmp6(
            "fe80::77:1", "ff02::1", 136, b"\x20\0\0\0" + raw.addr("fe80::77:1") + b"\2\1" + evil),
            255)),
        # DHCP, as server and as client.
        raw.eth(raw.ipv4(box.ip, "255.255.255.255", 17, raw.udp(box.ip, "255.255.255.255", 67, 68,
                                                                b"\2" + b"\0" * 240)), dst=broadcast),
        raw.eth(raw.ipv4("0.0.0.0", "255.255.255.255", 17,
                         raw.udp("0.0.0.0", "255.255.255.255", 68, 67, b"\1" + b"\0" * 240)),
                dst=broadcast),
    ]
    with raw.Listen(victim) as heard:
        since = lab.now()
        raw.send(box, *frames * 3)
        box.denied("spoof")
        assert not [f for f in heard.frames() if f[6:12] != raw.GATEWAY_MAC]
    assert not [f for f in lab.flows(since) if f["dst"].startswith("255.") or f["dport"] in (67, 68)]
    # Both go on working: nobody's view of the gateway changed.
    assert box.tcp(DENIED[4], 80) == "allow" and victim.tcp(DENIED[4], 80) == "allow"
    assert victim.tcp(DENIED[6], 80) == "allow" and six


def test_N13_neighbours_broadcast_multicast(make_box, lab, about, family):
    box, victim = make_box(egress=["0.0.0.0/0", "::/0"]), make_box(egress=[])
    victim.sh("setsid python3 -m http.server --bind :: 7070 >/root/seen 2>&1 </dev/null &")
    victim.sh("timeout 55 bash -c 'until : </dev/tcp/127.0.0.1/7070; do sleep 0.05; done' 2>/dev/null")
    mine, theirs = own(box, family), own(victim, family)
    with raw.Listen(victim) as heard:
        assert box.tcp(theirs, 7070) == "refused"
        assert box.udp(theirs, 7070) == "refused"
        box.sh(f"ping -c1 -W1 {theirs}")
        box.denied("floor", address=theirs)
        for target in (["255.255.255.255", "224.0.0.251", "239.1.2.3"] if family == 4 else
                       ["ff02::1", "ff02::fb", "ff05::2"]):
            raw.send(box, raw.eth(raw.ip(mine, target, 17, raw.udp(mine, target, 5353, 5353))))
            box.denied("floor", address=target)
        assert not [f for f in heard.frames() if mine in str(f) or raw.addr(mine) in f]
    # The controls: the victim's server is there, and a third address is reached.
    assert "Directory listing" in victim.sh(f"curl -s http://127.0.0.1:7070/").stdout
    assert box.tcp(DENIED[family], 80) == "allow"


class HostService(threading.Thread):
    """Listens on every address of the host and remembers who came."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port, self.came = self.socket.getsockname()[1], []
        self.start()

    def run(self):
        while True:
            try:
                c, peer = self.socket.accept()
            except OSError:
                return
            self.came.append(peer[0])
            c.sendall(b"host service\n")
            c.close()


def host_addresses(lab):
    found = subprocess.run(["ip", "-j", "addr"], stdout=subprocess.PIPE, text=True, check=True).stdout
    addresses = [a["local"] for link in json.loads(found) for a in link["addr_info"]
                 if a["scope"] == "global"]
    assert lab.host4 in addresses and lab.host6 in addresses and lab.lan4 in addresses
    return addresses


def test_N14_the_host_by_every_address(make_box, lab):
    service = HostService()
    box = make_box(egress=["0.0.0.0/0", "::/0"])
    targets = host_addresses(lab) + ["169.254.77.1", "fe80::77:1%eth0"]
    results = box.probe(*[{"tcp": t, "port": service.port, "timeout": 2} for t in targets])
    assert {r["verdict"] for r in results} <= {"refused", "timeout"}, list(zip(targets, results))
    for target in host_addresses(lab):
        box.denied("floor", address=target)
    until(lambda: any(d["reason"] in ("gateway", "floor") and d.get("address") == "169.254.77.1"
                      for d in box.denials()), box.denials)
    assert service.came == []
    # The ports of the daemon's own listeners too, and well-known ones.
    ports = [int(box.api.host.rpartition(":")[2]), 22, 111, 2375, 6443, 10250]
    results = box.probe(*[{"tcp": lab.host4, "port": p, "timeout": 2} for p in ports])
    assert {r["verdict"] for r in results} <= {"refused", "timeout"}
    # The control: from the host itself it answers.
    for target in (lab.host4, lab.lan4):
        with socket.create_connection((target, service.port), 30) as s:
            assert s.recv(99) == b"host service\n"
    service.socket.close()


def test_N14_lifted_by_the_operator(other_daemon, lab):
    service = HostService()
    daemon = other_daemon({"floor.allow": f"{lab.host4}/32"})
    box = daemon.api.create(egress=[f"{lab.host4}"])
    got = box.probe({"tcp": lab.host4, "port": service.port})
    assert got["verdict"] == "allow" and service.came, got
    service.socket.close()


METADATA = ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"]


@pytest.mark.parametrize("address", METADATA)
def test_N15_metadata_by_address(make_box, lab, address):
    box = make_box(egress=[])
    since = lab.now()
    assert box.tcp(address, 80) == "refused"
    box.denied("floor", address=address)
    host = f"[{address}]" if ":" in address else address
    r = box.sh(f"curl -sL -m 50 'http://allowed.test/redirect?http://{host}/latest/meta-data/'")
    assert r.code == 7, r
    assert lab.flows(since, dst=address) == []
    # The control: the redirect itself works, and the lab does answer at that address.
    assert box.sh("curl -sL -m 50 'http://allowed.test/redirect?http://other.test/x' | grep -q /x").code == 0


def test_N15_metadata_by_name(make_box, other_daemon):
    box = make_box(egress=[])
    got = box.dns("metadata.google.internal")
    assert got["addresses"] == []
    box.denied("rebind", name="metadata.google.internal")
    assert box.sh("curl -s -m 50 http://metadata.google.internal/").code == 6
    daemon = other_daemon({"floor.allow": "169.254.169.254/32"})
    opened = daemon.api.create(egress=[])
    assert opened.tcp("metadata.google.internal", 80) == "allow"


def test_N16_mail(make_box, lab, family):
    box = make_box(egress=[])
    assert box.tcp(DENIED[family], 25) == "refused"
    box.denied("smtp", address=DENIED[family], port=25)
    assert box.tcp(DENIED[family], 22) == "allow"
    rule = "203.0.113.20:25" if family == 4 else "[2001:db8:1::20]:25"
    box.set_egress([rule])
    assert box.tcp(DENIED[family], 25) == "allow"
    box.set_egress(["203.0.113.0/24", "2001:db8:1::/48"])  # allowed, but not by name of the port
    assert box.tcp(DENIED[family], 25) == "refused"


def test_N16_lifted_by_the_operator(other_daemon, lab):
    daemon = other_daemon({"egress.smtp": "allow"})
    assert daemon.api.create(egress=[]).tcp("mail.test", 25) == "allow"
