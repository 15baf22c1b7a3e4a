"""What check.py says of a failure at its end: the name, where, and why; of each runner's own form."""

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
import results  # noqa: E402

NODE = """TAP version 13
# Subtest: holds
ok 1 - holds
  ---
  duration_ms: 1.1
  ...
ok 2 - left out # SKIP no lab
  ---
  duration_ms: 0.1
  ...
# Subtest: differs
not ok 3 - differs
  ---
  duration_ms: 13.5
  location: '/x/differs.test.mjs:2:1'
  failureType: 'testCodeFailure'
  error: |-
    Expected values to be strictly equal:
    
    false !== true
    
  code: 'ERR_ASSERTION'
  expected: true
  actual: false
  operator: 'strictEqual'
  stack: |-
    until (file:///x/until.mjs:18:7)
    request (file:///x/node_modules/client/index.mjs:7:1)
    async TestContext.<anonymous> (file:///x/differs.test.mjs:26:3)
    async Test.run (node:internal/test_runner/test:797:9)
  ...
# Subtest: has parts
    # Subtest: part
    not ok 1 - part
      ---
      location: '/x/parts.test.mjs:12:27'
      failureType: 'testCodeFailure'
      error: 'The input did not match'
      expected:
      actual: |-
        a
        b
      operator: 'match'
      ...
    1..1
not ok 4 - has parts
  ---
  location: '/x/parts.test.mjs:12:1'
  failureType: 'subtestsFailed'
  error: '1 subtest failed'
  ...
# Error: no such module
# Subtest: /x/broken.test.mjs
not ok 5 - /x/broken.test.mjs
  ---
  location: '/x/broken.test.mjs:1:1'
  failureType: 'testCodeFailure'
  error: 'test failed'
  ...
1..5
# tests 5
# pass 1
# fail 4
"""

JUNIT = """<testsuites><testsuite><testcase classname="t" name="good"/>
<testcase classname="t" name="left_out"><skipped message="no lab"/></testcase>
<testcase classname="t" name="bad"><failure message="AssertionError: x was 1&#10;assert 1 == 3">
tests/t.py:4: \n_ _ _\nE  AssertionError\n\ntests/kit/k.py:3: AssertionError</failure></testcase>
</testsuite></testsuites>"""

CMOCKA = {"name": "base/str", "result": "FAIL", "stdout": """[ RUN      ] one
[       OK ] one
[ RUN      ] zwei
[  FAILED  ] zwei
[ RUN      ] drei
[  FAILED  ] drei
""", "stderr": """[  ERROR   ] --- 0x1 != 0x2
[   LINE   ] --- ../tests/unit/base/test_str.c:7: error: Failure!
[  ERROR   ] --- Test failed with exception: Segmentation fault(11)
[  FAILED  ] 2 test(s), listed below:
[  FAILED  ] zwei
[  FAILED  ] drei
"""}


def written(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_node(tmp_path):
    count = results.tap(written(tmp_path, "tap", NODE))
    assert (count.passed, count.skipped) == (1, ["left out: no lab"])
    assert count.failures == [
        "differs (differs.test.mjs:26 > until.mjs:18)\nExpected values to be strictly equal: false !== true",
        "part (parts.test.mjs:12)\nThe input did not match\nactual: a b",
        "/x/broken.test.mjs (broken.test.mjs:1)\nError: no such module"]


def test_pytest(tmp_path):
    count = results.junit(written(tmp_path, "xml", JUNIT))
    assert (count.passed, count.skipped) == (1, ["t.left_out: no lab"])
    assert count.failures == ["t.bad (tests/t.py:4 > tests/kit/k.py:3)\n"
                              "AssertionError: x was 1\nassert 1 == 3"]


def test_cmocka(tmp_path):
    crash = {"name": "wire/json", "result": "FAIL", "stderr": "==1==ERROR\nSUMMARY: AddressSanitizer: leak\nx\n"}
    written(tmp_path, "meson-logs/testlog.json", "\n".join(map(json.dumps, (CMOCKA, crash))))
    count = results.meson_results(str(tmp_path))
    assert count.passed == 1
    assert count.failures == [
        "base/str.zwei (tests/unit/base/test_str.c:7)\n0x1 != 0x2",
        "base/str.drei\nTest failed with exception: Segmentation fault(11)",
        "wire/json: FAIL\nSUMMARY: AddressSanitizer: leak"]


def test_a_stage_without_results(tmp_path):
    log = written(tmp_path, "log", "".join(f"line {i}\n\n" for i in range(20)))
    assert results.ended("gcc", "ninja ended with 1", log).split("\n") == [
        "gcc: ninja ended with 1", *(f"line {i}" for i in range(13, 20))]


def test_what_is_long_is_cut_where_it_says_least():
    same = [f"  {i}," for i in range(30)]
    assert results.failure("n", "\n".join(["Expected:", "+ actual", *same, "+ 1", *same, "- 2"])).split("\n") == [
        "n", "Expected: + actual", "+ 1", "- 2"]
    lines = results.failure("n", "\n".join(map(str, range(30)))).split("\n")
    assert lines == ["n", *"012345", "... 24 more"]
    assert len(results.failure("n", "x" * 5000)) < 250


def test_many_failures_still_say_why():
    one = results.failure("n", "\n".join("abcdefg"))
    assert list(results.shown([one])) == ["n", *(f"    {c}" for c in "abcdefg")]
    for many in (3, 10, 40):
        lines = list(results.shown([one] * many))
        assert lines.count("n") == lines.count("    a") == many and len(lines) <= max(21, 2 * many)
