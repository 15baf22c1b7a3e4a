// Egress as the client sees it. (What each rule means is tests/netlab's subject.)
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CreateosSandboxValidationError } from "@nodeops-createos/sandbox";
import { client, variant, withSandbox } from "./kit.mjs";

const curl = (box, url) => box.runCommand("curl",
  ["-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]);

describe(`egress, ${variant}`, { concurrency: 4 }, () => {
  it("get, set, live", { skip: process.env.WEIR_LAB ? false : "no lab" }, async () => {
    await withSandbox({ egress: ["allowed.test"] }, async (box) => {
      assert.deepEqual((await box.getEgress()).egress, ["allowed.test"]);
      assert.equal((await curl(box, "https://allowed.test/")).result.stdout, "200");
      assert.equal((await curl(box, "https://denied.test/")).result.exit_code, 6);

      const view = await box.setEgress(["denied.test:443"]);
      assert.deepEqual(view.egress, ["denied.test:443"]);
      assert.equal((await curl(box, "https://denied.test/")).result.stdout, "200");
      assert.equal((await curl(box, "http://denied.test/")).result.exit_code, 7);
      assert.equal((await curl(box, "https://allowed.test/")).result.exit_code, 6);

      for (const all of [null, [], ["*"]]) {
        await box.setEgress(["allowed.test"]);
        await box.setEgress(all);
        assert.equal((await curl(box, "https://denied.test/")).result.stdout, "200");
      }
    });
  });

  it("bad rules are named, and nothing changes", async () => {
    await withSandbox({ egress: ["allowed.test"] }, async (box) => {
      for (const bad of ["host:99999", "a..b", "http://x.test", "*.", "10.0.0.0/33", "a.*.b",
        "169.254.169.254", "127.0.0.1"]) {
        await assert.rejects(box.setEgress(["ok.test", bad]), (e) =>
          e instanceof CreateosSandboxValidationError && e.message.includes(bad) &&
          e.message.includes("egress"));
      }
      assert.deepEqual((await box.getEgress()).egress, ["allowed.test"]);
    });
  });

  it("rules are echoed as they were given", async () => {
    const rules = ["Allowed.TEST", "*.x.test:8443", "10.1.2.3", "10.0.0.0/8:80", "[2001:db8::1]:443"];
    await withSandbox({ egress: rules }, async (box) => {
      assert.deepEqual((await client.getSandbox(box.id)).data.egress, rules);
    });
  });
});
