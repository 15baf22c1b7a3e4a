"""Real clients of real services, by each of the three ways to name a port: a WebSocket, an event
stream, bulk both ways, Python's own web server, and a browser.

WEIR_FLOOD=long (`make floods`) moves a gigabyte where `make check` moves 64 MiB, or 16 where the sandbox is
a machine."""

import hashlib
import os

import pytest

from kit.api import listening
from kit.browser import Browser
from kit.daemon import comm, descendants, memory_of
from kit.ingress import Door, Way, serve
from kit.websocket import PING, PONG, TEXT

LONG = os.environ.get("WEIR_FLOOD") == "long"
EDGE_KIB = 4096  # that its memory may grow by while a body passes: two pieces, and what others do meanwhile


FILES = {
    "page.html": """<!doctype html><link rel="stylesheet" href="/style.css"><p id="said">-</p>
        <script src="/script.js"></script>""",
    "style.css": "#said { letter-spacing: 7px }",
    "data.json": '{"fetched": 42}',
    "script.js": """
        const ws = new WebSocket(location.origin.replace("http", "ws") + "/ws");
        ws.onopen = () => ws.send("over the socket");
        ws.onmessage = async (m) => {
          const style = getComputedStyle(document.getElementById("said")).letterSpacing;
          const more = await (await fetch("/data.json")).json();
          await fetch("/", { method: "POST", body: `${m.data}, ${more.fetched}, ${style}` });
        };""",
}


@pytest.fixture(scope="module")
def box(make_lasting_box):
    """Our service on 8000, with a page to show."""
    box = make_lasting_box(ingress_enabled=True)
    for name, text in FILES.items():
        box.put(f"/root/page/{name}", text.encode())
    return serve(box, 8000, files="/root/page")


@pytest.fixture(params=["host", "header", "path"])
def way(request, about):
    return lambda box, port: Way(Door(about), box, port, request.param)


def test_a_websocket(box, way):
    to = way(box, 8000)
    ws = to.websocket()
    for message in ("text", "\u00e4" * 100, b"", bytes(range(256)) * 300, os.urandom(4 << 20)):
        ws.send(message)
        kind, data = ws.receive()
        assert (data.decode() if kind == TEXT else data) == message
    ws.wire.send(b"\x89\x84\0\0\0\0ping")
    assert ws.receive() == (PONG, b"ping") and PING != PONG
    ws.close(4001, "enough")
    assert ws.receive() == (8, b"\x0f\xa1enough")
    assert ws.wire.ended()


def test_events_one_by_one(box, way):
    w = way(box, 8000).ask("/events")
    assert w.head().headers["content-type"] == "text/event-stream"
    for i in range(3):  # the next is only made when this one was seen
        assert w.until(b"\n\n") == b"data: %d\n\n" % i
        box.sh("echo > /root/next.8000")
    assert w.ended()


def edges(about):
    """KiB of all edge workers."""
    found = [memory_of(pid, "VmRSS") for pid in descendants(about["pid"]) if comm(pid).startswith("weir-edge")]
    assert found
    return sum(found)


def test_bulk(box, about, machines, way):
    to, before = way(box, 8000), edges(about)
    mib = 1024 if LONG else 16 if machines else 64
    data, digest = os.urandom(1 << 20), hashlib.sha256()
    w = to.ask("/", f"Content-Length: {mib << 20}", method="PUT")
    for _ in range(mib):
        digest.update(data)
        w.send(data)
    assert edges(about) < before + EDGE_KIB
    assert w.answer().body.decode() == digest.hexdigest()
    w = to.ask(f"/bulk/{mib << 20}")
    assert int(w.head().headers["content-length"]) == mib << 20
    for _ in range(mib):
        assert w.exactly(1 << 20) == bytes(range(256)) * 4096
    assert edges(about) < before + EDGE_KIB


@pytest.fixture(scope="module")
def python(box):
    """The same sandbox, with Python's server on 8001."""
    assert box.sh("mkdir -p /srv/a/b; echo here >/srv/a/b/file; cd /srv; "
                  f"setsid python3 -m http.server 8001 >/dev/null 2>&1 </dev/null & {listening(8001)}").code == 0
    return box


def test_pythons_own_server(python, way):
    to = way(python, 8001)
    listing = to.ask("/a/").answer()
    assert listing.status == 200 and b'<a href="b/">' in listing.body
    file = to.ask("/a/b/file").answer()
    assert file.body == b"here\n" and file.headers["server"].startswith("SimpleHTTP")
    assert to.ask("/a/b/file", f"If-Modified-Since: {file.headers['last-modified']}").head().status == 304
    assert to.ask("/none").head().status == 404
    assert to.ask("/a/b/file", method="HEAD").head().headers["content-length"] == "5"


# --- a browser ---


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_browser(box, about, tmp_path, scheme):
    """A page, what it loads, and its WebSocket, by host name: Chromium resolves *.localhost by itself."""
    box.sh("rm -f /root/posted")
    with Browser(f"{scheme}://{Door.host(box, 8000)}:{Door(about).at[1]}/page.html", tmp_path) as browser:
        seen = box.sh("timeout 50 sh -c 'until [ -s /root/posted ]; do sleep 0.3; done'; cat /root/posted")
        assert seen.stdout == "over the socket, 42, 7px", (seen, browser.said())
