// The published OpenSandbox client: create, list, renew, metadata, pause, resume, kill, errors.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionConfig, Sandbox, SandboxManager } from "@alibaba-group/opensandbox";
import { client, uniqueName, until } from "./kit.mjs";
import { IMAGE, RESOURCE, fails, withSandbox } from "./opensandbox-kit.mjs";

const opts = { concurrency: 4 };
const manager = SandboxManager.create(), manager2 = SandboxManager.create();

test("OpenSandbox lifecycle", opts, async (t) => {
  await t.test("create says what was asked, in every view", async () => {
    const group = uniqueName("g");
    await withSandbox({ metadata: { group, "weir.example/role": "" }, env: { GREETING: "hello" } },
      async (sbx) => {
        const info = await sbx.getInfo();
        assert.equal(info.id, sbx.id);
        assert.equal(info.status.state, "Running");
        assert.deepEqual(info.metadata, { group, "weir.example/role": "" });
        assert.deepEqual(info.entrypoint, ["tail", "-f", "/dev/null"]);
        assert.equal(info.image.uri, IMAGE);
        assert.ok(info.createdAt instanceof Date && info.expiresAt instanceof Date);
        assert.ok(Math.abs(info.expiresAt - info.createdAt - 600_000) < 100);
        const same = await client.getSandbox(sbx.id);
        assert.equal(same.data.status, "running");
        assert.equal(same.data.mem_mib, 256);
        assert.equal(new Date(same.data.created_at).getTime(), info.createdAt.getTime());
        const r = await same.runCommand("sh", ["-c", "echo $GREETING"]);
        assert.equal(r.result.stdout, "hello\n");
      });
  });

  await t.test("no timeout: never expires", async () => {
    await withSandbox({ timeoutSeconds: null }, async (sbx) => {
      assert.equal((await sbx.getInfo()).expiresAt, null);
      await fails(sbx.renew(600), 409, "DOCKER::INVALID_EXPIRATION");
    });
  });

  await t.test("renew", async () => {
    await withSandbox({}, async (sbx) => {
      const { expiresAt } = await sbx.renew(7200);
      assert.ok(Math.abs(new Date(expiresAt) - Date.now() - 7_200_000) < 20_000);
      assert.equal((await sbx.getInfo()).expiresAt.getTime(), new Date(expiresAt).getTime());
    });
  });

  await t.test("metadata: set, removed, kept", async () => {
    await withSandbox({ metadata: { a: "1", b: "2" } }, async (sbx) => {
      const info = await sbx.patchMetadata({ b: null, c: "3" });
      assert.deepEqual(info.metadata, { a: "1", c: "3" });
      await fails(sbx.patchMetadata({ "opensandbox.io/x": "y" }), 400,
        "SANDBOX::INVALID_METADATA_LABEL");
      assert.deepEqual((await sbx.getInfo()).metadata, { a: "1", c: "3" });
    });
  });

  await t.test("list by metadata and state, in pages", async () => {
    const group = uniqueName("g");
    await withSandbox({ metadata: { group, n: "1" } }, (one) =>
      withSandbox({ metadata: { group, n: "2" } }, async (two) => {
        const ids = async (filter) => {
          const r = await manager.listSandboxInfos({ ...filter, metadata: { group, ...filter.metadata } });
          assert.equal(r.pagination.totalItems >= r.items.length, true);
          return r.items.map((s) => s.id);
        };
        assert.deepEqual(await ids({}), [two.id, one.id]);
        assert.deepEqual(await ids({ metadata: { n: "1" } }), [one.id]);
        assert.deepEqual(await ids({ metadata: { n: "3" } }), []);
        assert.deepEqual(await ids({ pageSize: 1, page: 2 }), [one.id]);
        await manager.pauseSandbox(one.id);
        assert.deepEqual(await ids({ states: ["Paused"] }), [one.id]);
        assert.deepEqual(await ids({ states: ["Running"] }), [two.id]);
        assert.deepEqual(await ids({ states: ["Running", "Paused"] }), [two.id, one.id]);
      }));
  });

  await t.test("pause freezes, resume goes on", async () => {
    await withSandbox({}, async (sbx) => {
      const same = await client.getSandbox(sbx.id);
      await same.runCommand("sh", ["-c", "echo kept >/root/kept"]);
      await sbx.pause();
      assert.equal((await sbx.getInfo()).status.state, "Paused");
      await fails(sbx.pause(), 409, "DOCKER::SANDBOX_NOT_RUNNING");
      await manager.resumeSandbox(sbx.id);
      assert.equal((await sbx.getInfo()).status.state, "Running");
      await fails(manager.resumeSandbox(sbx.id), 409, "DOCKER::SANDBOX_NOT_PAUSED");
      assert.equal((await same.runCommand("cat", ["/root/kept"])).result.stdout, "kept\n");
    });
  });

  await t.test("kill: gone at once", async () => {
    await withSandbox({}, async (sbx) => {
      await sbx.kill();
      for (const call of [() => sbx.getInfo(), () => sbx.kill(), () => sbx.pause(),
        () => manager.resumeSandbox(sbx.id), () => manager.renewSandbox(sbx.id, 600),
        () => manager.patchSandboxMetadata(sbx.id, {})])
        await fails(call(), 404, "DOCKER::SANDBOX_NOT_FOUND");
    });
  });

  await t.test("what create refuses, it says; nothing is left", async () => {
    const group = uniqueName("g");
    const create = (o) => Sandbox.create({ image: IMAGE, resource: RESOURCE, skipHealthCheck: true,
      metadata: { group }, ...o });
    const invalid = "SANDBOX::INVALID_PARAMETER";
    await fails(create({ entrypoint: [""] }), 400, "DOCKER::INVALID_ENTRYPOINT");
    await fails(create({ metadata: { group: "a b" } }), 400, "SANDBOX::INVALID_METADATA_LABEL");
    await fails(create({ timeoutSeconds: 59 }), 400, invalid);
    await fails(create({ resource: { cpu: "x" } }), 400, invalid);
    await fails(create({ secureAccess: true }), 400, invalid);
    await fails(create({ credentialProxy: { enabled: true } }), 400, invalid);
    await fails(create({ platform: { os: "windows", arch: "amd64" } }), 400, invalid);
    await fails(create({ extensions: { poolRef: "p" } }), 400, "SANDBOX::UNSUPPORTED_POOL_REF");
    await fails(create({ networkPolicy: { egress: [{ action: "allow", target: "a b" }] } }), 400, invalid);
    await fails(create({ volumes: [{ name: "v", pvc: { claimName: "c" }, mountPath: "/m" }] }), 501,
      "SANDBOX::API_NOT_SUPPORTED");
    await fails(create({ image: "nowhere.invalid/none:1" }), 500, "DOCKER::SANDBOX_IMAGE_PULL_FAILED");
    assert.deepEqual((await manager.listSandboxInfos({ metadata: { group } })).items, []);
  });

  await t.test("wrong and missing keys", async () => {
    const wrong = SandboxManager.create({ connectionConfig: new ConnectionConfig({ apiKey: "x" }) });
    await fails(wrong.listSandboxInfos(), 401, "INVALID_API_KEY");
    const r = await fetch(`${process.env.WEIR_URL}/v1/sandboxes`,
      { headers: { "user-agent": "OpenSandbox-JS-SDK/0.1.11" } });
    assert.equal(r.status, 401);
    assert.equal((await r.json()).code, "MISSING_API_KEY");
    await wrong.close();
  });

  await t.test("snapshots are refused by name", async () => {
    await withSandbox({}, (sbx) =>
      fails(manager.createSnapshot(sbx.id), 501, "SANDBOX::API_NOT_SUPPORTED"));
  });
  await manager.close();
});

test("OpenSandbox entry points", opts, async (t) => {
  await t.test("it runs, with its environment, and over a pause", async () => {
    await withSandbox({
      entrypoint: ["sh", "-c", "echo \"$WHO $$\" >/root/began; exec sleep 1000"], env: { WHO: "me" },
    }, async (sbx) => {
      const same = await client.getSandbox(sbx.id);
      const began = () => same.runCommand("cat", ["/root/began"]).then((r) => r.result.stdout);
      await until("it began", async () => (await began()).startsWith("me "));
      const first = await began();
      await sbx.pause();
      await manager2.resumeSandbox(sbx.id);
      const r = await same.runCommand("pgrep", ["-fc", "sleep 1000"]);
      assert.equal(r.result.stdout.trim(), "1");
      assert.equal(await began(), first);
    });
  });

  for (const [what, command, state] of [
    ["exit 0", ["sh", "-c", "exit 0"], "Terminated"],
    ["exit 7", ["sh", "-c", "exit 7"], "Failed"],
    ["no such program", ["/no/such/program"], "Failed"],
  ])
    await t.test(`its end is the sandbox's: ${what}`, async () => {
      await withSandbox({ entrypoint: command }, async (sbx) => {
        const info = await until(state, async () => {
          const now = await sbx.getInfo();
          return now.status.state === state && now;
        });
        assert.ok(info.status.message.includes("entry point"), info.status.message);
        for (const asked of ["Terminated", "Failed", "Running"]) {
          const { items } = await manager2.listSandboxInfos({ states: [asked], pageSize: 200 });
          assert.equal(items.some((found) => found.id === sbx.id), asked === state, asked);
        }
      });
    });
  await manager2.close();
});
