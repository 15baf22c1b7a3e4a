// Network policies as sandbox0's client sets them, with real packets from inside. (What each form
// means, row by row, is tests/netlab's subject.)
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, lab, refused, withSandbox } from "./sandbox0-kit.mjs";
import { client as createos } from "./kit.mjs";

// As the published page writes it: absolute, no shell, the backslash is curl's. But for its three seconds: what
// is denied is refused at once, and on a busy machine a handshake takes as long as that.
const status = async (box, url, ...more) => (await box.cmd(
  ["/bin/curl", "-sk", "-o", "/dev/null", "-w", '"%{http_code}\\n"', "--max-time", "60", ...more, url].join(" "))).outputRaw;
const PASS = "200\n", BLOCK = "000\n";

test("sandbox0: policy", { concurrency: 4, timeout: 300000 }, async (t) => {
  await t.test("the page's program: allow all, block all, a list, and back", { skip: lab }, async () => {
    const box = await client.sandboxes.claim("default", { hardTtl: 600, network: { mode: "allow-all" } });
    try {
      assert.deepEqual(await box.getNetworkPolicy(), { mode: "allow-all", egress: undefined, credentialBindings: undefined });
      assert.equal(await status(box, "https://allowed.test"), PASS);
      assert.deepEqual((await box.updateNetworkPolicy({ mode: "block-all" })).mode, "block-all");
      const blocked = await box.cmd("/bin/curl -sk -o /dev/null -w '%{http_code}' --max-time 60 https://allowed.test");
      assert.equal(blocked.outputRaw, "000");
      assert.notEqual(blocked.exitCode, 0);
      const sent = { mode: "block-all", egress: { allowedDomains: ["allowed.test", "*.wild.test"] } };
      const got = await box.updateNetworkPolicy(sent);
      assert.deepEqual(got.egress.allowedDomains, sent.egress.allowedDomains);
      assert.deepEqual((await box.getNetworkPolicy()).egress.allowedDomains, sent.egress.allowedDomains);
      assert.equal(await status(box, "https://allowed.test"), PASS);
      assert.equal(await status(box, "https://denied.test"), BLOCK);
      assert.equal(await status(box, "https://sub.allowed.test"), BLOCK);
      assert.equal(await status(box, "https://wild.test"), PASS);
      assert.equal(await status(box, "https://a.b.wild.test"), PASS);
      assert.equal(await status(box, "https://allowed.test", "--resolve", "allowed.test:443:203.0.113.20"), BLOCK);
      await box.updateNetworkPolicy({ mode: "allow-all", egress: { deniedDomains: ["denied.test"] } });
      assert.equal(await status(box, "https://denied.test"), BLOCK);
      assert.equal(await status(box, "https://allowed.test"), PASS);
    } finally {
      await client.sandboxes.delete(box.id);
    }
  });

  await t.test("a policy given at the claim", { skip: lab }, async () => {
    await withSandbox({ network: { mode: "block-all", egress: {
      allowedCidrs: ["203.0.113.10/32"], allowedPorts: [{ port: 8080, protocol: "TCP" }] } } },
    async (box) => {
      assert.equal(await status(box, "http://203.0.113.10:8080"), PASS);
      assert.equal(await status(box, "http://203.0.113.10:8081"), BLOCK);
      assert.equal(await status(box, "https://denied.test"), BLOCK);
    });
  });

  const put = (box, body) => fetch(`${process.env.SANDBOX0_BASE_URL}/api/v1/sandboxes/${box.id}/network`, {
    method: "PUT", body: JSON.stringify(body),
    headers: { Authorization: `bearer ${process.env.SANDBOX0_TOKEN}` },
  }).then(async (r) => ({ status: r.status, ...(await r.json()) }));

  await t.test("the names of the first page, and bare ports", async () => {
    await withSandbox({}, async (box) => {
      const r = await put(box, { mode: "block-all", egress: { allowed_domains: ["A.Test."],
        denied_cidrs: ["192.0.2.1/24"], allowed_ports: [443, { port: 1, endPort: 9 }], denied_domains: [],
        trafficRules: null } });
      assert.equal(r.status, 200, JSON.stringify(r));
      assert.deepEqual(r.data, { mode: "block-all", egress: { allowedDomains: ["A.Test."],
        deniedCidrs: ["192.0.2.1/24"], allowedPorts: [{ port: 443 }, { port: 1, endPort: 9 }] } });
    });
  });

  await t.test("what is wrong is named, and changes nothing", async () => {
    await withSandbox({ network: { mode: "block-all", egress: { allowedDomains: ["kept.test"] } } }, async (box) => {
      const e = (egress) => ({ mode: "block-all", egress });
      const rule = (r) => e({ trafficRules: [{ action: "allow", domains: ["a.test"] }, r] });
      for (const [body, text] of [
        [{}, "mode is required"], [{ mode: "" }, "mode is required"],
        [{ mode: "open" }, "block-all"], [{ mode: 1 }, "invalid mode"],
        [{ mode: "block-all", egres: {} }, "egres: there is no such member"],
        [e({ allowDomains: [] }), "egress.allowDomains: there is no such member"],
        [e({ allowedDomains: "a" }), "egress.allowedDomains: expected an array"],
        [e({ allowedDomains: [1] }), "egress.allowedDomains[0]: expected a string"],
        [e({ allowedDomains: [], allowed_domains: ["a"] }), "both spellings"],
        [e({ allowedDomains: ["ok.test", "*."] }), "egress.allowedDomains[1]"],
        [e({ allowedCidrs: ["10.0.0.1"] }), "egress.allowedCidrs[0]"],
        [e({ deniedCidrs: ["10.0.0.0/33"] }), "egress.deniedCidrs[0]"],
        [e({ allowedCidrs: ["169.254.169.254/32"] }), "cannot be opened"],
        [e({ allowedPorts: [0] }), "egress.allowedPorts[0]"], [e({ allowedPorts: [65536] }), "1 to 65535"],
        [e({ deniedPorts: [{ port: 9, endPort: 8 }] }), "endPort"],
        [e({ deniedPorts: [{ port: 9, endPort: 0 }] }), "endPort"],
        [e({ deniedPorts: [{ port: 9, protocol: "sctp" }] }), "tcp or udp"],
        [e({ deniedPorts: [{ endPort: 9 }] }), "port is required"],
        [e({ deniedPorts: ["443"] }), "expected a port"],
        [rule({ action: "allow" }), "egress.trafficRules[1]"], [rule({ action: "drop", domains: ["b"] }), "action"],
        [rule({ domains: ["b.test"] }), "action is required"],
        [rule({ action: "deny", cidrs: ["x"] }), "egress.trafficRules[1].cidrs[0]"],
        [rule({ action: "deny", appProtocols: ["ssh"] }), "appProtocols"],
        [e({ trafficRules: [{ name: "n", action: "deny", ports: [1] }, { name: "n", action: "deny", ports: [2] }] }), "this name"],
        [e({ trafficRules: [{ action: "deny", ports: [1] }], allowedPorts: [1] }), "cannot be combined"],
        [e({ protocolRules: [{ protocol: "http" }] }), "egress.protocolRules"],
        [e({ credentialRules: [{ credentialRef: "x" }] }), "egress.credentialRules"],
        [e({ proxy: { type: "socks5", address: "a:1" } }), "egress.proxy"],
        [{ mode: "block-all", credentialBindings: [{ ref: "x" }] }, "credentialBindings"],
        [e({ allowedDomains: Array(1025).fill("a.test") }), "1024"],
      ]) {
        const r = await put(box, body);
        assert.equal(r.status, 400, JSON.stringify([body, r]).slice(0, 500));
        assert.equal(r.success, false);
        assert.equal(r.error.code, "bad_request");
        assert.ok(r.error.message.includes(text), `${JSON.stringify(body).slice(0, 200)}: ${r.error.message}`);
        assert.ok(r.error.message.startsWith("invalid network policy") || r.error.message.includes("mode"),
          r.error.message);
      }
      assert.deepEqual((await box.getNetworkPolicy()).egress.allowedDomains, ["kept.test"]);
    });
    await assert.rejects(client.sandbox("sb-01000000000000000000000000").getNetworkPolicy(),
      refused(404, "not_found"));
  });

  await t.test("both halves are kept; the mode says which counts", async () => {
    const both = { allowedDomains: ["a.test"], deniedDomains: ["b.test"], deniedPorts: [{ port: 25 }] };
    await withSandbox({ network: { mode: "allow-all", egress: both } }, async (box) => {
      const flipped = await box.updateNetworkPolicy({ mode: "block-all", egress: both });
      assert.equal(flipped.mode, "block-all");
      assert.deepEqual((await box.getNetworkPolicy()).egress.deniedDomains, ["b.test"]);
      assert.equal((await box.updateNetworkPolicy({ mode: "block-all" })).egress, undefined);
    });
  });

  await t.test("one sandbox, seen through every dialect", async () => {
    await withSandbox({ network: { mode: "block-all", egress: { allowedDomains: ["*.a.test", "b.test"] } } },
      async (box) => {
        const seen = async () => (await createos.getSandbox(box.id)).data;
        assert.deepEqual((await seen()).egress, ["a.test", "*.a.test", "b.test"]);
        assert.equal((await seen()).status, "running");
        await box.updateNetworkPolicy({ mode: "allow-all", egress: { deniedDomains: ["b.test"] } });
        assert.deepEqual((await seen()).egress, ["deny b.test", "allow everything else"]);
        await box.updateNetworkPolicy({ mode: "block-all" });
        assert.deepEqual((await seen()).egress, ["deny everything else"]);
        const other = await createos.getSandbox(box.id);
        await other.setEgress(["c.test:443", "*.d.test", "10.1.0.0/16"]);
        assert.deepEqual(JSON.parse(JSON.stringify(await box.getNetworkPolicy())), { mode: "block-all",
          egress: { trafficRules: [
            { action: "allow", domains: ["c.test"], ports: [{ port: 443, protocol: "tcp" }, { port: 443, protocol: "udp" }] },
            { action: "deny", domains: ["d.test"] },
            { action: "allow", domains: ["*.d.test"] },
            { action: "allow", cidrs: ["10.1.0.0/16"] }] } });
        await other.setEgress(["*.d.test:443", "d.test:80"]);
        await assert.rejects(box.getNetworkPolicy(), refused(409, "conflict", "*.d.test without d.test"));
        await other.setEgress([]);
        assert.equal((await box.getNetworkPolicy()).mode, "allow-all");
        await client.sandboxes.pause(box.id);
        assert.equal((await seen()).status, "paused");
      });
  });

  await t.test("another user's sandbox is not there, in any dialect", async () => {
    const key = await fetch(`${process.env.WEIR_URL}/v1/keys`, { method: "POST",
      headers: { "X-Api-Key": process.env.WEIR_API_KEY, "Content-Type": "application/json" },
      body: JSON.stringify({ name: "other" }) }).then((r) => r.json());
    const token = key.data.key;
    await withSandbox({}, async (box) => {
      const ask = (path, headers, method = "GET") => fetch(`${process.env.WEIR_URL}${path}`, { headers, method })
        .then((r) => r.status);
      const bearer = { Authorization: `Bearer ${token}` };
      for (const [path, method] of [["", "GET"], ["", "DELETE"], ["/network", "GET"], ["/status", "GET"],
        ["/pause", "POST"], ["/contexts", "GET"], ["/files?path=/etc/hostname", "GET"]])
        assert.equal(await ask(`/api/v1/sandboxes/${box.id}${path}`, bearer, method), 404, path);
      assert.equal(await ask(`/v1/sandboxes/${box.id}`, { "X-Api-Key": token }), 404);
      assert.equal(await ask(`/v1/sandboxes/${box.id}`, { "OPEN-SANDBOX-API-KEY": token }), 404);
      const listed = await fetch(`${process.env.WEIR_URL}/api/v1/sandboxes`, { headers: bearer }).then((r) => r.json());
      assert.equal(listed.data.count, 0);
      assert.equal((await client.sandboxes.get(box.id)).status, "running");
    });
  });
});
