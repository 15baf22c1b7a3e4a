"""weir-build with recipes of a few lines: what it publishes, what it refuses, what it leaves."""

import os
import stat
import subprocess

import pytest

from kit import daemon

UID_BASE = 4293918720
RECIPE = """#!/bin/sh
set -e
id -u >"$1/who"
pwd >"$1/where"
mkdir -p "$1/etc/deep" && ln -s who "$1/link" && mkfifo "$1/fifo" && chmod 750 "$1/etc"
echo content >"$1/etc/deep/file" && chown 7:8 "$1/etc/deep/file"
test -d "$2" && echo cached >>"$2/times"
"""


class Store:
    def __init__(self, where):
        self.path, self.recipes, self.cache = (str(where / n) for n in ("store", "recipes", "cache"))
        os.mkdir(self.recipes)
        where.chmod(0o755)
        for above in list(where.parents)[:3]:  # the recipe's user comes through here
            if str(above).startswith("/tmp/"):
                above.chmod(0o755)

    def recipe(self, name, text):
        path = os.path.join(self.recipes, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o700)

    def build(self, name, *more, code=0):
        done = subprocess.run([daemon.program("weir-build"), name, "--store", self.path, "--recipes",
                               self.recipes, "--cache", self.cache, *more], timeout=300, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == code, done
        assert not os.path.isdir(f"{self.path}/tmp") or os.listdir(f"{self.path}/tmp") == []
        return done.stdout + done.stderr

    def meta(self, name):
        with open(f"{self.path}/names/{name}/meta") as f:
            return dict(line.strip().split("=", 1) for line in f)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_an_image_is_published(store):
    store.recipe("small_1", RECIPE)
    said = store.build("small:1")
    meta = store.meta("small:1")
    root = f"{store.path}/names/small:1/rootfs"
    assert meta["name"] == "small:1" and meta["uid_base"] == str(UID_BASE)
    assert f"small:1 is {meta['digest']}" in said
    assert os.path.realpath(root).endswith(f"/images/{meta['digest'][len('sha256:'):]}/rootfs")
    with open(f"{root}/who") as who, open(f"{root}/where") as where:
        assert who.read() == "0\n" and where.read().endswith("/work\n")
    st = os.stat(f"{root}/etc/deep/file")
    assert (st.st_uid, st.st_gid) == (UID_BASE + 7, UID_BASE + 8)
    assert stat.S_ISFIFO(os.stat(f"{root}/fifo").st_mode) and os.readlink(f"{root}/link") == "who"
    assert int(meta["bytes"]) == sum(os.path.getsize(f"{root}/{f}")
                                     for f in ("who", "where", "etc/deep/file"))


def test_what_is_there_is_not_built_again_unless_forced(store):
    store.recipe("small_1", "#!/bin/sh\necho same >$1/file; echo x >>$2/times\n")
    store.build("small:1")
    first = store.meta("small:1")
    assert "small:1 is there: " + first["digest"] in store.build("small:1")
    assert os.path.getsize(f"{store.cache}/times") == 2
    store.build("small:1", "--force")  # the same content is the same image
    assert os.path.getsize(f"{store.cache}/times") == 4
    assert store.meta("small:1") == first and len(os.listdir(f"{store.path}/images")) == 1


@pytest.mark.parametrize("change", ["echo other >$1/f", "chmod 4755 $1/f", "chown 1 $1/f",
                                    "mv $1/f $1/g", "ln -sf b $1/l"])
def test_the_digest_sees_every_change(store, change):
    same = "#!/bin/sh\nset -e\necho one >$1/f; ln -s a $1/l\n"
    store.recipe("a_1", same)
    store.recipe("b_1", same + change + "\n")
    store.recipe("c_1", same + "touch -d 2001-01-01 $1/f\n")  # times are not content
    for name in ("a:1", "b:1", "c:1"):
        store.build(name)
    digest = {name: store.meta(f"{name}:1")["digest"] for name in "abc"}
    assert digest["a"] == digest["c"] != digest["b"]


@pytest.mark.parametrize("recipe, why", [("exit 3", "failed (status 3)"),
                                         ("kill -9 $$", "failed (status 137)"),
                                         ("touch /etc/weir-was-here", "failed (status 1)"),
                                         ("mount -o remount,rw /sys/kernel || exit 9", "status 9"),
                                         ('p=$1; for i in $(seq 140); do p=$p/d; done; mkdir -p $p',
                                          "read the new tree")])
def test_a_failed_recipe_publishes_nothing(store, recipe, why):
    store.recipe("bad_1", "#!/bin/sh\n" + recipe + "\n")
    assert why in store.build("bad:1", code=1)
    assert os.listdir(f"{store.path}/names") == os.listdir(f"{store.path}/images") == []
    assert not os.path.exists("/etc/weir-was-here")
    store.recipe("bad_1", "#!/bin/sh\necho mended >$1/file\n")
    store.build("bad:1")  # and nothing stands in the way of the next


def test_what_it_refuses(store):
    assert "no recipe for none:1" in store.build("none:1", code=1)
    for name in ("", "none", "a:b:c", ":1", "a:", "../x:1", "A:1", "-a:1"):
        store.build(name, code=2)
    store.build("small:1", "--uid-base", "4294967295", code=2)


def test_litter_of_a_killed_build_goes(store):
    store.recipe("small_1", "#!/bin/sh\necho x >$1/file\n")
    os.makedirs(f"{store.path}/tmp/4711/image/rootfs/deep")
    store.build("small:1")
    assert store.meta("small:1")["digest"].startswith("sha256:")
