// Commands, streams and REPLs of sandbox0's client.
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { client, refused, until, withSandbox } from "./sandbox0-kit.mjs";

const NO_CONTEXT = refused(404, "context_not_found");

test("sandbox0: contexts", { timeout: 300000 }, async (t) => {
  await withSandbox({ envVars: { FROM_CLAIM: "claimed" } }, async (box) => {
    await t.test("a command: output, exit code, state", async () => {
      const ok = await box.cmd("sh -c 'echo out; sleep 0.05; echo err >&2; sleep 0.05; echo $FROM_CLAIM $MORE; exit 3'",
        { envVars: { MORE: "more" }, cwd: "/tmp" });
      assert.equal(ok.outputRaw, "out\nerr\nclaimed more\n");
      assert.equal(ok.stdout, "out\nclaimed more\n");
      assert.equal(ok.stderr, "err\n");
      assert.equal(ok.exitCode, 3);
      assert.equal(ok.state, "crashed");
      assert.equal((await box.cmd("true")).state, "stopped");
      assert.equal((await box.cmd("sh -c 'kill -9 $$'")).state, "killed");
      assert.equal((await box.cmd("pwd", { cwd: "/usr" })).stdout, "/usr\n");
      assert.equal((await box.cmd("printf a\\\\xffb")).stdout, "a\ufffdb");
      const literal = await box.cmd("echo a | b > c; $FROM_CLAIM '_S0_> '"); // no shell, no prompts
      assert.equal(literal.outputRaw, "a | b > c; $FROM_CLAIM _S0_> \n");
      assert.deepEqual(await box.cmd("cat").then((r) => [r.exitCode, r.outputRaw]), [0, ""]); // no input
      const silent = await box.createContext({ type: "cmd", cmd: { command: ["true"] }, waitUntilDone: true });
      assert.deepEqual([silent.stdout, silent.stderr, silent.running, silent.paused, silent.envVars],
        [undefined, undefined, false, false, {}]);
      assert.ok(Math.abs(Date.now() - new Date(silent.createdAt)) < 60000);
    });

    await t.test("what cannot be started, and what is no request", async () => {
      await assert.rejects(box.cmd("/nosuch/program"), refused(500, "create_failed", "nosuch"));
      for (const [body, text] of [[{}, "either cmd or repl"], [{ type: "x", cmd: { command: ["a"] } }, "type"],
        [{ type: "repl", cmd: { command: ["a"] } }, "does not fit"], [{ cmd: { command: [] } }, "command"],
        [{ type: "repl", repl: { alias: "cobol" } }, "repl.alias"],
        [{ cmd: { command: ["a"] }, ttlSec: -1 }, "ttl_sec"]])
        await assert.rejects(box.createContext(body), refused(400, "invalid_request", text.split(".").pop()));
      assert.ok((await box.listContexts()).every((c) => c.state !== "crashed" || c.exitCode !== 127));
    });

    await t.test("it outlives its call; get, list, signal, delete", async () => {
      const run = await box.cmd("sh -c 'echo begun; sleep 1000'", { wait: false });
      assert.equal(run.state, "running");
      const view = await until("its output", async () => {
        const c = await box.getContext(run.contextId);
        return c.stdout && c;
      });
      assert.equal(view.stdout, "begun\n");
      assert.equal(view.running, true);
      assert.ok((await box.listContexts()).some((c) => c.id === run.contextId && c.running));
      assert.ok((await box.contextSignal(run.contextId, "TERM")).success);
      const ended = await until("its end", async () => {
        const c = await box.getContext(run.contextId);
        return !c.running && c;
      });
      assert.equal(ended.state, "killed");
      assert.equal(ended.exitCode, 143);
      assert.equal(ended.stdout, "begun\n"); // ended ones stay readable, stream by stream
      assert.equal(ended.outputRaw, undefined);
      await assert.rejects(box.contextSignal(run.contextId, "TERM"), refused(409, "process_not_running"));
      await assert.rejects(box.contextSignal(run.contextId, "NOSUCH"), refused(400, "invalid_request"));
      const again = await box.restartContext(run.contextId);
      assert.equal(again.id, run.contextId);
      assert.equal(again.running, true);
      assert.ok((await box.deleteContext(run.contextId)).success);
      await until("nothing of it", async () =>
        !(await box.listContexts()).some((c) => c.id === run.contextId));
      await assert.rejects(box.getContext(run.contextId), NO_CONTEXT);
      await assert.rejects(box.getContext("ctx-00000000"), NO_CONTEXT);
      await assert.rejects(box.deleteContext("nosuch"), NO_CONTEXT);
      await assert.rejects(box.contextInput("ctx-00000000", "x"), NO_CONTEXT);
    });

    await t.test("limits of time", async () => {
      const late = await box.cmd("sleep 1000", { ttlSec: 1 });
      assert.equal(late.state, "killed");
      assert.equal((await box.cmd("sleep 1000", { idleTimeoutSec: 1 })).state, "killed");
    });

    await t.test("a stream: output as it comes, then the end", async () => {
      const stream = await box.cmdStream("sh -c 'for i in 1 2 3; do echo $i; sleep 0.05; done; echo e >&2; exit 4'");
      const got = { stdout: "", stderr: "" };
      for await (const o of stream.outputs()) got[o.source] += o.data;
      assert.deepEqual(got, { stdout: "1\n2\n3\n", stderr: "e\n" });
      const done = await stream.done;
      assert.equal(done.exitCode, 4);
      assert.equal(done.state, "crashed");
    });

    await t.test("a stream of one that has ended, and of none", async () => {
      const run = await box.cmd("echo over");
      const stream = await box.connectWsContext(run.contextId);
      let text = "";
      for await (const o of stream.outputs()) text += o.data;
      assert.equal(text, "over\n");
      assert.equal((await stream.done).exitCode, 0);
      for (const id of ["ctx-ffffffff", "nosuch"]) {
        const none = await box.connectWsContext(id);
        assert.equal((await none.done).exitCode, undefined);
      }
      const away = await client.sandbox("sb-01000000000000000000000000").connectWsContext("ctx-00000000");
      assert.equal((await away.done).exitCode, undefined);
    });

    await t.test("a stream of one that runs: what was said, then what comes", async () => {
      const run = await box.cmd("sh -c 'echo early; until [ -e /tmp/late ]; do sleep 0.2; done; echo late'", { wait: false });
      await until("its first words", async () => (await box.getContext(run.contextId)).stdout === "early\n");
      const streams = [await box.connectWsContext(run.contextId), await box.connectWsContext(run.contextId)];
      const texts = await Promise.all(streams.map(async (stream) => {
        let text = "";
        for await (const o of stream.outputs()) {
          text += o.data;
          if (text === "early\n") await box.writeFile("/tmp/late", "");
        }
        assert.equal((await stream.done).exitCode, 0);
        return text;
      }));
      assert.deepEqual(texts, ["early\nlate\n", "early\nlate\n"]);
    });

    await t.test("a terminal: input, size, signals", async () => {
      const stream = await box.cmdStream("bash --norc --noprofile", { ptyRows: 30, ptyCols: 90 });
      let text = "";
      const reading = (async () => { for await (const o of stream.outputs()) text += o.data; })();
      stream.sendInput("stty size; tty && echo is-tty\n");
      await until("the size", () => text.includes("30 90") && text.includes("is-tty"));
      stream.sendResize(40, 100);
      stream.sendInput("stty size\n");
      await until("the new size", () => text.includes("40 100"));
      await box.contextResize(stream.id, 50, 110);
      await box.contextInput(stream.id, "stty size\n");
      await until("the newest size", () => text.includes("50 110"));
      stream.sendInput("echo gr\u00fc\u00dfe | tr a-z A-Z; exit 7\n");
      assert.equal((await stream.done).exitCode, 7);
      await reading;
      assert.ok(text.includes("GR\u00fc\u00dfE"), text);
      const cat = await box.cmdStream("cat", { ptyRows: 24, ptyCols: 80 });
      cat.sendSignal("INT");
      assert.equal((await cat.done).exitCode, 130);
    });

    await t.test("much output: streamed whole, kept in part", async () => {
      const stream = await box.cmdStream("sh -c 'sleep 0.2; yes 0123456789abcde | head -c 1000000'");
      let n = 0;
      for await (const o of stream.outputs()) n += o.data.length;
      assert.equal(n, 1000000);
      const kept = await box.cmd("sh -c 'yes 0123456789abcde | head -c 3000000'");
      assert.equal(kept.stdout.length, 1 << 20);
      assert.ok(kept.stdout.endsWith("0123456789abcde\n"));
    });

    await t.test("REPLs remember", async () => {
      for (const [alias, set, get, want] of [["python", "x = 20 + 1", "print(x * 2)", "42"],
        ["bash", "y=41", "echo $((y + 1))", "42"], ["node", "let z = 6", "z * 7", "42"]]) {
        await box.run(alias, set);
        const r = await box.run(alias, get);
        assert.ok(r.outputRaw.includes(want), `${alias}: ${JSON.stringify(r)}`);
        assert.ok(!r.outputRaw.includes("_S0_"), `${alias}: ${JSON.stringify(r)}`);
      }
      const loop = await box.run("python", "for i in range(3):\n  print('n', i)\n\n");
      assert.ok(loop.outputRaw.includes("n 2"), JSON.stringify(loop));
      const gone = await box.run("python", "exit(5)");
      const end = (await box.listContexts()).find((c) => c.id === gone.contextId);
      assert.equal(end.exitCode, 5);
      assert.equal(end.alias, "python");
    });
  });

  await t.test("REPLs of one's own", async () => {
    await withSandbox({}, async (box) => {
      const program = "import os\nwhile True: print(eval(input('mine> ')))";
      const mine = { name: "mine", displayName: "Mine", env: [{ name: "GIVEN", value: "to it" }],
        candidates: [{ name: "/nosuch/one" }, { name: "nosuch-two", args: ["x"] },
          { name: "python3", args: ["-u", "-c", program] }],
        ready: { mode: "prompt_token", token: "mine> " } };
      const own = (replConfig, more = {}) => box.createContext({ type: "repl", repl: { replConfig, ...more } });
      const made = await own(mine);
      assert.equal(made.alias, "mine");
      assert.equal(made.running, true);
      const asks = async (id, data) => (await box.contextExec(id, data)).outputRaw;
      assert.match(await asks(made.id, "6 * 7\n"), /42\r\n$/); // the prompt behind it is cut
      assert.match(await asks(made.id, "os.environ['GIVEN'] + os.environ['TERM']\n"), /to itdumb/);
      assert.match(await asks(made.id, "'_S0' + '_> '\n"), /\r\n/); // another's word means nothing here
      assert.equal((await box.restartContext(made.id)).alias, "mine");
      assert.match(await asks(made.id, "6 * 7\n"), /42\r\n$/);
      const told = { ...mine, prompt: { customPrompt: "mine> " }, ready: undefined, defaultTerm: "xterm" };
      const given = await own(told, { input: "40 + 2\n" });
      assert.match(given.outputRaw, /42\r\n$/);
      assert.match(await asks(given.id, "os.environ['TERM']\n"), /xterm/);
      // Its delay is all there is to wait for: a prompt of its own would be taken for an answer's.
      const silent = "while True: print(eval(input())); print('mine> ', end='', flush=True)";
      const waits = { ...told, ready: { mode: "startup_delay", startupDelayMs: 20 },
        candidates: [...mine.candidates.slice(0, 2), { name: "python3", args: ["-u", "-c", silent] }] };
      const late = await own(waits);
      assert.match((await own(waits, { input: "40 + 2\n" })).outputRaw, /42\r\n$/);
      assert.match(await asks(late.id, "6 * 7\n"), /42/);
      await assert.rejects(own({ ...mine, candidates: mine.candidates.slice(0, 2) }),
        refused(500, "create_failed", "nosuch-two"));
      for (const [change, text] of [[{ candidates: [] }, "candidates"], [{ name: "" }, "name"],
        [{ candidates: [{ name: "" }] }, "candidates"], [{ env: [{ name: "A", valueFrom: "B" }] }, "value_from"],
        [{ env: [{ name: "A=", value: "" }] }, "env"], [{ ready: { token: "" } }, "1 to 64"],
        [{ ready: { mode: "guess" } }, "prompt_token or startup_delay"],
        [{ ready: { mode: "startup_delay", startupDelayMs: 30001 } }, "30000"]])
        await assert.rejects(own({ ...mine, ...change }), refused(400, "invalid_request", text));
      const perl = await box.run("perl", "my $x = 20; $x * 2 + 2");
      assert.ok(perl.outputRaw.includes("42") && !perl.outputRaw.includes("_S0_"), JSON.stringify(perl));
      await assert.rejects(box.run("redis-cli", "PING"), refused(500, "create_failed", "redis-cli"));
      await assert.rejects(box.run("cobol", "x"), refused(400, "invalid_request", "repl_config"));
      await assert.rejects(box.contextExec(made.id, ""), refused(400, "invalid_request", "data"));
    });
  });

  await t.test("the stream's frames, as they are", async () => {
    await withSandbox({}, async (box) => {
      const { id } = await box.createContext({ type: "repl", repl: { alias: "python" } });
      const ws = new WebSocket(`${process.env.SANDBOX0_BASE_URL.replace("http", "ws")}/api/v1/sandboxes/${box.id}` +
        `/contexts/${id}/ws`, { headers: { authorization: `BEARER ${process.env.SANDBOX0_TOKEN}` } });
      const frames = [];
      ws.on("message", (data, binary) => frames.push(binary ? "binary" : JSON.parse(data)));
      const closed = new Promise((done) => ws.on("close", (code) => done(code)));
      await new Promise((open, fail) => ws.on("open", open).on("error", fail));
      const send = (o) => ws.send(JSON.stringify(o));
      const answered = (id) => frames.some((f) => f.type === "done" && f.request_id === id);
      send({ type: "input", data: "print(6 * 7)\n", requestId: "one" }); // the client's spelling
      await until("its prompt", () => answered("one"));
      send({ type: "input", data: "print(43)\n", request_id: "two" });
      await until("its prompt", () => answered("two"));
      for (const f of frames.filter((f) => f.type === "done"))
        assert.deepEqual(Object.keys(f).sort(), ["request_id", "type"]); // neither is the end
      send({ type: "no such thing" });
      send({ type: "resize", rows: 0, cols: "x" });
      ws.send("print(44)\n"); // what is no JSON is input
      const text = () => frames.filter((f) => f.type === "output").map((f) => f.data).join("");
      await until("raw input", () => text().includes("44\r\n"));
      assert.ok(frames.every((f) => f.type !== "output" || f.source === "pty"));
      send({ type: "signal", signal: "SIGKILL" });
      assert.equal(await closed, 1000);
      assert.deepEqual(frames.at(-1), { type: "done", exit_code: 137, state: "killed" });
    });
  });

  await t.test("a client that leaves: the command stays", async () => {
    await withSandbox({}, async (box) => {
      const leave = new AbortController();
      const left = fetch(`${process.env.SANDBOX0_BASE_URL}/api/v1/sandboxes/${box.id}/contexts`, {
        method: "POST", signal: leave.signal,
        headers: { Authorization: `Bearer ${process.env.SANDBOX0_TOKEN}`, "Content-Type": "application/json" },
        body: JSON.stringify({ type: "cmd", cmd: { command: ["sleep", "600"] }, wait_until_done: true }),
      });
      const sleeper = await until("the command", async () => (await box.listContexts()).find((c) => c.running));
      leave.abort();
      await assert.rejects(left);
      await assert.rejects(box.contextInput(sleeper.id, "x"), refused(409, "process_not_running"));
      await assert.rejects(box.contextResize(sleeper.id, 10, 10), refused(409, "pty_unavailable"));
      assert.equal((await box.getContext(sleeper.id)).running, true);
      for (const signal of ["SIGSTOP", "CONT", "WINCH", "10"])
        assert.ok((await box.contextSignal(sleeper.id, signal)).success, signal);
    });
  });

  await t.test("paused: woken, unless that is not wanted", async () => {
    await withSandbox({}, async (box) => {
      const run = await box.cmd("sh -c 'read line; echo $line'", { wait: false, ptyRows: 24, ptyCols: 80 });
      await client.sandboxes.pause(box.id);
      assert.equal((await box.cmd("echo awake")).stdout, "awake\n");
      assert.equal((await client.sandboxes.get(box.id)).runtimeGeneration, 2);
      assert.equal((await box.getContext(run.contextId)).running, true);
      await client.sandboxes.update(box.id, { config: { autoResume: false } });
      await client.sandboxes.pause(box.id);
      await assert.rejects(box.cmd("true"), refused(503, "unavailable", "paused"));
      const stream = await box.connectWsContext(run.contextId);
      assert.equal((await stream.done).exitCode, undefined);
    });
  });

  await t.test("new variables are for new commands", async () => {
    await withSandbox({ envVars: { A: "1" } }, async (box) => {
      await client.sandboxes.update(box.id, { config: { envVars: { B: "2" } } });
      assert.equal((await box.cmd("sh -c 'echo ${A-none} $B'")).stdout, "none 2\n");
    });
  });
});

// Proxies and clients give up where nothing comes; this one is as long as the longest test beside it.
test("sandbox0: a long command's answer begins before its end", { timeout: 300000 }, async () => {
  await withSandbox({}, async (box) => {
    const path = `${process.env.SANDBOX0_BASE_URL}/api/v1/sandboxes/${box.id}/contexts`;
    const ask = (command) => fetch(path, {
      method: "POST",
      headers: { Authorization: `Bearer ${process.env.SANDBOX0_TOKEN}`, "Content-Type": "application/json" },
      body: JSON.stringify({ type: "cmd", cmd: { command }, wait_until_done: true }),
    });
    const wait = ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.3; done; echo done"];
    const whole = box.cmd("sh", { command: wait });
    const [answer, broken] = await Promise.all([ask(wait), ask(["sleep", "600"])]);
    assert.equal(answer.status, 201); // and the command has not ended: nobody let it go
    await box.writeFile("/tmp/go", "");
    assert.equal((await answer.json()).data.stdout, "done\n");
    assert.equal((await whole).stdout, "done\n");
    await client.sandboxes.pause(box.id);
    await assert.rejects(broken.json()); // what fails then breaks the connection
  });
});
