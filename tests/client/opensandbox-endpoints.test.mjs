// The published OpenSandbox client: endpoints lead to the port they name, of the sandbox they name.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, until } from "./kit.mjs";
import { withSandbox } from "./opensandbox-kit.mjs";

test("OpenSandbox endpoints: same ports, different sandboxes", async () => {
  const serve = (sbx, text) => client.getSandbox(sbx.id).then((same) =>
    same.runCommand("sh", ["-c", `for p in 8080 3000; do mkdir -p /srv/$p; echo "${text} $p" >/srv/$p/index.html
      setsid python3 -m http.server -d /srv/$p $p >/dev/null 2>&1 & done`]));
  await withSandbox({}, (one) => withSandbox({}, async (two) => {
    await serve(one, "one");
    await serve(two, "two");
    for (const [sbx, name] of [[one, "one"], [two, "two"]])
      for (const port of [8080, 3000]) {
        const url = await sbx.getEndpointUrl(port);
        assert.equal(await until(url, () => fetch(url + "/").then((r) => r.ok && r.text(), () => false)),
          `${name} ${port}\n`);
      }
  }));
});
