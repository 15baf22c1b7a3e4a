// Health, identity, the catalogue, create with every field, lists, connect, waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CreateosSandboxNotFoundError, Sandbox, createClient } from "@nodeops-createos/sandbox";
import { SHAPE, client, hasUndici, machines, uniqueName, variant, withSandbox } from "./kit.mjs";

const opts = { concurrency: 4 };

test(`catalogue, ${variant}`, opts, async (t) => {
  await t.test("the variant is what it says", () => {
    if (variant !== "as installed") assert.equal(hasUndici(), variant === "with undici");
  });

  await t.test("healthz and readyz without a key", async () => {
    const anonymous = createClient({ apiKey: "wrong-key", baseUrl: client.baseUrl });
    assert.equal((await anonymous.healthz()).up, true);
    assert.equal((await anonymous.readyz()).ready, true);
  });

  await t.test("whoami counts", async () => {
    const before = await client.whoami();
    assert.equal(typeof before.user_id, "string");
    await withSandbox({}, async () => {
      const during = await client.whoami();
      assert.ok(during.stats.running >= 1);
      assert.equal(during.stats.total,
        during.stats.running + during.stats.paused + during.stats.other);
    });
  });

  await t.test("shapes and root file systems without a key", async () => {
    const anonymous = createClient({ apiKey: "wrong-key", baseUrl: client.baseUrl });
    const shapes = await anonymous.listShapes();
    const small = shapes.find((s) => s.id === SHAPE);
    assert.equal(small.mem_mib, 256);
    assert.ok(shapes.every((s) => /^s-(\d+(\.\d+)?)vcpu-(\d+)(gb|mb)$/.test(s.id)));
    const rootfs = await anonymous.listRootfs();
    assert.ok(rootfs.rootfs.includes("devbox:1"));
    assert.equal(typeof rootfs.default, "string");
  });

  await t.test("hosts", async () => {
    const hosts = await client.listHosts();
    assert.equal(hosts.length, 1);
    assert.equal(hosts[0].status, "active");
  });

  await t.test("create with every field", async () => {
    const name = uniqueName("full");
    const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6vPp7zLxB6K9hbz3Jm2vJvVnXcHhX9rKc2mYw5k3dT me";
    const [host] = await client.listHosts();
    await withSandbox({
      name, rootfs: "devbox:1", disk_mib: 512, egress: ["allowed.test:443", "10.9.0.0/16"],
      envs: { GREETING: "hello world", EMPTY: "" }, ssh_pubkeys: [key],
      host_id: host.id, auto_pause_after_seconds: 3600,
    }, async (box) => {
      const v = box.data;
      assert.equal(v.name, name);
      assert.equal(v.status, "running");
      assert.equal(v.rootfs, "devbox:1");
      assert.equal(v.shape, SHAPE);
      assert.equal(v.disk_mib, 512);
      assert.equal(v.mem_mib, 256);
      assert.deepEqual(v.egress, ["allowed.test:443", "10.9.0.0/16"]);
      assert.equal(v.auto_pause_after_seconds, 3600);
      assert.ok(v.spawn_ms > 0);
      assert.match(v.id, /^sb-[0-9a-z]{26}$/);
      assert.match(v.ip, /^\d+\.\d+\.\d+\.\d+$/);
      const again = await client.getSandbox(box.id);
      assert.deepEqual(again.data.envs.slice().sort(), ["EMPTY", "GREETING"]);
      assert.equal(again.data.ssh_pubkeys.length, 1);
      assert.equal(JSON.stringify(again.data).includes("hello world"), false);
      const r = await box.runCommand("sh", ["-c", "echo \"$GREETING\"; hostname; cat /root/.ssh/authorized_keys"]);
      const [greeting, hostname, ...authorized] = r.result.stdout.split("\n");
      assert.equal(greeting, "hello world");
      assert.equal(hostname, name);
      assert.ok(authorized.some((l) => l.startsWith("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB6v")));
    });
  });

  await t.test("defaults, and a name of its own", async () => {
    await withSandbox({}, async (box) => {
      assert.match(box.name, /^[a-z]+-[a-z]+/);
      assert.deepEqual(box.data.egress, []);
      assert.equal(box.data.auto_pause_after_seconds, undefined);
      const r = await box.runCommand("hostname");
      assert.equal(r.result.stdout.trim(), box.name);
      const self = await box.sh('getent hosts "$(hostname)"');
      assert.ok(self.result.stdout.length > 0, "its own name resolves");
    });
  });

  await t.test("connect, by address, refresh", async () => {
    await withSandbox({}, async (box) => {
      const connected = await Sandbox.connect(box.id);
      assert.equal(connected.name, box.name);
      const byIp = await client.getSandboxByIP(box.ip);
      assert.equal(byIp.id, box.id);
      await connected.refresh();
      assert.equal(connected.status, "running");
      // Either separator and either case names it.
      const upper = await client.getSandbox(box.id.toUpperCase().replace("-", "_"));
      assert.equal(upper.id, box.id);
    });
  });

  await t.test("destroy, and the row stays readable", async () => {
    const box = await client.createSandbox({ shape: SHAPE });
    await box.destroy();
    await box.waitUntilDestroyed();
    assert.equal(box.status, "destroyed");
    assert.equal((await client.getSandbox(box.id)).status, "destroyed");
    await box.destroy();
    await assert.rejects(client.getSandboxByIP(box.ip).then((b) => {
      if (b.id !== box.id) throw Object.assign(new Error("reused"), { name: "ok" });
    }), (e) => e instanceof CreateosSandboxNotFoundError || e.name === "ok");
    await assert.rejects(box.runCommand("true"), CreateosSandboxNotFoundError);
  });
});

const many = { skip: machines && "505 machines: their rows are containers' rows" };

test(`a list of more than 500 rows, ${variant}`, many, async () => {
  const mine = new Set();
  const prefix = uniqueName("l").slice(0, 8);
  let made = 0;
  const worker = async () => {
    while (made < 505) {
      const box = await client.createSandbox({ shape: SHAPE, name: `${prefix}-${made++}` });
      mine.add(box.id);
      await box.destroy();
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  // Newest first: what others create meanwhile moves rows to later pages, so one may come twice,
  // but none may be left out.
  const seen = new Set();
  for await (const box of client.iterateSandboxes()) seen.add(box.id);
  for (const id of mine) assert.ok(seen.has(id), `${id} is missing`);
  const page = await client.http.request("GET", "/v1/sandboxes", { query: { limit: 500, offset: 0 } });
  assert.equal(page.data.length, 500);
  assert.equal(page.pagination.count, 500);
  assert.ok(page.pagination.total >= 505);
  const running = await client.listSandboxes({ status: "running" });
  assert.ok(running.every((b) => b.status === "running"));
});
