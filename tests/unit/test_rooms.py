"""Arrows between rooms point only up the list (ARCHITECTURE.md): an include names its room, so a
wrong arrow is a line of text. The agent is narrower still, and `weird` links no HTTP and no JSON."""

import fnmatch
import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
ROOMS = ["bpf", "base", "event", "wire", "policy", "datapath", "host", "runtime", "sandbox", "edge",
         "api", "agent", "cmd"]
# Exceptions are declarations only, and said in the file that makes them.
ALLOWED = {("event", "wire/ipc.h")}
# Rooms that meet only through wire.
STRANGERS = {("edge", "sandbox"), ("edge", "host"), ("edge", "runtime"), ("api", "sandbox"),
             ("api", "host"), ("api", "runtime"), ("api", "edge"), ("api", "datapath")}
AGENT = {"base", "wire"}


def includes():
    for path in glob.glob(os.path.join(ROOT, "src", "*", "**", "*.[ch]"), recursive=True):
        room = os.path.relpath(path, os.path.join(ROOT, "src")).split(os.sep)[0]
        for number, line in enumerate(open(path, errors="replace"), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if m and "/" in m.group(1):
                yield os.path.relpath(path, ROOT), number, room, m.group(1)


def test_every_room_is_known():
    rooms = {os.path.basename(os.path.dirname(p)) for p in glob.glob(os.path.join(ROOT, "src/*/*"))}
    assert rooms <= set(ROOMS), rooms - set(ROOMS)


def test_arrows_point_up():
    wrong = []
    for path, number, room, header in includes():
        target = header.split("/")[0]
        if target not in ROOMS or (room, header) in ALLOWED or target == room:
            continue  # a library's header, or our own room
        if (ROOMS.index(target) > ROOMS.index(room) or (room, target) in STRANGERS or
                (room == "agent" and target not in AGENT | {"bpf"})):
            wrong.append(f"{path}:{number}: {room} includes {header}")
    assert not wrong, "\n".join(wrong)


def test_the_map_names_what_is_there():
    """ARCHITECTURE.md: each room, each directory of one, and every file family it names."""
    page = open(os.path.join(ROOT, "ARCHITECTURE.md")).read()
    rows = dict(re.findall(r"^\| (\w+) \| (`.*) \|$", page, re.M))
    assert len(rows) >= 7
    for room in ROOMS:
        assert re.search(rf"^{room} ", page, re.M), room
        for path in glob.glob(os.path.join(ROOT, "src", room, "*", "")):
            name = os.path.basename(os.path.dirname(path))
            assert f"{room}/{name}" in page or f"`{name}/`" in rows.get(room, ""), path
    assert set(rows) >= set(ROOMS), set(ROOMS) - set(rows)
    for room in ROOMS:
        there, names = files_of(room), names_in(rows[room])
        assert names and not nameless(there, names), room
        gone = [n for n in names if not any(fnmatch.fnmatch(f, n) for f in there) and
                not os.path.exists(os.path.join(ROOT, "src", room, n))]
        assert not gone, (room, gone)


def names_in(row):
    return [n for n in re.findall(r"`([^`]+)`", row) if " " not in n]


def files_of(room):
    """Files without the letter that ends them: "buf", "weir.bpf"."""
    return {os.path.basename(p)[:-2] for p in glob.glob(os.path.join(ROOT, "src", room, "*.[ch]"))}


def nameless(there, names):
    return sorted(f for f in there if not any(fnmatch.fnmatch(f, n) for n in names))


def test_a_file_that_the_map_lacks_is_found():
    """The control."""
    assert nameless({"buf", "net_udp", "stray"}, ["buf", "net*", "cli/"]) == ["stray"]
    assert names_in("`net_*`, `a b`: sockets · `cli/`") == ["net_*", "cli/"]


def test_tables_are_those_of_base():
    """base/table.h says why: elsewhere no memory would end the role."""
    found = subprocess.run(["grep", "-rlE", r"#\s*include\s+<uthash\.h>", "src"], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    assert found == ["src/base/table.h"]


def test_there_is_something_to_watch():
    """The control: a tree without includes would pass everything, and so would what is not looked
    into: each directory of a room counts."""
    seen = {os.path.dirname(path) for path, *_ in includes()}
    there = {os.path.relpath(d, ROOT) for d, _, files in os.walk(os.path.join(ROOT, "src"))
             if any(f.endswith(".c") for f in files)}
    assert "src/edge/ingress" in there and seen >= there, there - seen


@pytest.mark.parametrize("program, forbidden", [
    ("weird", ["libjansson", "libsqlite3", "libcurl"]),
    ("weir-edge", ["libjansson", "libsqlite3", "libcurl", "libbpf", "libmnl"]),
    ("weir-api", ["libbpf", "libmnl"])])
def test_the_trust_line_is_a_link_line(program, forbidden):
    path = os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"), "src/cmd", program)
    if not os.path.exists(path):
        pytest.skip(f"{program} is not built")
    needed = re.findall(r"NEEDED.*\[(\S+?)\.so",
                        subprocess.run(["readelf", "-d", path], stdout=subprocess.PIPE,
                                       text=True, check=True).stdout)
    assert not [n for n in needed for f in forbidden if n.startswith(f)]
    assert needed, "statically linked, or not readable"


def test_the_agent_is_static():
    found = glob.glob(os.path.join(ROOT, os.environ.get("WEIR_BUILD", "build"), "src/*/weir-agent"))
    if not found:
        pytest.skip("weir-agent is not built")
    headers = subprocess.run(["readelf", "-d", found[0]], stdout=subprocess.PIPE, text=True).stdout
    assert "NEEDED" not in headers
