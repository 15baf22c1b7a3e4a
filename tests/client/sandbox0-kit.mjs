// What the sandbox0 tests share: a client from the environment, sandboxes that end with their test.
import { APIError, Client } from "sandbox0";
import { machines } from "./runtime.mjs";
export { until } from "./until.mjs";

export const client = new Client({
  token: process.env.SANDBOX0_TOKEN,
  baseUrl: process.env.SANDBOX0_BASE_URL,
});
const SIZE = machines ? { resources: { memory: "256Mi" } } : {};
export const lab = process.env.WEIR_LAB ? false : "no lab";

// withSandbox({network: {mode: "block-all"}}, async (box) => …)
export async function withSandbox(config, use) {
  const box = await client.sandboxes.claim("default", { hardTtl: 600, ...SIZE, ...config });
  try {
    return await use(box);
  } finally {
    await client.sandboxes.delete(box.id).catch(() => {});
  }
}

// Is it listed? A page is short, and other tests may have hundreds of rows that are newer, or going: on a busy
// machine those stay for a while. Where rows go meanwhile one may slip to a page that was read: ask until() so.
export async function listed(id, filter = {}) {
  for (let offset = 0; ; offset += 200) {
    const page = await client.sandboxes.list({ ...filter, limit: 200, offset });
    if (page.sandboxes.some((s) => s.id === id)) return true;
    if (!page.hasMore) return false;
  }
}

// A refusal of that status, code and text: for assert.rejects().
export const refused = (status, code, text) => (e) => {
  if (!(e instanceof APIError)) throw e;
  if (e.statusCode === status && e.code === code && (!text || e.message.includes(text))) return true;
  throw new Error(`${e.statusCode} ${e.code}: ${e.message}`);
};
