// What the client tests share: a client from the environment, sandboxes that end with their test.
import { createRequire } from "node:module";
import { createClient } from "@nodeops-createos/sandbox";
export { machines } from "./runtime.mjs";
export { listening, until } from "./until.mjs";

export const SHAPE = "s-1vcpu-256mb";
export const client = createClient();
export const variant = process.env.WEIR_VARIANT ?? "as installed";

export function hasUndici() {
  try {
    createRequire(import.meta.url).resolve("undici");
    return true;
  } catch {
    return false;
  }
}

// withSandbox({egress: […]}, async (box) => …)
export async function withSandbox(request, use) {
  const box = await client.createSandbox({ shape: SHAPE, ...request });
  try {
    return await use(box);
  } finally {
    await box.destroy().catch(() => {});
  }
}

export const uniqueName = (prefix) => `${prefix}-${Math.random().toString(36).slice(2, 8)}`;
