"""What test runners wrote, counted: JUnit (pytest), TAP (node, and the kit's own), meson's log (cmocka).

A failure is text: first its name, with file:line of each of our files between the test and the fault;
then why, a few short lines. check.py prints failures last, so that whoever sees nothing but the end
of its output can tell what went wrong.
"""

import json
import os
import re
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
WHY_LINES = 7  # and the name above them
WIDTH = 200


class Failed(Exception):
    """A stage that came to no results."""


class Count:
    def __init__(self):
        self.passed = 0
        self.failures = []  # failure()s
        self.skipped = []   # "name: why"

    @property
    def failed(self):
        return len(self.failures)

    def add(self, other):
        self.passed += other.passed
        self.failures += other.failures
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"


def cut(line):
    return line if len(line) <= WIDTH else f"{line[:WIDTH // 2]} ... {line[-WIDTH // 2:]}"


def failure(name, why="", places=()):
    """Where it was, told once and from the test inwards; and why, without what is empty."""
    at = " > ".join(dict.fromkeys(places))
    lines = [line.rstrip() for line in (why or "").splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines[:2] = [f"{lines[0]} {lines[1].strip()}"]
    if len(lines) > WHY_LINES and (differ := [line for line in lines[1:] if line[0] in "+-"]):
        lines = lines[:1] + differ
    if len(lines) > WHY_LINES:
        lines = lines[:WHY_LINES - 1] + [f"... {len(lines) - WHY_LINES + 1} more"]
    return "\n".join([f"{name} ({at})" if at else name, *map(cut, lines)])


def ended(name, how, log):
    """No test failed, but what surrounds them did: a build, a leak. The end of the log says why."""
    with open(log, errors="replace") as f:
        last = [line for line in f.readlines()[-60:] if line.strip()]
    return failure(f"{name}: {how}", "".join(last[-WHY_LINES:]))


def shown(failures, lines=20):
    """All of them in about so many lines; each says at least its name and the first of its reasons."""
    each = max(1, lines // max(len(failures), 1) - 1)
    for text in failures:
        name, *why = text.split("\n")
        yield name
        yield from (f"    {line}" for line in why[:each])


def junit(path):
    count = Count()
    if not os.path.exists(path):
        raise Failed("no results were written")
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skip = case.find("skipped")
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        if bad is not None:
            places = re.findall(r"^([\w./-]+\.py:\d+): ", bad.text or "", re.M)
            count.failures.append(failure(name, bad.get("message") or bad.text, places))
        elif skip is not None:
            count.skipped.append(f"{name}: {skip.get('message') or (skip.text or '').strip()}")
        else:
            count.passed += 1
    return count


def meson_results(build):
    """cmocka's own cases where a program prints them, else the program as one."""
    count = Count()
    for line in open(os.path.join(ROOT, build, "meson-logs", "testlog.json")):
        test = json.loads(line)
        out = test.get("stdout", "") + test.get("stderr", "")
        cases = len(re.findall(r"^\[ +OK +\]", out, re.M))
        bad = list(dict.fromkeys(re.findall(r"^\[ +FAILED +\] ([a-z_]\w*)", out, re.M)))
        if test["result"] == "SKIP":
            reason = (out.strip().splitlines() or ["no reason given"])[-1]
            count.skipped.append(f"{test['name']}: {reason}")
            continue
        for name in set(re.findall(r"^\[ +SKIPPED +\] ([a-z_]\w*)", out, re.M)):
            why = re.search(rf"skip {name}: (.*)", out)
            count.skipped.append(f"{test['name']}.{name}: " + (why.group(1) if why else
                                                               "see its log"))
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            count.passed += max(cases, 1)
        else:
            count.passed += cases
            count.failures += cmocka_failures(test["name"], bad, out) or [
                failure(f"{test['name']}: {test['result']}", "\n".join(last_words(out)))]
    return count


def cmocka_failures(program, cases, out):
    """Names come on one stream and reasons on the other, in the same order."""
    errors = re.findall(r"^\[ +ERROR +\] --- (.*)\n(?:\[ +LINE +\] --- (?:\.\./)*([^ ]+:\d+): )?", out, re.M)
    if len(errors) != len(cases):
        errors = [("\n".join(e[0] for e in errors), "")] * len(cases)
    return [failure(f"{program}.{case}", why, [place] if place else [])
            for case, (why, place) in zip(cases, errors)]


def last_words(out):
    """What summed it up, or whatever came last."""
    lines = [line for line in out.splitlines() if line.strip()]
    summed_up = [line for line in lines
                 if re.search(r"^SUMMARY: |runtime error: |Assertion .* failed|^\w*Error: ", line)]
    return (summed_up or lines)[-WHY_LINES:]


def tap(path):
    """A failed test's reasons stand in the block below it; one whose subtests failed has none."""
    count = Count()
    lines = open(path, errors="replace").read().splitlines()
    for i, line in enumerate(lines):
        m = re.match(r"( *)(not ok|ok) \d+ - (.*)$", line)
        if not m or re.search(r"# (SUITE|TODO)", line):
            continue
        skip = re.search(r"(.*?) # SKIP ?(.*)", m.group(3))
        if skip:
            count.skipped.append(f"{skip.group(1)}: {skip.group(2) or 'no reason given'}")
        elif m.group(2) == "ok":
            count.passed += 1
        else:
            block = tap_block(lines, i + 1, m.group(1) + "  ")
            if block.get("error") == "test failed":  # a file that ended: what it wrote stands above
                block["error"] = "\n".join(last_words("\n".join(
                    said[2:] for said in lines[:i] if re.match(r"# (?!Subtest: )", said))))
            if block.get("failureType") != "subtestsFailed":
                count.failures.append(failure(m.group(3), *tap_reason(block)))
    if not any(re.match(r"# (tests|pass) \d+", line) for line in lines):
        raise Failed("node's test runner did not finish")
    return count


def tap_block(lines, at, indent):
    """The YAML below a result, as node writes it: scalars, and all else as the text that it is."""
    block, key = {}, None
    if lines[at:at + 1] != [indent + "---"]:
        return block
    for line in lines[at + 1:]:
        if line == indent + "...":
            break
        m = re.match(rf"{indent}(\w+):(?: (.*))?$", line)
        if m:
            key, value = m.group(1), m.group(2) or ""
            block[key] = "" if value == "|-" else value.strip("'")
        elif key:
            block[key] += f"\n{line[len(indent) + 2:]}"
    return block


def tap_reason(block):
    """(why, places). The innermost frame comes first in a stack, and ours are not the only ones."""
    why = block.get("error", "").strip()
    for what in ("expected", "actual"):
        if block.get(what, "").strip() and block.get("operator") not in ("strictEqual", "deepStrictEqual"):
            why += f"\n{what}: {' '.join(block[what].split())}"
    frames = block.get("stack", "").splitlines()[::-1] + [block.get("location", "")]
    ours = [frame for frame in frames if "node_modules" not in frame]
    places = re.findall(r"/([\w.-]+\.mjs:\d+):\d+", "\n".join(ours))
    return why, places[:-1] or places  # where the test begins is told if nothing better is known
