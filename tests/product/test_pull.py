"""Creates that name an image of a registry: in the store or fetched, public or private, at once, never.
The registries stand on the lab's Internet; one daemon serves all tests."""

import concurrent.futures
import contextlib
import glob
import inspect
import os
import subprocess
import tempfile
import threading
import time

import pytest

from kit import registry, secrets
from kit.api import Api
from kit.daemon import Daemon, ROOT, comm

pytestmark = pytest.mark.skipif(bool(registry.MISSING), reason=f"not installed: {registry.MISSING}")
SECRET = "pass-7f3a-word"


@pytest.fixture(scope="module")
def world(lab):
    """Two registries with an image each, and a daemon that fetches from both."""
    with tempfile.TemporaryDirectory(prefix="weir-pull-", dir="/var/tmp") as at:
        os.chmod(at, 0o755)
        with registry.serve(at, lab=lab, name="allowed.test") as public, \
                registry.serve(at, SECRET, lab=lab, name="sub.allowed.test") as private, \
                registry.silent(lab, "allowed.test") as (silent, hang_up), \
                registry.silent(lab, "allowed.test") as (mute, mute_hang_up):
            kept = registry.tar([registry.member("etc/kept", data=b"public\n")])
            registry.push(at, public, "team/shell:1", [registry.shell(), kept])
            registry.push(at, public, "team/shell:2", [registry.shell(), kept])
            secret = registry.tar([registry.member("etc/kept", data=b"private\n")])
            registry.push(at, private, "team/mine:1", [registry.shell(), secret], SECRET)
            with Daemon({"daemon.image_dir": f"{at}/store", "dns.upstream": lab.resolver4,
                         "images.registries": f"http://{public}, http://{private}, http://{silent}, http://{mute}",
                         "pool.slots": 1}) as d:
                d.at, d.public, d.private = at, public, private
                d.silent, d.hang_up, d.mute, d.mute_hang_up = silent, hang_up, mute, mute_hang_up
                d.api = Api(d.url, d.key)
                secrets.tell(d.dir, SECRET)
                yield d


def create(world, uri, auth=None, key=None):
    image = {"uri": uri, **({"auth": {"username": registry.USER, "password": auth}} if auth else {})}
    return world.api.request("POST", "/v1/sandboxes", {
        "image": image, "entrypoint": ["tail", "-f", "/dev/null"],
        "resourceLimits": {"cpu": "1", "memory": "128Mi"}},
        key=False, headers={"OPEN-SANDBOX-API-KEY": key or world.key})


def kept(world, response, key=True):
    assert response.status == 202, response.body
    box = response.json["id"]
    said = world.api.ok("POST", f"/v1/sandboxes/{box}/exec", {"cmd": "cat", "args": ["/etc/kept"]}, key=key)
    return said["result"]["stdout"]


def refused(response, why):
    assert response.status == 500, response.body
    assert response.json["code"] == "DOCKER::SANDBOX_IMAGE_PULL_FAILED", response.body
    assert why in response.json["message"], response.body


def pulled(world):
    names = f"{world.at}/store/names"
    return sorted(n for n in os.listdir(names) if n.startswith("pulled.")) if os.path.exists(names) else []


def until(check):
    end = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError):
            if check():
                return
        assert time.monotonic() < end, inspect.getsource(check)
        time.sleep(0.05)


def fetching(world):
    """Builds that this daemon runs."""
    with open(f"/proc/{world.process.pid}/task/{world.process.pid}/children") as f:
        return sum(comm(int(pid)) == "weir-build" for pid in f.read().split())


def test_an_image_is_fetched_once_for_all(world):
    before = len(pulled(world))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(world, f"{world.public}/team/shell:1"), range(4)))
    assert [kept(world, r) for r in made] == ["public\n"] * 4
    assert len(pulled(world)) == before + 1
    asked = [p for p in registry.requests(world.at) if p.endswith("/manifests/1")]
    kept(world, create(world, f"{world.public}/team/shell:1"))
    kept(world, create(world, "team/shell:1"))  # the first registry's, without its name
    assert [p for p in registry.requests(world.at) if p.endswith("/manifests/1")] == asked
    kept(world, create(world, "team/shell:2"))  # the control: another tag is asked for
    assert any(p.endswith("/manifests/2") for p in registry.requests(world.at))
    view = world.api.request("GET", f"/v1/sandboxes/{made[0].json['id']}", key=False,
                             headers={"OPEN-SANDBOX-API-KEY": world.key}).json
    assert view["image"]["uri"] == f"{world.public}/team/shell:1"


def test_what_cannot_be_had_is_said(world):
    refused(create(world, f"{world.public}/team/none:1"), "the registry has no such image")
    refused(create(world, "elsewhere.example/a:1"), "elsewhere.example is not one of this server's")
    refused(create(world, f"{world.private}/team/mine:1"), "other credentials")
    refused(create(world, f"{world.private}/team/mine:1", "wrong"), "other credentials")
    r = create(world, "a b")
    assert r.status == 400 and "image.uri" in r.json["message"], r.body
    r = world.api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "rootfs": "team/shell:1"})
    assert r.status == 400 and "unknown rootfs" in r.says  # only a dialect whose contract has it


def test_those_under_way_are_listed(world):
    """An admin sees all of them, others what their own creates wait for."""
    keys = [world.api.ok("POST", "/v1/keys", {"name": n})["key"] for n in ("waits", "looks")]

    def pulls(key=True):
        return [(p["image"], p["status"], p["creates"])
                for p in world.api.ok("GET", "/v1/rootfs/pulls", key=key)["data"]]

    assert pulls() == []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = [pool.submit(create, world, f"{world.silent}/a:1", key=k) for k in (world.key, keys[0])]
        try:
            end = time.monotonic() + 120
            while pulls() != [(f"http://{world.silent}/a:1", "fetching", 2)]:
                assert time.monotonic() < end, pulls()
                time.sleep(0.05)
            assert pulls(keys[0]) == [(f"http://{world.silent}/a:1", "fetching", 1)]
            assert pulls(keys[1]) == []
        finally:
            world.hang_up()
        for m in made:
            refused(m.result(), "cannot fetch")
    assert pulls() == []


def test_a_private_image_is_its_users(world):
    other = world.api.ok("POST", "/v1/keys", {"name": "other"})
    assert kept(world, create(world, f"{world.private}/team/mine:1", SECRET)) == "private\n"
    refused(create(world, f"{world.private}/team/mine:1", key=other["key"]), "other credentials")
    refused(create(world, f"{world.private}/team/mine:1", "guess", key=other["key"]), "other credentials")
    for stolen in pulled(world):  # its name in the store opens nothing
        r = create(world, stolen, key=other["key"])
        assert r.status == 500, r.body
        r = world.api.request("POST", "/v1/sandboxes", {"shape": "s-1vcpu-256mb", "rootfs": stolen})
        assert r.status == 400, r.body
    assert not [n for n in world.api.ok("GET", "/v1/rootfs")["rootfs"] if n.startswith("pulled.")]
    assert kept(world, create(world, f"{world.private}/team/mine:1", SECRET, key=other["key"]), other["key"]) == "private\n"


def test_credentials_are_tried_at_every_create(world):
    """Also by a user whose image is kept, with the right ones too: they are asked about, and nothing is
    fetched again. Revoked, they open nothing; given back, they do."""
    mine = f"{world.private}/team/mine:1"
    key = world.api.ok("POST", "/v1/keys", {"name": "forgets"})["key"]

    def asked(what):
        return sum(what in p for p in registry.requests(world.at, "private"))

    assert kept(world, create(world, mine, SECRET, key=key), key) == "private\n"
    names, manifests, blobs = pulled(world), asked("/manifests/1"), asked("/blobs/")
    assert blobs  # the control
    assert kept(world, create(world, mine, SECRET, key=key), key) == "private\n"
    assert asked("/manifests/1") > manifests and asked("/blobs/") == blobs and pulled(world) == names
    refused(create(world, mine, SECRET + "x", key=key), "other credentials")
    refused(create(world, mine, SECRET[:-1], key=key), "other credentials")
    refused(create(world, mine, key=key), "other credentials")
    try:
        registry.set_password(world.at, "another")
        refused(create(world, mine, SECRET, key=key), "other credentials")
        assert pulled(world) == names  # and it is still there
    finally:
        registry.set_password(world.at, SECRET)
    assert kept(world, create(world, mine, SECRET, key=key), key) == "private\n"
    assert asked("/blobs/") == blobs


def test_a_fetch_ends_with_the_role_that_asked(world):
    """The api role dies during one: its client sees the connection end, nothing of the fetch is left, and
    who asks again is neither told that it is under way nor that there is no room."""
    before = world.log_tail(10000).count("build.orphan")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lost = pool.submit(create, world, f"{world.mute}/b:1")
        until(lambda: [p for p in world.api.ok("GET", "/v1/rootfs/pulls")["data"] if p["status"] == "fetching"])
        until(lambda: fetching(world) == 1)
        world.kill9(world.role("api"))
        with pytest.raises(OSError):
            lost.result()
        until(lambda: world.api.request("GET", "/readyz", key=False).status == 200)
        until(lambda: fetching(world) == 0)
        until(lambda: world.log_tail(10000).count("build.orphan") == before + 1)
        assert world.api.ok("GET", "/v1/rootfs/pulls")["data"] == []
        again = pool.submit(create, world, f"{world.mute}/b:1")
        until(lambda: fetching(world) == 1)
        world.mute_hang_up()
        refused(again.result(), "cannot fetch")
    assert kept(world, create(world, f"{world.public}/team/shell:1")) == "public\n"


def test_credentials_are_nowhere_to_be_read(world):
    """Not in the log, the state, the store, or any process's command line or environment meanwhile."""
    seen, stop = [], threading.Event()
    watched = 0

    def watch():
        nonlocal watched
        while not stop.is_set():
            for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
                try:
                    with open(path, "rb") as f:
                        text = f.read()
                except OSError:
                    continue
                watched += b"weir-build" in text and world.private.encode() in text
                if SECRET.encode() in text:
                    seen.append(path)

    t = threading.Thread(target=watch)
    t.start()
    try:
        for i in range(50):  # a fetch may come and go between two looks
            key = world.api.ok("POST", "/v1/keys", {"name": f"watched{i}"})["key"]
            assert kept(world, create(world, f"{world.private}/team/mine:1", SECRET, key=key), key) == "private\n"
            if watched:
                break
    finally:
        stop.set()
        t.join()
    assert watched and not seen, (watched, seen)  # the control: the reference was seen there
    found = subprocess.run(["grep", "-rlaF", "--exclude-dir=layers", SECRET, world.state_dir, world.run_dir, f"{world.at}/store",
                            world.log_path], stdout=subprocess.PIPE, text=True).stdout
    assert not found, found
    with open(world.log_path) as f:
        assert "image.pull from=" in f.read()


def test_what_nobody_uses_makes_room(lab, world):
    """images.pulled_mib: three images of some MiB, room for two; the one in use stays."""
    for i in (1, 2, 3):
        registry.push(world.at, world.public, f"team/big:{i}", [registry.shell(), registry.tar(
            [registry.member("etc/kept", data=f"{i}\n".encode()),
             registry.member("etc/big", data=bytes(4 << 20) + bytes([i]))])])
    with Daemon({"daemon.image_dir": f"{world.at}/small", "dns.upstream": lab.resolver4, "pool.slots": 1,
                 "images.registries": f"http://{world.public}", "images.pulled_mib": "13"}) as d:
        d.at, d.public, d.api = f"{world.at}/x", world.public, Api(d.url, d.key)
        names = f"{world.at}/small/names"

        def there():
            return len(os.listdir(names))

        first = create(d, "team/big:1")
        assert kept(d, first) == "1\n"
        second = create(d, "team/big:2")
        assert kept(d, second) == "2\n" and there() == 2
        d.api.ok("DELETE", f"/v1/sandboxes/{second.json['id']}")
        third = create(d, "team/big:3")
        assert kept(d, third) == "3\n"
        until(lambda: there() == 2)
        assert kept(d, first) == "1\n" and kept(d, create(d, "team/big:1")) == "1\n"
        assert kept(d, create(d, "team/big:2")) == "2\n"  # fetched again


def test_the_published_client(world):
    """Its own tests of this, unmodified client: tests/client/opensandbox-registry.mjs."""
    here = os.path.join(ROOT, "tests", "client")
    node = next((n for n in [os.path.join(here, "node_modules/node/bin/node"),
                             *glob.glob(f"{here}/node_modules/node-linux-*/bin/node"),
                             *glob.glob(f"{here}/node_modules/node/node_modules/node-linux-*/bin/node")]
                 if os.path.exists(n)), None)
    if not node:
        pytest.skip("the client is not installed: tests/client/install")
    done = subprocess.run([node, "--test", "opensandbox-registry.mjs"], cwd=here, timeout=300, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(
                              os.environ, OPEN_SANDBOX_DOMAIN=world.address, OPEN_SANDBOX_API_KEY=world.key,
                              WEIR_PUBLIC=world.public, WEIR_PRIVATE=world.private, WEIR_LOGIN=registry.USER,
                              WEIR_PASSWORD=SECRET))
    assert done.returncode == 0, done.stdout
