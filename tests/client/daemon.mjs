// A daemon of its own for tests that need other settings: below tools/with-daemon, as all of them are.
//
//	await withDaemon({ "gateway.mode": "header" }, async ({ domain, key, about }) => …)
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const ROOT = process.env.WEIR_ROOT;

export async function withDaemon(settings, use) {
  const set = Object.entries(settings).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  const script = 'echo "$OPEN_SANDBOX_DOMAIN $OPEN_SANDBOX_API_KEY $WEIR_DAEMON"; exec cat >/dev/null';
  const child = spawn(`${ROOT}/tools/with-daemon`, [...set, "--", "sh", "-c", script], {
    env: { ...process.env, WEIR_NO_BUILD: "1" }, stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  try {
    const line = await Promise.race([once(createInterface(child.stdout), "line"), ended]);
    if (typeof line[0] !== "string") throw new Error(`with-daemon ended with ${line[0]}`);
    const [domain, key, about] = line[0].split(" ");
    return await use({ domain, key, about });
  } finally {
    child.stdin.end(); // its command ends, and the daemon with it
    const [status] = await ended;
    if (status) throw new Error(`with-daemon ended with ${status}`); // something was left behind
  }
}
