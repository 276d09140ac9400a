/** The bridge of walt-net where something fails half-way, with an `ip` that the test plays. */

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../../../src/config/load.ts";
import { createLog } from "../../../src/log.ts";
import { openWaltNet } from "../../../src/server/net/walt-net.ts";

test("a bridge that cannot be set up is removed again", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-net-"));
  const path = process.env["PATH"];
  try {
    // There is no such bridge, and no other network; an address for it is refused; what else is asked for is done.
    writeFileSync(
      join(dir, "ip"),
      `#!/bin/sh
case "$1" in
  -batch) tee -a '${dir}/said' | grep -q '^addr ' && { echo 'no such address' >&2; exit 1; }; exit 0 ;;
  -j) echo '[]' ;;
  *) exit 1 ;;
esac
`,
      { mode: 0o755 },
    );
    process.env["PATH"] = `${dir}:${path}`;
    const config = parseConfig(
      `role = "server"
[server]
socket = "${dir}/walt.sock"
[server.network]
managed = true
bridge = "walt-test-net"
`,
      "vpn.toml",
    );
    await expect(openWaltNet(config, [], createLog(-999))).rejects.toThrow("no such address");
    const said = readFileSync(join(dir, "said"), "utf8").trim().split("\n");
    expect(said[0]).toBe("link add name walt-test-net type bridge");
    expect(said.at(-1)).toBe("link del dev walt-test-net");
  } finally {
    process.env["PATH"] = path;
    rmSync(dir, { recursive: true });
  }
});
