// Ingress: the preview URL works the moment create answers, in both schemes, and follows setIngress.
import assert from "node:assert/strict";
import { test } from "node:test";
import { listening, variant, withSandbox } from "./kit.mjs";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"; // the daemon's certificate is its own

const serve = (box) => box.sh("echo hello >/root/index.html; cd /root && " +
  `(setsid python3 -m http.server 8000 >/dev/null 2>&1 </dev/null &); ${listening(8000)}`);

async function status(url) {
  const r = await fetch(url, { headers: { Connection: "close" } });
  await r.arrayBuffer();
  return r.status;
}

test(`ingress, ${variant}`, { concurrency: 4 }, async (t) => {
  await t.test("reachable right after create, fetched once", async () => {
    await withSandbox({ ingress_enabled: true }, async (box) => {
      assert.equal(await status(`${box.previewUrl(8000)}/`), 502); // routed; nothing listens yet
      await serve(box);
      for (const url of [box.previewUrl(8000), box.previewUrl(8000).replace(/^http:/, "https:"),
        box.previewUrl(8000, { scheme: "http" })]) {
        const r = await fetch(`${url}/index.html`);
        assert.equal(r.status, 200, url);
        assert.equal(await r.text(), "hello\n");
      }
    });
  });

  await t.test("setIngress toggles it at once", async () => {
    await withSandbox({}, async (box) => {
      await serve(box);
      assert.throws(() => box.previewUrl(8000));
      await box.setIngress(true);
      const url = `${box.previewUrl(8000)}/`;
      assert.equal(await status(url), 200);
      await box.setIngress(false);
      assert.throws(() => box.previewUrl(8000));
      assert.equal(await status(url), 404);
      await box.setIngress(true);
      assert.equal(`${box.previewUrl(8000)}/`, url);
      assert.equal(await status(url), 200);
    });
  });

  await t.test("paused: 503; resumed: the same address", async () => {
    await withSandbox({ ingress_enabled: true }, async (box) => {
      await serve(box);
      const url = `${box.previewUrl(8000)}/`;
      await box.pause();
      await box.waitUntilPaused();
      assert.equal(await status(url), 503);
      await box.resume();
      await box.waitUntilRunning();
      assert.equal(await status(url), 200);
    });
  });
});
