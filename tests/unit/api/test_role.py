"""The whole api role against a played host, edge and agent: no root, no kernel objects.

Each test gets a role of its own, a key, and a line to the host it plays with (play_host.c)."""

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

PLAY = os.environ["PLAY_HOST"]
API = os.environ["WEIR_API_PLAYED"]


def until(what, fn, seconds=60):
    """Wait for a condition; the pause between looks is not the thing under test."""
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        assert self.status < 300, self.body
        assert self.json["status"] == "success"
        return self.json["data"]

    def fails(self, status, field=None):
        assert self.status == status, (self.status, self.body)
        assert "application/json" in self.headers["content-type"]
        body = self.json
        if status < 500:
            assert body["status"] == "fail"
            if field:
                assert field in body["data"], body
                return body["data"][field]
            return body["data"]
        assert body["status"] == "error" and body["code"] == status
        return body["message"]


class Role:
    def __init__(self, state, settings):
        self.state = str(state)
        self.log = open(os.path.join(self.state, "log"), "ab+")
        self.play = subprocess.Popen([PLAY, API, self.state, *settings], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1)
        self.started()
        self.key = open(os.path.join(self.state, "admin.key")).read().strip()

    def started(self):
        _, pid, port = self.play.stdout.readline().split()
        self.pid, self.port = int(pid), int(port)
        until("ready", lambda: self.get("/readyz", key=None).status == 200)

    def host(self, command):
        self.play.stdin.write(command + "\n")
        lines = []
        while True:
            line = self.play.stdout.readline().rstrip("\n")
            if line == "." or line == "ok":
                return lines
            assert line or self.play.poll() is None, "the played host ended"
            lines.append(line)

    def calls(self):
        return [line.split() for line in self.host("log")]

    def restart(self):
        os.kill(self.pid, signal.SIGKILL)
        self.started()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, key="", headers=None):
        c = self.connect()
        h = dict(headers or {})
        if key is not None:
            h["X-Api-Key"] = key or self.key
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            h["Content-Type"] = "application/json"
        c.request(method, path, body, h)
        return Answer(c.getresponse())

    def get(self, path, **kw):
        return self.ask("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.ask("POST", path, body, **kw)

    def create(self, **fields):
        return self.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", **fields}).data

    def view(self, sb):
        return self.get(f"/v1/sandboxes/{sb}").data

    def exec(self, sb, cmd, *args, **more):
        return self.post(f"/v1/sandboxes/{sb}/exec", {"cmd": cmd, "args": list(args), **more})

    def settled(self, sb, status):
        return until(status, lambda: (lambda v: v if v["status"] == status else None)(self.view(sb)))

    def stream(self, path, method="GET", body=None):
        c = self.connect()
        c.request(method, path, json.dumps(body) if body else None, {"X-Api-Key": self.key})
        r = c.getresponse()
        r.connection = c
        return r

    def end(self):
        self.play.stdin.close()
        self.play.wait(timeout=60)
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        assert "seccomp" not in text, text
        assert "ERROR: " not in text, text  # a sanitizer's


@pytest.fixture
def settings():
    return []


@pytest.fixture
def role(tmp_path, settings):
    r = Role(tmp_path, settings)
    yield r
    r.end()


# --- open routes, envelope, dispatch ---

def test_open_routes_need_no_key(role):
    assert role.get("/healthz", key=None).data == {"up": True}
    assert role.get("/readyz", key=None).data["ready"] is True
    shapes = role.get("/v1/shapes?limit=500&offset=0", key=None).data
    assert shapes["pagination"] == {"total": 9, "limit": 500, "offset": 0, "count": 9}
    assert {"id": "s-0.5vcpu-1gb", "vcpu": 1, "mem_mib": 1024, "default_disk_mib": 10240,
            "cpu_quota_pct": 50} in shapes["data"]
    rootfs = role.get("/v1/rootfs", key=None).data
    assert rootfs["default"] == "devbox:1" and rootfs["rootfs"] == ["devbox:1", "debian:13"]
    assert json.loads(role.get("/openapi.json", key=None).body)["openapi"].startswith("3.")


def test_credentials(role):
    for key in (None, "nonsense", role.key + "x", role.key[:-1]):
        assert role.get("/v1/whoami", key=key).fails(401, "auth") == "missing or invalid API key"
    assert role.get("/v1/nowhere", key=None).fails(401, "auth")
    assert role.get("/v1/whoami", headers={"Authorization": "Bearer x", "X-Auth-Token": "y"}).status == 200


def test_unknown_routes_and_methods(role):
    role.get("/v1/nowhere").fails(404, "path")
    a = role.ask("DELETE", "/v1/whoami")
    a.fails(405, "method")
    assert a.headers["allow"] == "GET, HEAD, OPTIONS"
    assert role.ask("POST", "/healthz", key=None).status == 405
    a = role.ask("OPTIONS", "/v1/sandboxes", key=None)
    assert a.status == 204 and a.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    a = role.ask("HEAD", "/v1/whoami")
    assert a.status == 200 and a.body == b""
    assert role.get("/v1/whoami").headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("path, headers, wrong, code", [
    ("/api/v1/sandboxes", {}, {"Authorization": "bearer x"}, "unauthorized"),
    ("/v1/sandboxes", {"OPEN-SANDBOX-API-KEY": ""}, {"OPEN-SANDBOX-API-KEY": "x"}, "MISSING_API_KEY"),
    ("/v1/sandboxes", {"User-Agent": "OpenSandbox-Python-SDK/1"}, {"OPEN-SANDBOX-API-KEY": "x"},
     "MISSING_API_KEY"),
    ("/sandboxes", {}, {"OPEN-SANDBOX-API-KEY": "x"}, "MISSING_API_KEY"),
    ("/v1/sandboxes/x/endpoints/80", {}, {"OPEN-SANDBOX-API-KEY": "x"}, "MISSING_API_KEY"),
])
def test_a_dialect_is_told_by_path_and_headers(role, path, headers, wrong, code):
    """Each refuses in its own form; CreateOS's key header is none of theirs."""
    def code_of(answer):
        body = json.loads(answer.body)
        return body["error"]["code"] if "error" in body else body["code"]
    a = role.get(path, key=None, headers={"X-Api-Key": role.key, **headers})
    assert a.status == 401 and code_of(a) == code
    a = role.get(path, key=None, headers={**headers, **wrong})
    assert a.status == 401 and code_of(a) in ("unauthorized", "INVALID_API_KEY")


def test_what_other_dialects_lack_is_refused_in_their_form(role):
    a = role.get("/api/v1/no-such", key=None, headers={"Authorization": f"Bearer {role.key}"})
    assert a.status in (400, 404) and json.loads(a.body)["success"] is False
    a = role.get("/v1/no-such", key=None, headers={"OPEN-SANDBOX-API-KEY": role.key})
    assert a.status == 404 and json.loads(a.body)["code"] == "NOT_FOUND"


def test_what_is_not_built_looks_for_the_sandbox_first(role):
    sb = role.create()["id"]
    for path in ("processes", "shell", "metrics", "computer/screen"):
        assert "not built" in role.post(f"/v1/sandboxes/{sb}/{path}").fails(501)
        role.post(f"/v1/sandboxes/sb-{'0' * 26}/{path}").fails(404, "id")
    assert "configured" in role.get("/v1/disks").fails(503)
    assert "not built" in role.get("/v1/templates/x/logs").fails(501)


@pytest.mark.parametrize("settings", [["api.cors_origins = https://a.example, https://b.example"]])
def test_cors(role):
    a = role.ask("OPTIONS", "/v1/sandboxes", key=None,
                 headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"})
    assert a.status == 204 and "X-Fc-Runtime" in a.headers["access-control-allow-headers"]
    assert a.headers["access-control-allow-origin"] == "https://b.example"
    a = role.get("/v1/whoami", headers={"Origin": "https://a.example"})
    assert a.headers["access-control-expose-headers"] == "x-request-id"
    a = role.get("/v1/whoami", headers={"Origin": "https://c.example"})
    assert a.headers["access-control-allow-origin"] is None


def test_bodies(role):
    assert role.post("/v1/sandboxes", "{nope").fails(400, "body")
    assert role.post("/v1/sandboxes", "[]").fails(400, "body")
    assert role.post("/v1/sandboxes", b"").fails(400, "shape")  # empty is {}
    assert role.get("/v1/whoami", headers={"Content-Type": "application/json"}).status == 200


# --- create, view, list ---

def test_create_in_order(role):
    role.calls()
    view = role.create(name="demo-one", egress=["pypi.org", "1.1.1.1:53"], envs={"A": "secret"},
                       auto_pause_after_seconds=60)
    steps = [c[0] for c in role.calls()]
    assert steps == ["SPAWN", "SET", "COMMIT"]
    assert view["status"] == "running" and view["name"] == "demo-one"
    assert view["egress"] == ["pypi.org", "1.1.1.1:53"] and view["envs"] == ["A"]
    assert view["bandwidth_quota_bytes"] == -1 and view["ingress_enabled"] is False
    assert view["vcpu"] == 1 and view["mem_mib"] == 256 and view["disk_mib"] == 10240
    assert view["auto_pause_after_seconds"] == 60 and "secret" not in json.dumps(view)
    assert role.view(view["id"]) == {**view}
    assert role.view(view["id"].upper().replace("-", "_")) == view
    assert role.get(f"/v1/sandboxes/by-ip/{view['ip']}").data["id"] == view["id"]
    role.get("/v1/sandboxes/by-ip/10.60.99.99").fails(404)


@pytest.mark.parametrize("fields, status, field", [
    ({"shape": "s-3vcpu-1gb"}, 400, "shape"),
    ({"shape": 3}, 400, "shape"),
    ({"shape": None}, 400, "shape"),
    ({"rootfs": "nope:1"}, 400, "rootfs"),
    ({"name": "Upper"}, 400, "name"),
    ({"name": "x" * 23}, 400, "name"),
    ({"name": "-x"}, 400, "name"),
    ({"name": "net-x"}, 400, "name"),
    ({"egress": ["a..b"]}, 400, "egress"),
    ({"egress": "pypi.org"}, 400, "egress"),
    ({"egress": ["169.254.169.254"]}, 400, "egress"),
    ({"egress": ["a.example"] * 257}, 400, "egress"),
    ({"envs": {"1A": "x"}}, 400, "envs"),
    ({"envs": {"A": "x" * 4097}}, 400, "envs"),
    ({"envs": {"A": 1}}, 400, "envs"),
    ({"ssh_pubkeys": ["hello"]}, 400, "ssh_pubkeys"),
    ({"auto_pause_after_seconds": 59}, 400, "auto_pause_after_seconds"),
    ({"auto_pause_after_seconds": 86401}, 400, "auto_pause_after_seconds"),
    ({"bandwidth_quota_bytes": 1}, 400, "bandwidth_quota_bytes"),
    ({"disk_mib": -1}, 400, "disk_mib"),
    ({"disk_mib": 1 << 30}, 400, "disk_mib"),
    ({"host_id": "other"}, 400, "host_id"),
    ({"region": "mars"}, 400, "region"),
    ({"runtime": "jail"}, 400, "runtime"),
    ({"runtime": "vm"}, 501, None),
    ({"node_selector": {"runtime": "vm"}}, 501, None),
    ({"node_selector": {"gpu": "yes"}}, 503, None),
    ({"networks": [{"id": "x"}]}, 404, "id"),
    ({"networks": {"id": "x"}}, 400, "networks"),
    ({"networks": ["x"]}, 400, "networks"),
    ({"networks": [{"id": 7}]}, 400, "networks"),
    ({"disks": [{"disk_id": "x"}]}, 501, None),
    ({"ingress_enabled": "yes"}, 400, "ingress_enabled"),
    ({"ingress_access": "friends"}, 400, "ingress_access"),
])
def test_create_refusals_leave_nothing(role, fields, status, field):
    role.calls()
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", **fields}).fails(status, field)
    assert role.get("/v1/sandboxes").data["pagination"]["total"] == 0
    assert not [c for c in role.calls() if c[0] not in ("IMAGES", "INFO", "LIST", "SYNCED")]


def test_create_accepts_what_is_harmless(role):
    view = role.create(networks=[], disks=[], host_id="played", region="local", rootfs="",
                       node_selector={"runtime": "container"}, bandwidth_quota_bytes=0, unknown=1,
                       ingress_enabled=False, disk_mib=0)
    assert view["rootfs"] == "devbox:1"


def test_names_are_unique_while_they_live(role):
    a = role.create(name="twin")
    assert "twin" in role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "name": "twin"}).fails(409, "name")
    role.ask("DELETE", f"/v1/sandboxes/{a['id']}")
    role.create(name="twin")
    assert len({role.create()["name"] for _ in range(20)}) == 20


def test_no_capacity_leaves_nothing(role):
    role.host("fail SPAWN 12")  # ERR_CAPACITY
    a = role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "name": "again"})
    assert "capacity" in a.fails(503) and a.headers["retry-after"]
    assert role.get("/v1/sandboxes").data["pagination"]["total"] == 0
    role.create(name="again")


@pytest.mark.parametrize("step", ["SPAWN", "SET", "COMMIT"])
def test_a_failed_step_is_undone(role, step):
    role.calls()
    role.host(f"fail {step} 0")
    assert role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "name": "once"}).fails(500) == "internal error"
    steps = [c[0] for c in role.calls()]
    assert steps[-1] == "DESTROY" and ("DEL" in steps) == (step != "SPAWN")
    listed = role.get("/v1/sandboxes").data["data"]
    assert [v["status"] for v in listed] == ["failed"]
    role.create(name="once")  # a failed one does not hold the name
    a = role.ask("DELETE", f"/v1/sandboxes/{listed[0]['id']}")
    assert a.data == {"id": listed[0]["id"], "status": "destroyed"}


def test_a_client_that_leaves_during_create(role):
    role.host("hold SPAWN")
    c = role.connect()
    c.request("POST", "/v1/sandboxes", '{"shape":"s-1vcpu-256mb","name":"left"}', {"X-Api-Key": role.key})
    until("asked", lambda: [x for x in role.get("/v1/sandboxes").data["data"] if x["status"] == "creating"])
    c.close()
    sb = until("deleting", lambda: [x for x in role.get("/v1/sandboxes?status=destroying").data["data"]])[0]
    role.host("release")
    role.settled(sb["id"], "destroyed")
    assert [c for c in role.calls() if c[0] == "DESTROY"][-1][1] == sb["id"]


def test_list(role):
    ids = [role.create()["id"] for _ in range(5)]
    page = role.get("/v1/sandboxes?limit=2&offset=1").data
    # Newest first is by id; ids of one millisecond are in no order but always the same.
    assert [v["id"] for v in page["data"]] == sorted(ids, reverse=True)[1:3]
    assert page["pagination"] == {"total": 5, "limit": 2, "offset": 1, "count": 2}
    role.ask("DELETE", f"/v1/sandboxes/{ids[0]}")
    role.settled(ids[0], "destroyed")
    assert role.get("/v1/sandboxes?status=running,paused").data["pagination"]["total"] == 4
    assert role.get("/v1/sandboxes?status=destroyed").data["data"][0]["id"] == ids[0]
    assert role.get("/v1/sandboxes?limit=9999").data["pagination"]["limit"] == 500
    assert role.get("/v1/sandboxes?limit=0").data["pagination"]["limit"] == 50
    for bad in ("limit=-1", "limit=x", "offset=-1", "status=asleep", "limit=%zz"):
        role.get(f"/v1/sandboxes?{bad}").fails(400)
    assert role.get("/v1/whoami").data["stats"] == {"running": 4, "paused": 0, "other": 0, "total": 4}
    hosts = role.get("/v1/hosts").data["data"]
    assert hosts[0]["id"] == "played" and hosts[0]["status"] == "active"


@pytest.mark.parametrize("settings", [["sandboxes.per_user = 2"]])
def test_quota(role):
    role.create()
    role.create()
    assert "limit reached" in role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb"}).fails(403, "quota")


# --- keys and tenants ---

def test_tenants_do_not_see_each_other(role):
    mine = role.create()
    other = role.post("/v1/keys", {"name": "other"}).data
    assert other["id"].startswith("key-") and other["key"].startswith("weir_")
    for method, path in [("GET", ""), ("DELETE", ""), ("PATCH", ""), ("POST", "/exec"), ("PUT", "/egress"),
                         ("GET", "/files?path=/x"), ("POST", "/networks"), ("POST", "/fork"),
                         ("GET", "/denials"), ("GET", "/egress/explain"), ("POST", "/pause")]:
        a = role.ask(method, f"/v1/sandboxes/{mine['id']}{path}", {}, key=other["key"])
        assert a.fails(404, "id") == "sandbox not found"
    assert role.get("/v1/sandboxes", key=other["key"]).data["data"] == []
    role.get(f"/v1/sandboxes/by-ip/{mine['ip']}", key=other["key"]).fails(404)
    role.get("/v1/keys", key=other["key"]).fails(403)
    role.post("/v1/rootfs/build", {"name": "x"}, key=other["key"]).fails(403)


def test_keys(role):
    k = role.post("/v1/keys", {"name": "ci", "admin": True}).data
    listed = role.get("/v1/keys").data
    assert {x["name"] for x in listed["data"]} == {"admin", "ci"}
    assert not [x for x in listed["data"] if "key" in x]
    assert role.get("/v1/keys", key=k["key"]).status == 200
    role.restart()
    assert role.get("/v1/whoami", key=k["key"]).status == 200
    assert role.ask("DELETE", f"/v1/keys/{k['id']}").data == {"revoked": True}
    role.get("/v1/whoami", key=k["key"]).fails(401)
    role.ask("DELETE", f"/v1/keys/{k['id']}").fails(404)
    role.post("/v1/keys", {"name": ""}).fails(400, "name")
    assert (os.stat(os.path.join(role.state, "admin.key")).st_mode & 0o777) == 0o600
    for name in os.listdir(role.state):
        if name.startswith("weir.db"):
            content = open(os.path.join(role.state, name), "rb").read()
            assert role.key.encode() not in content and k["key"].encode() not in content


# --- exec ---

def test_exec_buffered(role):
    sb = role.create(envs={"A": "one"})["id"]
    a = role.exec(sb, "echo", "a b", "c\nd", "gr\u00fc\u00df").data
    assert a["result"] == {"stdout": "a b c\nd gr\u00fc\u00df\n", "stderr": "", "exit_code": 0}
    assert isinstance(a["exec_ms"], (int, float))
    a = role.exec(sb, "exit", "3").data
    assert a["result"] == {"stdout": "", "stderr": "going\n", "exit_code": 3}
    a = role.exec(sb, "missing").data["result"]
    assert a["exit_code"] == 127 and "not found" in a["error"]
    assert role.exec(sb, "cat", stdin="input").data["result"]["stdout"] == "input"
    assert role.exec(sb, "env", "A").data["result"]["stdout"] == "one"
    assert role.exec(sb, "env", "A", env={"A": "two"}).data["result"]["stdout"] == "two"
    assert "B" in role.exec(sb, "env", "B", env={"B": "x"}).fails(400, "env")
    role.exec(sb, "").fails(400, "cmd")
    role.post(f"/v1/sandboxes/{sb}/exec", {}).fails(400, "cmd")
    role.exec(sb, "echo", 3).fails(400, "args")
    assert role.exec(sb, "bytes", "61ff62e282").data["result"]["stdout"] == "a\ufffdb\ufffd\ufffd"
    assert "garbage" in role.exec(sb, "garbage").fails(502)


def test_exec_truncates_and_says_so(role):
    sb = role.create()["id"]
    r = role.exec(sb, "flood", str(17 * 1024)).data["result"]
    assert len(r["stdout"]) == 16 << 20 and r["error"] == "stdout truncated at 16 MiB"
    assert "weir_exec_held_bytes 0\n" in role.get("/metrics").body.decode()


def test_metrics_of_machines(role):
    """What the host role counts is told under the right names; where it does not answer, the rest is told."""
    text = role.get("/metrics").body.decode()
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("weir_vm_"))
    kinds = ("boot", "warm", "ready", "resume", "fork")
    assert found == {f'weir_vm_starts_total{{kind="{kind}"}}': str(i + 1) for i, kind in enumerate(kinds)} | {
        'weir_vm_templates_made_total{kind="warm"}': "6", 'weir_vm_templates_made_total{kind="fork"}': "9",
        'weir_vm_templates{kind="warm"}': "7", 'weir_vm_templates{kind="fork"}': "10",
        'weir_vm_templates_bytes{kind="warm"}': str(8 << 20), 'weir_vm_templates_bytes{kind="fork"}': str(11 << 20),
        "weir_vm_ready": "12", "weir_vm_ready_bytes": str(13 << 20)}
    role.host("fail MACHINES 1")
    refused = role.get("/metrics")
    assert refused.status == 200 and b"weir_vm_" not in refused.body and b"weir_sandboxes" in refused.body
    role.host("hold MACHINES")
    assert b"weir_vm_" not in role.get("/metrics").body
    role.host("release")
    assert b"weir_vm_ready" in role.get("/metrics").body


def lines_of(response):
    return [json.loads(line) for line in response.read().decode().splitlines() if line]


def test_exec_streamed(role):
    sb = role.create()["id"]
    path = f"/v1/sandboxes/{sb}/exec?stream=true"
    r = role.stream(path, "POST", {"cmd": "exit", "args": ["2"], "stream": True})
    assert r.headers["content-type"] == "application/x-ndjson"
    assert lines_of(r) == [{"stderr": "going\n"}, {"exit_code": 2}]
    assert lines_of(role.stream(path, "POST", {"cmd": "missing"})) == [
        {"error": "missing: not found"}, {"exit_code": 127}]
    assert lines_of(role.stream(path, "POST", {"cmd": "bytes", "args": ["c3bcff"]})) == [
        {"stdout": "\u00fc\ufffd"}, {"exit_code": 0}]
    assert lines_of(role.stream(path, "POST", {"cmd": "garbage"})) == [{"error": "the agent sent garbage"}]
    frames = lines_of(role.stream(path, "POST", {"cmd": "flood", "args": ["2048"]}))
    assert sum(len(f.get("stdout", "")) for f in frames) == 2 << 20 and frames[-1] == {"exit_code": 0}
    role.post(path, {}).fails(400, "cmd")


def test_exec_streamed_does_not_run_ahead_of_its_reader(role):
    """Back-pressure: 200 MiB towards a client that does not read must stay with the agent."""
    sb = role.create()["id"]
    s = socket.create_connection(("127.0.0.1", role.port))
    body = json.dumps({"cmd": "flood", "args": [str(200 * 1024)], "stream": True})
    s.sendall((f"POST /v1/sandboxes/{sb}/exec HTTP/1.1\r\nHost: x\r\nX-Api-Key: {role.key}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    s.recv(10)
    rss = lambda: int(open(f"/proc/{role.pid}/statm").read().split()[1]) * 4096
    role.exec(sb, "nap", "300")
    assert rss() < 64 << 20
    s.close()
    until("freed", lambda: role.exec(sb, "true").status == 200)


def test_a_heartbeat_comes_every_five_seconds(role):
    sb = role.create()["id"]
    before = time.monotonic()
    r = role.stream(f"/v1/sandboxes/{sb}/exec", "POST", {"cmd": "wait", "stream": True})
    assert r.readline() == b'{"hb":true}\n'
    assert 4.9 < time.monotonic() - before < 60  # which is the client's limit
    r.connection.close()


# --- files ---

def test_files(role):
    sb = role.create()["id"]
    url = f"/v1/sandboxes/{sb}/files?path="
    content = os.urandom(3 << 20)
    a = role.ask("PUT", url + urllib.parse.quote_plus("/tmp/a b+c.bin"), content)
    assert a.data == {"bytes": len(content), "path": "/tmp/a b+c.bin"}
    a = role.get(url + "/tmp/a+b%2Bc.bin")
    assert a.body == content and a.headers["content-type"] == "application/octet-stream"
    assert a.headers["content-length"] == str(len(content))
    a = role.ask("HEAD", url + "/tmp/a+b%2Bc.bin")
    assert a.status == 200 and a.body == b""
    c = role.connect()
    c.request("PUT", url + "/chunked", iter([b"one", b"two"]), {"X-Api-Key": role.key}, encode_chunked=True)
    assert Answer(c.getresponse()).data["bytes"] == 6
    assert role.ask("PUT", url + "/empty", b"").data["bytes"] == 0
    assert role.get(url + "/empty").body == b""
    assert role.get(url + "/none").fails(404, "path") == "no such file"
    for bad in ("relative", "", "%zz", "/a%00b"):
        role.get(url + bad).fails(400, "path")
        role.ask("PUT", url + bad, b"x").fails(400, "path")
    role.get(f"/v1/sandboxes/{sb}/files").fails(400, "path")


# --- lifecycle ---

def test_pause_and_resume(role):
    sb = role.create()["id"]
    a = role.post(f"/v1/sandboxes/{sb}/pause")
    assert a.status == 202 and a.headers["x-poll-after"] and a.data["status"] == "pausing"
    assert a.data["id"] == sb
    v = role.settled(sb, "paused")
    assert v["paused_at"]
    assert role.post(f"/v1/sandboxes/{sb}/pause").status == 200
    assert "paused" in role.exec(sb, "true").fails(409, "status")
    role.get(f"/v1/sandboxes/{sb}/files?path=/x").fails(409, "status")
    role.calls()
    a = role.post(f"/v1/sandboxes/{sb}/resume")
    assert a.status == 202 and a.data["status"] == "resuming"
    assert role.exec(sb, "echo", "at once").data["result"]["stdout"] == "at once\n"  # held, not refused
    assert [c[0] for c in role.calls()] == ["THAW"]
    a = role.post(f"/v1/sandboxes/{sb}/resume")
    assert a.status == 200 and a.data["status"] == "running" and a.data["last_resumed_at"]


def test_requests_are_held_while_it_settles(role):
    sb = role.create()["id"]
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    role.host("hold THAW")
    role.post(f"/v1/sandboxes/{sb}/resume")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = [pool.submit(role.exec, sb, "echo", str(i)) for i in range(8)]
        role.post(f"/v1/sandboxes/{sb}/pause").fails(409, "status")
        assert role.post(f"/v1/sandboxes/{sb}/resume").status == 202
        assert not any(w.done() for w in waiting)
        role.host("release")
        assert [w.result().data["result"]["stdout"] for w in waiting] == [f"{i}\n" for i in range(8)]


def test_pause_bounces_what_does_not_end(role):
    sb = role.create()["id"]
    stream = role.stream(f"/v1/sandboxes/{sb}/exec", "POST", {"cmd": "wait", "stream": True})
    with concurrent.futures.ThreadPoolExecutor() as pool:
        buffered = pool.submit(role.exec, sb, "wait")
        short = pool.submit(role.exec, sb, "nap", "100")
        until("running", lambda: not short.done() and not buffered.done())
        time.sleep(0.05)  # let both reach the agent; either order is right
        role.post(f"/v1/sandboxes/{sb}/pause")
        assert short.result().status == 200
        assert "pausing" in buffered.result().fails(409, "status")
    frames = lines_of(stream)
    assert len(frames) == 1 and "pausing" in frames[0]["error"]
    role.settled(sb, "paused")


def test_a_failed_freeze_leaves_it_running(role):
    sb = role.create()["id"]
    role.host("fail FREEZE 0")
    role.post(f"/v1/sandboxes/{sb}/pause")
    assert role.settled(sb, "running")["reason"]
    assert role.exec(sb, "true").status == 200


def test_delete_is_idempotent_and_the_row_stays(role):
    sb = role.create()["id"]
    role.host("hold DESTROY")
    assert role.ask("DELETE", f"/v1/sandboxes/{sb}").data == {"id": sb, "status": "destroying"}
    assert role.ask("DELETE", f"/v1/sandboxes/{sb}").data["status"] == "destroying"
    role.exec(sb, "true").fails(409, "status")
    role.host("release")
    assert role.settled(sb, "destroyed")["destroyed_at"]
    assert role.ask("DELETE", f"/v1/sandboxes/{sb}").data["status"] == "destroyed"
    role.exec(sb, "true").fails(404, "id")
    role.post(f"/v1/sandboxes/{sb}/pause").fails(409)
    assert role.get(f"/v1/sandboxes/{sb}/egress").data == {"id": sb, "egress": []}
    role.ask("PUT", f"/v1/sandboxes/{sb}/egress", {"egress": []}).fails(409)
    assert [c[0] for c in role.calls()][-2:] == ["DEL", "DESTROY"]


def test_delete_while_creating(role):
    role.host("hold COMMIT")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = pool.submit(role.post, "/v1/sandboxes", {"shape": "s-1vcpu-256mb"})
        sb = until("row", lambda: role.get("/v1/sandboxes").data["data"])[0]["id"]
        assert "ip" not in role.view(sb)
        role.ask("DELETE", f"/v1/sandboxes/{sb}").data
        role.host("release")
        made.result().fails(409, "status")
    role.settled(sb, "destroyed")


def test_a_sandbox_that_dies_can_be_resumed_from_its_disk(role):
    v = role.create()
    role.host(f"died {v['id']}")
    e = role.settled(v["id"], "error")
    assert "ended" in e["reason"]
    until("reclaimed", lambda: "DESTROY" in [c[0] for c in role.calls()] or None)
    role.post(f"/v1/sandboxes/{v['id']}/resume")
    back = role.settled(v["id"], "running")
    assert back["ip"] == v["ip"] and "reason" not in back
    steps = role.calls()
    assert ["SPAWN", v["id"], "1"] in steps
    assert [c[0] for c in steps if c[1] == v["id"]] == ["SPAWN", "SET", "COMMIT"]


def test_self_signals(role):
    sb = role.create()["id"]
    role.exec(sb, "signal", "pause")
    assert role.settled(sb, "paused")["reason"] == "asked from inside: enough"
    sb = role.create()["id"]
    role.exec(sb, "signal", "delete")
    role.settled(sb, "destroyed")


def test_patch(role):
    sb = role.create()["id"]
    path = f"/v1/sandboxes/{sb}"
    assert role.ask("PATCH", path, {"auto_pause_after_seconds": 60}).data["auto_pause_after_seconds"] == 60
    assert "auto_pause_after_seconds" not in role.ask("PATCH", path, {"disable_auto_pause": True}).data
    assert role.ask("PATCH", path, {"ingress_enabled": False}).data["id"] == sb
    role.ask("PATCH", path, {"auto_pause_after_seconds": 5}).fails(400, "auto_pause_after_seconds")
    role.ask("PATCH", path, {"auto_pause_after_seconds": 60, "disable_auto_pause": True}).fails(400)


def test_fork_resize_keys(role):
    sb = role.create()["id"]
    assert "vm" in role.post(f"/v1/sandboxes/{sb}/fork", {}).fails(409, "runtime")
    role.post(f"/v1/sandboxes/{sb}/resize", {"disk_mib": 10240}).fails(400, "disk_mib")
    role.post(f"/v1/sandboxes/{sb}/resize", {}).fails(400, "disk_mib")
    assert role.post(f"/v1/sandboxes/{sb}/resize", {"disk_mib": 20480}).data == {"id": sb, "disk_mib": 20480}
    assert role.view(sb)["disk_mib"] == 20480
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    assert role.post(f"/v1/sandboxes/{sb}/ssh-pubkeys", {"keys": [key + " me", " " + key]}).data == {"count": 1}
    assert role.view(sb)["ssh_pubkeys"] == [key + " me"]
    role.post(f"/v1/sandboxes/{sb}/ssh-pubkeys", {"keys": []}).fails(400, "keys")
    role.post(f"/v1/sandboxes/{sb}/ssh-pubkeys", {"keys": ["ssh-rsa nope"]}).fails(400, "keys")
    assert role.get(f"/v1/sandboxes/{sb}/bandwidth").data == {
        "id": sb, "quota_bytes": -1, "used_bytes": 0, "ingress_bytes": 0, "remaining_bytes": -1, "capped": False}
    assert role.post(f"/v1/sandboxes/{sb}/bandwidth/recharge", {"add_bytes": 5}).data["quota_bytes"] == -1
    role.post(f"/v1/sandboxes/{sb}/bandwidth/recharge", {"add_bytes": 0}).fails(400, "add_bytes")


# --- policy ---

def test_egress_put(role):
    sb = role.create(egress=["a.example"])["id"]
    path = f"/v1/sandboxes/{sb}/egress"
    first = [c for c in role.calls() if c[0] == "COMMIT"][0][2]
    assert role.ask("PUT", path, {"egress": ["b.example:443"]}).data == {"id": sb, "egress": ["b.example:443"]}
    steps = role.calls()
    assert [c[0] for c in steps] == ["SET", "COMMIT", "RETIRE"]
    assert steps[0][2] == steps[1][2] != first and steps[2][2] == first
    assert role.get(path).data["egress"] == ["b.example:443"]
    assert role.view(sb)["egress"] == ["b.example:443"]
    for body, echo in (({}, []), ({"egress": None}, []), ({"egress": ["*"]}, ["*"]), ({"egress": []}, [])):
        assert role.ask("PUT", path, body).data["egress"] == echo
    assert "egress[1]" in role.ask("PUT", path, {"egress": ["ok.example", "foo:99999"]}).fails(400, "egress")
    versions = role.get(path + "/versions").data
    assert versions["pagination"]["total"] == 6
    assert [v["version"] for v in versions["data"]] == [6, 5, 4, 3, 2, 1]
    assert [v["current"] for v in versions["data"]] == [True] + [False] * 5
    assert versions["data"][-1]["egress"] == ["a.example"]


@pytest.mark.parametrize("step", ["SET", "COMMIT"])
def test_a_failed_policy_change_is_undone(role, step):
    sb = role.create(egress=["a.example"])["id"]
    path = f"/v1/sandboxes/{sb}/egress"
    before = [c for c in role.calls() if c[0] == "COMMIT"][0][2]
    role.host(f"fail {step} 0")
    role.ask("PUT", path, {"egress": ["b.example"]}).fails(500)
    assert role.get(path).data["egress"] == ["a.example"]
    assert [c[2] for c in role.calls() if c[0] == "SET"][-1] == before
    assert role.get(path + "/versions").data["pagination"]["total"] == 1
    assert role.ask("PUT", path, {"egress": ["c.example"]}).data["egress"] == ["c.example"]


def test_concurrent_puts_are_one_after_the_other(role):
    sb = role.create()["id"]
    path = f"/v1/sandboxes/{sb}/egress"
    role.calls()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: role.ask("PUT", path, {"egress": [f"n{i}.example"]}), range(32)))
    assert {a.status for a in answers} == {200}
    steps = [c[0] for c in role.calls()]
    assert steps == ["SET", "COMMIT", "RETIRE"] * 32
    last = role.get(path + "/versions").data["data"][0]
    assert last["version"] == 33 and last["egress"] == role.get(path).data["egress"]


def test_policy_of_a_paused_sandbox(role):
    sb = role.create()["id"]
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    role.calls()
    assert role.ask("PUT", f"/v1/sandboxes/{sb}/egress", {"egress": ["a.example"]}).status == 200
    assert [c[0] for c in role.calls()][:2] == ["SET", "COMMIT"]


def test_explain_and_denials(role):
    v = role.create(egress=["example.com:443", "10.0.0.0/8:8080"])
    path = f"/v1/sandboxes/{v['id']}"
    ask = lambda to: role.get(f"{path}/egress/explain?to={to}").data
    assert ask("example.com:443")["verdict"] == "allow"
    assert ask("93.184.216.34:443") == {**ask("93.184.216.34:443"), "verdict": "allow", "rule_index": 0}
    assert ask("93.184.216.35:443")["verdict"] == "deny"
    d = ask("evil.example:443")
    assert d["verdict"] == "deny" and d["reason"] == "name" and d["text"]
    assert ask("169.254.169.254:80")["reason"] == "floor"
    role.get(f"{path}/egress/explain").fails(400, "to")
    role.get(f"{path}/egress/explain?to=a.example:0").fails(400, "to")
    slot = int(v["ip"].rsplit(".", 1)[1])
    role.host(f"denied {slot} evil.example")
    role.host(f"denied {slot} evil.example")
    role.host(f"denied {slot} worse.example")
    got = until("denials", lambda: (lambda x: x if len(x["denials"]) == 2 else None)(
        role.get(f"{path}/denials").data))
    assert [(d["name"], d["count"]) for d in got["denials"]] == [("worse.example", 1), ("evil.example", 2)]
    assert got["denials"][0]["reason"] == "name" and got["denials"][0]["direction"] == "out"
    assert len(role.get(f"{path}/denials?limit=1").data["denials"]) == 1
    r = role.stream(f"{path}/denials?follow=true")
    assert [json.loads(r.readline())["name"] for _ in range(2)] == ["evil.example", "worse.example"]
    role.host(f"denied {slot} new.example")
    assert json.loads(r.readline())["name"] == "new.example"
    role.ask("DELETE", path)
    assert r.readline() == b""  # the sandbox is gone, and so is the stream
    c = role.get(f"{path}/counters").data
    assert c["out_bytes"] == 0 and c["denied"] == {}


# --- restarts ---

def test_everything_survives_a_kill(role):
    running = role.create(name="runs", egress=["a.example"], envs={"A": "1"})
    paused = role.create(name="sleeps")
    role.post(f"/v1/sandboxes/{paused['id']}/pause")
    role.settled(paused["id"], "paused")
    gone = role.create()
    role.ask("DELETE", f"/v1/sandboxes/{gone['id']}")
    role.settled(gone["id"], "destroyed")
    role.calls()
    role.restart()
    steps = role.calls()
    assert [c[0] for c in steps if c[0] in ("SET", "SYNCED")] == ["SET", "SET", "SYNCED"]
    assert not [c for c in steps if c[0] in ("COMMIT", "SPAWN", "DESTROY", "FREEZE", "THAW")]
    assert role.view(running["id"]) == running
    assert role.view(paused["id"])["status"] == "paused"
    assert role.view(gone["id"])["status"] == "destroyed"
    assert role.exec(running["id"], "true").status == 200
    assert role.ask("PUT", f"/v1/sandboxes/{running['id']}/egress", {"egress": []}).status == 200


def test_an_ordered_end(role):
    """What is under way is answered; a stream without an end does not hold the end up."""
    sb = role.create()["id"]
    stream = role.stream(f"/v1/sandboxes/{sb}/denials?follow=true")
    under_way = role.connect()
    under_way.request("POST", f"/v1/sandboxes/{sb}/exec", json.dumps({"cmd": "nap", "args": ["500"]}),
                      {"X-Api-Key": role.key, "Content-Type": "application/json"})
    role.get("/metrics")  # answered after what was there before it has been read
    role.host("shutdown")
    assert under_way.getresponse().status == 200
    role.started()
    assert b"status 0 signal 0" in open(os.path.join(role.state, "log"), "rb").read()
    assert role.view(sb)["status"] == "running"
    stream.close()


@pytest.mark.parametrize("step, ends", [("SPAWN", "failed"), ("SET", "failed"), ("COMMIT", "failed")])
def test_killed_during_create(role, step, ends):
    role.host(f"hold {step}")
    c = role.connect()
    c.request("POST", "/v1/sandboxes", '{"shape":"s-1vcpu-256mb","name":"half"}', {"X-Api-Key": role.key})
    until(step, lambda: step in [x[0] for x in role.calls()])
    role.restart()
    v = role.get("/v1/sandboxes").data["data"][0]
    assert v["status"] == ends and "restarted" in v["reason"]
    assert ["DESTROY", v["id"], "0"] in role.calls()
    role.create(name="half")


@pytest.mark.parametrize("step, path, ends", [("FREEZE", "pause", "paused"), ("THAW", "resume", "running"),
                                              ("DESTROY", None, "destroyed")])
def test_killed_during_a_transition(role, step, path, ends):
    sb = role.create()["id"]
    if path == "resume":
        role.post(f"/v1/sandboxes/{sb}/pause")
        role.settled(sb, "paused")
    role.host(f"hold {step}")
    if path:
        assert role.post(f"/v1/sandboxes/{sb}/{path}").status == 202
    else:
        role.ask("DELETE", f"/v1/sandboxes/{sb}").data
    until(step, lambda: step in [x[0] for x in role.calls()])
    role.restart()
    role.settled(sb, ends)


def test_killed_during_a_policy_change(role):
    sb = role.create(egress=["a.example"])["id"]
    role.calls()
    role.host("hold COMMIT")
    c = role.connect()
    c.request("PUT", f"/v1/sandboxes/{sb}/egress", '{"egress":["b.example"]}', {"X-Api-Key": role.key})
    until("asked", lambda: "COMMIT" in [x[0] for x in role.calls()])
    role.restart()
    until("in force", lambda: "COMMIT" in [x[0] for x in role.calls()])
    assert role.get(f"/v1/sandboxes/{sb}/egress").data["egress"] == ["b.example"]


def test_the_machine_restarted(role):
    v = role.create(egress=["a.example"])
    role.host("forget")
    role.restart()
    e = role.view(v["id"])
    assert e["status"] == "error" and "host restarted" in e["reason"]
    assert "RESERVE" in [c[0] for c in role.calls()]
    assert role.ask("PUT", f"/v1/sandboxes/{v['id']}/egress", {"egress": ["b.example"]}).status == 200
    assert not [c for c in role.calls() if c[0] == "COMMIT"]
    role.post(f"/v1/sandboxes/{v['id']}/resume")
    assert role.exec(v["id"], "echo", "back").data["result"]["stdout"] == "back\n"
    assert [c[0] for c in role.calls()] == ["SPAWN", "SET", "COMMIT"]


def test_a_new_edge_is_told_everything(role):
    ids = {role.create()["id"] for _ in range(3)}
    role.calls()
    role.host("edge")
    steps = []

    def told():
        steps.extend(role.calls())
        return steps and steps[-1][0] == "SYNCED"
    until("told", told)
    assert {c[1] for c in steps if c[0] == "SET"} == ids


def test_build(role):
    r = role.stream("/v1/rootfs/build", "POST", {"name": "devbox:1"})
    assert lines_of(r) == [{"line": "build.allow is empty: nothing can be reached"}, {"line": "step 1"}, {"line": "step 2"},
                           {"final": True, "status": "ready"}]
    assert [c[0] for c in role.calls()][-3:] == ["SET", "COMMIT", "DEL"]
    about = role.get("/v1/version").data
    assert about["runtimes"] == ["container"] and about["runtime_default"] == "container"


def test_many_at_once(role):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        views = list(pool.map(lambda i: role.create(), range(100)))
        outs = list(pool.map(lambda v: role.exec(v["id"], "echo", v["name"]).data["result"]["stdout"], views))
    assert outs == [v["name"] + "\n" for v in views]
    assert len({v["ip"] for v in views}) == 100
