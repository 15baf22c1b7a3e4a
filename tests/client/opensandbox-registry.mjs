// The published client, unmodified, and images of registries: tests/product/test_pull.py starts it, with
// registries and a daemon that fetches from them.
import assert from "node:assert/strict";
import test from "node:test";
import { fails, withSandbox } from "./opensandbox-kit.mjs";

const { WEIR_PUBLIC, WEIR_PRIVATE, WEIR_LOGIN, WEIR_PASSWORD } = process.env;
const FAILED = "DOCKER::SANDBOX_IMAGE_PULL_FAILED";
const resource = { cpu: "1", memory: "128Mi" };

const says = async (sbx) => {
  const done = await sbx.commands.run("cat /etc/kept");
  return done.logs.stdout.map((m) => m.text).join("").trim();
};

test("a public image, by its place", () =>
  withSandbox({ image: `${WEIR_PUBLIC}/team/shell:1`, resource }, async (sbx) => {
    assert.equal(await says(sbx), "public");
    assert.equal((await sbx.getInfo()).image.uri, `${WEIR_PUBLIC}/team/shell:1`);
  }));

test("a private image, with credentials", () =>
  withSandbox({ image: { uri: `${WEIR_PRIVATE}/team/mine:1`,
    auth: { username: WEIR_LOGIN, password: WEIR_PASSWORD } }, resource }, async (sbx) => {
    assert.equal(await says(sbx), "private");
    assert.equal((await sbx.getInfo()).image.auth, undefined);
  }));

test("without them, and one that is not there", async () => {
  const none = async () => assert.fail("it was to be refused");
  const denied = await fails(withSandbox({ image: `${WEIR_PRIVATE}/team/mine:1`, resource }, none), 500, FAILED);
  assert.match(denied.error.message, /credentials/);
  const unknown = await fails(withSandbox({ image: `${WEIR_PUBLIC}/team/none:1`, resource }, none), 500, FAILED);
  assert.match(unknown.error.message, /no such image/);
});
