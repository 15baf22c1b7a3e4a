// The published OpenSandbox client: the calls that the other files have no need of, both ways to a
// sandbox; and each of its exceptions that a server is a cause of.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ConnectionConfig, Sandbox, SandboxApiException, SandboxManager, SandboxReadyTimeoutException,
} from "@alibaba-group/opensandbox";
import { IMAGE, RESOURCE, allow, fails, withSandbox } from "./opensandbox-kit.mjs";

async function events(stream) {
  const seen = [];
  for await (const e of stream) if (e.type !== "ping") seen.push(e.text === undefined ? e.type : `${e.type} ${e.text}`);
  return seen;
}
const ran = (id, ...lines) => [`init ${id}`, ...lines, "execution_complete"];

for (const useServerProxy of [false, true]) {
  const connectionConfig = new ConnectionConfig({ useServerProxy });
  const options = { connectionConfig, skipHealthCheck: false, networkPolicy: { egress: [allow("allowed.test")] } };

  test(`OpenSandbox client, its other calls, useServerProxy=${useServerProxy}`, () => withSandbox(options, async (sbx) => {
    const manager = SandboxManager.create({ connectionConfig });
    const gone = [];
    try {
      for (const port of [44772, 18080, 3000, 8080]) {
        const { endpoint } = await sbx.getEndpoint(port);
        assert.equal(endpoint.includes(`/sandboxes/${sbx.id}/proxy/${port}`), useServerProxy, endpoint);
      }
      assert.equal(await sbx.isHealthy(), true);
      await sbx.waitUntilReady({ readyTimeoutSeconds: 20, pollingIntervalMillis: 50 });
      const commands = await events(sbx.commands.runStream("echo one; echo two >&2"));
      assert.deepEqual(commands.slice(1).sort(), ["execution_complete", "stderr two", "stdout one"]);
      const session = await sbx.commands.createSession();
      assert.deepEqual(await events(sbx.commands.runInSessionStream(session, "cd /tmp; pwd")),
        ran(session, "stdout /tmp"));
      await sbx.commands.deleteSession(session);
      await sbx.files.writeFiles([{ path: "/tmp/r", data: "a b a" }]);
      await sbx.files.replaceContents([{ path: "/tmp/r", oldContent: "a", newContent: "c" }]);
      assert.equal(await sbx.files.readFile("/tmp/r"), "c b c");
      assert.ok((await sbx.getMetrics()).cpuCount >= 1);
      await sbx.patchEgressRules([allow("other.test")]);
      await sbx.deleteEgressRules(["allowed.test"]);
      assert.deepEqual((await sbx.getEgressPolicy()).egress, [allow("other.test")]);

      await sbx.pause();
      assert.equal(await sbx.isHealthy(), false);
      const late = await Sandbox.connect({ sandboxId: sbx.id, connectionConfig, readyTimeoutSeconds: 1 })
        .then(() => null, (e) => e);
      assert.ok(late instanceof SandboxReadyTimeoutException, String(late));
      const same = await sbx.resume();
      gone.push(same);
      assert.equal(await same.files.readFile("/tmp/r"), "c b c");
      await manager.pauseSandbox(sbx.id);
      const again = await Sandbox.resume({ sandboxId: sbx.id, connectionConfig });
      gone.push(again);
      assert.equal(again.id, sbx.id);
      assert.equal(await again.files.readFile("/tmp/r"), "c b c");
      await manager.renewSandbox(sbx.id, 3600);
      const info = await manager.getSandboxInfo(sbx.id);
      assert.equal(info.status.state, "Running");
      assert.ok(Math.abs(info.expiresAt - Date.now() - 3_600_000) < 20_000);
      await manager.killSandbox(sbx.id);
      await fails(manager.getSandboxInfo(sbx.id), 404, "DOCKER::SANDBOX_NOT_FOUND");
    } finally {
      for (const one of gone) await one.close();
      await manager.close();
    }
  }));
}

test("OpenSandbox client, its exceptions", () => withSandbox({ skipHealthCheck: false }, async (sbx) => {
  const wrong = SandboxManager.create({ connectionConfig: new ConnectionConfig({ apiKey: "x" }) });
  const create = (o) => Sandbox.create({ image: IMAGE, resource: RESOURCE, skipHealthCheck: true, ...o });
  try {
    for (const [call, status, code] of [
      [() => create({ timeoutSeconds: 1 }), 400, "SANDBOX::INVALID_PARAMETER"],
      [() => wrong.listSandboxInfos(), 401, "INVALID_API_KEY"],
      [() => sbx.files.getFileInfo(["/none"]), 404, "FILE_NOT_FOUND"],
      [() => sbx.commands.getCommandStatus("none"), 404, "CONTEXT_NOT_FOUND"],
      [() => sbx.sandboxes.resumeSandbox(sbx.id), 409, "DOCKER::SANDBOX_NOT_PAUSED"],
      [() => sbx.getSignedEndpoint(3000, Math.floor(Date.now() / 1000) + 60), 400, "SANDBOX::API_NOT_SUPPORTED"],
      [() => sbx.getEndpoint(70000), 400, "DOCKER::INVALID_PORT"],
      [() => create({ image: "nowhere.invalid/none:1" }), 500, "DOCKER::SANDBOX_IMAGE_PULL_FAILED"],
      [() => sbx.files.deleteFiles(["/tmp"]), 500, "RUNTIME_ERROR"],
    ]) {
      const error = await fails(call(), status, code);
      assert.ok(error instanceof SandboxApiException, String(error));
      assert.ok(error.error.message, "it says why");
    }
    const text = await sbx.patchEgressRules([]).then(() => null, (e) => e); // the egress API's are plain text
    assert.ok(text instanceof SandboxApiException && text.statusCode === 400, String(text));
    const nobody = await Sandbox.connect({ sandboxId: "sb-00000000000000000000000000" }).then(() => null, (e) => e);
    assert.ok(nobody instanceof SandboxApiException && nobody.statusCode === 404, String(nobody));
  } finally {
    await wrong.close();
  }
}));
