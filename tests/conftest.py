"""Fixtures of every Python test that talks to a daemon.

Run below tools/with-daemon (and tools/with-internet in front of it, for what needs the lab); a test
that lacks one is skipped with that reason. Each test makes its own sandboxes: one costs milliseconds
and carries nothing over.
"""

import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from kit.api import Api, Refused  # noqa: E402
from kit.daemon import Daemon, surrounding  # noqa: E402
from kit import secrets  # noqa: E402
from kit.lab import Lab  # noqa: E402


@pytest.fixture(scope="session")
def api():
    if "WEIR_URL" not in os.environ:
        pytest.skip("no daemon: run this below tools/with-daemon")
    return Api(os.environ["WEIR_URL"], os.environ["WEIR_API_KEY"])


@pytest.fixture(scope="session")
def lab():
    if "WEIR_LAB" not in os.environ:
        pytest.skip("no lab: run this below tools/with-internet")
    return Lab(os.environ["WEIR_LAB"])


@pytest.fixture(scope="session")
def about():
    """The daemon under test: name, pid, directories, settings."""
    if "WEIR_DAEMON" not in os.environ:
        pytest.skip("no daemon: run this below tools/with-daemon")
    with open(os.environ["WEIR_DAEMON"]) as f:
        return json.load(f)


@pytest.fixture(scope="session")
def machines(about):
    """Sandboxes are machines here, perhaps by emulation: then bulk is less of it."""
    return about["settings"].get("runtime.default") == "vm"


@pytest.fixture(scope="session")
def secret(about):
    """secret(value): it must not be in the daemon's log; looked at when the daemon ends."""
    return lambda value: secrets.tell(about["dir"], value)


def boxes(client):
    made = []

    def make(**fields):
        made.append(client.create(**fields))
        return made[-1]

    yield make
    for box in made:
        try:
            box.destroy()
        except (Refused, OSError):
            pass


@pytest.fixture
def make_box(api):
    yield from boxes(api)


@pytest.fixture(scope="module")
def make_lasting_box(api):
    """One for all tests of a file."""
    yield from boxes(api)


@pytest.fixture
def other_daemon():
    """A second daemon with settings of its own: other_daemon({"egress.refuse": "drop"})."""
    running = []

    def make(settings=None):
        daemon = Daemon({**surrounding("runtime.default"), **(settings or {})})
        daemon.__enter__()
        running.append(daemon)
        daemon.api = Api(daemon.url, daemon.key)
        return daemon

    yield make
    for daemon in running:
        daemon.__exit__(None, None, None)


@pytest.fixture(params=[4, 6], ids=["v4", "v6"])
def family(request):
    if request.param == 6 and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this kernel has no IPv6")
    return request.param
