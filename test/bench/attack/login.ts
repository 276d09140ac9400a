/**
 * `bun login.ts HOST PORT KEYFILE COUNT`: a device that logs in and opens a session, one time after the other.
 * Prints ms of each, and `failed` for one that did not get so far.
 */

import { readFileSync } from "node:fs";
import { parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { pinnedKeys } from "../../../src/ssh/keys/known-hosts.ts";
import { say } from "../../ssh/handshake/speaker.ts";
import { SpeakerSocket } from "../../ssh/handshake/speaker-socket.ts";

const [host = "", port = "", keyFile = "", count = "1"] = process.argv.slice(2);
const key = parsePrivateKey(readFileSync(keyFile, "utf8"), keyFile);
const [hostKey] = pinnedKeys(readFileSync("/etc/walt/known_hosts", "utf8"), "walt-server", "known_hosts");
if (hostKey === undefined) throw new Error("no host key");

for (let i = 0; i < Number(count); i++) {
  const start = performance.now();
  try {
    const socket = await SpeakerSocket.login({ host, port: Number(port) }, hostKey, key);
    socket.send(say.open());
    await socket.message(91);
    console.log(performance.now() - start);
    socket.close();
  } catch {
    console.log("failed");
  }
}
process.exit(0);
