/** `bun run test:empty`: the compiled binaries alone, on a Debian that has nothing but its base, make an image. Minutes; needs root. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { waltBinary } from "../lab/binary.ts";
import { ensurePackages } from "../setup.ts";
import { makeEmptyRoot, runInside } from "./root.ts";

const { values } = parseArgs({
  options: {
    suite: { type: "string", default: "trixie" },
    /** A minimal root that is there already; used up. */
    root: { type: "string" },
  },
});

const folder = mkdtempSync(join(tmpdir(), "walt-empty-"));
let status = 1;
try {
  await ensurePackages(console.error);
  const root = values.root ?? join(folder, "root");
  await makeEmptyRoot(root, values.suite);
  const binaries: [from: string, name: string][] = [];
  for (const target of ["x64", "arm64"] as const)
    binaries.push([await waltBinary(target), `walt-linux-${target}`]);
  status = await runInside(root, join(import.meta.dir, "inside.sh"), binaries);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
