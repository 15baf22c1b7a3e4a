"""Services in sandboxes and their visitors.

	site = Site(about, box)			box has ingress on
	site.serve()				a service on port 8000 (SERVICE below)
	site.get("/hello").status		by name, over plain HTTP
	site.get("/hello", tls=True)
"""

import http.client
import os
import ssl

SERVICE = r'''
import base64, hashlib, os, socket, struct, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

go = threading.Event()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path.startswith("/ws"):
            return self.websocket()
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            go.wait(30)
            self.wfile.write(b"data: 2\n\n")
            self.close_connection = True
        elif self.path == "/go":
            go.set()
            self.answer(b"gone")
        elif self.path.startswith("/bytes/"):
            n = int(self.path[7:])
            self.send_response(200)
            self.send_header("Content-Length", str(n))
            self.end_headers()
            piece = bytes(range(256)) * 256
            while n:
                self.wfile.write(piece[:n])
                n -= min(n, len(piece))
        elif self.path == "/head":
            self.answer(str(self.headers).encode())
        else:
            self.answer(b"hello")

    def do_POST(self):
        h, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            h.update(piece)
            left -= len(piece)
        self.answer(h.hexdigest().encode())

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept",
                         base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                break
            n = head[1] & 127
            if n == 126:
                n = struct.unpack("!H", self.rfile.read(2))[0]
            mask, data = self.rfile.read(4), self.rfile.read(n)
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(data))[::-1]
            size = bytes([n]) if n < 126 else b"\x7e" + struct.pack("!H", n)
            self.wfile.write(bytes([head[0]]) + size + text)
        self.close_connection = True

ThreadingHTTPServer.request_queue_size = 1024
server = ThreadingHTTPServer((sys.argv[2], int(sys.argv[1])), Handler)
server.serve_forever()
'''


class Site:
    def __init__(self, about, box):
        with open(os.path.join(about["run_dir"], "ingress.addr")) as f:
            self.address = f.read().split()[0]
        self.box = box

    def serve(self, port=8000, bind="0.0.0.0"):
        self.box.put("/root/service.py", SERVICE.encode())
        self.box.sh(f"setsid python3 /root/service.py {port} {bind} >/root/service.log 2>&1 </dev/null &")
        r = self.box.sh(f"timeout 20 bash -c 'until : </dev/tcp/127.0.0.1/{port}; do sleep 0.05; done' "
                        "2>/dev/null")
        assert r.code == 0, self.box.sh("cat /root/service.log").stdout
        return self

    def host(self, port=8000):
        return f"{self.box.id[3:]}-{port}.localhost"

    def connect(self, tls=False, timeout=60):
        if not tls:
            return http.client.HTTPConnection(self.address, timeout=timeout)
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self.address, timeout=timeout, context=trust)

    def get(self, path="/", port=8000, method="GET", body=None, headers=None, **kw):
        """The answer, its body read as .body."""
        c = self.connect(**kw)
        c.request(method, path, body, {"Host": self.host(port), **(headers or {})})
        r = c.getresponse()
        r.body = r.read()
        c.close()
        return r
