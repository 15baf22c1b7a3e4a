"""What is secret is compared in constant time: where credentials are judged, nothing else compares one.

(That str_eq_const_time() is what its name says: tests/unit/base/test_const_time.c.)"""

import glob
import os
import re

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
ROOMS = ("api", "edge", "event")  # where credentials of clients come by

CALL = re.compile(r"\b(memcmp|strn?cmp|strn?casecmp|str_eq|str_eq_c|str_caseeq|str_starts)\(")
CREDENTIAL = re.compile(r"token|secret|\bsig\b|digest|\bhash\b|passw|api_?key|credential|hmac|\bmac\b|\bsum\b", re.I)
FITTING = re.compile(r"\b(?:str_eq_const_time|CRYPTO_memcmp|secret_is)\(")
# Names of headers and of rows, which are no secrets.
NAMES = re.compile(r"\.(?:id|name|header)\b")
NO_SECRETS = {"str_caseeq(name, w->secret)"}  # the name of the header that has it


def arguments(text, at):
    """The call that begins there, to its closing bracket."""
    depth = 0
    for i in range(text.index("(", at), len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return re.sub(r"\s+", " ", text[at:i + 1])
    return text[at:]


def comparisons(text):
    """Calls that compare a credential with something that is not written there."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    calls = (arguments(text, m.start()) for m in CALL.finditer(text))
    return {c for c in calls if CREDENTIAL.search(re.sub(r'^\w+', "", c)) and not re.search(r'"|\bSTR\(', c)
            and not NAMES.search(c)} - NO_SECRETS


def sources():
    for room in ROOMS:
        for path in sorted(glob.glob(os.path.join(ROOT, "src", room, "**", "*.[ch]"), recursive=True)):
            with open(path, encoding="utf-8") as f:
                yield os.path.relpath(path, ROOT), f.read()


def test_credentials_are_compared_in_constant_time():
    assert not {name: c for name, text in sources() if (c := comparisons(text))}
    judges = {name for name, text in sources() if FITTING.search(text)}
    assert {"src/api/auth.c", "src/api/opensandbox/guard.c", "src/edge/ingress/access.c"} <= judges, judges


@pytest.mark.parametrize("line", [
    "return memcmp(t->digest, digest, sizeof(digest)) == 0;", "if (!strcmp(token, made))",
    "str_eq(str_n(sig, 9), t->sig)", "ok = str_eq(http_header(q->h, TOKEN_NAME),\n\tstr_n(want, 43));",
    "return !strncmp(row->execd_token, made, 43);"])
def test_another_comparison_is_found(line):
    """The control; words that are written there, and names, are none."""
    assert comparisons(f"static int f(void)\n{{\n\t{line}\n}}\n")
    assert not comparisons('if (str_eq_c(key, "token") || str_caseeq(name, STR(TOKEN_HEADER)) ||\n'
                           "\tstr_eq_c(str_c(id), b->tokens[i].id) || str_eq_const_time(token, made))")
