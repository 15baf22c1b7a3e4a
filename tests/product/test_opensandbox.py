"""What a careful implementation of OpenSandbox's contract should hold (its section 12), live, as far as no
other test does: two sandboxes on one port, what root inside can and cannot, and what a kill leaves.

Elsewhere: event streams and WebSocket through execd in test_execd.py, through the gateway in
test_services.py; names, addresses, PATCH and the platform's lists in netlab/dialects.json; gVisor,
egress.image and a missing mapping in unit/api/test_opensandbox.py.
"""

import json
import os
import socket
import urllib.parse

import pytest

from kit.api import listening
from kit.daemon import wait_until

CREATE = {"image": {"uri": "devbox:1"}, "entrypoint": ["sleep", "infinity"], "timeout": 600,
          "resourceLimits": {"cpu": "1", "memory": "256Mi"}}


class Client:
    def __init__(self, api):
        self.api = api

    def ask(self, method, path, body=None, headers=None):
        return self.api.request(method, path, body, key=False, headers={
            "OPEN-SANDBOX-API-KEY": self.api.key, **(headers or {})})

    def create(self, **fields):
        r = self.ask("POST", "/v1/sandboxes", {**CREATE, **fields})
        assert r.status == 202, r.body
        return r.json["id"]

    def endpoint(self, sb, port):
        r = self.ask("GET", f"/v1/sandboxes/{sb}/endpoints/{port}")
        assert r.status == 200, r.body
        return r.json

    def get(self, endpoint, path):
        """From where the endpoint says, whoever listens there."""
        at, _, prefix = endpoint["endpoint"].partition("/")
        api = type(self.api)(f"http://{at}", "")
        return api.request("GET", f"/{prefix}{path}" if prefix else path, key=False,
                           headers=endpoint.get("headers"))

    def run(self, sb, command):
        """Its standard output; what it ends with is the last word."""
        r = self.ask("POST", f"/sandboxes/{sb}/proxy/44772/command", {"command": command})
        events = [json.loads(line) for line in r.body.split(b"\n\n") if line.strip()]
        return "".join(e["text"] + "\n" for e in events if e["type"] == "stdout")


@pytest.fixture
def client(api):
    c = Client(api)
    made = []
    create = c.create
    c.create = lambda **fields: made.append(create(**fields)) or made[-1]
    yield c
    for sb in made:
        c.ask("DELETE", f"/v1/sandboxes/{sb}")


SERVE = ("mkdir -p /srv/www && cd /srv/www && echo {word} >index.html && "
         "(setsid python3 -m http.server {port} --bind {host} >/dev/null 2>&1 </dev/null &) && "
         "{listening} && echo up")


def test_two_sandboxes_and_one_port(client):
    boxes = {word: client.create() for word in ("one", "two")}
    for word, sb in boxes.items():
        for port, host in ((8080, "0.0.0.0"), (3000, "127.0.0.1")):
            assert client.run(sb, SERVE.format(
                word=word, port=port, host=host, listening=listening(port))) == "up\n"
    for word, sb in boxes.items():
        for port in (8080, 3000):
            r = client.get(client.endpoint(sb, port), "/")
            assert (r.status, r.body) == (200, word.encode() + b"\n"), (word, port)
            r = client.get(client.endpoint(sb, 44772), f"/proxy/{port}/")
            assert (r.status, r.body) == (200, word.encode() + b"\n"), (word, port)
    # A kill takes its ports of the host with it, and nobody else's.
    gone, stays = client.endpoint(boxes["one"], 8080), client.endpoint(boxes["two"], 8080)
    assert client.ask("DELETE", f"/v1/sandboxes/{boxes['one']}").status == 204

    def closed(endpoint):
        where = urllib.parse.urlsplit("//" + endpoint["endpoint"])
        try:
            socket.create_connection((where.hostname, where.port), 60).close()
        except ConnectionRefusedError:
            return True
        return False

    assert wait_until(lambda: closed(gone), 120)
    assert not closed(stays) and client.get(stays, "/").body == b"two\n"


ROOT = r'''
import socket
def tried(what, fn):
    try: fn(); print(what, "done")
    except OSError as e: print(what, e.errno)
s = socket.socket()
tried("reuse", lambda: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
tried("mark", lambda: s.setsockopt(socket.SOL_SOCKET, 36, 1))
tried("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
tried("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
tried("netfilter", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).sendto(
    bytes.fromhex("140000000a0a05000100000000000000") + bytes(4), (0, 0)))
for port in (18080, 15353, 44772):
    tried(f"port{port}", lambda: socket.create_connection(("127.0.0.1", port), 60).close())
tried("gateway", lambda: socket.create_connection(("169.254.77.1", 18080), 2).close())
'''


def test_what_root_inside_cannot(client):
    """Not remove rules, not set the mark, not read the token, not reach the API or its vault. The control:
    the same process may set an ordinary socket option, the resolver's port answers, and a token that is
    there is found."""
    sb = client.create(networkPolicy={"egress": [{"action": "allow", "target": "allowed.test"}]})
    egress = client.endpoint(sb, 18080)
    token = egress["headers"]["OPENSANDBOX-EGRESS-AUTH"]

    r = client.ask("POST", f"/sandboxes/{sb}/proxy/44772/command", {"command": f"python3 -c '{ROOT}'"})
    events = [json.loads(line) for line in r.body.split(b"\n\n") if line.strip()]
    said = dict(e["text"].split() for e in events if e["type"] == "stdout")
    assert said["reuse"] == "done" and said["port15353"] == "done", said
    machine = client.run(sb, "uname -r").strip() != os.uname().release  # then its own kernel is asked
    for what in ("mark", "raw", "packet"):
        assert machine or said[what] in ("1", "97"), (what, said)  # EPERM; or no such family at all
    assert said["netfilter"] != "done" and said["gateway"] != "done", said
    for port in (18080, 44772):
        assert said[f"port{port}"] == "111", said  # nobody listens: nothing runs beside a sandbox

    find = (f"T=$(echo {token[::-1]} | rev); grep -rsl -- $T /etc /root /run /opt /tmp /var "
            "/proc/[0-9]*/environ; echo over")
    assert client.run(sb, find) == "over\n"
    client.run(sb, f"(echo {token} >/tmp/it)")  # the control
    assert client.run(sb, find) == "/tmp/it\nover\n"

    # From outside: nothing without the token, and the vault's secrets never.
    for path in ("/policy", "/credential-vault", "/credential-vault/_active"):
        assert client.get({**egress, "headers": {}}, path).status == 401, path
    assert client.get(egress, "/policy").status == 200
    assert client.get(egress, "/credential-vault/_active").status == 403


def test_what_is_not_there_says_so(client):
    execd = f"/sandboxes/{client.create()}/proxy/44772"
    r = client.ask("GET", execd + "/v1/isolated/capabilities")
    assert (r.status, r.json["available"]) == (200, False)
    r = client.ask("POST", execd + "/v1/isolated/session", {})
    assert (r.status, r.json["code"]) == (503, "NOT_SUPPORTED")
