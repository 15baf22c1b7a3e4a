"""What does not read, route by route: OpenSandbox's and sandbox0's dialects answer it in their own form,
with their own codes and a sentence, and nothing is changed by it.

Whichever route's description has a 400 has a row here, and those that are named in a path have one for a
name that nobody has. (What the fields of a create, a claim and a policy may be is test_opensandbox.py's
and test_sandbox0.py's; what is refused inside a real sandbox the clients' tests.)"""

import json
import os
import re

import pytest

from test_opensandbox import Client as OpenSandbox
from test_role import Role
from test_sandbox0 import Client as Sandbox0

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..")
BROKEN = b"{"
PARAMETER, BODY, QUERY = "SANDBOX::INVALID_PARAMETER", "INVALID_REQUEST_BODY", "MISSING_QUERY"
LABEL, EXPIRATION, PORT = "SANDBOX::INVALID_METADATA_LABEL", "DOCKER::INVALID_EXPIRATION", "DOCKER::INVALID_PORT"

# (method, path, body, status, code, a word of the sentence); no code: the egress API's plain text.
# {s} the sandbox, {x} its execd, {e} its egress API.
OPENSANDBOX = [
    ("GET", "/sandboxes?page=0", None, 400, PARAMETER, "page"),
    ("GET", "/sandboxes?pageSize=201", None, 400, PARAMETER, "1 to 200"),
    ("GET", "/sandboxes?page=%zz", None, 400, PARAMETER, "malformed escape"),
    ("GET", "/sandboxes?state=asleep", None, 400, PARAMETER, "Running"),
    ("GET", "/sandboxes?metadata=team", None, 400, "INVALID_METADATA_FORMAT", "key=value"),
    ("POST", "/sandboxes", BROKEN, 400, PARAMETER, "line 1"),
    ("POST", "/sandboxes", [], 400, PARAMETER, "expected a JSON object"),
    ("POST", "{s}/renew-expiration", BROKEN, 400, PARAMETER, "line 1"),
    ("POST", "{s}/renew-expiration", {}, 400, EXPIRATION, "expiresAt: required"),
    ("POST", "{s}/renew-expiration", {"expiresAt": 5}, 400, EXPIRATION, "expected a string"),
    ("PATCH", "{s}/metadata", BROKEN, 400, PARAMETER, "line 1"),
    ("PATCH", "{s}/metadata", {"a": 1}, 400, LABEL, 'metadata "a"'),
    ("GET", "{s}/endpoints/0", None, 400, PORT, "1 to 65535"),
    ("GET", "{s}/endpoints/x", None, 400, PORT, "1 to 65535"),
    ("GET", "{s}/endpoints/80?expires=x", None, 400, PARAMETER, "expires"),
    ("GET", "{s}/endpoints/80?use_server_proxy=maybe", None, 400, PARAMETER, "true or false"),
    *((method, "{e}/policy", BROKEN, 400, None, "line 1") for method in ("PUT", "POST", "PATCH", "DELETE")),
    ("PUT", "{e}/policy", [], 400, None, "object"),
    ("POST", "{e}/policy", {"defaultAction": "maybe"}, 400, None, "defaultAction"),
    ("PATCH", "{e}/policy", {}, 400, None, "array"),
    ("PATCH", "{e}/policy", [{"action": "allow"}], 400, None, "target"),
    ("DELETE", "{e}/policy", [5], 400, None, "string"),
    ("GET", "{e}/nowhere", None, 404, None, "no such path"),
    ("GET", "{e}/credential-vault", None, 501, None, "not built"),
    *((method, "{s}/proxy/" + port + rest, None, 400, BODY, "1 to 65535")
      for method in ("GET", "PUT", "POST", "PATCH", "DELETE") for port in ("0", "70000") for rest in ("", "/a")),
    ("POST", "{x}/command", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/command", {}, 400, BODY, "command: must not be blank"),
    ("POST", "{x}/command", {"command": 5}, 400, BODY, "command: expected a string"),
    ("POST", "{x}/command", {"command": "a\0b"}, 400, BODY, "NUL"),
    ("POST", "{x}/command", {"command": "true", "timeout": -1}, 400, BODY, "timeout"),
    ("POST", "{x}/command", {"command": "true", "envs": []}, 400, BODY, "envs"),
    ("POST", "{x}/command", {"command": "true", "envs": {"A": 5}}, 400, BODY, "envs: A"),
    ("POST", "{x}/command", {"command": "true", "gid": 5}, 400, BODY, "needs a uid"),
    ("POST", "{x}/command", {"command": "true", "uid": -5}, 400, BODY, "uid"),
    ("POST", "{x}/command", {"command": "true", "background": "yes"}, 400, BODY, "true or false"),
    ("POST", "{x}/command", {"command": "true", "cwd": 5}, 400, BODY, "cwd"),
    ("DELETE", "{x}/command", None, 400, QUERY, "id"),
    ("GET", "{x}/command/x/logs?cursor=-1", None, 400, QUERY, "cursor"),
    ("POST", "{x}/session", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/session", {"cwd": 5}, 400, BODY, "cwd"),
    ("POST", "{x}/session/none/run", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/session/none/run", {"command": "true"}, 404, "CONTEXT_NOT_FOUND", "session"),
    ("DELETE", "{x}/session/none", None, 404, "CONTEXT_NOT_FOUND", "session"),
    ("POST", "{x}/code/context", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/code/context", {}, 400, "NOT_SUPPORTED", "python, javascript or bash"),
    ("POST", "{x}/code/context", {"language": 5}, 400, BODY, "language"),
    ("DELETE", "{x}/code/contexts", None, 400, QUERY, "language"),
    ("POST", "{x}/code", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/code", {}, 400, BODY, "code: must not be empty"),
    ("POST", "{x}/code", {"code": "1", "context": {"language": "cobol"}}, 400, "NOT_SUPPORTED", "python"),
    ("DELETE", "{x}/code", None, 400, QUERY, "id"),
    ("POST", "{x}/pty", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/pty", {"cwd": 5}, 400, BODY, "cwd"),
    ("GET", "{x}/pty/none/ws", None, 400, BODY, "WebSocket"),
    ("GET", "{x}/files/info", None, 400, QUERY, "path"),
    ("GET", "{x}/files/info?path=", None, 400, BODY, "must not be empty"),
    ("GET", "{x}/files/info?path=a%00b", None, 400, QUERY, "path"),
    ("DELETE", "{x}/files", None, 400, QUERY, "path"),
    ("POST", "{x}/files/permissions", b"[", 400, BODY, "line 1"),
    ("POST", "{x}/files/permissions", {"/x": 5}, 400, BODY, "/x: expected an object"),
    ("POST", "{x}/files/permissions", {"/x": {"mode": "rw"}}, 400, BODY, "octal"),
    ("POST", "{x}/files/mv", {}, 400, BODY, "array of {src, dest}"),
    ("POST", "{x}/files/mv", [{"src": "/a", "dest": "/b"}, 5], 400, BODY, "[1].src: expected a path"),
    ("POST", "{x}/files/mv", [{"src": "/a"}], 400, BODY, "[0].dest: expected a path"),
    ("POST", "{x}/files/replace", {"/x": 5}, 400, BODY, "/x: expected an object"),
    ("POST", "{x}/files/replace", {"/x": {"old": "", "new": "a"}}, 400, BODY, "not empty"),
    ("POST", "{x}/files/replace?verbose=maybe", {"/x": {"old": "a", "new": "b"}}, 400, BODY, "verbose"),
    ("GET", "{x}/files/search", None, 400, QUERY, "path"),
    ("POST", "{x}/files/upload", b"x", 400, "INVALID_FILE", "multipart/form-data"),
    ("GET", "{x}/files/download", None, 400, QUERY, "path"),
    ("GET", "{x}/files/download?path=/x&offset=0", None, 400, BODY, "offset"),
    ("GET", "{x}/files/download?path=/x&limit=-1", None, 400, BODY, "limit"),
    ("POST", "{x}/directories", BROKEN, 400, BODY, "line 1"),
    ("POST", "{x}/directories", {"/x": {"mode": 888}}, 400, BODY, "octal"),
    ("DELETE", "{x}/directories", None, 400, QUERY, "path"),
    ("GET", "{x}/directories/list", None, 400, QUERY, "path"),
    ("GET", "{x}/directories/list?path=/&depth=-1", None, 400, QUERY, "depth"),
    *((method, "{x}/proxy/" + port + rest, None, 400, BODY, "1 to 65535")
      for method in ("GET", "PUT", "POST", "PATCH", "DELETE") for port, rest in (("0", ""), ("70000", "/a"))),
    ("POST", "{x}/v1/isolated/session", {}, 503, "NOT_SUPPORTED", "isolated"),
    ("GET", "{x}/nothing", None, 404, "NOT_SUPPORTED", "nothing here"),
    ("PUT", "{s}", None, 405, "METHOD_NOT_ALLOWED", "GET"),
    ("GET", "{s}/nothing", None, 404, "NOT_FOUND", "route"),
    ("GET", "/sandboxes/nobody", None, 404, "DOCKER::SANDBOX_NOT_FOUND", "sandbox"),
    ("GET", "/sandboxes/%zz", None, 400, PARAMETER, "malformed path"),
]

BAD, INVALID, PATHS = "bad_request", "invalid_request", "invalid_paths"
# {c} a context
SANDBOX0 = [
    ("GET", "/sandboxes?limit=0", None, 400, BAD, "limit"),
    ("GET", "/sandboxes?status=x", None, 400, BAD, "status"),
    ("GET", "/sandboxes?paused=1", None, 400, BAD, "true or false"),
    ("GET", "/sandboxes?offset=%zz", None, 400, BAD, "malformed escape"),
    ("POST", "/sandboxes", BROKEN, 400, BAD, "invalid request"),
    ("POST", "/sandboxes", {}, 400, BAD, "template is required"),
    ("POST", "/sandboxes", {"template": 5}, 400, BAD, "template: expected a string"),
    ("POST", "/sandboxes", {"template": "default", "config": 5}, 400, BAD, "config: expected an object"),
    ("PUT", "{s}", BROKEN, 400, BAD, "invalid request"),
    ("PUT", "{s}", {}, 400, BAD, "config is required"),
    ("PUT", "{s}", {"config": {"auto_resume": "yes"}}, 400, BAD, "config.auto_resume"),
    ("PUT", "{s}", {"config": {"ttl": 9, "hard_ttl": 8}}, 400, BAD, "config.ttl"),
    ("POST", "{s}/refresh", BROKEN, 400, BAD, "invalid request"),
    ("POST", "{s}/refresh", {"duration": -1}, 400, BAD, "duration"),
    ("POST", "{s}/refresh", {"duration": "x"}, 400, BAD, "duration: expected an integer"),
    ("PUT", "{s}/network", BROKEN, 400, BAD, "invalid request"),
    ("PUT", "{s}/network", {}, 400, BAD, "mode is required"),
    ("PUT", "{s}/network", {"mode": "open"}, 400, BAD, "block-all"),
    ("PUT", "{s}/services", BROKEN, 400, BAD, "invalid request"),
    ("PUT", "{s}/services", {}, 400, BAD, "services: required"),
    ("PUT", "{s}/services", {"services": 5}, 400, BAD, "services: expected an array"),
    ("PUT", "{s}/exposed-ports", {}, 400, BAD, "exposed_ports: required"),
    ("PUT", "{s}/exposed-ports", {"ports": [{"port": 0}]}, 400, BAD, "exposed_ports[0].port"),
    ("DELETE", "{s}/exposed-ports/9", None, 404, "not_found", "not exposed"),
    ("POST", "{s}/contexts", BROKEN, 400, BAD, "invalid request"),
    ("POST", "{s}/contexts", {}, 400, INVALID, "either cmd or repl"),
    ("POST", "{s}/contexts", {"cmd": {"command": []}}, 400, INVALID, "command"),
    ("POST", "{s}/contexts", {"cmd": {"command": ["a"]}, "ttl_sec": -1}, 400, INVALID, "ttl_sec"),
    ("POST", "{s}/contexts", {"type": "x", "cmd": {"command": ["a"]}}, 400, INVALID, "cmd or repl"),
    ("POST", "{s}/contexts", {"cmd": {"command": ["a"]}, "pty_size": {"rows": 0, "cols": 5}}, 400, INVALID, "rows"),
    ("POST", "{s}/contexts", {"cmd": {"command": ["a"]}, "cwd": 5}, 400, INVALID, "cwd"),
    ("POST", "{s}/contexts", {"cmd": {"command": ["a"]}, "env_vars": {"A=": "b"}}, 400, INVALID, "env_vars"),
    ("POST", "{s}/contexts", {"repl": {"alias": "cobol"}}, 400, INVALID, "repl_config"),
    ("GET", "{s}/contexts/nosuch", None, 404, "context_not_found", "context"),
    ("DELETE", "{s}/contexts/nosuch", None, 404, "context_not_found", "context"),
    ("POST", "{s}/contexts/nosuch/restart", None, 404, "context_not_found", "context"),
    ("POST", "{c}/input", BROKEN, 400, BAD, "invalid request"),
    ("POST", "{c}/input", {}, 400, INVALID, "data"),
    ("POST", "{c}/input", {"data": 5}, 400, INVALID, "data: expected a string"),
    ("POST", "{c}/exec", {"data": ""}, 400, INVALID, "data"),
    ("POST", "{c}/resize", {"rows": 0, "cols": 1}, 400, INVALID, "rows"),
    ("POST", "{c}/resize", {"rows": 1}, 400, INVALID, "cols: required"),
    ("POST", "{c}/signal", {}, 400, INVALID, "INT, TERM"),
    ("POST", "{c}/signal", {"signal": "NOSUCH"}, 400, INVALID, "INT, TERM"),
    ("POST", "{c}/signal", {"signal": "65"}, 400, INVALID, "1 to 64"),
    ("GET", "{c}/ws", None, 400, BAD, "WebSocket"),
    ("GET", "{s}/files", None, 400, INVALID, "path: required"),
    ("GET", "{s}/files?path=a%00b", None, 400, INVALID, "path"),
    ("POST", "{s}/files", b"x", 400, INVALID, "path: required"),
    ("POST", "{s}/files?path=/x&mkdir=maybe", b"", 400, INVALID, "mkdir"),
    ("DELETE", "{s}/files", None, 400, INVALID, "path: required"),
    ("GET", "{s}/files/stat", None, 400, INVALID, "path: required"),
    ("GET", "{s}/files/list", None, 400, INVALID, "path: required"),
    ("GET", "{s}/files/watch", None, 400, INVALID, "WebSocket"),
    ("POST", "{s}/files/move", BROKEN, 400, BAD, "invalid request"),
    ("POST", "{s}/files/move", {}, 400, PATHS, "source: required"),
    ("POST", "{s}/files/move", {"source": 5, "destination": "/b"}, 400, PATHS, "source: expected a string"),
    ("POST", "{s}/files/move", {"source": "/a"}, 400, PATHS, "destination: required"),
    ("GET", "/templates/none", None, 404, "not_found", "template"),
    ("POST", "/templates", {}, 405, "method_not_allowed", "GET"),
    ("PATCH", "{s}", {}, 405, "method_not_allowed", "GET"),
    ("GET", "/sandboxes/nobody", None, 404, "not_found", "sandbox"),
    ("GET", "/sandboxes/%zz", None, 400, BAD, "malformed path"),
    # What the contract has and is not built: no route, and so said.
    *((method, path, {} if method == "POST" else None, 404, "not_found", "route") for method, path in (
        ("POST", "{s}/snapshots"), ("GET", "{s}/snapshots"), ("POST", "{s}/rootfs/restore"), ("POST", "{s}/fork"),
        ("GET", "{s}/sessions"), ("GET", "/sandbox-rootfs-snapshots/x"), ("GET", "/sandboxvolumes"),
        ("GET", "/credential-sources"), ("POST", "/credential-sources"))),
]


@pytest.fixture(scope="module")
def role(tmp_path_factory):
    r = Role(str(tmp_path_factory.mktemp("role")), [])
    yield r
    r.end()


@pytest.fixture(scope="module")
def os_(role):
    c = OpenSandbox(role)
    c.box = c.create(networkPolicy={})["id"]
    c.token = c.egress(c.box).headers
    return c


@pytest.fixture(scope="module")
def s0(role):
    c = Sandbox0(role)
    c.box = c.claim(network={"mode": "block-all"})
    return c


def state(role):
    """Every sandbox as its owner sees it, and how often its policy was changed."""
    rows = role.get("/v1/sandboxes").data["data"]
    return rows, [role.get(f"/v1/sandboxes/{r['id']}/egress/versions").data["pagination"]["total"] for r in rows]


def test_opensandbox(role, os_):
    before = state(role)
    for method, path, body, status, code, word in OPENSANDBOX:
        at = path.format(s=f"/sandboxes/{os_.box}", x=f"/sandboxes/{os_.box}/proxy/44772",
                         e=f"/sandboxes/{os_.box}/proxy/18080")
        a = os_.ask(method, at, body, headers=os_.token if "{e}" in path else None)
        row = (method, path, body, a.status, a.body)
        assert a.status == status, row
        if code:
            assert a.headers["content-type"] == "application/json" and set(a.json) == {"code", "message"}, row
            assert a.json["code"] == code and word in a.json["message"], row
        else:
            assert a.headers["content-type"].startswith("text/plain") and word in a.body.decode(), row
    assert state(role) == before


def test_sandbox0(role, s0):
    before = state(role)
    for method, path, body, status, code, word in SANDBOX0:
        at = path.format(s=f"/sandboxes/{s0.box}", c=f"/sandboxes/{s0.box}/contexts/ctx-00000000")
        a = role.ask(method, "/api/v1" + at, body, key=None, headers={"Authorization": f"Bearer {s0.key}"})
        row = (method, path, body, a.status, a.body)
        assert a.status == status and a.headers["content-type"] == "application/json", row
        assert set(a.json) == {"success", "error"} and a.json["success"] is False, row
        assert a.json["error"]["code"] == code and word in a.json["error"]["message"], row
    assert state(role) == before


def missing(name, base, rows):
    """Routes of a description with a 400 of their own that no row asks with one."""
    with open(os.path.join(ROOT, "doc", name)) as f:
        doc = json.load(f)
    asked = {(m, re.sub(r"\?.*", "", base + p)) for m, p, _, status, *_ in rows if status == 400}
    lacks = set()
    for path, operations in doc["paths"].items():
        like = re.compile("[^/]+".join(re.escape(piece) for piece in re.split(r"\{\w+\}", path)) + "$")
        for method in operations.keys() - {"parameters"}:
            if "400" in operations[method]["responses"] and not any(
                    m == method.upper() and like.match(p) for m, p in asked):
                lacks.add((method.upper(), path))
    return lacks


def test_every_route_has_a_row():
    spelled = {"{s}": "/sandboxes/x", "{x}": "/sandboxes/x/proxy/44772", "{e}": "/sandboxes/x/proxy/18080",
               "{c}": "/sandboxes/x/contexts/c"}

    def rows(table):
        return [(m, re.sub(r"\{\w+\}", lambda k: spelled[k[0]], p), *rest) for m, p, *rest in table]

    assert missing("openapi-opensandbox.json", "/v1", rows(OPENSANDBOX)) == set()
    assert missing("openapi-sandbox0.json", "/api/v1", rows(SANDBOX0)) == set()
    # The control: without its rows a route is missed.
    less = [row for row in rows(SANDBOX0) if not row[1].endswith("/network")]
    assert missing("openapi-sandbox0.json", "/api/v1", less) == {("PUT", "/api/v1/sandboxes/{sandbox}/network")}
