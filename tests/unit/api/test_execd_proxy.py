"""execd's /proxy/{port} in the api role. The played agent's port 80 answers a request with the bytes
of its body, so each test says what the service says; 82 answers with the head it was sent."""

import os
import socket
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_opensandbox import Client  # noqa: E402
from test_role import role, settings, until  # noqa: E402, F401
from test_tunnel import head, rest  # noqa: E402


@pytest.fixture
def sb(role):
    return Client(role).create()["id"]


def at(sb, port, path=""):
    return f"/sandboxes/{sb}/proxy/44772/proxy/{port}{path}"


def says(role, sb, answer, path="/", method="POST", headers=None):
    """What a client gets when the service answers so."""
    return role.ask(method, at(sb, 80, path), answer.encode() if isinstance(answer, str) else answer,
                    key=None, headers=headers)


OK = "HTTP/1.1 200 OK\r\n"


def test_the_head_that_arrives(role, sb):
    for base in ("", "/v1"):
        a = role.ask("PUT", base + at(sb, 82, "/a%2Fb/c//d/e/f/g/h/i/j/k/l/m/?x=%20&y"), b"body", key=None,
                     headers={"X-Api-Key": role.key, "Authorization": "Bearer " + role.key, "Cookie": "c=d",
                              "X-Forwarded-For": "9.9.9.9"})
        lines = a.body.decode().split("\r\n")
        assert a.status == 200 and lines[0] == "PUT /a%2Fb/c//d/e/f/g/h/i/j/k/l/m/?x=%20&y HTTP/1.1", a.body
        assert "Host: 127.0.0.1:82" in lines and "Content-Length: 4" in lines and "Cookie: c=d" in lines
        assert "X-Forwarded-For: 9.9.9.9, 127.0.0.1" in lines and "X-Forwarded-Proto: http" in lines
        assert role.key not in a.body.decode() and "Host: 127.0.0.1:82" in lines
    assert role.get(at(sb, 82), key=None).body.startswith(b"GET / HTTP/1.1\r\n")
    assert role.get(at(sb, 82, "?q"), key=None).body.startswith(b"GET /?q HTTP/1.1\r\n")
    assert role.ask("OPTIONS", at(sb, 82, "/o"), key=None).body.startswith(b"OPTIONS /o HTTP/1.1\r\n")
    assert role.ask("PROPFIND", at(sb, 82, "/o"), key=None).body.startswith(b"PROPFIND /o HTTP/1.1\r\n")


def test_answers(role, sb):
    a = says(role, sb, OK + "Content-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX: y\r\n\r\nhello")
    assert (a.status, a.body, a.headers.get_all("set-cookie")) == (200, b"hello", ["a", "b"])
    assert a.headers["x"] == "y" and a.headers["content-length"] == "5"
    a = says(role, sb, OK + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n")
    assert (a.status, a.body) == (200, b"abcde")
    a = says(role, sb, OK + "\r\nuntil the end", "/close")
    assert (a.status, a.body) == (200, b"until the end")
    a = says(role, sb, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (a.status, a.body, a.headers["content-length"]) == (200, b"", "0")
    assert says(role, sb, "HTTP/1.1 204 No Content\r\n\r\n").status == 204
    a = says(role, sb, "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
    assert (a.status, a.headers["location"]) == (302, "/there")
    a = says(role, sb, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 500 + OK + "Content-Length: 2\r\n\r\nok")
    assert (a.status, a.body) == (200, b"ok")
    a = says(role, sb, "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\ntea")
    assert (a.status, a.body) == (418, b"tea")


def test_head_and_keep_alive(role, sb):
    """One connection of the client's serves many, whatever the service does with its own."""
    c = role.connect()
    for body, answer in ((b"x" * 7, 200), (b"x" * 70000, 200)):
        text = OK.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        c.request("POST", at(sb, 80, "/"), text)
        r = c.getresponse()
        assert (r.status, r.read()) == (answer, body)
        sock = c.sock
    c.request("HEAD", at(sb, 82, "/h"))
    r = c.getresponse()
    assert r.status == 200 and int(r.headers["content-length"]) > 30 and r.read() == b""
    c.request("GET", "/health")
    assert c.getresponse().status == 200 and c.sock is sock


@pytest.mark.parametrize("answer, path", [
    ("nonsense\r\n\r\n", "/"), ("HTTP/1.1 200 OK\nX: y\n\n", "/"), (OK + "X: \x01\r\n\r\n", "/"),
    (OK + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", "/"), ("", "/close"), (OK, "/close"),
    (OK + "A: " + "x" * 20000 + "\r\n\r\n", "/"), ("HTTP/2 200\r\n\r\n", "/"),
    ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "/")],
    ids=["no_http", "lf", "control", "lengths", "nothing", "half_head", "long_head", "version", "upgrade"])
def test_a_service_that_talks_nonsense(role, sb, answer, path):
    a = says(role, sb, answer, path)
    assert a.status == 502 and a.json["code"] == "BACKEND_CONNECTION_FAILED" and a.json["message"]
    assert says(role, sb, OK + "Content-Length: 1\r\n\r\nx").body == b"x"


@pytest.mark.parametrize("answer", [OK + "Content-Length: 10\r\n\r\nhalf",
                                    OK + "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
                                    OK + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhalf"],
                         ids=["length", "chunk", "no_chunk"])
def test_half_an_answer_is_seen_as_such(role, sb, answer):
    with pytest.raises(Exception) as e:
        says(role, sb, answer, "/close")
    assert type(e.value).__name__ in ("IncompleteRead", "ConnectionResetError"), e


def both(sb, port, path="/"):
    return at(sb, port, path), f"/v1/sandboxes/{sb}/proxy/{port}{path}"


def wire(role, text):
    s = socket.create_connection(("127.0.0.1", role.port), 20)
    s.sendall(text.encode())
    return s


def said(s, *ends):
    """What comes, until it ends with one of these; or until the connection does."""
    data = b""
    while not data.endswith(tuple(x.encode() for x in ends)) if ends else True:
        piece = s.recv(65536)
        if not piece:
            assert not ends, data
            break
        data += piece
    return data.decode()


CHUNKS = "3\r\nabc\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\nX-Api-Key: k\r\nContent-Length: 9\r\ngrpc-status: 0\r\n\r\n"
KEPT = "3\r\nabc\r\n0\r\nX-Sum: 1\r\ngrpc-status: 0\r\n\r\n"


def test_trailers_go_both_ways(role, sb):
    """Those that may be some; and the client's connection goes on behind them."""
    for to in both(sb, 83):
        s = wire(role, f"POST {to} HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\n"
                 f"Transfer-Encoding: chunked\r\n\r\n{CHUNKS}")
        text = said(s, KEPT)
        assert text.startswith(OK) and ("\r\nTrailer: X-Sum\r\n" in text) == ("/44772/" in to)
        s.sendall(f"GET {to} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert head(s).startswith(OK)
    answer = OK + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + CHUNKS
    for to in both(sb, 80):
        ask = f"Host: x\r\nContent-Length: {len(answer)}\r\n\r\n{answer}"
        s = wire(role, f"POST {to} HTTP/1.1\r\n{ask}")
        text = said(s, "0\r\n\r\n", ": 0\r\n\r\n")
        assert text.endswith("\r\n\r\n" + KEPT) and "\r\nTrailer: X-Sum\r\n" in text
        s.sendall(f"HEAD {to} HTTP/1.1\r\n{ask}".encode())
        assert "X-Sum: 1" not in said(s, "\r\n\r\n")
        # The controls: who knows no chunks gets no trailers, and none are made up.
        assert said(wire(role, f"POST {to} HTTP/1.0\r\n{ask}")).endswith("\r\n\r\nabc")
        plain = OK + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        s = wire(role, f"POST {to} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(plain)}\r\n\r\n{plain}")
        assert said(s, "3\r\nabc\r\n0\r\n\r\n").startswith(OK)


@pytest.mark.parametrize("last", ["X-Sum\r\n\r\n", "X : y\r\n\r\n", ": y\r\n\r\n", "X: \x01\r\n\r\n",
                                  "X: y\n\r\n", "X: " + "y" * 8192 + "\r\n\r\n"],
                         ids=["no_colon", "space", "no_name", "control", "lf", "long"])
def test_trailers_that_are_none(role, sb, last):
    """Of a request: 400. Of an answer: the client sees that it is not whole."""
    for to in both(sb, 83):
        s = wire(role, f"POST {to} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{last}")
        assert head(s).startswith("HTTP/1.1 400 ")
    with pytest.raises(Exception) as e:
        says(role, sb, OK + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + last)
    assert type(e.value).__name__ in ("IncompleteRead", "ConnectionResetError"), e


@pytest.mark.parametrize("framing, body", [("Content-Length: 4", "body"),
                                           ("Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n")],
                         ids=["length", "chunked"])
def test_expect_continue_is_the_services_to_answer(role, sb, framing, body):
    ask = "POST {} HTTP/1.1\r\nHost: x\r\n" + framing + "\r\nExpect: 100-continue\r\n\r\n"
    for go in both(sb, 83, "/go"):
        s = wire(role, ask.format(go))
        assert head(s) == "HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body.encode())
        text = said(s, body)
        assert text.startswith(OK) and "\r\nExpect: 100-continue\r\n" in text
        s.sendall(ask.format(go).encode())  # and the connection goes on
        assert head(s) == "HTTP/1.1 100 Continue\r\n\r\n"
        s.close()
    for no in both(sb, 83, "/no"):  # without the body, which then need not come
        s = wire(role, ask.format(no))
        text = said(s)
        assert text.startswith("HTTP/1.1 417 ") and text.endswith("\r\n\r\nno") and "\r\nConnection: close\r\n" in text
    for mute in both(sb, 83, "/mute"):  # a service that says nothing, and a client that waits no longer
        s = wire(role, ask.format(mute) + body)
        assert said(s, body).startswith(OK)
    for go in both(sb, 83, "/go"):  # the control: who does not ask is not told
        s = wire(role, f"POST {go} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}")
        text = said(s, body)
        assert text.startswith(OK) and "Expect" not in text


def test_refusals(role, sb):
    for port, status in ((0, 400), (65536, 400), ("x", 400), (1028, 400), (81, 502), (9, 502)):
        a = role.get(at(sb, port, "/"), key=None)
        assert a.status == status and set(a.json) == {"code", "message"} and a.json["message"], (port, a.body)
    a = role.get(f"/sandboxes/sb-{'0' * 26}/proxy/44772/proxy/80/", key=None)
    assert a.status == 404
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    assert role.get(at(sb, 82, "/"), key=None).status == 409


def test_through_itself(role, sb):
    """execd's own paths, however often its proxy is asked for execd; and the egress API's."""
    again = "/proxy/44772" * 3
    assert role.get(f"/sandboxes/{sb}{again}/ping", key=None).status == 200
    assert role.get(f"/v1/sandboxes/{sb}{again}/v1/isolated/capabilities", key=None).status == 200
    assert role.get(f"/sandboxes/{sb}{again}/proxy/18080/healthz", key=None).body == b"ok"
    assert role.get(f"/sandboxes/{sb}{again}/nothing", key=None).json["code"] == "NOT_SUPPORTED"
    assert role.get(f"/sandboxes/{sb}{again}/proxy/82/x", key=None).body.startswith(b"GET /x HTTP/1.1")


def test_bodies_longer_than_buffers(role, sb):
    body = os.urandom(1 << 20) * 8
    text = OK.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert says(role, sb, text).body == body


def test_no_upgrade(role, sb):
    """Asked for, and not agreed to: an answer as any other. (Agreed to: tests/product/test_execd.py.)"""
    s = socket.create_connection(("127.0.0.1", role.port), 20)
    s.sendall(f"GET {at(sb, 82, '/ws')} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
              f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    text = head(s)
    assert text.startswith("HTTP/1.1 200 ")
    sent = s.recv(int(text.lower().split("content-length: ")[1].split("\r\n")[0])).decode()
    assert "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in sent and "Sec-WebSocket-Version: 13" in sent


def test_clients_that_leave(role, sb):
    """A place is given back by each, and there are so many."""
    def silent():
        s = socket.create_connection(("127.0.0.1", role.port), 20)
        s.sendall(f"POST {at(sb, 80, '/')} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf".encode())
        return s

    for _ in range(20):
        silent().close()
    many = [silent() for _ in range(128)]
    until("one too many", lambda: role.get(at(sb, 82, "/"), key=None).status == 503)
    for s in many:
        s.close()
    until("room again", lambda: role.get(at(sb, 82, "/"), key=None).status == 200)


# --- the server's proxy ---

def test_the_servers_proxy(role, sb):
    """The same, but no browser's credentials, a host that is told, and redirections that stay."""
    for base in ("", "/v1"):
        at_80, at_82 = (f"{base}/sandboxes/{sb}/proxy/{port}" for port in (80, 82))
        a = role.ask("PUT", at_82 + "/a%2Fb?x=%20", b"body", key=None, headers={
            "Authorization": "Basic x", "Cookie": "c=d", "X-Forwarded-For": "9.9.9.9", "Host": "h.test",
            "OPENSANDBOX-EGRESS-AUTH": "t", "X-Mine": "y"})
        lines = a.body.decode().split("\r\n")
        assert a.status == 200 and lines[0] == "PUT /a%2Fb?x=%20 HTTP/1.1", a.body
        assert {"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: h.test", "X-Mine: y"} <= set(lines)
        assert not [x for x in lines if x.split(":")[0].lower() in
                    ("authorization", "cookie", "opensandbox-egress-auth")]
        for said, seen in (("/login?a", at_80 + "/login?a"), ("//other.test/", "//other.test/"),
                           ("http://other.test/", "http://other.test/")):
            a = role.ask("POST", at_80 + "/x", f"HTTP/1.1 302 Found\r\nLocation: {said}\r\n"
                         "Content-Length: 0\r\n\r\n".encode(), key=None)
            assert (a.status, a.headers["location"]) == (302, seen)
        assert role.get(at_82, key=None).body.startswith(b"GET / HTTP/1.1\r\n")
    for port in (0, 65536, "x", 1028):
        assert role.get(f"/sandboxes/{sb}/proxy/{port}/", key=None).status in (400, 403, 404)
    for port, status in ((44772, 404), (18080, 401)):
        assert role.get(f"/sandboxes/{sb}/proxy/{port}", key=None).status == status


def websocket(role, path, *more):
    """A handshake's answer, and what its first frame says if there is one."""
    s = socket.create_connection(("127.0.0.1", role.port), 20)
    s.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: keep-alive, Upgrade",
                           "Upgrade: websocket", *more, "", ""]).encode())
    text = head(s)
    if not text.startswith("HTTP/1.1 101 "):
        return text, None
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in text  # RFC 6455's example
    kind, n = s.recv(1)[0], s.recv(1)[0]
    assert kind == 0x88 and n >= 2
    data = s.recv(n, socket.MSG_WAITALL)
    return int.from_bytes(data[:2], "big"), data[2:].decode()


KEY = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


def test_a_websocket_that_comes_to_nothing(role, sb):
    """The server's proxy tells it by a close code, execd's by a status."""
    for base in ("", "/v1"):
        to = f"{base}/sandboxes/{sb}/proxy"
        assert websocket(role, f"{to}/81/ws", *KEY)[0] == 1011  # nothing listens
        assert websocket(role, f"{to}/82/ws", *KEY) == (1008, "the service refused the upgrade")
        code, said = websocket(role, f"{base}/sandboxes/sb-{'0' * 26}/proxy/82/ws", *KEY)
        assert (code, said) == (1011, "sandbox not found")
        for wrong in ((), KEY[:1], ("Sec-WebSocket-Version: 8", KEY[1])):
            assert websocket(role, f"{to}/82/ws", *wrong)[0].startswith("HTTP/1.1 400 ")
    assert websocket(role, at(sb, 81, "/ws"), *KEY)[0].startswith("HTTP/1.1 502 ")
    assert websocket(role, at(sb, 82, "/ws"), *KEY)[0].startswith("HTTP/1.1 200 ")
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    code, said = websocket(role, f"/sandboxes/{sb}/proxy/82/ws", *KEY)
    assert code == 1011 and "paused" in said
