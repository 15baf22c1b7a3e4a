"""The reverse proxy with both of its sides played, byte by byte: no root, no sandbox.

A test holds the client's socket and the service's, so it decides what was sent when. The sandbox is
127.0.0.5, its services are listeners of the test there (play_proxy.c)."""

import base64
import hashlib
import os
import re
import socket
import ssl
import struct
import subprocess
import time

import pytest

PLAY = os.environ["PLAY_PROXY"]
ULID = "01arz3ndektsv4rrffq69g5fav"
OTHER = "01arz3ndektsv4rrffq69g5faw"
ON, HOLD, SERVICES, PROXY, DIRECT, PROXY_FD, DIRECT_FD, GUARDED = (1 << i for i in range(8))
STARTING, RUNNING, PAUSED, DOWN = range(4)
OPEN, TOKEN = range(2)
SECONDS = 60  # generous: what should happen happens at once


class Wire:
    """One end of a connection."""

    def __init__(self, sock):
        self.sock, self.have = sock, b""
        sock.settimeout(SECONDS)

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def _more(self):
        got = self.sock.recv(65536)
        self.have += got
        return got

    def until(self, mark):
        mark = mark.encode() if isinstance(mark, str) else mark
        while mark not in self.have:
            assert self._more(), f"ended before {mark!r}: {self.have!r}"
        head, _, self.have = self.have.partition(mark)
        return head + mark

    def exactly(self, n):
        while len(self.have) < n:
            assert self._more(), f"ended after {len(self.have)} of {n}: {self.have[-200:]!r}"
        data, self.have = self.have[:n], self.have[n:]
        return data

    def rest(self):
        while self._more():
            pass
        data, self.have = self.have, b""
        return data

    def ended(self):
        """Nothing more comes: an orderly end, or a reset."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def reset(self):
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False

    def head(self):
        first, *lines = self.until("\r\n\r\n").decode("latin-1")[:-4].split("\r\n")
        return Head(first, [tuple(x.split(": ", 1)) for x in lines])

    def answer(self):
        h = self.head()
        h.body = self.exactly(int(h.get("content-length", "0")))
        return h

    def shut(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Head:
    def __init__(self, first, fields):
        self.first, self.fields = first, fields
        self.status = int(first.split(" ")[1]) if first.startswith("HTTP/") else None

    def get(self, name, default=None):
        found = [v for n, v in self.fields if n.lower() == name]
        assert len(found) < 2, self.fields
        return found[0] if found else default

    def names(self):
        return [n.lower() for n, _ in self.fields]


class Service:
    def __init__(self, address="127.0.0.5", port=0):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.listen(1024)
        self.sock.settimeout(SECONDS)
        self.port = self.sock.getsockname()[1]

    def accept(self):
        return Wire(self.sock.accept()[0])

    def close(self):
        self.sock.close()


class Proxy:
    def __init__(self, *settings):
        self.play = subprocess.Popen([PLAY, *settings], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True, bufsize=1)
        self.events = []
        self.port = int(self.play.stdout.readline().split()[1])
        self.wires = []

    def command(self, text):
        self.play.stdin.write(text + "\n")
        while True:
            line = self.play.stdout.readline().strip()
            assert line, "play_proxy ended"
            if line.split()[0] in ("ok", "error"):
                assert line.startswith("ok"), line
                return line.split()[1:]
            self.events.append(line)

    def set(self, ulid=ULID, slot=5, ip="127.0.0.5", flags=ON, state=RUNNING, access=OPEN,
            secret="-", tokens=()):
        tokens = " ".join(f"{hashlib.sha256(t.encode()).hexdigest()}:{p}:{e}" for t, p, e in tokens)
        return [int(p) for p in self.command(
            f"set sb-{ulid} {slot} {ip} {flags} {state} {access} {secret} {tokens}".strip())]

    def count(self, name=None):
        values = dict(x.split("=") for x in self.command("counters"))
        return int(values[name]) if name else {k: int(v) for k, v in values.items()}

    def until(self, what, fn):
        end = time.monotonic() + SECONDS
        while True:
            value = fn()
            if value:
                return value
            assert time.monotonic() < end, what
            time.sleep(0.005)  # between looks

    def event(self, pattern):
        def look():
            self.command("counters")
            return next((e for e in self.events if re.fullmatch(pattern, e)), None)
        return self.until(pattern, look)

    def client(self, port=None):
        w = Wire(socket.create_connection(("127.0.0.1", port or self.port)))
        self.wires.append(w)
        return w

    def close(self):
        for w in self.wires:
            w.close()
        self.play.stdin.close()
        rest = self.play.stdout.read()
        assert self.play.wait(SECONDS) == 0, "something was left open"
        return rest


@pytest.fixture(scope="module")
def shared():
    p = Proxy()
    yield p
    p.close()


@pytest.fixture
def proxy(shared):
    shared.set()
    yield shared
    for w in shared.wires:
        w.close()
    shared.wires = []
    shared.command("del 5")
    shared.until("all is closed", lambda: not any(
        v for k, v in shared.count().items() if k in ("clients", "upstreams", "tunnels", "held")))


@pytest.fixture
def service():
    s = Service()
    yield s
    s.close()


def host(port, ulid=ULID):
    return f"{ulid}-{port}.localhost:8081"


def get(port, path="/", *lines, method="GET", ulid=ULID, body=""):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host(port, ulid)}", *lines, "", body])


def ok(body="fine", *lines):
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", body])


def asked(proxy, service, *lines, path="/", client=None):
    """A request on its way: the client's wire, the service's, and the head it saw."""
    c = client or proxy.client()
    c.send(get(service.port, path, *lines))
    s = service.accept()
    return c, s, s.head()


# --- naming ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("label", ["{u}-{p}", "sb-{u}-{p}", "SB-{U}-{p}", "{u}--p{p}", "sb_{u}-{p}"])
def test_a_host_name_leads_to_its_port(proxy, service, label):
    name = label.format(u=ULID, U=ULID.upper(), p=service.port)
    c = proxy.client().send(f"GET /a/b?c=%20d HTTP/1.1\r\nHost: {name}.LOCALhost\r\n\r\n")
    s = service.accept()
    head = s.head()
    assert head.first == "GET /a/b?c=%20d HTTP/1.1"
    assert head.get("host") == f"localhost:{service.port}"
    assert head.get("x-forwarded-for") == "127.0.0.1"
    assert head.get("x-forwarded-proto") == "http"
    assert head.get("x-forwarded-host") == f"{name}.LOCALhost"
    s.send(ok())
    answer = c.answer()
    assert (answer.status, answer.body) == (200, b"fine")
    assert "connection" not in answer.names()


@pytest.mark.parametrize("name", ["OpenSandbox-Ingress-To", "OPEN-SANDBOX-INGRESS"])
@pytest.mark.parametrize("value", ["sb-{u}-{p}", "http://{u}-{p}.any.example:99", "{u}-{p}:80"])
def test_a_header_leads_to_its_port_and_overrules_the_host(proxy, service, name, value):
    value = value.format(u=ULID, p=service.port)
    c = proxy.client().send(f"GET /x HTTP/1.1\r\nHost: {host(1)}\r\n{name}: {value}\r\n\r\n")
    s = service.accept()
    head = s.head()
    assert head.first == "GET /x HTTP/1.1" and name.lower() not in head.names()
    s.send(ok())
    assert c.answer().get("reverse-proxy-server-powerby") == "OpenSandbox-ingress"


@pytest.mark.parametrize("path, seen", [
    ("/{u}/{p}", "/"), ("/sb-{u}/{p}/", "/"), ("/{u}/{p}/a//b?c", "/a//b?c"), ("/{u}/{p}?q", "/?q"),
    ("/{u}/{p}/vf7lds/b542694dk/z", "/vf7lds/b542694dk/z"),
    ("/sandboxes/sb-{u}/proxy/{p}", "/"), ("/v1/sandboxes/sb-{u}/proxy/{p}/a?b", "/a?b")])
def test_a_path_leads_to_its_port(proxy, service, path, seen):
    path = path.format(u=ULID, p=service.port)
    c = proxy.client().send(f"GET {path} HTTP/1.1\r\nHost: localhost:8081\r\n\r\n")
    s = service.accept()
    assert s.head().first == f"GET {seen} HTTP/1.1"
    s.send(ok())
    assert c.answer().status == 200


def test_the_server_proxy_rewrites_locations_and_passes_no_authority(proxy, service):
    prefix = f"/v1/sandboxes/sb-{ULID}/proxy/{service.port}"
    c = proxy.client().send(f"GET {prefix}/x HTTP/1.1\r\nHost: h\r\nAuthorization: Basic eA==\r\n"
                            "Cookie: a=b\r\nX-Mine: 1\r\n\r\n")
    s = service.accept()
    head = s.head()
    assert not {"authorization", "cookie"} & set(head.names()) and head.get("x-mine") == "1"
    s.send("HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
    answer = c.answer()
    assert answer.get("location") == prefix + "/there" and answer.get("content-length") == "0"
    c.send(f"GET {prefix}/x HTTP/1.1\r\nHost: h\r\n\r\n")
    s.head()
    s.send("HTTP/1.1 302 Found\r\nLocation: //else.example/\r\nContent-Length: 0\r\n\r\n")
    assert c.answer().get("location") == "//else.example/"


def test_host_ports_of_a_sandbox(proxy, service):
    proxy_port, direct_port = proxy.set(flags=PROXY | DIRECT | PROXY_FD | DIRECT_FD)
    c = proxy.client(proxy_port).send(f"GET /proxy/{service.port}/a HTTP/1.1\r\nHost: any\r\n\r\n")
    s = service.accept()
    assert s.head().first == "GET /a HTTP/1.1"
    s.send(ok())
    assert c.answer().status == 200
    direct = Service(port=8080)
    try:
        c = proxy.client(direct_port).send("GET /proxy/1/a HTTP/1.1\r\nHost: any\r\n\r\n")
        s = direct.accept()
        head = s.head()
        assert head.first == "GET /proxy/1/a HTTP/1.1" and head.get("host") == "localhost:8080"
        s.send(ok())
        assert c.answer().status == 200
    finally:
        direct.close()
    # A listener that is not named again goes; what came by it, too.
    proxy.set(flags=PROXY)
    assert c.ended()
    with pytest.raises(ConnectionRefusedError):
        proxy.client(direct_port)


def test_ports_that_the_api_role_serves(proxy, service):
    proxy_port, = proxy.set(flags=PROXY | PROXY_FD | SERVICES)
    for path, port in ((f"/proxy/44772/ping", 44772), ("/ping", 44772), ("/proxy/18080/policy", 18080)):
        c = proxy.client(proxy_port).send(f"GET {path} HTTP/1.1\r\nHost: any\r\n\r\n")
        assert c.answer().body == str(port).encode()
        proxy.event(f"serve 5 {port}")
    # execd asks for a token: what is below its port's /proxy/ goes to it, and nothing that came another way
    guarded, = proxy.set(flags=ON | PROXY | PROXY_FD | SERVICES | GUARDED)
    proxy.events.clear()
    c = proxy.client(guarded)
    assert c.send(f"GET /proxy/{service.port}/a HTTP/1.1\r\nHost: h\r\n\r\n").answer().body == b"44772"
    proxy.event("serve 5 44772")
    c = proxy.client().send(get(service.port))
    s = service.accept()
    assert s.head().first == "GET / HTTP/1.1"
    s.send(ok())
    assert c.answer().body == b"fine"
    paused, = proxy.set(flags=PROXY | PROXY_FD | SERVICES | HOLD, state=PAUSED)  # it knows what it can do
    assert proxy.client(paused).send("GET /ping HTTP/1.1\r\nHost: h\r\n\r\n").answer().status == 200
    proxy.set()  # without the flag they are ports of the sandbox
    c = proxy.client().send(get(44772))
    assert c.answer().status == 502


@pytest.mark.parametrize("request_, status", [
    (get(80, ulid=OTHER), 404), (get(0), 404), (get(65536), 404), (get("08"), 404),
    ("GET / HTTP/1.1\r\nHost: foo.localhost\r\n\r\n", 404),
    (f"GET /{OTHER}/80/ HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    (f"GET /{ULID}/99999/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\nOpenSandbox-Ingress-To: x-80\r\n\r\n", 400),
    (get(1028), 403), (get(1029), 403), (f"GET /{ULID}/1028/ HTTP/1.1\r\nHost: h\r\n\r\n", 403)])
def test_names_that_lead_nowhere(proxy, service, request_, status):
    c = proxy.client().send(request_)
    answer = c.answer()
    assert answer.status == status and answer.body
    c.send(get(service.port))  # and the connection is good for another
    s = service.accept()
    s.head()
    s.send(ok())
    assert c.answer().status == 200


def test_nothing_to_upgrade_to(proxy):
    """A status of its own where OpenSandbox's gateway has one."""
    up = "Connection: upgrade\r\nUpgrade: websocket\r\n"
    for lines in ("", up):
        for request, status in ((f"GET /{ULID}/1/ HTTP/1.1\r\nHost: h\r\n", 503),
                                (f"GET / HTTP/1.1\r\nHost: h\r\nOpenSandbox-Ingress-To: {ULID}-1\r\n", 503),
                                (f"GET / HTTP/1.1\r\nHost: {host(1)}\r\n", 502)):
            answer = proxy.client().send(request + lines + "\r\n").answer()
            assert answer.status == (status if lines else 502) and b"nothing listens" in answer.body


def test_who_is_another_host_is_asked_by_path(proxy):
    """The control of the host mode: the same label below another domain is no name of ours."""
    c = proxy.client().send(f"GET /status.ok HTTP/1.1\r\nHost: {ULID}-80.example\r\n\r\n")
    answer = c.answer()
    assert (answer.status, answer.body) == (200, b"OK")


def test_refusals_speak_the_clients_language(proxy):
    c = proxy.client()
    assert c.send(get(1)).answer().get("content-type") == "application/json"
    html = c.send(get(1, "/", "Accept: text/html,*/*;q=0.8")).answer()
    assert html.get("content-type").startswith("text/html") and b"<h1>502" in html.body
    gone = f"GET /{OTHER}/80/ HTTP/1.1\r\nHost: h\r\n"
    assert c.send(gone + "\r\n").answer().body.startswith(b"OpenSandbox Ingress: ")
    assert b'"code":"SANDBOX_NOT_FOUND"' in c.send(
        gone + "Accept: application/json\r\n\r\n").answer().body
    c.send(get(1, method="HEAD"))
    assert c.head().status == 502
    assert c.send(get(1, ulid=OTHER)).answer().status == 404  # no body came between


def test_off_and_on_and_gone(proxy, service):
    c, s, _ = asked(proxy, service)
    proxy.set(flags=0)
    answer = c.answer()
    assert answer.status == 404 and s.ended()
    c = proxy.client().send(get(service.port))
    assert c.answer().status == 404
    proxy.set()
    c.send(get(service.port))
    s = service.accept()
    s.head()
    s.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
    c.until("some")
    proxy.command("del 5")
    assert c.reset() and s.ended()
    assert proxy.client().send(get(service.port)).answer().status == 404


def test_who_was_queued_behind_what_is_cut_hears_at_once(service):
    """Each request that was sent ahead is answered by itself: the limit for a head is no part of it."""
    p = Proxy("head_ms=3600000")
    try:
        p.set()
        p.set(OTHER, 6, "127.0.0.6", state=DOWN)
        t = None
        queue = get(service.port, "/2") + get(1, ulid=OTHER) + get(service.port, "/3")
        for gone, words in (("del 5", [b"gone", b"no such", b"not run", b"no such"]),
                            ("off", [b"gone", b"off", b"not run", b"off"])):
            c = p.client().send(get(service.port, "/1") + queue)
            s = t or service.accept()
            assert s.head().first == "GET /1 HTTP/1.1"
            p.command(gone) if gone != "off" else p.set(flags=0)
            for word, status in zip(words, (404, 404, 503, 404)):
                answer = c.answer()
                assert answer.status == status and word in answer.body, (gone, answer.body)
            assert s.ended()
            p.set()
            c.send(get(service.port))  # the control, on the same connection
            t = service.accept()
            t.head()
            t.send(ok())
            assert c.answer().status == 200
    finally:
        p.close()


@pytest.mark.parametrize("state, word", [(STARTING, b"starting"), (PAUSED, b"paused"),
                                         (DOWN, b"does not run")])
def test_states_in_which_nobody_answers(proxy, service, state, word):
    proxy.set(state=state)
    answer = proxy.client().send(get(service.port)).answer()
    assert answer.status == 503 and word in answer.body and answer.get("retry-after") == "1"


def test_what_is_not_told_again_is_forgotten(proxy, service):
    proxy.set(OTHER, 6, "127.0.0.6")
    proxy.command("sync begin")
    proxy.set()
    proxy.command("sync end")
    assert proxy.client().send(get(1, ulid=OTHER)).answer().status == 404
    assert proxy.client().send(get(1)).answer().status == 502


def test_a_slot_that_changes_hands(proxy, service):
    c, s, _ = asked(proxy, service)
    proxy.set(OTHER, 5, "127.0.0.5")
    assert c.answer().status == 404 and s.ended()
    assert proxy.client().send(get(service.port)).answer().status == 404
    c, s = proxy.client().send(get(service.port, ulid=OTHER)), service.accept()
    assert s.head()


# --- what passes and what does not ----------------------------------------------------------------

def test_what_belongs_to_one_hop_or_to_the_platform_stays(proxy, service):
    c, s, head = asked(
        proxy, service, "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5",
        "TE: trailers", "Proxy-Connection: x", "Proxy-Authorization: x", "Upgrade: h2c",
        "HTTP2-Settings: x", "X-Api-Key: k", "OPEN-SANDBOX-API-KEY: k", "X-Weir-Ingress-Token: t",
        "OpenSandbox-Secure-Access: t", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: gopher",
        "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4", "Cookie: a=b; weir-ingress-token=t; c=d", "Accept: x",
        "Authorization: Bearer weir_0123", path="/?a=b&weir_token=t&c=d")
    assert head.first == "GET /?a=b&c=d HTTP/1.1"
    assert sorted(head.names()) == ["accept", "cookie", "host", "x-forwarded-for",
                                    "x-forwarded-host", "x-forwarded-proto"]
    assert head.get("cookie") == "a=b; c=d" and head.get("x-forwarded-for") == "127.0.0.1"
    s.send(ok("fine", "Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5",
              "Set-Cookie: a", "Set-Cookie: b"))
    answer = c.answer()
    assert answer.names() == ["set-cookie", "set-cookie", "content-length"]
    c.send(get(service.port, "/", "Authorization: Bearer mine"))
    s = service.accept()  # the first had said close
    assert s.head().get("authorization") == "Bearer mine"


def test_framing_is_never_named_away(proxy, service):
    c = proxy.client().send(get(service.port, "/", "Connection: content-length, host",
                                "Content-Length: 4", method="POST", body="body"))
    s = service.accept()
    head = s.head()
    assert head.get("content-length") == "4" and head.get("host") == f"localhost:{service.port}"
    assert s.exactly(4) == b"body"
    s.send(ok())
    assert c.answer().status == 200


SMUGGLED = {
    "both lengths": "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": "Content-Length: 4\r\nContent-Length: 5\r\n",
    "the same length twice": "Content-Length: 4\r\nContent-Length: 4\r\n",
    "a list of lengths": "Content-Length: 4, 4\r\n",
    "a signed length": "Content-Length: +4\r\n",
    "a hexadecimal length": "Content-Length: 0x4\r\n",
    "an endless length": "Content-Length: 99999999999999999999\r\n",
    "an empty length": "Content-Length: \r\n",
    "a space before the colon": "Transfer-Encoding : chunked\r\n",
    "a tab before the colon": "Content-Length\t: 4\r\n",
    "a folded line": "Transfer-Encoding:\r\n chunked\r\n",
    "a folded first line": " Transfer-Encoding: chunked\r\n",
    "another coding": "Transfer-Encoding: xchunked\r\n",
    "two codings": "Transfer-Encoding: gzip, chunked\r\n",
    "coding twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "the same coding twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunks in chunks": "Transfer-Encoding: chunked, chunked\r\n",
    "an empty item before the coding": "Transfer-Encoding: ,chunked\r\n",
    "a coding in quotes": "Transfer-Encoding: \"chunked\"\r\n",
    "a coding with a parameter": "Transfer-Encoding: chunked;q=1\r\n",
    "no coding": "Transfer-Encoding: \r\n",
    "a space of eight bits": "Transfer-Encoding: \xa0chunked\r\n",
    "lengths the other way": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "a grouped length": "Content-Length: 1_0\r\n",
    "a length with a fraction": "Content-Length: 4.0\r\n",
    "a length in two words": "Content-Length: 1 0\r\n",
    "a negative length": "Content-Length: -1\r\n",
    "a vertical tab": "Transfer-Encoding: \x0bchunked\r\n",
    "a NUL": "X: a\0b\r\n",
    "a bare LF": "X: a\nContent-Length: 4\r\n",
    "a bare CR": "X: a\rContent-Length: 4\r\n",
    "no colon": "nothing\r\n",
    "no name": ": x\r\n",
    "two hosts": "Host: other\r\n",
    "a name in brackets": "(X): 1\r\n",
    "another expectation": "Expect: 200-maybe\r\n",
}
LINES = {
    "an absolute target": "GET http://other/ HTTP/1.1",
    "an authority": "CONNECT other:443 HTTP/1.1",
    "two spaces": "GET  / HTTP/1.1",
    "a tab": "GET\t/ HTTP/1.1",
    "a space in the target": "GET /a b HTTP/1.1",
    "a fragment": "GET /#x HTTP/1.1",
    "eight bits": "GET /\xff HTTP/1.1",
    "HTTP/0.9": "GET /",
    "HTTP/1.2": "GET / HTTP/1.2",
    "HTTP/2": "PRI * HTTP/2.0",
    "a lower-case version": "GET / http/1.1",
    "a space behind the version": "GET / HTTP/1.1 ",
    "a longer version": "GET / HTTP/1.10",
    "an empty line too many": "\r\n\r\nGET / HTTP/1.1",
    "an LF before": "\nGET / HTTP/1.1",
    "two CRs": "GET / HTTP/1.1\r",
    "a lower-case method": "get / HTTP/1.1",
    "an unknown method": "G@T / HTTP/1.1",
}


def heads():
    for name, lines in SMUGGLED.items():
        yield name, f"POST / HTTP/1.1\r\nHost: {{host}}\r\n{lines}\r\n0\r\n\r\n"
    for name, line in LINES.items():
        yield name, f"{line}\r\nHost: {{host}}\r\n\r\n"
    yield "no host", "GET / HTTP/1.1\r\nX: {host}\r\n\r\n"
    for name, value in (("a user", "a@{host}"), ("two ports", "{host}:1"), ("a path", "{host}/x"),
                        ("a space", "{host} x"), ("a list", "{host}, other"), ("a scheme", "http://{host}"),
                        ("percent", "%41{host}"), ("a NUL", "{host}\0"), ("nothing", "")):
        yield f"a host with {name}", f"GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"
    yield "chunks in HTTP/1.0", ("POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 "0\r\n\r\n")
    yield "an LF at the end", "GET / HTTP/1.1\r\nHost: {host}\r\n\n"
    yield "CR for line ends", "GET / HTTP/1.1\rHost: {host}\r\r"


@pytest.mark.parametrize("text", [pytest.param(t, id=n) for n, t in heads()])
def test_what_two_could_read_differently_goes_nowhere(proxy, service, text):
    before = proxy.count()
    c = proxy.client().send(text.format(host=host(service.port)).encode("latin-1"))
    answer = c.answer()
    assert answer.status in (400, 417, 501, 505), answer.first
    assert answer.get("connection") == "close" and c.ended()
    after = proxy.count()
    assert after["dialled"] == before["dialled"] and after["malformed"] == before["malformed"] + 1


def test_the_corpus_has_its_control(proxy, service):
    """The same request without the fault is forwarded."""
    c = proxy.client().send(f"POST / HTTP/1.1\r\nHost: {host(service.port)}\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    s = service.accept()
    assert s.head().get("transfer-encoding") == "chunked"
    assert s.exactly(5) == b"0\r\n\r\n"
    s.send(ok())
    assert c.answer().status == 200


CHUNKS = ["5\n", "x\r\n", "5\r\nhelloX", "5 \r\nhello\r\n", "-1\r\n", "\r\n", "ffffffffffffffffff\r\n",
          "5;a\x01\r\n", "5;\n", "0x5\r\n", " 5\r\n", "+5\r\n", "0_5\r\n", "000000000000000000005\r\n",
          "5\r\nhello\n", "5\r\nhello\r0", "0\r\n x: y\r\n", "0\r\nx: y\n\r\n", "0\r\nx\r\n\r\n",
          "0\r\nx : y\r\n\r\n"]


@pytest.mark.parametrize("body", CHUNKS)
def test_broken_chunks_are_not_passed_on(proxy, service, body):
    c = proxy.client().send(get(service.port, "/", "Transfer-Encoding: chunked", method="POST"))
    s = service.accept()
    s.head()
    c.send(body)
    answer = c.answer()
    assert answer.status == 400 and c.ended()
    try:
        seen = s.rest()
    except ConnectionResetError:
        seen = b""
    assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("body", CHUNKS)
def test_broken_chunks_of_an_answer_are_not_passed_on(proxy, service, body):
    c, s, _ = asked(proxy, service)
    s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    assert c.head().status == 200 and c.exactly(8) == b"3\r\none\r\n"
    s.send(body)
    with pytest.raises(ConnectionResetError):  # so that nobody takes it for the whole
        c.rest()
    assert not c.have.endswith(b"0\r\n\r\n") and s.ended()


@pytest.mark.parametrize("head", [
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 4\r\n\r\n", "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/3 200 OK\r\n\r\n",
    "ICY 200 OK\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n"])
def test_answers_that_two_could_read_differently(proxy, service, head):
    c, s, _ = asked(proxy, service)
    s.send(head)
    answer = c.answer()
    assert answer.status == 502 and b"malformed" in answer.body and s.ended()


def test_heads_have_a_limit(proxy, service):
    c = proxy.client().send(get(service.port, "/", "X: " + "a" * 33000))
    assert c.answer().status == 431
    c = proxy.client().send(get(service.port, "/" + "a" * 20000))
    assert c.answer().status == 414
    c = proxy.client().send(get(service.port, "/", *["X: y"] * 120))
    assert c.answer().status == 431
    c, s, _ = asked(proxy, service)
    s.send("HTTP/1.1 200 OK\r\nX: " + "a" * 40000)
    assert c.answer().status == 502


# --- bodies ---------------------------------------------------------------------------------------

def test_connections_are_used_again_on_both_sides(proxy, service):
    before = proxy.count()
    c, s, _ = asked(proxy, service)
    s.send(ok("one"))
    assert c.answer().body == b"one"
    d = proxy.client()  # another client gets the connection that is free
    for wire in (c, d, c):
        wire.send(get(service.port))
        s.head()
        s.send(ok("more"))
        assert wire.answer().body == b"more"
    after = proxy.count()
    assert after["dialled"] - before["dialled"] == 1 and after["reused"] - before["reused"] == 3


def test_a_connection_is_only_for_its_port_and_sandbox(proxy, service):
    proxy.set(OTHER, 6, "127.0.0.6")
    second, neighbour = Service(), Service("127.0.0.6", service.port)
    try:
        c, s, _ = asked(proxy, service)
        s.send(ok("one"))
        c.answer()
        c.send(get(second.port))
        t = second.accept()
        t.head()
        t.send(ok("two"))
        assert c.answer().body == b"two"
        c.send(get(service.port, ulid=OTHER))
        n = neighbour.accept()
        n.head()
        n.send(ok("three"))
        assert c.answer().body == b"three"
    finally:
        second.close()
        neighbour.close()
        proxy.command("del 6")


def test_pipelined_requests_are_answered_in_order(proxy, service):
    c = proxy.client().send(get(service.port, "/1") + get(service.port, "/2") + get(service.port, "/3"))
    s = service.accept()
    for i in (1, 2, 3):
        assert s.head().first == f"GET /{i} HTTP/1.1" and not s.have
        s.send(ok(str(i)))
    assert [c.answer().body for _ in range(3)] == [b"1", b"2", b"3"]


def test_a_stale_connection_is_not_the_clients_matter(proxy, service):
    c, s, _ = asked(proxy, service)
    s.send(ok())
    c.answer()
    c.send(get(service.port, "/again"))
    s.head()
    s.close()  # without an answer, as a service does that had enough of waiting
    t = service.accept()
    assert t.head().first == "GET /again HTTP/1.1"
    t.send(ok("yes"))
    assert c.answer().body == b"yes"
    # What may not be repeated is not.
    c.send(get(service.port, method="POST"))
    t.head()
    t.close()
    assert c.answer().status == 502


def test_trailers_go_both_ways(proxy, service):
    c = proxy.client()
    body = b"5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    for _ in range(2):  # and the connection goes on behind them
        c.send(get(service.port, "/", "Transfer-Encoding: chunked", "Trailer: X-Sum", method="POST")).send(body)
        s = service.accept() if not _ else s
        assert s.head().get("trailer") == "X-Sum" and s.exactly(len(body)) == body
        s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n").send(body)
        assert c.head().get("trailer") == "X-Sum" and c.exactly(len(body)) == body


# Fields that frame, route, authorize or qualify a message (RFC 9110 6.5.1), and those of the hop and ours.
NO_TRAILERS = ["Content-Length: 3", "Transfer-Encoding: chunked", "Host: evil", "Authorization: Bearer x",
               "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4",
               "X-Api-Key: k", "OpenSandbox-Secure-Access: s", "OpenSandbox-Ingress-To: x-80",
               "X-Weir-Ingress-Token: t", "Connection: close", "Upgrade: x", "Set-Cookie: a=b",
               "Content-Type: text/html", "Location: /", "Cache-Control: no-store", "eXpEcT: 100-continue"]


def test_trailers_smuggle_nothing(proxy, service):
    both = [line for bad in NO_TRAILERS for line in (bad, "X-" + bad)]  # the control: the same, by another name
    sent = "5\r\nhello\r\n0\r\n" + "".join(line + "\r\n" for line in both) + "\r\n"
    kept = "5\r\nhello\r\n0\r\n" + "".join("X-" + line + "\r\n" for line in NO_TRAILERS) + "\r\n"
    # An X in front makes of "Forwarded-For: …" and the like another of those.
    assert "X-X-Forwarded-For" in kept
    c = proxy.client()
    for cut in (len(sent), len(sent) - 1, sent.index("0\r\nC") + 2, sent.index("Cookie") + 3):
        c.send(get(service.port, "/", "Transfer-Encoding: chunked", method="POST"))
        s = service.accept() if cut == len(sent) else s
        s.head()
        c.send(sent[:cut])
        if cut < len(sent):
            s.until("hello")  # so much has gone on
            c.send(sent[cut:])
            assert s.exactly(len(kept.partition("hello")[2])).decode() == kept.partition("hello")[2]
        else:
            assert s.exactly(len(kept)).decode() == kept
        s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent[:cut])
        c.head()
        c.until("hello")
        s.send(sent[cut:])
        assert c.exactly(len(kept.partition("hello")[2])).decode() == kept.partition("hello")[2]
        assert not s.have and not c.have


def test_what_connection_names_is_no_trailer_either(proxy, service):
    sent = b"1\r\nx\r\n0\r\nX-Hop: 1\r\nX-Sum: 2\r\n\r\n"
    c = proxy.client().send(get(service.port, "/", "Transfer-Encoding: chunked", "Connection: X-Hop",
                                method="POST")).send(sent)
    s = service.accept()
    s.head()
    assert s.exactly(11) == b"1\r\nx\r\n0\r\n\r\n" and not s.have
    s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\n\r\n").send(sent)
    c.head()
    assert c.exactly(11) == b"1\r\nx\r\n0\r\n\r\n"
    c.send(get(service.port))  # and nothing stands between it and what follows
    s.head()
    s.send(ok())
    assert c.answer().body == b"fine"


def test_no_answer_is_502_and_half_an_answer_is_a_reset(proxy, service):
    c, s, _ = asked(proxy, service)
    s.close()
    assert c.answer().status == 502
    c, s, _ = asked(proxy, service)
    s.close(reset=True)
    assert c.answer().status == 502
    for head in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        c, s, _ = asked(proxy, service)
        s.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n")
        c.until("hello")
        s.close()
        assert c.reset()


def test_bodies_stream_both_ways_at_once(proxy, service):
    c = proxy.client().send(get(service.port, "/", "Transfer-Encoding: chunked", method="POST"))
    s = service.accept()
    assert s.head().get("transfer-encoding") == "chunked"
    s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert c.head().get("connection") == "close"  # it answers before the request is complete
    for i in range(10):
        piece = f"3\r\n{i:03}\r\n"
        assert s.exactly(len(c.send(piece) and piece)) == piece.encode()
        s.send(piece)
        assert c.exactly(len(piece)) == piece.encode()
    c.send("0\r\nX-Sum: 1\r\n\r\n")
    assert s.until("\r\n\r\n") == b"0\r\nX-Sum: 1\r\n\r\n"
    s.send("0\r\nX-Sum: 2\r\n\r\n")
    assert c.rest() == b"0\r\nX-Sum: 2\r\n\r\n"


def test_events_arrive_as_they_are_sent(proxy, service):
    c, s, _ = asked(proxy, service, "Accept: text/event-stream")
    s.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    assert c.head().get("connection") == "close"  # it ends with the connection
    for i in range(5):
        s.send(f"data: {i}\n\n")
        assert c.until("\n\n") == f"data: {i}\n\n".encode()
    s.close()
    assert c.rest() == b""


def test_expect_continue_is_the_services_to_answer(proxy, service):
    c = proxy.client().send(get(service.port, "/", "Content-Length: 4", "Expect: 100-continue",
                                method="PUT"))
    s = service.accept()
    assert s.head().get("expect") == "100-continue"
    s.send("HTTP/1.1 100 Continue\r\n\r\n")
    assert c.head().status == 100
    c.send("body")
    assert s.exactly(4) == b"body"
    s.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok())
    assert c.head().status == 103
    assert c.answer().status == 200
    # Refused before the body came: the client need not send it, and the connection ends.
    c.send(get(service.port, "/", "Content-Length: 4", "Expect: 100-continue", method="PUT"))
    s.head()
    s.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    answer = c.answer()
    assert answer.status == 413 and answer.get("connection") == "close" and c.ended()


@pytest.mark.parametrize("method, status, lines", [
    ("HEAD", 200, "Content-Length: 1000"), ("HEAD", 200, "Transfer-Encoding: chunked"),
    ("GET", 204, "X: y"), ("GET", 304, "Content-Length: 1000")])
def test_answers_without_a_body(proxy, service, method, status, lines):
    c = proxy.client().send(get(service.port, method=method))
    s = service.accept()
    s.head()
    s.send(f"HTTP/1.1 {status} Yes\r\n{lines}\r\n\r\n")
    head = c.head()
    assert head.status == status and lines.split(":")[0].lower() in head.names()
    c.send(get(service.port))  # both connections are good for another
    s.head()
    s.send(ok())
    assert c.answer().status == 200


def test_surplus_after_an_answer_is_nobodys_answer(proxy, service):
    c, s, _ = asked(proxy, service)
    s.send(ok("one") + ok("evil"))
    assert c.answer().body == b"one"
    assert s.ended()
    c.send(get(service.port))
    t = service.accept()
    t.head()
    t.send(ok("two"))
    assert c.answer().body == b"two"
    t.send(ok("evil"))  # the same, while it is idle
    assert t.ended()


def test_old_clients(proxy, service):
    c = proxy.client().send(f"GET / HTTP/1.0\r\nHost: {host(service.port)}\r\n\r\n")
    s = service.accept()
    assert s.head().first == "GET / HTTP/1.1"
    s.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")
    head = c.head()
    assert "transfer-encoding" not in head.names() and head.get("connection") == "close"
    assert c.rest() == b"abcdefg"
    c = proxy.client().send(f"GET / HTTP/1.0\r\nHost: {host(service.port)}\r\n"
                            "Connection: keep-alive\r\n\r\n")
    s.head()
    s.send("HTTP/1.1 102 Processing\r\n\r\n" + ok())
    assert c.answer().get("connection") == "keep-alive"
    c.send(f"GET / HTTP/1.0\r\nHost: {host(service.port)}\r\n\r\n")
    s.head()
    s.send(ok())
    assert c.answer().get("connection") == "close"


@pytest.mark.parametrize("up", [True, False])
def test_a_body_of_any_size_in_bounded_memory(proxy, service, up):
    """Whoever does not read stops whoever writes: the proxy takes a few pieces and no more."""
    size = 64 << 20
    c = proxy.client()
    if up:
        c.send(get(service.port, "/", f"Content-Length: {size}", method="PUT"))
        s = service.accept()
        s.head()
        source, sink = c, s
    else:
        c.send(get(service.port))
        s = service.accept()
        s.head()
        s.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        c.head()
        source, sink = s, c
    block, sent = bytes(range(256)) * 4096, 0
    source.sock.setblocking(False)
    quiet = 0
    while quiet < 20:  # nobody reads: how much goes in?
        try:
            sent += source.sock.send(block[sent % 256:])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            proxy.count()  # the proxy has had a turn
    rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{proxy.play.pid}/status").read()).group(1))
    assert sent < size / 2 and rss < 100_000
    seen, digest = 0, True
    sink.sock.setblocking(False)
    while seen < size:
        if sent < size:
            try:
                sent += source.sock.send(block[sent % 256:][:size - sent])
            except BlockingIOError:
                pass
        try:
            got = sink.sock.recv(1 << 20)
        except BlockingIOError:
            continue
        assert got
        digest &= got == (block * 2)[seen % 256:][:len(got)]
        seen += len(got)
    assert digest and seen == size
    s.sock.settimeout(SECONDS)
    c.sock.settimeout(SECONDS)
    if up:
        s.send(ok())
        assert c.answer().status == 200


@pytest.mark.parametrize("rest", ["{c}", "GET / HTTP/1.1\r\nHost: {h}\r\n", "POST / HTTP/1.1\r\nHost: {h}"
                                  "\r\nContent-Length: 9\r\n\r\nhalf"])
def test_a_client_that_leaves_leaves_nothing(proxy, service, rest):
    c = proxy.client().send(rest.format(h=host(service.port), c=""))
    s = service.accept() if "half" in rest else None
    if s:
        s.head()
        s.exactly(4)
    c.close()
    if s:
        assert s.ended()
    proxy.until("forgotten", lambda: proxy.count("clients") == 0)


def test_a_client_that_closed_its_side_gets_its_answer(proxy, service):
    c, s, _ = asked(proxy, service)
    c.shut()
    s.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
    c.until("half")
    s.send("half")
    assert c.rest() == b"half"


@pytest.mark.parametrize("rest", ["", "GET / HTTP/1.1\r\nHost: ", "POST / HTTP/1.1\r\nHost: {h}\r\n"
                                  "Content-Length: 9\r\n\r\nhalf"], ids=["", "half_head", "half_body"])
def test_all_that_was_asked_before_a_side_was_closed_is_answered(proxy, service, rest):
    """In order, each by the service or by the proxy; then the connection ends, as it does for who sent
    half a request last: that one is not answered."""
    c = proxy.client().send(get(service.port, "/0"))
    s = service.accept()
    assert s.head().first == "GET /0 HTTP/1.1"  # under way when the others and the end come
    c.send(get(service.port, "/1", "Content-Length: 3", method="POST", body="one") + get(service.port, "/2") +
           get(service.port, ulid="0" * 26) + get(service.port, "/4") + rest.format(h=host(service.port))).shut()
    for i in (0, 1, 2, 4):
        if i:
            assert s.head().first == ("POST /1 HTTP/1.1" if i == 1 else f"GET /{i} HTTP/1.1")
        assert i != 1 or s.exactly(3) == b"one"
        s.send(ok(str(i)))
    for i in range(5):
        a = c.answer()
        assert (a.status, a.body) == (200, str(i).encode()) if i != 3 else a.status == 404
    assert c.ended()
    proxy.until("none is left", lambda: proxy.count("clients") == 0)


def test_behind_connection_close_nothing_is_a_request(proxy, service):
    """The control: what follows is not answered, sent whole or not."""
    c = proxy.client().send(get(service.port, "/0", "Connection: close") + get(service.port, "/1")).shut()
    s = service.accept()
    s.head()
    s.send(ok("0"))
    assert c.answer().body == b"0" and c.ended()


def test_who_closed_his_side_is_waited_for_and_who_left_is_not(service):
    p = Proxy("half_ms=20")
    p.set()
    try:
        c, s, _ = asked(p, service)
        tunnel, t = upgraded(p, service)
        early = p.client().send(get(service.port, "/", "Connection: upgrade", "Upgrade: x",
                                     body="ahead")).shut()
        e = service.accept()
        e.head()
        e.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        for one in (c, tunnel):
            one.shut()
        assert t.rest() == b"" and e.rest() == b"ahead"
        e.close()
        assert early.head().status == 101 and early.rest() == b""
        for _ in range(3):  # each is noticed by a look that the others survive
            left, s2, _ = asked(p, service)
            left.shut()
            left.close(reset=True)
            assert s2.ended()
        p.until("two are left", lambda: p.count("clients") == 2)
        s.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        c.until("data: 1\n\n")
        left, s2, _ = asked(p, service)
        left.shut()
        left.close(reset=True)
        assert s2.ended()
        s.send("data: 2\n\n")
        s.close()
        assert c.rest() == b"data: 2\n\n"
        tunnel.head()
        t.send("late")
        t.close()
        assert tunnel.rest() == b"late"
        p.until("none is left", lambda: p.count("clients") == 0)
    finally:
        p.close()


# --- upgrades -------------------------------------------------------------------------------------

def upgraded(proxy, service, early=""):
    c = proxy.client().send(get(service.port, "/", "Connection: keep-alive, UPGRADE",
                                "Upgrade: websocket", "Sec-WebSocket-Key: x", body=early))
    s = service.accept()
    head = s.head()
    assert head.get("connection") == "Upgrade" and head.get("upgrade") == "websocket"
    s.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Accept: y\r\n\r\n")
    return c, s


def test_after_101_bytes_are_bytes(proxy, service):
    c, s = upgraded(proxy, service, early="early")
    head = c.head()
    assert head.status == 101 and head.get("upgrade") == "websocket"
    assert head.get("connection") == "Upgrade" and head.get("sec-websocket-accept") == "y"
    assert s.exactly(5) == b"early"
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
        c.send(data)
        assert s.exactly(len(data)) == data
        s.send(data)
        assert c.exactly(len(data)) == data
    assert proxy.count("tunnels") == 1
    c.shut()
    assert s.rest() == b""
    s.send("last")
    s.close()
    assert c.rest() == b"last"
    proxy.until("over", lambda: proxy.count("tunnels") == 0)


def test_a_tunnel_breaks_for_both(proxy, service):
    c, s = upgraded(proxy, service)
    c.head()
    c.close(reset=True)
    assert s.ended()
    c, s = upgraded(proxy, service)
    c.head()
    s.close(reset=True)
    assert c.reset()


def test_an_upgrade_that_is_not_granted(proxy, service):
    c = proxy.client().send(get(service.port, "/", "Connection: upgrade", "Upgrade: websocket"))
    s = service.accept()
    s.head()
    s.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
    assert c.answer().body == b"no"
    c.send(get(service.port))
    s.head()
    s.send(ok())
    assert c.answer().status == 200


# --- TLS ------------------------------------------------------------------------------------------

def tls(proxy, **kw):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", proxy.port))
    raw.settimeout(SECONDS)
    w = Wire(context.wrap_socket(raw, server_hostname=f"{ULID}-80.localhost"))
    proxy.wires.append(w)
    return w


def certificate(wire):
    return ssl.DER_cert_to_PEM_cert(wire.sock.getpeercert(binary_form=True))


def test_tls_on_the_same_port(proxy, service, tmp_path):
    c = tls(proxy)
    assert c.sock.selected_alpn_protocol() == "http/1.1"
    assert c.sock.version() == "TLSv1.3"
    c.send(get(service.port))
    s = service.accept()
    assert s.head().get("x-forwarded-proto") == "https"
    big = bytes(range(256)) * 4000
    s.send(ok(big.decode("latin-1")).encode("latin-1"))
    assert c.answer().body == big
    c.send(get(service.port, "/", f"Content-Length: {len(big)}", method="PUT"))
    c.send(big)
    s.head()
    assert s.exactly(len(big)) == big
    s.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    s.close()
    c.head()
    assert c.rest() == b"until the end"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_comes_again_resumes_his_session(proxy, service, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = version
    reused, session, s = [], None, None
    for _ in range(3):  # one ticket for each connection is enough for the next
        raw = socket.create_connection(("127.0.0.1", proxy.port))
        c = Wire(context.wrap_socket(raw, server_hostname=f"{ULID}-80.localhost", session=session))
        c.send(get(service.port))
        s = s or service.accept()
        s.head()
        s.send(ok())
        assert c.answer().status == 200  # a ticket comes before it, or with the handshake
        reused.append(c.sock.session_reused)
        session = c.sock.session
        c.close()
    assert reused == [False, True, True]


def test_another_certificate_breaks_nothing(proxy, service, tmp_path):
    names = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"],
                           input=certificate(tls(proxy)), text=True, capture_output=True, check=True)
    assert "DNS:localhost, DNS:*.localhost" in names.stdout
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=second", "-keyout",
                    tmp_path / "k", "-out", tmp_path / "c"], check=True, capture_output=True)
    old = tls(proxy)
    proxy.command(f"cert {tmp_path}/c {tmp_path}/k")
    new = tls(proxy)
    assert certificate(new) == open(tmp_path / "c").read() != certificate(old)
    for c in (old, new):
        c.send(get(service.port))
        if c is old:
            s = service.accept()
        s.head()
        s.send(ok())
        assert c.answer().status == 200
    # A pair that does not fit is refused, and the good one stays.
    with pytest.raises(AssertionError, match="error"):
        proxy.command(f"cert {tmp_path}/k {tmp_path}/c")
    assert certificate(tls(proxy)) == certificate(new)


# --- the agent ------------------------------------------------------------------------------------

def frame(kind, body=b""):
    return struct.pack(">BBHI", kind, 0, 0, len(body)) + body


def read_frame(wire):
    kind, flags, zero, n = struct.unpack(">BBHI", wire.exactly(8))
    assert flags == zero == 0
    return kind, wire.exactly(n)


CONNECT, DATA, END, OK, ERROR = 7, 32, 33, 38, 39


@pytest.fixture(scope="module")
def agent():
    service = Service("127.0.0.7")
    p = Proxy(f"agent_port={service.port}")
    p.set(ip="127.0.0.7")
    yield p, service
    p.close()
    service.close()


def test_services_on_loopback_are_reached_through_the_agent(agent):
    p, service = agent
    c = p.client().send(get(5001, "/", "Content-Length: 4", method="POST", body="body"))
    a = service.accept()
    assert read_frame(a) == (CONNECT, struct.pack(">BBHII", 1, 0, 0, 4, 5001))
    a.send(frame(OK))
    got = b""
    while not got.endswith(b"\r\n\r\nbody"):
        kind, body = read_frame(a)
        assert kind == DATA
        got += body
    assert got.startswith(b"POST / HTTP/1.1\r\nHost: localhost:5001\r\n")
    for byte in frame(DATA, ok("fine").encode()):  # frames may come in any pieces
        a.send(bytes([byte]))
    assert c.answer().body == b"fine"
    c.send(get(5001))  # kept like any other
    assert read_frame(a)[0] == DATA
    big = bytes(range(256)) * 1000
    whole = b"HTTP/1.1 200 OK\r\n\r\n" + big
    for at in range(0, len(whole), 65536):
        a.send(frame(DATA, whole[at:at + 65536]))
    a.send(frame(END))
    c.head()
    assert c.rest() == big


@pytest.mark.parametrize("said", [frame(ERROR, b""), frame(DATA, b"x"), b"\xff" * 8, frame(OK, b"x")])
def test_an_agent_that_says_no_or_nonsense(agent, said):
    p, service = agent
    c = p.client().send(get(5002))
    a = service.accept()
    read_frame(a)
    a.send(said)
    assert c.answer().status == 502 and a.ended()


def test_a_tunnel_through_the_agent_half_closes(agent):
    p, service = agent
    c = p.client().send(get(5003, "/", "Connection: upgrade", "Upgrade: websocket"))
    a = service.accept()
    read_frame(a)
    a.send(frame(OK))
    read_frame(a)
    a.send(frame(DATA, b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\nhello"))
    assert c.head().status == 101 and c.exactly(5) == b"hello"
    c.send("bye").shut()
    assert read_frame(a) == (DATA, b"bye") and read_frame(a) == (END, b"")
    a.send(frame(DATA, b"bye") + frame(END))
    assert c.rest() == b"bye"


# --- tokens ---------------------------------------------------------------------------------------

@pytest.fixture
def guarded(proxy, service):
    proxy.set(access=TOKEN, tokens=[("good", service.port, 0), ("past", service.port, 1),
                                    ("later", service.port, 1 << 31), ("elsewhere", 80, 0)])
    return proxy


def shown(service, header=None, cookie=None, query=None):
    lines = [f"X-Weir-Ingress-Token: {header}"] if header is not None else []
    lines += [f"Cookie: x=y; weir-ingress-token={cookie}"] if cookie is not None else []
    return get(service.port, "/?a=b" + (f"&weir_token={query}" if query is not None else ""), *lines)


@pytest.mark.parametrize("how", [
    {}, {"header": "past"}, {"header": "elsewhere"}, {"header": "bad"}, {"header": ""},
    {"header": "Good"}, {"header": "good" + "x" * 300}, {"cookie": "elsewhere"}, {"query": "past"},
    {"query": "bad", "cookie": "good"}, {"header": "bad", "query": "good"}])
def test_without_the_right_token_nobody_comes_in(guarded, service, how):
    before = guarded.count("dialled")
    answer = guarded.client().send(shown(service, **how)).answer()
    assert answer.status == 401 and answer.get("www-authenticate")
    assert guarded.count("dialled") == before


@pytest.mark.parametrize("how", [{"header": "good"}, {"header": "later"}, {"cookie": "good"},
                                 {"query": "good"}, {"header": "good", "query": "bad"}])
def test_a_token_opens_and_stays_outside(guarded, service, how):
    c = guarded.client().send(shown(service, **how))
    s = service.accept()
    head = s.head()
    assert head.first == "GET /?a=b HTTP/1.1"
    assert "good" not in str(head.fields) and "later" not in str(head.fields)
    s.send(ok())
    answer = c.answer()
    assert answer.status == 200
    cookie = answer.get("set-cookie")
    assert (cookie is not None) == (how == {"query": "good"})
    if cookie:
        assert cookie == "weir-ingress-token=good; Path=/; HttpOnly; SameSite=Lax"


def test_a_revoked_token_opens_nothing_more(guarded, service):
    c = guarded.client().send(shown(service, header="good"))
    s = service.accept()
    s.head()
    s.send(ok())
    c.answer()
    guarded.set(access=TOKEN)
    assert c.send(shown(service, header="good")).answer().status == 401


def test_a_websocket_needs_the_token_too(guarded, service):
    c = guarded.client().send(get(service.port, "/", "Connection: upgrade", "Upgrade: websocket"))
    assert c.answer().status == 401
    c.send(get(service.port, "/", "Connection: upgrade", "Upgrade: websocket",
               "X-Weir-Ingress-Token: good"))
    s = service.accept()
    assert s.head().get("upgrade") == "websocket"


KEY = "0123456789abcdef0123456789abcdef"


def signature(port, expires, ulid=ULID, key=KEY, kid="k"):
    digits, n = "", expires
    while n:
        digits, n = "0123456789abcdefghijklmnopqrstuvwxyz"[n % 36] + digits, n // 36
    text = f"v1\nshort\nsb-{ulid}\n{port}\n{digits}\n".encode()
    data = struct.pack(">I", len(key)) + key.encode() + struct.pack(">I", len(text)) + text
    return digits, hashlib.sha256(data).hexdigest()[:8] + kid


def test_secure_access(proxy, service):
    proxy.set(secret="s3cret")
    port = service.port
    c = proxy.client()
    assert c.send(get(port)).answer().status == 401
    assert c.send(get(port, "/", "OpenSandbox-Secure-Access: nope")).answer().status == 401
    later, sig = signature(port, 4000000000)
    name = f"{ULID}-{port}-{later}-{sig}"
    signed = f"GET /x HTTP/1.1\r\nHost: {name}.localhost\r\n\r\n"
    proxy.command("keys")
    assert c.send(signed).answer().status == 503  # nothing to verify with
    proxy.command("keys k " + KEY.encode().hex())
    hexed = KEY.encode().hex()
    for wrong in (f"K {hexed}", f"k {hexed[:30]}", f"k {hexed} k {hexed}", f"j {hexed} - {hexed}"):
        with pytest.raises(AssertionError, match="malformed"):  # and changes nothing
            proxy.command("keys " + wrong)
    # A header that is there decides, even an empty one.
    assert c.send(signed.replace("\r\n\r\n", "\r\nOpenSandbox-Secure-Access: \r\n\r\n")
                  ).answer().status == 401
    past, old = signature(port, 1000000000)
    wrong = [(later, signature(port + 1, 4000000000)[1]), (past, old), (later, sig[:8] + "j"),
             (later, signature(port, 4000000000, OTHER)[1]), (later, "0" * 8 + "k")]
    for expires, s in wrong:
        assert c.send(f"GET / HTTP/1.1\r\nHost: {ULID}-{port}-{expires}-{s}.localhost\r\n\r\n"
                      ).answer().status == 401
    for text in (get(port, "/x", "OpenSandbox-Secure-Access: s3cret"), signed,
                 f"GET /x HTTP/1.1\r\nHost: h\r\nOpenSandbox-Ingress-To: {name}\r\n\r\n",
                 f"GET /{ULID}/{port}/{later}/{sig}/x HTTP/1.1\r\nHost: h\r\n\r\n"):
        c.send(text)
        if text.startswith("GET /x HTTP/1.1\r\nHost: " + host(port)):
            s = service.accept()
        head = s.head()
        assert head.first == "GET /x HTTP/1.1"
        assert not {"opensandbox-secure-access", "opensandbox-ingress-to"} & set(head.names())
        s.send(ok())
        assert c.answer().status == 200
    # Without a secret what looks like a signature verifies nothing, and is part of a path.
    proxy.set()
    c.send(f"GET / HTTP/1.1\r\nHost: {ULID}-{port}-{later}-{'0' * 8}k.localhost\r\n\r\n")
    assert s.head()


# --- waiting --------------------------------------------------------------------------------------

def test_one_resume_however_many_requests(proxy, service):
    proxy.set(flags=ON | HOLD, state=PAUSED)
    clients = [proxy.client().send(get(service.port, f"/{i}")) for i in range(50)]
    proxy.until("all wait", lambda: proxy.count("held") == 50)
    assert proxy.events.count("wake 5") == 1
    proxy.set(flags=ON | HOLD)
    proxy.command("woken 5")
    for _ in clients:
        s = service.accept()
        i = int(s.head().first.split()[1][1:])
        s.send(ok(f"for {i}"))
        assert clients[i].answer().body == f"for {i}".encode()
    proxy.set(flags=ON | HOLD, state=PAUSED)
    clients[0].send(get(service.port))
    proxy.until("it is asked for again", lambda: proxy.count("held") == 1)
    assert proxy.events.count("wake 5") == 2
    proxy.command("woken 5 the disk is full")
    answer = clients[0].answer()
    assert answer.status == 503 and b"the disk is full" in answer.body
    proxy.events.clear()


def test_a_held_body_arrives_whole(proxy, service):
    proxy.set(flags=ON | HOLD, state=PAUSED)
    c = proxy.client().send(get(service.port, "/", "Content-Length: 100000", method="PUT"))
    proxy.until("it waits", lambda: proxy.count("held") == 1)
    proxy.set(flags=ON | HOLD)
    proxy.command("woken 5")
    s = service.accept()
    s.head()
    c.send("x" * 100000)
    assert s.exactly(100000) == b"x" * 100000
    s.send(ok())
    assert c.answer().status == 200
    proxy.events.clear()


@pytest.mark.parametrize("body", ["whole", "half"])
def test_who_waits_may_close_his_side(service, body):
    p = Proxy("half_ms=20")
    try:
        p.set(flags=ON | HOLD, state=PAUSED)
        c = p.client().send(get(service.port, "/", "Content-Length: 5", method="PUT", body=body)).shut()
        left = p.client().send(get(service.port)).shut()
        p.until("both wait", lambda: p.count("held") == 2)
        left.close(reset=True)
        p.until("who left does not", lambda: p.count("held") == 1)
        p.set(flags=ON | HOLD)
        p.command("woken 5")
        s = service.accept()
        s.head()
        if body == "half":  # the rest cannot come any more
            assert s.exactly(4) == b"half" and s.ended() and c.ended()
        else:
            assert s.exactly(5) == b"whole"
            s.send(ok())
            assert c.answer().status == 200 and c.ended()
        p.until("none is left", lambda: p.count("clients") == 0)
    finally:
        p.close()


def test_a_body_and_its_end_may_come_before_the_sandbox_is_reached(proxy, service):
    for _ in range(20):
        c = proxy.client().send(get(service.port, "/", "Content-Length: 5", "Connection: close", method="PUT",
                                    body="whole")).shut()
        s = service.accept()
        s.head()
        assert s.exactly(5) == b"whole"
        s.send(ok("fine", "Connection: close"))
        assert c.answer().status == 200 and c.ended()


def test_who_waits_may_leave_and_the_sandbox_may_go(proxy, service):
    proxy.set(flags=ON | HOLD, state=PAUSED)
    a, b = (proxy.client().send(get(service.port)) for _ in range(2))
    proxy.until("both wait", lambda: proxy.count("held") == 2)
    a.close(reset=True)
    proxy.until("one waits", lambda: proxy.count("held") == 1)
    proxy.command("sync begin")  # whoever was asked is gone
    assert b.answer().status == 503
    b = proxy.client().send(get(service.port))
    proxy.until("one waits", lambda: proxy.count("held") == 1)
    proxy.command("del 5")
    assert b.answer().status == 404
    proxy.events.clear()


# --- limits and time ------------------------------------------------------------------------------

def limited(*settings):
    p = Proxy(*settings)
    p.set()
    return p


def test_connections_have_limits(service):
    p = limited("connections_max=6", "per_address=4", "per_sandbox=2", "upstream_max=2")
    try:
        held = [p.client() for _ in range(4)]
        p.until("all are there", lambda: p.count("clients") == 4)
        assert p.client().ended()  # none of the others has been idle for long
        assert p.count("per_address") == 1
        for c in held[:2]:
            c.send(get(service.port))
        s = [service.accept() for _ in range(2)]
        refused = held[2].send(get(service.port)).answer()
        assert refused.status == 429 and refused.get("retry-after")
        p.set(OTHER, 6, "127.0.0.6")
        assert held[3].send(get(service.port, ulid=OTHER)).answer().status == 503
        for one, c in zip(s, held):
            one.head()
            one.send(ok())
        assert [c.answer().status for c in held[:2]] == [200, 200]
        # Idle connections make room for others.
        assert held[3].send(get(service.port, ulid=OTHER)).answer().status == 502
    finally:
        p.close()


def test_nothing_waits_for_ever(service):
    # Each limit where nothing else has to be done within it.
    p = limited("head_ms=500", "idle_ms=500", "silence_ms=500")
    try:
        slow = p.client().send("GET / HTTP/1.1\r\nHost: ")
        idle = p.client()
        quiet, s, _ = asked(p, service)
        s.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        assert slow.answer().status == 408 and slow.ended()
        quiet.until("some")
        assert quiet.reset()
        assert idle.ended()
    finally:
        p.close()
    p = limited("answer_ms=200", "hold_ms=200")
    try:
        stalled = p.client().send(get(service.port, "/", "Content-Length: 9", method="PUT"))
        s = service.accept()
        assert stalled.answer().status == 408 and s.head() and s.ended()
        mute, s, _ = asked(p, service)
        assert mute.answer().status == 504 and s.ended()
        p.set(flags=ON | HOLD, state=PAUSED)
        assert p.client().send(get(service.port)).answer().status == 504
    finally:
        p.close()
    p = limited("hold_max=1")
    try:
        p.set(flags=ON | HOLD, state=PAUSED)
        p.client().send(get(service.port))
        p.until("it waits", lambda: p.count("held") == 1)
        assert p.client().send(get(service.port)).answer().status == 503  # the queue has its limit
    finally:
        p.close()


def test_use_is_told(proxy, service):
    proxy.events.clear()
    c = proxy.client().send(get(service.port, "/", "Content-Length: 4", method="PUT", body="body"))
    s = service.accept()
    s.head()
    proxy.event(r"seen 5 open=1 requests=1 refused=0 failed=0 in=4 out=0")
    s.send(ok("fine!"))
    c.answer()
    proxy.event(r"seen 5 open=0 requests=1 refused=0 failed=0 in=4 out=5")
    c.send(get(1028))
    c.answer()
    c.send(get(1))
    c.answer()
    proxy.event(r"seen 5 open=0 requests=3 refused=1 failed=1 in=4 out=5")
