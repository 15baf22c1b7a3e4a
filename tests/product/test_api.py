"""What the API says to good and bad input."""

import json
import re
import socket

import pytest

from kit import secrets
from kit.api import Api, Refused

SHAPE = "s-1vcpu-256mb"


def fail(r, status, key=None, says=None):
    """A refusal in the house's form; returns what it says under key."""
    assert r.status == status, (r.status, r.body)
    assert "application/json" in r.headers["content-type"]
    assert r.headers.get("x-request-id")
    body = r.json
    if status >= 500:
        assert body["status"] == "error" and body["code"] == status and body["message"]
        return body["message"]
    assert body["status"] == "fail"
    if key:
        assert key in body["data"], body
        text = body["data"][key]
        assert isinstance(text, str) and text
        if says:
            assert says in text, text
        return text
    return body["data"]


def post(api, body, **kw):
    return api.request("POST", "/v1/sandboxes", body, **kw)


def raw_post(api, raw, path="/v1/sandboxes", **headers):
    return api.request("POST", path, raw=raw, headers={"Content-Type": "application/json", **headers})


def test_open_routes_need_no_key(api):
    for path in ("/healthz", "/readyz", "/v1/shapes", "/v1/rootfs", "/openapi.json"):
        r = api.request("GET", path, key=False)
        assert r.status == 200, (path, r.status, r.body)
    assert api.request("GET", "/healthz", key=False).data["up"] is True
    assert api.request("GET", "/readyz", key=False).data["ready"] is True


@pytest.mark.parametrize("key", [False, "", "wrong", "x" * 5000])
def test_missing_or_wrong_key(api, key):
    r = api.request("GET", "/v1/whoami", key=False, headers={} if key is False else {"X-Api-Key": key})
    fail(r, 401, "auth")
    # Checked before anything about the request is looked at.
    fail(api.request("POST", "/v1/sandboxes", raw=b"{broken", key=False), 401, "auth")


def test_a_bearer_token_is_no_credential_here_but_no_obstacle(api):
    fail(api.request("GET", "/v1/whoami", key=False,
                     headers={"Authorization": f"Bearer {api.key}"}), 401, "auth")
    r = api.request("GET", "/v1/whoami", headers={"Authorization": "Bearer x", "X-Access-Token": "y"})
    assert r.status == 200


@pytest.mark.parametrize("text", [b"{", b"{]", b'{"shape":}', b"nonsense", b'{"a":1}x', b"\xff\xfe",
                                  b'{"shape":"s","shape":"t"}', b"[" * 100000, b'{"a":"\\ud800"}',
                                  b'{"a":1e999}'])
def test_malformed_json(api, text):
    fail(raw_post(api, text), 400, "body")


@pytest.mark.parametrize("body, key", [
    ({}, "shape"), ([], None), ("text", None), ({"shape": 5}, "shape"),
    ({"shape": None}, "shape"), ({"shape": "s-3vcpu-1tb"}, "shape"),
    ({"shape": SHAPE, "name": 5}, "name"), ({"shape": SHAPE, "name": "x" * 23}, "name"),
    ({"shape": SHAPE, "name": "Upper"}, "name"), ({"shape": SHAPE, "name": "-x"}, "name"),
    ({"shape": SHAPE, "name": "a b"}, "name"), ({"shape": SHAPE, "name": "net-abc"}, "name"),
    ({"shape": SHAPE, "name": "a\0b"}, "name"),
    ({"shape": SHAPE, "rootfs": "nix:9"}, "rootfs"), ({"shape": SHAPE, "rootfs": "../x"}, "rootfs"),
    ({"shape": SHAPE, "disk_mib": -1}, "disk_mib"), ({"shape": SHAPE, "disk_mib": "1"}, "disk_mib"),
    ({"shape": SHAPE, "disk_mib": 1.5}, "disk_mib"),
    ({"shape": SHAPE, "envs": {"1X": "v"}}, "envs"), ({"shape": SHAPE, "envs": {"A": 1}}, "envs"),
    ({"shape": SHAPE, "envs": {"A": "v" * 4097}}, "envs"),
    ({"shape": SHAPE, "envs": {f"K{i}": "v" for i in range(65)}}, "envs"),
    ({"shape": SHAPE, "envs": ["A=b"]}, "envs"),
    ({"shape": SHAPE, "ssh_pubkeys": ["not a key"]}, "ssh_pubkeys"),
    ({"shape": SHAPE, "ssh_pubkeys": ["ssh-ed25519 AAAA\nssh-rsa BBBB"]}, "ssh_pubkeys"),
    ({"shape": SHAPE, "auto_pause_after_seconds": 59}, "auto_pause_after_seconds"),
    ({"shape": SHAPE, "auto_pause_after_seconds": 86401}, "auto_pause_after_seconds"),
    ({"shape": SHAPE, "region": "mars"}, "region"),
    ({"shape": SHAPE, "bandwidth_quota_bytes": 5}, "bandwidth_quota_bytes"),
    ({"shape": SHAPE, "host_id": "nowhere"}, "host_id"),
])
def test_bad_fields_are_named(api, body, key):
    before = api.ok("GET", "/v1/whoami")["stats"]["total"]
    r = post(api, body)
    if key == "disk_mib" and r.status == 403:
        return
    fail(r, 400, key)
    assert api.ok("GET", "/v1/whoami")["stats"]["total"] == before


@pytest.mark.parametrize("rule, why", [
    ("host:0", "port"), ("host:65536", "port"), ("host:x", "port"), ("host:", "port"),
    ("*.*.x", None), ("a.*.b", None), ("*x.test", None), ("http://x.test", None),
    ("x..test", None), ("-x.test", None), ("x" * 64 + ".test", None), ("a." * 127 + "bc", None),
    ("1.2.3.4/33", None), ("1.2.3.4/-1", None), ("1.2.3.400", None), ("::1::", None),
    ("x test", None), ("x\0y.test", None), ("user@x.test", None), ("x/24", None), ("", None),
    ("b\u00fccher.test", None), ("169.254.169.254", "cannot be opened"),
    ("2130706433", None), ("0x7f000001", None)])
def test_bad_rules_say_which_and_why(api, rule, why):
    text = fail(post(api, {"shape": SHAPE, "egress": ["fine.test", rule]}), 400, "egress")
    assert "egress[1]" in text, text
    if rule and rule.isascii() and rule.isprintable() and len(rule) < 40:
        assert rule in text
    assert why is None or why in text, text
    assert len(text.partition(": ")[2]) > 5, "a reason"


def test_too_many_rules(api):
    fail(post(api, {"shape": SHAPE, "egress": ["a.test"] * 257}), 400, "egress", "256")


def test_duplicate_name(api, make_box):
    box = make_box(name="only-once")
    fail(post(api, {"shape": SHAPE, "name": "only-once"}), 409, "name")
    box.destroy()
    box.wait("destroyed")
    make_box(name="only-once")


def test_unknown_fields_and_queries_are_ignored(api, make_box):
    make_box(surprise={"deep": [1, 2]}, name=None)
    assert api.request("GET", "/v1/sandboxes?surprise=1&limit=1").status == 200


def test_empty_body_with_a_json_type(api, make_box):
    box = make_box()
    for method, path in (("GET", f"{box.path}"), ("POST", f"{box.path}/pause"),
                         ("POST", f"{box.path}/resume"), ("DELETE", f"{box.path}")):
        r = api.request(method, path, raw=b"", headers={"Content-Type": "application/json"})
        assert r.status in (200, 202), (method, path, r.body)
        if path.endswith("/pause"):
            box.wait("paused")


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/nothing", 404), ("GET", "/nothing", 404), ("PUT", "/v1/sandboxes", 405),
    ("DELETE", "/v1/shapes", 405), ("PATCH", "/v1/whoami", 405), ("POST", "/healthz", 405),
    ("GET", "/v1/sandboxes/sb-01jq2m8z6k3v9x4c7b5n1t0hga", 404),
    ("GET", "/v1/sandboxes/not-an-id", 404),
    ("GET", "/v1/sandboxes/by-ip/1.2.3.4", 404), ("GET", "/v1/sandboxes/by-ip/banana", None)])
def test_wrong_routes_and_methods(api, method, path, status):
    r = api.request(method, path)
    if status:
        fail(r, status)
    else:
        assert r.status in (400, 404)
    if status == 405:
        assert r.headers.get("allow")


@pytest.mark.parametrize("query, status", [("limit=-1", 400), ("limit=x", 400), ("offset=-1", 400),
                                           ("limit=0", 200), ("limit=99999", 200),
                                           ("status=running,paused", 200), ("status=odd", 400)])
def test_list_queries(api, query, status):
    r = api.request("GET", f"/v1/sandboxes?{query}")
    assert r.status == status, r.body
    if status == 200:
        p = r.data["pagination"]
        assert p["limit"] <= 500 and p["count"] == len(r.data["data"])


def test_body_too_large(api, about):
    with_limit = int(about["settings"].get("api.body_max_mib", 8))
    r = raw_post(api, b'{"shape":"' + b"x" * ((with_limit << 20) + 10) + b'"}')
    fail(r, 413)
    # Under the limit it is only wrong.
    fail(raw_post(api, b'{"shape":"' + b"x" * ((with_limit << 20) - 100) + b'"}'), 400, "shape")


def test_files_need_absolute_paths(api, make_box):
    box = make_box()
    for query in ("", "?path=", "?path=relative/file", "?path=..%2Fx", "?path=%00", "?path=/a%00b",
                  "?path=%zz"):
        fail(api.request("PUT", f"{box.path}/files{query}", raw=b"x"), 400, "path")
        fail(api.request("GET", f"{box.path}/files{query}"), 400, "path")
    text = fail(api.request("GET", f"{box.path}/files?path=/no/such"), 404, "path")
    assert "no such file" in text.lower()


def test_files_chunked_and_parents(api, make_box):
    box = make_box()
    r = api.request("PUT", f"{box.path}/files?path=/srv/a/b+c%2Bd/e",
                    raw=iter([b"one ", b"two ", b"three"]))
    assert r.status == 200 and r.data["bytes"] == 13 and r.data["path"] == "/srv/a/b c+d/e"
    r = api.request("GET", f"{box.path}/files?path=/srv/a/b+c%2Bd/e")
    assert r.body == b"one two three" and r.headers["content-length"] == "13"
    assert "octet-stream" in r.headers["content-type"]


def test_exec_input_and_environment(api, make_box):
    box = make_box(envs={"DECLARED": "one"})
    r = box.exec("cat", stdin="line\nüñí\n")
    assert r.stdout == "line\nüñí\n" and r.code == 0
    assert box.exec("sh", "-c", "echo $DECLARED", env={"DECLARED": "two"}).stdout == "two\n"
    fail(api.request("POST", f"{box.path}/exec", {"cmd": "true", "env": {"OTHER": "x"}}), 400, "env")
    for body in ({}, {"cmd": ""}, {"cmd": 5}, {"cmd": "x", "args": "y"}, {"cmd": "x", "args": [1]},
                 {"cmd": "a\0b"}):
        r = api.request("POST", f"{box.path}/exec", body)
        assert r.status == 400, (body, r.body)


def test_stream_frames(api, make_box):
    box = make_box()
    frames = list(api.stream(box.id, "sh", "-c", "printf 'h\\303'; sleep 0.2; printf '\\251llo'; echo e >&2; exit 9"))
    assert frames[-1] == {"exit_code": 9}
    assert "".join(f.get("stdout", "") for f in frames) == "h\u00e9llo", "characters are never split"
    assert "".join(f.get("stderr", "") for f in frames) == "e\n"


def test_wrong_state(api, make_box):
    box = make_box()
    box.pause()
    text = fail(api.request("POST", f"{box.path}/exec", {"cmd": "true"}), 409, "status")
    assert "paused" in text
    fail(api.request("GET", f"{box.path}/files?path=/etc/hostname"), 409)
    assert api.request("POST", f"{box.path}/pause").status == 200
    r = api.request("POST", f"{box.path}/resume")
    assert r.status in (200, 202) and r.data["id"] == box.id
    box.wait("running")
    box.destroy()
    box.wait("destroyed")
    fail(api.request("POST", f"{box.path}/exec", {"cmd": "true"}), 404)
    assert api.request("DELETE", box.path).data["status"] == "destroyed"


def test_ids_are_forgiving(api, make_box):
    box = make_box()
    for spelling in (box.id.upper(), box.id.replace("-", "_"), box.id.upper().replace("-", "_")):
        assert api.get(spelling)["id"] == box.id


def test_what_is_not_built_says_so(api, make_box):
    box = make_box(runtime="container")
    for method, path, body in (("POST", f"{box.path}/fork", {}),
                               ("POST", "/v1/templates", {"name": "t", "dockerfile": "FROM x"}),
                               ("POST", "/v1/disks", {"name": "d"})):
        r = api.request(method, path, body)
        # 409 where another runtime would do it, and then the answer names that.
        assert r.status in (501, 503) or (r.status == 409 and "runtime" in r.says), (path, r.body)
        fail(r, r.status)
        assert len(r.says) > 10
    r = post(api, {"shape": SHAPE, "disks": [{"disk_id": "d", "mount_path": "/m"}]})
    assert r.status in (501, 503, 404), (r.status, r.body)


def talk(api, data):
    host, _, port = api.host.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as s:
        s.sendall(data)
        out = b""
        try:
            while more := s.recv(65536):
                out += more
                if b"\r\n\r\n" in out and b"keep-alive" in out.lower():
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return out


HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("data", [
    b"GET /healthz HTTP/1.1\r\n\r\n",  # no Host
    HEAD + b"Host: y\r\n\r\n",
    HEAD + b" folded: x\r\n\r\n",
    HEAD + b"A: b\r\n c\r\n\r\n",
    b"GET /healthz HTTP/1.1\nHost: x\n\n",
    b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v1/sandboxes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
    HEAD + b"Bad Name: x\r\n\r\n",
    HEAD + b"A: b\x00c\r\n\r\n",
    b"NONSENSE\r\n\r\n"])
def test_H6_requests_that_two_parsers_read_differently(api, data):
    out = talk(api, data)
    assert re.match(rb"HTTP/1\.1 4\d\d ", out), out[:200]
    assert b"application/json" in out and b"fail" in out
    # The control: the same shape without the trick is served.
    assert talk(api, HEAD + b"A: b\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_http2_preface_is_answered(api):
    out = talk(api, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert out == b"" or out.startswith(b"HTTP/1.1 ") or out[3:4] in (b"\x04", b"\x07")


def test_expect_continue(api, make_box):
    box = make_box()
    host, _, port = api.host.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as s:
        s.sendall((f"PUT {box.path}/files?path=/root/x HTTP/1.1\r\nHost: x\r\nX-Api-Key: {api.key}\r\n"
                   "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n").encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 100")
        s.sendall(b"hello")
        assert b"200" in s.recv(4096)
    assert box.get("/root/x") == b"hello"


def test_the_denial_log_explains(make_box, lab):
    box = make_box(egress=["allowed.test:443"])
    box.tcp("allowed.test", 80)
    d = box.denied("default", port=80)
    assert d["protocol"] == "tcp" and d["address"] in ("203.0.113.10", "2001:db8:1::10")
    assert d["count"] >= 1 and d["text"] and d["direction"] == "out"
    assert re.match(r"\d{4}-\d\d-\d\dT", d["at"])
    box.resolve("denied.test")
    assert "no rule allows the name" in box.denied("name", name="denied.test")["text"]


def test_nothing_secret_is_echoed_or_logged(api, make_box, about, secret):
    """What is said here is looked for again when the daemon ends, with all that other tests did."""
    value = secret("hunter2-very-secret-value")
    box = make_box(envs={"TOKEN": value}, ingress_enabled=True, ingress_access="token")
    assert box.sh("echo $TOKEN").stdout.strip() == value
    assert value not in json.dumps(api.get(box.id)) + json.dumps(api.ok("GET", "/v1/sandboxes"))
    key = api.ok("POST", "/v1/keys", {"name": "for the log"})
    token = api.ok("POST", f"/v1/sandboxes/{box.id}/ingress/tokens", {"port": 8000, "name": "t"})
    assert re.fullmatch("weir_[0-9a-f]{64}", key["key"]) and re.fullmatch("wit_[0-9a-f]{64}", token["token"])
    assert Api(api.url, key["key"]).ok("GET", "/v1/sandboxes") is not None
    api.ok("DELETE", f"/v1/keys/{key['id']}")
    with pytest.raises(Refused):  # a key that is refused is a key as well
        Api(api.url, key["key"]).ok("GET", "/v1/sandboxes")
    api.request("GET", f"/v1/sandboxes?weir_token={token['token']}&k={key['key']}")
    with open(about["log"], "rb") as f:
        log = f.read()
    assert box.id.encode() in log  # it is the right log
    assert secrets.found(log, [value.encode(), api.key.encode()]) == []


def test_what_is_looked_for_in_a_log_is_found():
    """The control of the above, and of every daemon's end."""
    line = b"2026-11-21T10:00:00Z api.request path=/x?k=%s status=200\n"
    for value, n in ((b"weir_" + b"0f" * 32, 1), (b"wit_" + b"a9" * 32, 1), (b"told-value", 1),
                     (b"weir_0123...", 0), (b"weir_" + b"0f" * 31, 0), (b"other-value", 0)):
        assert len(secrets.found(b"first\n" + line % value, [b"told-value"])) == n, value
