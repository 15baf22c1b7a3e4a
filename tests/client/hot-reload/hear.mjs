// hear.mjs URL HEADERS: what a dev server says over its WebSocket, a line each.
import WebSocket from "ws";

const [url, headers] = process.argv.slice(2);
const ws = new WebSocket(url, "vite-hmr", { headers: JSON.parse(headers) });
ws.on("message", (data) => console.log(data.toString()));
ws.on("close", (code) => console.log(JSON.stringify({ type: "close", code })));
ws.on("error", (e) => console.log(JSON.stringify({ type: "error", text: e.message })));
