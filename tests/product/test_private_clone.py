"""A build that lies where only root may look: the unprivileged roles are found and started all the
same, and hold nothing of what it took to find them."""

import os
import shutil

from kit import daemon as kit
from kit.api import Api


def test_below_a_directory_of_mode_700(tmp_path, monkeypatch):
    hidden = tmp_path / "home"
    hidden.mkdir(mode=0o700)
    os.makedirs(hidden / "build/src")
    for room in ("cmd", "agent"):
        shutil.copytree(os.path.join(kit.build_dir(), "src", room), hidden / "build/src" / room,
                        ignore=shutil.ignore_patterns("*.p", "*.a"))
    monkeypatch.setenv("WEIR_BUILD", str(hidden / "build"))
    monkeypatch.setenv("WEIR_NO_BUILD", "1")
    with kit.Daemon(kit.surrounding("runtime.default")) as d:
        assert Api(d.url, d.key).create().sh("echo here").stdout == "here\n"
        for role in ("api", "edge"):
            with open(f"/proc/{d.role(role)}/status") as f:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            assert "0" not in status["Uid"].split(), status["Uid"]
            for held in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(status[held], 16) == 0, (role, held, status[held])
