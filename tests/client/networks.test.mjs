// Private networks: the resource, membership, and what members see of each other.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as sdk from "@nodeops-createos/sandbox";
import { client, uniqueName, until, variant, withSandbox } from "./kit.mjs";

// Destroyed members stop being in the way a moment after destroy() answers: programs retry.
async function remove(name) {
  await until(`network ${name} to go`, async () => {
    try {
      await client.networks.delete(name, { retry: false });
      return true;
    } catch (e) {
      if (e.statusCode !== 409) throw e;
      return false;
    }
  });
}

async function withNetwork(use) {
  const net = await client.networks.create({ name: uniqueName("net") });
  try {
    return await use(net);
  } finally {
    await remove(net.name);
  }
}

test(`private networks, ${variant}`, { concurrency: 4 }, async (t) => {
  await t.test("create, list, get, delete", async () => {
    const name = uniqueName("net");
    const net = await client.networks.create({ name });
    assert.equal(net.name, name);
    assert.match(net.id, /^net-/);
    assert.equal(net.member_count, 0);
    const ids = [];
    for await (const n of client.networks.iterate()) ids.push(n.id);
    assert.ok(ids.includes(net.id));
    assert.ok((await client.networks.list()).some((n) => n.id === net.id));
    assert.deepEqual((await client.networks.get(name)).members, []);
    await assert.rejects(client.networks.create({ name }, { retry: false }),
      (e) => e instanceof sdk.CreateosSandboxValidationError && e.statusCode === 400);
    assert.equal((await client.networks.delete(net.id)).ok, true);
    await assert.rejects(client.networks.get(net.id), (e) => e.statusCode === 404);
  });

  await t.test("members by name and address, from create on", async () => {
    await withNetwork((net) => withSandbox({ networks: [{ id: net.id }], ingress_enabled: true }, (web) =>
      withSandbox({ networks: [{ id: net.name }], egress: ["192.0.2.1"] }, async (box) => {
        const { members } = await client.networks.get(net.name);
        const ip = members.find((m) => m.sandbox_id === web.id).ip;
        assert.ok(ip && ip !== web.ip);
        await web.sh("echo hello >/root/index.html; cd /root && " +
          "(setsid python3 -m http.server 8080 >/dev/null 2>&1 </dev/null &)");
        for (const host of [ip, web.name, `${web.name}.fc.local`, `${web.name}.${net.name}.fc.local`])
          await until(`${host} to answer`, async () =>
            (await box.runCommand("curl", ["-s", "-m", "2", `http://${host}:8080/`])).result.stdout ===
              "hello\n");
        const visit = await fetch(`${web.previewUrl(8080)}/index.html`); // from outside, beside that
        assert.equal(await visit.text(), "hello\n");
        await assert.rejects(client.networks.delete(net.id, { retry: false }),
          (e) => e.statusCode === 409 && /active members/.test(e.message));
      })));
  });

  await t.test("attach and detach", async () => {
    await withNetwork((net) => withSandbox({}, async (box) => {
      await box.attachNetwork(net.name);
      await box.attachNetwork(net.id);
      assert.equal((await client.networks.get(net.id)).member_count, 1);
      await box.detachNetwork(net.id);
      assert.equal((await client.networks.get(net.id)).member_count, 0);
      await assert.rejects(box.detachNetwork(net.id), (e) => e.statusCode === 404);
      await assert.rejects(box.attachNetwork("no-such-net"), (e) => e.statusCode === 404);
    }));
  });
});
