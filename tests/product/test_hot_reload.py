"""A dev server with hot reload (vite), in a sandbox, unmodified: its modules by each of the three ways,
its WebSocket with a client that is not ours, and a browser whose page changes without being loaded
anew when a file does."""

import json
import os
import re
import subprocess

import pytest

from kit.api import listening
from kit.browser import Browser
from kit.ingress import Door, Way

NPM = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "client", "hot-reload")
PORT = 5173

FILES = {
    "index.html": '<!doctype html><title>hot</title><script type="module" src="/main.js"></script>',
    "word.js": 'export const word = "first";',
    # A page that was loaded anew would have another number.
    "main.js": """
        import { word } from "./word.js";
        const born = Math.random();
        const say = (word) => fetch("/said", { method: "POST", body: `${word} ${born}` });
        say(word);
        if (import.meta.hot) import.meta.hot.accept("./word.js", (m) => say(m.word));""",
    "vite.config.js": """
        import { appendFileSync } from "node:fs";
        const said = (request, response) => {
          let text = "";
          request.on("data", (data) => (text += data));
          request.on("end", () => {
            appendFileSync("/root/said", text + "\\n");
            response.end();
          });
        };
        export default {
          server: { host: "0.0.0.0", port: 5173, strictPort: true },
          plugins: [{ name: "said", configureServer: (s) => void s.middlewares.use("/said", said) }],
        };""",
}


@pytest.fixture(scope="module")
def box(make_lasting_box):
    if not os.path.exists(f"{NPM}/node_modules/vite"):
        pytest.skip("no vite: run tests/client/install")
    box = make_lasting_box(ingress_enabled=True)
    packed = subprocess.run(["tar", "-C", NPM, "--exclude=.stamp-*", "-cf", "-", "node_modules"], check=True,
                            stdout=subprocess.PIPE).stdout
    box.put("/root/site/modules.tar", packed)
    for name, text in FILES.items():
        box.put(f"/root/site/{name}", text.encode())
    r = box.sh("cd /root/site; tar xf modules.tar; echo '{\"type\": \"module\"}' >package.json; "
               "setsid node node_modules/vite/bin/vite.js >/root/log 2>&1 </dev/null & "
               f"{listening(PORT)} || cat /root/log")
    assert r.code == 0 and not r.stdout, r
    return box


def change(box, word):
    box.put("/root/site/word.js", f'export const word = "{word}";'.encode())


@pytest.mark.parametrize("by", ["host", "header", "path"])
def test_a_change_is_told(box, about, by):
    way = Way(Door(about), box, PORT, by)
    page = way.ask("/", "Accept: text/html").answer()
    assert b"/@vite/client" in page.body and b"/main.js" in page.body, page.body
    code = way.ask("/@vite/client", "Accept-Encoding: identity").answer().body.decode()
    token = re.search(r'wsToken = "([^"]+)"', code).group(1)
    assert b"word.js" in way.ask("/main.js").answer().body
    assert b"word = " in way.ask("/word.js").answer().body  # what is watched is what somebody asked for
    headers = dict(line.split(": ", 1) for line in [f"Host: {way.host}", *way.lines])
    url = "ws://%s:%d" % way.door.at + f"{way.before}/?token={token}"
    with subprocess.Popen(["node", f"{NPM}/hear.mjs", url, json.dumps(headers)], text=True,
                          stdout=subprocess.PIPE) as client:
        try:
            assert json.loads(client.stdout.readline()) == {"type": "connected"}
            change(box, f"by {by}")
            told = json.loads(client.stdout.readline())
            assert told["type"] in ("update", "full-reload"), told
            assert "word.js" in json.dumps(told) and f"by {by}".encode() in way.ask(
                "/word.js?t=" + str(told.get("updates", [{}])[0].get("timestamp", 1))).answer().body
        finally:
            client.kill()


def test_a_page_changes_while_it_is_shown(box, about, tmp_path):
    def said(n):
        r = box.sh(f"timeout 50 sh -c 'until [ $(wc -l </root/said) -ge {n} ]; do sleep 0.3; done'; "
                   "cat /root/said")
        assert r.code == 0 and len(r.stdout.splitlines()) >= n, (r, browser.said())
        return r.stdout.splitlines()[n - 1].rsplit(" ", 1)

    box.sh(": >/root/said")
    with Browser(f"http://{Door.host(box, PORT)}:{Door(about).at[1]}/", tmp_path) as browser:
        _, born = said(1)
        change(box, "after")
        assert said(2) == ["after", born]
