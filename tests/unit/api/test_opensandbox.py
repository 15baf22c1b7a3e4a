"""OpenSandbox's dialect of the api role, against a played host: every route, row and code of the
lifecycle, the egress API, and what one sandbox looks like through each dialect."""

import concurrent.futures
import contextlib
import datetime
import json
import os
import re
import sqlite3

import pytest

from test_role import Role, until

CREATE = {"image": {"uri": "devbox:1"}, "entrypoint": ["tail", "-f", "/dev/null"],
          "resourceLimits": {"cpu": "1", "memory": "2Gi"}, "secureAccess": False, "env": {},
          "metadata": {}, "extensions": {}, "timeout": 600}


class Client:
    """What a client of this dialect sends: the key in its header, nothing of CreateOS's."""

    def __init__(self, role, key=None, base="/v1"):
        self.role, self.key, self.base = role, key or role.key, base

    def ask(self, method, path, body=None, headers=None, key=True):
        h = dict(headers or {})
        h["User-Agent"] = "OpenSandbox-JS-SDK/0.1.11"
        if key:
            h["OPEN-SANDBOX-API-KEY"] = self.key
        return self.role.ask(method, self.base + path, body, key=None, headers=h)

    def get(self, path, **kw):
        return self.ask("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.ask("POST", path, body, **kw)

    def create(self, **fields):
        a = self.post("/sandboxes", {**CREATE, **fields})
        assert a.status == 202, a.body
        return a.json

    def list(self, query=""):
        a = self.get("/sandboxes" + query)
        assert a.status == 200, a.body
        return a.json

    def egress(self, sb):
        a = self.get(f"/sandboxes/{sb}/endpoints/18080?use_server_proxy=true")
        assert a.status == 200, a.body
        path = a.json["endpoint"].split("/", 1)[1]
        return Egress(self.role, "/" + path, a.json["headers"])


class Egress:
    def __init__(self, role, path, headers):
        self.role, self.path, self.headers = role, path, headers

    def ask(self, method, body=None, headers=None, what="/policy"):
        return self.role.ask(method, self.path + what, body, key=None,
                             headers=self.headers if headers is None else headers)

    def policy(self):
        a = self.ask("GET")
        assert a.status == 200, a.body
        return a.json["policy"]


def fails(answer, status, code):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"code", "message"}
    assert answer.json["code"] == code, answer.json
    assert answer.json["message"]
    return answer.json["message"]


@pytest.fixture
def settings(tmp_path):
    return [f"egress.deny_always={tmp_path}/deny", f"egress.allow_always={tmp_path}/allow"]


@pytest.fixture
def role(tmp_path, settings):
    r = Role(tmp_path, settings)
    yield r
    r.end()


@pytest.fixture
def os_(role):
    return Client(role)


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


# --- create, get, kill ---

def test_a_life(os_):
    before = datetime.datetime.now(datetime.timezone.utc)
    sb = os_.create(metadata={"team": "red", "weir.example/role": ""}, env={"A": "1", "B": None})
    assert sb["status"]["state"] == "Running" and "image" not in sb
    assert sb["metadata"] == {"team": "red", "weir.example/role": ""}
    assert sb["entrypoint"] == CREATE["entrypoint"]
    assert sb["platform"]["os"] == "linux"
    assert abs((when(sb["expiresAt"]) - when(sb["createdAt"])).total_seconds() - 600) < 0.01
    assert abs((when(sb["createdAt"]) - before).total_seconds()) < 60
    got = os_.get(f"/sandboxes/{sb['id']}").json
    assert got["image"] == {"uri": "devbox:1"} and got["expiresAt"] == sb["expiresAt"]
    assert os_.list()["items"] == [got]
    a = os_.ask("DELETE", f"/sandboxes/{sb['id']}")
    assert a.status == 204 and a.body == b""
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"),
                         ("GET", "/endpoints/44772"), ("POST", "/renew-expiration"),
                         ("PATCH", "/metadata")):
        fails(os_.ask(method, f"/sandboxes/{sb['id']}{path}"), 404, "DOCKER::SANDBOX_NOT_FOUND")
    assert os_.list()["items"] == []


def test_answers_carry_their_place_and_the_request_id(os_):
    a = os_.post("/sandboxes", CREATE, headers={"X-Request-ID": "0123abc"})
    assert a.headers["location"] == f"/v1/sandboxes/{a.json['id']}"
    assert a.headers["x-request-id"] == "0123abc"
    a = os_.get("/sandboxes/nobody", headers={"X-Request-ID": "0124abd"})
    assert a.status == 404 and a.headers["x-request-id"] == "0124abd"


def test_the_routes_stand_at_the_root_too(role):
    os_ = Client(role, base="")
    sb = os_.create()
    assert os_.get(f"/sandboxes/{sb['id']}").json["id"] == sb["id"]
    assert os_.get("/health", key=False).json == {"status": "healthy"}
    assert os_.ask("POST", "/sandboxes/x/pause", key=False).json["code"] == "MISSING_API_KEY"


def test_credentials(os_):
    fails(os_.get("/sandboxes", key=False), 401, "MISSING_API_KEY")
    os_.key += "x"
    fails(os_.get("/sandboxes"), 401, "INVALID_API_KEY")


def test_methods_and_paths(os_):
    a = os_.ask("PUT", "/sandboxes")
    fails(a, 405, "METHOD_NOT_ALLOWED")
    assert a.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    fails(os_.get("/nowhere"), 404, "NOT_FOUND")
    fails(os_.get("/snapshots"), 501, "SANDBOX::API_NOT_SUPPORTED")
    fails(os_.get("/pools"), 501, "KUBERNETES::POOL_NOT_SUPPORTED")
    sb = os_.create()["id"]
    fails(os_.get(f"/sandboxes/{sb}/diagnostics/logs?scope=x"), 501, "DIAGNOSTICS_NOT_IMPLEMENTED")
    fails(os_.post(f"/sandboxes/{sb}/snapshots", {}), 501, "SANDBOX::API_NOT_SUPPORTED")
    a = os_.post("/metrics/events", {"eventType": "sandbox.create"})
    assert a.status == 204


INVALID = "SANDBOX::INVALID_PARAMETER"


@pytest.mark.parametrize("change, status, code, word", [
    ({"image": None}, 400, INVALID, "image"),
    ({"snapshotId": "s"}, 400, INVALID, "exactly one"),
    ({"image": None, "snapshotId": "s"}, 501, "SANDBOX::API_NOT_SUPPORTED", "snapshots"),
    ({"image": {}}, 400, INVALID, "image.uri: required"),
    ({"image": {"uri": 5}}, 400, INVALID, "image.uri: expected a string"),
    ({"image": {"uri": "devbox:1", "auth": 7}}, 400, INVALID, "image.auth: expected"),
    ({"image": {"uri": "devbox:1", "auth": {"username": "u"}}}, 400, INVALID, "image.auth.password: required"),
    ({"image": "devbox:1"}, 400, INVALID, "image"),
    ({"image": {"uri": "nowhere:9"}}, 500, "DOCKER::SANDBOX_IMAGE_PULL_FAILED", "nowhere:9"),
    ({"entrypoint": None}, 400, INVALID, "entrypoint"),
    ({"entrypoint": []}, 400, "DOCKER::INVALID_ENTRYPOINT", "entrypoint"),
    ({"entrypoint": [""]}, 400, "DOCKER::INVALID_ENTRYPOINT", "entrypoint"),
    ({"entrypoint": ["a", 1]}, 400, INVALID, "entrypoint[1]"),
    ({"entrypoint": ["a"] * 300}, 400, INVALID, "256"),
    ({"timeout": 59}, 400, INVALID, "60"),
    ({"timeout": 10**15}, 400, INVALID, "timeout"),
    ({"timeout": "600"}, 400, INVALID, "timeout"),
    ({"resourceLimits": {}}, 400, INVALID, "resourceLimits"),
    ({"resourceLimits": {"cpu": "many"}}, 400, INVALID, "resourceLimits.cpu"),
    ({"resourceLimits": {"cpu": "1", "memory": "1Ki"}}, 400, INVALID, "resourceLimits.memory"),
    ({"resourceLimits": {"cpu": "1", "gpu": "1"}}, 400, INVALID, "gpu"),
    ({"env": {"A": 1}}, 400, INVALID, "env"),
    ({"env": {"1A": "x"}}, 400, INVALID, "env"),
    ({"env": []}, 400, INVALID, "env"),
    ({"metadata": {"a b": "x"}}, 400, "SANDBOX::INVALID_METADATA_LABEL", "a b"),
    ({"metadata": {"a": "x y"}}, 400, "SANDBOX::INVALID_METADATA_LABEL", "metadata"),
    ({"metadata": {"a": "x" * 64}}, 400, "SANDBOX::INVALID_METADATA_LABEL", "63"),
    ({"metadata": {"opensandbox.io/x": "y"}}, 400, "SANDBOX::INVALID_METADATA_LABEL", "reserved"),
    ({"metadata": {"/x": "y"}}, 400, "SANDBOX::INVALID_METADATA_LABEL", "metadata"),
    ({"networkPolicy": {"defaultAction": "maybe"}}, 400, INVALID, "defaultAction"),
    ({"networkPolicy": {"egress": [{"action": "allow"}]}}, 400, INVALID, "egress[0].target"),
    ({"networkPolicy": {"egress": [{"action": "let", "target": "a.test"}]}}, 400, INVALID,
     "egress[0].action"),
    ({"networkPolicy": {"egress": [{"action": "allow", "target": "a b"}]}}, 400, INVALID, "a b"),
    ({"networkPolicy": {"egress": [{"action": "allow", "target": "127.0.0.1"}]}}, 400, INVALID,
     "cannot be opened"),
    ({"networkPolicy": {"egress": [{"action": "allow", "target": "a.test"}] * 4097}}, 413,
     "REQUEST_TOO_LARGE", "4096"),
    ({"networkPolicy": []}, 400, INVALID, "networkPolicy"),
    ({"credentialProxy": {"enabled": True}}, 400, INVALID, "networkPolicy"),
    ({"credentialProxy": {"enabled": True}, "networkPolicy": {}}, 501,
     "SANDBOX::API_NOT_SUPPORTED", "credentialProxy"),
    ({"secureAccess": True}, 400, INVALID, "needs an ingress gateway, and this server's endpoints are"),
    ({"volumes": [{"name": "v"}]}, 501, "SANDBOX::API_NOT_SUPPORTED", "volumes"),
    ({"platform": {"os": "windows", "arch": "amd64"}}, 400, INVALID, "linux"),
    ({"extensions": {"poolRef": "p"}}, 400, "SANDBOX::UNSUPPORTED_POOL_REF", "pools"),
    ({"extensions": {"access.renew.extend.seconds": "10"}}, 400, INVALID, "300"),
    ({"extensions": {"access.renew.extend.seconds": "600"}}, 501, "SANDBOX::API_NOT_SUPPORTED",
     "access"),
    ({"extensions": {"runtime": "vm"}}, 501, "SANDBOX::API_NOT_SUPPORTED", "qemu-system-x86"),
    ({"extensions": {"runtime": "tank"}}, 400, INVALID, "runtime"),
])
def test_what_create_refuses(os_, change, status, code, word):
    body = {k: v for k, v in {**CREATE, **change}.items() if v is not None}
    a = os_.post("/sandboxes", body)
    assert word in fails(a, status, code)
    assert os_.list()["items"] == [] and os_.role.get("/v1/sandboxes").data["data"] == []


def test_codes_of_what_fails(tmp_path):
    """A host without room, one that fails, a quota, and an id that is not enough."""
    role = Role(tmp_path, ["sandboxes.per_user=2"])
    try:
        os_ = Client(role)
        role.host("fail SPAWN 12")
        a = os_.post("/sandboxes", CREATE)
        assert "no capacity" in fails(a, 503, "SANDBOX::UNAVAILABLE") and a.headers["Retry-After"] == "1"
        role.host("fail SPAWN 0")
        fails(os_.post("/sandboxes", CREATE), 500, "DOCKER::SANDBOX_START_FAILED")
        assert os_.list("?state=Running")["items"] == []
        theirs = role.create()["id"]
        os_.create()
        assert "2" in fails(os_.post("/sandboxes", CREATE), 403, "SANDBOX::FORBIDDEN")
        ping = f"/sandboxes/{theirs}/proxy/44772/ping"
        said = fails(os_.get(ping, key=False), 401, "MISSING_OR_INVALID_SECURE_ACCESS")
        assert "OpenSandbox-Secure-Access" in said and os_.get(ping).status == 200
    finally:
        role.end()


def test_bodies_that_do_not_read(os_):
    for body in ("{", "[]", "7", '{"a":1,"a":2}'):
        fails(os_.post("/sandboxes", body), 400, INVALID)


def test_sizes_become_shapes_where_there_is_one(os_):
    def shape(limits):
        return os_.role.view(os_.create(resourceLimits=limits)["id"])

    assert shape({"cpu": "1", "memory": "256Mi"})["shape"] == "s-1vcpu-256mb"
    assert shape({"cpu": "500m", "memory": "1Gi"})["shape"] == "s-0.5vcpu-1gb"
    odd = shape({"cpu": "2.5", "memory": "300M", "ephemeral-storage": "1Gi", "other": "x"})
    assert (odd["shape"], odd["vcpu"], odd["cpu_quota_pct"], odd["mem_mib"], odd["disk_mib"]) == (
        "custom", 3, 250, 286, 1024)


def test_never_expires(os_):
    for extra in ({"timeout": None},):
        sb = os_.create(**extra)
        assert "expiresAt" not in sb
        future = "2999-01-01T00:00:00Z"
        fails(os_.post(f"/sandboxes/{sb['id']}/renew-expiration", {"expiresAt": future}), 409,
              "DOCKER::INVALID_EXPIRATION")


# --- list ---

def test_list_pages_newest_first(os_):
    made = sorted(((s["createdAt"], s["id"]) for s in [os_.create() for _ in range(5)]), reverse=True)
    ids = [sb for _, sb in made]  # of those made in the same millisecond, by id
    page = os_.list("?pageSize=2")
    assert [s["id"] for s in page["items"]] == ids[:2]
    assert page["pagination"] == {"page": 1, "pageSize": 2, "totalItems": 5, "totalPages": 3,
                                  "hasNextPage": True}
    page = os_.list("?pageSize=2&page=3")
    assert [s["id"] for s in page["items"]] == ids[4:] and not page["pagination"]["hasNextPage"]
    page = os_.list("?pageSize=2&page=9")
    assert page["items"] == [] and page["pagination"]["totalItems"] == 5
    for bad in ("page=0", "page=x", "pageSize=0", "pageSize=201", "page=-1"):
        fails(os_.get("/sandboxes?" + bad), 400, INVALID)


def test_list_filters(os_):
    red = os_.create(metadata={"team": "red", "n": "1"})["id"]
    blue = os_.create(metadata={"team": "blue", "n": "1"})["id"]
    assert os_.post(f"/sandboxes/{blue}/pause").status == 202

    def ids(query):
        return sorted(s["id"] for s in os_.list(query)["items"])

    both = sorted([red, blue])
    assert ids("?metadata=team%3Dred") == [red]
    assert ids("?metadata=team%3Dred%26n%3D1") == [red]
    assert ids("?metadata=te%2561m%3Dred") == [red]  # encoded twice
    assert ids("?metadata=n%3D1") == both
    assert ids("?metadata=n%3D2") == ids("?metadata=team%3DRed") == []
    assert ids("?metadata=") == both
    assert ids("?state=paused") == [blue] and ids("?state=RUNNING") == [red]
    assert ids("?state=Running&state=Paused") == both
    assert ids("?state=Running&metadata=n%3D1") == [red]
    assert ids("?state=Terminated") == []
    fails(os_.get("/sandboxes?state=asleep"), 400, INVALID)
    for bad in ("team", "%3Dred", "a%3Db%26%3Dc", "a%3D%2500", "a%2500%3Db", "a%3D%ff", "a%3D" + 5000 * "b"):
        fails(os_.get("/sandboxes?metadata=" + bad), 400, "INVALID_METADATA_FORMAT")


def test_metadata_is_merged(os_):
    sb = os_.create(metadata={"a": "1", "b": "2"})["id"]

    def patch(body):
        return os_.ask("PATCH", f"/sandboxes/{sb}/metadata", body)

    assert patch({"b": None, "c": "3", "x/y": "z"}).json["metadata"] == {"a": "1", "c": "3",
                                                                        "x/y": "z"}
    assert patch({}).json["metadata"] == {"a": "1", "c": "3", "x/y": "z"}
    for bad in ({"opensandbox.io/a": "x"}, {"a": "b c"}, {"d": 1}, {"e": "1", "": "x"},
                {f"k{i}": "v" for i in range(65)}):
        fails(patch(bad), 400, "SANDBOX::INVALID_METADATA_LABEL")
    assert os_.get(f"/sandboxes/{sb}").json["metadata"] == {"a": "1", "c": "3", "x/y": "z"}
    assert os_.list("?metadata=c%3D3")["pagination"]["totalItems"] == 1


# --- pause, resume, renew ---

def test_pause_and_resume(os_):
    sb = os_.create()["id"]
    fails(os_.post(f"/sandboxes/{sb}/resume"), 409, "DOCKER::SANDBOX_NOT_PAUSED")
    a = os_.post(f"/sandboxes/{sb}/pause")
    assert a.status == 202 and a.body == b"" and a.headers["content-length"] == "0"
    assert os_.get(f"/sandboxes/{sb}").json["status"]["state"] == "Paused"
    fails(os_.post(f"/sandboxes/{sb}/pause"), 409, "DOCKER::SANDBOX_NOT_RUNNING")
    a = os_.post(f"/sandboxes/{sb}/resume")
    assert a.status == 202 and a.body == b"" and a.headers["content-length"] == "0"
    assert os_.get(f"/sandboxes/{sb}").json["status"]["state"] == "Running"


def test_resume_waits_for_a_pause_under_way(os_):
    sb = os_.create()["id"]
    os_.role.host("hold FREEZE")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(os_.post, f"/sandboxes/{sb}/pause")
        until("it is pausing",
              lambda: os_.get(f"/sandboxes/{sb}").json["status"]["state"] == "Pausing")
        second = pool.submit(os_.post, f"/sandboxes/{sb}/resume")
        assert not first.done() and not second.done()
        os_.role.host("release")
        assert second.result().status == 202
        assert first.result().status in (202, 409)  # by then it may run again
    assert os_.get(f"/sandboxes/{sb}").json["status"]["state"] == "Running"


def test_renew(os_):
    sb = os_.create()["id"]

    def renew(at):
        return os_.post(f"/sandboxes/{sb}/renew-expiration", {"expiresAt": at})

    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    a = renew(at.isoformat())
    assert a.status == 200 and abs((when(a.json["expiresAt"]) - at).total_seconds()) < 0.01
    assert os_.get(f"/sandboxes/{sb}").json["expiresAt"] == a.json["expiresAt"]
    there = at.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    assert renew(there.isoformat()).json == a.json
    for bad in ("2001-01-01T00:00:00Z", "tomorrow", "", "2999-13-01T00:00:00Z",
                "2999-02-30T00:00:00Z", "2999-01-01T00:00:00"):
        fails(renew(bad), 400, "DOCKER::INVALID_EXPIRATION")
    fails(os_.post(f"/sandboxes/{sb}/renew-expiration", {}), 400, "DOCKER::INVALID_EXPIRATION")
    assert os_.get(f"/sandboxes/{sb}").json["expiresAt"] == a.json["expiresAt"]


def soon(ms):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=ms)
    return at.isoformat()


def test_expiry_takes_it_away(os_):
    """Also a paused one, also over a restart, with the renewed time; and no other sandbox."""
    stays, running, paused, later = (os_.create()["id"] for _ in range(4))
    assert os_.post(f"/sandboxes/{paused}/pause").status == 202
    for sb in (running, paused):
        assert os_.post(f"/sandboxes/{sb}/renew-expiration", {"expiresAt": soon(300)}).status == 200
    until("they expired", lambda: {s["id"] for s in os_.list()["items"]} == {stays, later})
    assert os_.role.view(running)["status"] in ("destroying", "destroyed")
    assert os_.role.view(running)["reason"] == "expired"
    assert os_.post(f"/sandboxes/{later}/renew-expiration", {"expiresAt": soon(1500)}).status == 200
    os_.role.restart()
    until("the renewed time counts after a restart",
          lambda: [s["id"] for s in os_.list()["items"]] == [stays])


def test_a_maximum_for_timeouts(tmp_path):
    role = Role(tmp_path, ["sandboxes.timeout_max=3600"])
    try:
        os_ = Client(role)
        fails(os_.post("/sandboxes", {**CREATE, "timeout": 3601}), 400, INVALID)
        fails(os_.post("/sandboxes", {**CREATE, "timeout": None}), 400, INVALID)
        sb = os_.create(timeout=3600)["id"]
        fails(os_.post(f"/sandboxes/{sb}/renew-expiration", {"expiresAt": soon(3700000)}), 400,
              "DOCKER::INVALID_EXPIRATION")
    finally:
        role.end()


# --- who sees whom ---

def test_users_do_not_see_each_other(role, os_):
    other = Client(role, role.post("/v1/keys", {"name": "other"}).data["key"])
    sb = os_.create(metadata={"a": "1"})["id"]
    assert other.list("?metadata=a%3D1")["items"] == []
    for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/pause", None),
                               ("POST", "/resume", None), ("PATCH", "/metadata", {}),
                               ("POST", "/renew-expiration", {"expiresAt": "2999-01-01T00:00:00Z"}),
                               ("GET", "/endpoints/18080", None)):
        fails(other.ask(method, f"/sandboxes/{sb}{path}", body), 404, "DOCKER::SANDBOX_NOT_FOUND")
    assert os_.get(f"/sandboxes/{sb}").status == 200
    theirs = other.egress(other.create()["id"])
    mine = os_.egress(sb)
    assert mine.ask("GET").status == 200
    assert mine.ask("GET", headers=theirs.headers).status == 401


# --- what execd asks for ---

def test_a_token_of_execd(os_):
    token = "s3cret-of-the-users"
    sb = os_.create(env={"EXECD_ACCESS_TOKEN": token, "A": "1"})
    free = os_.create(env={"EXECD_ACCESS_TOKEN": ""})["id"]
    theirs = os_.create(env={"EXECD_ACCESS_TOKEN": token + "2"})["id"]

    def ask(sb, path, method="GET", **headers):
        return os_.role.ask(method, f"/sandboxes/{sb}/proxy/44772{path}", key=None,
                            headers={k.replace("_", "-"): v for k, v in headers.items()})

    def holds():
        for path, method in (("/ping", "GET"), ("/command", "POST"), ("/files/info?path=/x", "GET"),
                             ("/proxy/82/", "GET"), ("/proxy/44772/ping", "GET"), ("/pty/x/ws", "GET"),
                             ("/v1/isolated/capabilities", "GET"), ("/nothing", "GET")):
            for headers in ({}, {"X_EXECD_ACCESS_TOKEN": token[:-1]}, {"X_EXECD_ACCESS_TOKEN": token + "2"},
                            {"X_EXECD_ACCESS_TOKEN": ""}, {"X_Api_Key": os_.key},
                            {"X_EXECD_ACCESS_TOKEN": "x" * 4000}):
                assert "X-EXECD-ACCESS-TOKEN" in fails(ask(sb["id"], path, method, **headers), 401, "UNAUTHORIZED")
            assert ask(sb["id"], path, method, X_EXECD_ACCESS_TOKEN=token).status != 401
        assert ask(sb["id"], "/ping", X_EXECD_ACCESS_TOKEN=token).status == 200
        assert ask(theirs, "/ping", X_EXECD_ACCESS_TOKEN=token).status == 401
        assert ask(theirs, "/ping", X_EXECD_ACCESS_TOKEN=token + "2").status == 200
        assert ask(free, "/ping").status == 200

    holds()
    seen = ask(sb["id"], "/proxy/82/", X_EXECD_ACCESS_TOKEN=token, X_Mine="y").body  # what the service got
    assert b"X-Mine: y" in seen and token.encode() not in seen
    os_.role.restart()
    holds()
    # Nobody is told what it was, and nothing but its user keeps it.
    views = [os_.get(f"/sandboxes/{sb['id']}"), os_.get("/sandboxes"), os_.get(f"/sandboxes/{sb['id']}/endpoints/44772"),
             os_.role.get(f"/v1/sandboxes/{sb['id']}"),
             os_.role.ask("GET", f"/api/v1/sandboxes/{sb['id']}", key=None,
                          headers={"Authorization": f"Bearer {os_.key}"})]
    for view in views:
        assert view.status == 200 and token not in view.body.decode()
    assert os_.role.view(sb["id"])["envs"] == ["A"]
    kept = b""
    for name in os.listdir(os_.role.state):
        if os.path.isfile(path := os.path.join(os_.role.state, name)):
            with open(path, "rb") as f:
                kept += f.read()
    assert sb["id"].encode() in kept and token.encode() not in kept
    for bad in ("a b", "x" * 257, "é", "a\nb"):
        a = os_.post("/sandboxes", {**CREATE, "env": {"EXECD_ACCESS_TOKEN": bad}})
        said = fails(a, 400, "SANDBOX::INVALID_PARAMETER")
        assert "EXECD_ACCESS_TOKEN" in said and "256" in said and bad not in said


ID_TOLD = 9  # the step of the store that brought it


def test_an_id_that_visitors_knew_before_the_upgrade(tmp_path, settings):
    role = Role(tmp_path, settings)
    os_ = Client(role)
    named, plain = (os_.create()["id"] for _ in range(2))

    def ping(sb):
        return role.ask("GET", f"/sandboxes/{sb}/proxy/44772/ping", key=None).status

    try:
        assert (ping(named), ping(plain)) == (200, 200)
        assert os_.get(f"/sandboxes/{plain}/endpoints/8080").status == 200
        ports = role.view(plain)["host_ports"]
    finally:
        role.end()
    with contextlib.closing(sqlite3.connect(tmp_path / "weir.db")) as db, db:  # as the version before had it
        for column in ("execd_token", "id_told", "forked_from", "updated_ms", "secured"):
            db.execute(f"ALTER TABLE sandboxes DROP COLUMN {column}")
        db.execute("DELETE FROM migrations WHERE version >= ?", (ID_TOLD,))
        db.execute("UPDATE sandboxes SET ingress = 1 WHERE id = ?", (named,))
        db.execute("UPDATE sandboxes SET ingress_ports = 1 WHERE ingress_ports = 3")
    role = Role(tmp_path, settings)
    try:
        assert ping(named) == 401
        assert ping(plain) == 409  # its machine is gone with the played host; it is let through to hear so
        assert role.view(plain)["host_ports"] == ports and len(ports) == 2
    finally:
        role.end()


# --- metrics ---

def test_metrics_are_watched(os_):
    """One object a second for as long as somebody reads, and each what a single question is told."""
    sb = os_.create(resourceLimits={"cpu": "2", "memory": "256Mi"})["id"]
    path = f"/sandboxes/{sb}/proxy/44772/metrics"
    once = os_.get(path).json
    assert set(once) == {"cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib", "timestamp"}
    c = os_.role.connect()
    c.request("GET", path + "/watch")
    r = c.getresponse()
    assert r.status == 200 and r.getheader("content-type") == "application/x-ndjson"
    seen = [json.loads(r.readline()) for _ in range(2)]
    for m in (once, *seen):
        assert set(m) == set(once) and all(isinstance(v, (int, float)) for v in m.values()), m
        assert (m["cpu_count"], m["mem_total_mib"], m["mem_used_mib"]) == (2, 256, 96)
        assert 0 < m["cpu_used_pct"] <= 100
    assert 900 <= seen[1]["timestamp"] - seen[0]["timestamp"]
    # Its end is the sandbox's pause; another of nobody's, and one whose host does not know, are refused.
    assert os_.post(f"/sandboxes/{sb}/pause").status == 202
    assert r.read() == b""
    fails(os_.get(f"/sandboxes/sb-{'0' * 26}/proxy/44772/metrics/watch"), 404, "DOCKER::SANDBOX_NOT_FOUND")
    assert os_.post(f"/sandboxes/{sb}/resume").status == 202
    os_.role.host("fail STATS 0")
    fails(os_.get(path + "/watch"), 500, "SANDBOX::INTERNAL_ERROR")
    # Who leaves is not asked about any more.
    c = os_.role.connect()
    c.request("GET", path + "/watch")
    r = c.getresponse()
    assert json.loads(r.readline())
    r.close()
    c.close()
    os_.role.calls()
    assert os_.get(path).status == 200  # itself two looks
    assert [call[0] for call in os_.role.calls()].count("STATS") <= 3


# --- endpoints ---

def test_endpoints(os_):
    sb = os_.create()["id"]

    def endpoint(port, query=""):
        return os_.get(f"/sandboxes/{sb}/endpoints/{port}{query}")

    tokens = set()
    for port in (44772, 8080, 3000):
        a = endpoint(port, "?use_server_proxy=true").json
        tokens.add(a.pop("headers")["OpenSandbox-Secure-Access"])
        assert a == {"endpoint": f"127.0.0.1:{os_.role.port}/sandboxes/{sb}/proxy/{port}"}
    assert len(tokens) == 3 and min(map(len, tokens)) >= 32  # each opens one port
    assert endpoint(44772).json["headers"]["OpenSandbox-Secure-Access"] in tokens
    direct, execd = (endpoint(p).json["endpoint"] for p in (8080, 44772))
    assert re.fullmatch(r"127\.0\.0\.1:\d+", direct)
    assert re.fullmatch(r"127\.0\.0\.1:\d+/proxy/44772", execd) and not execd.startswith(direct)
    for port in (3000, 18080):
        assert endpoint(port).json["endpoint"] == execd.replace("44772", str(port))
    assert endpoint(8080, "?use_server_proxy=false").json == {"endpoint": direct}  # and it stays
    for query in ("", "?use_server_proxy=true"):
        assert len(endpoint(18080, query).json["headers"]["OPENSANDBOX-EGRESS-AUTH"]) >= 32
    theirs = os_.role.create()["id"]
    for port in (44772, 18080):  # without host ports, which its owner did not ask for
        a = os_.get(f"/sandboxes/{theirs}/endpoints/{port}").json
        assert a["endpoint"] == f"127.0.0.1:{os_.role.port}/sandboxes/{theirs}/proxy/{port}"
    a = os_.get(f"/sandboxes/{theirs}/endpoints/8080")
    assert "8080" in fails(a, 500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE")
    a = os_.get(f"/sandboxes/{theirs}/endpoints/3000")
    assert "44772" in fails(a, 500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE")
    for port in (0, 65536, "x", "-1", "08080x"):
        fails(endpoint(port), 400, "DOCKER::INVALID_PORT")
    fails(endpoint(44772, "?expires=1&use_server_proxy=true"), 400, INVALID)
    for bad in ("x", "-1", "01", "123456789012345678901", ""):
        fails(endpoint(44772, f"?expires={bad}"), 400, INVALID)
    fails(endpoint(44772, "?expires=1900000000"), 400, "SANDBOX::API_NOT_SUPPORTED")


# --- egress ---

ALLOW = {"action": "allow", "target": "allowed.test"}


def rules(*pairs):
    return [{"action": a, "target": t} for a, t in pairs]


def test_policy_get_put_patch_delete(os_):
    e = os_.egress(os_.create(networkPolicy={"egress": [ALLOW]})["id"])
    a = e.ask("GET").json
    assert a == {"status": "ok", "mode": "enforcing", "enforcementMode": "dns+nft",
                 "policy": {"defaultAction": "deny", "egress": [ALLOW]}}
    assert e.ask("PATCH", rules(("deny", "ALLOWED.test"), ("allow", "b.test"),
                                ("deny", "B.test"))).status == 200
    assert e.policy()["egress"] == rules(("deny", "ALLOWED.test"), ("allow", "b.test"))
    assert e.ask("PATCH", rules(("allow", "10.9.0.0/16"))).status == 200
    assert [r["target"] for r in e.policy()["egress"]] == ["10.9.0.0/16", "ALLOWED.test", "b.test"]
    a = e.ask("DELETE", ["B.TEST", "unknown.test"])
    assert a.status == 200 and "reason" not in a.json
    assert [r["target"] for r in e.policy()["egress"]] == ["10.9.0.0/16", "ALLOWED.test"]
    a = e.ask("DELETE", ["unknown.test"])
    assert a.json["reason"] == "no matching targets found"
    for method in ("POST", "PUT"):
        whole = {"defaultAction": " ALLOW ", "egress": rules((" Deny", "c.test"))}
        assert e.ask(method, whole).status == 200
        assert e.policy() == {"defaultAction": "allow", "egress": rules(("deny", "c.test"))}
        a = e.ask(method, "").json
        assert a["mode"] == "deny_all" and a["reason"]
        assert e.policy() == {"defaultAction": "deny", "egress": []}
    assert e.ask("PUT", {"defaultAction": "allow"}).json["mode"] == "allow_all"
    for empty in ("{}", "null"):
        assert e.ask("PUT", empty).json["mode"] == "deny_all"
    assert e.ask("GET", what="/healthz", headers={}).body == b"ok"


def test_policy_refusals_change_nothing(os_):
    e = os_.egress(os_.create(networkPolicy={"egress": [ALLOW]})["id"])
    before = e.policy()
    for method, body in (("PATCH", "[]"), ("PATCH", ""), ("PATCH", "{}"), ("PATCH", "["),
                         ("PATCH", [{"action": "let", "target": "a.test"}]), ("PATCH", ["a.test"]),
                         ("PATCH", [{"action": "allow", "target": ""}]),
                         ("PATCH", rules(("allow", "127.0.0.0/8"))), ("DELETE", "[]"),
                         ("DELETE", ""), ("DELETE", [1]), ("PUT", "[]"), ("PUT", "7"),
                         ("PUT", {"defaultAction": 1}), ("PUT", {"egress": {}}),
                         ("POST", {"egress": [{"target": "a..b"}]})):
        a = e.ask(method, body)
        assert a.status == 400, (method, body, a.status, a.body)
        assert a.headers["content-type"].startswith("text/plain") and len(a.body) > 5
    many = rules(*(("allow", f"n{i}.test") for i in range(4096)))
    assert e.ask("PATCH", many).status == 413
    a = e.ask("PUT", "x" * (1 << 20 | 1))
    assert a.status == 413 and a.headers["content-type"].startswith("text/plain") and b"1048576" in a.body
    assert e.ask("PUT", "{" + " " * ((1 << 20) - 2) + "}").status == 200  # the control: as long as may be
    assert e.ask("PUT", before).status == 200
    assert e.policy() == before
    a = e.ask("OPTIONS")
    assert a.status == 204
    a = e.role.ask("HEAD", e.path + "/policy", key=None, headers=e.headers)
    assert a.status == 200
    assert e.ask("GET", what="/credential-vault").status == 501
    assert e.ask("GET", what="/nowhere").status == 404


def send_raw(e, method, head, body, what="/policy", **more):
    """A request whose body the server refuses before a handler has seen all of it."""
    c = e.role.connect()
    c.putrequest(method, e.path + what)
    for name, value in {**e.headers, **head, **more}.items():
        c.putheader(name, value)
    c.endheaders(body)
    r = c.getresponse()
    return r.status, r.getheader("content-type"), r.read()


def test_errors_of_the_egress_api_are_text(os_):
    """Whoever finds it, the handler or the server: a body that is too long, told in its head or not until
    it came; one that is no chunk; a sandbox that is not there. The rest of the dialect has JSON."""
    sb = os_.create(networkPolicy={"egress": [ALLOW]})["id"]
    e = os_.egress(sb)
    chunked, mib = {"Transfer-Encoding": "chunked"}, 1 << 20
    long = b"%x\r\n" % (mib + 1) + b" " * (mib + 1) + b"\r\n0\r\n\r\n"
    through = Egress(e.role, f"/sandboxes/{sb}/proxy/44772/proxy/18080", e.headers)
    at_v1 = Egress(e.role, "/v1" + e.path, e.headers)
    for where in (e, through, at_v1):
        for method in ("PUT", "POST", "PATCH", "DELETE"):
            for head, body, status, word in ((chunked, long, 413, b"1048576"), (chunked, b"zz\r\n", 400, b"chunk"),
                                             ({"Content-Length": str(mib + 1)}, b"", 413, b"1048576")):
                told = send_raw(where, method, head, body)
                assert told[0] == status and word in told[2], told
                assert told[1].startswith("text/plain"), told
    nobody = Egress(e.role, e.path.replace(sb, "sb-" + "0" * 26), e.headers)
    for what in ("/policy", "/healthz", "/credential-vault", "/nowhere"):
        a = nobody.ask("GET", what=what)
        assert a.status == 404 and a.headers["content-type"].startswith("text/plain"), a.body
        assert a.body == b"sandbox not found\n"
    # The control: as long as may be, and another route of the dialect.
    whole = b"%x\r\n{%s}\r\n0\r\n\r\n" % (mib, b" " * (mib - 2))
    assert send_raw(e, "PUT", chunked, whole)[0] == 200
    for path in (f"/v1/sandboxes/{sb}/metadata", f"/sandboxes/{sb}/proxy/44772/command"):
        other = Egress(e.role, path, {"OPEN-SANDBOX-API-KEY": os_.key})
        status, kind, body = send_raw(other, "PATCH" if "meta" in path else "POST", chunked, b"zz\r\n", what="")
        assert status == 400 and kind == "application/json" and set(json.loads(body)) == {"code", "message"}
    assert e.policy() == {"defaultAction": "deny", "egress": []}


def test_policy_needs_the_token(os_):
    sb = os_.create(networkPolicy={"egress": [ALLOW]})["id"]
    e = os_.egress(sb)
    token = e.headers["OPENSANDBOX-EGRESS-AUTH"]
    for headers in ({}, {"OPEN-SANDBOX-API-KEY": os_.key}, {"X-Api-Key": os_.key},
                    {"OPENSANDBOX-EGRESS-AUTH": ""}, {"OPENSANDBOX-EGRESS-AUTH": token[:-1]},
                    {"OPENSANDBOX-EGRESS-AUTH": token + "x"},
                    {"OPENSANDBOX-EGRESS-AUTH": "x" * len(token)}):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            a = e.ask(method, headers=headers)
            assert a.status == 401 and a.body.strip() == b"unauthorized", (headers, a.body)
    os_.role.restart()
    assert os_.egress(sb).headers == e.headers and e.ask("GET").status == 200
    os_.ask("DELETE", f"/sandboxes/{sb}")
    assert e.ask("GET").status == 404


def test_patches_at_once_are_all_kept(os_):
    e = os_.egress(os_.create(networkPolicy={})["id"])
    names = [f"n{i}.test" for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda n: e.ask("PATCH", rules(("allow", n))), names))
    assert {a.status for a in answers} == {200}
    assert sorted(r["target"] for r in e.policy()["egress"]) == sorted(names)


def test_policy_while_paused_is_kept_for_the_resume(os_):
    sb = os_.create(networkPolicy={"egress": [ALLOW]})["id"]
    e = os_.egress(sb)
    assert os_.post(f"/sandboxes/{sb}/pause").status == 202
    assert e.ask("PUT", {"egress": rules(("allow", "b.test"))}).status == 200
    assert os_.post(f"/sandboxes/{sb}/resume").status == 202
    assert e.policy()["egress"] == rules(("allow", "b.test"))


@pytest.mark.parametrize("setting, word", [("egress.image=", "egress.image"),
                                           ("secure_runtime.type=gvisor", "gvisor")])
def test_no_policies_by_configuration(tmp_path, setting, word):
    """Upstream's own refusals; without a policy the same create works."""
    role = Role(tmp_path, [setting])
    try:
        os_ = Client(role)
        a = os_.post("/sandboxes", {**CREATE, "networkPolicy": {"egress": [ALLOW]}})
        assert word in fails(a, 400, INVALID)
        assert not [c for c in role.calls() if c[0] == "SPAWN"]
        os_.create()
    finally:
        role.end()


# --- the operator's lists ---

def explain(os_, sb, name):
    a = os_.role.get(f"/v1/sandboxes/{sb}/egress/explain?to={name}:443")
    assert a.status == 200, a.body
    return json.dumps(a.data)


def write(path, text):
    with open(str(path) + ".new", "w") as f:
        f.write(text)
    os.replace(str(path) + ".new", path)


def versions(os_, sb):
    return os_.role.get(f"/v1/sandboxes/{sb}/egress/versions").data["pagination"]["total"]


def test_always_lists_are_read_again(os_, tmp_path):
    """A changed file puts every policy of the dialect in force anew, and no other; what users see
    stays theirs; a file with a mistake keeps the list before it."""
    sb = os_.create(networkPolicy={"egress": [ALLOW]})["id"]
    native = os_.role.create(egress=["allowed.test"])["id"]
    e, shown = os_.egress(sb), os_.egress(sb).policy()
    assert versions(os_, sb) == 1
    write(tmp_path / "deny", "# ours\n\nallowed.test\r\n 203.0.113.0/24 \n")
    until("deny.always is in force", lambda: versions(os_, sb) == 2, 20)
    assert '"deny' in explain(os_, sb, "allowed.test").replace("denied", "deny")
    assert versions(os_, native) == 1
    assert e.policy() == shown
    assert e.ask("PATCH", [ALLOW]).status == 200
    assert '"deny' in explain(os_, sb, "allowed.test").replace("denied", "deny")
    count = versions(os_, sb)
    write(tmp_path / "deny", "allowed.test\nnot a target\n")
    until("the mistake is told", lambda: "/deny:2:" in open(os_.role.log.name).read(), 20)
    assert versions(os_, sb) == count
    os.unlink(tmp_path / "deny")
    until("the list is empty again", lambda: versions(os_, sb) > count, 20)
    assert '"deny' not in explain(os_, sb, "allowed.test").replace("denied", "deny")


# --- one sandbox, three views ---

def test_the_dialects_agree_about_one_sandbox(os_):
    role = os_.role
    made = os_.create(networkPolicy={"egress": [ALLOW, {"action": "deny", "target": "10.0.0.0/8"}]})
    view = role.view(made["id"])
    assert view["status"] == "running" and view["rootfs"] == "devbox:1"
    assert view["created_at"] == made["createdAt"]
    assert view["egress"] == ["allow allowed.test", "deny 10.0.0.0/8", "deny everything else"]
    assert role.get(f"/v1/sandboxes/{made['id']}/egress").data["egress"] == view["egress"]

    theirs = role.create(name="mine", egress=["allowed.test", "10.9.0.0/16"])
    got = os_.get(f"/sandboxes/{theirs['id']}").json
    assert got["status"]["state"] == "Running" and got["image"]["uri"] == "devbox:1"
    assert got["createdAt"] == theirs["created_at"] and got["metadata"] == {}
    e = os_.egress(theirs["id"])
    assert e.policy() == {"defaultAction": "deny", "egress": rules(
        ("allow", "allowed.test"), ("allow", "10.9.0.0/16"))}
    assert e.ask("PATCH", rules(("allow", "b.test"))).status == 200
    assert role.view(theirs["id"])["egress"] == ["b.test", "allowed.test", "10.9.0.0/16"]

    ports = role.create(egress=["allowed.test:443"])["id"]
    e = os_.egress(ports)
    assert e.policy()["egress"] == rules(("allow", "allowed.test:443"))
    a = e.ask("PATCH", rules(("allow", "b.test")))
    assert a.status == 409 and b"PUT" in a.body
    assert role.view(ports)["egress"] == ["allowed.test:443"]
    assert e.ask("PUT", {"egress": [ALLOW]}).status == 200
    role.ask("PUT", f"/v1/sandboxes/{ports}/egress", {"egress": ["c.test"]})
    assert e.policy()["egress"] == rules(("allow", "c.test"))
    open_ = role.create()["id"]
    assert os_.egress(open_).ask("GET").json["mode"] == "allow_all"
    assert role.view(os_.create()["id"])["egress"] == []
    closed = os_.create(networkPolicy={})["id"]
    assert role.view(closed)["egress"] == ["deny everything else"]


def test_policies_survive_a_restart(os_):
    sb = os_.create(networkPolicy={"egress": [ALLOW]}, metadata={"a": "1"})["id"]
    before, e = os_.get(f"/sandboxes/{sb}").json, os_.egress(sb)
    policy = e.policy()
    os_.role.restart()
    assert os_.get(f"/sandboxes/{sb}").json == before and os_.egress(sb).policy() == policy
    assert "policy_unreadable" not in open(os_.role.log.name).read()


# --- the description ---

def test_every_route_is_described(os_):
    """doc/openapi-opensandbox.json and the table of routes name the same paths and methods, and an
    answer's members are described ones."""
    root = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..")
    with open(os.path.join(root, "doc", "openapi-opensandbox.json")) as f:
        doc = json.load(f)
    with open(os.path.join(root, "src", "api", "opensandbox", "routes.c")) as f:
        text = f.read()
    table = set()
    for method, at, sb, rest, handler in re.findall(
            r'\{ (\w+), +(at )?(SB |EGRESS |SB)?,?(?:"([^"]*)")?,\t.* (opensandbox_\w+|not_built) \}', text):
        if handler.startswith("opensandbox_") and method != "ANY":
            path = ("/v1" if at else "") + {"S": "/sandboxes/{sandbox}", "E":
                    "/sandboxes/{sandbox}/proxy/18080"}.get(sb[:1], "") + rest
            table.add((method.lower(), path))
        elif handler == "opensandbox_proxy":
            table |= {(m, "/v1/sandboxes/{sandbox}" + rest.replace("{*}", "{path}"))
                      for m in ("get", "put", "post", "patch", "delete")}
    assert len(table) > 22 and ("patch", "/v1/sandboxes/{sandbox}/proxy/{port}/{path}") in table
    with open(os.path.join(root, "src", "api", "opensandbox", "execd.h")) as f:
        text = f.read()
    rows = re.findall(r'\{ HTTP_M_(\w+), +at EXECD_AT "([^"]*)",.* (execd_\w+) \}', text)
    for method, path, handler in rows:
        for m in ("get", "put", "post", "patch", "delete") if method == "OTHER" else (method.lower(),):
            if handler != "execd_nothing":
                table.add((m, "/v1/sandboxes/{sandbox}/proxy/44772" + path.replace("{*}", "{path}")))
    assert len(rows) > 35
    described = {(m, p) for p, ops in doc["paths"].items() for m in ops if m != "parameters"}
    assert table == described
    view = doc["components"]["schemas"]["Sandbox"]["properties"]
    sb = os_.create(metadata={"a": "1"})
    assert set(os_.get(f"/sandboxes/{sb['id']}").json) <= set(view)
    for path, operations in doc["paths"].items():  # what it points to is there
        names = re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(operations))
        assert all(name in doc["components"][kind] for kind, name in names), path
        assert set(re.findall(r"\{(\w+)\}", path)) == {p["name"] for p in operations.get("parameters", [])}
