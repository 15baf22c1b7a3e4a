// Files: empty, odd names, a gibibyte as a stream in both directions.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { CreateosSandboxNotFoundError, CreateosSandboxValidationError } from "@nodeops-createos/sandbox";
import { client, hasUndici, machines, variant, withSandbox } from "./kit.mjs";

const text = (buffer) => new TextDecoder().decode(buffer);

describe(`files, ${variant}`, { concurrency: 4 }, () => {
  it("nothing, text, bytes, names", async () => {
    await withSandbox({}, async (box) => {
      await box.files.upload("/root/empty", "");
      assert.equal((await box.files.download("/root/empty")).byteLength, 0);
      for (const name of ["/tmp/a b+c.txt", "/tmp/grüße-日本.txt", "/tmp/100%&=?#.txt",
        "/srv/new/dirs/file"]) {
        await box.files.upload(name, `content of ${name}`);
        assert.equal(text(await box.files.download(name)), `content of ${name}`);
        const r = await box.runCommand("cat", [name]);
        assert.equal(r.result.stdout, `content of ${name}`);
      }
      const bytes = new Uint8Array(70000).map((_, i) => i * 7);
      await box.files.upload("/root/bytes", bytes);
      assert.deepEqual(new Uint8Array(await box.files.download("/root/bytes")), bytes);
      const r = await box.runCommand("stat", ["-c", "%U %a", "/root/bytes"]);
      assert.equal(r.result.stdout.trim(), "root 644");
    });
  });

  it("overwriting keeps the mode; the size shrinks", async () => {
    await withSandbox({}, async (box) => {
      await box.files.upload("/usr/local/bin/x", "#!/bin/sh\necho long version\n");
      await box.runCommand("chmod", ["755", "/usr/local/bin/x"]);
      await box.files.upload("/usr/local/bin/x", "#!/bin/sh\necho 2\n");
      assert.equal((await box.runCommand("x")).result.stdout, "2\n");
    });
  });

  // The whole gibibyte once: the variants differ in how a stream begins, not in how it goes on.
  const mib = machines ? 16 : hasUndici() ? 64 : 1024;
  const size = machines ? {} : { disk_mib: 4096, shape: "s-1vcpu-1gb" };
  it(`${mib} MiB as a stream, there and back`, async () => {
    await withSandbox(size, async (box) => {
      const total = mib * 1024 * 1024;
      const block = Buffer.alloc(1 << 20, "weir");
      const up = createHash("sha256");
      let sent = 0;
      const body = new ReadableStream({
        pull(controller) {
          if (sent === total) return controller.close();
          block.writeUInt32BE(sent >>> 10, 0);
          up.update(block);
          controller.enqueue(new Uint8Array(block));
          sent += block.length;
        },
      });
      const patient = { timeoutMs: 300_000 }; // a minute, unless one says otherwise
      await box.files.upload("/root/big", body, patient);
      const digest = up.digest("hex");
      const there = await box.runCommand("sha256sum", ["/root/big"], patient);
      assert.equal(there.result.stdout.split(" ")[0], digest);
      const response = await client.http.requestRaw("GET", `/v1/sandboxes/${box.id}/files`,
        { ...patient, query: { path: "/root/big" } });
      assert.equal(response.headers.get("content-length"), String(total));
      const down = createHash("sha256");
      let got = 0;
      for await (const chunk of response.body) {
        down.update(chunk);
        got += chunk.length;
      }
      assert.equal(got, total);
      assert.equal(down.digest("hex"), digest);
    });
  });

  it("refusals", async () => {
    await withSandbox({}, async (box) => {
      await assert.rejects(box.files.download("/no/such/file"), CreateosSandboxNotFoundError);
      await assert.rejects(box.files.upload("relative", "x"), CreateosSandboxValidationError);
      await assert.rejects(box.files.upload("/tmp", "x"), CreateosSandboxValidationError);
      await assert.rejects(box.files.download("/tmp"), CreateosSandboxValidationError);
    });
  });

  it("an upload that breaks off leaves the old file", async () => {
    await withSandbox({}, async (box) => {
      await box.files.upload("/root/kept", "old");
      let n = 0;
      const body = new ReadableStream({
        pull(controller) {
          if (++n === 20) controller.error(new Error("the source broke"));
          else controller.enqueue(new Uint8Array(65536));
        },
      });
      await assert.rejects(box.files.upload("/root/kept", body));
      assert.equal(text(await box.files.download("/root/kept")), "old");
      const left = await box.sh("ls -A /root | grep -c kept");
      assert.equal(left.result.stdout.trim(), "1");
    });
  });
});
