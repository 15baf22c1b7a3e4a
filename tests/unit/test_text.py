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
                          check=True).stdout


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
    page = os.path.join(ROOT, "man", "weird.conf.5")
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    source = open(os.path.join(ROOT, "src/wire/config_keys.c")).read()
    keys = re.findall(r'^\t\{ "([a-z_.0-9]+)", [A-Z]', source, re.M)
    assert len(keys) > 25
    text = plain(page)
    assert not [k for k in keys if k not in text]
    described = set(re.findall(r"^\s+([a-z]+\.[a-z0-9_]+) =", text, re.M))
    assert described <= set(keys), described - set(keys)


@pytest.mark.parametrize("program", ["weird", "weir", "weir-build"])
def test_every_flag_has_its_place_in_the_manual(program):
    path = os.path.join(BUILD, "src/cmd", program)
    pages = [p for p in PAGES if os.path.basename(p).rsplit(".", 1)[0] == program]
    if not os.path.exists(path) or not pages or not shutil.which("mandoc"):
        pytest.skip(f"{program}, its manual page or mandoc is missing")
    done = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=120)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout))
    assert flags, "no flags in --help"
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", plain(pages[0])))
    assert flags <= told, flags - told


def options_of_help(*command):
    """What weir COMMAND --help lists, without what every command has."""
    done = subprocess.run([os.path.join(BUILD, "src/cmd/weir"), *command, "--help"],
                          stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", done.stdout, re.M)) - {"help", "json", "url"}


def commands_of_manual():
    """{heading of a command: its options}, of weir(1)."""
    page = open(os.path.join(ROOT, "man", "weir.1")).read()
    depth, found, name = 0, {}, None
    for line in re.search(r"^\.Sh COMMANDS\n(.*?)^\.Sh ", page, re.M | re.S).group(1).splitlines():
        depth += line.startswith(".Bl") - line.startswith(".El")
        if depth == 1 and line.startswith(".It Ic "):
            name = re.match(r"\.It Ic ((?:[a-z]+ ?)+)", line).group(1).strip()
            found.setdefault(name, set())
        if name:
            found[name] |= set(re.findall(r"(?:Fl |\| )\\?-([a-z-]{2,})", line))
    return found


def test_every_command_has_its_options_in_the_manual():
    """weir COMMAND --help against the command's own place in weir(1), both ways."""
    if not os.path.exists(os.path.join(BUILD, "src/cmd/weir")):
        pytest.skip("weir is not built")
    every = subprocess.run([os.path.join(BUILD, "src/cmd/weir"), "--help"], stdout=subprocess.PIPE,
                           text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", every, re.M)
    manual = commands_of_manual()
    assert len(commands) > 30 and set(commands) == set(manual), set(commands) ^ set(manual)
    manual["run"] |= manual["create"]  # said there in words
    manual["ingress off"] |= manual["ingress on"]
    manual["ingress token"].discard("access")  # ingress on's, named beside them
    differ = {c: options_of_help(*c.split()) ^ manual[c] for c in commands}
    assert not {c: d for c, d in differ.items() if d}


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
    for path in glob.glob(os.path.join(ROOT, "src/**/*.[ch]"), recursive=True):
        for number, line in enumerate(open(path, errors="replace"), 1):
            if line.startswith("    ") and not line.startswith("     *"):
                wrong.append(f"{os.path.relpath(path, ROOT)}:{number}")
    assert not wrong, wrong[:20]
