// The published OpenSandbox client and the lab: policies at create and at run time, with packets.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client } from "./kit.mjs";
import { allow, deny, fails, withSandbox } from "./opensandbox-kit.mjs";

const opts = { concurrency: 4 };

// curl's exit code, seen from inside: 0 reached, 6 no such name, 7 refused.
async function curl(sbx, host) {
  const same = await client.getSandbox(sbx.id);
  const r = await same.runCommand("curl", ["-sS", "-o", "/dev/null", "--max-time", "10", `http://${host}/`]);
  return r.result.exit_code;
}

test("OpenSandbox egress", opts, async (t) => {
  await t.test("allowed names are reached, others do not exist", async () => {
    await withSandbox({ networkPolicy: { egress: [allow("allowed.test")] } }, async (sbx) => {
      assert.deepEqual(await sbx.getEgressPolicy(),
        { defaultAction: "deny", egress: [allow("allowed.test")] });
      assert.equal(await curl(sbx, "allowed.test"), 0);
      assert.equal(await curl(sbx, "denied.test"), 6);
    });
  });

  await t.test("rules are patched and removed without a restart", async () => {
    await withSandbox({ networkPolicy: { defaultAction: "deny", egress: [] } }, async (sbx) => {
      assert.equal(await curl(sbx, "allowed.test"), 6);
      await sbx.patchEgressRules([allow("allowed.test")]);
      assert.equal(await curl(sbx, "allowed.test"), 0);
      await sbx.patchEgressRules([deny("ALLOWED.test")]);
      assert.equal(await curl(sbx, "allowed.test"), 6);
      assert.deepEqual((await sbx.getEgressPolicy()).egress, [deny("ALLOWED.test")]);
      await sbx.patchEgressRules([allow("allowed.test")]);
      await sbx.deleteEgressRules(["Allowed.Test", "nobody.test"]);
      assert.deepEqual((await sbx.getEgressPolicy()).egress, []);
      assert.equal(await curl(sbx, "allowed.test"), 6);
    });
  });

  await t.test("a specific exception goes in front of a wider denial", async () => {
    await withSandbox({ networkPolicy: { defaultAction: "allow", egress: [deny("*.wild.test")] } },
      async (sbx) => {
        assert.equal(await curl(sbx, "a.wild.test"), 6);
        assert.equal(await curl(sbx, "allowed.test"), 0);
        await sbx.patchEgressRules([allow("a.wild.test")]);
        assert.equal(await curl(sbx, "a.wild.test"), 0);
        assert.equal(await curl(sbx, "b.wild.test"), 6);
      });
  });

  await t.test("without a policy everything is reached, and one can be set later", async () => {
    await withSandbox({}, async (sbx) => {
      assert.deepEqual(await sbx.getEgressPolicy(), { defaultAction: "allow", egress: [] });
      assert.equal(await curl(sbx, "denied.test"), 0);
    });
  });

  await t.test("what does not read changes nothing", async () => {
    await withSandbox({ networkPolicy: { egress: [allow("allowed.test")] } }, async (sbx) => {
      for (const rules of [[], [allow("")], [{ action: "let", target: "a.test" }],
        [allow("169.254.169.254")], [allow("a..b")]]) {
        const error = await sbx.patchEgressRules(rules).then(() => null, (e) => e);
        assert.equal(error?.statusCode, 400, JSON.stringify(rules));
      }
      assert.deepEqual((await sbx.getEgressPolicy()).egress, [allow("allowed.test")]);
    });
  });

  await t.test("a policy changed while paused is in force after the resume", async () => {
    await withSandbox({ networkPolicy: { egress: [allow("allowed.test")] } }, async (sbx) => {
      await sbx.pause();
      await sbx.patchEgressRules([deny("allowed.test"), allow("other.test")]);
      await sbx.sandboxes.resumeSandbox(sbx.id);
      assert.equal(await curl(sbx, "allowed.test"), 6);
      assert.equal(await curl(sbx, "other.test"), 0);
    });
  });

  await t.test("the token of one sandbox is no key to another", async () => {
    await withSandbox({ networkPolicy: {} }, (one) => withSandbox({ networkPolicy: {} }, async (two) => {
      const here = await one.getEndpoint(18080), there = await two.getEndpoint(18080);
      const ask = (endpoint, headers) => fetch(`http://${endpoint.endpoint}/policy`, { headers });
      assert.equal((await ask(here, here.headers)).status, 200);
      assert.equal((await ask(there, here.headers)).status, 401);
      assert.equal((await ask(here, {})).status, 401);
      assert.equal((await ask(here, { "open-sandbox-api-key": process.env.OPEN_SANDBOX_API_KEY })).status, 401);
    }));
  });
});
