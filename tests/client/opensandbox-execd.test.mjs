// The published OpenSandbox client: commands, sessions, files and metrics of a sandbox.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fails, withSandbox } from "./opensandbox-kit.mjs";

const opts = { concurrency: 4 };
const lines = (list) => list.map((l) => l.text);

// What a run came to: its exit code, and its lines on both streams.
const seen = (r) => ({ exit: r.exitCode, out: lines(r.logs.stdout), err: lines(r.logs.stderr) });

test("OpenSandbox execd", opts, (t) => withSandbox({ skipHealthCheck: false }, async (sbx) => {
  const run = (command, options) => sbx.commands.run(command, options);

  await Promise.all([
    t.test("commands are streamed by lines, with their exit code", async () => {
      assert.deepEqual(seen(await run("echo one; echo two >&2; echo; printf last")),
        { exit: 0, out: ["one", "\n", "last"], err: ["two"] });
      assert.deepEqual(seen(await run("[[ -n $BASH_VERSION ]] && pwd", { workingDirectory: "/tmp" })),
        { exit: 0, out: ["/tmp"], err: [] });
      assert.deepEqual(seen(await run("echo $A", { envs: { A: "b  c" } })).out, ["b c"]);
      assert.deepEqual(seen(await run("printf 'a\\xffb\\n\\xe2\\x82\\xac\\r\\nend'")).out,
        ["a\ufffdb", "€", "end"]);
      const r = await run("exit 7");
      assert.equal(r.exitCode, 7);
      assert.equal(r.error.name, "CommandExecError");
      assert.deepEqual(r.error.traceback, ["exit status 7"]);
      assert.deepEqual(seen(await run("id -u; id -g", { uid: 1234, gid: 5678, workingDirectory: "/" })).out,
        ["1234", "5678"]);
    }),

    t.test("the first event is there before the second was made", async () => {
      const order = [];
      await sbx.files.deleteFiles(["/tmp/go"]);
      const r = await sbx.commands.run("echo first; while [ ! -e /tmp/go ]; do sleep 0.2; done; echo second",
        undefined, { onStdout: async (e) => {
          order.push(e.text);
          if (e.text === "first") await sbx.files.writeFiles([{ path: "/tmp/go", data: "x" }]);
        } });
      assert.equal(r.exitCode, 0);
      assert.deepEqual(order, ["first", "second"]);
    }),

    t.test("a time limit and an interruption end the whole group", async () => {
      const late = await run("sleep 600 & sleep 600", { timeoutSeconds: 1 });
      assert.equal(late.exitCode, -1);
      assert.deepEqual(late.error.traceback, ["signal: killed"]);
      const cut = await sbx.commands.run("sleep 600", undefined,
        { onInit: (e) => sbx.commands.interrupt(e.id) });
      assert.equal(cut.exitCode, -1);
      assert.deepEqual(cut.error.traceback, ["signal: terminated"]);
      await fails(sbx.commands.interrupt("0".repeat(32)), 500, "RUNTIME_ERROR");
    }),

    t.test("in the background, with status and logs from where one was", async () => {
      const r = await run("echo one; until [ -e /tmp/bg ]; do sleep 0.2; done; echo two; exit 3",
        { background: true });
      const status = () => sbx.commands.getCommandStatus(r.id);
      assert.equal((await status()).running, true);
      let log = { content: "", cursor: 0 }, text = "";
      while (!text.includes("one\n")) {
        log = await sbx.commands.getBackgroundCommandLogs(r.id, log.cursor);
        text += log.content;
      }
      await sbx.files.writeFiles([{ path: "/tmp/bg", data: "" }]);
      while ((await status()).running);
      log = await sbx.commands.getBackgroundCommandLogs(r.id, log.cursor);
      assert.equal(log.content, "two\n");
      assert.equal(log.cursor, 8);
      const end = await status();
      assert.equal(end.exitCode, 3);
      assert.ok(end.finishedAt >= end.startedAt);
      const front = await run("true");
      await fails(sbx.commands.getBackgroundCommandLogs(front.id), 400, "NOT_SUPPORTED");
      await fails(sbx.commands.getCommandStatus("nobody"), 404, "CONTEXT_NOT_FOUND");
    }),

    t.test("sessions keep directory and variables, whatever ends a run", async () => {
      const s = await sbx.commands.createSession({ workingDirectory: "/tmp" });
      const inside = (command, options) => sbx.commands.runInSession(s, command, options).then(seen);
      assert.deepEqual((await inside("pwd; export X='a  b'\"'\"; cd /usr")).out, ["/tmp"]);
      assert.deepEqual(await inside("pwd; echo \"$X\"; exit 4"), { exit: 4, out: ["/usr", "a  b'"], err: [] });
      assert.deepEqual((await inside("cd /; while :; do :; done", { timeoutSeconds: 1 })).exit, -1);
      assert.deepEqual((await inside("pwd", { workingDirectory: "/etc" })).out, ["/etc"]);
      // Runs asked for at once follow each other.
      const many = await Promise.all([1, 2, 3, 4].map(() => inside("n=${N:-0}; sleep 0.05; export N=$((n+1)); echo $N")));
      assert.deepEqual(many.map((r) => r.out[0]).sort(), ["1", "2", "3", "4"]);
      await sbx.commands.deleteSession(s);
      await fails(sbx.commands.deleteSession(s), 404, "CONTEXT_NOT_FOUND");
      await fails(sbx.commands.runInSession(s, "true"), 404, "CONTEXT_NOT_FOUND");
    }),

    t.test("what is wrong is named", async () => {
      await fails(run("true", { workingDirectory: "/none" }), 400, "INVALID_REQUEST_BODY");
      // What this client does not say, or does not pass on.
      const at = await sbx.getEndpointUrl(44772);
      const raw = async (path, method, body, headers) => {
        const r = await fetch(at + path, { method, headers, body });
        return [r.status, (await r.json()).code];
      };
      const json = (path, body) => raw(path, "POST", JSON.stringify(body), { "content-type": "application/json" });
      assert.deepEqual(await json("/command", { command: " \n" }), [400, "INVALID_REQUEST_BODY"]);
      assert.deepEqual(await json("/command", { command: "true", gid: 5 }), [400, "INVALID_REQUEST_BODY"]);
      assert.deepEqual(await json("/command", [1]), [400, "INVALID_REQUEST_BODY"]);
      assert.deepEqual(await raw("/command", "POST", "{"), [400, "INVALID_REQUEST_BODY"]);
      const session = await sbx.commands.createSession();
      for (const body of [{}, { command: " " }, { command: 5 }, { command: "true", timeout: "x" }, { command: "true", cwd: 5 }])
        assert.deepEqual(await json(`/session/${session}/run`, body), [400, "INVALID_REQUEST_BODY"], JSON.stringify(body));
      await sbx.commands.deleteSession(session);
      assert.deepEqual(await raw("/command", "DELETE"), [400, "MISSING_QUERY"]);
      assert.deepEqual(await raw("/files/info", "GET"), [400, "MISSING_QUERY"]);
      assert.deepEqual(await raw("/files/info?path=%24NOPE%2Fx", "GET"), [500, "RUNTIME_ERROR"]);
      assert.deepEqual(await raw("/files/download?path=/none", "GET"), [404, "FILE_NOT_FOUND"]);
      assert.deepEqual(await raw("/files/download?path=/etc/passwd&limit=1", "GET", undefined, { range: "bytes=1-" }),
        [400, "INVALID_REQUEST_BODY"]);
      assert.deepEqual(await raw("/files/download?path=/etc/hostname", "GET", undefined, { range: "bytes=99999-" }),
        [416, "INVALID_FILE"]);
      assert.deepEqual(await json("/files/replace", { "/etc/passwd": { old: "", new: "x" } }), [400, "INVALID_REQUEST_BODY"]);
      assert.deepEqual(await json("/directories", { "/tmp/m": { mode: 888 } }), [400, "INVALID_REQUEST_BODY"]);
      const form = (parts) => {
        const f = new FormData();
        for (const [name, text] of parts) f.append(name, new Blob([text]), name);
        return raw("/files/upload", "POST", f);
      };
      assert.deepEqual(await form([["metadata", "{"], ["file", "x"]]), [400, "INVALID_FILE_METADATA"]);
      assert.deepEqual(await form([["file", "x"]]), [400, "INVALID_FILE_METADATA"]);
      assert.deepEqual(await form([["metadata", '{"path":"/tmp/u"}']]), [400, "INVALID_FILE"]);
      assert.deepEqual(await raw("/files/upload", "POST", "x", { "content-type": "text/plain" }), [400, "INVALID_FILE"]);
      assert.deepEqual(await raw("/nothing", "GET"), [404, "NOT_SUPPORTED"]);
      assert.deepEqual(await sbx.files.getFileInfo(["~", "$HOME"]).then((i) => [i["~"].type, i["$HOME"].type]),
        ["directory", "directory"]);
      await fails(sbx.commands.createSession({ workingDirectory: "/none" }), 400, "INVALID_REQUEST_BODY");
    }),

    t.test("files: written, read whole, by range and by lines", async () => {
      const path = "/tmp/f/a.txt";
      await sbx.files.writeFiles([{ path, data: "one\ntwo\nthree\n", mode: 640, owner: "nobody", group: "nogroup" },
        { path: "/tmp/f/b.bin", data: new Uint8Array([0, 255, 13, 10]) }]);
      assert.equal(await sbx.files.readFile(path), "one\ntwo\nthree\n");
      assert.deepEqual([...await sbx.files.readBytes("/tmp/f/b.bin")], [0, 255, 13, 10]);
      assert.equal(await sbx.files.readFile(path, { range: "bytes=4-6" }), "two");
      assert.equal(await sbx.files.readFile(path, { range: "bytes=-6" }), "three\n");
      assert.equal(await sbx.files.readFile(path, { offset: 2, limit: 1 }), "two");
      assert.equal(await sbx.files.readFile(path, { offset: 2 }), "two\nthree");
      const info = (await sbx.files.getFileInfo([path, "/tmp/f"]));
      assert.deepEqual([info[path].type, info[path].size, info[path].mode, info[path].owner, info[path].group],
        ["file", 14, 640, "nobody", "nogroup"]);
      assert.equal(info["/tmp/f"].type, "directory");
      await fails(sbx.files.getFileInfo(["/tmp/none"]), 404, "FILE_NOT_FOUND");
      assert.equal((await sbx.files.readFile("/tmp/none").then(null, (e) => e)).statusCode, 404);
    }),

    t.test("a stream of many megabytes is not kept", async () => {
      let n = 0;
      const data = new ReadableStream({ pull: (c) => n++ < 48 ? c.enqueue(new Uint8Array(1 << 20).fill(n)) : c.close() });
      await sbx.files.writeFiles([{ path: "/tmp/big", data }]);
      assert.deepEqual(seen(await run("stat -c %s /tmp/big; head -c 1 /tmp/big | od -An -tu1; tail -c 1 /tmp/big | od -An -tu1")).out
        .map((l) => l.trim()), [String(48 << 20), "1", "48"]);
      let got = 0;
      for await (const piece of sbx.files.readBytesStream("/tmp/big")) got += piece.length;
      assert.equal(got, 48 << 20);
    }),

    t.test("names: made, listed, found, moved, changed, replaced, removed", async () => {
      const at = "/tmp/n";
      await sbx.files.createDirectories([{ path: `${at}/d/e`, mode: 700 }]);
      await sbx.files.writeFiles([{ path: `${at}/d/x.c`, data: "a b a" }, { path: `${at}/y.c`, data: "" }]);
      const names = async (depth) => (await sbx.files.listDirectory({ path: at, depth })).map((e) => e.path);
      assert.deepEqual(await names(), [`${at}/d`, `${at}/y.c`]);
      assert.deepEqual(await names(3), [`${at}/d`, `${at}/d/e`, `${at}/d/x.c`, `${at}/y.c`]);
      assert.deepEqual(await names(0), []);
      assert.equal((await sbx.files.listDirectory({ path: `${at}/d` }))[0].mode, 700);
      assert.deepEqual((await sbx.files.search({ path: at, pattern: "*.c" })).map((e) => e.path),
        [`${at}/d/x.c`, `${at}/y.c`]);
      await fails(sbx.files.listDirectory({ path: "/tmp/none" }), 404, "FILE_NOT_FOUND");
      await fails(sbx.files.listDirectory({ path: `${at}/y.c` }), 400, "INVALID_FILE");
      const done = await sbx.files.replaceContentsDetailed([{ path: `${at}/d/x.c`, oldContent: "a", newContent: "cc" }]);
      assert.equal(done[0].replacedCount, 2);
      assert.equal(await sbx.files.readFile(`${at}/d/x.c`), "cc b cc");
      await sbx.files.setPermissions([{ path: `${at}/y.c`, mode: 4711, owner: "nobody" }]);
      assert.equal((await sbx.files.getFileInfo([`${at}/y.c`]))[`${at}/y.c`].mode, 4711);
      await sbx.files.moveFiles([{ src: `${at}/y.c`, dest: `${at}/new/z.c` }]);
      await fails(sbx.files.moveFiles([{ src: `${at}/new/z.c`, dest: `${at}/d/x.c` }]), 500, "RUNTIME_ERROR");
      await fails(sbx.files.moveFiles([{ src: `${at}/y.c`, dest: `${at}/q` }]), 404, "FILE_NOT_FOUND");
      await fails(sbx.files.deleteFiles([`${at}/d`]), 500, "RUNTIME_ERROR");
      await sbx.files.deleteFiles([`${at}/new/z.c`, `${at}/none`]);
      await sbx.files.deleteDirectories([at, "/tmp/none"]);
      await fails(sbx.files.getFileInfo([at]), 404, "FILE_NOT_FOUND");
    }),

    t.test("metrics are those of the sandbox", async () => {
      const m = await sbx.getMetrics();
      assert.equal(m.cpuCount, 1);
      assert.equal(m.memoryTotalMiB, 256);
      assert.ok(m.memoryUsedMiB > 0 && m.memoryUsedMiB <= 256);
      assert.ok(m.cpuUsedPercentage >= 0 && m.cpuUsedPercentage <= 100);
      assert.ok(Math.abs(m.timestamp - Date.now()) < 60000);
    }),

    t.test("isolated sessions are said to be missing", async () => {
      assert.equal((await sbx.isolation.capabilities()).available, false);
    }),
  ]);
}));
