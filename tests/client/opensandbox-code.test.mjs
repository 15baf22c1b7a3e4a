// Code contexts of a sandbox, by calls of our own: interpreters that keep their state.
import assert from "node:assert/strict";
import { test } from "node:test";
import { withSandbox } from "./opensandbox-kit.mjs";
import { until } from "./until.mjs";

test("OpenSandbox code contexts", { concurrency: 4 }, (t) => withSandbox({ skipHealthCheck: false }, async (sbx) => {
  const at = await sbx.getEndpointUrl(44772);
  const call = (method, path, body) => fetch(at + path, { method, body: body && JSON.stringify(body),
    headers: { "content-type": "application/json" } });
  const json = async (...a) => { const r = await call(...a); return [r.status, await r.json()]; };
  const context = async (language) => (await json("POST", "/code/context", { language }))[1].id;

  // The events of a run: output joined, results, the error's name, its number; onEvent sees each.
  async function run(context, code, onEvent = () => {}) {
    const r = await call("POST", "/code", { context, code });
    if (r.status !== 200) return [r.status, (await r.json()).code];
    const seen = { out: "", results: [], error: null, count: 0, complete: false };
    let left = "";
    for await (const piece of r.body.pipeThrough(new TextDecoderStream())) {
      const events = (left + piece).split("\n\n");
      left = events.pop();
      for (const e of events.map((text) => JSON.parse(text))) {
        if (e.type === "stdout") seen.out += (e.text === "\n" ? "" : e.text) + "\n";
        if (e.type === "result") seen.results.push(e.results.text);
        if (e.type === "error") seen.error = e.error.ename;
        if (e.type === "execution_count") seen.count = e.execution_count;
        if (e.type === "execution_complete") seen.complete = true;
        await onEvent(e);
      }
    }
    return seen;
  }

  await Promise.all([
    t.test("python keeps its state, whatever an error does", async () => {
      const id = await context("python"), c = { id, language: "python" };
      assert.deepEqual(await run(c, "x = 20\nprint('set')"),
        { out: "set\n", results: [], error: null, count: 1, complete: true });
      assert.deepEqual((await run(c, "def f(n):\n    return n + x\nf(22)")).results, ["42"]);
      const bad = await run(c, "print('before')\n1/0");
      assert.deepEqual([bad.out, bad.error, bad.complete], ["before\n", "ZeroDivisionError", false]);
      assert.equal((await run(c, "def broken(:")).error, "SyntaxError");
      assert.deepEqual((await run(c, "_, x")).results, ["(42, 20)"]);
      const big = await run(c, "for i in range(20000): print(i, '\u20ac')");
      assert.equal(big.out.split("\n").length, 20001);
      assert.deepEqual(await json("GET", `/code/contexts/${id}`), [200, { id, language: "python" }]);
    }),

    t.test("javascript keeps its declarations, and waits for promises", async () => {
      const c = { id: await context("javascript") };
      assert.equal((await run(c, "const a = 1; let b = [2]; console.log('hi')")).out, "hi\n");
      assert.deepEqual((await run(c, "b.push(a); b")).results, ["[ 2, 1 ]"]);
      assert.deepEqual((await run(c, "new Promise((r) => setTimeout(() => r(a + 1), 5))")).results, ["2"]);
      assert.equal((await run(c, "nothing.here")).error, "ReferenceError");
      assert.deepEqual((await run(c, "require('path').basename('/x/y')")).results, ["'y'"]);
    }),

    t.test("bash keeps variables and directory, also behind an exit", async () => {
      const c = { id: await context("bash") };
      assert.equal((await run(c, "A=1; export B='x  y'; cd /tmp")).complete, true);
      assert.equal((await run(c, "echo $A; pwd; false")).error, "CommandExecError");
      assert.equal((await run(c, "exit 3")).error, "CommandExecError");
      assert.equal((await run(c, "echo \"$B\"; pwd; printf '\u20ac'")).out, "x  y\n/tmp\n\u20ac\n");
    }),

    t.test("interrupted, busy, listed, deleted", async () => {
      const id = await context("python"), c = { id };
      await run(c, "y = 5");
      // Not one long sleep: a signal right before its system call would be heard of after it.
      const cut = await run(c, "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.1)", async (e) => {
        if (e.type !== "stdout") return;
        assert.deepEqual(await run(c, "1"), [500, "RUNTIME_ERROR"]); // one at a time
        assert.equal((await call("DELETE", `/code?id=${id}`)).status, 200);
      });
      assert.equal(cut.error, "KeyboardInterrupt");
      assert.deepEqual((await run(c, "y")).results, ["5"]);
      assert.ok((await json("GET", "/code/contexts?language=python"))[1].some((k) => k.id === id));
      assert.equal((await call("DELETE", `/code/contexts/${id}`)).status, 200);
      assert.deepEqual(await run(c, "y"), [404, "CONTEXT_NOT_FOUND"]);
      assert.equal((await json("GET", `/code/contexts/${id}`))[0], 404);
    }),

    t.test("a run prints nothing of another's whose client left", async () => {
      const slow = {
        python: "import time\nprint('mine', flush=True)\nfor i in range(100): print('old', flush=True); time.sleep(0.002)",
        javascript: "console.log('mine'); (async () => { for (let i = 0; i < 100; i++) " +
          "{ console.log('old'); await new Promise((r) => setTimeout(r, 2)); } })()",
        bash: "echo mine; for i in {1..100}; do echo old; sleep 0.002; done",
      };
      const next = { python: "print('new')", javascript: "console.log('new')", bash: "echo new" };
      await Promise.all(Object.keys(slow).map(async (language) => {
        const c = { id: await context(language) };
        const gone = new AbortController();
        const r = await fetch(at + "/code", { method: "POST", signal: gone.signal,
          body: JSON.stringify({ context: c, code: slow[language] }) });
        for await (const piece of r.body.pipeThrough(new TextDecoderStream())) {
          if (piece.includes("mine")) break; // the control: it prints, and to its own client
        }
        gone.abort();
        const seen = await until("the other to be known as gone", async () => {
          const ran = await run(c, next[language]);
          return !Array.isArray(ran) && ran;
        });
        assert.deepEqual([seen.out, seen.complete], ["new\n", true]);
        assert.equal(seen.count, 2); // the first was not cut short
      }));
    }),

    t.test("what is wrong is named, and a language has a context of its own", async () => {
      assert.deepEqual((await run({ language: "bash" }, "echo one; Z=9")).out, "one\n");
      assert.deepEqual((await run({ language: "bash" }, "echo $Z")).out, "9\n");
      assert.deepEqual(await run({ language: "cobol" }, "x"), [400, "NOT_SUPPORTED"]);
      assert.deepEqual(await run({ id: "nobody" }, "x"), [404, "CONTEXT_NOT_FOUND"]);
      assert.deepEqual(await run({ language: "bash" }, ""), [400, "INVALID_REQUEST_BODY"]);
      assert.equal((await json("POST", "/code/context", { language: "bash", cwd: "/none" }))[0], 500);
    }),
  ]);
  assert.equal((await call("DELETE", "/code/contexts?language=javascript")).status, 200);
  assert.deepEqual((await json("GET", "/code/contexts?language=javascript"))[1], []);
}));
