// Commands: buffered, by the shell, streamed; ports.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CreateosSandboxValidationError } from "@nodeops-createos/sandbox";
import { client, until, variant, withSandbox } from "./kit.mjs";

describe(`commands, ${variant}`, { concurrency: 4 }, () => {
  it("buffered: output, arguments verbatim, exit status", async () => {
    await withSandbox({}, async (box) => {
      const args = ["a b", "line\nbreak", "grüße 🐟", "", "$HOME", "'\"\\"];
      const r = await box.runCommand("python3", ["-c",
        "import sys,json; print(json.dumps(sys.argv[1:])); print('err', file=sys.stderr); sys.exit(3)",
        ...args]);
      assert.deepEqual(JSON.parse(r.result.stdout), args);
      assert.equal(r.result.stderr, "err\n");
      assert.equal(r.result.exit_code, 3);
      assert.equal(typeof r.exec_ms, "number");
      const who = await box.runCommand("sh", ["-c", "id -u; echo $HOME; pwd; echo $PATH"]);
      assert.deepEqual(who.result.stdout.split("\n").slice(0, 2), ["0", "/root"]);
      assert.match(who.result.stdout, /\/usr\/local\/bin/);
    });
  });

  it("what cannot start says so", async () => {
    await withSandbox({}, async (box) => {
      const missing = await box.runCommand("no-such-program");
      assert.equal(missing.result.exit_code, 127);
      assert.ok(missing.result.error);
      const denied = await box.runCommand("/etc/hostname");
      assert.equal(denied.result.exit_code, 126);
      const killed = await box.runCommand("sh", ["-c", "kill -9 $$"]);
      assert.equal(killed.result.exit_code, 137);
    });
  });

  it("16 MiB of output, and bytes that are not UTF-8", async () => {
    await withSandbox({}, async (box) => {
      const big = await box.runCommand("sh", ["-c", "head -c 16777216 /dev/zero | tr '\\0' x"]);
      assert.equal(big.result.stdout.length, 16777216);
      const odd = await box.runCommand("printf", ["a\\377b"]);
      assert.equal(odd.result.stdout, "a\ufffdb");
    });
  });

  it("sh throws on failure", async () => {
    await withSandbox({}, async (box) => {
      const r = await box.sh("set -o pipefail; echo one | cat");
      assert.equal(r.result.stdout, "one\n");
      await assert.rejects(box.sh("exit 4"));
    });
  });

  it("a background child does not hold the call, and lives on", async () => {
    await withSandbox({}, async (box) => {
      const start = Date.now();
      await box.sh("nohup setsid sleep 300 >/dev/null 2>&1 &");
      assert.ok(Date.now() - start < 50000);
      await box.sh("sleep 301 & true");
      assert.ok(Date.now() - start < 100000, "held by an open pipe");
      const r = await box.sh("pgrep -c sleep");
      assert.equal(r.result.stdout.trim(), "2");
    });
  });

  it("streamed: chunks arrive while the command runs", async () => {
    await withSandbox({}, async (box) => {
      // It waits for a word that is said only after its first chunk was seen here.
      const script = "mkfifo /tmp/go; echo first; read x </tmp/go; echo second >&2; exit 5";
      const events = [];
      for await (const e of box.streamCommand("sh", ["-c", script])) {
        events.push(e);
        if (e.type === "stdout" && e.data.includes("first")) await box.sh("echo >/tmp/go");
      }
      assert.ok(events.some((e) => e.type === "stderr" && e.data === "second\n"));
      assert.deepEqual(events.at(-1), { type: "exit", exitCode: 5 });
    });
  });

  it("streamed: a silent command sends heartbeats", async () => {
    await withSandbox({}, async (box) => {
      const kinds = [];
      const silent = "mkfifo /tmp/heard; read x </tmp/heard";
      for await (const e of box.streamCommand("sh", ["-c", silent])) {
        if (e.type === "heartbeat" && !kinds.includes("heartbeat")) await box.sh("echo >/tmp/heard");
        kinds.push(e.type);
      }
      assert.ok(kinds.includes("heartbeat"), kinds.join());
      assert.equal(kinds.at(-1), "exit");
    });
  });

  it("streamed: leaving early kills the command", async () => {
    await withSandbox({}, async (box) => {
      for await (const e of box.streamCommand("sh", ["-c", "while echo tick; do sleep 0.3; done"])) {
        if (e.type === "stdout") break;
      }
      await until("the command to end", async () =>
        (await box.runCommand("pgrep", ["-f", "while echo tic[k]"])).result.exit_code === 1);
    });
  });

  it("streamed: what cannot start", async () => {
    await withSandbox({}, async (box) => {
      const events = [];
      for await (const e of box.streamCommand("no-such-program")) events.push(e);
      assert.equal(events.at(-1).exitCode, 127);
      assert.ok(events.some((e) => e.type === "error"));
    });
  });

  it("waitForPortReady", async () => {
    await withSandbox({}, async (box) => {
      await box.sh("(sleep 1; exec python3 -m http.server 8123) >/dev/null 2>&1 &");
      await box.waitForPortReady(8123);
      const r = await box.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8123/");
      assert.equal(r.result.stdout, "200");
      await assert.rejects(box.waitForPortReady(8124, { timeoutMs: 1000 }));
    });
  });

  it("many at once in one sandbox", async () => {
    await withSandbox({}, async (box) => {
      const results = await Promise.all(Array.from({ length: 24 }, (_, i) =>
        box.runCommand("sh", ["-c", `sleep 0.2; echo ${i}`])));
      assert.deepEqual(results.map((r) => r.result.stdout.trim()), results.map((_, i) => `${i}`));
    });
  });

  it("an empty command is refused", async () => {
    await withSandbox({}, async (box) => {
      await assert.rejects(box.runCommand(""), CreateosSandboxValidationError);
    });
  });
});
