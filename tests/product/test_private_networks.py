"""Private networks as their users see them: who reaches whom, by which name, since and until when."""

import pytest

from kit.api import Refused, listening
from kit.nets import Nets, serve


@pytest.fixture
def nets(api):
    n = Nets(api)
    yield n


@pytest.fixture
def world(nets, make_box):
    """make_box first: sandboxes go before the networks do."""
    yield nets, make_box


@pytest.fixture(autouse=True)
def tidy(nets):
    yield
    for net in nets.made:
        for m in net.get()["members"] if net.api.request("GET", f"/v1/networks/{net.id}").status == 200 else []:
            net.api.request("DELETE", f"/v1/sandboxes/{m['sandbox_id']}")
    nets.close()


def test_members_reach_each_other_from_the_beginning(world):
    """Both directions, every port, at the address and by every name, whatever the egress rules say."""
    nets, make_box = world
    net = nets.new()
    a = make_box(networks=[{"id": net.id}], egress=["1.2.3.4"])
    b = make_box(networks=[{"id": net.name}], egress=["1.2.3.4"])
    ips = {m["sandbox_id"]: m["ip"] for m in net.get()["members"]}
    assert set(ips) == {a.id, b.id} and ips[a.id] != a.ip and ips[a.id] != ips[b.id]
    assert net.get()["member_count"] == 2
    for box in (a, b):
        serve(box, 80, 8080)
    for here, there in ((a, b), (b, a)):
        assert here.tcp(ips[there.id], 80) == "allow"
        for name in (there.name, f"{there.name}.{net.name}", f"{there.name}.fc.local",
                     f"{there.name}.{net.name}.fc.local", f"{there.id}.fc.local"):
            got = here.probe({"tcp": name, "port": 8080})
            assert got["verdict"] == "allow" and got["address"] == ips[there.id], (name, got)
        assert here.probe({"ping": ips[there.id]})["verdict"] == "allow"
        reverse = ".".join(reversed(ips[there.id].split("."))) + ".in-addr.arpa"
        assert here.sh(f"python3 -c 'import socket; print(socket.gethostbyaddr(\"{ips[there.id]}\")[0])'"
                       ).stdout.strip() == f"{there.name}.fc.local", reverse
    # The peer sees the overlay address; and none of it is egress.
    assert ips[a.id] in b.sh("cat /root/seen.80").stdout
    counters = a.api.ok("GET", f"{a.path}/counters")
    assert counters["out_bytes"] == 0 and counters["in_bytes"] == 0
    assert counters["overlay_out_bytes"] > 0 and counters["overlay_in_bytes"] > 0


def test_large_and_fragmented_traffic(world):
    nets, make_box = world
    net = nets.new()
    a, b = (make_box(networks=[{"id": net.id}]) for _ in range(2))
    b.sh("head -c 8388608 /dev/zero >/root/big")
    assert b.sh("cd /root && (setsid python3 -m http.server --bind 0.0.0.0 80 >/dev/null 2>&1 </dev/null &); "
                + listening(80)).code == 0
    assert a.sh(f"curl -sf http://{b.name}/big | wc -c").stdout == "8388608\n"
    b.sh("setsid python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
         "s.bind((\"0.0.0.0\", 9999)); [s.sendto(*s.recvfrom(65535)) for _ in iter(int, 1)]' "
         ">/dev/null 2>&1 </dev/null &")
    b.sh("timeout 55 bash -c 'until grep -q :270F /proc/net/udp; do sleep 0.2; done'")
    assert a.probe({"udp": net.ip(b), "port": 9999, "size": 5000})["verdict"] == "allow"


def test_joining_and_leaving_while_running(world):
    nets, make_box = world
    net = nets.new()
    a, b = make_box(egress=["1.2.3.4"]), serve(make_box(egress=["1.2.3.4"]), 80)
    net.attach(a)
    assert net.ip(b) is None and a.resolve(b.name)["verdict"] == "notfound"
    net.attach(b)
    net.attach(b)  # no error
    ip = net.ip(b)
    assert a.tcp(ip, 80) == "allow" and a.tcp(b.name, 80) == "allow"
    # A connection that is open ends with the membership: the next byte finds nobody.
    assert a.sh(f"exec 3<>/dev/tcp/{ip}/80; echo $$ >/root/pid; mkfifo /root/go; (read x </root/go; "
                "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; timeout 3 cat <&3 >/root/got) "
                ">/dev/null 2>&1 </dev/null &").code == 0
    a.sh("timeout 55 bash -c 'until [ -p /root/go ]; do sleep 0.2; done'")
    net.detach(b)
    assert a.sh("echo >/root/go; sleep 3.5; cat /root/got").stdout == ""
    assert a.tcp(ip, 80) == "refused" and a.denied("overlay", address=ip)
    assert a.resolve(b.name)["verdict"] == "notfound"
    assert b.tcp(net.ip(a), 80) == "refused"
    with pytest.raises(Refused):
        net.detach(b)
    net.attach(b)  # and the control: back again, at the same address
    assert net.ip(b) == ip and a.tcp(ip, 80) == "allow"


def test_several_networks_and_their_names(world):
    nets, make_box = world
    left, right = nets.new(), nets.new()
    hub = make_box(networks=[{"id": left.id}, {"id": right.id}, {"id": left.name}])
    a, b = make_box(networks=[{"id": left.id}]), make_box(networks=[{"id": right.id}])
    for box in (hub, a, b):
        serve(box, 80)
    assert hub.tcp(a.name, 80) == hub.tcp(b.name, 80) == "allow"
    assert a.tcp(f"{hub.name}.{left.name}", 80) == b.tcp(f"{hub.name}.{right.name}", 80) == "allow"
    assert a.resolve(f"{hub.name}.{right.name}.fc.local")["verdict"] == "notfound"
    assert a.resolve(f"{b.name}.fc.local")["verdict"] == "notfound"
    assert a.tcp(right.ip(b), 80) == "refused"


def test_pause_and_resume_keep_the_address(world):
    nets, make_box = world
    net = nets.new()
    a, b = (make_box(networks=[{"id": net.id}]) for _ in range(2))
    serve(b, 80)
    ip = net.ip(b)
    b.pause()
    assert net.ip(b) == ip and net.get()["member_count"] == 2
    assert net.api.request("DELETE", f"/v1/networks/{net.id}").status == 409
    b.resume()
    assert net.ip(b) == ip and a.tcp(b.name, 80) == "allow"
    b.pause()
    net.detach(b)
    assert b.api.request("POST", f"{b.path}/networks", {"id": net.id}).status == 409
    b.resume()
    assert a.tcp(ip, 80) == "refused"


def test_dns_of_a_network(world):
    nets, make_box = world
    net = nets.new()
    a, b = make_box(networks=[{"id": net.id}], egress=["1.2.3.4"]), make_box(networks=[{"id": net.id}])
    six = a.dns(b.name, "AAAA")
    assert six["rcode"] == 0 and not six["answers"]
    assert a.dns("nobody.fc.local")["rcode"] == 3
    stranger = make_box()
    assert stranger.dns(f"{b.name}.fc.local")["rcode"] == 3


def test_ordinary_traffic_keeps_its_address(world):
    """The overlay address is for the overlay alone."""
    nets, make_box = world
    net = nets.new()
    a = make_box(networks=[{"id": net.id}])
    source = a.sh("python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                  "s.connect((\"192.0.2.1\", 9)); print(s.getsockname()[0])'").stdout.strip()
    assert source == a.ip
