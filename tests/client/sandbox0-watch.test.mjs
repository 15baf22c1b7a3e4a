// Watching files, as sandbox0's client does it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, refused, until, withSandbox } from "./sandbox0-kit.mjs";

// What a watch told so far, as "event path" lines.
function follow(watch) {
  const lines = [];
  const done = (async () => {
    for await (const e of watch.events()) {
      lines.push(e.type === "event" ? `${e.event} ${e.path}` : e.type);
      assert.equal(e.watchId, watch.watchId);
    }
  })();
  return { lines, done };
}

test("sandbox0: watching files", { timeout: 300000 }, async (t) => {
  await withSandbox({}, async (box) => {
    await t.test("a directory and what is below it", async () => {
      const watch = await box.watchFiles("/tmp/seen", true);
      assert.match(watch.watchId, /^watch-[0-9a-f]{8}$/);
      const { lines, done } = follow(watch);
      await box.mkdir("/tmp/seen/sub");
      await box.writeFile("/tmp/seen/sub/f", "one");
      await until("created", () => lines.includes("create /tmp/seen/sub/f"));
      await box.writeFile("/tmp/seen/sub/f", "two");
      await until("written", () => lines.includes("write /tmp/seen/sub/f"));
      await box.cmd("chmod 600 /tmp/seen/sub/f");
      await until("chmod", () => lines.includes("chmod /tmp/seen/sub/f"));
      await box.moveFile("/tmp/seen/sub/f", "/tmp/seen/g");
      await until("renamed", () => lines.includes("rename /tmp/seen/sub/f"));
      await until("its new name", () => lines.includes("create /tmp/seen/g"));
      await box.deleteFile("/tmp/seen/g");
      await until("removed", () => lines.includes("remove /tmp/seen/g"));
      assert.ok(!lines.some((l) => l.includes("weir-put")), lines.join("\n"));
      watch.unsubscribe(watch.watchId);
      await done;
    });

    await t.test("one that is not recursive, below /workspace", async () => {
      const watch = await box.watchFiles("project");
      const { lines, done } = follow(watch);
      await box.mkdir("project/sub");
      await box.writeFile("project/sub/hidden", "");
      await box.writeFile("project/end", "");
      await until("the end", () => lines.includes("create /workspace/project/end"));
      assert.ok(!lines.some((l) => l.includes("hidden")), lines.join("\n"));
      await box.deleteFile("project");
      await until("its own end", () => lines.includes("unsubscribed"));
      watch.close();
      await done;
    });

    await t.test("what cannot be is said", async () => {
      const failed = (text) => (e) => e.code === "watch_failed" && e.message.includes(text);
      await assert.rejects(box.watchFiles("/etc/hostname/x"), failed("Not a directory"));
      await assert.rejects(box.watchFiles(""), failed("path"));
    });

    await t.test("a pause ends it, a deleted sandbox has none", async () => {
      const watch = await box.watchFiles("/tmp", true);
      const { done } = follow(watch);
      await client.sandboxes.pauseAndWait(box.id);
      await done;
      await client.sandboxes.resumeAndWait(box.id);
      await (await box.watchFiles("/tmp")).close();
    });
  });
  await assert.rejects(client.sandbox("sb-00000000000000000000000000").watchFiles("/tmp"));
  await assert.rejects(client.sandbox("sb-00000000000000000000000000").statFile("/tmp"),
    refused(404, "not_found"));
});
