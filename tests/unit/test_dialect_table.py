"""tests/dialects.table: every line of it names tests that are there, and every section has its lines."""

import functools
import json
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TESTS = os.path.join(ROOT, "tests")
# Lines that a section has at least: where the contract lists, as many as its list.
SECTIONS = {"sandbox0": {"1.1": 4, "1.2": 2, "1.3": 1, "1.4": 6, "1.5": 2, "2.1": 9, "2.2": 4, "2.3": 5, "2.4": 5,
                         "2.5": 3, "2.6": 3, "3.1": 12, "3.2": 6, "3.3": 2, "3.4": 8, "4.1": 2, "4.2": 2, "4.3": 1,
                         "4.4": 3, "4.5": 3, "4.6": 7, "4.7": 2, "4.8": 1, "4.9": 1, "4.10": 2, "4.11": 1,
                         "4.12": 1, "4.13": 1, "4.14": 8, "4.15": 10, "4.16": 14, "5.1": 8, "5.2": 3, "6": 1,
                         "7.1": 8, "7.2": 2, "7.3": 1, "8": 1, "9": 1},
            "opensandbox": {"1": 6, "2.1": 3, "2.2": 1, "2.3": 2, "2.4": 7, "2.5": 1, "2.6": 2, "2.7": 6, "2.8": 1,
                            "2.9": 1, "3.1": 1, "3.2": 3, "3.3": 3, "4.1": 3, "4.2": 1, "4.3": 3, "4.4": 1, "4.5": 1,
                            "4.6": 1, "4.7": 1, "4.8": 1, "4.9": 3, "4.10": 1, "4.11": 1, "4.12": 1, "4.13": 1,
                            "5.1": 2, "5.2": 1, "5.3": 5, "5.4": 9, "5.5": 3, "5.6": 2, "5.7": 1, "5.8": 1, "5.9": 2,
                            "6.1": 2, "6.2": 5, "6.3": 1, "7": 1, "8": 4, "10": 1, "11": 1, "12": 9, "14": 1},
            "both": {"1": 3}}


def rows(text):
    for line in text.splitlines():
        if line and not line.startswith("#"):
            m = re.fullmatch(r"(\w+) ([\d.]+) (\d+)\t([^\t]+)\t([^\t]+)", line)
            assert m, line
            yield m[1], m[2], int(m[3]), m[5].split(" | ")


@functools.lru_cache(None)
def names(path):
    """Tests of a file."""
    with open(os.path.join(TESTS, path), encoding="utf-8") as f:
        text = f.read()
    if path.endswith(".json"):
        return {str(row["row"]) for row in json.loads(text)["rows"]}
    if path.endswith(".mjs"):
        return {m[2] for m in re.finditer(r"\btest\(([\"`])(.*?)\1,", text)}
    if path.endswith(".c"):
        return {n for n in re.findall(r"\b(\w+)\(void \*\*state\)", text) if re.search(rf"test\w*\([^;]*\b{n}\b", text)}
    return set(re.findall(r"^def (test_\w+)", text, re.M))


def missing(text):
    return [t for *_, tests in rows(text) for t in tests if t.split("::")[1] not in names(t.split("::")[0])]


def table():
    with open(os.path.join(TESTS, "dialects.table"), encoding="utf-8") as f:
        return f.read()


def test_every_test_is_there():
    assert missing(table()) == []


def test_every_section_has_its_lines():
    count = {}
    for dialect, section, number, tests in rows(table()):
        have = count.setdefault(dialect, {})
        have[section] = have.get(section, 0) + 1
        assert number == have[section] and len(set(tests)) == len(tests), (dialect, section, number)
    assert {d: {s: n for s, n in of.items() if count[d].get(s, 0) < n} for d, of in SECTIONS.items()} == \
        {d: {} for d in SECTIONS}
    assert {(d, s) for d, of in count.items() for s in of} == {(d, s) for d, of in SECTIONS.items() for s in of}


def test_what_is_not_there_is_missed():
    """The control, for each kind of test."""
    there = table()
    for path in ("unit/api/test_sandbox0.py", "unit/base/test_const_time.c", "client/sandbox0-files.test.mjs",
                 "netlab/sandbox0.json"):
        assert f"{path}::" in there and names(path)
        assert missing(f"both 1 1\tx\t{path}::no such") == [f"{path}::no such"]
