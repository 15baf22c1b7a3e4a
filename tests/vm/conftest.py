"""What virtual machines need and machines may lack: then these tests are skipped, with the reason."""

import glob
import os
import shutil

import pytest

WHY = [what for there, what in (
    (os.geteuid() == 0, "root"),
    (shutil.which("qemu-system-x86_64"), "QEMU (package qemu-system-x86)"),
    (glob.glob("/boot/vmlinuz-*-cloud-amd64"), "a kernel (package linux-image-cloud-amd64)"),
    (os.path.exists("/dev/net/tun"), "/dev/net/tun")) if not there]


def pytest_collection_modifyitems(items):
    if WHY:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs " + ", ".join(WHY)))
