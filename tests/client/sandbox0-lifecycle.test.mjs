// Claim, read, list, change, pause, resume, refresh, delete, as sandbox0's client does them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "sandbox0";
import { client, listed, refused, until, withSandbox } from "./sandbox0-kit.mjs";
import { client as createos } from "./kit.mjs";

test("sandbox0: lifecycle", { concurrency: 8 }, async (t) => {
  await t.test("claim, get, status, list, delete", async () => {
    const box = await client.sandboxes.claim("default", { hardTtl: 600, network: { mode: "allow-all" } });
    assert.equal(box.status, "running");
    assert.equal(box.template, "default");
    assert.ok(box.podName);
    assert.deepEqual(box.bootstrapMounts, []);
    const view = await client.sandboxes.get(box.id);
    assert.equal(view.id, box.id);
    assert.equal(view.status, "running");
    assert.equal(view.templateId, "default");
    assert.equal(view.paused, false);
    assert.equal(view.autoResume, true);
    assert.equal(view.runtimeGeneration, 1);
    assert.equal(view.resources.memory, "1Gi");
    const left = view.hardExpiresAt - Date.now();
    assert.ok(left > 500_000 && left <= 600_000, `${left} ms`);
    assert.equal(view.expiresAt.getTime(), 0); // none
    assert.equal((await client.sandboxes.status(box.id)).status, "running");
    const running = { status: "running", templateId: "default" };
    await until("it in the list", () => listed(box.id, running));
    assert.ok((await client.sandboxes.list(running)).count >= 1);
    const one = await client.sandboxes.list({ limit: 1 });
    assert.equal(one.sandboxes.length, 1);
    assert.ok((await client.sandboxes.delete(box.id)).success);
    await assert.rejects(client.sandboxes.get(box.id), refused(404, "not_found"));
    await assert.rejects(client.sandboxes.delete(box.id), refused(404, "not_found"));
    assert.equal(await listed(box.id), false);
  });

  await t.test("bad claims are named, and nothing is made", async () => {
    const claims = [
      ["nosuch", {}, 404, "not_found", "template"],
      ["", {}, 400, "bad_request", "template is required"],
      ["default", { ttl: -1 }, 400, "bad_request", "config.ttl"],
      ["default", { ttl: 20, hardTtl: 10 }, 400, "bad_request", "hard_ttl"],
      ["default", { config: { resources: { memory: "1Mi" } } }, 400, "bad_request", "128Mi to 16Gi"],
      ["default", { network: { mode: "block" } }, 400, "bad_request", "block-all"],
      ["default", { network: { mode: "block-all", egress: { allowedCidrs: ["10.0.0.0"] } } }, 400,
        "bad_request", "egress.allowedCidrs[0]"],
      ["default", { webhook: { url: "http://x.test" } }, 400, "bad_request", "config.webhook"],
    ];
    if (!(await client.templates.list()).some((t) => t.templateId === "vm"))
      claims.push(["vm", {}, 400, "bad_request", "runtime vm is not available here"]);
    for (const [template, config, status, code, text] of claims)
      await assert.rejects(client.sandboxes.claim(template, config), refused(status, code, text));
    assert.equal((await client.sandboxes.list({ templateId: "vm" })).count, 0);
  });

  await t.test("without a token, and with a wrong one", async () => {
    for (const token of ["", "s0_home_0123456789abcdef"]) {
      const other = new Client({ token, baseUrl: process.env.SANDBOX0_BASE_URL });
      await assert.rejects(other.sandboxes.list(), refused(401, "unauthorized"));
    }
  });

  await t.test("a base URL that ends in a slash", async () => {
    const other = new Client({ token: process.env.SANDBOX0_TOKEN,
      baseUrl: `${process.env.SANDBOX0_BASE_URL}/` });
    assert.ok((await other.sandboxes.list()).count >= 0);
  });

  await t.test("templates", async () => {
    const all = await client.templates.list();
    assert.ok(all.some((one) => one.templateId === "default"));
    assert.equal((await client.templates.get("default")).scope, "public");
    await assert.rejects(client.templates.get("nosuch"), refused(404, "not_found"));
  });

  await t.test("pause and resume; the policy stays", async () => {
    await withSandbox({ network: { mode: "block-all", egress: { allowedDomains: ["x.test"] } } },
      async (box) => {
        assert.equal((await client.sandboxes.pause(box.id)).paused, true);
        assert.equal((await client.sandboxes.pause(box.id)).paused, true);
        await until("it in the list", () => listed(box.id, { paused: true }));
        assert.equal(await listed(box.id, { paused: false }), false);
        assert.deepEqual((await box.getNetworkPolicy()).egress.allowedDomains, ["x.test"]);
        await box.updateNetworkPolicy({ mode: "block-all", egress: { allowedDomains: ["y.test"] } });
        await client.sandboxes.resumeAndWait(box.id);
        const view = await client.sandboxes.get(box.id);
        assert.equal(view.runtimeGeneration, 2);
        assert.equal(view.status, "running");
        assert.equal((await client.sandboxes.resume(box.id)).resumed, true);
        assert.deepEqual((await box.getNetworkPolicy()).egress.allowedDomains, ["y.test"]);
        await client.sandboxes.pauseAndWait(box.id);
      });
  });

  await t.test("ttl pauses, refresh puts it off, hard ttl deletes", async () => {
    await withSandbox({ ttl: 2 }, async (box) => {
      await client.sandboxes.refresh(box.id, { duration: 300 });
      const put = (await client.sandboxes.get(box.id)).expiresAt - Date.now();
      assert.ok(put > 200_000, `${put} ms`);
      await assert.rejects(client.sandboxes.refresh(box.id, { duration: -1 }),
        refused(400, "bad_request", "duration"));
      await client.sandboxes.refresh(box.id); // back to 2 s
      await until("the pause", async () => (await client.sandboxes.get(box.id)).paused);
      await client.sandboxes.update(box.id, { config: { ttl: 0, hardTtl: 1 } });
      await until("the end", () => client.sandboxes.get(box.id).then(() => false,
        (e) => refused(404, "not_found")(e)));
    });
  });

  await t.test("update", async () => {
    await withSandbox({ ttl: 300, hardTtl: 0 }, async (box) => {
      const view = await client.sandboxes.update(box.id, { config: { ttl: 0, autoResume: false,
        envVars: { A: "b" }, network: { mode: "block-all" } } });
      assert.equal(view.expiresAt.getTime(), 0);
      assert.equal(view.autoResume, false);
      assert.equal((await box.getNetworkPolicy()).mode, "block-all");
      for (const [config, text] of [[undefined, "config is required"], [{ ttl: -1 }, "config.ttl"],
        [{ network: { mode: "none" } }, "invalid mode"], [{ envVars: { "a=b": "c" } }, "env_vars"],
        [{ resources: { memory: "64Mi" } }, "128Mi to 16Gi"], [{ network: {} }, "mode is required"]])
        await assert.rejects(client.sandboxes.update(box.id, { config }), refused(400, "bad_request", text));
      assert.equal((await box.getNetworkPolicy()).mode, "block-all");
    });
  });

  await t.test("memory, more and less, while it runs and while it sleeps", async () => {
    const box = await client.sandboxes.claim("default", { config: { hardTtl: 600, resources: { memory: "256Mi" } } });
    const hold = (mib, then) => ["python3", "-c", `b = bytearray(${mib} << 20); print("held", flush=True); ${then}`];
    const holds = async (mib) => (await box.cmd("x", { command: hold(mib, "0") })).stdout === "held\n";
    try {
      const vm = (await createos.getSandbox(box.id)).data.runtime === "vm";
      if (vm) {
        await assert.rejects(client.sandboxes.updateMemory(box.id, "768Mi"),
          refused(400, "bad_request", "virtual machine"));
        return;
      }
      assert.equal(await holds(400), false);
      assert.equal((await client.sandboxes.updateMemory(box.id, "768Mi")).resources.memory, "768Mi");
      assert.equal((await client.sandboxes.get(box.id)).resources.memory, "768Mi");
      assert.equal(await holds(400), true);
      const holder = await box.cmd("x", { command: hold(400, "import time; time.sleep(600)"), wait: false });
      await until("what it holds", async () => (await box.getContext(holder.contextId)).stdout === "held\n");
      await assert.rejects(client.sandboxes.updateMemory(box.id, "256Mi"), refused(409, "conflict", "in use"));
      assert.equal((await client.sandboxes.get(box.id)).resources.memory, "768Mi");
      assert.equal((await box.getContext(holder.contextId)).running, true);
      await box.deleteContext(holder.contextId);
      await until("less", () => client.sandboxes.updateMemory(box.id, "256Mi").then(() => true,
        (e) => !refused(409, "conflict", "in use")(e)));
      assert.equal(await holds(400), false);
      await client.sandboxes.pauseAndWait(box.id);
      assert.equal((await client.sandboxes.updateMemory(box.id, "1Gi")).resources.memory, "1Gi");
      await client.sandboxes.resumeAndWait(box.id);
      assert.equal(await holds(400), true);
      assert.equal((await createos.getSandbox(box.id)).data.shape, "s-1vcpu-1gb");
    } finally {
      await client.sandboxes.delete(box.id);
    }
  });

  await t.test("what is asked for in memory", async () => {
    const box = await client.sandboxes.claim("default", { memory: "384Mi" });
    try {
      assert.equal((await client.sandboxes.get(box.id)).resources.memory, "384Mi");
    } finally {
      await client.sandboxes.delete(box.id);
    }
  });
});
