// Files of a sandbox, as sandbox0's client moves them.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { refused, withSandbox } from "./sandbox0-kit.mjs";

test("sandbox0: files", { timeout: 300000 }, async (t) => {
  await withSandbox({}, async (box) => {
    await t.test("write, read, stat", async () => {
      assert.ok((await box.writeFile("/tmp/a/b/text", "hello\n")).success);
      assert.equal(Buffer.from(await box.readFile("/tmp/a/b/text")).toString(), "hello\n");
      const info = await box.statFile("/tmp/a/b/text");
      assert.equal(info.name, "text");
      assert.equal(info.path, "/tmp/a/b/text");
      assert.equal(info.type, "file");
      assert.equal(info.size, 6);
      assert.equal(info.mode, "0644");
      assert.equal(info.isLink, false);
      assert.ok(Math.abs(Date.now() - new Date(info.modTime)) < 60000);
      const big = randomBytes(5_000_000);
      await box.writeFile("/tmp/big", big);
      assert.ok(big.equals(Buffer.from(await box.readFile("/tmp/big"))));
      const sum = createHash("sha256").update(big).digest("hex");
      assert.equal((await box.cmd("sha256sum /tmp/big")).stdout.split(" ")[0], sum);
    });

    await t.test("what is relative is below /workspace", async () => {
      await box.writeFile("notes.txt", "x");
      assert.equal((await box.cmd("cat /workspace/notes.txt")).stdout, "x");
      await box.mkdir("dir");
      assert.deepEqual((await box.listFiles(".")).map((e) => e.name).sort(), ["dir", "notes.txt"]);
    });

    await t.test("directories, moves, links, ends", async () => {
      await box.mkdir("/tmp/d");
      await assert.rejects(box.mkdir("/tmp/d"), refused(409, "path_exists"));
      await box.mkdir("/tmp/d", true);
      await box.mkdir("/tmp/d/x/y", true);
      await assert.rejects(box.mkdir("/tmp/none/y"), refused(404, "file_not_found"));
      await box.writeFile("/tmp/d/f", "f");
      await box.cmd("ln -s f /tmp/d/l");
      const entries = Object.fromEntries((await box.listFiles("/tmp/d")).map((e) => [e.name, e]));
      assert.deepEqual(Object.keys(entries).sort(), ["f", "l", "x"]);
      assert.equal(entries.x.type, "dir");
      assert.equal(entries.l.type, "symlink");
      assert.equal(entries.l.isLink, true);
      assert.equal(entries.l.linkTarget, "f");
      await box.moveFile("/tmp/d/f", "/tmp/e/g");
      assert.equal(Buffer.from(await box.readFile("/tmp/e/g")).toString(), "f");
      await box.deleteFile("/tmp/d");
      await box.deleteFile("/tmp/d");
      await assert.rejects(box.statFile("/tmp/d"), refused(404, "file_not_found"));
    });

    await t.test("a hundred megabytes, and not a byte more", async () => {
      await box.cmd("truncate -s 104857600 /tmp/most");
      await box.cmd("truncate -s 104857601 /tmp/more");
      assert.equal((await box.readFile("/tmp/most")).length, 104857600);
      await assert.rejects(box.readFile("/tmp/more"), refused(413, "file_too_large"));
      await assert.rejects(box.writeFile("/tmp/new", Buffer.alloc(104857601)), refused(413, "file_too_large"));
      await assert.rejects(box.statFile("/tmp/new"), refused(404, "file_not_found"));
    });

    await t.test("statuses, types and modes on the wire", async () => {
      const ask = async (method, rest, body, accept = "*/*") => {
        const r = await fetch(`${process.env.SANDBOX0_BASE_URL}/api/v1/sandboxes/${box.id}/files${rest}`, { method, body,
          headers: { Authorization: `Bearer ${process.env.SANDBOX0_TOKEN}`, Accept: accept } });
        return [r.status, r.headers.get("content-type"), await r.text()];
      };
      const json = "application/json";
      assert.deepEqual(await ask("POST", "?path=%2Ftmp%2Fw", "one two"), [200, json, '{"success":true,"data":{"written":true}}']);
      assert.deepEqual(await ask("POST", "?path=%2Ftmp%2Fw", "2"), [200, json, '{"success":true,"data":{"written":true}}']);
      assert.deepEqual(await ask("GET", "?path=%2Ftmp%2Fw", undefined, json), [200, "application/octet-stream", "2"]);
      assert.deepEqual(await ask("POST", "?path=/tmp/wd&mkdir=true"), [201, json, '{"success":true,"data":{"created":true}}']);
      assert.deepEqual(await ask("DELETE", "?path=/tmp/wd"), [200, json, '{"success":true,"data":{"deleted":true}}']);
      for (const [method, rest] of [["GET", ""], ["POST", ""], ["DELETE", ""], ["GET", "/stat"], ["GET", "/list"]]) {
        const [status, type, text] = await ask(method, rest);
        assert.deepEqual([status, type, JSON.parse(text).error.code], [400, json, "invalid_request"], `${method} ${rest}`);
      }
    });

    await t.test("what is wrong is named", async () => {
      await assert.rejects(box.readFile("/nosuch"), refused(404, "file_not_found"));
      await assert.rejects(box.readFile("/tmp"), refused(409, "path_not_file"));
      await assert.rejects(box.listFiles("/nosuch"), refused(404, "directory_not_found"));
      await assert.rejects(box.listFiles("/etc/hostname"), refused(409, "path_not_directory"));
      await assert.rejects(box.writeFile("/tmp", "x"), refused(409, "path_not_file"));
      await assert.rejects(box.moveFile("/nosuch", "/tmp/x"), refused(404, "file_not_found"));
      await box.mkdir("/tmp/own");
      await assert.rejects(box.moveFile("/tmp/own", "/tmp/own/below"), refused(400, "invalid_request"));
      await assert.rejects(box.writeFile("/sys/new", "x"), refused(403, "permission_denied"));
      await assert.rejects(box.moveFile("", "/tmp/x"), refused(400, "invalid_paths", "source"));
      await assert.rejects(box.moveFile("/tmp/x", ""), refused(400, "invalid_paths", "destination"));
      await assert.rejects(box.readFile("a\0b"), refused(400, "invalid_request"));
    });
  });
});
