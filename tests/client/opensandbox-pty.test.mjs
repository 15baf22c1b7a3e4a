// A terminal of a sandbox over WebSocket, by calls of our own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "undici";
import { withSandbox } from "./opensandbox-kit.mjs";
import { changing } from "./until.mjs";

test("OpenSandbox terminals", (t) => withSandbox({ skipHealthCheck: false }, async (sbx) => {
  const at = await sbx.getEndpointUrl(44772);
  const call = (method, path, body) => fetch(at + path, { method, body: body && JSON.stringify(body) });

  // At the terminal: output as text, replayed or live; wait() until something holds of it.
  function open(path) {
    const seen = { path, out: "", err: "", replayed: "", offset: null, control: [], closed: null, error: false };
    const { wait, changed, over } = changing(seen);
    const ws = new WebSocket(at.replace("http", "ws") + path);
    ws.binaryType = "arraybuffer";
    ws.onmessage = (e) => {
      if (typeof e.data === "string") seen.control.push(JSON.parse(e.data));
      else {
        const bytes = Buffer.from(e.data);
        if (bytes[0] === 1) seen.out += bytes.subarray(1);
        if (bytes[0] === 2) seen.err += bytes.subarray(1);
        if (bytes[0] === 3) {
          seen.offset ??= Number(bytes.readBigUInt64BE(1));
          seen.replayed += bytes.subarray(9);
        }
      }
      changed();
    };
    ws.onerror = () => { seen.error = true; changed(); };
    ws.onclose = (e) => { seen.closed = e.code; over("the socket is closed"); };
    return { seen, wait,
      closed: () => wait((s) => s.closed !== null),
      type: (text) => ws.send(Buffer.concat([Buffer.from([0]), Buffer.from(text)])),
      tell: (message) => ws.send(JSON.stringify(message)),
      close: () => ws.close() };
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
  // Said by who is to be interrupted: a shell that is just starting its next command loses a ^C.
  first.type("sh -c 'echo r\"\"eady; exec sleep 600'\n");
  await first.wait((s) => s.out.includes("ready\r\n"));
  first.type("\x03");
  await first.wait((s) => s.out.includes("^C"));
  first.type("echo t''wo\n");
  await first.wait((s) => s.out.includes("two\r\n"));

  // A second one is refused, and one that wants it to be what it is not.
  assert.equal(first.seen.control[0].mode, "pty");
  for (const query of ["?pty=0&takeover=1", ""]) {
    const refused = open(`/pty/${id}/ws${query}`);
    await refused.closed();
    assert.deepEqual(refused.seen.control, []);
  }
  assert.equal(first.seen.closed, null);
  const second = open(`/pty/${id}/ws?since=10&takeover=1`);
  await second.wait((s) => s.replayed.includes("two\r\n"));
  assert.equal(second.seen.offset, 10);
  await first.closed();
  assert.equal(first.seen.closed, 4001);
  const about = await (await call("GET", `/pty/${id}`)).json();
  assert.equal(about.running, true);
  assert.ok(about.output_offset > 10);
  second.type("exit 7\n");
  await second.closed();
  assert.equal(second.seen.closed, 1000);
  assert.equal(second.seen.control.at(-1).exit_code, 7);

  assert.equal((await call("DELETE", `/pty/${id}`)).status, 200);
  assert.equal((await call("GET", `/pty/${id}`)).status, 404);
  assert.equal((await call("GET", `/pty/${id}/ws`)).status, 400); // no upgrade
  assert.equal((await call("POST", "/pty", { cwd: "/no/such" })).status, 400);

  // The same on pipes: stderr apart, no prompt and no echo; where it was asked for; it stays.
  const { session_id: two } = await (await call("POST", "/pty", { cwd: "/tmp" })).json();
  assert.equal((await (await call("GET", `/pty/${two}`)).json()).running, false);
  const piped = open(`/pty/${two}/ws?pty=0`);
  await piped.wait((s) => s.control.some((m) => m.type === "connected"));
  assert.equal(piped.seen.control[0].mode, "pipe");
  piped.type("tty; pwd; echo oops >&2\n");
  await piped.wait((s) => s.out + s.replayed === "not a tty\n/tmp\n" && s.err === "oops\n");
  piped.tell({ type: "resize", rows: 11, cols: 22 });
  await piped.wait((s) => s.control.some((m) => m.type === "error"));
  piped.close();
  await piped.closed();
  const again = open(`/pty/${two}/ws`);
  await again.wait((s) => ["not a tty\n", "/tmp\n", "oops\n"].every((t) => s.replayed.includes(t)));
  again.type("exit 5\n");
  await again.closed();
  assert.equal(again.seen.control.at(-1).exit_code, 5);
}));
