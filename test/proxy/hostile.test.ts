/** The relay as a process, and clients that bend the protocol: what each of them gets, and what it costs the relay. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import ssh2 from "ssh2";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { RelayProcess } from "./relay-process.ts";

const keys = { ca: generateKey("ca"), enrolment: generateKey("enrolment") };
let next: Server;
let nextPort: number;
let relay: RelayProcess;
let clients: ssh2.Client[];

beforeEach(async () => {
  clients = [];
  next = createServer((socket) => socket.on("error", () => {}).end("x".repeat(100_000)));
  await new Promise<void>((resolve) => next.listen(0, "127.0.0.1", resolve));
  const address = next.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  nextPort = address.port;
  relay = await RelayProcess.start({ ...keys, next: nextPort });
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await relay.stop();
  await new Promise((resolve) => next.close(resolve));
});

/** ssh2's client, and what a test bends in it. */
interface Bent {
  _protocol: {
    session(channel: number, window: number, packet: number): void;
    directTcpip(channel: number, window: number, packet: number, more: unknown): void;
  };
}

/** Log in with the enrolment key, which everybody may have. */
async function login(): Promise<{ client: ssh2.Client; bent: Bent; closed: Promise<void> }> {
  const client = new ssh2.Client();
  clients.push(client);
  const closed = new Promise<void>((resolve) => client.on("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    client.once("ready", resolve).once("error", reject);
    client.connect({
      ...{ host: "127.0.0.1", port: relay.port },
      ...{ username: "walt-vpn", privateKey: encodePrivateKey(keys.enrolment) },
    });
  });
  client.on("error", () => {});
  return { client, bent: client as unknown as Bent, closed };
}

test.each(["session", "directTcpip"] as const)(
  "a maximum packet size of 0 by %s ends the connection, and nothing else",
  async (how) => {
    const { client, bent, closed } = await login();
    const { memory, cpu } = relay;
    const open = bent._protocol[how].bind(bent._protocol);
    bent._protocol[how] = (channel: number, window: number, _: number, more?: unknown) =>
      open(channel, window, 0, more);
    if (how === "session") client.exec("x", (_, channel) => channel?.end("to be echoed\n"));
    else client.forwardOut("127.0.0.1", 1, "127.0.0.1", nextPort, () => {});
    await Promise.race([closed, Bun.sleep(3000)]);
    expect(relay.memory - memory).toBeLessThan(64 << 20);
    expect(relay.cpu - cpu).toBeLessThan(1);
    await relay.said("it takes packets of 0 bytes only");
    await login();
    expect(await relay.stop()).toBe(0);
  },
);
