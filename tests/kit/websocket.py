"""A WebSocket (RFC 6455), either end: kit.ingress runs this file inside sandboxes, too.

	ws = WebSocket(wire, "/ws", "localhost")
	ws.send(b"bytes"); ws.receive() == (2, b"bytes")
"""

import base64
import hashlib
import os

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept(key):
    return base64.b64encode(hashlib.sha1(
        key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def masked(data, key):
    n = len(data)
    return (int.from_bytes(data, "little") ^
            int.from_bytes((key * (n // 4 + 1))[:n], "little")).to_bytes(n, "little")


def frame(kind, data, mask):
    n = len(data)
    size = bytes([n]) if n < 126 else b"\x7e" + n.to_bytes(2, "big") if n < 65536 else \
        b"\x7f" + n.to_bytes(8, "big")
    head = bytes([0x80 | kind, size[0] | (0x80 if mask else 0)]) + size[1:]
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + masked(data, key)


def read(exactly):
    """A frame by a function that reads so many bytes: its kind and what it says."""
    first, size = exactly(2)
    assert first & 0xf0 == 0x80, "in pieces, or with reserved bits"
    n, mask = size & 0x7f, size & 0x80
    if n > 125:
        n = int.from_bytes(exactly(2 if n == 126 else 8), "big")
    key = exactly(4) if mask else b""
    data = exactly(n)
    return first & 0xf, masked(data, key) if mask else data


class WebSocket:
    def __init__(self, wire, path, host, *lines):
        self.wire = wire
        key = base64.b64encode(os.urandom(16)).decode()
        wire.send("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: keep-alive, Upgrade",
                               "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                               f"Sec-WebSocket-Key: {key}", *lines, "", ""]))
        self.answer = wire.head()
        assert self.answer.status == 101, self.answer.status
        assert self.answer.headers["sec-websocket-accept"] == accept(key)

    def send(self, data):
        self.wire.send(frame(TEXT if isinstance(data, str) else BINARY,
                             data.encode() if isinstance(data, str) else data, True))

    def receive(self):
        return read(self.wire.exactly)

    def close(self, code, reason=""):
        self.wire.send(frame(CLOSE, code.to_bytes(2, "big") + reason.encode(), True))


def echo(rfile, wfile):
    """The server's side, after its 101: says everything again, the reason to close too."""

    def exactly(n):
        data = rfile.read(n)
        if len(data) < n:
            raise EOFError
        return data

    try:
        while True:
            kind, data = read(exactly)
            wfile.write(frame(PONG if kind == PING else kind, data, False))
            wfile.flush()
            if kind == CLOSE:
                return
    except EOFError:
        return
