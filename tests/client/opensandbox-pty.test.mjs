// A terminal of a sandbox over WebSocket, by calls of our own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "undici";
import { withSandbox } from "./opensandbox-kit.mjs";

test("OpenSandbox terminals", (t) => withSandbox({ skipHealthCheck: false }, async (sbx) => {
  const at = await sbx.getEndpointUrl(44772);
  const call = (method, path, body) => fetch(at + path, { method, body: body && JSON.stringify(body) });

  // At the terminal: output as text, replayed or live; wait() until something holds.
  function open(path) {
    const s = { out: "", err: "", replayed: "", offset: null, control: [], closed: null, error: false };
    const checks = new Set();
    s.wait = (holds) => new Promise((done) => checks.add(() => holds(s) && done()) && holds(s) && done());
    s.ws = new WebSocket(at.replace("http", "ws") + path);
    s.ws.binaryType = "arraybuffer";
    s.ws.onmessage = (e) => {
      if (typeof e.data === "string") s.control.push(JSON.parse(e.data));
      else {
        const bytes = Buffer.from(e.data);
        if (bytes[0] === 1) s.out += bytes.subarray(1);
        if (bytes[0] === 2) s.err += bytes.subarray(1);
        if (bytes[0] === 3) {
          s.offset ??= Number(bytes.readBigUInt64BE(1));
          s.replayed += bytes.subarray(9);
        }
      }
      for (const c of checks) c();
    };
    s.ws.onerror = () => { s.error = true; for (const c of checks) c(); };
    s.ws.onclose = (e) => { s.closed = e.code; for (const c of checks) c(); };
    s.type = (text) => s.ws.send(Buffer.concat([Buffer.from([0]), Buffer.from(text)]));
    s.tell = (message) => s.ws.send(JSON.stringify(message));
    return s;
  }

  const made = await call("POST", "/pty", { rows: 30, cols: 90 });
  assert.equal(made.status, 201);
  const { session_id: id } = await made.json();
  const first = open(`/pty/${id}/ws?pty=1`);
  await first.wait((s) => s.control.some((m) => m.type === "connected"));
  await first.wait((s) => s.out.includes("# ")); // the shell has its terminal as it wants it
  first.type("stty size; echo o''ne\n");
  await first.wait((s) => /30 90\r\none\r\n/.test(s.replayed + s.out));
  first.tell({ type: "resize", rows: 11, cols: 22 });
  first.tell({ type: "ping" });
  await first.wait((s) => s.control.some((m) => m.type === "pong"));
  first.type("stty size\n");
  await first.wait((s) => s.out.includes("11 22\r\n"));
  first.type("echo r''eady; sleep 600\n");
  await first.wait((s) => s.out.includes("ready\r\n"));
  first.type("\x03");
  await first.wait((s) => s.out.includes("^C"));
  first.type("echo t''wo\n");
  await first.wait((s) => s.out.includes("two\r\n"));

  // A second one is refused, and one that wants it to be what it is not.
  assert.equal(first.control[0].mode, "pty");
  const pipes = open(`/pty/${id}/ws?pty=0&takeover=1`);
  await pipes.wait((s) => s.error || s.closed !== null);
  const refused = open(`/pty/${id}/ws`);
  await refused.wait((s) => s.error || s.closed !== null);
  const second = open(`/pty/${id}/ws?since=10&takeover=1`);
  await second.wait((s) => s.replayed.includes("two\r\n"));
  assert.equal(second.offset, 10);
  await first.wait((s) => s.closed !== null);
  assert.equal(first.closed, 4001);
  const about = await (await call("GET", `/pty/${id}`)).json();
  assert.equal(about.running, true);
  assert.ok(about.output_offset > 10);
  second.type("exit 7\n");
  await second.wait((s) => s.closed !== null);
  assert.equal(second.closed, 1000);
  assert.equal(second.control.at(-1).exit_code, 7);

  assert.equal((await call("DELETE", `/pty/${id}`)).status, 200);
  assert.equal((await call("GET", `/pty/${id}`)).status, 404);
  assert.equal((await call("GET", `/pty/${id}/ws`)).status, 400); // no upgrade
  assert.equal((await call("POST", "/pty", { cwd: "/no/such" })).status, 400);

  // The same on pipes: stderr apart, no prompt and no echo; where it was asked for; it stays.
  const { session_id: two } = await (await call("POST", "/pty", { cwd: "/tmp" })).json();
  assert.equal((await (await call("GET", `/pty/${two}`)).json()).running, false);
  const piped = open(`/pty/${two}/ws?pty=0`);
  await piped.wait((s) => s.control.some((m) => m.type === "connected"));
  assert.equal(piped.control[0].mode, "pipe");
  piped.type("tty; pwd; echo oops >&2\n");
  await piped.wait((s) => s.out + s.replayed === "not a tty\n/tmp\n" && s.err === "oops\n");
  piped.tell({ type: "resize", rows: 11, cols: 22 });
  await piped.wait((s) => s.control.some((m) => m.type === "error"));
  piped.ws.close();
  await piped.wait((s) => s.closed !== null);
  const again = open(`/pty/${two}/ws`);
  await again.wait((s) => s.replayed.includes("not a tty\n/tmp\n") && s.replayed.includes("oops\n"));
  again.type("exit 5\n");
  await again.wait((s) => s.closed !== null);
  assert.equal(again.control.at(-1).exit_code, 5);
}));
