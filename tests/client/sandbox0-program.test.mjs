// One program from claim to delete: what a newcomer does first, in the order of the page, on one sandbox.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, lab, listed, refused, until } from "./sandbox0-kit.mjs";

// Patient: what is denied is refused at once, and what is allowed may take its time on a busy machine.
const curl = (host) =>
  `/bin/curl -s -o /dev/null -w "%{http_code}\\n" --max-time 60 http://${host}`;

// What a policy says; the client adds members that say nothing.
const plain = (policy) => JSON.parse(JSON.stringify(policy));

test("sandbox0: a program, whole", { skip: lab, timeout: 300000 }, async () => {
  const box = await client.sandboxes.claim("default", {
    hardTtl: 600,
    network: { mode: "block-all", egress: { allowedDomains: ["allowed.test"] } },
  });
  const reaches = async (host) => (await box.cmd(curl(host))).outputRaw === "200\n";
  try {
    // the policy of the claim holds for the first command
    assert.equal(await reaches("allowed.test"), true);
    assert.equal((await box.cmd(curl("denied.test"))).outputRaw, "000\n");
    assert.equal((await box.getNetworkPolicy()).mode, "block-all");

    await box.updateNetworkPolicy({ mode: "allow-all" });
    assert.equal(await reaches("denied.test"), true);
    await box.updateNetworkPolicy({ mode: "block-all" });
    assert.equal(await reaches("allowed.test"), false);
    await box.updateNetworkPolicy({ mode: "allow-all", egress: { deniedDomains: ["denied.test"] } });
    assert.equal(await reaches("denied.test"), false);
    assert.equal(await reaches("allowed.test"), true);
    const policy = { mode: "block-all", egress: { allowedDomains: ["allowed.test"] } };
    assert.deepEqual(plain(await box.updateNetworkPolicy(policy)), policy);
    assert.deepEqual(plain(await box.getNetworkPolicy()), policy);

    // commands
    const failed = await box.cmd("sh -c 'echo out; echo err >&2; exit 3'");
    assert.deepEqual([failed.stdout, failed.stderr, failed.exitCode], ["out\n", "err\n", 3]);
    const stream = await box.cmdStream("sh -c 'for i in 1 2 3; do echo $i; done'");
    let text = "";
    for await (const piece of stream.outputs()) text += piece.data;
    assert.equal(text, "1\n2\n3\n");
    const context = await box.createContext({ type: "cmd", cmd: { command: ["sleep", "600"] } });
    assert.equal((await box.getContext(context.id)).running, true);
    assert.ok((await box.listContexts()).some((c) => c.id === context.id));

    // files
    await box.mkdir("site");
    await box.writeFile("site/index.html", "hello");
    assert.equal(Buffer.from(await box.readFile("site/index.html")).toString(), "hello");
    assert.deepEqual((await box.listFiles("site")).map((f) => f.name), ["index.html"]);

    // a service
    await box.createContext({ type: "cmd", cmd: {
      command: ["python3", "-m", "http.server", "-d", "/workspace/site", "8000"] } });
    const { services } = await box.updateServices([
      { id: "site", port: 8000, ingress: { _public: true, routes: [{ id: "site", resume: true }] } },
    ]);
    const site = async () => {
      const answer = await fetch(services[0].publicUrl);
      return answer.status === 200 ? answer.text() : answer.status;
    };
    await until("the site", async () => (await site()) === "hello");

    // pause and resume: processes, services and the policy stay
    await client.sandboxes.pauseAndWait(box.id);
    assert.equal(await site(), "hello"); // which woke it
    await client.sandboxes.pauseAndWait(box.id);
    await client.sandboxes.resumeAndWait(box.id);
    assert.equal((await box.getContext(context.id)).running, true);
    assert.deepEqual(plain(await box.getNetworkPolicy()), policy);
    assert.equal(await reaches("allowed.test"), true);
    assert.equal(await reaches("denied.test"), false);
    await box.deleteContext(context.id);
    await until("it in the list", () => listed(box.id));
  } finally {
    await client.sandboxes.delete(box.id);
  }
  assert.equal(await listed(box.id), false);
  await assert.rejects(client.sandboxes.get(box.id), refused(404, "not_found"));
});
