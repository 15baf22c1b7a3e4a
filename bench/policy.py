"""Policy PUT: a new egress list, answered when it is in force.

PUT on a kept connection; every list differs from the one before. N rules are N prefixes with a port
each, the dearest kind; "usual" is twelve names and two prefixes. The peer replaces the elements of one nft set
that is alone in its table, N of them, by libnftables (see commit.py).
"""

from commit import apart, nft_replace
from measure import Client, kit, sampled, Samples


def rules_of(count, salt):
    return [f"93.{(k + salt) // 256 % 256}.{(k + salt) % 256}.0/24:{1000 + k}"
            for k in range(count)]


def usual(salt):
    return [f"host{salt}-{k}.example.com:443" for k in range(6)] + \
        ["*.example.org", "pypi.org", "files.pythonhosted.org", "github.com:443",
         "*.githubusercontent.com", "mirror.example.com", "93.184.216.0/24:443", "2001:db8:5::/48"]


def puts(client, box, rounds, make):
    raws = [client.request("PUT", f"/v1/sandboxes/{box}/egress", {"egress": make(i)})
            for i in range(rounds + 3)]
    turn = iter(raws)
    for _ in range(3):
        client.send(next(turn))
    return sampled(rounds, lambda: client.send(next(turn)))


def run(b):
    rounds = b.rounds * 5
    with kit.Daemon({"pool.slots": "4"}) as d:
        client = Client(d)
        box = client.create()
        b.add("policy", "policy PUT, usual (14 rules)", puts(client, box, rounds, usual), aim=2,
              short="policy PUT")
        for count in (1, 64, 256):
            ours = puts(client, box, rounds, lambda i: rules_of(count, i * 17))
            theirs = apart(nft_replace, 1, count, rounds // 2)
            b.add("policy", f"policy PUT, {count} rules", ours,
                  [("libnftables", Samples(theirs))] if theirs else [], aim=2)
        client.close()
