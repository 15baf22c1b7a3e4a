// The published OpenSandbox client behind an ingress gateway, with secureAccess: it asks for endpoints and
// sends the headers that they come with, to execd, to the egress API and to services. The daemon is one of
// its own, since a gateway is a setting of all endpoints.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConnectionConfig, Sandbox } from "@alibaba-group/opensandbox";
import { withDaemon } from "./daemon.mjs";
import { allow, fails, withSandbox } from "./opensandbox-kit.mjs";
import { until } from "./until.mjs";

const GUARD = "OpenSandbox-Secure-Access";
const TO = "OpenSandbox-Ingress-To";
const later = () => Math.floor(Date.now() / 1000) + 600;

async function works(sbx) {
  const r = await sbx.commands.run("echo $((6 * 7))");
  assert.deepEqual([r.exitCode, r.logs.stdout.map((l) => l.text)], [0, ["42"]]);
  await sbx.files.writeFiles([{ path: "/tmp/gate", data: "x" }]);
  assert.equal(await sbx.files.readFile("/tmp/gate"), "x");
}

const visit = (endpoint, headers, path = "/") => fetch(`http://${endpoint.endpoint}${path}`, { headers });

async function serve(sbx, text) {
  await sbx.commands.run(`mkdir -p /srv/www; echo ${text} >/srv/www/index.html
    setsid python3 -m http.server -d /srv/www 3000 >/dev/null 2>&1 </dev/null &`);
  const endpoint = await sbx.getEndpoint(3000);
  await until("the service listens", () => visit(endpoint, endpoint.headers).then((r) => r.ok));
  return endpoint;
}

test("OpenSandbox client behind a gateway", { timeout: 240_000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "weir-gate-"));
  const keys = join(dir, "keys");

  writeFileSync(keys, `k = ${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  try {
    await withDaemon({ "gateway.mode": "header", "gateway.keys": keys }, async ({ domain, key, about }) => {
      const config = (more) => new ConnectionConfig({ domain, apiKey: key, ...more });
      const gateway = readFileSync(`${JSON.parse(readFileSync(about)).run_dir}/ingress.addr`, "utf8").split(/\s/)[0];

      await t.test("secureAccess: every call of the client finds its way", () =>
        withSandbox({ connectionConfig: config(), secureAccess: true, skipHealthCheck: false,
          networkPolicy: { defaultAction: "deny", egress: [allow("a.test")] } }, async (sbx) => {
          const endpoint = await sbx.getEndpoint(44772);
          assert.deepEqual([endpoint.endpoint, endpoint.headers[TO]], [gateway, `${sbx.id}-44772`]);
          await works(sbx);
          assert.equal((await sbx.getEgressPolicy()).egress.length, 1);
          await sbx.patchEgressRules([allow("b.test")]);
          assert.equal((await sbx.getEgressPolicy()).egress.length, 2);
          const again = await Sandbox.connect({ sandboxId: sbx.id, connectionConfig: config() });
          await works(again);
          await again.close();
          // The token is what let it in.
          assert.equal((await visit(endpoint, endpoint.headers, "/ping")).status, 200);
          assert.equal((await visit(endpoint, { [TO]: endpoint.headers[TO] }, "/ping")).status, 401);
        }));

      await t.test("signed endpoints, and those of another sandbox and port", () =>
        withSandbox({ connectionConfig: config(), secureAccess: true }, (one) =>
          withSandbox({ connectionConfig: config(), secureAccess: true }, async (two) => {
            const open = await serve(one, "one");
            assert.equal(await (await visit(open, open.headers)).text(), "one\n");
            assert.equal((await visit(open, { [TO]: open.headers[TO] })).status, 401);
            const signed = await one.getSignedEndpoint(3000, later());
            assert.deepEqual(Object.keys(signed.headers), [TO]);
            assert.equal(await (await visit(signed, signed.headers)).text(), "one\n");
            const [, , , at, sig] = signed.headers[TO].split("-");
            const others = (await two.getEndpoint(3000)).headers[GUARD];
            for (const wrong of [{ [TO]: `${one.id}-3001-${at}-${sig}` }, { [TO]: `${two.id}-3000-${at}-${sig}` },
              { [TO]: `${one.id}-3000-${at}-${"0".repeat(8)}k` }, { [TO]: `${one.id}-3000`, [GUARD]: others },
              { ...signed.headers, [GUARD]: others }])
              assert.equal((await visit(signed, wrong)).status, 401, JSON.stringify(wrong));
            await fails(one.getSignedEndpoint(3000, later() - 1200), 400, "SANDBOX::INVALID_PARAMETER");
          })));

      await t.test("secureAccess through the server's proxy", () =>
        withSandbox({ connectionConfig: config({ useServerProxy: true }), secureAccess: true, skipHealthCheck: false },
          async (sbx) => {
            await works(sbx);
            const bare = await fetch(`http://${domain}/sandboxes/${sbx.id}/proxy/44772/ping`);
            assert.deepEqual([bare.status, (await bare.json()).code], [401, "MISSING_OR_INVALID_SECURE_ACCESS"]);
          }));

      await t.test("without secureAccess whoever is told where may come", () =>
        withSandbox({ connectionConfig: config(), skipHealthCheck: false }, async (sbx) => {
          await works(sbx);
          const open = await serve(sbx, "open");
          assert.deepEqual(Object.keys(open.headers), [TO]);
          await sbx.pause();
          assert.equal((await visit(open, open.headers)).status, 503);
        }));
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
