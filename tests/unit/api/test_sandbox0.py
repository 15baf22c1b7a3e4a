"""sandbox0's dialect of the api role, against a played host: its description and its table of routes,
lists and filters, times to live across a restart, policies stored and told again. (What its client
does with it is tests/client's subject.)"""

import json
import os
import re
import time

import pytest

from test_role import Role, settings, until  # noqa: F401

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..")


class Client:
    def __init__(self, role, key=None):
        self.role, self.key = role, key or role.key

    def ask(self, method, path, body=None, status=200):
        a = self.role.ask(method, "/api/v1" + path, body, key=None,
                          headers={"Authorization": f"Bearer {self.key}"})
        assert a.status == status, (method, path, a.status, a.body)
        assert a.json["success"] == (status < 400), a.body
        return a.json["data"] if status < 400 else a.json["error"]

    def claim(self, **config):
        return self.ask("POST", "/sandboxes", {"template": "default", "config": config},
                        201)["sandbox_id"]

    def get(self, sb):
        return self.ask("GET", f"/sandboxes/{sb}")


@pytest.fixture
def s0(tmp_path, settings):
    role = Role(str(tmp_path), settings)
    yield Client(role)
    role.end()


def test_every_route_is_described():
    """doc/openapi-sandbox0.json and the table of routes name the same paths and methods."""
    with open(os.path.join(ROOT, "doc", "openapi-sandbox0.json")) as f:
        doc = json.load(f)
    with open(os.path.join(ROOT, "src", "api", "sandbox0", "routes.c")) as f:
        text = f.read()
    at = {"": "", "V1": "/api/v1", "SB": "/api/v1/sandboxes/{sandbox}",
          "CX": "/api/v1/sandboxes/{sandbox}/contexts/{context}"}
    table = {(m.lower(), at[base] + rest) for m, base, rest in
             re.findall(r'\{ (GET|POST|PUT|DELETE), +(V1|SB|CX)(?: "([^"]*)")?,', text)}
    described = {(m, p) for p, ops in doc["paths"].items() for m in ops if m != "parameters"}
    assert len(table) > 25 and table == described


def test_views_are_described(s0):
    with open(os.path.join(ROOT, "doc", "openapi-sandbox0.json")) as f:
        schemas = json.load(f)["components"]["schemas"]
    sb = s0.claim(ttl=60)
    assert set(s0.get(sb)) == set(schemas["Sandbox"]["properties"])
    assert set(s0.ask("GET", f"/sandboxes/{sb}/status")) == set(schemas["Status"]["properties"])
    assert set(s0.ask("GET", "/sandboxes")["sandboxes"][0]) == set(schemas["Item"]["properties"])


def test_lists(s0):
    ids = [s0.claim() for _ in range(5)]
    s0.ask("POST", f"/sandboxes/{ids[1]}/pause")
    whole = s0.ask("GET", "/sandboxes")["sandboxes"]
    assert {x["id"] for x in whole} == set(ids)
    assert [x["created_at"] for x in whole] == sorted((x["created_at"] for x in whole), reverse=True)
    page = s0.ask("GET", "/sandboxes?limit=2&offset=1")
    assert page["sandboxes"] == whole[1:3]  # claims of one millisecond come in any order
    assert page["count"] == 5 and page["has_more"] is True
    assert s0.ask("GET", "/sandboxes?limit=2&offset=3")["has_more"] is False
    for query, want in (("status=paused", 1), ("status=running", 4), ("paused=true", 1),
                        ("paused=false", 4), ("template_id=default", 5), ("template_id=vm", 0),
                        ("template_id=default&limit=2&offset=4", 5), ("status=failed", 0)):
        assert s0.ask("GET", "/sandboxes?" + query)["count"] == want, query
    assert len(s0.ask("GET", "/sandboxes?template_id=default&limit=2&offset=4")["sandboxes"]) == 1
    for query in ("limit=0", "limit=201", "limit=x", "offset=-1", "status=asleep", "paused=1"):
        assert query.split("=")[0] in s0.ask("GET", "/sandboxes?" + query, status=400)["message"]


def test_times_outlive_a_restart(s0):
    kept, short, sleeper = s0.claim(ttl=300, hard_ttl=600), s0.claim(hard_ttl=1), s0.claim(ttl=1)
    before = s0.get(kept)
    s0.role.restart()
    after = s0.get(kept)
    assert [after[k] for k in ("expires_at", "hard_expires_at")] == \
        [before[k] for k in ("expires_at", "hard_expires_at")]
    until("the end of one", lambda: s0.role.ask(
        "GET", f"/api/v1/sandboxes/{short}", key=None,
        headers={"Authorization": f"Bearer {s0.key}"}).status == 404)
    until("the sleep of the other", lambda: s0.get(sleeper)["paused"])
    again = s0.ask("POST", f"/sandboxes/{sleeper}/resume")
    assert again["resumed"] and s0.get(sleeper)["runtime_generation"] == 2
    until("its sleep again", lambda: s0.get(sleeper)["paused"])
    assert s0.get(kept)["status"] == "running"


def test_refresh_counts_anew(s0):
    sb = s0.claim(ttl=300, hard_ttl=600)
    first = s0.get(sb)
    time.sleep(0.01)  # a moment later is another moment
    again = s0.ask("POST", f"/sandboxes/{sb}/refresh")
    assert again["expires_at"] > first["expires_at"]
    assert again["hard_expires_at"] > first["hard_expires_at"]
    longer = s0.ask("POST", f"/sandboxes/{sb}/refresh", {"duration": 3000})
    assert longer["expires_at"] > again["hard_expires_at"]


def test_policies_outlive_a_restart(s0):
    given = {"mode": "block-all", "egress": {"trafficRules": [
        {"name": "n", "action": "deny", "cidrs": ["10.0.0.0/8"]},
        {"action": "allow", "domains": ["*.corp.test"], "ports": [{"port": 443}]}]}}
    sb = s0.claim(network=given)
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == given
    s0.role.restart()
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == given
    assert "policy_unreadable" not in open(s0.role.log.name).read()
    versions = s0.role.get(f"/v1/sandboxes/{sb}/egress/versions").data["data"]
    assert [v["dialect"] for v in versions] == ["sandbox0"] and versions[0]["egress"] == given


def raw(s0, method, path, body=None, key=None, **headers):
    return s0.role.ask(method, path, body, key=None,
                       headers={"Authorization": f"Bearer {key or s0.key}", **headers})


def test_an_update_means_what_a_put_does(s0):
    given = {"mode": "block-all", "egress": {"allowedDomains": ["a.test"]}}
    sb = s0.claim(network=given)
    for network, text in (({}, "mode is required"), ({"egress": {}}, "mode is required"),
                          ({"mode": "block-all", "egres": {}}, "no such member"),
                          ({"mode": "allow-all", "egress": {"deniedPorts": [0]}}, "deniedPorts[0]")):
        assert text in s0.ask("PUT", f"/sandboxes/{sb}", {"config": {"network": network}}, 400)["message"]
    # What is not said, or null, changes nothing; what is said replaces all of it.
    for config in ({}, {"network": None}, {"env_vars": {"A": "b"}, "network": None}):
        s0.ask("PUT", f"/sandboxes/{sb}", {"config": config})
        assert s0.ask("GET", f"/sandboxes/{sb}/network") == given
    s0.ask("PUT", f"/sandboxes/{sb}", {"config": {"network": {"mode": "block-all"}}})
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == {"mode": "block-all"}
    assert "config is required" in s0.ask("PUT", f"/sandboxes/{sb}", {}, 400)["message"]


def test_a_policy_that_could_not_be_put_in_force(s0):
    """503, to be tried again, and the one before it is still shown and stored."""
    given = {"mode": "block-all", "egress": {"allowedDomains": ["a.test"]}}
    sb = s0.claim(network=given)
    s0.role.host("fail COMMIT 0")
    a = raw(s0, "PUT", f"/api/v1/sandboxes/{sb}/network", {"mode": "allow-all"})
    assert a.status == 503 and a.json["error"]["code"] == "unavailable", a.body
    assert a.headers["Retry-After"] == "1"
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == given
    s0.role.restart()
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == given
    assert s0.ask("PUT", f"/sandboxes/{sb}/network", {"mode": "allow-all"}) == {"mode": "allow-all"}


def test_memory_is_told_to_the_host_and_kept(s0):
    sb = s0.claim(resources={"memory": "512Mi"})
    s0.role.calls()
    one = s0.ask("PUT", f"/sandboxes/{sb}", {"config": {"resources": {"memory": "768Mi"}}})
    assert one["resources"] == {"memory": "768Mi"}
    assert [c[0] for c in s0.role.calls()].count("GROW") == 1
    s0.role.host("fail GROW 9")
    a = raw(s0, "PUT", f"/api/v1/sandboxes/{sb}", {"config": {"resources": {"memory": "2Gi"},
                                                              "network": {"mode": "block-all"}}})
    assert a.status >= 400, a.body
    s0.role.restart()
    assert s0.get(sb)["resources"] == {"memory": "768Mi"}
    assert s0.ask("GET", f"/sandboxes/{sb}/network") == {"mode": "allow-all"}
    s0.role.calls()
    s0.ask("PUT", f"/sandboxes/{sb}", {"config": {"resources": {"memory": "768Mi"}}})  # as it is
    assert not [c for c in s0.role.calls() if c[0] == "GROW"]


def test_the_envelope(s0):
    sb = s0.claim()
    for method, path, body, status in (
            ("GET", "/sandboxes", None, 200), ("GET", f"/sandboxes/{sb}", None, 200),
            ("GET", f"/sandboxes/{sb}/network", None, 200), ("POST", f"/sandboxes/{sb}/refresh", b"", 200),
            ("POST", f"/sandboxes/{sb}/pause", b"", 200), ("POST", f"/sandboxes/{sb}/resume", b"", 200),
            ("GET", "/sandboxes/sb-01000000000000000000000000", None, 404), ("GET", "/sessions", None, 404),
            ("PATCH", f"/sandboxes/{sb}", None, 405), ("GET", "/templates/none", None, 404)):
        a = raw(s0, method, "/api/v1" + path, body, **{"Content-Type": "application/json"})
        assert a.status == status and a.headers["content-type"] == "application/json", (path, a.status, a.body)
        assert a.headers["x-request-id"]
        want = {"success", "data"} if status < 400 else {"success", "error"}
        assert set(a.json) == want and a.json["success"] is (status < 400), a.body
        assert status < 400 or {"code", "message"} <= set(a.json["error"])
    for headers in ({}, {"Authorization": s0.key}, {"Authorization": f"Basic {s0.key}"},
                    {"Authorization": "Bearer "}, {"Authorization": "Bearer s0_home_00"}):
        a = s0.role.ask("GET", "/api/v1/sandboxes", key=None, headers=headers)
        assert a.status == 401 and a.json["error"]["code"] == "unauthorized", (headers, a.body)
    for scheme in ("bearer", "BEARER"):
        a = s0.role.ask("GET", "/api/v1/sandboxes", key=None, headers={"Authorization": f"{scheme} {s0.key}"})
        assert a.status == 200


def test_times_are_null_or_dates(s0):
    sb = s0.claim()
    one = s0.get(sb)
    assert one["expires_at"] is None and one["hard_expires_at"] is None
    assert all(re.match(r"\d{4}-\d\d-\d\dT[0-9:.]+Z$", one[k]) for k in ("created_at", "claimed_at", "updated_at"))
    for config in ({"ttl": -1}, {"hard_ttl": -1}, {"ttl": 2, "hard_ttl": 1}, {"ttl": "1"}, {"ttl": 1.5}):
        a = s0.ask("POST", "/sandboxes", {"template": "default", "config": config}, 400)
        assert a["code"] == "bad_request" and "config." in a["message"], a
    assert s0.get(s0.claim(ttl=1000, hard_ttl=0))["hard_expires_at"] is None
    s0.ask("POST", f"/sandboxes/{sb}/refresh", {"duration": -1}, 400)


def test_updated_at_moves(s0):
    """With each change, also over a restart; not with what is refused, nor with a look."""
    sb = s0.claim(network={"mode": "block-all"})
    path, seen = f"/sandboxes/{sb}", [s0.get(sb)["updated_at"]]

    def moved(change):
        time.sleep(0.002)  # a moment later is another moment
        change()
        now = s0.get(sb)["updated_at"]
        assert s0.ask("GET", "/sandboxes")["sandboxes"][0]["updated_at"] == now
        later = now > seen[-1]
        seen.append(now)
        return later

    for config in ({"ttl": 600}, {"env_vars": {"A": "b"}}, {"auto_resume": False}, {"resources": {"memory": "768Mi"}},
                   {"network": {"mode": "allow-all"}}, {"services": [service(80)]}):
        assert moved(lambda: s0.ask("PUT", path, {"config": config})), config
    for method, what, body in (("PUT", "/network", {"mode": "block-all"}), ("PUT", "/services", {"services": []}),
                               ("POST", "/refresh", {}), ("POST", "/pause", None), ("POST", "/resume", None)):
        assert moved(lambda: s0.ask(method, path + what, body)), what
    assert moved(lambda: s0.role.ask("PUT", f"/v1/sandboxes/{sb}/egress", {"egress": ["a.test"]}).data)
    assert not moved(lambda: s0.ask("PUT", path + "/network", {"mode": "none"}, 400))
    assert not moved(lambda: s0.ask("GET", path + "/network"))
    s0.role.host("fail COMMIT 0")
    assert not moved(lambda: s0.ask("PUT", path + "/network", {"mode": "allow-all"}, 503))
    assert not moved(s0.role.restart)


def test_claims(s0):
    def bad(status=400, **body):
        return s0.ask("POST", "/sandboxes", body, status)

    assert s0.ask("POST", "/sandboxes", {"template": " DEFAULT "}, 201)["template"] == "default"
    assert bad(template="a/b")["code"] == bad(template="x" * 256)["code"] == bad()["code"] == "bad_request"
    assert bad(404, template="none")["code"] == "not_found"
    for member, value in (("mounts", [{}]), ("snapshot_id", "x")):
        assert member in bad(template="default", **{member: value})["message"]
        s0.ask("POST", "/sandboxes", {"template": "default", member: value[:0]}, 201)
    for memory in ("127Mi", "17Gi", "lots", "1.5Gi", 512):
        assert "128Mi to 16Gi" in bad(template="default", config={"resources": {"memory": memory}})["message"]
    assert "webhook" in bad(template="default", config={"webhook": {"url": "http://a.test"}})["message"]


def test_codes_of_what_fails(tmp_path):
    """Quotas, a host without room, one that fails, a resume that does not come to anything: each under its own
    code, with Retry-After where to ask again may help, and nothing is left of it."""
    role = Role(str(tmp_path), ["sandboxes.per_user=2"])
    try:
        s0 = Client(role)

        def told(method, path, body, status, code, again):
            a = raw(s0, method, "/api/v1" + path, body)
            assert (a.status, a.json["error"]["code"]) == (status, code), a.body
            assert a.headers["Retry-After"] == ("1" if again else None)
            return a.json["error"]["message"]

        claim = {"template": "default"}
        role.host("fail SPAWN 12")
        assert "no capacity" in told("POST", "/sandboxes", claim, 503, "unavailable", True)
        role.host("fail SPAWN 0")
        assert told("POST", "/sandboxes", claim, 500, "internal_error", False) == "internal error"
        assert s0.ask("GET", "/sandboxes?status=running")["count"] == 0
        sb = s0.claim(auto_resume=False)
        s0.ask("POST", f"/sandboxes/{sb}/pause")
        told("GET", f"/sandboxes/{sb}/contexts", None, 503, "unavailable", True)
        role.host("fail THAW 0")
        told("POST", f"/sandboxes/{sb}/resume", b"", 503, "sandbox_resume_failed", True)
        s0.claim()
        told("POST", "/sandboxes", claim, 429, "quota_exceeded", True)
        assert s0.ask("POST", f"/sandboxes/{sb}/resume")["resumed"]  # the control: nobody fails now
    finally:
        role.end()


def test_bodies_that_do_not_read(s0):
    sb = s0.claim()
    for path in ("/sandboxes", f"/sandboxes/{sb}/network"):
        method = "POST" if path == "/sandboxes" else "PUT"
        for raw in (b"{", b"[]", b"nope"):
            a = s0.role.ask(method, "/api/v1" + path, raw, key=None,
                            headers={"Authorization": f"Bearer {s0.key}"})
            assert a.status == 400 and a.json["error"]["message"].startswith("invalid request"), a.body
    assert s0.ask("GET", "/nothing", status=404)["code"] == "not_found"
    assert s0.ask("DELETE", "/sandboxes", status=405)["code"] == "method_not_allowed"


def told(s0):
    """Routes that the edge was told, each time it was told something."""
    return [int(c[2]) >> 24 for c in s0.role.calls() if c[0] == "ROUTE"]


def service(port, public=True):
    return {"id": f"s{port}", "port": port, "ingress": {"public": public}}


def test_services_are_told_and_outlive_the_role(s0):
    sb = s0.claim(services=[service(80), service(81, public=False)])
    assert told(s0) == [1]
    s0.ask("PUT", f"/sandboxes/{sb}/services", {"services": [service(80), service(82)]})
    assert told(s0) == [2]
    s0.ask("PUT", f"/sandboxes/{sb}", {"config": {"services": [service(90)]}})
    assert told(s0) == [1]
    s0.role.restart()
    [s] = s0.ask("GET", f"/sandboxes/{sb}/services")["services"]
    assert s["port"] == 90 and s["public_url"].endswith(":8081/")
    until("the edge knows", lambda: told(s0)[-1:] == [1])
    s0.ask("PUT", f"/sandboxes/{sb}/services", {"services": []})
    assert told(s0) == [0]
    assert s0.ask("GET", f"/sandboxes/{sb}/exposed-ports")["exposed_ports"] == []


@pytest.mark.parametrize("what", ["INGRESS", "ROUTE"])
def test_services_that_cannot_be_published_are_not(s0, what):
    sb = s0.claim(services=[service(80)])
    s0.role.host(f"fail {what} 8")
    a = s0.role.ask("PUT", f"/api/v1/sandboxes/{sb}/services", {"services": [service(81)]}, key=None,
                    headers={"Authorization": f"Bearer {s0.key}"})
    assert a.status >= 400, a.body
    assert [s["port"] for s in s0.ask("GET", f"/sandboxes/{sb}/services")["services"]] == [80]


def test_a_misspelt_service_is_not_taken(s0):
    for change, where in (({"port": "80"}, "services[0].port"), ({"id": ""}, "services[0].id"),
                          ({"ports": 80}, "services[0]"), ({"ingress": {}}, "ingress.public"),
                          ({"ingress": {"public": True, "auth": {}}}, "services[0].ingress"),
                          ({"ingress": {"public": True, "routes": [{"id": "r", "Auth": {}}]}},
                           "services[0].ingress.routes[0]"),
                          ({"ingress": {"public": True, "routes": [{"id": "r", "auth": {
                              "mode": "header", "header_name": "a b"}}]}},
                           "services[0].ingress.routes[0].auth.header_name")):
        bad = s0.ask("POST", "/sandboxes", {"template": "default", "config": {
            "services": [{**service(80), **change}]}}, 400)
        assert bad["message"].startswith("config.") and where in bad["message"], bad
    bad = s0.ask("POST", "/sandboxes", {"template": "default", "config": {
        "services": [service(80)], "exposed_ports": [{"port": 80}]}}, 400)
    assert "cannot be combined" in bad["message"]
    assert s0.ask("GET", "/sandboxes")["count"] == 0
