"""Images from a registry: Debian's docker-registry serves, weir-build fetches, a sandbox runs on it."""

import base64
import contextlib
import crypt
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from kit import daemon as kit

pytestmark = pytest.mark.skipif(
    not all(shutil.which(p) for p in ("skopeo", "umoci", "docker-registry")),
    reason="skopeo, umoci or docker-registry is not installed")


def run(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60, **kw)


@contextlib.contextmanager
def registry(at, password=None):
    """A registry of our own on a free port of loopback, behind a password or open."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    auth = ""
    if password:
        with open(f"{at}/htpasswd", "w") as f:
            f.write("reader:" + crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH)) + "\n")
        auth = f"auth: {{htpasswd: {{realm: r, path: {at}/htpasswd}}}}\n"
    with open(f"{at}/config.yml", "w") as f:
        f.write(f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n"
                f"http: {{addr: 127.0.0.1:{port}}}\n{auth}")
    with open(f"{at}/log", "w") as log:
        p = subprocess.Popen(["docker-registry", "serve", f"{at}/config.yml"], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert p.poll() is None and time.monotonic() < end, open(f"{at}/log").read()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        p.terminate()
        p.wait(10)


def push(at, where, *more):
    """An image of two layers: a shell, then a file more and one that is taken away (a whiteout)."""
    image = f"{at}/image"
    run("umoci", "init", "--layout", image)
    run("umoci", "new", "--image", f"{image}:1")
    for step in (1, 2):
        run("umoci", "unpack", "--image", f"{image}:1", f"{at}/bundle{step}")
        root = f"{at}/bundle{step}/rootfs"
        if step == 1:
            for name in ("bin", "etc", "root", "tmp", "proc", "sys", "dev", "run"):
                os.makedirs(f"{root}/{name}")
            shutil.copy("/bin/busybox", f"{root}/bin/busybox")
            for name in ("sh", "cat", "ls", "tail"):
                os.symlink("busybox", f"{root}/bin/{name}")
            with open(f"{root}/etc/gone", "w") as f:
                f.write("first\n")
        else:
            os.unlink(f"{root}/etc/gone")
            with open(f"{root}/etc/kept", "w") as f:
                f.write("second\n")
        run("umoci", "repack", "--image", f"{image}:1", f"{at}/bundle{step}")
    run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *more,
        f"oci:{image}:1", f"docker://{where}/team/shell:1")


def fetch(name, *more, store=None):
    return subprocess.run([kit.program("weir-build"), name, "--store", store or kit.image_dir(), "--network",
                           "host", *more],
                          env=dict(os.environ, WEIR_RECIPES=os.path.join(kit.ROOT, "scripts/images")),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90)


@pytest.fixture
def work():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as at:
        os.chmod(at, 0o755)  # a build's user looks into its store
        yield at


def test_an_image_is_fetched_and_runs(work, api):
    name = f"fetched-{os.getpid()}:1"
    with registry(work) as where:
        push(work, where)
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
    with registry(work, "secret") as where:
        push(work, where, "--dest-creds", "reader:secret")

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
