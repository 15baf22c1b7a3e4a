"""One sandbox through every dialect: what each shows of it agrees with the others, and nobody sees
another user's, whichever route is asked (the descriptions in doc/ name them all)."""

import json
import os

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


def routes():
    """(description, method, path) of every route that is about one sandbox and wants a key."""
    for name in HEADERS:
        with open(os.path.join(ROOT, "doc", name + ".json")) as f:
            doc = json.load(f)
        for path, operations in doc["paths"].items():
            for method, operation in operations.items():
                if method == "parameters" or not ("{sandbox}" in path or "{ip}" in path):
                    continue
                if operation.get("security", doc["security"]) == doc["security"]:
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
            for word in ("{network}", "{token}", "{context}"):
                at = at.replace(word, "net-" + "0" * 26)
            a = other.ask(name, method, at, None if method in ("GET", "DELETE") else {})
            assert a.status == 404, (name, method, at, a.status, a.body)
            assert role.ask(method, at, key=None).status == 401 or name == "openapi-opensandbox"
            assert b"devbox" not in a.body and b"allowed.test" not in a.body
            if method == "GET" and at.count("0" * 26) == 0:  # the control: it is there for its owner
                assert user.ask(name, method, at).status != 404, (name, at)
        seen[name] = seen.get(name, 0) + 1
    assert seen["openapi"] > 20 and seen["openapi-opensandbox"] >= 7 and seen["openapi-sandbox0"] > 20
    assert other.createos("GET", "/v1/sandboxes").json["data"]["data"] == []
    assert other.opensandbox("GET", "/v1/sandboxes").json["items"] == []
    assert other.sandbox0("GET", "/api/v1/sandboxes").json["data"]["sandboxes"] == []
    # The control: its owner is told, and nothing was changed by all that asking.
    assert all(states(user, sb) == ("running",) * 3 for sb in boxes)
    assert user.createos("GET", f"/v1/sandboxes/by-ip/{ip}").json["data"]["id"] == boxes[0]
