"""The lab's Internet: every server that tests/netlab needs, in one process and one namespace.

Runs in a network namespace whose routing makes *every* address local, so a probe that gets no
answer was stopped on its way, never for want of a server. What listens, on all addresses of both
families:

	53	DNS, UDP and TCP: knotd with zone.txt behind a front that answers the few names that
		change from query to query, and relays the rest byte for byte
	80 8080	HTTP; 443 8443 HTTPS (one certificate for all names, by the lab's CA)
	7	echo, TCP and UDP; 443 also echoes UDP
	22	a server that speaks first; 25 likewise, as a mail server; 3306, as a data base
	5432	one whose client speaks first, to ask for TLS; then echo

and a watcher on the wire: each DNS query that arrives goes to queries.log, the first packet of
each flow to flows.log (again after a pause of its own), as JSON lines. Tests read these to know what left the host, whatever the
sandbox saw. (Real packets, not the servers' word.)

	internet.py DIR LINK	DIR holds knot.conf and the certificate; says "ready" on stdout
"""

import asyncio
import ctypes
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

KNOT = ("127.0.0.1", 5353)
SO_TIMESTAMPNS = 35  # socket.h
FLOWS_MAX = 200_000  # log lines; a flood must not fill the disk
PAUSE_S = 0.2  # a flow that was silent this long is logged again
IP_PKTINFO = 8
IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_FREEBIND = 49, 50, 78


# --- DNS ---------------------------------------------------------------------------------------

def question(query):
    """(name in lower case, type, end of the question) or None."""
    try:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        return ".".join(labels).lower(), struct.unpack_from(">H", query, at + 1)[0], at + 5
    except (IndexError, struct.error):
        return None


def answer(query, end, records, ttl=0):
    """A reply with these addresses as its answer section."""
    flags = 0x8180
    out = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + query[12:end]
    for a in records:
        raw = ipaddress.ip_address(a).packed
        out += struct.pack(">HHHIH", 0xC00C, 1 if len(raw) == 4 else 28, 1, ttl, len(raw)) + raw
    return out


class Names:
    """The names whose answers move."""

    def __init__(self):
        self.rotation = 0
        self.flips = {}

    def reply(self, query):
        q = question(query)
        if not q:
            return None
        name, qtype, end = q
        if name == "rotate.test":  # eight new addresses each time, thousands in all
            if qtype != 1:
                return answer(query, end, [])
            first, self.rotation = self.rotation, self.rotation + 8
            return answer(query, end, [str(ipaddress.ip_address("198.51.100.0") +
                                           (first + i) % 65536) for i in range(8)], 0)
        if name.endswith("flip.test"):  # the classic rebinding: first good, then ours
            if qtype != 1:
                return answer(query, end, [])
            n = self.flips[name] = self.flips.get(name, 0) + 1
            return answer(query, end, ["203.0.113.81"] if n == 1 else ["127.0.0.1"], 0)
        return None


def knot_udp(query, seconds=10):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(seconds)
        s.sendto(query, KNOT)
        return s.recv(65535)


def as_resolver(reply):
    """An authoritative answer dressed as a resolver's: RA on, AA off."""
    b = bytearray(reply)
    if len(b) >= 4:
        b[2] &= ~0x04
        b[3] |= 0x80
    return bytes(b)


def dns_udp(names):
    def handle(query):
        if len(query) < 12 or query[2] & 0x80:
            return None
        q = question(query)
        if q and q[0] == "silent.test":
            return None
        return names.reply(query) or as_resolver(knot_udp(query))
    return handle


async def dns_tcp(names, reader, writer):
    try:
        while True:
            n = struct.unpack(">H", await reader.readexactly(2))[0]
            query = await reader.readexactly(n)
            reply = names.reply(query)
            if not reply:
                r, w = await asyncio.open_connection(*KNOT)
                w.write(struct.pack(">H", len(query)) + query)
                reply = as_resolver(await r.readexactly(
                    struct.unpack(">H", await r.readexactly(2))[0]))
                w.close()
            writer.write(struct.pack(">H", len(reply)) + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


# --- datagrams, answered from the address they were sent to -------------------------------------

def serve_udp(loop, port, handle):
    for family in (socket.AF_INET, socket.AF_INET6):
        s = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            # The addresses are routed here, not configured: answering from one needs this.
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        s.bind(("", port))
        s.setblocking(False)

        def readable(s=s, family=family):
            for _ in range(64):
                try:
                    data, ancillary, _, peer = s.recvmsg(65535, 256)
                except OSError:
                    return
                control = []
                for level, kind, value in ancillary:
                    if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                        to = value[8:12]
                        control = [(level, kind, struct.pack("@i4s4s", 0, to, b"\0" * 4))]
                    elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
                        control = [(level, kind, value[:16] + struct.pack("@i", 0))]
                try:
                    reply = handle(data)
                    if reply is not None:
                        s.sendmsg([reply], control, 0, peer)
                except OSError:
                    pass

        loop.add_reader(s, readable)


# --- HTTP --------------------------------------------------------------------------------------

async def http(reader, writer):
    """Keep-alive HTTP/1.1, enough for curl, wget and Python."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *rest = head.decode("latin-1").split("\r\n")
            method, target, _ = line.split(" ", 2)
            headers = dict(h.lower().split(": ", 1) for h in rest if ": " in h)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path, _, query = target.partition("?")
            sock = writer.get_extra_info("sockname")
            peer = writer.get_extra_info("peername")
            status, extra, text = "200 OK", "", None
            if path == "/bytes":  # /bytes?N: a download of N bytes
                n = int(query)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n".encode())
                block = b"weir" * 16384
                while n > 0:
                    writer.write(block[:n])
                    n -= len(block)
                    await writer.drain()
                continue
            if path == "/drip":  # /drip?SECONDS: one byte every 20 ms, then the end
                n = int(float(query) * 50)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n".encode())
                for _ in range(n):
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.02)
                continue
            if path == "/redirect":
                status, extra = "302 Found", f"Location: {query}\r\n"
            if text is None:
                text = json.dumps({"server": sock[0], "port": sock[1], "peer": peer[0],
                                   "host": headers.get("host"), "path": target,
                                   "method": method, "body": len(body),
                                   "tls": writer.get_extra_info("ssl_object") is not None})
            writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{extra}"
                         f"Content-Length: {len(text) + 1}\r\n\r\n{text}\n".encode())
            await writer.drain()
            if headers.get("connection") == "close":
                break
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError,
            ssl.SSLError):
        pass
    finally:
        writer.close()


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def speaks_first(banner):
    async def serve(reader, writer):
        try:
            writer.write(banner)
            await writer.drain()
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()
    return serve


def tls_on_request(context):
    """As PostgreSQL: eight bytes, "S", and only then TLS."""
    async def serve(reader, writer):
        try:
            asked = await reader.readexactly(8)
            writer.write(b"S" if asked == b"\0\0\0\x08\x04\xd2\x16\x2f" else b"E")
            await writer.drain()
            await writer.start_tls(context)
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()
    return serve


# --- the watcher -------------------------------------------------------------------------------

class Watcher(threading.Thread):
    def __init__(self, directory, link):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((link, 3))
        self.queries = open(os.path.join(directory, "queries.log"), "a", buffering=1)
        self.flows = open(os.path.join(directory, "flows.log"), "a", buffering=1)
        self.seen, self.lines = {}, 0

    def run(self):
        while True:
            packet, ancillary, _, (_, protocol, kind, *_) = self.socket.recvmsg(65535, 64)
            if kind == socket.PACKET_OUTGOING:
                continue
            # When it arrived: on a busy machine we come to it later. Linux 6.1 may tell the sender's
            # pacing instead, by another clock.
            self.now = time.time()
            for _, what, value in ancillary:
                seconds, ns = struct.unpack("@ll", value)
                if what == SO_TIMESTAMPNS and self.now - 600 < seconds < self.now:
                    self.now = seconds + ns / 1e9
            try:
                if protocol == 0x0800:
                    self.ip(packet, packet[9], packet[12:16], packet[16:20],
                            packet[(packet[0] & 15) * 4:])
                elif protocol == 0x86DD:
                    self.ip(packet, packet[6], packet[8:24], packet[24:40], packet[40:])
            except (IndexError, struct.error):
                pass

    def ip(self, packet, proto, src, dst, rest):
        src, dst = (str(ipaddress.ip_address(bytes(a))) for a in (src, dst))
        sport = dport = 0
        if proto in (6, 17):
            sport, dport = struct.unpack_from(">HH", rest)
        elif proto in (1, 58):
            sport = rest[0]
        if proto == 58 and sport in range(133, 138):
            return  # neighbour discovery is the lab's own
        if dport == 53:
            self.dns(proto, src, dst, rest)
        key = (proto, src, sport, dst, dport)
        now = self.now
        if now - self.seen.get(key, 0) > PAUSE_S and self.lines < FLOWS_MAX:
            self.lines += 1
            self.flows.write(json.dumps({"t": now, "proto": proto, "src": src,
                                         "sport": sport, "dst": dst, "dport": dport}) + "\n")
        self.seen[key] = now

    def dns(self, proto, src, dst, rest):
        query = rest[8:] if proto == 17 else rest[(rest[12] >> 4) * 4:][2:]
        if not query:
            return
        q = question(query) if len(query) > 12 else None
        self.queries.write(json.dumps({
            "t": self.now, "proto": proto, "src": src, "server": dst,
            "name": q[0] if q else None, "type": q[1] if q else None,
            "raw": None if q else bytes(query[:64]).hex()}) + "\n")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


async def main(directory, link):
    loop = asyncio.get_running_loop()
    knot = subprocess.Popen(["knotd", "-c", os.path.join(directory, "knot.conf")],
                            stdout=open(os.path.join(directory, "knot.log"), "w"),
                            stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
    names = Names()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, "server.pem"))
    with open(os.path.join(directory, "sni.log"), "a", buffering=1) as sni_log:
        context.sni_callback = lambda sock, name, ctx: sni_log.write(f"{name}\n") and None
        Watcher(directory, link).start()
        serve_udp(loop, 53, dns_udp(names))
        serve_udp(loop, 7, lambda data: data)
        serve_udp(loop, 443, lambda data: data)
        serve_udp(loop, 9999, lambda data: data)
        for port, handler, tls in (
                (53, lambda r, w: dns_tcp(names, r, w), None),
                (80, http, None), (8080, http, None), (8081, http, None),
                (443, http, context), (8443, http, context),
                (7, echo, None), (9999, echo, None),
                (22, speaks_first(b"SSH-2.0-lab_1.0\r\n"), None),
                (25, speaks_first(b"220 mail.test ESMTP lab\r\n"), None),
                (3306, speaks_first(b"\x0a\0\0\0\x0a5.5.5-lab\0"), None),
                (5432, tls_on_request(context), None)):
            for host in ("0.0.0.0", "::"):
                await asyncio.start_server(handler, host, port, ssl=tls, backlog=1024)
        end = time.monotonic() + 120
        while time.monotonic() < end:  # knotd is up when it answers
            if knot.poll() is not None:
                sys.exit(open(os.path.join(directory, "knot.log")).read())
            try:
                probe = b"\0\1\1\0\0\1\0\0\0\0\0\0\7allowed\4test\0\0\1\0\1"
                if knot_udp(probe, 0.1)[3] & 15 == 0:
                    break
            except OSError:
                await asyncio.sleep(0.02)
        else:
            sys.exit("knotd does not answer")
        print("ready", flush=True)
        try:
            await loop.run_in_executor(None, sys.stdin.read)  # until our parent is gone
        finally:
            knot.terminate()
            knot.wait()
            os._exit(0)


def names_of(zone):
    """Host names in zone.txt, for the certificate."""
    found = []
    for line in open(zone):
        m = re.match(r"([*a-z0-9.-]+)\.\t", line)
        if m and m.group(1) not in found:
            found.append(m.group(1))
    return found


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
