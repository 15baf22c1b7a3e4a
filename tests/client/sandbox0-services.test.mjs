// Services and exposed ports, as sandbox0's client asks for them; their URLs are fetched for real.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { client, refused, until, withSandbox } from "./sandbox0-kit.mjs";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");
const service = (id, port, route = {}, more = {}) => ({
  id,
  port,
  ingress: { _public: true, routes: [{ id, resume: false, ...route }] },
  ...more,
});

// A server on this port that says which headers it saw.
const program = `
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        body = (sys.argv[1] + "\\n" + str(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), H).serve_forever()
`;
async function serve(box, port) {
  await box.writeFile("/tmp/serve.py", program);
  await box.createContext({ type: "cmd", cmd: { command: ["python3", "/tmp/serve.py", `${port}`] } });
}

async function get(url, headers = {}) {
  const answer = await fetch(url, { headers });
  return { status: answer.status, text: await answer.text() };
}
const url = async (box, id) => (await box.getServices()).services.find((s) => s.id === id).publicUrl;

// The routes of the first published form, which the client does not call any more.
async function raw(method, path, body) {
  const answer = await fetch(`${process.env.SANDBOX0_BASE_URL}/api/v1/sandboxes/${path}`, {
    method,
    headers: { Authorization: `Bearer ${process.env.SANDBOX0_TOKEN}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, ...(await answer.json()) };
}

test("sandbox0: services", { timeout: 300000 }, async (t) => {
  const config = { services: [service("web", 8000, {}, { displayName: "The web" })] };
  await withSandbox(config, async (box) => {
    await serve(box, 8000);
    await serve(box, 8001);

    await t.test("published at the claim, and nothing else is", async () => {
      const { services } = await box.getServices();
      assert.equal(services.length, 1);
      assert.equal(services[0].displayName, "The web");
      assert.equal(services[0].publishable, true);
      assert.equal(services[0].ingress._public, true);
      const web = services[0].publicUrl;
      await until("the server", async () => (await get(web)).status === 200);
      assert.match((await get(web)).text, /^8000\n/);
      const other = web.replace("8000", "8001");
      assert.notEqual(other, web);
      assert.equal((await get(other)).status, 404);
      await box.updateServices([service("web", 8000), service("other", 8001)]);
      await until("the other server", async () => (await get(other)).status === 200);
    });

    await t.test("a secret, which stays outside", async () => {
      const bearer = { mode: "bearer", bearerTokenSha256: sha256("open sesame") };
      const header = { mode: "header", headerName: "X-Door", headerValueSha256: sha256("42") };
      await box.updateServices([
        service("web", 8000, { auth: bearer }),
        service("other", 8001, { auth: header }),
      ]);
      const web = await url(box, "web");
      const other = await url(box, "other");
      assert.equal((await get(web)).status, 401);
      assert.equal((await get(web, { Authorization: "Bearer open" })).status, 401);
      const right = await get(web, { Authorization: "Bearer open sesame", "X-Mine": "passes" });
      assert.equal(right.status, 200);
      assert.match(right.text, /x-mine: passes/i);
      assert.doesNotMatch(right.text, /sesame/);
      assert.equal((await get(other)).status, 401);
      assert.equal((await get(other, { "X-Door": "41" })).status, 401);
      const door = await get(other, { "x-door": "42" });
      assert.equal(door.status, 200);
      assert.doesNotMatch(door.text, /x-door/i);
    });

    await t.test("one that wakes the sandbox, and one that does not", async () => {
      await box.updateServices([service("web", 8000, { resume: true }), service("other", 8001)]);
      const web = await url(box, "web");
      const other = await url(box, "other");
      await client.sandboxes.pauseAndWait(box.id);
      assert.equal((await get(other)).status, 503);
      assert.match((await get(web)).text, /^8000\n/);
      assert.equal((await client.sandboxes.get(box.id)).status, "running");
      await client.sandboxes.update(box.id, { config: { autoResume: false } });
      await client.sandboxes.pauseAndWait(box.id);
      assert.equal((await get(web)).status, 503); // the sandbox's gate is the first
      await client.sandboxes.update(box.id, { config: { autoResume: true } });
      assert.equal((await get(web)).status, 200);
    });

    await t.test("what is wrong, or not built, is named and changes nothing", async () => {
      const before = await box.getServices();
      const bad = [
        [[service("Web", 1)], "services[0].id"],
        [[service("web", 0)], "services[0].port"],
        [[service("web", 1028)], "reserved"],
        [[service("a", 1), service("a", 2)], "services[1].id"],
        [[service("a", 1), service("b", 1)], "services[1].port"],
        [[service("a", 1, { pathPrefix: "/x" })], "services[0].ingress.routes[0].path_prefix"],
        [[service("a", 1, { methods: ["GET"] })], "methods"],
        [[service("a", 1, { cors: { allowedOrigins: ["*"] } })], "cors"],
        [[service("a", 1, { rateLimit: { rps: 1, burst: 1 } })], "rate_limit"],
        [[service("a", 1, { timeoutSeconds: 3 })], "timeout_seconds"],
        [[service("a", 1, { rewritePrefix: "/" })], "rewrite_prefix"],
        [[service("a", 1, { auth: { mode: "bearer" } })], "auth.bearer_token_sha256"],
        [[service("a", 1, { auth: { mode: "secret" } })], "auth.mode"],
        [[service("a", 1, {}, { runtime: { type: "cmd", command: ["x"] } })], "runtime.type"],
        [[service("a", 1, {}, { healthCheck: { path: "/" } })], "health_check"],
        [Array.from({ length: 17 }, (_, i) => service(`s${i}`, 9000 + i)), "at most 16"],
      ];
      for (const [services, text] of bad)
        await assert.rejects(box.updateServices(services), refused(400, "bad_request", text));
      await assert.rejects(
        client.sandboxes.claim("default", { services: bad[5][0] }),
        refused(400, "bad_request", "config.services[0].ingress.routes[0].path_prefix"),
      );
      assert.deepEqual(await box.getServices(), before);
      assert.equal((await raw("PUT", `${box.id}/services`, {})).status, 400);
      assert.equal((await get(await url(box, "web"))).status, 200);
    });

    await t.test("exposed ports, as they were before services", async () => {
      const ports = [{ port: 8000, resume: true }, { port: 8001 }];
      const put = await raw("PUT", `${box.id}/exposed-ports`, { ports });
      assert.equal(put.status, 200, JSON.stringify(put));
      const shown = put.data.exposed_ports;
      assert.deepEqual(shown.map((p) => [p.port, p.resume]), [[8000, true], [8001, false]]);
      assert.equal((await get(shown[1].public_url)).status, 200);
      assert.deepEqual((await raw("GET", `${box.id}/exposed-ports`)).data, put.data);
      assert.equal((await raw("DELETE", `${box.id}/exposed-ports/8001`)).status, 200);
      assert.equal((await raw("DELETE", `${box.id}/exposed-ports/8001`)).status, 404);
      assert.equal((await get(shown[1].public_url)).status, 404);
      assert.equal((await get(shown[0].public_url)).status, 200);
      assert.equal((await raw("DELETE", `${box.id}/exposed-ports`)).status, 200);
      assert.equal((await get(shown[0].public_url)).status, 404);
      const wrong = await raw("PUT", `${box.id}/exposed-ports`, { ports: [{ port: 70000 }] });
      assert.equal(wrong.status, 400);
      assert.match(wrong.error.message, /exposed_ports\[0\]\.port/);
    });

    await t.test("cleared", async () => {
      await box.updateServices([service("web", 8000)]);
      const web = await url(box, "web");
      assert.equal((await get(web)).status, 200);
      await box.clearServices();
      assert.deepEqual((await box.getServices()).services, []);
      assert.equal((await get(web)).status, 404);
    });
  });
});
