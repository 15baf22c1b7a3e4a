"""Secrets are a type (base/secret.h): the compiler refuses one as text, no field with a secret's name is
a bare array, nobody erases by hand, and no log line and no error says what one holds."""

import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SRC = os.path.join(ROOT, "src")

# Arrays that may be, by file: digests, and images of messages, which whoever read them erases whole.
ARRAYS = {"api/store.h": {"execd_token"}, "wire/ipc_ingress.h": {"secret"}}
# Who erases what is no struct secret: randomness in the form that the kernel takes, and messages.
ERASERS = {"base/secret.c", "agent/wake.c", "wire/ipc_ingress.h", "wire/keys.c"}

BARE = re.compile(r"\b(?:char|uint8_t|unsigned char)\s+(?:\w+(?:\[[^\]]*\])*(?:\s*=\s*[^,;]+)?,\s*)*"
                  r"(\w*(?:secret|token|password|passwd|credential|api_?key|private_?key)\w*)"
                  r"\[(?:static )?[^\]]*\]", re.I)
SAID = re.compile(r"\b(?:log_\w+|err_(?:set|field|wrap|sys)|f?printf|cli_(?:say|hint)|say)\s*\(")


def files():
    for path in sorted(glob.glob(os.path.join(SRC, "**", "*.[ch]"), recursive=True)):
        yield os.path.relpath(path, SRC), open(path, encoding="utf-8").read()


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def bare_arrays(text):
    return set(BARE.findall(without_comments(text)))


def said(text):
    """Statements that reveal a secret and speak."""
    return [s.strip() for s in re.split(r"[;{}]", without_comments(text))
            if "secret_reveal" in s and SAID.search(s)]


def test_no_secret_is_a_bare_array():
    found = {name: bare_arrays(text) for name, text in files()}
    assert {n: f for n, f in found.items() if f} == ARRAYS


@pytest.mark.parametrize("line,name", [
    ("\tchar token[43 + 1];", "token"), ("\tuint8_t secret[64];", "secret"),
    ("\tchar user[8] = \"\", api_key[64];", "api_key"), ("int f(char ret_token[static 9]);", "ret_token"),
    ("\tunsigned char registry_password[SIZE];", "registry_password")])
def test_a_bare_array_is_found(line, name):
    """The control, with what is none beside it."""
    assert bare_arrays(line) == {name}
    assert not bare_arrays(f"/* {line} */ struct secret token; const char *tokens[3]; char s[9];")


def test_nobody_erases_by_hand():
    assert {name for name, text in files() if "explicit_bzero" in text} == ERASERS


def test_no_secret_is_said():
    assert not {name: s for name, text in files() for s in said(text)}
    assert sum("secret_reveal(" in text for _, text in files()) > 5, "nothing was looked at"


@pytest.mark.parametrize("line", [
    'log_event(LOG_INFO, "x", "key=" STR_FMT, STR_ARG(secret_reveal(&k)));',
    'return err_set(err, -EINVAL,\n\tERR_INVALID, "no: %s", secret_reveal(&k).p);',
    'fprintf(stderr, "%s", secret_reveal(&k).p);'])
def test_one_that_is_said_is_found(line):
    assert said(line)
    assert not said('jw_str(&w, "token", secret_reveal(&k)); log_event(LOG_INFO, "x", "made");')


@pytest.mark.parametrize("use,fits", [
    ('printf("%s", s)', False), ('printf("%s", &s)', False), ('(void)str_c(s)', False),
    ('(void)str_eq(s, STR("x"))', False), ('jw_str(&w, "k", s)', False), ('jw_c(&w, "k", s)', False),
    ('log_event(LOG_INFO, "x", "%s", s)', False),
    ('jw_str(&w, "k", secret_reveal(&s))', True), ('(void)secret_is(&s, STR("x"))', True)])
def test_the_compiler_refuses_one_as_text(use, fits):
    """What compiles is the control."""
    text = ('#include "base/log.h"\n#include "base/secret.h"\n#include "wire/json.h"\n'
            f"void f(struct secret s, struct jw w);\nvoid f(struct secret s, struct jw w) {{ {use}; }}\n")
    done = subprocess.run(["cc", "-std=gnu17", "-fsyntax-only", "-Wformat=2", "-Werror", "-D_GNU_SOURCE",
                           "-I", SRC, "-x", "c", "-"], input=text, text=True, stderr=subprocess.PIPE)
    assert (done.returncode == 0) == fits, done.stderr
