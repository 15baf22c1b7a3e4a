"""What machines run by is chosen by a boot: with QEMU replaced by a script that hangs, ends or boots.

The script and a /dev/kvm that is none are seen by this daemon alone, in a mount namespace of its own.
"""

import os
import re
import shutil
import subprocess

import pytest

from kit.api import Api
from kit.daemon import Daemon, program
from kit.machine import tsc_khz

QEMU = "/usr/bin/qemu-system-x86_64"
SCRIPT = """#!/bin/sh
model=none
for a; do [ "$last" = -cpu ] && model=$a; last=$a; done
case "$*" in
*--version*) echo "QEMU emulator version $(cat /usr/lib/weir-test-version)"; exit ;;
*"-accel kvm"*) ;;
*) exec {real} "$@" ;;
esac
case $model,$(cat /usr/lib/weir-test-good) in
host,yes) exec sleep 60 ;;
Nehalem,yes) ;;
*) echo "does not do" >&2; exit 1 ;;
esac
case "$*" in
*-netdev*) ;;
*) echo "weir-init: no disk has the serial root" >&6; exec sleep 60 ;;
esac
n=$#
while [ $n -gt 0 ]; do
	a=$1 n=$((n - 1)); shift
	case $a in
	kvm) a=tcg,thread=multi,tb-size=64 ;;
	Nehalem) a=max ;;
	*" console=ttyS0 "*) a="$a tsc=reliable tsc_early_khz={khz}" ;;
	esac
	set -- "$@" "$a"
done
exec {real} "$@"
"""


class Elsewhere(Daemon):
    """A daemon whose /usr and /dev/kvm are others."""

    def __init__(self, settings, at):
        super().__init__(settings)
        self.upper, self.guest = at / "upper", at / "guest"
        (self.upper / "bin").mkdir(parents=True)
        (self.upper / "lib").mkdir()
        (at / "work").mkdir()
        real = QEMU + "-real"
        shutil.copy(QEMU, self.upper / "bin" / os.path.basename(real))
        (self.upper / "bin" / os.path.basename(QEMU)).write_text(SCRIPT.format(real=real, khz=tsc_khz()))
        (self.upper / "bin" / os.path.basename(QEMU)).chmod(0o755)
        self.says(version="7.2.0", good="yes")
        self.holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec",
             f"mount -t overlay -o lowerdir=/usr,upperdir={self.upper},workdir={at}/work overlay /usr; "
             "mount --bind /dev/null /dev/kvm; echo there; exec sleep infinity"],
            stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "there\n"

    def says(self, **words):
        for name, value in words.items():
            (self.upper / "lib" / f"weir-test-{name}").write_text(value)

    def within(self, *argv):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "--", *argv]

    def run(self, *argv):
        subprocess.run(self.within(*argv), check=True)

    def argv(self, *more):
        return self.within(*super().argv(*more))

    def environment(self):
        return {**super().environment(), "WEIR_GUEST_DIR": str(self.guest)}

    def __exit__(self, *why):
        super().__exit__(*why)
        self.holder.kill()
        self.holder.wait()

    def about(self):
        return Api(self.url, self.key).ok("GET", "/v1/version")


@pytest.fixture
def elsewhere(tmp_path):
    if not os.path.exists("/dev/kvm"):
        pytest.skip("there is no /dev/kvm to put another in the place of")
    return Elsewhere({"vm.accel": "auto"}, tmp_path)


def test_kvm_is_chosen_by_a_boot_and_the_finding_kept(elsewhere):
    """The first model hangs, the second ends, the third boots: machines are the default, with that one."""
    with elsewhere as daemon:
        first = daemon.about()
        assert re.match(r"kvm:Nehalem \(a guest booted with -cpu Nehalem in \d+ ms\)", first["vm"]), first
        assert first["runtime_default"] == "vm"
        box = Api(daemon.url, daemon.key).create()
        assert box.view["runtime"] == "vm" and box.exec("uname", "-r").stdout.strip() != os.uname().release
        said = subprocess.run([program("weir"), "doctor"], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "WEIR_URL": daemon.url, "WEIR_API_KEY": daemon.key}).stdout
        assert "machines run by kvm:Nehalem (a guest booted" in said, said
        box.pause()

        daemon.says(good="no")  # what was found counts, for this QEMU
        daemon.terminate()
        daemon.start()
        assert daemon.about()["vm"] == first["vm"]

        daemon.says(version="7.2.1")  # another one is tried anew, and none boots
        daemon.terminate()
        daemon.start()
        second = daemon.about()
        assert second["runtime_default"] == "container"
        assert second["vm"].startswith("tcg (/dev/kvm is there, but no guest boots with it (-cpu host: "), second
        assert re.findall(r"-cpu (.*?):", second["vm"]) == ["host", "host,-arch-capabilities", "Nehalem"]
        box.api = Api(daemon.url, daemon.key)
        box.api.ok("POST", f"{box.path}/resume")
        box.wait("error")
        assert "made with kvm:Nehalem, and this host has tcg" in str(box.view), box.view
        box.destroy()

        daemon.run("rm", QEMU)  # in its world
        daemon.terminate()
        daemon.start()
        a = Api(daemon.url, daemon.key).request("POST", "/v1/sandboxes",
                                                {"shape": "s-1vcpu-256mb", "runtime": "vm"})
        assert a.status == 501 and "install the package qemu-system-x86" in a.says, a.body
        assert Api(daemon.url, daemon.key).create().view["runtime"] == "container"  # the control


def test_the_operator_may_have_emulation(api):
    about = api.ok("GET", "/v1/version")
    assert about["vm"] == "tcg (vm.accel = tcg)"
