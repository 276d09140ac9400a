/**
 * `bun claimant.ts FOLDER TOKEN COUNT`: one of several processes that claim the same token at the same moment,
 * each on its own connection to the registry. It waits for a line, tries COUNT times, and prints how often it got in.
 */

import { createLog } from "../../src/log.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { openDevices } from "./admission-server.ts";

const [folder = "", token = "", count = "0"] = process.argv.slice(2);
const { devices } = openDevices(folder, createLog(-999));
const requests = Array.from({ length: Number(count) }, (_, i) => ({
  mac: `b8:27:${process.pid % 256 < 16 ? "0" : ""}${(process.pid % 256).toString(16)}:00:00:${(16 + i).toString(16)}`,
  ...{ model: "Pi", serialNumber: "", token, publicKey: generateKey("device").publicKey },
}));
console.log("ready");
for await (const _ of Bun.stdin.stream()) break;
console.log(requests.filter((request) => "granted" in devices.acceptInvited(request)).length);
process.exit(0);
