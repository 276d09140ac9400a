/** `bun run e2e:pi`: an SD card from its build to a node, in an emulated board. */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";

const USAGE = `Usage: bun run e2e:pi [--short] [--json] [--cache FOLDER] [--logs FOLDER]

Builds a base and an image with the compiled binary, and boots it in QEMU's Raspberry Pi 3 against a real server behind a real
sshd. Needs Debian and root.

  --short         only until the virtual machine has loaded its boot script from a WalT server
  --json          print the report as JSON on standard output; progress goes to standard error
  --cache FOLDER  where downloads and bases are kept
  --logs FOLDER   keep the serial consoles there
`;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        short: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        cache: { type: "string" },
        logs: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
    if (!values.help) return values;
    process.stdout.write(USAGE);
    process.exit(0);
  } catch (error) {
    process.stderr.write(`e2e: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    process.exit(2);
  }
}

const { short, json, cache, logs } = options();
const say = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(say);
try {
  const { installPackages, PACKAGES } = await import("../lab/packages.ts");
  await installPackages(say, [...new Set([...PACKAGES, "qemu-system-arm"])]); // the board
} catch (error) {
  process.stderr.write(`e2e: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
const { e2e } = await import("./scenario.ts");
process.exit(await e2e({ short, json, cache, logs }));
