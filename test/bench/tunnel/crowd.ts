/**
 * Many devices in one process, each with a tunnel of its own in which nothing happens: they greet, answer pings, and that is all.
 * Private keys on standard input, one JSON string a line. `register FILE` puts them into a registry as accepted devices; `up
 * ADDRESS PORT` prints `up N` when all have been greeted and pinged, and keeps them up until it is ended.
 */

import ssh2 from "ssh2";
import { TUN_F_ALL } from "../../../src/linux/tap.ts";
import { Registry } from "../../../src/server/registry.ts";
import { parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { FEATURE_ACK, HEADER, lengthAt, TYPE, writeHello } from "../../../src/tunnel/message.ts";

/** Log in so many at a time. */
const TOGETHER = 8;
const [what = "", host = "", port = ""] = process.argv.slice(2);
const keys = (await Bun.stdin.text())
  .trim()
  .split("\n")
  .map((line) => String(JSON.parse(line)));

function register(file: string): void {
  const registry = new Registry(file);
  for (const [i, key] of keys.entries()) {
    const { publicKey } = parsePrivateKey(key, "standard input");
    const mac = `b8:27:eb:${i
      .toString(16)
      .padStart(6, "0")
      .replace(/(..)(..)(..)/, "$1:$2:$3")}`;
    registry.accept({ mac, model: "none", serialNumber: String(i), publicKey }, "bench", new Date());
  }
  registry.close();
}

/** Resolves once the server's first ping was answered. */
function tunnel(privateKey: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    const fail = (what: string): void => {
      process.stderr.write(`${what}\n`);
      reject(new Error(what));
    };
    client.on("error", (error) => fail(error.message));
    client.on("ready", () =>
      client.exec(`tunnel via=${host}:${port}`, (error, channel) => {
        if (error !== undefined) return fail(error.message);
        channel.on("close", () => fail("a tunnel ended"));
        const hello = Buffer.alloc(12);
        writeHello(hello, 0, 1500, FEATURE_ACK | TUN_F_ALL);
        channel.write(hello);
        let rest: Buffer = Buffer.alloc(0);
        channel.on("data", (chunk: Buffer) => {
          rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
          while (rest.length >= HEADER && rest.length >= HEADER + lengthAt(rest, 0)) {
            const message = rest.subarray(0, HEADER + lengthAt(rest, 0));
            rest = rest.subarray(message.length);
            if (message[0] !== TYPE.ping) continue;
            const pong = Buffer.from(message);
            pong[0] = TYPE.pong;
            channel.write(pong);
            resolve();
          }
        });
      }),
    );
    client.connect({ host, port: Number(port), username: "walt-vpn", privateKey, hostVerifier: () => true });
  });
}

if (what === "register") {
  register(host);
} else {
  const left = keys.values();
  await Promise.all(
    Array.from({ length: TOGETHER }, async () => {
      for (const key of left) await tunnel(key);
    }),
  );
  process.stderr.write(`up ${keys.length}\n`);
}
