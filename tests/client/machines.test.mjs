// Sandboxes with a kernel of their own: what outlives a pause, what forks have of their source, a disk that
// grows. For daemons whose sandboxes are machines: of a container there is no memory to go on with.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CreateosSandboxValidationError } from "@nodeops-createos/sandbox";
import { until, variant, withSandbox } from "./kit.mjs";

const text = (buffer) => new TextDecoder().decode(buffer);
const BOOT = "cat /proc/sys/kernel/random/boot_id";

async function out(box, script) {
  return (await box.sh(script)).result.stdout;
}

test(`machines, ${variant}`, (t) => withSandbox({ envs: { WHO: "source" } }, async (box) => {
  const kernel = await out(box, BOOT);
  // A number that only a running process knows, told whenever the file with the question is gone.
  await box.sh(`(setsid sh -c 'n=0; while :; do n=$((n + 1)); [ -e /tmp/told ] || echo "$n $$" >/tmp/told; sleep 0.3; done' \
    >/dev/null 2>&1 </dev/null &); echo before >/dev/shm/memory; echo before >/root/disk`);
  const told = async (b) => {
    await b.sh("rm -f /tmp/told");
    return (await until("the process to tell", () => out(b, "cat /tmp/told 2>/dev/null || true"))).split(" ").map(Number);
  };
  const [n, pid] = await told(box);

  await t.test("resume, and a download at once", async () => {
    await box.pause();
    await box.waitUntilPaused();
    await assert.rejects(box.files.download("/root/disk"), CreateosSandboxValidationError);
    await box.resume();
    assert.equal(text(await box.files.download("/root/disk")), "before\n");
    await box.waitUntilRunning();
    const [later, same] = await told(box);
    assert.ok(later > n && same === pid, `${n} ${pid}, then ${later} ${same}`);
    assert.equal(await out(box, BOOT), kernel);
  });

  await t.test("its disk grows while it runs", async () => {
    const mib = async () => Number((await out(box, "df --output=size -BM / | tail -1")).trim().slice(0, -1));
    const before = await mib(), was = box.data.disk_mib;
    assert.equal((await box.resize(was + 1024)).disk_mib, was + 1024);
    assert.ok(await mib() > before + 900, `${before} MiB, then ${await mib()}`);
    await assert.rejects(box.resize(was), CreateosSandboxValidationError);
    assert.equal((await box.refresh()).data.disk_mib, was + 1024);
  });

  await box.pause();
  await box.waitUntilPaused();

  await t.test("a fork goes on, and is another", async () => {
    const fork = await box.fork({ envs: { WHO: "fork" } });
    try {
      await fork.waitUntilRunning();
      assert.equal(fork.data.forked_from, box.id);
      assert.ok(fork.id !== box.id && fork.ip !== box.ip && fork.name !== box.name);
      const [later, same] = await told(fork);
      assert.ok(later > n && same === pid, `${n} ${pid}, then ${later} ${same}`);
      assert.equal(await out(fork, `${BOOT}; cat /dev/shm/memory /root/disk; hostname; echo $WHO`),
        `${kernel}before\nbefore\n${fork.name}\nfork\n`);
      await fork.sh("echo after >/root/disk");
    } finally {
      await fork.destroy();
    }
  });

  await t.test("one that stays paused: resumed, paused again, destroyed", async () => {
    const fork = await box.fork({ start_paused: true });
    assert.equal(fork.status, "paused");
    assert.equal(fork.data.forked_from, box.id);
    await fork.waitUntilPaused();
    await assert.rejects(fork.runCommand("true"), CreateosSandboxValidationError);
    await fork.resume();
    assert.equal(await out(fork, "cat /dev/shm/memory /root/disk; echo $WHO"), "before\nbefore\nsource\n");
    await fork.pause();
    await fork.waitUntilPaused();
    await fork.destroy();
    await fork.waitUntilDestroyed();
  });

  await t.test("the source is what it was", async () => {
    await box.refresh();
    assert.equal(box.status, "paused");
    await box.resume();
    assert.equal(await out(box, "cat /dev/shm/memory /root/disk; echo $WHO"), "before\nbefore\nsource\n");
  });
}));
