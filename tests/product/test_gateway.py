"""OpenSandbox's ingress gateway: secured sandboxes and signed endpoints, from a daemon with wildcard names.

Signatures are made here, by what the contract says, beside those that the daemon makes. All three forms of
address lead to the same proxy, so one daemon shows them; what the API answers in each mode is in
tests/unit/api/test_gateway.py."""

import base64
import glob
import hashlib
import json
import os
import signal
import socket
import struct
import time

import pytest

from kit.api import Api, Box
from kit.daemon import Daemon, surrounding
from kit.ingress import Door, Wire, serve
from kit import secrets

GUARD = "OpenSandbox-Secure-Access"
KEYS = {"k": b"0123456789abcdef0123456789abcdef", "j": os.urandom(32), "0": os.urandom(16)}
LATER = 4000000000


def base36(n):
    text = ""
    while n:
        text, n = "0123456789abcdefghijklmnopqrstuvwxyz"[n % 36] + text, n // 36
    return text


def signed(sandbox, port, expires=LATER, kid="k", secret=None):
    """(expires, signature) of a route."""
    secret, at = secret or KEYS[kid], base36(expires)
    text = f"v1\nshort\n{sandbox}\n{port}\n{at}\n".encode()
    data = struct.pack(">I", len(secret)) + secret + struct.pack(">I", len(text)) + text
    return at, hashlib.sha256(data).hexdigest()[:8] + kid


def test_the_contracts_vector():
    assert signed("demo-sandbox", 8080, 1900000000) == ("vf7lds", "b542694dk")


class Gateway:
    api = None

    def __init__(self, directory):
        self.file = os.path.join(directory, "gateway.keys")
        self.write("k", "0")
        self.daemon = Daemon({**surrounding("runtime.default"), "gateway.mode": "wildcard",
                              "gateway.keys": self.file, "log.level": "debug"})

    def write(self, *ids, text=""):
        with open(self.file + ".new", "w") as f:
            os.fchmod(f.fileno(), 0o600)  # root's alone
            f.write("# the first signs\n\n" + "".join(
                f"{i} = {base64.b64encode(KEYS[i]).decode()}\n" for i in ids) + text)
        os.replace(self.file + ".new", self.file)

    def keys(self, *ids, text="", says="keys="):
        """Other keys, as soon as the daemon has them; says: what its log says then."""
        before = self.log().count(" gateway.keys ")
        self.write(*ids, text=text)
        self.daemon.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 120
        want = 1 if text else 2  # the host role's word, and the api role's
        while True:
            lines = [x for x in self.log().splitlines() if " gateway.keys " in x][before:]
            if len(lines) >= want and any(says in x for x in lines):
                break
            assert time.monotonic() < end, lines
            time.sleep(0.02)

    def log(self):
        with open(self.daemon.log_path, errors="replace") as f:
            return f.read().replace("\\x20", " ")

    def begin(self):
        """Its ports are others after each start."""
        if not self.api:
            self.api = Api(self.daemon.url, self.daemon.key)
        self.api.__init__(self.daemon.url, self.daemon.key)
        self.door = Door({"run_dir": self.daemon.run_dir})
        for secret in KEYS.values():
            secrets.tell(self.daemon.dir, base64.b64encode(secret).decode())

    def make(self, **fields):
        r = self.api.request("POST", "/v1/sandboxes", {
            "image": {"uri": "devbox:1"}, "timeout": 600, "entrypoint": ["sleep", "infinity"],
            "resourceLimits": {"cpu": "1", "memory": "256Mi"}, **fields}, key=False, headers=self.mine())
        assert r.status == 202, r.body
        return serve(Box(self.api, self.api.get(r.json["id"])), 8000)

    def mine(self):
        return {"OPEN-SANDBOX-API-KEY": self.api.key}

    def ask(self, box, port, query=""):
        return self.api.request("GET", f"/v1/sandboxes/{box.id}/endpoints/{port}{query}", key=False,
                                headers=self.mine())

    def endpoint(self, box, port, query=""):
        r = self.ask(box, port, query)
        assert r.status == 200, r.body
        return r.json

    def token(self, box):
        token = self.endpoint(box, 8000)["headers"][GUARD]
        secrets.tell(self.daemon.dir, token)
        return token

    def send(self, host, path, *lines):
        w = self.door.connect()
        try:
            return w.send("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""])).answer()
        finally:
            w.close()

    def ways(self, box, port=8000, route=()):
        """The same visit by every form: (name, host, what stands before the path, lines)."""
        label, path = "-".join([box.id, str(port), *route]), "/".join(["", box.id, str(port), *route])
        return [("name", label + ".localhost", "", []),
                ("header", "h", "", [f"OpenSandbox-Ingress-To: {label}"]),
                ("uri", "h", path, [])]

    def visit(self, box, port=8000, route=(), lines=(), path="/x"):
        """The one status that all forms have."""
        seen = {name: self.send(host, before + path, *more, *lines)
                for name, host, before, more in self.ways(box, port, route)}
        assert len({a.status for a in seen.values()}) == 1, {n: (a.status, a.body) for n, a in seen.items()}
        for name, answer in seen.items():
            if answer.status != 200:
                ours = port in (44772, 18080) and b'{"code":"' in answer.body  # of the api role
                assert ours or answer.body.startswith(b"OpenSandbox Ingress: "), (name, answer.body)
            elif port == 8000:
                assert answer.json["line"] == f"GET {path} HTTP/1.1", (name, answer.json)
                assert not answer.saw("opensandbox-secure-access") and not answer.saw("opensandbox-ingress-to")
            assert answer.headers.get("reverse-proxy-server-powerby") == "OpenSandbox-ingress" or \
                answer.status != 200
        return seen["name"].status


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("gate"))
    os.chmod(os.path.dirname(directory), 0o711)
    g = Gateway(directory)
    with g.daemon:
        g.begin()
        yield g


@pytest.fixture(scope="module")
def pair(gate):
    """Two secured sandboxes."""
    both = [gate.make(secureAccess=True) for _ in range(2)]
    yield both
    for box in both:
        box.destroy()


@pytest.fixture
def box(pair):
    return pair[0]


def test_what_the_endpoints_say(gate, box):
    port = gate.door.at[1]
    one = gate.endpoint(box, 8000)
    assert one["endpoint"] == f"{box.id}-8000.localhost:{port}" and list(one["headers"]) == [GUARD]
    assert len(one["headers"][GUARD]) == 43
    at, sig = signed(box.id, 8000)
    assert gate.endpoint(box, 8000, f"?expires={LATER}") == {
        "endpoint": f"{box.id}-8000-{at}-{sig}.localhost:{port}"}
    # The same token for every port, and for the server's proxy; the egress API's beside it.
    assert gate.endpoint(box, 44772)["headers"] == one["headers"]
    server = gate.endpoint(box, 9000, "?use_server_proxy=true")
    assert server == {"endpoint": f"{gate.api.host}/sandboxes/{box.id}/proxy/9000", "headers": one["headers"]}
    egress = gate.endpoint(box, 18080)["headers"]
    assert egress[GUARD] == one["headers"][GUARD] and len(egress) == 2
    assert list(gate.endpoint(box, 18080, f"?expires={LATER}")["headers"]) == ["OPENSANDBOX-EGRESS-AUTH"]
    for wrong in ("0", "1000000000", "x", "-1", "+5", "01", "", "18446744073709551616", "4000000000.0",
                  f"{LATER}&use_server_proxy=true"):
        assert gate.ask(box, 8000, f"?expires={wrong}").status == 400, wrong
    assert gate.endpoint(box, 8000, "?expires=18446744073709551615")["endpoint"].split("-")[3] == base36(2**64 - 1)


def test_I12_a_signed_route_opens_what_it_names_while_it_lasts(gate, pair):
    box, other = pair
    assert gate.visit(box, route=signed(box.id, 8000)) == 200  # the control of all that follows
    assert gate.visit(box, route=signed(box.id, 8000, int(time.time()) + 600)) == 200
    at, sig = signed(box.id, 8000)
    forged = {"no key's": (at, "0" * 8 + "k"), "a digit less certain": (at, f"{int(sig[0], 16) ^ 1:x}" + sig[1:]),
              "another key": signed(box.id, 8000, secret=b"x" * 32), "an id without a key": (at, sig[:8] + "z"),
              "another's id of key": (at, sig[:8] + "0"), "expired": signed(box.id, 8000, int(time.time()) - 5),
              "at zero": ("0", signed(box.id, 8000, 0)[1]), "a later end": (base36(LATER + 1), sig),
              "an earlier end": (base36(LATER - 1), sig), "another sandbox's": signed(other.id, 8000),
              "without its prefix": signed(box.id[3:], 8000), "another port's": signed(box.id, 8001)}
    for why, route in forged.items():
        assert gate.visit(box, route=route) == 401, why
    serve(box, 8001)
    assert gate.visit(box, 8001, route=(at, sig)) == 401
    assert gate.visit(box, 8001, route=signed(box.id, 8001)) == 200
    # What is not well-formed is no signature: of a name it is refused, of a path it is a part.
    for route in ((at, sig + "0"), (at, sig[:8].upper() + "k"), ("0" + at, sig), (at[:-1] + "Z", sig), (at, "")):
        seen = [gate.send(host, before + "/x", *lines).status for _, host, before, lines in
                gate.ways(box, route=route)]
        assert seen == [400, 400, 401], (route, seen)
    # A header that is there decides, and an empty one is one.
    for line in (f"{GUARD}: no", f"{GUARD}:"):
        assert gate.visit(box, route=(at, sig), lines=[line]) == 401
    assert gate.visit(box, route=forged["expired"], lines=[f"{GUARD}: {gate.token(box)}"]) == 200


def test_I13_a_secured_sandbox_has_no_other_way_in(gate, pair):
    box, other = pair
    token, foreign = gate.token(box), gate.token(other)
    box.api.ok("PATCH", box.path, {"host_ports": True})
    view = box.api.get(box.id)
    ports = {k: v.rsplit(":", 1)[1] for k, v in view["host_ports"].items()}
    serve(box, 8080)
    gateway, api = gate.door.at, gate.api.host.rsplit(":", 1)
    ways = [(at, host, path, more) for at, path, more in
            [(gateway, before + "/x", lines) for _, _, before, lines in gate.ways(box)] +
            [(gateway, f"/sandboxes/{box.id}/proxy/8000/x", []), (gateway, f"/v1/sandboxes/{box.id}/proxy/8000/x", []),
             (gateway, f"/{box.id[3:].upper()}/8000/x", []), (gateway, "/x", [f"OPEN-SANDBOX-INGRESS: {box.id}-8000"]),
             (("127.0.0.1", ports["proxy"]), "/proxy/8000/x", []), (("127.0.0.1", ports["direct"]), "/x", []),
             (api, f"/sandboxes/{box.id}/proxy/8000/x", []), (api, f"/v1/sandboxes/{box.id}/proxy/8000/x", []),
             (api, f"/sandboxes/{box.id}/proxy/44772/proxy/8000/x", []),
             (gateway, f"/{box.id}/44772/ping", []), (gateway, f"/{box.id}/44772/proxy/8000/x", []),
             (("127.0.0.1", ports["proxy"]), "/proxy/44772/ping", []), (("127.0.0.1", ports["proxy"]), "/ping", []),
             (api, f"/sandboxes/{box.id}/proxy/44772/ping", []), (api, f"/sandboxes/{box.id}/proxy/18080/healthz", []),
             (gateway, f"/{box.id}/18080/healthz", [])]
            for host in [f"{box.id}-8000.localhost" if not more and path == "/x" and at == gateway else "h"]]
    for at, host, path, more in ways:
        def ask(*lines):
            w = Wire(socket.create_connection((at[0], int(at[1])), timeout=120))
            text = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *more, *lines, "", ""])
            try:
                return w.send(text).head().status
            finally:
                w.close()
        what = (at, host, path, more)
        assert ask() == 401, what
        assert ask(f"{GUARD}: {foreign}") == 401, what
        assert ask(f"{GUARD}: {token}x") == 401, what
        assert ask(f"{GUARD}: {token}") == 200, what  # the control


def test_execd_and_the_egress_api_behind_it(gate, box):
    token = gate.token(box)
    for port, path in ((44772, "/ping"), (18080, "/healthz")):
        assert gate.visit(box, port, path=path) == 401
        assert gate.visit(box, port, path=path, lines=[f"{GUARD}: {token}"]) == 200
        assert gate.visit(box, port, path=path, route=signed(box.id, port)) == 200
        assert gate.visit(box, port, path=path, route=signed(box.id, 8000)) == 401
    egress = gate.endpoint(box, 18080)["headers"]["OPENSANDBOX-EGRESS-AUTH"]
    for lines, status in (([], 401), ([f"OPENSANDBOX-EGRESS-AUTH: {egress}"], 200)):
        for how in ({"lines": [f"{GUARD}: {token}"] + lines}, {"lines": lines, "route": signed(box.id, 18080)}):
            seen = [gate.send(host, before + "/policy", *more, *how["lines"]).status for _, host, before, more
                    in gate.ways(box, 18080, how.get("route", ()))]
            assert seen == [status] * 3, (how, seen)


def test_who_is_not_secured_is_asked_for_nothing(gate):
    box = gate.make()
    try:
        assert gate.endpoint(box, 8000) == {"endpoint": f"{box.id}-8000.localhost:{gate.door.at[1]}"}
        at, sig = signed(box.id, 8000)
        assert gate.endpoint(box, 8000, f"?expires={LATER}")["endpoint"].startswith(f"{box.id}-8000-{at}-{sig}.")
        assert gate.visit(box) == gate.visit(box, lines=[f"{GUARD}: nonsense"]) == 200
        lines = {name: gate.send(host, before + "/x", *more).json["line"] for name, host, before, more
                 in gate.ways(box, route=(at, "0" * 8 + "k"))}
        assert lines == {"name": "GET /x HTTP/1.1", "header": "GET /x HTTP/1.1",
                         "uri": f"GET /{at}/{'0' * 8}k/x HTTP/1.1"}
        # Its id is told with every address: execd asks for the answer's header.
        assert gate.visit(box, 44772, path="/ping") == 401
        header = gate.endpoint(box, 44772)["headers"][GUARD]
        assert gate.visit(box, 44772, path="/ping", lines=[f"{GUARD}: {header}"]) == 200
        box.api.ok("PATCH", box.path, {"ingress_enabled": False})
        assert gate.visit(box) == 404
        r = gate.ask(box, 8000)
        assert r.status == 500 and "switch it on" in r.json["message"], r.body
    finally:
        box.destroy()


def test_statuses(gate, box):
    token = f"{GUARD}: {gate.token(box)}"
    assert gate.send("h", "/status.ok").body == b"OK"
    for text in ("x", "-", f"{box.id}", f"{box.id}-", f"{box.id}-0", f"{box.id}-65536", f"{box.id}-08000"):
        assert gate.send(f"{text}.localhost", "/", token).status == 400, text
        assert gate.send("h", "/", f"OpenSandbox-Ingress-To: {text}", token).status == 400, text
    assert gate.send("h", "/", token).status == 400  # names nobody
    nobody = "sb-" + "0" * 26
    assert gate.send(f"{nobody}-8000.localhost", "/", token).status == 404
    assert gate.visit(box, 1, lines=[token]) == 502
    upgrade = [token, "Connection: Upgrade", "Upgrade: websocket"]
    for _, host, before, lines in gate.ways(box, 1):
        assert gate.send(host, before + "/", *lines, *upgrade).status == 503
    box.pause()
    assert gate.visit(box) == 401 and gate.visit(box, lines=[token]) == 503
    box.resume()
    assert gate.visit(box, lines=[token]) == 200
    # Another spelling of where it is: http:// in front, a port behind.
    assert gate.send("h", "/", f"OpenSandbox-Ingress-To: http://{box.id}-8000.anywhere.test:80", token).status == 200


def test_keys_are_exchanged_without_a_break(gate, box):
    route, old = signed(box.id, 8000), signed(box.id, 8000, kid="0")
    w = gate.door.connect().send(f"GET / HTTP/1.1\r\nHost: h\r\nOpenSandbox-Ingress-To: {'-'.join((box.id, '8000', *route))}\r\n"
                                 "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    assert w.head().status == 101
    by = lambda: gate.endpoint(box, 8000, f"?expires={LATER}")["endpoint"].split(".")[0][-1]  # noqa: E731
    assert gate.visit(box, route=route) == gate.visit(box, route=old) == 200 and by() == "k"
    assert gate.visit(box, route=signed(box.id, 8000, kid="j")) == 401
    gate.keys("j", "k")  # a new one in front; one goes
    assert by() == "j" and gate.visit(box, route=old) == 401
    assert gate.visit(box, route=route) == gate.visit(box, route=signed(box.id, 8000, kid="j")) == 200
    for text, says in (("k = AAAA\n", "16 to 64 bytes"), (f"j = {'A' * 24}\n", "has a key already"),
                       ("j: x\n", "expected one of"), ("9 = ????\n", "not base64")):
        gate.keys("j", text=text, says=says)  # changes nothing
        assert by() == "j" and gate.visit(box, route=route) == 200
    gate.keys()
    assert gate.visit(box, route=route) == 503 and gate.visit(box, lines=[f"{GUARD}: {gate.token(box)}"]) == 200
    r = gate.ask(box, 8000, f"?expires={LATER}")
    assert r.status == 400 and "gateway.keys" in r.json["message"], r.body
    gate.keys("k", "0")
    assert gate.visit(box, route=route) == 200
    assert w.send(b"still here").exactly(10) == b"STILL HERE"


@pytest.mark.parametrize("role", ["edge", "api", "host"])
def test_it_survives_every_role(gate, box, role):
    token = f"{GUARD}: {gate.token(box)}"
    pid = gate.daemon.role(role) if role != "host" else None
    if role == "host":
        gate.daemon.kill9()
        gate.daemon.start()
        gate.begin()
    else:
        gate.daemon.kill9(pid)
        end = time.monotonic() + 120
        while gate.daemon.role(role) in (pid, None) or not gate.daemon._ready(
                os.path.join(gate.daemon.run_dir, "api.addr")):
            assert time.monotonic() < end
            time.sleep(0.02)
    end = time.monotonic() + 120
    while True:  # never open meanwhile
        try:
            answer = gate.send("h", f"/{box.id}/8000/x")
            if answer.status == 401:
                break
            assert answer.status in (404, 503), answer.body
        except OSError:
            pass
        assert time.monotonic() < end
        time.sleep(0.02)
    assert gate.visit(box, lines=[token]) == 200 and gate.token(box) == token.split(": ")[1]
    assert gate.visit(box, route=signed(box.id, 8000)) == gate.visit(box, route=signed(box.id, 8000, kid="0")) == 200
    assert gate.visit(box, route=signed(box.id, 8000, kid="j")) == 401
    at, sig = signed(box.id, 8000)
    assert f"-{at}-{sig}." in gate.endpoint(box, 8000, f"?expires={LATER}")["endpoint"]


def test_a_fork_is_as_secured(gate, box):
    box.pause()
    machine = box.view["runtime"] == "vm"  # whose memory, with the service, comes along
    fork = Box(gate.api, gate.api.ok("POST", f"{box.path}/fork", {} if machine else {"memory": False}))
    box.resume()
    try:
        machine or serve(fork, 8000)
        assert gate.visit(fork) == gate.visit(fork, lines=[f"{GUARD}: {gate.token(box)}"]) == 401
        assert gate.visit(fork, route=signed(box.id, 8000)) == 401
        assert gate.visit(fork, lines=[f"{GUARD}: {gate.token(fork)}"]) == 200
    finally:
        fork.destroy()


def test_I12_nothing_is_left_of_a_destroyed_one(gate):
    box = gate.make(secureAccess=True)
    route, token = signed(box.id, 8000), gate.token(box)
    assert gate.visit(box, route=route) == gate.visit(box, lines=[f"{GUARD}: {token}"]) == 200
    box.destroy()
    heir = gate.make(secureAccess=True)
    try:
        assert gate.visit(box, route=route) == gate.visit(box, lines=[f"{GUARD}: {token}"]) == 404
        assert gate.visit(heir, route=route) == gate.visit(heir, lines=[f"{GUARD}: {token}"]) == 401
        assert gate.visit(heir, route=signed(heir.id, 8000)) == 200
    finally:
        heir.destroy()


def test_it_is_shown_to_nobody_but_its_owner(gate, box):
    token = gate.token(box)
    assert token not in json.dumps(gate.api.get(box.id)) and "secured" not in box.sh("env").stdout
    r = gate.api.request("GET", f"/v1/sandboxes/{box.id}", key=False, headers=gate.mine())
    assert r.status == 200 and token not in r.body.decode()
    stored = b"".join(open(f, "rb").read() for f in glob.glob(gate.daemon.state_dir + "/**/weir.db*", recursive=True))
    assert box.id.encode() in stored and token.encode() not in stored
    other = gate.api.ok("POST", "/v1/keys", {"name": "stranger"})
    r = gate.api.request("GET", f"/v1/sandboxes/{box.id}/endpoints/8000", key=False,
                         headers={"OPEN-SANDBOX-API-KEY": other["key"]})
    assert r.status == 404
