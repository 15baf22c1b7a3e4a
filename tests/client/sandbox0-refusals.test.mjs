// What goes on inside and is refused by a code of its own: each by what causes it, and as soon as that is
// gone, it is not refused any more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, refused, until, withSandbox } from "./sandbox0-kit.mjs";

test("sandbox0: refusals of what goes on inside", { timeout: 300000 }, async (t) => {
  await t.test("input that is not read: input_buffer_full", async () => {
    await withSandbox({}, async (box) => {
      const program = "stty raw -echo; : >/tmp/ready; until [ -e /tmp/read ]; do sleep 0.05; done; exec cat >/dev/null";
      const { id } = await box.createContext({ type: "cmd", cmd: { command: ["sh", "-c", program] },
        ptySize: { rows: 24, cols: 80 } });
      await until("its terminal", () => box.statFile("/tmp/ready").then(() => true, (e) => !refused(404, "file_not_found")(e)));
      const mib = "x".repeat(1 << 20);
      const full = await until("no more", () => box.contextInput(id, mib).then(() => null, (e) => e));
      assert.ok(refused(409, "input_buffer_full", "does not read its input")(full));
      await assert.rejects(box.contextExec(id, mib), refused(409, "input_buffer_full"));
      assert.equal((await box.getContext(id)).running, true);
      await box.writeFile("/tmp/read", "");
      await until("room again", () => box.contextInput(id, mib).then(() => true,
        (e) => !refused(409, "input_buffer_full")(e)));
    });
  });

  await t.test("no prompt within 30 s: exec_timeout, and it runs on", async () => {
    await withSandbox({}, async (box) => {
      const { contextId } = await box.run("python", "import time");
      await assert.rejects(box.contextExec(contextId, "time.sleep(600)\n"), refused(408, "exec_timeout", "30 s"));
      assert.equal((await box.getContext(contextId)).running, true);
      await box.contextSignal(contextId, "INT");
      await until("an answer", () => box.contextExec(contextId, "print(6 * 7)\n").then(
        (r) => r.outputRaw.includes("42"), (e) => !refused(408, "exec_timeout")(e)));
    });
  });

  await t.test("a command too long to be remembered: restart_failed, and it stays as it is", async () => {
    await withSandbox({}, async (box) => {
      const start = (length) => box.createContext({ type: "cmd",
        cmd: { command: ["sh", "-c", "echo $$; exec sleep 600", "x".repeat(length)] } });
      const said = async (id) => until("its number", async () => (await box.getContext(id)).stdout);
      const [long, short] = [await start(9000), await start(7000)];
      const before = await said(long.id);
      await assert.rejects(box.restartContext(long.id), refused(500, "restart_failed", "too long"));
      const after = await box.getContext(long.id);
      assert.deepEqual([after.running, after.stdout], [true, before]);
      const first = await said(short.id);
      assert.equal((await box.restartContext(short.id)).running, true);
      assert.notEqual(await said(short.id), first);
    });
  });

  await t.test("no room for a file: operation_failed", async () => {
    await withSandbox({}, async (box) => {
      await box.cmd("sh -c 'ulimit -f unlimited; head -c 200M /dev/zero >/run/filler'"); // 64 MiB in containers
      const page = Buffer.alloc(1 << 20);
      await assert.rejects(box.writeFile("/run/new", page), refused(500, "operation_failed", "space"));
      await box.writeFile("/tmp/new", page);
      await box.deleteFile("/run/filler");
      await box.writeFile("/run/new", page);
      assert.equal((await box.statFile("/run/new")).size, page.length);
    });
  });
});
