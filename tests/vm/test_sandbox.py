"""Sandboxes with runtime vm, as their users see them, and the jail around them as the host sees it.

Machines cost a second or more each, so the tests share two, beside a container that does the same
things in the ordinary way: what the machine can do and the container cannot, or the other way round,
is the finding.
"""

import glob
import os

import pytest

from kit.api import Refused
from kit.nets import Nets, serve

@pytest.fixture(scope="module")
def world(api):
    """Two machines and a container, in one private network; only allowed.test may be reached."""
    nets = Nets(api)
    made = []
    try:
        net = nets.new()
        for runtime in ("vm", "vm", "container"):
            made.append(api.create(runtime=runtime, networks=[{"id": net.id}], egress=["allowed.test"]))
        yield made, net
    finally:
        for box in made:
            box.destroy()
        nets.close()


@pytest.fixture(scope="module")
def machine(world):
    return world[0][0]


@pytest.fixture(scope="module")
def second(world):
    return world[0][1]


@pytest.fixture(scope="module")
def container(world):
    return world[0][2]


def qemu(about, box):
    """The process of a machine: the one with its slot's address on the command line; of this daemon, if one is
    given: another that was left behind may have the same addresses."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path, "rb").read().split(b"\0")
            group = open(path.replace("cmdline", "cgroup")).read()
        except OSError:
            continue
        if b"qemu-system" in words[0] and any(f"weir.ip4={box.ip} ".encode() in w for w in words) and \
                (about is None or f"/{about['name']}/" in group):
            return int(path.split("/")[2])
    raise AssertionError(f"no QEMU for {box.ip}")


def status(pid):
    return dict(line.rstrip("\n").split(":\t", 1) for line in open(f"/proc/{pid}/status") if ":\t" in line)


def test_it_has_a_kernel_of_its_own(machine, container):
    here = os.uname().release
    assert container.exec("uname", "-r").stdout.strip() == here
    assert machine.exec("uname", "-r").stdout.strip() != here
    assert machine.view["runtime"] == "vm" and machine.view["ip"] == machine.ip


def test_commands_and_files(machine):
    got = machine.sh("echo out; echo err >&2; id -u; hostname; exit 3")
    assert (got.code, got.stderr) == (3, "err\n")
    assert got.stdout == f"out\n0\n{machine.name}\n"
    content = os.urandom(300000)
    machine.put("/root/data", content)
    assert machine.get("/root/data") == content
    assert machine.sh("df --output=size / | tail -1").stdout.strip() > "1000000"


def test_the_policy_is_the_same(machine, container, lab):
    """What is allowed and what is not, by name and by address: as in a container beside it."""
    asked = ({"tcp": "allowed.test", "port": 443}, {"tcp": "denied.test", "port": 443},
             {"name": "denied.test"}, {"tcp": "203.0.113.30", "port": 80},
             {"tcp": "169.254.169.254", "port": 80}, {"tcp": "169.254.77.1", "port": 80})
    there, here = machine.probe(*asked), container.probe(*asked)
    assert [r["verdict"] for r in there] == [r["verdict"] for r in here]
    assert there[0]["verdict"] == "allow" and there[1]["verdict"] != "allow"
    machine.denied("name", text="denied.test")


def test_a_policy_change_counts_at_once(machine):
    machine.set_egress(["denied.test"])
    try:
        allowed, denied = machine.probe({"tcp": "allowed.test", "port": 443}, {"tcp": "denied.test", "port": 443})
        assert (allowed["verdict"], denied["verdict"]) != ("allow", "allow") and denied["verdict"] == "allow"
    finally:
        machine.set_egress(["allowed.test"])


def test_private_networks_join_machines_and_containers(world):
    """Both ways between a machine and a container, and between machines; and not by other addresses."""
    (a, b, c), net = world
    for box in (a, c):
        serve(box, 8000)
    for here, there in ((b, a), (b, c), (c, a)):
        by_address, by_name, own = here.probe(*({"tcp": to, "port": 8000} for to in (
            net.ip(there), there.name, there.ip)))
        assert by_address["verdict"] == by_name["verdict"] == "allow", (here.name, there.name)
        assert own["verdict"] != "allow"  # the floor
    ip = net.ip(a)
    net.detach(a)
    try:
        assert b.tcp(net.ip(c), 8000) == "allow"  # the control
        assert c.tcp(ip, 8000) != "allow"
    finally:
        net.attach(a)


def test_a_pause_stops_it_and_a_resume_goes_on(machine):
    machine.sh("(while :; do date +%s%N >/tmp/beat; sleep 0.5; done) >/dev/null 2>&1 & echo $! >/tmp/pid")
    machine.pause()
    with pytest.raises(Refused):
        machine.exec("true")
    machine.resume()
    assert machine.sh("kill -0 $(cat /tmp/pid) && kill $(cat /tmp/pid)").code == 0


def test_L2_a_policy_set_during_a_pause_is_in_force_at_the_resume(machine, lab):
    """The machine is another process on the same link, behind what was decided meanwhile."""
    asked = ({"tcp": "allowed.test", "port": 443}, {"tcp": "denied.test", "port": 443})
    assert [r["verdict"] == "allow" for r in machine.probe(*asked)] == [True, False]
    machine.pause()
    machine.set_egress(["denied.test"])
    try:
        machine.resume()
        assert [r["verdict"] == "allow" for r in machine.probe(*asked)] == [False, True]
    finally:
        machine.set_egress(["allowed.test"])


def test_its_process_is_jailed(machine, second, about):
    """Own uid, no capabilities, seccomp, an empty root, no network, a limited control group."""
    pid, other = qemu(about, machine), qemu(about, second)
    s, t = status(pid), status(other)
    uids = {int(u) for u in s["Uid"].split()}
    assert len(uids) == 1 and uids.pop() >= 65536 and s["Uid"] != t["Uid"]
    assert int(s["CapEff"], 16) == int(s["CapPrm"], 16) == 0 and s["NoNewPrivs"] == "1"
    assert s["Seccomp"] == "2" and s["Groups"].strip() == ""
    assert status(about["pid"])["Seccomp"] == "0"  # the control: it is QEMU's own
    found = [os.path.join(d, f) for d, _, files in os.walk(f"/proc/{pid}/root") for f in files
             if not os.path.islink(os.path.join(d, f))]
    assert found == []
    assert [line.split(":")[0].strip() for line in open(f"/proc/{pid}/net/dev").readlines()[2:]] == ["lo"]
    for ns in ("mnt", "pid", "net", "ipc", "uts"):
        assert len({os.readlink(f"/proc/{p}/ns/{ns}") for p in (pid, other, "self")}) == 3, ns
    targets = [os.readlink(f) for f in glob.glob(f"/proc/{pid}/fd/*")]
    files = {t for t in targets if t.startswith("/") and not t.startswith("/dev/")}
    assert all(t.endswith(("rootfs.ext4", "/disk", "/memfd:weir-memory (deleted)")) for t in files)
    assert len(files) == 3, files


@pytest.mark.parametrize("fields, says", [
    ({"runtime": "gvisor"}, "Allowed: [auto, container, vm]"),
    ({"disk_mib": 1}, "at least 16 MiB"),
])
def test_what_it_refuses(api, machine, fields, says):
    with pytest.raises(Refused) as e:
        api.create(**{"runtime": "vm", **fields}).destroy()
    assert says in str(e.value)


def test_what_is_promised_must_be_there(api, about):
    """Memory of machines is not overcommitted: one larger than this host is refused, by its size, and nobody
    loses a template by it."""
    spares = os.path.join(about["state_dir"], "vm/layers/.spare-*")
    kept = glob.glob(spares)
    ask = {"image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "9"], "timeout": 600,
           "resourceLimits": {"cpu": "1", "memory": "200Gi"}, "extensions": {"runtime": "vm"}}
    r = api.request("POST", "/v1/sandboxes", ask, headers={"OPEN-SANDBOX-API-KEY": api.key}, key=False)
    assert r.status == 503 and "no capacity for 204800 MiB" in r.json["message"]
    assert kept and sorted(glob.glob(spares)) == sorted(kept)
