"""Private networks in the api role: routes, books, and what host and edge are told; see test_role.py."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_role import role, settings, until  # noqa: E402, F401


def net(role, name, **kw):
    return role.post("/v1/networks", {"name": name}, **kw).data


def members(role, word):
    return {m["sandbox_id"]: m for m in role.get(f"/v1/networks/{word}").data["members"]}


def attach(role, sb, word):
    return role.post(f"/v1/sandboxes/{sb}/networks", {"id": word})


def detach(role, sb, word):
    return role.ask("DELETE", f"/v1/sandboxes/{sb}/networks/{word}")


def told(role):
    """What the peers were told since, without what every test begins with."""
    return [c for c in role.calls() if c[0] not in ("IMAGES", "INFO", "LIST", "SYNCED")]


# --- networks ---

def test_life_of_a_network(role):
    n = net(role, "backend")
    assert n["id"].startswith("net-") and n["member_count"] == 0 and set(n) == {
        "id", "name", "created_at", "member_count"}
    for word in (n["id"], "backend", n["id"].upper(), n["id"].replace("-", "_")):
        assert role.get(f"/v1/networks/{word}").data == {**n, "members": []}
    assert "exists" in role.post("/v1/networks", {"name": "backend"}).fails(400, "name")
    assert role.ask("DELETE", "/v1/networks/backend").data == {"ok": True}
    role.get(f"/v1/networks/{n['id']}").fails(404, "id")
    role.ask("DELETE", "/v1/networks/backend").fails(404, "id")
    again = net(role, "backend")
    assert again["id"] != n["id"]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "-a"}, {"name": "A"}, {"name": "a.b"},
                                  {"name": "a" * 64}, {"name": 7}, {"name": "net-01k" + "0" * 23}, {"name": "a b"}])
def test_names_that_are_none(role, body):
    role.post("/v1/networks", body).fails(400, "name")
    assert role.get("/v1/networks").data["pagination"]["total"] == 0
    net(role, "a" * 63), net(role, "net-x")


def test_pages(role):
    made = [net(role, f"n{i}")["id"] for i in range(5)]
    page = role.get("/v1/networks?limit=2&offset=1").data
    assert page["pagination"] == {"total": 5, "limit": 2, "offset": 1, "count": 2}
    everything = role.get("/v1/networks").data["data"]
    assert {n["id"] for n in everything} == set(made) and page["data"] == everything[1:3]


def test_nobody_without_a_key_and_no_page_without_end(role):
    net(role, "backend")
    sb = role.create()["id"]
    for method, path in (("GET", "/v1/networks"), ("POST", "/v1/networks"), ("GET", "/v1/networks/backend"),
                         ("DELETE", "/v1/networks/backend"), ("POST", f"/v1/sandboxes/{sb}/networks"),
                         ("DELETE", f"/v1/sandboxes/{sb}/networks/backend")):
        for key in (None, "wrong"):
            role.ask(method, path, {"name": "x", "id": "backend"} if method == "POST" else None,
                     key=key).fails(401, "auth")
    for query in ("limit=x", "limit=-1", "offset=x", "offset=-1"):
        role.get(f"/v1/networks?{query}").fails(400, query.split("=")[0])
    assert role.get("/v1/networks?offset=7").data["data"] == []
    assert [n["name"] for n in role.get("/v1/networks").data["data"]] == ["backend"]


def test_quota_of_networks(role):
    for i in range(100):
        net(role, f"n{i}")
    assert "100" in role.post("/v1/networks", {"name": "more"}).fails(403, "quota")
    role.ask("DELETE", "/v1/networks/n7")
    net(role, "more")


def test_users_do_not_meet(role):
    other = role.post("/v1/keys", {"name": "other"}).data["key"]
    mine, theirs = net(role, "backend"), net(role, "backend", key=other)
    assert mine["id"] != theirs["id"]
    for method, path in (("GET", ""), ("DELETE", "")):
        role.ask(method, f"/v1/networks/{mine['id']}{path}", key=other).fails(404, "id")
    sb = role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb"}, key=other).data["id"]
    role.post(f"/v1/sandboxes/{sb}/networks", {"id": mine["id"]}, key=other).fails(404, "id")
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "networks": [{"id": mine["id"]}]},
              key=other).fails(404, "id")
    assert members(role, "backend") == {}
    role.post(f"/v1/sandboxes/{sb}/networks", {"id": "backend"}, key=other)
    assert role.get("/v1/networks/backend", key=other).data["member_count"] == 1
    assert role.get("/v1/networks/backend").data["member_count"] == 0


# --- members ---

def test_from_the_beginning(role):
    n = net(role, "backend")
    role.calls()
    v = role.create(networks=[{"id": "backend"}, {"id": n["id"]}])
    steps = told(role)
    assert [c[0] for c in steps] == ["SPAWN", "NETS", "SET", "COMMIT"] and steps[1][2] == "1"
    m = members(role, "backend")[v["id"]]
    slot = v["ip"].rsplit(".", 1)[1]
    assert m == {"sandbox_id": v["id"], "name": v["name"], "status": "running", "ip": f"10.42.0.{slot}"}
    assert "active members" in role.ask("DELETE", "/v1/networks/backend").fails(409, "id")
    role.ask("DELETE", f"/v1/sandboxes/{v['id']}")
    role.settled(v["id"], "destroyed")
    assert members(role, "backend") == {}
    role.ask("DELETE", "/v1/networks/backend").data


def test_joining_and_leaving(role):
    n, sb = net(role, "backend"), role.create()["id"]
    role.calls()
    assert attach(role, sb, "backend").data == {"ok": True}
    assert [c[0] for c in told(role)] == ["NETS", "SET"] and sb in members(role, n["id"])
    assert attach(role, sb, n["id"]).data == {"ok": True}
    assert told(role) == []  # it is one already
    assert detach(role, sb, "backend").data == {"ok": True}
    steps = told(role)
    assert [(c[0], c[2]) for c in steps][0] == ("NETS", "0") and steps[1][0] == "SET"
    detach(role, sb, "backend").fails(404, "id")
    detach(role, sb, "none").fails(404, "id")
    attach(role, sb, "none").fails(404, "id")
    role.post(f"/v1/sandboxes/{sb}/networks", {}).fails(400, "id")
    attach(role, f"sb-{'0' * 26}", "backend").fails(404, "id")


def test_states(role):
    net(role, "backend"), net(role, "front")
    sb = role.create(networks=[{"id": "backend"}])["id"]
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    attach(role, sb, "front").fails(409, "status")
    assert members(role, "backend")[sb]["status"] == "paused"
    assert detach(role, sb, "backend").status == 200
    role.ask("DELETE", f"/v1/sandboxes/{sb}")
    role.settled(sb, "destroyed")
    attach(role, sb, "front").fails(404)


def test_at_most_eight(role):
    sb = role.create()["id"]
    for i in range(9):
        net(role, f"n{i}")
    for i in range(8):
        assert attach(role, sb, f"n{i}").status == 200
    assert "8" in attach(role, sb, "n8").fails(400, "id")
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb",
                                "networks": [{"id": f"n{i}"} for i in range(9)]}).fails(400, "networks")
    detach(role, sb, "n0")
    assert attach(role, sb, "n8").status == 200
    assert role.get("/v1/networks/n1").data["member_count"] == 1


@pytest.mark.parametrize("step", ["NETS", "SET"])
def test_a_failed_step_is_taken_back(role, step):
    net(role, "backend")
    sb = role.create()["id"]
    role.calls()
    role.host(f"fail {step} 0")
    assert attach(role, sb, "backend").status == 500
    steps = told(role)
    assert steps[-2][0] == "NETS" and steps[-2][2] == "0" and steps[-1][0] == "SET"
    assert members(role, "backend") == {}
    assert attach(role, sb, "backend").status == 200  # the control
    role.host(f"fail {step} 0")
    assert detach(role, sb, "backend").status == 500
    assert sb in members(role, "backend")
    role.restart()
    assert sb in members(role, "backend")


def test_a_create_that_fails_leaves_no_member(role):
    net(role, "backend")
    for step in ("SPAWN", "NETS", "SET", "COMMIT"):
        role.host(f"fail {step} 0")
        assert role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb",
                                           "networks": [{"id": "backend"}]}).status == 500
        until("no member", lambda: role.get("/v1/networks/backend").data["member_count"] == 0)
    role.host("fail SPAWN 12")  # no capacity: not even a row
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "networks": [{"id": "backend"}]}).fails(503)
    role.ask("DELETE", "/v1/networks/backend").data
    role.restart()
    role.get("/v1/networks/backend").fails(404)


def test_explain(role):
    n = net(role, "backend")
    a, b, c = (role.create(networks=[{"id": n["id"]}] * joined) for joined in (1, 1, 0))
    ip = lambda v: "10.42.0." + v["ip"].rsplit(".", 1)[1]
    ask = lambda v, to: role.get(f"/v1/sandboxes/{v['id']}/egress/explain?to={to}").data
    got = ask(a, f"{ip(b)}:80")
    assert got["verdict"] == "allow" and "backend" in got["text"]
    for who, to in ((a, f"{ip(c)}:80"), (c, f"{ip(a)}:80"), (a, f"{ip(b)}:1028"), (a, "10.42.250.1:80")):
        got = ask(who, to)
        assert got["verdict"] == "deny" and got["reason"] == "overlay", (to, got)


# --- restarts ---

def test_the_books_survive_a_kill(role):
    for name in ("backend", "front"):
        net(role, name)
    a = role.create(networks=[{"id": "backend"}, {"id": "front"}])["id"]
    b = role.create(networks=[{"id": "front"}])["id"]
    before = members(role, "front")
    role.calls()
    role.restart()
    assert members(role, "front") == before and set(before) == {a, b}
    assert not [c for c in role.calls() if c[0] == "NETS"]  # the kernel has what it should


def test_what_the_kernel_has_too_many_is_taken_back(role):
    """Killed between the store and the kernel, in either direction."""
    net(role, "backend")
    inside, outside = role.create(networks=[{"id": "backend"}])["id"], role.create()["id"]
    role.host(f"nets {inside}")
    role.host(f"nets {outside} 1")
    role.calls()
    role.restart()
    nets = {c[1]: c[2] for c in role.calls() if c[0] == "NETS"}
    assert nets == {inside: "1", outside: "0"}


def test_killed_while_joining(role):
    net(role, "backend")
    sb = role.create()["id"]
    role.host("hold NETS")
    c = role.connect()
    c.request("POST", f"/v1/sandboxes/{sb}/networks", '{"id": "backend"}',
              {"X-Api-Key": role.key, "Content-Type": "application/json"})
    until("asked", lambda: any(x[0] == "NETS" for x in role.calls()))
    role.restart()
    assert sb in members(role, "backend")  # it was stored, so it is done
    assert [x[2] for x in role.calls() if x[0] == "NETS"] == ["1"]


def test_a_resume_from_disk_tells_again(role):
    net(role, "backend")
    sb = role.create(networks=[{"id": "backend"}])["id"]
    role.host("forget")
    role.restart()
    role.settled(sb, "error")
    assert members(role, "backend")[sb]["status"] == "error"
    role.calls()
    role.post(f"/v1/sandboxes/{sb}/resume")
    role.settled(sb, "running")
    assert [c[0] for c in told(role)] == ["SPAWN", "NETS", "SET", "COMMIT"]
