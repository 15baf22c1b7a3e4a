// The published OpenSandbox client where knowing a sandbox's id is not enough: it sends what the endpoint
// answer told it to, and asks for nothing more than it ever did.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Sandbox } from "@alibaba-group/opensandbox";
import { client, withSandbox as withBox } from "./kit.mjs";
import { withSandbox } from "./opensandbox-kit.mjs";

const api = `http://${process.env.OPEN_SANDBOX_DOMAIN}`;

// What one can do who knows the id and has nothing else.
const withId = (id) => fetch(`${api}/sandboxes/${id}/proxy/44772/ping`).then((r) => r.status);

async function works(sbx) {
  const r = await sbx.commands.run("echo $((6 * 7))");
  assert.deepEqual([r.exitCode, r.logs.stdout.map((l) => l.text)], [0, ["42"]]);
  await sbx.files.writeFiles([{ path: "/tmp/guard", data: "x" }]);
  assert.equal(await sbx.files.readFile("/tmp/guard"), "x");
}

async function connected(options, use) {
  const sbx = await Sandbox.connect(options);
  try {
    return await use(sbx);
  } finally {
    await sbx.close();
  }
}

for (const useServerProxy of [false, true]) {
  const connectionConfig = { useServerProxy };

  test(`OpenSandbox client, opened to visitors, useServerProxy=${useServerProxy}`, () =>
    withSandbox({ connectionConfig, skipHealthCheck: false }, async (sbx) => {
      await works(sbx);
      assert.equal(await withId(sbx.id), 200);
      await (await client.getSandbox(sbx.id)).setIngress(true);
      assert.equal(await withId(sbx.id), 401);
      await works(sbx); // which asked for the endpoint before
      await connected({ sandboxId: sbx.id, connectionConfig }, works);
    }));

  test(`OpenSandbox client, another API's sandbox, useServerProxy=${useServerProxy}`, () =>
    withBox({ ingress_enabled: true }, async (box) => {
      assert.equal(await withId(box.id), 401);
      await connected({ sandboxId: box.id, connectionConfig }, works);
    }));

  test(`OpenSandbox client, EXECD_ACCESS_TOKEN, useServerProxy=${useServerProxy}`, () => {
    const token = "of-the-users-own-choice";
    const mine = { useServerProxy, headers: { "X-EXECD-ACCESS-TOKEN": token } };

    return withSandbox({ connectionConfig: mine, skipHealthCheck: false, env: { EXECD_ACCESS_TOKEN: token } },
      async (sbx) => {
        await works(sbx);
        assert.equal(await withId(sbx.id), 401);
        await connected({ sandboxId: sbx.id, connectionConfig, skipHealthCheck: true }, async (other) => {
          const error = await other.commands.run("true").then(() => null, (e) => e);
          assert.equal(error?.statusCode, 401, String(error));
        });
      });
  });
}
