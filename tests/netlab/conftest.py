"""The lab's tests share one neighbour: a sandbox that allows everything and listens everywhere."""

import pytest


@pytest.fixture(scope="session")
def neighbour(api, lab):
    box = api.create()
    box.sh("for p in 7777 8080; do setsid python3 -m http.server --bind :: $p "
           ">/dev/null 2>&1 & done")
    box.sh("for p in 7777 8080; do timeout 55 bash -c "
           "\"until : </dev/tcp/127.0.0.1/$p; do sleep 0.05; done\" 2>/dev/null; done")
    box.ip6 = box.sh("ip -6 -o addr show dev eth0 scope global | "
                     "sed -n 's/.*inet6 \\([0-9a-f:]*\\).*/\\1/p'").stdout.strip()
    yield box
    box.destroy()
