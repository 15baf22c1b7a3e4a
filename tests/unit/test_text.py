"""Texts that must stay true: manual pages are well-formed and name every key and flag; scripts
parse; no file is written with spaces where the house uses tabs."""

import glob
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"))
PAGES = sorted(glob.glob(os.path.join(ROOT, "man", "*.[1-8]")))


def text_of(page):
    return subprocess.run(["mandoc", "-T", "utf8", page], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.replace("\b", "\b")


def plain(page):
    return re.sub(r".\x08", "", text_of(page)).replace("\u2010", "-").replace("\u2212", "-")


@pytest.mark.parametrize("page", PAGES, ids=os.path.basename)
def test_man_page_lints(page):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_every_key_has_its_place_in_the_manual():
    weird = os.path.join(BUILD, "src/cmd/weird")
    page = os.path.join(ROOT, "man", "weird.conf.5")
    if not os.path.exists(page) or not shutil.which("mandoc"):
        pytest.skip("weird.conf.5 or mandoc is missing")
    source = open(os.path.join(ROOT, "src/wire/config.c")).read()
    keys = re.findall(r'^\t\{ "([a-z_.0-9]+)", [A-Z]', source, re.M)
    assert len(keys) > 25
    text = plain(page)
    assert not [k for k in keys if k not in text]
    described = set(re.findall(r"^\s+([a-z]+\.[a-z0-9_]+) =", text, re.M))
    assert described <= set(keys), described - set(keys)
    assert weird


@pytest.mark.parametrize("program", ["weird", "weir", "weir-build"])
def test_every_flag_has_its_place_in_the_manual(program):
    path = os.path.join(BUILD, "src/cmd", program)
    pages = [p for p in PAGES if os.path.basename(p).rsplit(".", 1)[0] == program]
    if not os.path.exists(path) or not pages or not shutil.which("mandoc"):
        pytest.skip(f"{program}, its manual page or mandoc is missing")
    done = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=10)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout))
    assert flags, "no flags in --help"
    text = plain(pages[0])
    assert not [f for f in flags if f not in text]


@pytest.mark.parametrize("script", ["scripts/deps.sh", "scripts/demo", "scripts/fuzz.sh",
                                    "scripts/images/debian_12", "scripts/images/devbox_1",
                                    ".ci/run"])
def test_scripts_parse(script):
    path = os.path.join(ROOT, script)
    if not os.path.exists(path):
        pytest.skip(f"{script} is not there")
    shell = "bash" if "bash" in open(path).readline() else "sh"
    assert subprocess.run([shell, "-n", path]).returncode == 0


def test_c_is_indented_with_tabs():
    wrong = []
    for path in glob.glob(os.path.join(ROOT, "src/*/*.[ch]")):
        for number, line in enumerate(open(path, errors="replace"), 1):
            if line.startswith("    ") and not line.startswith("     *"):
                wrong.append(f"{os.path.relpath(path, ROOT)}:{number}")
    assert not wrong, wrong[:20]
