"""One sandbox through every dialect: what each shows of it agrees with the others, and nobody sees
another user's, whichever route is asked (the descriptions in doc/ name them all)."""

import json
import os
import time

import pytest

from test_role import Role, settings, until  # noqa: F401

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..")
HEADERS = {"openapi": lambda key: {"X-Api-Key": key},
           "openapi-opensandbox": lambda key: {"OPEN-SANDBOX-API-KEY": key},
           "openapi-sandbox0": lambda key: {"Authorization": f"Bearer {key}"}}
OPENSANDBOX = {"image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "9"], "resourceLimits": {"cpu": "1"}}


@pytest.fixture
def role(tmp_path, settings):
    r = Role(str(tmp_path), settings)
    yield r
    r.end()


class User:
    def __init__(self, role, key):
        self.role, self.key = role, key

    def ask(self, dialect, method, path, body=None):
        return self.role.ask(method, path, body, key=None, headers=HEADERS[dialect](self.key))

    def createos(self, method, path, body=None):
        return self.ask("openapi", method, path, body)

    def opensandbox(self, method, path, body=None):
        return self.ask("openapi-opensandbox", method, path, body)

    def sandbox0(self, method, path, body=None):
        return self.ask("openapi-sandbox0", method, path, body)

    def egress(self, sb):
        a = self.opensandbox("GET", f"/v1/sandboxes/{sb}/endpoints/18080").json
        return self.role.ask("GET", f"/sandboxes/{sb}/proxy/18080/policy", key=None,
                             headers=a["headers"]).json["policy"]

    def explain(self, sb, host, port):
        a = self.createos("GET", f"/v1/sandboxes/{sb}/egress/explain?to={host}:{port}")
        assert a.status == 200, a.body
        return a.json["data"]["verdict"]


@pytest.fixture
def user(role):
    return User(role, role.key)


def allow(*targets):
    return {"defaultAction": "deny", "egress": [{"action": "allow", "target": t} for t in targets]}


def made(user, by):
    """The same sandbox, made through each: allowed.test and 198.51.100.0/24 are open."""
    if by == "createos":
        a = user.createos("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb",
                          "egress": ["allowed.test", "198.51.100.0/24"]})
        return a.json["data"]["id"]
    if by == "opensandbox":
        a = user.opensandbox("POST", "/v1/sandboxes", {**OPENSANDBOX,
                             "networkPolicy": allow("allowed.test", "198.51.100.0/24")})
        return a.json["id"]
    a = user.sandbox0("POST", "/api/v1/sandboxes", {"template": "default", "config": {"network": {
        "mode": "block-all", "egress": {"trafficRules": [
            {"action": "allow", "domains": ["allowed.test"]},
            {"action": "allow", "cidrs": ["198.51.100.0/24"]}]}}}})
    assert a.status == 201, a.body
    return a.json["data"]["sandbox_id"]


FORMS = {"openapi": lambda body: set(body) == {"status", "data"} and body["status"] == "fail",
         "openapi-opensandbox": lambda body: set(body) == {"code", "message"} and body["code"].isupper(),
         "openapi-sandbox0": lambda body: body["success"] is False and set(body["error"]) == {"code", "message"}}


@pytest.mark.parametrize("dialect, path", [("openapi", "/v1/sandboxes"), ("openapi-opensandbox", "/v1/sandboxes"),
                                           ("openapi-sandbox0", "/api/v1/sandboxes")])
@pytest.mark.parametrize("head, body, status", [
    ({"Content-Length": str(100 << 20)}, b"", 413),
    ({"Transfer-Encoding": "chunked"}, b"zz\r\n", 400)])
def test_a_refused_body_is_told_in_its_dialect(role, dialect, path, head, body, status):
    """Also what the server refuses before a handler has seen it; with the id that the request brought,
    where the dialect has that."""
    c = role.connect()
    c.putrequest("POST", path)
    for name, value in {**HEADERS[dialect](role.key), "X-Request-Id": "mine-1",
                        "Content-Type": "application/json", **head}.items():
        c.putheader(name, value)
    c.endheaders(body)
    r = c.getresponse()
    told = json.loads(r.read())
    assert r.status == status and FORMS[dialect](told), told
    assert (r.getheader("X-Request-Id") == "mine-1") == (dialect == "openapi-opensandbox")


def states(user, sb):
    return (user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["status"],
            user.opensandbox("GET", f"/v1/sandboxes/{sb}").json["status"]["state"].lower(),
            user.sandbox0("GET", f"/api/v1/sandboxes/{sb}").json["data"]["status"])


@pytest.mark.parametrize("by", ["createos", "opensandbox", "sandbox0"])
def test_a_sandbox_agrees_with_itself(user, by):
    sb = made(user, by)
    until("running", lambda: states(user, sb) == ("running",) * 3)
    one = user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]
    two = user.opensandbox("GET", f"/v1/sandboxes/{sb}").json
    three = user.sandbox0("GET", f"/api/v1/sandboxes/{sb}").json["data"]
    assert one["id"] == two["id"] == three["id"] == sb
    assert one["created_at"][:19] == two["createdAt"][:19] == three["created_at"][:19]
    assert [x["id"] for x in user.createos("GET", "/v1/sandboxes").json["data"]["data"]] == [sb]
    assert [x["id"] for x in user.opensandbox("GET", "/v1/sandboxes").json["items"]] == [sb]
    assert [x["id"] for x in user.sandbox0("GET", "/api/v1/sandboxes").json["data"]["sandboxes"]] == [sb]

    # What the policy means is one thing; each tells it in its own words.
    for host, port, verdict in (("allowed.test", 443, "allow"), ("denied.test", 443, "deny"),
                                ("198.51.100.7", 8080, "allow"), ("203.0.113.9", 80, "deny"),
                                ("169.254.169.254", 80, "deny")):
        assert user.explain(sb, host, port) == verdict, (host, port)
    for told in (json.dumps(one["egress"]), json.dumps(user.egress(sb)),
                 user.sandbox0("GET", f"/api/v1/sandboxes/{sb}/network").body.decode()):
        assert "allowed.test" in told and "198.51.100.0/24" in told and "denied" not in told, told

    # What one does all see.
    assert user.opensandbox("POST", f"/v1/sandboxes/{sb}/pause").status == 202
    assert states(user, sb) == ("paused",) * 3
    assert user.sandbox0("POST", f"/api/v1/sandboxes/{sb}/resume").status == 200
    until("running again", lambda: states(user, sb) == ("running",) * 3)
    assert user.createos("DELETE", f"/v1/sandboxes/{sb}").status < 300
    until("gone", lambda: user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["status"] == "destroyed")
    assert user.opensandbox("GET", f"/v1/sandboxes/{sb}").status == 404
    assert user.sandbox0("GET", f"/api/v1/sandboxes/{sb}").status == 404


def test_every_field_agrees(user):
    """What more than one shows is the same thing, before and after it was changed through each."""
    sb = user.sandbox0("POST", "/api/v1/sandboxes", {"template": "default", "config": {
        "resources": {"memory": "768Mi"}, "ttl": 600, "hard_ttl": 3600, "env_vars": {"A": "b"},
        "auto_resume": False}}).json["data"]["sandbox_id"]

    def agree(memory, envs, generation=1):
        one = user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]
        two = user.opensandbox("GET", f"/v1/sandboxes/{sb}").json
        three = user.sandbox0("GET", f"/api/v1/sandboxes/{sb}").json["data"]
        short = user.sandbox0("GET", f"/api/v1/sandboxes/{sb}/status").json["data"]
        item, = user.sandbox0("GET", "/api/v1/sandboxes").json["data"]["sandboxes"]
        assert one["id"] == two["id"] == three["id"] == short["sandbox_id"] == item["id"] == sb
        assert one["name"] == three["pod_name"] == short["pod_name"]
        assert one["created_at"] == two["createdAt"] == three["created_at"] == three["claimed_at"]
        assert one["rootfs"] == two["image"]["uri"] and one["runtime"] == "container"
        assert two["expiresAt"] == three["hard_expires_at"] == short["hard_expires_at"]
        assert one["status"] == two["status"]["state"].lower() == three["status"] == short["status"]
        assert three["paused"] == item["paused"] == (one["status"] == "paused")
        assert one["mem_mib"] == memory and three["resources"] == {"memory": f"{memory}Mi"}
        assert one["envs"] == envs and three["team_id"] == three["user_id"]
        assert three["runtime_generation"] == item["runtime_generation"] == generation
        for view in (short, item):  # the shorter forms say the same as the long one
            assert all(three[k] == v for k, v in view.items() if k in three), (view, three)
        return three

    assert agree(768, ["A"])["auto_resume"] is False
    user.sandbox0("PUT", f"/api/v1/sandboxes/{sb}", {"config": {
        "resources": {"memory": "512Mi"}, "env_vars": {"B": "c", "D": "e"}, "auto_resume": True}})
    assert agree(512, ["B", "D"])["auto_resume"] is True
    later = agree(512, ["B", "D"])["hard_expires_at"].replace("-", "")  # one clock for all of them
    renewed = user.opensandbox("POST", f"/v1/sandboxes/{sb}/renew-expiration", {
        "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 9000))})
    assert renewed.status == 200, renewed.body
    assert agree(512, ["B", "D"])["hard_expires_at"].replace("-", "") > later
    assert user.createos("POST", f"/v1/sandboxes/{sb}/pause").status < 300
    until("paused", lambda: states(user, sb) == ("paused",) * 3)
    agree(512, ["B", "D"])
    assert user.opensandbox("POST", f"/v1/sandboxes/{sb}/resume").status < 300
    until("running", lambda: states(user, sb) == ("running",) * 3)
    agree(512, ["B", "D"], 2)


def said(user, sb):
    """The policy in each one's words."""
    return (user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["egress"], user.egress(sb),
            user.sandbox0("GET", f"/api/v1/sandboxes/{sb}/network").json.get("data"))


def rules(*texts):
    return [{"action": t.split(" ")[0], "target": t.split(" ")[1]} for t in texts]


def ports(port, *protocols):
    return [{"port": port, "protocol": p} for p in protocols]


PROBES = [("a.test", 443), ("a.test", 80), ("b.test", 443), ("x.b.test", 443), ("198.51.100.7", 443),
          ("198.51.100.7", 8080), ("10.1.2.3", 25), ("203.0.113.9", 443), ("169.254.169.254", 80)]
# (through whom, what is set, what CreateOS's, OpenSandbox's and sandbox0's clients are shown, and which
# of the probes pass)
POLICIES = [
    ("sandbox0", {"mode": "allow-all"}, [], ("allow", []), {"mode": "allow-all"}, "111111 1"),
    ("sandbox0", {"mode": "block-all"}, ["deny everything else"], ("deny", []), {"mode": "block-all"}, ""),
    ("sandbox0", {"mode": "block-all", "egress": {"allowed_domains": ["a.test", "*.b.test"], "allowed_ports": [443]}},
     ["allow a.test, b.test, *.b.test port tcp/443", "deny everything else"],
     ("deny", rules("allow a.test:443/tcp", "allow b.test:443/tcp", "allow *.b.test:443/tcp")),
     {"mode": "block-all", "egress": {"allowedDomains": ["a.test", "*.b.test"], "allowedPorts": [{"port": 443}]}},
     "1 11"),
    ("sandbox0", {"mode": "allow-all", "egress": {"deniedDomains": ["b.test"], "deniedCidrs": ["198.51.100.0/24"],
                                                  "deniedPorts": [25]}},
     ["deny 198.51.100.0/24", "deny everything port tcp/25", "deny b.test", "allow everything else"],
     ("allow", rules("deny 198.51.100.0/24", "deny *:25/tcp", "deny b.test")),
     {"mode": "allow-all", "egress": {"deniedDomains": ["b.test"], "deniedCidrs": ["198.51.100.0/24"],
                                      "deniedPorts": [{"port": 25}]}}, "11 1   1"),
    ("createos", ["a.test:443", "198.51.100.0/24", "*.b.test"], ["a.test:443", "198.51.100.0/24", "*.b.test"],
     ("deny", rules("allow a.test:443", "allow 198.51.100.0/24", "allow *.b.test")),
     {"mode": "block-all", "egress": {"trafficRules": [
         {"action": "allow", "domains": ["a.test"], "ports": ports(443, "tcp", "udp")},
         {"action": "allow", "cidrs": ["198.51.100.0/24"]}, {"action": "deny", "domains": ["b.test"]},
         {"action": "allow", "domains": ["*.b.test"]}]}}, "1  111"),
    ("createos", [], [], ("allow", []), {"mode": "allow-all"}, "111111 1"),
]


def passing(user, sb):
    return {p for p in PROBES if user.explain(sb, *p) == "allow"}


@pytest.mark.parametrize("by, given, one, two, three, passes", POLICIES)
def test_a_policy_set_through_one_is_shown_by_all(user, by, given, one, two, three, passes):
    boxes = [user.sandbox0("POST", "/api/v1/sandboxes", {"template": "default"}).json["data"]["sandbox_id"]
             for _ in range(2)]

    def put(sb, document, by="sandbox0"):
        a = user.sandbox0("PUT", f"/api/v1/sandboxes/{sb}/network", document) if by == "sandbox0" else \
            user.createos("PUT", f"/v1/sandboxes/{sb}/egress", {"egress": document})
        assert a.status == 200, a.body

    put(boxes[0], given, by)
    shown = said(user, boxes[0])
    assert shown[0] == one and shown[2] == three
    assert (shown[1]["defaultAction"], shown[1]["egress"]) == two
    opened = passing(user, boxes[0])
    assert ("169.254.169.254", 80) not in opened
    assert {p for p, mark in zip(PROBES, passes) if mark == "1"} <= opened
    assert {p for p, mark in zip(PROBES, passes.ljust(len(PROBES))) if mark == " "}.isdisjoint(
        opened - {("10.1.2.3", 25)})
    put(boxes[1], shown[2])  # what is shown can be set, and means the same
    assert passing(user, boxes[1]) == opened


def change_egress(user, sb, method, body):
    a = user.opensandbox("GET", f"/v1/sandboxes/{sb}/endpoints/18080").json
    a = user.role.ask(method, f"/sandboxes/{sb}/proxy/18080/policy", body, key=None, headers=a["headers"])
    assert a.status == 200, a.body


def test_a_policy_set_through_opensandbox_is_shown_by_all(user):
    """By a create, a PATCH, a DELETE and a PUT of it; and what sandbox0 shows then can be set there and means
    the same. What it shows has no words of OpenSandbox's own order left: denied addresses come first."""
    policy = {"defaultAction": "deny", "egress": rules("allow a.test", "allow *.b.test", "deny 198.51.100.0/24")}
    sb = user.opensandbox("POST", "/v1/sandboxes", {**OPENSANDBOX, "networkPolicy": policy}).json["id"]
    other = user.sandbox0("POST", "/api/v1/sandboxes", {"template": "default"}).json["data"]["sandbox_id"]

    def dns_tls(*more):
        return [{"action": "deny", "ports": ports(853, "tcp", "udp")}, *more]

    def agree(one, two, three, passes):
        assert said(user, sb) == (one, two, three)
        assert passing(user, sb) == passes
        assert user.sandbox0("PUT", f"/api/v1/sandboxes/{other}/network", three).status == 200
        assert passing(user, other) == passes

    names = [("a.test", 443), ("a.test", 80), ("x.b.test", 443)]
    agree(["allow a.test", "allow *.b.test", "deny 198.51.100.0/24", "deny everything else"], policy,
          {"mode": "block-all", "egress": {"trafficRules": dns_tls(
              {"action": "deny", "cidrs": ["198.51.100.0/24"]}, {"action": "allow", "domains": ["a.test"]},
              {"action": "deny", "domains": ["b.test"]}, {"action": "allow", "domains": ["*.b.test"]})}}, set(names))

    change_egress(user, sb, "PATCH", rules("allow 10.1.0.0/16", "deny A.test"))
    policy["egress"] = rules("allow 10.1.0.0/16", "deny A.test", "allow *.b.test", "deny 198.51.100.0/24")
    agree(["allow 10.1.0.0/16", "deny A.test", "allow *.b.test", "deny 198.51.100.0/24", "deny everything else"], policy,
          {"mode": "block-all", "egress": {"trafficRules": dns_tls(
              {"action": "deny", "cidrs": ["198.51.100.0/24"]}, {"action": "deny", "domains": ["a.test"]},
              {"action": "deny", "domains": ["b.test"]}, {"action": "allow", "domains": ["*.b.test"]},
              {"action": "allow", "cidrs": ["10.1.0.0/16"]})}}, {names[2]})

    change_egress(user, sb, "DELETE", ["a.TEST", "198.51.100.0/24", "*.b.test"])
    policy["egress"] = rules("allow 10.1.0.0/16")
    agree(["10.1.0.0/16"], policy, {"mode": "block-all", "egress": {"trafficRules": dns_tls(
        {"action": "allow", "cidrs": ["10.1.0.0/16"]})}}, set())

    change_egress(user, sb, "PUT", {"defaultAction": "allow", "egress": rules("deny b.test")})
    agree(["deny b.test", "allow everything else"], {"defaultAction": "allow", "egress": rules("deny b.test")},
          {"mode": "allow-all", "egress": {"trafficRules": dns_tls({"action": "deny", "domains": ["b.test"]})}},
          {p for p in PROBES if p[0] not in ("b.test", "169.254.169.254") and p[1] != 25})


def test_what_one_does_all_see(user):
    """Paused and resumed through each, by turns; names and metadata stay what they are through all of it."""
    sb = user.opensandbox("POST", "/v1/sandboxes", {**OPENSANDBOX, "metadata": {"team": "red"}, "timeout": 600}).json["id"]
    name = user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["name"]

    def ask(dialect, what):
        where = "/api/v1" if dialect == "sandbox0" else "/v1"
        a = getattr(user, dialect)("POST", f"{where}/sandboxes/{sb}/{what}")
        assert a.status < 300, (dialect, what, a.body)

    dialects = ("createos", "opensandbox", "sandbox0")
    for turn, (pauses, resumes) in enumerate((p, r) for p in dialects for r in dialects):
        ask(pauses, "pause")
        until("paused", lambda: states(user, sb) == ("paused",) * 3)
        assert [s["id"] for s in user.opensandbox("GET", "/v1/sandboxes?state=Paused").json["items"]] == [sb]
        assert user.sandbox0("GET", "/api/v1/sandboxes?status=paused").json["data"]["count"] == 1
        assert user.createos("GET", "/v1/sandboxes?status=paused").json["data"]["pagination"]["total"] == 1
        ask(resumes, "resume")
        until("running", lambda: states(user, sb) == ("running",) * 3)
        assert user.sandbox0("GET", f"/api/v1/sandboxes/{sb}").json["data"]["runtime_generation"] == turn + 2
    a = user.sandbox0("PUT", f"/api/v1/sandboxes/{sb}", {"config": {"ttl": 600, "env_vars": {"A": "b"}}})
    assert a.status == 200 and a.json["data"]["pod_name"] == name
    assert user.createos("PATCH", f"/v1/sandboxes/{sb}", {"auto_pause_after_seconds": 600}).status == 200
    assert user.opensandbox("GET", f"/v1/sandboxes/{sb}").json["metadata"] == {"team": "red"}
    a = user.opensandbox("PATCH", f"/v1/sandboxes/{sb}/metadata", {"team": None, "n": "1"})
    assert a.json["metadata"] == {"n": "1"}
    assert user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["name"] == name
    assert user.createos("GET", f"/v1/sandboxes/{sb}").json["data"]["envs"] == ["A"]
    assert user.sandbox0("DELETE", f"/api/v1/sandboxes/{sb}").status == 200
    assert user.opensandbox("GET", "/v1/sandboxes?metadata=n%3D1").json["items"] == []


def routes():
    """(description, method, path) of every route that is about one sandbox and looks at a key."""
    for name in HEADERS:
        with open(os.path.join(ROOT, "doc", name + ".json")) as f:
            doc = json.load(f)
        for path, operations in doc["paths"].items():
            for method, operation in operations.items():
                if method == "parameters" or not ("{sandbox}" in path or "{ip}" in path):
                    continue
                if operation.get("security", doc["security"]) == doc["security"] or "/proxy/" in path:
                    yield name, method.upper(), path


def test_others_are_not_there(role, user):
    other = User(role, role.post("/v1/keys", {"name": "other"}).data["key"])
    boxes = [made(user, by) for by in ("createos", "opensandbox", "sandbox0")]
    until("running", lambda: all(states(user, sb)[0] == "running" for sb in boxes))
    ip = user.createos("GET", f"/v1/sandboxes/{boxes[0]}").json["data"]["ip"]
    seen = {}
    for name, method, path in routes():
        for sb in boxes:
            at = path.replace("{sandbox}", sb).replace("{ip}", ip).replace("{port}", "8080")
            for word in ("{network}", "{token}", "{context}", "{id}", "{path}"):
                at = at.replace(word, "net-" + "0" * 26)
            a = other.ask(name, method, at, None if method in ("GET", "DELETE") else {})
            assert a.status == 404, (name, method, at, a.status, a.body)
            if "/proxy/18080/" in path:
                assert a.headers["content-type"].startswith("text/plain") and a.body == b"sandbox not found\n"
            else:
                assert FORMS[name](a.json), (name, method, at, a.body)
                assert name != "openapi-opensandbox" or a.json["code"] == "DOCKER::SANDBOX_NOT_FOUND", (at, a.body)
            assert "/proxy/" in at or role.ask(method, at, key=None).status == 401
            assert b"devbox" not in a.body and b"allowed.test" not in a.body
            if method == "GET" and at.count("0" * 26) == 0 and "/watch" not in at:
                assert user.ask(name, method, at).status != 404, (name, at)  # the control: its owner is told
        seen[name] = seen.get(name, 0) + 1
    assert seen["openapi"] > 20 and seen["openapi-opensandbox"] > 60 and seen["openapi-sandbox0"] > 20
    assert other.createos("GET", "/v1/sandboxes").json["data"]["data"] == []
    assert other.opensandbox("GET", "/v1/sandboxes").json["items"] == []
    assert other.sandbox0("GET", "/api/v1/sandboxes").json["data"]["sandboxes"] == []
    # The control: its owner is told, and nothing was changed by all that asking.
    assert all(states(user, sb) == ("running",) * 3 for sb in boxes)
    assert user.createos("GET", f"/v1/sandboxes/by-ip/{ip}").json["data"]["id"] == boxes[0]
