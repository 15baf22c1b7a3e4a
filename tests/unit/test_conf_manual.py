"""weird.conf(5) says of each key what the table of keys says: help, limits, default, in its order.

The table's words come by way of doc/weird.conf.example, which a test of the table holds to it.
`python3 tests/unit/test_conf_manual.py` prints the list for the manual.
"""

import os
import re
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def keys():
    """(name, default, words) of each key of the example file."""
    with open(os.path.join(ROOT, "doc", "weird.conf.example")) as f:
        blocks = f.read().strip().split("\n\n")[1:]
    for block in blocks:
        *comment, setting = block.split("\n")
        name, _, value = setting.partition("=")
        yield name.strip(), value.strip(), " ".join(line.lstrip("# ") for line in comment)


def items():
    """The same of the manual."""
    with open(os.path.join(ROOT, "man", "weird.conf.5")) as f:
        page = f.read()
    for item in re.findall(r"^\.It Ic ([a-z_.0-9]+ No =.*\n(?:[^.].*\n)*)", page, re.M):
        head, _, text = item.partition("\n")
        name, _, value = head.partition(" No =")
        yield name, value.strip(), " ".join(text.replace("\\&", "").split())


def test_the_manual_says_what_the_table_says():
    assert len(list(keys())) > 25
    assert list(items()) == list(keys())


def mdoc():
    for name, value, text in keys():
        yield f".It Ic {name} No = {value}".rstrip()
        for sentence in re.split(r"(?<=[.:]) (?=[A-Z])", text):
            for line in textwrap.wrap(sentence, 78, break_long_words=False, break_on_hyphens=False):
                yield line if line[0] not in ".'" else "\\&" + line


if __name__ == "__main__":
    print("\n".join(mdoc()))
