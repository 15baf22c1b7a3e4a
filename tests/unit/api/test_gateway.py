"""OpenSandbox's ingress gateway as the api role has it, against a played host: what create and the endpoint
route answer in each mode, and what the edge is told. tests/product/test_gateway.py walks through the doors."""

import hashlib
import struct
import time

import pytest

from test_opensandbox import INVALID, Client, fails
from test_role import Role, until

GUARD, TO, EGRESS = "OpenSandbox-Secure-Access", "OpenSandbox-Ingress-To", "OPENSANDBOX-EGRESS-AUTH"
KEY, NEXT = b"0123456789abcdef0123456789abcdef", bytes(range(16))
LATER, LATER_36 = 1900000000, "vf7lds"


def signature(sandbox, port, at=LATER_36, kid="k", key=KEY):
    text = f"v1\nshort\n{sandbox}\n{port}\n{at}\n".encode()
    data = struct.pack(">I", len(key)) + key + struct.pack(">I", len(text)) + text
    return hashlib.sha256(data).hexdigest()[:8] + kid


class Gate:
    def __init__(self, directory, *settings):
        self.role = Role(directory, settings)
        self.os = Client(self.role)

    def ask(self, sb, port, query=""):
        return self.os.get(f"/sandboxes/{sb}/endpoints/{port}{query}")

    def endpoint(self, sb, port, query=""):
        a = self.ask(sb, port, query)
        assert a.status == 200, a.body
        return a.json

    def keys(self, *pairs):
        self.role.calls()
        self.role.host("keys " + " ".join(f"{i} {key.hex()}" for i, key in pairs))
        until("the edge has them", lambda: ["KEYS", "-", str(len(pairs))] in self.role.calls())


@pytest.fixture
def gate(tmp_path, request):
    made = []

    def make(*settings):
        made.append(Gate(tmp_path, *settings))
        return made[-1]

    yield make
    for g in made:
        g.role.end()


# What stands where, by mode: endpoint and headers of an unsigned answer, then of a signed one.
FORMS = {
    "wildcard": (lambda i, p: (f"{i}-{p}.sandboxes.test:8443", {}),
                 lambda i, p, t, s: (f"{i}-{p}-{t}-{s}.sandboxes.test:8443", {})),
    "header": (lambda i, p: ("gate.test", {TO: f"{i}-{p}"}), lambda i, p, t, s: ("gate.test", {TO: f"{i}-{p}-{t}-{s}"})),
    "uri": (lambda i, p: (f"gate.test/{i}/{p}", {}), lambda i, p, t, s: (f"gate.test/{i}/{p}/{t}/{s}", {})),
}
ADDRESS = {"wildcard": "*.sandboxes.test:8443", "header": "gate.test", "uri": "gate.test"}


@pytest.mark.parametrize("mode", FORMS)
def test_each_mode_has_its_form(gate, mode):
    g = gate(f"gateway.mode={mode}", f"gateway.address={ADDRESS[mode]}", "ingress.domain=sandboxes.test")
    unsigned, signed = FORMS[mode]
    sb, plain = g.os.create(secureAccess=True)["id"], g.os.create()["id"]

    def fits(answer, expected, *more):
        where, headers = expected
        assert answer["endpoint"] == where
        assert {k: v for k, v in answer.get("headers", {}).items() if k == TO} == headers
        assert set(answer.get("headers", {})) == set(headers) | set(more), answer
        assert "headers" not in answer or answer["headers"]

    for port, more in ((8080, []), (3000, []), (1, []), (65535, []), (44772, []), (18080, [EGRESS])):
        fits(g.endpoint(sb, port), unsigned(sb, port), GUARD, *more)
    fits(g.endpoint(plain, 3000), unsigned(plain, 3000))
    fits(g.endpoint(plain, 18080), unsigned(plain, 18080), EGRESS)
    fits(g.endpoint(plain, 44772), unsigned(plain, 44772), GUARD)  # Weir's own: its id is told by every address
    assert g.role.view(sb)["ingress_secured"] is True and "ingress_secured" not in g.role.view(plain)
    tokens = {g.endpoint(sb, p, q)["headers"][GUARD] for p in (8080, 44772, 18080)
              for q in ("", "?use_server_proxy=true")}
    assert len(tokens) == 1 and g.endpoint(plain, 44772)["headers"][GUARD] not in tokens
    # No key yet.
    assert "gateway.keys" in fails(g.ask(sb, 8080, f"?expires={LATER}"), 400, INVALID)
    g.keys(("k", KEY), ("j", NEXT))
    for port, more in ((8080, []), (44772, []), (18080, [EGRESS])):
        answer = g.endpoint(sb, port, f"?expires={LATER}")
        fits(answer, signed(sb, port, LATER_36, signature(sb, port)), *more)
    if mode == "uri":
        assert "secureAccess" in fails(g.ask(plain, 3000, f"?expires={LATER}"), 400, INVALID)
    else:
        fits(g.endpoint(plain, 3000, f"?expires={LATER}"), signed(plain, 3000, LATER_36, signature(plain, 3000)))
    # Another key in front signs.
    g.keys(("j", NEXT), ("k", KEY))
    fits(g.endpoint(sb, 8080, f"?expires={LATER}"),
         signed(sb, 8080, LATER_36, signature(sb, 8080, kid="j", key=NEXT)))
    # In the past, at once, no number, and together with the other way.
    now = int(time.time())
    for bad in ("0", str(now - 1), "x", "-5", "+5", "01", "", "1.5", "18446744073709551616", "0x7fffffff",
                "123456789012345678901", f"{LATER}&use_server_proxy=true"):
        fails(g.ask(sb, 8080, f"?expires={bad}"), 400, INVALID)
    fails(g.ask(sb, 0, f"?expires={LATER}"), 400, "DOCKER::INVALID_PORT")
    fails(g.ask("sb-" + "0" * 26, 8080, f"?expires={LATER}"), 404, "DOCKER::SANDBOX_NOT_FOUND")
    # Of another API: its owner opens it, and this role's ports are the server's proxy's.
    theirs = g.role.create()["id"]
    fails(g.ask(theirs, 3000), 500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE")
    assert "/proxy/44772" in g.endpoint(theirs, 44772)["endpoint"]
    fails(g.ask(theirs, 44772, f"?expires={LATER}"), 400, INVALID)
    theirs = g.role.create(ingress_enabled=True)["id"]
    fits(g.endpoint(theirs, 3000), unsigned(theirs, 3000))


@pytest.mark.parametrize("settings, mode, where", [
    (["ingress.listen=0.0.0.0:8081"], "header", "127.0.0.1:8081"),
    (["ingress.listen=[::]:80"], "uri", "[::1]"),
    (["ingress.listen=10.1.2.3:8081", "ingress.public_port=443", "ingress.scheme=https"], "header", "10.1.2.3"),
    (["ingress.listen=127.0.0.1:8081"], "wildcard", "localhost:8081"),
    (["ingress.domain=box.test", "ingress.public_port=80"], "wildcard", "box.test")])
def test_an_address_that_is_not_said_is_that_of_ingress(gate, settings, mode, where):
    g = gate(f"gateway.mode={mode}", *settings)
    sb = g.os.create()["id"]
    assert g.endpoint(sb, 3000)["endpoint"] == {"header": where, "uri": f"{where}/{sb}/3000",
                                                "wildcard": f"{sb}-3000.{where}"}[mode]


def test_without_a_gateway(gate):
    g = gate()
    message = fails(g.os.post("/sandboxes", {**CREATE_SECURED}), 400, INVALID)
    assert "gateway.mode" in message and "secureAccess" in message
    assert g.os.list()["items"] == [] and not any(c[0] == "SPAWN" for c in g.role.calls())
    sb = g.os.create(secureAccess=False)["id"]
    assert "headers" not in g.endpoint(sb, 3000)
    assert "gateway.mode" in fails(g.ask(sb, 3000, f"?expires={LATER}"), 400, "SANDBOX::API_NOT_SUPPORTED")
    assert not any(c[0] == "KEYS" for c in g.role.calls())
    for wrong in ("true", 1, None, {}):
        a = g.os.post("/sandboxes", {**CREATE_SECURED, "secureAccess": wrong})
        assert a.status == (202 if wrong is None else 400), (wrong, a.body)


CREATE_SECURED = {"image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "9"], "secureAccess": True,
                  "resourceLimits": {"cpu": "1", "memory": "256Mi"}, "timeout": 600}
ON, SERVICES = 1, 4


def routes(calls, sb):
    """(flags, state) of what the edge was told."""
    return [(int(c[2]) & 0xff, int(c[2]) >> 8 & 0xf) for c in calls if c[:2] == ["ROUTE", sb]]


def test_what_the_edge_is_told(gate):
    g = gate("gateway.mode=header")
    g.role.calls()
    sb = g.os.create(secureAccess=True)["id"]
    calls = g.role.calls()
    assert routes(calls, sb) == [(ON | SERVICES, 1)]  # before the create was answered
    token = g.endpoint(sb, 8080)["headers"][GUARD]
    secrets = [c[2] for c in calls if c[0] == "SECRET"]
    assert secrets == [token] and len(token) == 43
    plain = g.os.create()["id"]
    calls = g.role.calls()
    assert routes(calls, plain) == [(ON | SERVICES, 1)] and not any(c[0] == "SECRET" for c in calls)
    g.keys(("k", KEY))
    # A worker that comes, and a role that comes back: keys before the first sandbox, the same secret.
    for again in (lambda: g.role.host("edge"), g.role.restart):
        g.role.calls()
        again()
        seen = []
        until("it is told all", lambda: seen.extend(g.role.calls()) or any(c[0] == "SYNCED" for c in seen))
        kinds = [c[0] for c in seen if c[0] in ("KEYS", "ROUTE", "SECRET", "SYNCED")]
        assert kinds[0] == "KEYS" and ["KEYS", "-", "1"] in seen and ["SECRET", "-", token] in seen, seen
    assert g.endpoint(sb, 8080)["headers"][GUARD] == token
    assert g.endpoint(sb, 8080, f"?expires={LATER}")["headers"][TO].endswith(signature(sb, 8080))
    # Another has another; a fork of it is one, with its own.
    other = g.endpoint(g.os.create(secureAccess=True)["id"], 8080)["headers"][GUARD]
    assert other != token


def test_the_servers_proxy_asks_a_secured_sandbox_for_its_token(gate):
    g = gate("gateway.mode=uri")
    sb, other = (g.os.create(secureAccess=True)["id"] for _ in range(2))
    mine, foreign = (g.endpoint(s, 8080)["headers"][GUARD] for s in (sb, other))

    def ask(path, headers):
        return g.role.ask("GET", f"/sandboxes/{sb}/proxy/{path}", key=None, headers=headers)

    egress = g.endpoint(sb, 18080)["headers"]
    for path, fine in (("44772/ping", 200), ("18080/healthz", 200), ("18080/policy", 200)):
        more = {EGRESS: egress[EGRESS]} if path.endswith("policy") else {}
        for wrong in ({}, {GUARD: ""}, {GUARD: foreign}, {GUARD: mine + "x"}, {GUARD: mine[:-1]}):
            answer = ask(path, {**wrong, **more})  # of which the egress API's is text
            assert answer.status == 401 and GUARD.encode() in answer.body, answer.body
        assert ask(path, {GUARD: mine, **more}).status == fine
    assert ask("18080/policy", {GUARD: mine}).status == 401  # its own token is needed too
    assert ask("44772/ping", {"OPEN-SANDBOX-API-KEY": g.role.key}).status == 200  # its owner
    fails(ask("3000/", {}), 401, "MISSING_OR_INVALID_SECURE_ACCESS")
    assert ask("3000/", {GUARD: mine}).status not in (401, 403)


def test_what_was_made_before_there_was_a_gateway_and_what_stays_after(tmp_path):
    first = Gate(tmp_path)
    sb, asked = (first.os.create()["id"] for _ in range(2))
    assert "/proxy/3000" in first.endpoint(asked, 3000)["endpoint"]
    first.role.end()
    second = Gate(tmp_path, "gateway.mode=uri")
    try:
        for old in (sb, asked):  # its machine is gone with the played host; the address is its own
            assert second.endpoint(old, 3000)["endpoint"].endswith(f"/{old}/3000")
        secured = second.os.create(secureAccess=True)["id"]
        token = second.endpoint(secured, 3000)["headers"][GUARD]
        second.role.ask("PATCH", f"/v1/sandboxes/{secured}", {"ingress_enabled": False})
        message = fails(second.ask(secured, 3000), 500, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE")
        assert "ingress is off" in message
    finally:
        second.role.end()
    third = Gate(tmp_path)
    try:  # ports of the host ask for the token too
        answer = third.endpoint(secured, 3000)
        assert "/proxy/3000" in answer["endpoint"] and answer["headers"] == {GUARD: token}
    finally:
        third.role.end()
