/** `bun run demo`: from first boot to a node on walt-net, with the real programs, on this one machine. */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";
import type { DemoOptions } from "./demo.ts";

const USAGE = `Usage: bun run demo [--interactive] [--json] [--keep] [--node-image]

Builds three hosts (server, proxy, device) as network namespaces of this machine and lets WalT do its work in them.
Needs Debian and root; what is missing of Debian's packages is installed, and named.

  --interactive  you accept or deny the device, at this terminal
  --json         print the report as JSON on standard output; progress goes to standard error
  --keep         leave everything running until ^C
  --node-image   the node boots the image of \`walt image build --node\`, which takes a download of 140 MB
`;

function options(): DemoOptions {
  try {
    const { values } = parseArgs({
      options: {
        interactive: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        keep: { type: "boolean", default: false },
        "node-image": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (!values.help) return { ...values, nodeImage: values["node-image"] };
    process.stdout.write(USAGE);
    process.exit(0);
  } catch (error) {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    process.exit(2);
  }
}

const chosen = options();
await ensurePackages((line) => process.stderr.write(`${line}\n`));
const { demo } = await import("./demo.ts");
process.exit(await demo(chosen));
