// Every error class that the client knows, from the real server where the server can be made to.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, it } from "node:test";
import * as sdk from "@nodeops-createos/sandbox";
import { SHAPE, client, uniqueName, variant, withSandbox } from "./kit.mjs";

describe(`errors, ${variant}`, { concurrency: 4 }, () => {
  it("401: a wrong key", async () => {
    const stranger = sdk.createClient({ apiKey: "weir_not_a_key", baseUrl: client.baseUrl });
    await assert.rejects(stranger.whoami(), (e) => e instanceof sdk.CreateosSandboxAuthError &&
      e.statusCode === 401 && Boolean(e.requestId));
  });

  it("404: an unknown sandbox", async () => {
    const id = "sb-01jq2m8z6k3v9x4c7b5n1t0hga";
    await assert.rejects(client.getSandbox(id), (e) => e instanceof sdk.CreateosSandboxNotFoundError &&
      e.resourceId === id && e.message.includes("not found"));
  });

  it("400: an unknown shape, a long name, an unknown image", async () => {
    for (const [request, key] of [[{ shape: "s-9vcpu-9gb" }, "shape"],
      [{ shape: SHAPE, name: "x".repeat(23) }, "name"], [{ shape: SHAPE, rootfs: "nix:1" }, "rootfs"],
      [{ shape: SHAPE, auto_pause_after_seconds: 5 }, "auto_pause_after_seconds"]]) {
      await assert.rejects(client.createSandbox(request), (e) =>
        e instanceof sdk.CreateosSandboxValidationError && e.statusCode === 400 &&
        e.message.includes(key));
    }
  });

  it("409: a name that is taken, free again when destroyed", async () => {
    const name = uniqueName("twice");
    await withSandbox({ name }, async (box) => {
      await assert.rejects(client.createSandbox({ shape: SHAPE, name }), (e) =>
        e instanceof sdk.CreateosSandboxValidationError && e.statusCode === 409);
      await box.destroy();
      await box.waitUntilDestroyed();
    });
    await withSandbox({ name }, async (box) => assert.equal(box.name, name));
  });

  it("409: the wrong state", async () => {
    await withSandbox({}, async (box) => {
      await box.pause();
      await box.waitUntilPaused();
      await assert.rejects(box.runCommand("true"), (e) => e.statusCode === 409 &&
        e.message.includes("paused"));
    });
  });

  it("501: what is not built is not pretended", async () => {
    await withSandbox({}, async (box) => {
      await assert.rejects(box.resize(1 << 20, { retry: false }).then(() =>
        box.fork({ retry: false })), (e) =>
        e instanceof sdk.CreateosSandboxApiError && e.statusCode >= 400);
    });
  });

  it("the deadline of a request", async () => {
    await withSandbox({}, async (box) => {
      await assert.rejects(box.runCommand("sleep", ["30"], { timeoutMs: 300 }),
        sdk.CreateosSandboxTimeoutError);
      await assert.rejects(box.waitUntilPaused({ timeoutMs: 600 }), sdk.CreateosSandboxTimeoutError);
    });
  });

  it("nobody there", async () => {
    const gone = sdk.createClient({ apiKey: "k", baseUrl: "http://127.0.0.1:9", retry: false });
    await assert.rejects(gone.whoami(), sdk.CreateosSandboxConnectionError);
  });

  // Classes that this server never needs by itself come from a stand-in that speaks its envelopes,
  // so that the form of our errors is proved for each.
  const cases = [[402, "PaymentRequired"], [403, "Permission"], [429, "RateLimit"], [422, "Validation"],
    [500, "Server"], [503, "Server"]];
  it("the remaining classes", async () => {
    const server = createServer((q, s) => {
      const status = Number(q.url.split("/").pop()) || 200; // 200: the client's warm-up
      s.writeHead(status, { "content-type": "application/json", "retry-after": "7" });
      s.end(status >= 500 ? JSON.stringify({ status: "error", message: "m", code: status })
        : JSON.stringify({ status: "fail", data: { quota: "limit reached" } }));
    });
    await new Promise((r) => server.listen(0, "127.0.0.1", r));
    const stub = sdk.createClient({ apiKey: "k", retry: false,
      baseUrl: `http://127.0.0.1:${server.address().port}` });
    for (const [status, name] of cases) {
      await assert.rejects(stub.http.request("GET", `/v1/x/${status}`, { retry: false }), (e) =>
        e instanceof sdk[`CreateosSandbox${name}Error`] && e.statusCode === status);
    }
    server.close();
    server.closeAllConnections();
  });
});
