"""Ingress: a service to run in a sandbox, and a client that says byte by byte what it wants.

	door = Door(about); serve(box, 8000)
	door.get(box, 8000, "/echo").json["headers"]
"""

import json
import os
import socket
import ssl

from kit import websocket
from kit.api import listening

PATIENCE_S = 120

SERVICE = r'''
import hashlib, http.server, json, mimetypes, os, socket, sys, threading
sys.path.insert(0, "/root")
import weir_websocket
FILES, *ALL = sys.argv[1:]
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def reply(self, body, status=200, kind=None):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Connection", "upgrade")
            self.send_header("Upgrade", self.headers["Upgrade"])
            if key := self.headers.get("Sec-WebSocket-Key"):
                self.send_header("Sec-WebSocket-Accept", weir_websocket.accept(key))
                self.end_headers()
                weir_websocket.echo(self.rfile, self.wfile)
                self.close_connection = True
                return
            self.end_headers()
            while data := self.connection.recv(65536):
                self.connection.sendall(data.upper())
            self.close_connection = True
        elif self.path.startswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for i in range(3):
                self.wfile.write(b"data: %d\n\n" % i)
                self.wfile.flush()
                open(f"/root/next.{self.server.server_port}").read()  # until the test has seen it
            self.close_connection = True
        elif self.path.startswith("/bulk/"):
            self.send_response(200)
            self.send_header("Content-Length", self.path[6:])
            self.end_headers()
            for _ in range(int(self.path[6:]) >> 16):
                self.wfile.write(bytes(range(256)) * 256)
        elif FILES and os.path.isfile(FILES + self.path):
            with open(FILES + self.path, "rb") as f:
                self.reply(f.read(), kind=mimetypes.guess_type(self.path)[0])
        else:
            self.reply(json.dumps({"line": self.requestline,
                                   "headers": [[k.lower(), v] for k, v in self.headers.items()]
                                   }).encode())
    def do_POST(self):
        with open("/root/posted", "wb") as f:
            f.write(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(b"")
    def do_PUT(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            data = self.rfile.read(min(left, 1 << 20))
            digest.update(data)
            left -= len(data)
        self.reply(digest.hexdigest().encode())
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    def __init__(self, where):
        address, _, port = where.rpartition(":")
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.server_port = int(port)
        super().__init__((address, int(port)), H)
    def server_bind(self): super(http.server.HTTPServer, self).server_bind()
for where in ALL:
    threading.Thread(target=S(where).serve_forever).start()
'''


def serve(box, port, address="0.0.0.0", files="", also=()):
    """Returns when it listens. files: a directory of the sandbox's, served beside the rest. also: more
    (port, address), for as long as the first."""
    all = [(port, address), *also]
    ready = " && ".join(listening(p, "::1" if ":" in a else "127.0.0.1") for p, a in all)
    with open(websocket.__file__, "rb") as f:
        box.put("/root/weir_websocket.py", f.read())
    box.put("/root/service.py", SERVICE.encode())
    r = box.sh(f"mkfifo {' '.join(f'/root/next.{p}' for p, _ in all)} 2>/dev/null; "
               f"setsid python3 /root/service.py '{files}' {' '.join(f'{a}:{p}' for p, a in all)} "
               f">/root/log.{port} 2>&1 </dev/null & {ready}")
    assert r.code == 0, r
    return box


class Ended(AssertionError, ConnectionError):
    """The other side said less than was expected: a failure, unless a test knows that it may be so."""


class Wire:
    def __init__(self, sock):
        self.sock, self.have = sock, b""
        sock.settimeout(PATIENCE_S)

    def send(self, data):
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def until(self, mark):
        while mark not in self.have:
            got = self.sock.recv(1 << 20)
            if not got:
                raise Ended(f"ended before {mark!r}: {self.have[:500]!r}")
            self.have += got
        head, _, self.have = self.have.partition(mark)
        return head + mark

    def exactly(self, n):
        parts, have = [self.have], len(self.have)
        while have < n:
            got = self.sock.recv(1 << 20)
            if not got:
                raise Ended(f"ended after {have} of {n} bytes")
            parts.append(got)
            have += len(got)
        data = b"".join(parts)
        self.have = data[n:]
        return data[:n]

    def ended(self):
        try:
            return self.have == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def head(self):
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1")[:-4].split("\r\n")
        a = Answer()
        a.status = int(first.split()[1])
        a.headers = dict((k.lower(), v) for k, v in (x.split(": ", 1) for x in lines))
        return a

    def answer(self):
        a = self.head()
        a.body = self.exactly(int(a.headers.get("content-length", 0)))
        return a

    def close(self):
        self.sock.close()


class Answer:
    body = b""

    @property
    def json(self):
        return json.loads(self.body)

    def saw(self, name):
        """Values of a header that the service saw."""
        return [v for k, v in self.json["headers"] if k == name]


class Door:
    def __init__(self, about):
        with open(os.path.join(about["run_dir"], "ingress.addr")) as f:
            host, port = f.read().split()[0].rsplit(":", 1)
        self.at = (host, int(port))

    def connect(self, tls=False):
        raw = socket.create_connection(self.at, timeout=PATIENCE_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname="x.localhost")
        return Wire(raw)

    @staticmethod
    def host(box, port):
        return f"{(box if isinstance(box, str) else box.id)[3:]}-{port}.localhost"

    def ask(self, box, port, path="/", *lines, method="GET"):
        return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {self.host(box, port)}", *lines,
                            "", ""])

    def get(self, box, port, path="/", *lines, tls=False):
        w = self.connect(tls)
        try:
            return w.send(self.ask(box, port, path, *lines)).answer()
        finally:
            w.close()


class Way:
    """How a client says whom it means: what stands before the path, and its lines."""

    def __init__(self, door, box, port, by):
        self.door = door
        self.before = f"/{box.id}/{port}" if by == "path" else ""
        self.host = Door.host(box, port) if by == "host" else "h"
        self.lines = [f"OpenSandbox-Ingress-To: {box.id}-{port}"] if by == "header" else []

    def ask(self, path="/", *lines, method="GET"):
        return self.door.connect().send("\r\n".join([
            f"{method} {self.before}{path} HTTP/1.1", f"Host: {self.host}", *self.lines, *lines, "", ""]))

    def websocket(self):
        return websocket.WebSocket(self.door.connect(), self.before + "/ws", self.host, *self.lines)
