// Pause, resume, falling asleep, and a sandbox that ends itself.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CreateosSandboxValidationError } from "@nodeops-createos/sandbox";
import { client, listening, until, variant, withSandbox } from "./kit.mjs";

// The published package has no dependencies: its own self.js runs inside as it is.
const SELF = (what) => `
  import { ${what} } from "/root/sdk/dist/index.js";
  await ${what}("test reason");
  console.log("accepted");
`;

async function bringClient(box) {
  const { readdirSync, readFileSync } = await import("node:fs");
  const { dirname } = await import("node:path");
  const { fileURLToPath } = await import("node:url");
  const dist = dirname(fileURLToPath(import.meta.resolve("@nodeops-createos/sandbox")));
  await Promise.all(readdirSync(dist).filter((f) => f.endsWith(".js")).map((f) =>
    box.files.upload(`/root/sdk/dist/${f}`, readFileSync(`${dist}/${f}`))));
  await box.files.upload("/root/sdk/package.json", '{"type":"module"}');
}

describe(`lifecycle, ${variant}`, { concurrency: 8 }, () => {
  it("pause keeps memory, resume goes on", async () => {
    await withSandbox({}, async (box) => {
      await box.sh("echo kept >/tmp/file; (while sleep 0.3; do date +%s%N >/tmp/beat; done) >/dev/null 2>&1 &");
      await until("a heartbeat", async () =>
        (await box.runCommand("cat", ["/tmp/beat"])).result.stdout);
      await box.pause();
      await box.waitUntilPaused();
      assert.equal(box.status, "paused");
      await box.pause(); // no-op
      await assert.rejects(box.runCommand("true"), CreateosSandboxValidationError);
      await box.resume();
      // Straight after resume, without waiting: the call is held until the sandbox runs.
      const first = (await box.runCommand("cat", ["/tmp/beat"])).result.stdout;
      await box.waitUntilRunning();
      await box.resume(); // no-op
      await until("the next heartbeat", async () =>
        (await box.runCommand("cat", ["/tmp/beat"])).result.stdout !== first);
      assert.ok(box.data.paused_at && box.data.last_resumed_at);
    });
  });

  it("auto-pause fires after its idle time, and not before", async () => {
    await withSandbox({ auto_pause_after_seconds: 60 }, async (box) => {
      const start = Date.parse(box.data.running_at); // create's answer may take a while to get here
      await assert.rejects(box.setAutoPause(59), CreateosSandboxValidationError);
      await assert.rejects(box.setAutoPause(86401), CreateosSandboxValidationError);
      await until("auto-pause", async () => {
        await box.refresh(); // looking is no activity
        return box.status === "paused";
      }, 90);
      const took = Date.now() - start;
      assert.ok(took >= 58000 && took < 75000, `${took} ms`);
      await box.resume();
      await box.waitUntilRunning();
      await box.setAutoPause(null);
      assert.equal(box.data.auto_pause_after_seconds, undefined);
      await box.setAutoPause(120);
      assert.equal(box.data.auto_pause_after_seconds, 120);
    });
  });

  it("a command that runs keeps it awake", async () => {
    await withSandbox({ auto_pause_after_seconds: 60 }, async (box) => {
      const r = await box.runCommand("sleep", ["70"], { timeoutMs: 90000 });
      assert.equal(r.result.exit_code, 0);
      assert.equal((await client.getSandbox(box.id)).status, "running");
    });
  });

  it("a visitor keeps it awake", async () => {
    await withSandbox({ auto_pause_after_seconds: 60, ingress_enabled: true }, async (box) => {
      await box.sh(`setsid node -e 'require("http").createServer((request, response) => {
        response.write("stay"); setTimeout(() => response.end("ed"), 70000); }).listen(8000)' >/dev/null 2>&1 </dev/null &
        ${listening(8000)}`);
      assert.equal(await (await fetch(box.previewUrl(8000))).text(), "stayed");
      assert.equal((await client.getSandbox(box.id)).status, "running");
    });
  });

  it("selfPause from inside", async () => {
    await withSandbox({}, async (box) => {
      await bringClient(box);
      await box.files.upload("/root/self.mjs", SELF("selfPause"));
      await box.sh("setsid node /root/self.mjs >/root/said 2>&1 </dev/null &");
      await box.waitUntilPaused();
      await box.resume();
      await box.waitUntilRunning();
      await until("the program to go on", async () =>
        (await box.runCommand("cat", ["/root/said"])).result.stdout === "accepted\n");
    });
  });

  it("selfDelete from inside", async () => {
    await withSandbox({}, async (box) => {
      await bringClient(box);
      await box.files.upload("/root/self.mjs", SELF("selfDelete"));
      await box.sh("setsid node /root/self.mjs >/root/said 2>&1 </dev/null &");
      await box.waitUntilDestroyed();
      assert.equal((await client.getSandbox(box.id)).status, "destroyed");
    });
  });
});
