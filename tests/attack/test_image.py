"""Images made to harm who unpacks them, from a registry: names that climb, links to follow, whiteouts of
what is the machine's, devices, set-uid files and capabilities, bombs, a manifest without end. The control
of each is the same image without its sting, unpacked in the same place, or within the limit."""

import contextlib
import hashlib
import http.server
import json
import os
import random
import stat
import struct
import subprocess
import tarfile
import tempfile
import threading

import pytest

from kit import daemon as kit
from kit import registry
from kit.registry import member, tar

pytestmark = pytest.mark.skipif(bool(registry.MISSING), reason=f"not installed: {registry.MISSING}")
CLIMB = "../" * 16
ID_BASE = 1 << 31  # a store's files belong to nobody below


class Place:
    """A store, a registry, and a directory of the machine that anybody may write, with a file in it."""

    def __init__(self, at, where, open_dir):
        self.at, self.where, self.n = at, where, 0
        self.store, self.open = f"{at}/store", open_dir
        os.chmod(self.open, 0o777)
        with open(f"{self.open}/victim", "w") as f:
            f.write("the machine's\n")
        os.chmod(f"{self.open}/victim", 0o666)

    def fetch(self, source, *more, disk=128):
        self.n += 1
        name = f"hostile:{self.n}"
        done = subprocess.run([kit.program("weir-build"), name, "--store", self.store, "--network", "host",
                               "--disk-mib", str(disk), "--from", source, *more],
                              env=dict(os.environ, WEIR_RECIPES=os.path.join(kit.ROOT, "scripts/images")),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        root = f"{self.store}/names/{name}/rootfs"
        assert (done.returncode == 0) == os.path.isdir(root), done.stdout
        assert os.listdir(f"{self.store}/tmp") == [], done.stdout
        return root if done.returncode == 0 else None, done.stdout

    def layers(self, *layers, **more):
        """(root of the tree or None, what was said) of an image of these layers."""
        name = f"it:{self.n + 1}"
        registry.push(self.at, self.where, name, [tar(x) for x in layers])
        return self.fetch(f"http://{self.where}/{name}", **more)

    def reached(self):
        """The control of changes(): a recipe that means to can write into the machine's directory."""
        with tempfile.TemporaryDirectory(dir=self.at) as recipes:
            os.chmod(recipes, 0o755)
            with open(f"{recipes}/reach_1", "w") as f:
                f.write(f"#!/bin/sh\necho x | tee \"$1/made\" >{self.open}/reached\n")
            os.chmod(f"{recipes}/reach_1", 0o755)
            subprocess.run([kit.program("weir-build"), "reach:1", "--store", self.store, "--disk-mib", "64"],
                           env=dict(os.environ, WEIR_RECIPES=recipes), stdout=subprocess.DEVNULL, timeout=300)
        found = self.changes()
        os.unlink(f"{self.open}/reached")
        return found == ["reached"]

    def changes(self):
        """What is not as it was in the machine's directory."""
        with open(f"{self.open}/victim") as f:
            return [n for n in os.listdir(self.open) if n != "victim"] + \
                [text for text in [f.read()] if text != "the machine's\n"]


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory(prefix="weir-hostile-", dir="/var/tmp") as at:
        os.chmod(at, 0o755)
        # /var/tmp is a build's own; /srv it sees as everybody does
        with registry.serve(at) as where, tempfile.TemporaryDirectory(prefix="weir-hostile-", dir="/srv") as it:
            yield Place(at, where, it)


def inside(root, path):
    return os.path.lexists(root + path)


def test_names_that_climb_stay_in_the_image(place):
    """What is unpacked is seen in the tree, where the climb ends: nothing was just left out."""
    down = place.open.lstrip("/")
    root, said = place.layers([member(f"{CLIMB}{down}/climbed", data=b"x"), member(f"/{down}/absolute", data=b"x"),
                               member(f"a/{CLIMB}{down}/round", data=b"x"), member(f"{down}/plain", data=b"x")])
    assert place.changes() == []
    assert root, said
    for name in ("climbed", "absolute", "round", "plain"):
        assert inside(root, f"{place.open}/{name}"), (name, said)
    assert place.reached()


def test_links_lead_nowhere_outside(place):
    root, said = place.layers(
        [member("etc", tarfile.DIRTYPE), member("out", tarfile.SYMTYPE, linkname=place.open),
         member("up", tarfile.SYMTYPE, linkname=f"{CLIMB}{place.open.lstrip('/')}"),
         member("file", tarfile.SYMTYPE, linkname=f"{place.open}/victim")],
        [member("out/through", data=b"x"), member("up/through2", data=b"x"), member("file", data=b"x")])
    assert place.changes() == []
    assert root, said
    assert inside(root, f"{place.open}/through") and inside(root, f"{place.open}/through2"), said
    root, said = place.layers([member("etc/own", data=b"x"), member("hard", tarfile.LNKTYPE, linkname="etc/own")])
    assert root and os.stat(f"{root}/hard").st_nlink == 2, said  # the control
    root, said = place.layers([member("etc/own", data=b"x"), member(
        "hard", tarfile.LNKTYPE, linkname=f"{CLIMB}{place.open.lstrip('/')}/victim")])
    assert root is None and place.changes() == [] and os.stat(f"{place.open}/victim").st_nlink == 1, said


def test_whiteouts_take_nothing_of_the_machine(place):
    below = [member("etc/kept", data=b"x"), member("etc/gone", data=b"x"),
             member("out", tarfile.SYMTYPE, linkname=place.open)]
    root, said = place.layers(below, [member("etc/.wh.gone")])
    assert root and inside(root, "/etc/kept") and not inside(root, "/etc/gone"), said  # the control
    for bad in ("out/.wh.victim", f"{place.open}/.wh.victim", f"{CLIMB}{place.open}/.wh.victim",
                "out/.wh..wh..opq", "etc/.wh...", "etc/.wh../../../out/victim"):
        root, said = place.layers(below, [member(bad), member("etc/after", data=b"x")])
        assert place.changes() == [], (bad, said)
        assert root is None or inside(root, "/etc/after"), (bad, said)


@pytest.mark.parametrize("kind,major,minor", [(tarfile.CHRTYPE, 1, 1), (tarfile.BLKTYPE, 8, 0),
                                              (tarfile.CHRTYPE, 0, 0)])
def test_devices_become_empty_files(place, kind, major, minor):
    """Of root of a user namespace, who unpacks and may make no device; all else is what it was."""
    root, said = place.layers([member("etc/own", data=b"x"), member("dev/fifo", tarfile.FIFOTYPE),
                               member("dev/it", kind, devmajor=major, devminor=minor)])
    assert root and inside(root, "/etc/own"), said
    assert stat.S_ISFIFO(os.lstat(f"{root}/dev/fifo").st_mode), said  # the control
    it = os.lstat(f"{root}/dev/it")
    assert stat.S_ISREG(it.st_mode) and it.st_size == 0, said


@pytest.mark.parametrize("node,more", [("c 0 0", []), ("c 1 1", ["--uid-base", "0"]),
                                       ("b 8 0", ["--uid-base", "0"])])
def test_devices_are_refused(place, node, more):
    """And where one was made all the same - the one that a user namespace may make, or by the real root -
    the store does not take the tree. The control: the same recipe makes a fifo."""
    def build(name, what):
        with tempfile.TemporaryDirectory(dir=place.at) as recipes:
            os.chmod(recipes, 0o755)
            with open(f"{recipes}/{name}_1", "w") as f:
                f.write(f'#!/bin/sh\nset -e\nmkdir "$1/dev"\nmknod "$1/dev/it" {what}\necho made\n')
            os.chmod(f"{recipes}/{name}_1", 0o755)
            return subprocess.run([kit.program("weir-build"), f"{name}:1", "--store", place.store, "--disk-mib",
                                   "64", *more], env=dict(os.environ, WEIR_RECIPES=recipes), timeout=300,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    name = node.replace(" ", "-") + ("-root" if more else "")
    done = build(f"fifo-{name}", "p")
    assert done.returncode == 0, done.stdout
    done = build(f"node-{name}", node)
    assert "made\n" in done.stdout and "dev/it is a device: no image may hold one" in done.stdout, done.stdout
    assert done.returncode == 1 and not os.path.lexists(f"{place.store}/names/node-{name}:1")


def test_set_uid_files_are_nobodys_root(place):
    """The bit stays, as sandboxes need it; the owner is none of the machine's. Capabilities likewise: for
    a user namespace alone."""
    cap = struct.pack("<IIIII", 0x02000001, 1 << 21, 0, 0, 0).decode("latin-1")
    root, said = place.layers([member("su", data=b"x", mode=0o6755), member("no", data=b"x", mode=0o755),
                               member("other", data=b"x", mode=0o4755, uid=1000, gid=1000)])
    assert root, said
    su, no, other = (os.stat(f"{root}/{n}") for n in ("su", "no", "other"))
    assert su.st_mode & 0o6000 == 0o6000 and not no.st_mode & 0o6000
    assert su.st_uid == su.st_gid == no.st_uid >= ID_BASE and other.st_uid == su.st_uid + 1000
    root, said = place.layers([member("cap", data=b"x", pax_headers={
        "SCHILY.xattr.security.capability": cap})])
    assert root, said
    raw = os.getxattr(f"{root}/cap", "security.capability")
    assert raw[3] == 3 and struct.unpack("<I", raw[20:24])[0] >= ID_BASE, raw


def test_equal_files_with_other_capabilities_are_another_image(place):
    """Else who comes second would run on what the first has made of it."""
    cap = struct.pack("<IIIII", 0x02000001, 1 << 21, 0, 0, 0).decode("latin-1")
    sting, _ = place.layers([member("equal", data=b"x", pax_headers={"SCHILY.xattr.security.capability": cap,
                                                                    "SCHILY.xattr.user.a": "1"})])
    plain, _ = place.layers([member("equal", data=b"x")])
    again, said = place.layers([member("equal", data=b"x")])
    assert os.listxattr(f"{sting}/equal") and os.listxattr(f"{plain}/equal") == [], said
    assert os.path.realpath(plain) == os.path.realpath(again) != os.path.realpath(sting)  # equal ones are shared


def test_a_bomb_ends_at_its_disk(place):
    bomb = [member("etc/big", data=bytes(80 << 20))]
    assert len(tar(bomb)) < 1 << 20
    root, said = place.layers(bomb, disk=64)
    assert root is None and "no space left" in said.lower(), said
    root, said = place.layers(bomb, disk=320)
    assert root and os.stat(f"{root}/etc/big").st_size == 80 << 20, said


def test_layers_are_bounded_as_they_are_sent(place):
    layer = [member("etc/big", data=random.Random(1).randbytes(3 << 20))]
    name = f"{place.where}/sent:1"
    registry.push(place.at, place.where, "sent:1", [tar(layer)])
    root, said = place.fetch(f"http://{name}", "--layers-mib", "2")
    assert root is None and "is larger than 2 MiB" in said, said
    root, said = place.fetch(f"http://{name}", "--layers-mib", "8")
    assert root, said


@contextlib.contextmanager
def padded(at, pad):
    """A registry of one image whose manifest ends in `pad` spaces: (host:port, bytes sent of it)."""
    made = f"{at}/padded"
    registry.layout(made, [tar([member("etc/own", data=b"x")])])
    with open(f"{made}/index.json") as f:
        digest = json.load(f)["manifests"][0]["digest"].split(":")[1]
    with open(f"{made}/blobs/sha256/{digest}", "rb") as f:
        manifest = f.read()
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            about = {}
            if "/manifests/" in self.path:
                whole = manifest + b" " * min(pad, 1 << 22)
                about["Docker-Content-Digest"] = "sha256:" + hashlib.sha256(whole).hexdigest()
                parts = [whole] + [b" " * (1 << 20)] * ((pad - (1 << 22)) >> 20 if pad > 1 << 22 else 0)
                about["Content-Type"] = "application/vnd.oci.image.manifest.v1+json"
            elif "/blobs/" in self.path:
                with open(f"{made}/blobs/sha256/{self.path.split('sha256:')[1]}", "rb") as f:
                    parts = [f.read()]
            else:
                parts = [b"{}"]
            self.send_response(200)
            for key, value in {**about, "Content-Length": str(sum(map(len, parts)))}.items():
                self.send_header(key, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                for part in parts:
                    self.wfile.write(part)
                    sent.append(len(part))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        t = threading.Thread(target=server.serve_forever)
        t.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", sent
        finally:
            server.shutdown()
            t.join()
            subprocess.run(["rm", "-rf", made], check=True)


def test_a_huge_manifest_is_not_read_to_its_end(place):
    with padded(place.at, 1 << 20) as (where, sent):
        root, said = place.fetch(f"http://{where}/it:1")
        assert root, said  # the control
    with padded(place.at, 256 << 20) as (where, sent):
        root, said = place.fetch(f"http://{where}/it:1")
        assert root is None and "cannot fetch" in said, said
        assert sum(sent) < 64 << 20, sum(sent)
