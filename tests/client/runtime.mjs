// Has each sandbox here a kernel of its own? Then one of another size than those before it has to boot, for
// seconds, and a template for its size is made, so tests are content with the size that all have.
import { readFileSync } from "node:fs";

export const machines = Boolean(process.env.WEIR_DAEMON) &&
  JSON.parse(readFileSync(process.env.WEIR_DAEMON, "utf8")).settings["runtime.default"] === "vm";
