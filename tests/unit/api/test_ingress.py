"""Ingress in the api role: what host and edge are told, and what they make it do; see test_role.py."""

import os
import re
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from test_role import role, settings, until  # noqa: E402, F401

ON, HOLD, SERVICES, PROXY, DIRECT, PROXY_FD, DIRECT_FD = (1 << i for i in range(7))
STARTING, RUNNING, PAUSED, DOWN = range(4)
PORTS = PROXY | DIRECT | PROXY_FD | DIRECT_FD


class Route:
    """What an edge was told."""

    def __init__(self, call):
        word = int(call[2])
        assert word != 0xffffffff, "sizes do not fit"
        self.flags, self.state = word & 0xff, word >> 8 & 0xf
        self.access, self.tokens, self.routes = word >> 12 & 0xf, word >> 16 & 0xff, word >> 24

    def __repr__(self):
        return f"flags {self.flags:#x} state {self.state} access {self.access} tokens {self.tokens}"


def calls(role, *names):
    return [c for c in role.calls() if c[0] in names]


def routes(role):
    return [Route(c) for c in calls(role, "ROUTE")]


def patch(role, sb, **fields):
    return role.ask("PATCH", f"/v1/sandboxes/{sb}", fields)


def token(role, sb, **fields):
    return role.post(f"/v1/sandboxes/{sb}/ingress/tokens", fields)


# --- on and off ---

def test_open_from_the_beginning(role):
    """The last thing done before the answer: the edge knows it as running."""
    v = role.create(ingress_enabled=True)
    assert v["ingress_enabled"] is True and v["ingress_access"] == "open"
    assert v["ingress_url_template"] == f"http://{v['id'][3:]}-<port>.localhost:8081"
    told = calls(role, "SPAWN", "COMMIT", "INGRESS", "ROUTE")
    assert [c[0] for c in told] == ["SPAWN", "COMMIT", "INGRESS", "ROUTE"]
    r = Route(told[-1])
    assert (r.flags, r.state, r.access, r.tokens) == (ON, RUNNING, 0, 0)
    assert role.view(v["id"])["ingress_url_template"] == v["ingress_url_template"]


def test_closed_is_told_to_nobody(role):
    v = role.create()
    sb = v["id"]
    assert v["ingress_enabled"] is False and not {k for k in v if k.startswith("ingress_")} - {
        "ingress_enabled"}
    patch(role, sb, ingress_enabled=False)
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    assert calls(role, "INGRESS", "ROUTE") == []


def test_switched(role):
    sb = role.create()["id"]
    role.calls()
    on = patch(role, sb, ingress_enabled=True).data
    assert on["ingress_enabled"] and "<port>" in on["ingress_url_template"]
    assert [c[0] for c in calls(role, "INGRESS", "ROUTE")] == ["INGRESS", "ROUTE"]
    assert patch(role, sb, ingress_enabled=True).data == on
    assert calls(role, "INGRESS", "ROUTE") == []  # it is so already
    off = patch(role, sb, ingress_enabled=False).data
    assert not off["ingress_enabled"] and "ingress_url_template" not in off
    told = calls(role, "INGRESS", "ROUTE")
    assert told[0][2] == "0" and Route(told[1]).flags == 0
    assert patch(role, sb, ingress_enabled=True).data["ingress_url_template"] == on["ingress_url_template"]


@pytest.mark.parametrize("what", ["INGRESS", "ROUTE"])
def test_what_cannot_be_opened_stays_closed(role, what):
    sb = role.create()["id"]
    role.host(f"fail {what} 8")
    assert patch(role, sb, ingress_enabled=True).status >= 400
    assert role.view(sb)["ingress_enabled"] is False
    if what == "ROUTE":  # the edge was told to forget it again
        assert [r.flags for r in routes(role)] == [ON, 0]
    role.host(f"fail {what} 8")
    r = role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "ingress_enabled": True})
    assert r.status >= 400
    assert [s["id"] for s in role.get("/v1/sandboxes?status=running").data["data"]] == [sb]


def test_states_are_told(role):
    sb = role.create(ingress_enabled=True)["id"]
    role.calls()
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    assert [r.state for r in routes(role)] == [PAUSED]
    role.post(f"/v1/sandboxes/{sb}/resume")
    role.settled(sb, "running")
    assert [r.state for r in routes(role)] == [STARTING, RUNNING]
    role.host(f"died {sb}")
    role.settled(sb, "error")
    assert [r.state for r in routes(role)] == [DOWN]
    role.post(f"/v1/sandboxes/{sb}/resume")  # from its disk: a new slot, everything anew
    role.settled(sb, "running")
    assert [c[0] for c in calls(role, "INGRESS", "ROUTE")][-2:] == ["INGRESS", "ROUTE"]


def test_restarts(role):
    """A new edge, and a new api role: both bring about what the rows say."""
    sb = role.create(ingress_enabled=True, host_ports=True)["id"]
    closed = role.create()["id"]
    ports = role.view(sb)["host_ports"]
    role.calls()
    role.host("edge")
    told = until("the new edge is told", lambda: [c for c in role.calls() if c[0] == "ROUTE"])
    assert Route(told[0]).flags == ON | PORTS
    role.restart()
    told = []
    until("told again", lambda: told.extend(calls(role, "INGRESS", "ROUTE")) or
          [c for c in told if c[0] == "ROUTE" and Route(c).flags == ON | PORTS])
    assert {c[1] for c in told} == {sb} and role.view(sb)["host_ports"] == ports
    assert role.view(closed)["ingress_enabled"] is False


# --- access, tokens ---

def test_tokens(role):
    sb = role.create(ingress_enabled=True, ingress_access="token")["id"]
    assert routes(role)[-1].access == 1
    t = token(role, sb, port=8000, name="ci").data
    assert t["port"] == 8000 and t["name"] == "ci" and t["token"].startswith("wit_") and \
        len(t["token"]) == 68 and "expires_at" not in t and t["token"].startswith(t["hint"][:-1])
    assert routes(role)[-1].tokens == 1
    timed = token(role, sb, port=80, expires_in_seconds=60).data
    assert "expires_at" in timed and routes(role)[-1].tokens == 2
    listed = role.get(f"/v1/sandboxes/{sb}/ingress/tokens").data
    assert [x["id"] for x in listed["data"]] == [t["id"], timed["id"]]
    assert listed["pagination"]["total"] == 2 and "token" not in listed["data"][0]
    # only digests are stored
    state = b"".join(open(os.path.join(role.state, f), "rb").read() for f in os.listdir(role.state)
                     if f.startswith("weir.db"))
    assert t["id"].encode() in state and t["token"][4:].encode() not in state
    role.restart()
    until("told again", lambda: [r for r in routes(role) if r.tokens == 2])
    path = f"/v1/sandboxes/{sb}/ingress/tokens/{t['id']}"
    assert role.ask("DELETE", path).data == {"revoked": True}
    assert routes(role)[-1].tokens == 1
    role.ask("DELETE", path).fails(404, "id")
    assert patch(role, sb, ingress_access="open").data["ingress_access"] == "open"
    assert routes(role)[-1].access == 0


def test_tokens_that_are_none(role):
    sb = role.create()["id"]
    for body, field in (({}, "port"), ({"port": 0}, "port"), ({"port": 65536}, "port"),
                        ({"port": 1028}, "port"), ({"port": 80, "expires_in_seconds": 0},
                                                   "expires_in_seconds"),
                        ({"port": 80, "name": "x" * 64}, "name")):
        token(role, sb, **body).fails(400, field)
    other = role.post("/v1/keys", {"name": "other"}).data["key"]
    role.post(f"/v1/sandboxes/{sb}/ingress/tokens", {"port": 80}, key=other).fails(404, "id")
    for i in range(128):
        assert token(role, sb, port=1 + i).status == 200
    assert "128" in token(role, sb, port=80).fails(403, "quota")


def test_a_token_the_edge_was_not_told_of_is_none(role):
    sb = role.create(ingress_enabled=True)["id"]
    role.host("fail ROUTE 8")
    assert token(role, sb, port=80).status >= 400
    assert role.get(f"/v1/sandboxes/{sb}/ingress/tokens").data["data"] == []


# --- ports of the host ---

@pytest.mark.parametrize("settings", [["ingress.ports = 30000-30007"]])
def test_host_ports(role):
    a = role.create(host_ports=True)
    assert a["host_ports"] == {"proxy": "127.0.0.1:30000", "direct": "127.0.0.1:30001"}
    assert a["ingress_enabled"] is False and routes(role)[-1].flags == PORTS
    role.host("taken 2")  # by somebody else: the next pairs are tried
    b = role.create(host_ports=True, ingress_enabled=True)
    assert b["host_ports"]["proxy"] == "127.0.0.1:30006" and role.view(b["id"]) == b
    role.host("taken 100")
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "host_ports": True}).fails(503)
    role.host("taken 0")
    # off and on: the same ports
    assert "host_ports" not in patch(role, a["id"], host_ports=False).data
    assert routes(role)[-1].flags == 0
    assert patch(role, a["id"], host_ports=True).data["host_ports"] == a["host_ports"]
    made = [role.create(host_ports=True) for _ in range(2)]
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "host_ports": True}).fails(503)
    role.ask("DELETE", f"/v1/sandboxes/{made[0]['id']}")
    role.settled(made[0]["id"], "destroyed")
    assert role.create(host_ports=True)["host_ports"] == made[0]["host_ports"]


@pytest.mark.parametrize("settings", [["ingress.ports = 30000-30007"]])
def test_each_host_port_by_itself(role):
    a = role.create(host_ports={"direct": True})
    sb = a["id"]
    assert a["host_ports"] == {"direct": "127.0.0.1:30001"} and routes(role)[-1].flags == DIRECT | DIRECT_FD
    both = {"proxy": "127.0.0.1:30000", "direct": "127.0.0.1:30001"}
    assert patch(role, sb, host_ports={"proxy": True}).data["host_ports"] == both
    assert routes(role)[-1].flags == PORTS
    assert patch(role, sb, host_ports={"direct": False, "proxy": None}).data["host_ports"] == {
        "proxy": both["proxy"]}
    assert routes(role)[-1].flags == PROXY | PROXY_FD
    role.host("taken 1")  # the other, by somebody else: what is open stays where it is
    assert "somebody else" in patch(role, sb, host_ports={"direct": True}).fails(503)
    assert role.view(sb)["host_ports"] == {"proxy": both["proxy"]} and routes(role)[-1].flags == PROXY | PROXY_FD
    role.restart()
    assert role.view(sb)["host_ports"] == {"proxy": both["proxy"]} and routes(role)[-1].flags == PROXY | PROXY_FD
    assert "host_ports" not in patch(role, sb, host_ports={"proxy": False}).data
    assert patch(role, sb, host_ports=True).data["host_ports"] == both
    role.calls()
    for wrong, field in (("yes", "host_ports"), ({"proxi": True}, "host_ports"), ({"proxy": 1}, "host_ports.proxy"),
                         ([], "host_ports")):
        assert field in str(patch(role, sb, host_ports=wrong).fails(400))
    assert routes(role) == [] and role.view(sb)["host_ports"] == both


@pytest.mark.parametrize("settings", [["ingress.ports_open = proxy"]])
def test_one_host_port_is_not_given_out(role):
    sb = role.create(host_ports=True)
    assert set(sb["host_ports"]) == {"proxy"} and routes(role)[-1].flags == PROXY | PROXY_FD
    assert "ingress.ports_open" in patch(role, sb["id"], host_ports={"direct": True}).fails(501)
    assert set(role.view(sb["id"])["host_ports"]) == {"proxy"}


@pytest.mark.parametrize("settings", [["ingress.ports ="]])
def test_no_host_ports_here(role):
    role.post("/v1/sandboxes", {"shape": "s-1vcpu-256mb", "host_ports": True}).fails(501)
    sb = role.create()["id"]
    assert "ingress.ports" in patch(role, sb, host_ports=True).fails(501)


# --- what the edge says ---

def test_waking(role):
    """However many ask, it is resumed once, and each is answered when it runs."""
    sb = role.create(ingress_enabled=True, ingress_hold=True)["id"]
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    role.calls()
    role.host("hold THAW")
    role.host(f"wake {sb}")
    role.settled(sb, "resuming")
    role.host(f"wake {sb}")
    until("the second is told so", lambda: [c for c in role.calls() if c[0] == "WOKEN"])
    role.host("release")
    role.settled(sb, "running")
    seen = role.calls()
    order = [c[0] for c in seen if c[0] in ("ROUTE", "WOKEN")]
    assert order == ["ROUTE", "WOKEN"] and seen[-1][2] == "0"  # it may be visited before that
    assert [Route(c).state for c in seen if c[0] == "ROUTE"] == [RUNNING]
    role.host(f"wake {sb}")
    until("it runs: at once", lambda: [c for c in role.calls() if c[0] == "WOKEN" and c[2] == "0"])


def test_waking_what_does_not_wake(role):
    sb = role.create(ingress_enabled=True)["id"]  # it holds nobody
    role.post(f"/v1/sandboxes/{sb}/pause")
    role.settled(sb, "paused")
    role.host(f"wake {sb}")
    until("refused", lambda: [c for c in role.calls() if c[0] == "WOKEN" and c[2] != "0"])
    assert role.view(sb)["status"] == "paused"
    patch(role, sb, ingress_hold=True)
    role.host("fail THAW 8")
    role.host(f"wake {sb}")
    until("a resume that fails", lambda: [c for c in role.calls() if c[0] == "WOKEN" and c[2] != "0"])
    assert role.view(sb)["status"] == "error"


def told(role):
    """What /metrics says of visits, without the counts that stay 0 here."""
    seen = re.findall(r"^weir_(sandbox_)?ingress_(open|requests_total|unlisted)(?:{.*})? (\d+)$",
                      role.get("/metrics").body.decode(), re.M)
    return {("sandbox " if sandbox else "") + name: int(n) for sandbox, name, n in seen}


def test_use_is_counted(role):
    sb = role.create(ingress_enabled=True, auto_pause_after_seconds=60)["id"]
    role.host(f"seen {sb} 3 17")
    until("counted", lambda: role.get(f"/v1/sandboxes/{sb}/counters").data["ingress_requests"] == 17)
    assert role.get(f"/v1/sandboxes/{sb}/counters").data["ingress_open"] == 3
    assert told(role) == {"open": 3, "requests_total": 17, "sandbox open": 3,
                          "sandbox requests_total": 17, "sandbox unlisted": 0}
    role.host("edge")  # a new edge has nobody open
    until("forgotten", lambda: role.get(f"/v1/sandboxes/{sb}/counters").data["ingress_open"] == 0)
    role.host(f"seen {sb} 1 2")  # and counts anew; what the former counted stays
    until("added", lambda: role.get(f"/v1/sandboxes/{sb}/counters").data["ingress_requests"] == 19)
    role.host(f"seen {sb} 0 1")  # as does a worker that had to forget the sandbox
    until("added", lambda: told(role)["sandbox requests_total"] == 20)
    role.ask("DELETE", f"/v1/sandboxes/{sb}")
    until("gone", lambda: "sandbox open" not in told(role))
    assert told(role) == {"open": 0, "requests_total": 20, "sandbox unlisted": 0}


def test_what_a_scraper_must_keep_is_bounded(role):
    for i in range(203):
        role.host(f"seen {role.create(ingress_enabled=True)['id']} 1 1")
    until("counted", lambda: told(role)["requests_total"] == 203)
    text = role.get("/metrics").body.decode()
    assert text.count("\nweir_sandbox_ingress_open{") == 200 and told(role)["sandbox unlisted"] == 3


@pytest.mark.parametrize("settings, template", [
    (["ingress.domain = box.example.test", "ingress.scheme = https", "ingress.public_port = 443"],
     "https://{ulid}-<port>.box.example.test"),
    (["ingress.template = path", "ingress.listen = 0.0.0.0:9000"], "http://127.0.0.1:9000/{id}/<port>"),
    (["ingress.template = path", "ingress.listen = [::1]:80"], "http://[::1]/{id}/<port>"),
])
def test_templates(role, template):
    v = role.create(ingress_enabled=True)
    assert v["ingress_url_template"] == template.format(id=v["id"], ulid=v["id"][3:])
