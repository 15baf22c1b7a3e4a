"""sandbox0.json with real packets: one sandbox, whose policy is replaced row by row, and nothing else.

What the packets show is also what `explain` says, which asks the reference evaluator. A denial counts
only if it is of the row's own policy: the log outlives them all."""

import json
import os
import re
import threading
import time

import pytest

from test_decisions import HERE, ZONE, fill, judge, places, probe_of

with open(os.path.join(HERE, "sandbox0.json")) as f:
    ROWS = json.load(f)["rows"]
CASES = [pytest.param(row, family, id=f"{row['row'].replace(' ', '-')}-v{family}-{row['title'].replace(' ', '_')}")
         for row in ROWS for family in row.get("families", [4, 6])]


def network(box, policy=None, status=200):
    r = box.api.request("PUT" if policy else "GET", f"/api/v1/sandboxes/{box.id}/network", policy,
                        headers={"Authorization": f"Bearer {box.api.key}"}, key=False)
    assert r.status == status, r.body
    return r.json["data"] if status == 200 else r.json["error"]


@pytest.fixture(scope="module")
def box(api, lab):
    one = api.create(claim={"mode": "allow-all"})
    yield one
    one.destroy()


class Since:
    """A sandbox whose log begins now."""

    def __init__(self, box):
        self.box, self.old = box, {json.dumps(d, sort_keys=True) for d in box.denials()}

    def denials(self):
        return [d for d in self.box.denials() if json.dumps(d, sort_keys=True) not in self.old]


def together(steps):
    """Only addresses wait for what was resolved before them: lists of steps."""
    groups = []
    for step in steps:
        host = "" if "dns" in step else step.get("tcp") or step.get("udp") or step.get("ping") or ""
        raw = re.match(r"[0-9a-f]+[.:]", host) is not None
        if not groups or groups[-1][0] != raw:
            groups.append((raw, []))
        groups[-1][1].append(step)
    return [group for _, group in groups]


def explained(box, step):
    """What `explain` says about a step that packets have judged."""
    kind = "udp" if "udp" in step else "tcp"
    host = step[kind]
    at = f"[{host}]" if ":" in host else host
    return box.api.ok("GET", f"{box.path}/egress/explain?to={at}:{step['port']}&protocol={kind}")


@pytest.mark.parametrize("row, family", CASES)
def test_row(row, family, box, lab, neighbour):
    where = {**places(lab, neighbour, family),
             "other_net": "198.51.100.9" if family == 4 else "2001:db8:2::9"}
    assert network(box, row["sandbox0"])["mode"] == row["sandbox0"]["mode"]
    since = Since(box)
    steps = [{k: fill(v, where, family) for k, v in step.items()} for step in row["do"]]
    for group in together(steps):
        results = box.probe(*[{**probe_of(step, family), **{k: v for k, v in step.items() if k == "sni"}}
                              for step in group])
        for step, got in zip(group, results if len(group) > 1 else [results]):
            judge(step, got, since, "reject")
            if "dns" not in step and ("tcp" in step or "udp" in step):
                said = explained(box, step)
                assert said["verdict"] == step["expect"], (step, got, said)


def test_every_rule_of_the_contract_has_rows():
    names = [row["row"].split(" ")[0] for row in ROWS]
    assert {n: names.count(n) for n in names} == {"modes": 4, "lists": 7, "match": 11, "rules": 5,
                                                  "names": 12, "example": 14}
    assert len({row["row"] for row in ROWS}) == len(ROWS)
    # Each has a step that passes and one that does not, but those whose subject is only one of them.
    verdicts = [step["expect"] for row in ROWS for step in row["do"]]
    assert verdicts.count("allow") > 60 and verdicts.count("deny") > 40 and verdicts.count("notfound") > 25


DOWNLOAD = ("import socket\n"
            "s=socket.create_connection(('{at}',80),30)\n"
            "s.sendall(b'GET /drip?300 HTTP/1.0\\r\\n\\r\\n')\n"
            "s.settimeout(60)\n"
            "try:\n"
            "  while s.recv(4096): print('data', flush=True)\n"
            "  print('end')\n"
            "except ConnectionResetError: print('cut')\n")


def test_example_13_a_download_is_cut(box, lab):
    """And one that the new policy allows goes on, which is the control."""
    network(box, {"mode": "allow-all"})
    said, begun = {}, threading.Semaphore(0)

    def read(name):
        said[name] = ""
        for frame in box.api.stream(box.id, "python3", "-c", DOWNLOAD.replace("{at}", name)):
            first = "data" not in said[name]
            said[name] += frame.get("stdout", "")
            if first and "data" in said[name]:
                begun.release()
            if name == "allowed.test" and stop.is_set():
                return

    stop = threading.Event()
    threads = [threading.Thread(target=read, args=(n,)) for n in ("denied.test", "allowed.test")]
    for t in threads:
        t.start()
    assert begun.acquire(timeout=60) and begun.acquire(timeout=60), said
    network(box, {"mode": "block-all", "egress": {"allowedDomains": ["allowed.test"]}})
    threads[0].join(60)
    assert said["denied.test"].split()[-1] == "cut", said["denied.test"][-100:]
    before, end = said["allowed.test"].count("data"), time.monotonic() + 60
    while said["allowed.test"].count("data") <= before + 3:
        assert time.monotonic() < end and threads[1].is_alive(), said["allowed.test"][-100:]
        time.sleep(0.01)
    stop.set()
    threads[1].join(60)
    box.denied("cut", address=ZONE[("denied.test", 4)])


def test_puts_are_whole_and_the_last_one_counts(box, lab):
    """Four writers at once: what is shown is always one of their documents, whole, and in the end the
    one that was answered last is shown, explained and in force."""
    names = ["allowed.test", "denied.test", "other.test", "pypi.org"]
    documents = [{"mode": "block-all", "egress": {"allowedDomains": [n], "allowedPorts": [{"port": 443}]}}
                 for n in names]
    answered, failed, busy = [], [], threading.Event()

    def write(document):
        for _ in range(4):
            r = network(box, document)
            if r not in documents:
                failed.append(r)
            answered.append(document)

    def look():
        while not busy.is_set():
            r = network(box)
            if r not in documents + [first]:
                failed.append(r)

    first = network(box, {"mode": "block-all"})
    threads = [threading.Thread(target=write, args=(d,)) for d in documents]
    looker = threading.Thread(target=look)
    for t in [looker] + threads:
        t.start()
    for t in threads:
        t.join(60)
    busy.set()
    looker.join(60)
    assert not failed and len(answered) == 16
    now = network(box)
    assert now in documents
    for name, document in zip(names, documents):
        want = "allow" if document == now else "notfound"
        assert box.resolve(name)["verdict"] == want, (name, now)
    # One after the other, the last is the last.
    network(box, documents[1])
    network(box, documents[0])
    assert network(box) == documents[0] and box.tcp("allowed.test", 443) == "allow"


def test_what_is_refused_changes_nothing_in_force(box, lab):
    kept = {"mode": "block-all", "egress": {"allowedDomains": ["allowed.test"]}}
    network(box, kept)
    for bad in ({"mode": "allow-all", "egress": {"deniedCidrs": ["10.0.0.0"]}}, {"mode": "open"}, {"egress": {}},
                {"mode": "allow-all", "egress": {"protocolRules": [{"protocol": "http"}]}}):
        assert network(box, bad, 400)["code"] == "bad_request"
    assert network(box) == kept
    assert box.tcp("allowed.test", 443) == "allow" and box.resolve("other.test")["verdict"] == "notfound"
    network(box, {"mode": "block-all"})  # without egress: all lists are gone
    assert network(box) == {"mode": "block-all"}
    assert box.resolve("allowed.test")["verdict"] == "notfound"
