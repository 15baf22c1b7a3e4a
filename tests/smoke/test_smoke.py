"""The core in a few tests, with nothing inside the sandbox but a minimal Debian: runs on kernels and
machines where the full suite would take too long. bash speaks TCP by itself (/dev/tcp)."""

import json
import os

import pytest

HERE = os.path.dirname(os.path.realpath(__file__))


def connect(box, address, port):
    r = box.sh(f"timeout 55 bash -c 'exec 3<>/dev/tcp/{address}/{port} && "
               "printf \"GET /x HTTP/1.0\\r\\n\\r\\n\" >&3 && head -c 12 <&3'")
    return "allow" if r.stdout.startswith(("HTTP/1.", "GET /x")) else "refused"


def resolve(box, name, database="ahostsv4"):
    r = box.sh(f"getent {database} {name}")
    return r.stdout.split()[0] if r.code == 0 else None


def test_a_container_runs_a_command(make_box):
    box = make_box()
    r = box.sh("id -u; hostname; cat /proc/1/comm; uname -r")
    assert r.code == 0 and r.stdout.split()[:2] == ["0", box.name], r


def test_files(make_box):
    box = make_box()
    content = os.urandom(1 << 20)
    box.put("/root/data", content)
    assert box.get("/root/data") == content


def test_the_layer_is_a_project_quota():
    """The distribution's kernel has project quotas; then no loop image per sandbox is made."""
    if not os.uname().release.startswith("6.1."):
        pytest.skip("only the distribution's kernel is known to have project quotas")
    with open(os.environ["WEIR_DAEMON"]) as f:
        layers = os.path.join(json.load(f)["state_dir"], "layers")
    assert os.path.exists(os.path.join(layers, "volume")), os.listdir(layers)


def test_limits_hold(make_box):
    box = make_box(disk_mib=64)
    r = box.sh("dd if=/dev/zero of=/root/fill bs=1M count=200 2>&1; stat -c %s /root/fill")
    assert int(r.stdout.split()[-1]) <= 70 << 20, r
    assert box.sh("rm /root/fill; echo after").stdout == "after\n"


def test_a_running_sandbox_s_disk_grows(make_box, api):
    """At once with project quotas; an image may be refused its growth, and then is what it was."""
    box = make_box(disk_mib=64)
    fill = "dd if=/dev/zero of=/root/fill bs=1M count=90 2>/dev/null; stat -c %s /root/fill"
    assert int(box.sh(fill).stdout) < 70 << 20
    r = api.request("POST", f"{box.path}/resize", {"disk_mib": 128})
    if r.status != 200 and not os.uname().release.startswith("6.1."):
        assert b"CAP_SYS_RESOURCE" in r.body, r.body
        assert box.refresh()["disk_mib"] == 64 and int(box.sh(fill).stdout) < 70 << 20
        return
    assert r.status == 200, r.body
    assert box.refresh()["disk_mib"] == 128
    assert int(box.sh(fill).stdout) == 90 << 20
    r = box.sh("dd if=/dev/zero of=/root/fill bs=1M count=200 2>/dev/null; stat -c %s /root/fill")
    assert 90 << 20 < int(r.stdout) <= 134 << 20, r  # and the new size is a limit as well


@pytest.mark.parametrize("target, name", [("203.0.113.10", "allowed.test"),
                                          ("2001:db8:1::10", None)])
def test_names_open_addresses(make_box, lab, target, name):
    box = make_box(egress=["allowed.test"])
    assert connect(box, target, 80) == "refused"
    box.denied("default", address=target)
    database = "ahostsv6" if ":" in target else "ahostsv4"
    assert resolve(box, "allowed.test", database) == target
    assert connect(box, target, 80) == "allow"
    assert resolve(box, "denied.test") is None
    box.denied("name", name="denied.test")


def test_ports_prefixes_and_the_floor(make_box):
    box = make_box(egress=["10.0.0.0/8:8080", "2001:db8:5::/48"])
    assert connect(box, "10.9.9.9", 8080) == "allow"
    assert connect(box, "2001:db8:5::9", 80) == "allow"
    for address, reason in (("10.42.0.5", "overlay"), ("203.0.113.20", "default"),
                            ("169.254.169.254", "floor")):
        assert connect(box, address, 8080) == "refused"
        box.denied(reason, address=address)


def test_a_policy_is_replaced_while_it_runs(make_box):
    box = make_box(egress=["203.0.113.10"])
    assert connect(box, "203.0.113.10", 80) == "allow"
    box.set_egress(["203.0.113.20"])
    assert connect(box, "203.0.113.10", 80) == "refused"
    assert connect(box, "203.0.113.20", 80) == "allow"
    box.set_egress([])
    assert connect(box, "203.0.113.10", 80) == "allow"


def test_pause_and_resume(make_box):
    box = make_box()
    box.sh("(while sleep 0.1; do date +%s%N >/tmp/beat; done) >/dev/null 2>&1 &")
    box.pause()
    r = box.api.request("POST", f"{box.path}/exec", {"cmd": "true"})
    assert r.status == 409
    box.resume()
    assert box.sh("pgrep -f beat || pidof sleep || ls /proc | grep -c '^[0-9]'").code == 0


SERVER = ("use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, "
          "ReuseAddr => 1) or die; $SIG{PIPE} = q(IGNORE); "
          "while (my $c = $s->accept) { <$c>; print $c qq(HTTP/1.0 200 OK\\r\\n\\r\\n); "
          "close $c }")


def test_a_private_network(api, make_box):
    """From link to link, which is the kernel's own doing (bpf_redirect_peer)."""
    net = api.ok("POST", "/v1/networks", {"name": f"smoke{os.getpid()}"})
    box, peer = (make_box(networks=[{"id": net["id"]}], egress=["203.0.113.10"]) for _ in range(2))
    peer.sh(f"setsid perl -e '{SERVER}' >/dev/null 2>&1 </dev/null &")
    peer.sh("timeout 60 bash -c 'until : </dev/tcp/127.0.0.1/8080; do sleep 0.1; done' 2>/dev/null")
    members = api.ok("GET", f"/v1/networks/{net['id']}")["members"]
    address = next(m["ip"] for m in members if m["sandbox_id"] == peer.id)
    assert connect(box, address, 8080) == connect(box, peer.name, 8080) == "allow"
    api.ok("DELETE", f"{peer.path}/networks/{net['id']}")
    assert connect(box, address, 8080) == "refused"
    box.denied("overlay", address=address)
    assert resolve(box, f"{peer.name}.fc.local") is None
