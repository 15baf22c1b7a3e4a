"""A container's fork: its files in another sandbox, which begins anew. Machines' forks are tests/vm's."""

import pytest

from kit.api import Refused

FILES = r"""
set -e
mkdir -p /root/deep/er; echo kept >/root/deep/er/file; ln -s deep /root/link; ln /root/deep/er/file /root/hard
mkfifo /root/fifo; mkdir /opt/mine; chown 1000:50 /opt/mine; chmod 2750 /opt/mine
truncate -s 100M /root/sparse; printf end >>/root/sparse
rm -r /etc/apt; mkdir /etc/apt; echo new >/etc/apt/only  # hides what the image has there
rm /etc/issue
cp /bin/true /usr/local/bin/t; chown 7:8 /usr/local/bin/t; chmod 4755 /usr/local/bin/t
"""
LOOK = r"""
cd /root; cat deep/er/file link/er/file; stat -c '%h %i' hard deep/er/file | sort -u | wc -l
stat -c '%F' fifo; stat -c '%u %g %a' /opt/mine /usr/local/bin/t; ls /etc/apt; ls /etc/issue 2>&1
stat -c '%s' sparse; [ $(stat -c '%b' sparse) -lt 100 ] && echo holes; stat -c '%u' / /root
"""


@pytest.fixture(scope="module")
def source(api):
    box = api.create(envs={"A": "1"}, egress=["allowed.test"], runtime="container")
    assert box.sh(FILES).code == 0
    box.seen = box.sh(LOOK).stdout
    box.sh("(setsid sleep 1000 >/dev/null 2>&1 &)")
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def paused(source):
    if source.status != "paused":
        source.pause()
    return source


@pytest.fixture
def fork(api, paused):
    made = []

    def make(**fields):
        view = api.ok("POST", f"{paused.path}/fork", {"memory": False, **fields})
        made.append(type(paused)(api, view))
        return made[-1]
    yield make
    for box in made:
        box.destroy()


def test_one_that_runs_is_not_copied(api, source):
    r = api.request("POST", f"{source.path}/fork", {"memory": False})
    assert r.status == 409 and "running" in r.says, r.body


def test_the_files_go_along_and_nothing_else(source, fork):
    seen = source.seen
    assert "kept\nkept\n1\nfifo\n1000 50 2750\n7 8 4755\nonly\n" in seen and seen.endswith("holes\n0\n0\n"), seen
    box = fork()
    view = box.refresh()
    assert view["status"] == "running" and view["forked_from"] == source.id and view["runtime"] == "container"
    assert box.id != source.id and box.ip != source.ip and box.name != source.name
    assert box.sh(LOOK).stdout == seen
    assert box.sh("hostname; echo $A").stdout == f"{box.name}\n1\n"
    assert box.sh("pgrep -x sleep").code == 1
    assert box.sh("/usr/local/bin/t && rm /root/hard && echo more >>/root/deep/er/file").code == 0


def test_each_goes_its_own_way(source, fork):
    one, two = fork(), fork(envs={"A": "2"}, egress=[])
    assert one.sh("echo one >/root/deep/er/file").code == 0
    assert two.sh("cat /root/deep/er/file; echo $A").stdout == "kept\n2\n"
    assert one.refresh()["egress"] == ["allowed.test"] and two.refresh()["egress"] == []
    source.resume()
    try:
        assert source.sh("cat /root/deep/er/file; pgrep -xc sleep").stdout == "kept\n1\n"
        assert source.sh(LOOK).stdout == source.seen
    finally:
        source.pause()


def test_its_policy_is_in_force(fork, lab):
    asked = ({"tcp": "allowed.test", "port": 443}, {"tcp": "denied.test", "port": 443})
    for more, want in (({}, [True, False]), ({"egress": ["denied.test"]}, [False, True])):
        assert [r["verdict"] == "allow" for r in fork(**more).probe(*asked)] == want


@pytest.mark.parametrize("body, status, says", [
    ({}, 409, "vm"), ({"memory": True}, 409, "\\\"memory\\\": false"),
    ({"memory": False, "start_paused": True}, 400, "start_paused"),
    ({"memory": "no"}, 400, "memory"), ({"memory": False, "envs": {"1": "x"}}, 400, "envs")])
def test_what_is_refused(api, paused, body, status, says):
    def forked():  # others make sandboxes beside
        return [b["id"] for b in api.ok("GET", "/v1/sandboxes?limit=500")["data"] if b.get("forked_from") == paused.id]

    before = forked()
    r = api.request("POST", f"{paused.path}/fork", body)
    assert r.status == status and says in r.body.decode(), r.body
    assert forked() == before


def test_of_a_machine_the_memory_comes_along(api, make_box):
    if "vm" not in api.ok("GET", "/v1/version")["runtimes"]:
        pytest.skip("no machines here")
    with pytest.raises(Refused, match="a machine is forked with its memory"):
        box = make_box(runtime="vm")
        box.pause()
        api.ok("POST", f"{box.path}/fork", {"memory": False})
