"""Who may call whom in a private network, in the api role: what is accepted, stored, and told to the
host role; see test_role.py."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_networks import attach, detach, net, told  # noqa: E402
from test_role import role, settings, until  # noqa: E402, F401

WEB_TO_DB = {"rules": [{"from": "web", "to": "db", "ports": [5432], "protocol": "tcp"}]}
TCP, UDP, ICMP, EVERY = 1, 2, 4, 15


def put(role, word, body):
    return role.ask("PUT", f"/v1/networks/{word}/policy", body)


def get(role, word):
    return role.get(f"/v1/networks/{word}/policy").data


def slot(view):
    return int(view["ip"].rsplit(".", 1)[1])


def rules_told(role):
    return [(c[1], c[2]) for c in told(role) if c[0] == "RULE"]


def test_life_of_a_policy(role):
    n = net(role, "backend")
    nothing = {"id": n["id"], "name": "backend", "default": "allow", "rules": []}
    assert get(role, "backend") == get(role, n["id"].upper()) == nothing
    want = {"id": n["id"], "name": "backend", "default": "deny", "rules": [
        {"action": "allow", "from": "web", "to": "db", "protocol": "tcp", "ports": ["5432"]}]}
    assert put(role, "backend", WEB_TO_DB).data == want == get(role, n["id"])
    role.restart()
    assert get(role, "backend") == want
    # What is shown can be sent back.
    assert put(role, "backend", {k: want[k] for k in ("default", "rules")}).data == want
    assert role.ask("DELETE", "/v1/networks/backend/policy").data == nothing == get(role, "backend")
    put(role, "backend", WEB_TO_DB)
    assert put(role, "backend", {"default": "allow", "rules": []}).data == nothing
    role.get("/v1/networks/none/policy").fails(404, "id")
    put(role, "none", WEB_TO_DB).fails(404, "id")
    role.ask("DELETE", "/v1/networks/none/policy").fails(404, "id")


@pytest.mark.parametrize("body, said", [
    ({}, "rules"), ({"rules": {}}, "array"), ({"rules": [7]}, "rules[0]"),
    ({"rules": [], "default": "maybe"}, "allow or deny"),
    ({"rules": [{"to": "*"}]}, "rules[0]"), ({"rules": [{"from": "*"}]}, "rules[0]"),
    ({"rules": [{"from": "*", "to": "A"}]}, "rules[0].to"),
    ({"rules": [{"from": "net-x", "to": "*"}]}, "rules[0].from"),
    ({"rules": [{"from": "a", "to": "b"}, {"from": "a", "to": "b", "action": "drop"}]}, "rules[1].action"),
    ({"rules": [{"from": "a", "to": "b", "protocol": "gre"}]}, "rules[0].protocol"),
    ({"rules": [{"from": "a", "to": "b", "protocol": "icmp", "ports": [1]}]}, "rules[0].protocol"),
    *[({"rules": [{"from": "a", "to": "b", "ports": p}]}, "rules[0].ports") for p in (
        80, [0], [65536], ["80-79"], ["80-"], ["-80"], ["x"], [80.5], [True], [1] * 17)],
    ({"rules": [{"from": "a", "to": "b"}] * 65}, "64"),
    ({"rules": [{"from": f"a{i}", "to": "b", "ports": [f"{4000 * k + 1}-{4000 * k + 3998}" for k in range(16)]}
                for i in range(64)]}, "too many")])
def test_what_is_refused_changes_nothing(role, body, said):
    net(role, "backend")
    put(role, "backend", WEB_TO_DB)
    before = get(role, "backend")
    role.calls()
    r = put(role, "backend", body)
    assert r.status == 400 and said in str(r.body), r.body
    assert get(role, "backend") == before and not told(role)


def test_what_the_host_role_is_told(role):
    net(role, "backend")
    web, db = role.create(name="web"), role.create(name="db", networks=[{"id": "backend"}])
    role.calls()
    put(role, "backend", {"default": "allow", "rules": [
        {"from": "web", "to": db["id"].upper(), "ports": ["80-90", 443]},
        {"from": "*", "to": "nobody", "action": "deny"},
        {"from": "db", "to": "*", "protocol": "icmp"}]})
    # Who is no member is nobody yet.
    assert rules_told(role) == [(f"-1>{slot(db)}", f"1/{TCP | UDP}/80-90"), ("0>-1", f"0/{EVERY}/0-0"),
                                (f"{slot(db)}>0", f"1/{ICMP}/0-0")]
    # The rules come to know a member before it is one.
    attach(role, web["id"], "backend")
    steps = told(role)
    assert [c[0] for c in steps] == ["RULE"] * 3 + ["NET", "NETS", "SET"]
    assert steps[0][1] == f"{slot(web)}>{slot(db)}" and steps[3][2] == "1"
    detach(role, web["id"], "backend")
    assert [c[0] for c in told(role)] == ["NETS", "SET"]
    new = role.create(name="nobody", networks=[{"id": "backend"}])
    steps = told(role)
    assert [c[0] for c in steps] == ["SPAWN"] + ["RULE"] * 3 + ["NET", "NETS", "SET", "COMMIT"]
    assert steps[2][1] == f"0>{slot(new)}"
    role.ask("DELETE", "/v1/networks/backend/policy")
    assert [(c[0], c[2]) for c in told(role)] == [("NET", "1")]


def test_a_deleted_network_is_told(role):
    net(role, "backend")
    role.calls()
    role.ask("DELETE", "/v1/networks/backend").data
    until("told", lambda: any(c[0] == "NET" and c[1].endswith("-gone") for c in role.calls()))


def test_a_refusal_is_taken_back(role):
    net(role, "backend")
    put(role, "backend", WEB_TO_DB)
    before = get(role, "backend")
    role.calls()
    role.host("fail NET 0")
    assert put(role, "backend", {"rules": []}).status == 500
    assert get(role, "backend") == before
    assert [c[0] for c in told(role)] == ["NET", "RULE", "NET"]  # and the host role has it again
    role.restart()
    assert get(role, "backend") == before
    assert put(role, "backend", {"rules": []}).data["rules"] == []  # the control


def test_killed_before_the_kernel_knew(role):
    net(role, "backend")
    db = role.create(name="db", networks=[{"id": "backend"}])
    role.host("hold NET")
    c = role.connect()
    c.request("PUT", "/v1/networks/backend/policy", '{"rules": [{"from": "*", "to": "db"}]}',
              {"X-Api-Key": role.key, "Content-Type": "application/json"})
    until("asked", lambda: any(x[0] == "NET" for x in role.calls()))
    role.restart()
    assert rules_told(role) == [(f"0>{slot(db)}", f"1/{EVERY}/0-0")]
    assert get(role, "backend")["rules"][0]["to"] == "db"


def test_killed_before_the_kernel_forgot(role):
    """The store has no rules any more, the kernel still does."""
    net(role, "backend")
    role.create(name="db", networks=[{"id": "backend"}])
    put(role, "backend", WEB_TO_DB)
    role.create(name="web", networks=[{"id": "backend"}])
    role.calls()
    role.host("hold NET")
    c = role.connect()
    c.request("DELETE", "/v1/networks/backend/policy", headers={"X-Api-Key": role.key})
    until("asked", lambda: any(x[0] == "NET" for x in role.calls()))
    role.restart()
    assert [(x[0], x[2]) for x in told(role) if x[0] in ("NET", "RULE")] == [("NET", "1")]
    role.calls()
    role.restart()


def test_explain_names_network_and_rule(role):
    net(role, "backend"), net(role, "front")
    web, db = (role.create(name=n, networks=[{"id": "backend"}]) for n in ("web", "db"))
    put(role, "backend", WEB_TO_DB)
    ask = lambda v, to: role.get(f"/v1/sandboxes/{v['id']}/egress/explain?to={to}").data
    got = ask(web, "db:5432")
    assert (got["verdict"], got["network"], got["rule_index"]) == ("allow", "backend", 0)
    assert got["rule"] == "allow web -> db tcp 5432" and got["rule"] in got["text"]
    got = ask(web, f"10.42.0.{slot(db)}:5433")
    assert (got["verdict"], got["network"], got["reason"]) == ("deny", "backend", "overlay")
    assert "rule" not in got and "default" in got["text"]
    assert ask(db, "web.backend.fc.local:5432")["verdict"] == "deny"
    for v in (web, db):
        attach(role, v["id"], "front")
    got = ask(db, f"{web['id']}.fc.local:5432")
    assert (got["verdict"], got["network"]) == ("allow", "front")


def test_users_do_not_meet(role):
    other = role.post("/v1/keys", {"name": "other"}).data["key"]
    n = net(role, "backend")
    for method in ("GET", "PUT", "DELETE"):
        role.ask(method, f"/v1/networks/{n['id']}/policy", WEB_TO_DB if method == "PUT" else None,
                 key=other).fails(404, "id")
    assert get(role, "backend")["rules"] == []
