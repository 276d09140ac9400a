/**
 * Clients by hand that attack the server's endpoint, run inside a host of the laboratory by ssh.test.ts. They
 * know the server's key and hold the enrolment key, which everybody may have, or a device's. `bun attacker.ts
 * MODE HOST PORT KEYFILE [COUNT]`.
 */

import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import { parsePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { pinnedKeys } from "../../src/ssh/keys/known-hosts.ts";
import { say } from "../ssh/handshake/speaker.ts";
import { SpeakerSocket } from "../ssh/handshake/speaker-socket.ts";

const [mode = "", host = "", port = "", keyFile = "", count = "1"] = process.argv.slice(2);
const to = { host, port: Number(port) };
const key = parsePrivateKey(readFileSync(keyFile, "utf8"), keyFile);
const [hostKey] = pinnedKeys(readFileSync("/etc/walt/known_hosts", "utf8"), "walt-server", "known_hosts");
if (hostKey === undefined) throw new Error("no host key");
const login = (): Promise<SpeakerSocket> => SpeakerSocket.login(to, hostKey, key);
const each = async (what: (i: number) => Promise<void>): Promise<void> => {
  for (let i = 0; i < Number(count); i++) await what(i);
};
const all: SpeakerSocket[] = [];

const MODES: Record<string, () => Promise<void>> = {
  /** Channels with packets of 0 bytes and the like, and a command on them all the same. */
  tiny: () =>
    each(async (i) => {
      const one = await login();
      one.send(say.open(1, 1 << 21, [0, 1, 4095][i % 3]));
      await one.message(92);
      one.send(say.exec(0, "enrol"));
      await one.closed;
    }),
  /** Eight channels of each connection, and on each all that its window takes, which nobody reads. */
  unread: () =>
    each(async () => {
      const one = await login();
      all.push(one);
      for (let channel = 0; channel < 8; channel++) {
        one.send(say.open(channel), say.exec(channel, "enrol"), say.data(channel, Buffer.alloc(16_384, 65)));
        await one.message(97); // denied: a line that is too long
      }
    }),
  /** The same, without regard for windows: 4 MB on each. */
  flood: () =>
    each(async () => {
      const one = await login();
      for (let channel = 0; channel < 8 && !one.isClosed; channel++) {
        one.send(say.open(channel), say.exec(channel, "enrol"));
        for (let i = 0; i < 128; i++) one.send(say.data(channel, Buffer.alloc(32_000, 65)));
      }
      await one.closed;
    }),
  /** Many that say nothing, at once, and stay. */
  burst: async () => {
    const open = Array.from(
      { length: Number(count) },
      () =>
        new Promise<void>((resolve) => {
          const socket = createConnection(to);
          socket.on("error", () => resolve()).once("connect", () => resolve());
          socket.resume();
        }),
    );
    await Promise.all(open);
  },
  /** In, and later one command. */
  renew: async () => {
    const one = await login();
    console.log("in");
    for await (const _ of Bun.stdin.stream()) break;
    one.send(say.open(), say.exec(0, "renew"));
    const granted = await one.message(94).then(
      (message) => message.toString().includes("granted"),
      () => false,
    );
    console.log(granted ? "granted" : "refused");
    process.exit(0);
  },
};

await MODES[mode]?.();
console.log("done");
for await (const _ of Bun.stdin.stream());
process.exit(0);
