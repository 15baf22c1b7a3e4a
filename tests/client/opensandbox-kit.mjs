// What the OpenSandbox client's tests share: sandboxes that end with their test, and what an error is.
import assert from "node:assert/strict";
import { Sandbox } from "@alibaba-group/opensandbox";

export const IMAGE = "devbox:1";
export const RESOURCE = { cpu: "1", memory: "256Mi" };

// withSandbox({networkPolicy: …}, async (sbx) => …). The host role's own word says that it runs: a
// test about the lifecycle asks nothing of what is inside.
export async function withSandbox(options, use) {
  const sbx = await Sandbox.create({
    image: IMAGE, resource: RESOURCE, timeoutSeconds: 600, skipHealthCheck: true, ...options,
  });
  try {
    return await use(sbx);
  } finally {
    await sbx.kill().catch(() => {});
    await sbx.close();
  }
}

// The client's own exception, with the server's status, code and request id.
export async function fails(promise, status, code) {
  const error = await promise.then(() => null, (e) => e);
  assert.ok(error, "it was to fail");
  assert.equal(error.statusCode, status, String(error));
  assert.equal(error.error?.code, code, String(error));
  assert.ok(error.requestId, "the request id is told");
  return error;
}

export const allow = (target) => ({ action: "allow", target });
export const deny = (target) => ({ action: "deny", target });
