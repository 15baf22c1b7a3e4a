"""Images from a registry: Debian's docker-registry serves, weir-build fetches, a sandbox runs on it."""

import base64
import json
import os
import subprocess
import tempfile

import pytest

from kit import daemon as kit
from kit import registry

pytestmark = pytest.mark.skipif(bool(registry.MISSING), reason=f"not installed: {registry.MISSING}")
LAYERS = [registry.shell(), registry.tar([registry.member("etc/gone", data=b"first\n")]),
          registry.tar([registry.member("etc/.wh.gone"), registry.member("etc/kept", data=b"second\n")])]


def fetch(name, *more, store=None):
    return subprocess.run([kit.program("weir-build"), name, "--store", store or kit.image_dir(), "--network",
                           "host", *more],
                          env=dict(os.environ, WEIR_RECIPES=os.path.join(kit.ROOT, "scripts/images")),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


@pytest.fixture
def work():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as at:
        os.chmod(at, 0o755)  # a build's user looks into its store
        yield at


def test_an_image_is_fetched_and_runs(work, api):
    name = f"fetched-{os.getpid()}:1"
    with registry.serve(work) as where:
        registry.push(work, where, "team/shell:1", LAYERS)
        r = fetch(name, "--from", f"http://{where}/team/shell:1")
        assert r.returncode == 0, r.stdout
    try:
        headers = {"OPEN-SANDBOX-API-KEY": api.key}
        r = api.request("POST", "/v1/sandboxes", {
            "image": {"uri": name}, "entrypoint": ["tail", "-f", "/dev/null"],
            "resourceLimits": {"cpu": "1", "memory": "256Mi"}}, key=False, headers=headers)
        assert r.status == 202, r.body
        sb = r.json["id"]
        said = api.ok("POST", f"/v1/sandboxes/{sb}/exec", {"cmd": "ls", "args": ["/etc"]})
        names = said["result"]["stdout"].split()
        assert "kept" in names and "gone" not in names
        api.ok("DELETE", f"/v1/sandboxes/{sb}")
    finally:
        os.unlink(os.path.join(kit.image_dir(), "names", name))


def test_a_private_registry_wants_credentials(work):
    """Without them, and with wrong ones, nothing is published and the reason is told."""
    store = f"{work}/store"
    with registry.serve(work, "secret") as where:
        registry.push(work, where, "team/shell:1", LAYERS, "secret")

        def credentials(text):
            with open(f"{work}/auth.json", "w") as f:
                json.dump({"auths": {where: {"auth": base64.b64encode(text.encode()).decode()}}}, f)
            return "--auth", f"{work}/auth.json"

        for more in ((), credentials("reader:wrong")):
            r = fetch("private:1", "--from", f"http://{where}/team/shell:1", *more, store=store)
            assert r.returncode == 1 and f"cannot fetch {where}/team/shell:1" in r.stdout, r.stdout
            assert not os.path.exists(f"{store}/names/private:1") and os.listdir(f"{store}/tmp") == []
        r = fetch("private:1", "--from", f"http://{where}/team/shell:1", *credentials("reader:secret"),
                  store=store)
        assert r.returncode == 0, r.stdout
        with open(f"{store}/names/private:1/rootfs/etc/kept") as f:
            assert f.read() == "second\n"
        assert os.stat(f"{store}/names/private:1/rootfs/etc/kept").st_uid >= 1 << 31


def test_what_cannot_be_had_is_said(work):
    store = f"{work}/store"
    r = fetch("none:1", "--from", "http://127.0.0.1:1/a/b:1", store=store)
    assert r.returncode == 1 and "cannot fetch 127.0.0.1:1/a/b:1" in r.stdout, r.stdout
    for bad in ("--from=-x/y", "--from=a b/c", "--from=name", "--from=x/$(id)"):
        r = fetch("none:1", bad, store=store)
        assert r.returncode == 2 and "usage" in r.stdout
