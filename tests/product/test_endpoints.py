"""OpenSandbox's endpoints on one host: two ports of the host for each sandbox, and the server's proxy."""

import os
import socket
import urllib.parse

import pytest

from kit.api import Box, listening
from kit.ingress import Wire, serve
from kit.websocket import WebSocket


@pytest.fixture
def make(api):
    made = []

    def make(**fields):
        made.append(Endpoints(api, **fields))
        return made[-1]

    yield make
    for sb in made:
        sb.ask("DELETE", "")


class Endpoints:
    """A sandbox of OpenSandbox's API, and its ports as a client reaches them."""

    def __init__(self, api, **fields):
        self.api, self.id = api, ""
        r = self.ask("POST", "", {"image": {"uri": "devbox:1"}, "timeout": 600,
                                  "resourceLimits": {"cpu": "1", "memory": "256Mi"},
                                  "entrypoint": ["sleep", "infinity"], **fields})
        assert r.status == 202, r.body
        self.id = "/" + r.json["id"]
        self.box = Box(api, api.get(r.json["id"]))

    def ask(self, method, path, body=None):
        return self.api.request(method, f"/v1/sandboxes{self.id}{path}", body, key=False,
                                headers={"OPEN-SANDBOX-API-KEY": self.api.key})

    def endpoint(self, port, query=""):
        r = self.ask("GET", f"/endpoints/{port}{query}")
        assert r.status == 200, r.body
        return r.json

    def connect(self, port, query=""):
        """A connection, and what to put before a path."""
        where = urllib.parse.urlsplit("http://" + self.endpoint(port, query)["endpoint"])
        sock = socket.create_connection((where.hostname, where.port), timeout=120)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(sock), where.path

    def get(self, port, path="/", *lines, query=""):
        w, before = self.connect(port, query)
        try:
            return w.send("\r\n".join([f"GET {before}{path} HTTP/1.1", "Host: h", *lines, "", ""])).answer()
        finally:
            w.close()


SERVER = "?use_server_proxy=true"


def test_the_same_port_of_two_sandboxes(make):
    one, two = make(), make()
    for sb, text in ((one, "one"), (two, "two")):
        for port in (8080, 3000):
            sb.box.sh(f"mkdir -p /srv/{port}; echo '{text} {port}' >/srv/{port}/index.html; "
                      f"setsid python3 -m http.server -d /srv/{port} {port} >/dev/null 2>&1 </dev/null & "
                      + listening(port))
    for sb, text in ((one, "one"), (two, "two")):
        for port in (8080, 3000):
            for query in ("", SERVER):
                assert sb.get(port, query=query).body.decode() == f"{text} {port}\n"
    assert len({sb.endpoint(p)["endpoint"] for sb in (one, two) for p in (8080, 3000)}) == 4


def test_the_services_of_the_api_role(make):
    sb = make()
    for query in ("", SERVER):
        token = sb.endpoint(18080, query)["headers"]["OPENSANDBOX-EGRESS-AUTH"]
        assert sb.get(44772, "/ping", query=query).status == 200
        assert sb.get(18080, "/policy", query=query).status == 401
        answer = sb.get(18080, "/policy", f"OPENSANDBOX-EGRESS-AUTH: {token}", query=query)
        assert answer.status == 200, answer.body
        w, before = sb.connect(44772, query)
        body = '{"command": "echo to >&2; echo out"}'
        w.send(f"POST {before}/command HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        assert w.head().status == 200
        assert b"execution_complete" in w.until(b"execution_complete")
        w.close()
    serve(sb.box, 9000)  # and a sandbox never sees the token
    answer = sb.get(9000, "/", "OPENSANDBOX-EGRESS-AUTH: t", "X-Mine: y")
    assert answer.saw("x-mine") == ["y"] and not answer.saw("opensandbox-egress-auth")
    # Nothing of the API is below it but these.
    assert sb.get(44772, "/../../../../v1/sandboxes").status == 404


def test_ports_stay_and_go(make, about):
    sb = make()
    serve(sb.box, 8080, also=[(9000, "0.0.0.0")])
    before = [sb.endpoint(p)["endpoint"] for p in (8080, 9000)]
    sb.box.pause()
    sb.box.resume()
    assert [sb.endpoint(p)["endpoint"] for p in (8080, 9000)] == before
    assert sb.get(8080).status == 200 and sb.get(9000).status == 200
    sb.api.ok("PATCH", sb.box.path, {"host_ports": False})
    for port, named in ((8080, "8080"), (9000, "44772"), (44772, "44772")):
        r = sb.ask("GET", f"/endpoints/{port}")
        assert r.status == 500 and f"port {named} is missing" in r.json["message"], r.body
    sb.api.ok("PATCH", sb.box.path, {"host_ports": {"proxy": True}})  # each by itself
    assert sb.endpoint(9000)["endpoint"] == before[1] and sb.get(9000).status == 200
    assert "port 8080 is missing" in sb.ask("GET", "/endpoints/8080").json["message"]
    sb.api.ok("PATCH", sb.box.path, {"host_ports": True})
    assert [sb.endpoint(p)["endpoint"] for p in (8080, 9000)] == before and sb.get(9000).status == 200
    theirs = sb.api.create()  # of another API: its owner asked for no ports
    try:
        r = sb.api.request("GET", f"/v1/sandboxes/{theirs.id}/endpoints/3000", key=False,
                           headers={"OPEN-SANDBOX-API-KEY": sb.api.key})
        assert r.status == 500 and "44772" in r.json["message"], r.body
        assert r.json["code"] == "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE"
        # Nor are the API's services open to who visits it.
        ports = theirs.api.ok("PATCH", theirs.path, {"host_ports": True})["host_ports"]
        w = Wire(socket.create_connection(ports["proxy"].rsplit(":", 1), timeout=120))
        assert w.send("GET /proxy/44772/ping HTTP/1.1\r\nHost: h\r\n\r\n").answer().status == 502
    finally:
        theirs.destroy()


def test_execds_token_is_asked_for_below_its_port(make):
    """What is reached through execd needs what execd needs; port 8080's own does not lead through it."""
    sb, free = make(env={"EXECD_ACCESS_TOKEN": "t0ken"}), make()
    for one in (sb, free):
        serve(one.box, 8080, also=[(9000, "127.0.0.1")])
    has = "X-EXECD-ACCESS-TOKEN: t0ken"
    assert free.get(9000).status == 200  # control
    for wrong in ((), (has + "x",), ("X-EXECD-ACCESS-TOKEN:",)):
        answer = sb.get(9000, "/", *wrong)
        assert answer.status == 401 and answer.json["code"] == "UNAUTHORIZED"
        assert sb.get(44772, "/ping", *wrong).status == 401
    answer = sb.get(9000, "/a?b", has, "X-Mine: y")
    assert answer.status == 200 and answer.json["line"] == "GET /a?b HTTP/1.1" and answer.saw("x-mine") == ["y"]
    assert not answer.saw("x-execd-access-token") and answer.saw("x-forwarded-for") == ["127.0.0.1"]
    assert sb.get(8080).status == 200
    w, before = sb.connect(9000)
    ws = WebSocket(w, before + "/ws", "h", has)
    ws.send(b"through execd")
    assert ws.receive() == (2, b"through execd")
    # Once visitors know the id, the answer's headers are needed as well, as for execd itself.
    sb.api.ok("PATCH", sb.box.path, {"ingress_enabled": True})
    assert sb.get(9000, "/", has).status == 401
    lines = [f"{name}: {value}" for name, value in sb.endpoint(9000)["headers"].items()]
    assert sb.get(9000, "/", has, *lines).status == 200 and sb.get(9000, "/", *lines).status == 401


@pytest.mark.parametrize("query", ["", SERVER])
def test_events_and_websockets(make, query):
    sb = make()
    serve(sb.box, 9000, "127.0.0.1")
    w, before = sb.connect(9000, query)
    assert w.send(f"GET {before}/events HTTP/1.1\r\nHost: h\r\n\r\n").head().status == 200
    for i in range(3):
        w.until(b"data: %d\n\n" % i)
        sb.box.sh("echo > /root/next.9000")
    w, before = sb.connect(9000, query)
    ws = WebSocket(w, before + "/ws", "h")
    message = os.urandom(1 << 20)
    ws.send(message)
    assert ws.receive() == (2, message)
    ws.close(4001, "enough")
    assert ws.receive() == (8, b"\x0f\xa1enough")
