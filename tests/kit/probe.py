"""Runs inside a sandbox: probe.py JSON, a list of probes; prints a list of results.
probe.py --stay PORT does so for each line that comes to this port of loopback, until the sandbox ends.

	{"tcp": host, "port": n, "family": 4|6}	connect, and exchange a byte where the server allows it
	{"udp": host, "port": n}		send to an echo port and wait
	{"ping": host}				one echo request
	{"name": name, "family": 4|6}		getaddrinfo
	{"dns": name, "type": t, "server": s}	one query, by hand: {"rcode", "answers", "ede", …}

A verdict is what a program would see: "allow", "refused" (an error came back at once), "timeout" or
"notfound". TCP counts as allowed only when the far end's bytes arrive (echo, HTTP, a banner). Who
expects silence gives a "timeout"; all others wait until even a busy machine has answered.
Standard library only.
"""

import concurrent.futures
import errno
import json
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "TXT": 16, "AAAA": 28, "SVCB": 64,
         "HTTPS": 65, "ANY": 255}
NAMES = {v: k for k, v in TYPES.items()}
PATIENCE_S = 30
INSECURE = ssl.create_default_context()
INSECURE.check_hostname, INSECURE.verify_mode = False, ssl.CERT_NONE
REFUSED = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM,
           errno.ECONNRESET}


def address(host, port, family, kind):
    want = {4: socket.AF_INET, 6: socket.AF_INET6}.get(family, 0)
    return socket.getaddrinfo(host, port, want, kind)[0]


def verdict(e):
    if isinstance(e, socket.gaierror):
        return {"verdict": "notfound", "error": str(e)}
    if isinstance(e, (TimeoutError, socket.timeout)):
        return {"verdict": "timeout"}
    if e.errno in REFUSED:
        return {"verdict": "refused", "error": errno.errorcode[e.errno]}
    return {"verdict": "error", "error": str(e)}


def tcp(p):
    family, kind, proto, _, where = address(p["tcp"], p["port"], p.get("family"),
                                            socket.SOCK_STREAM)
    with socket.socket(family, kind, proto) as s:
        s.settimeout(p.get("timeout", PATIENCE_S))
        s.connect(where)
        if p["port"] in (443, 8443):
            s = INSECURE.wrap_socket(s, server_hostname=p.get("sni", p["tcp"]))
        s.sendall(b"GET /probe HTTP/1.0\r\n\r\n")
        data = s.recv(4096)
        return {"verdict": "allow" if data else "closed", "address": where[0],
                "data": data.decode("latin-1")}


def udp(p):
    family, kind, proto, _, where = address(p["udp"], p["port"], p.get("family"),
                                            socket.SOCK_DGRAM)
    with socket.socket(family, kind, proto) as s:
        s.settimeout(p.get("timeout", PATIENCE_S))
        s.connect(where)
        payload = bytes(p.get("size", 5))
        s.send(payload)
        try:
            data = s.recv(65535)
        except OSError as e:
            if e.errno != errno.ECONNREFUSED:
                raise
            return {"verdict": "refused", "error": "ECONNREFUSED", "address": where[0]}
        return {"verdict": "allow" if data == payload else "garbled", "address": where[0]}


def ping(p):
    flag = ["-6"] if ":" in p["ping"] else ["-4"]
    wait = f"-W{p.get('timeout', PATIENCE_S)}"
    r = subprocess.run(["ping", *flag, "-n", "-c1", wait, p["ping"]], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    return {"verdict": "allow" if r.returncode == 0 else "deny", "data": r.stdout}


def name(p):
    want = {4: socket.AF_INET, 6: socket.AF_INET6}.get(p.get("family"), 0)
    found = socket.getaddrinfo(p["name"], None, want, socket.SOCK_STREAM)
    return {"verdict": "allow", "addresses": sorted({f[4][0] for f in found})}


def label(text):
    out = b""
    for part in text.rstrip(".").split(".") if text.strip(".") else []:
        raw = part.encode("latin-1")
        out += bytes([len(raw)]) + raw
    return out + b"\0"


def read_name(m, at):
    parts, end, jumps = [], None, 0
    while m[at]:
        if m[at] >= 0xC0:
            end = end or at + 2
            at = (m[at] & 0x3F) << 8 | m[at + 1]
            jumps += 1
            if jumps > 64:
                raise ValueError("compression loop")
            continue
        parts.append(m[at + 1:at + 1 + m[at]].decode("latin-1"))
        at += 1 + m[at]
    return ".".join(parts), end or at + 1


def parse(m):
    ident, flags, qd, an, ns, ar = struct.unpack_from(">6H", m)
    at = 12
    for _ in range(qd):
        _, at = read_name(m, at)
        at += 4
    out = {"id": ident, "rcode": flags & 15, "tc": bool(flags & 0x200), "size": len(m),
           "answers": [], "ede": []}
    for i in range(an + ns + ar):
        owner, at = read_name(m, at)
        kind, cls, ttl, n = struct.unpack_from(">HHIH", m, at)
        at += 10
        raw, start = m[at:at + n], at
        at += n
        if kind == 41:
            out["edns"] = cls
            o = 0
            while o + 4 <= len(raw):
                code, length = struct.unpack_from(">HH", raw, o)
                if code == 15:
                    out["ede"].append([struct.unpack_from(">H", raw, o + 4)[0],
                                       raw[o + 6:o + 4 + length].decode("utf-8", "replace")])
                o += 4 + length
        if i >= an:
            continue
        if kind == 1:
            value = socket.inet_ntop(socket.AF_INET, raw)
        elif kind == 28:
            value = socket.inet_ntop(socket.AF_INET6, raw)
        elif kind == 5:
            value, _ = read_name(m, start)
        else:
            value = raw.hex()
        out["answers"].append([owner, NAMES.get(kind, str(kind)), ttl, value])
    return out


def dns(p):
    server = p.get("server") or next(
        line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))
    kind = TYPES.get(p["type"]) or int(p["type"])
    raw = bytes.fromhex(p["raw"]) if "raw" in p else (
        struct.pack(">6H", random.randrange(65536), 0x0100, 1, 0, 0, 1 if p.get("edns") else 0) +
        label(p["dns"]) + struct.pack(">HH", kind, p.get("class", 1)))
    if p.get("edns"):
        raw += b"\0" + struct.pack(">HHIH", 41, p["edns"], 0, 0)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    port = p.get("port", 53)
    if p.get("tcp"):
        with socket.create_connection((server, port), p.get("timeout", PATIENCE_S)) as s:
            s.sendall(struct.pack(">H", len(raw)) + raw)
            data = b""
            while len(data) < 2 or len(data) < 2 + struct.unpack_from(">H", data)[0]:
                more = s.recv(65535)
                if not more:
                    return {"verdict": "closed"}
                data += more
            data = data[2:]
    else:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(p.get("timeout", PATIENCE_S))
            s.connect((server, port))
            s.send(raw)
            data = s.recv(65535)
    out = parse(data)
    out["verdict"] = "notfound" if out["rcode"] == 3 else "allow" if out["rcode"] == 0 else "refused"
    out["addresses"] = [a[3] for a in out["answers"] if a[1] in ("A", "AAAA")]
    return out


def run(p):
    try:
        for kind in (dns, tcp, udp, ping, name):  # dns first: it may carry "tcp": true
            if kind.__name__ in p:
                return kind(p)
        return {"verdict": "error", "error": "no such probe"}
    except OSError as e:
        return verdict(e)
    except (ValueError, IndexError, struct.error) as e:
        return {"verdict": "error", "error": repr(e)}


def answer(pool, text):
    return json.dumps(list(pool.map(run, json.loads(text))))


def converse(pool, s):
    with s, s.makefile("rw") as f:
        for line in f:
            print(answer(pool, line), file=f, flush=True)


if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        if sys.argv[1] != "--stay":
            print(answer(pool, sys.argv[1]))
            sys.exit()
        with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listener:
            while True:
                threading.Thread(target=converse, args=(pool, listener.accept()[0]), daemon=True).start()
