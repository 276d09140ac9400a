/**
 * The listeners of a server in a process of their own, for listening.test.ts: SSH, HTTP on a port and HTTP on a UNIX
 * socket. Says where they listen, and then each error while accepting. `bun listening-process.ts SOCKET PORT`.
 */

import { listenApi } from "../../src/api/listen.ts";
import { messageOf } from "../../src/errors.ts";
import { addressOf, HttpServer } from "../../src/linux/http.ts";
import type { Log } from "../../src/log.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { SshListener } from "../../src/ssh/server/listener.ts";

const [, , socket = "", port = ""] = process.argv;
const log: Log = { debug() {}, info() {}, warn: (m, f) => console.log(m, f), error() {}, with: () => log };
const failed = (error: unknown): void => console.log(messageOf(error));
const hostKey = generateKey("host");
const ssh = await SshListener.start({
  ...{ listen: { host: "127.0.0.1", port: 0 }, hostKey: () => hostKey, log },
  ...{ authorise: () => "nobody may", entered: () => {}, request: () => {} },
  // More than there are descriptors, for longer than the test waits.
  ...{ maxConnections: 10_000, grace: 600_000 },
});
await HttpServer.start({
  ...{
    place: { host: "127.0.0.1", port: Number(port) },
    most: 1000,
    each: 1000,
    idle: 0,
    maxBody: 0,
    failed,
  },
  ...{ clientOf: addressOf, answer: () => new Response("hello"), onError: () => new Response("error") },
});
await listenApi(socket, undefined, () => new Response("hello"), failed);
console.log(`listening ${ssh.address.port}`);
