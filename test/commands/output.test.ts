/** What a command prints reaches a reader that takes its time, whole. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiHandler, serve } from "../../src/api/handler.ts";
import { SERVER } from "../../src/api/routes.ts";
import { createLog } from "../../src/log.ts";
import { NODE } from "../api/messages.ts";

test("a listing that is longer than a pipe", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-output-"));
  const nodes = Array.from({ length: 2000 }, (_, i) => ({ ...NODE, name: `vpn-${i}` }));
  const socket = join(dir, "server.sock");
  const handle = apiHandler([serve(SERVER.nodes, () => nodes)], createLog());
  await using server = Bun.serve({ unix: socket, fetch: (request) => handle(request, "root") });
  const config = join(dir, "vpn.toml");
  writeFileSync(config, `role = "server"\n[server]\nsocket = "${socket}"\n`);
  try {
    const walt = [process.execPath, new URL("../../src/main.ts", import.meta.url).pathname];
    // The first bytes one by one: meanwhile the command has every chance to end too early.
    const line = '"$@" | { for i in $(seq 300); do head -c 1; done; cat; }';
    const shell = Bun.spawn(["sh", "-c", line, "sh", ...walt, "node", "show", "--json"], {
      stdout: "pipe",
      env: { ...process.env, WALT_CONFIG: config },
    });
    expect(JSON.parse(await shell.stdout.text())).toEqual(nodes);
  } finally {
    await server.stop(true);
    rmSync(dir, { recursive: true, force: true });
  }
});
