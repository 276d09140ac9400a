/**
 * The relay as a process, and clients that bend the protocol: what each of them gets, and what it costs the
 * relay.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import ssh2 from "ssh2";
import { generateKey, type KeyPair } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { RelayProcess } from "./relay-process.ts";

const MB = 1_000_000;
const keys = { ca: generateKey("ca"), enrolment: generateKey("enrolment") };
let next: Server;
let nextPort: number;
/** What the next hop does with a connection. */
let serveNext: (socket: Socket) => void;
let relay: RelayProcess;
let clients: ssh2.Client[];
let sockets: Set<Socket>;

beforeEach(async () => {
  clients = [];
  sockets = new Set();
  serveNext = (socket) => socket.end("x".repeat(100_000));
  next = createServer((socket) => {
    sockets.add(socket);
    serveNext(socket.on("error", () => {}));
  });
  await new Promise<void>((resolve) => next.listen(0, "127.0.0.1", resolve));
  const address = next.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  nextPort = address.port;
  relay = await RelayProcess.start({ ...keys, next: nextPort });
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await relay.stop();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => next.close(resolve));
});

/** ssh2's client, and what a test bends in it. */
interface Bent {
  _sock: Socket;
  _protocol: {
    _cipher: { allocPacket(length: number): Buffer; encrypt(packet: Buffer): void };
    session(channel: number, window: number, packet: number): void;
    directTcpip(channel: number, window: number, packet: number, more: unknown): void;
    subsystem(channel: number, name: string, wantReply: boolean): void;
    channelWindowAdjust(channel: number, bytes: number): void;
    _handlers: { CHANNEL_CLOSE: () => void };
    rekey(): void;
    ping(): void;
  };
}
type BentChannel = { outgoing: { id: number; window: number } };

interface LoggedIn {
  client: ssh2.Client;
  bent: Bent;
  /** Resolves when the relay ends it. */
  closed: Promise<void>;
}

/** Log in, unless told otherwise with the enrolment key, which everybody may have. */
async function login(key: KeyPair = keys.enrolment): Promise<LoggedIn> {
  const client = new ssh2.Client();
  clients.push(client);
  // It may fail again after it has failed to log in.
  client.on("error", () => {});
  const closed = new Promise<void>((resolve) => client.on("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    client.once("ready", resolve).once("error", reject);
    client.connect({
      ...{ host: "127.0.0.1", port: relay.port, readyTimeout: 60_000 },
      ...{ username: "walt-vpn", privateKey: encodePrivateKey(key) },
    });
  });
  return { client, bent: client as unknown as Bent, closed };
}

/** A channel to the next hop; undefined when it is refused, or the connection over. */
const forward = ({ client }: LoggedIn, port = nextPort): Promise<ssh2.ClientChannel | undefined> =>
  new Promise<ssh2.ClientChannel | undefined>((resolve) =>
    client.forwardOut("127.0.0.1", 1, "127.0.0.1", port, (_, channel) =>
      resolve(channel?.on("error", () => {})),
    ),
  ).catch(() => undefined);
const session = ({ client }: LoggedIn): Promise<ssh2.ClientChannel> =>
  new Promise((resolve, reject) =>
    client.exec("x", (error, channel) => (error ? reject(error) : resolve(channel.on("error", () => {})))),
  );
/** Send one message as it is. */
function send({ bent }: LoggedIn, message: Buffer): void {
  const { _cipher: cipher } = bent._protocol;
  const packet = cipher.allocPacket(message.length);
  packet.set(message, 5);
  cipher.encrypt(packet);
}

/** Wait until a number stays as it is for 300 ms; at most 20 s. */
async function settled(what: () => number): Promise<number> {
  for (let i = 0, before = what(); i < 66; i++) {
    await Bun.sleep(300);
    const now = what();
    if (now === before) return now;
    before = now;
  }
  throw new Error(`it does not settle: ${what()}`);
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
    expect(relay.memory - memory).toBeLessThan(64 * MB);
    expect(relay.cpu - cpu).toBeLessThan(1);
    await relay.said("it takes packets of 0 bytes only");
    await login();
    expect(await relay.stop()).toBe(0);
  },
);

test("what nobody reads, sent on 8 channels of each of 24 connections, stays within bounds", async () => {
  serveNext = (socket) => socket.pause();
  const all = await Promise.all(Array.from({ length: 24 }, () => login()));
  const { memory } = relay;
  const block = Buffer.alloc(256 * 1024);
  const echoes = await Promise.all(all.map(session));
  for (const channel of echoes) {
    channel.pause();
    for (let i = 0; i < 17; i++) channel.write(block);
  }
  const channels = await Promise.all(all.flatMap((one) => Array.from({ length: 7 }, () => forward(one))));
  for (const channel of channels) for (let i = 0; i < 17; i++) channel?.write(block);
  await settled(() => Math.round(relay.memory / (16 * MB)));
  // 2 MiB each, and what the collector has not taken away yet.
  expect(relay.memory - memory).toBeLessThan(200 * MB);
  expect(await relay.stop()).toBe(0);
}, 120_000);

test("one byte more than the window of a session ends the connection", async () => {
  const one = await login();
  const open = one.bent._protocol.session.bind(one.bent._protocol);
  // It takes nothing of the echo, so that its own window is not opened again.
  one.bent._protocol.session = (channel, _, packet) => open(channel, 0, packet);
  const { id, window } = ((await session(one)) as unknown as BentChannel).outgoing;
  const data = (bytes: number): Buffer => {
    const message = Buffer.alloc(9 + bytes, 94);
    message.writeUInt32BE(id, 1);
    message.writeUInt32BE(bytes, 5);
    return message;
  };
  for (let left = window; left > 0; left -= 4096) send(one, data(Math.min(left, 4096)));
  await Promise.race([one.closed, Bun.sleep(500)]);
  expect(relay.log).not.toContain("it sends more than its window");
  send(one, data(1));
  await relay.said("it sends more than its window");
  await one.closed;
});

test("who ignores the window of a forwarded channel is ended before it fills the memory", async () => {
  serveNext = (socket) => socket.pause();
  const one = await login();
  const channel = await forward(one);
  if (channel === undefined) throw new Error("refused");
  const { memory } = relay;
  (channel as unknown as BentChannel).outgoing.window = Number.MAX_SAFE_INTEGER;
  for (let i = 0; i < 400; i++) channel.write(Buffer.alloc(32_000));
  await relay.said("it sends more than its window");
  await one.closed;
  expect(relay.memory - memory).toBeLessThan(64 * MB);
});

test.each<[string, (one: LoggedIn, id: number) => void, string]>([
  [
    "a window beyond 2^32 - 1",
    ({ bent }, id) => bent._protocol.channelWindowAdjust(id, 0xffff_ffff),
    "it opens its window beyond 2^32 - 1 bytes",
  ],
  [
    "data on a channel that nobody opened",
    (one) => send(one, Buffer.from([94, 0, 0, 0, 77, 0, 0, 0, 1, 7])),
    "it sends data on a channel that is not open",
  ],
  [
    "data of 4 GiB, as it says",
    (one, id) => send(one, Buffer.from([94, 0, 0, 0, id, 255, 255, 255, 255, 7])),
    "it sends more than its window",
  ],
  [
    "data after its end",
    (one, id) => {
      send(one, Buffer.from([96, 0, 0, 0, id]));
      send(one, Buffer.from([94, 0, 0, 0, id, 0, 0, 0, 1, 7]));
    },
    "it sends more than its window",
  ],
  [
    "the highest channel number",
    (one) => send(one, Buffer.from([97, 255, 255, 255, 255])),
    "a channel 4294967295",
  ],
  ["half a message", (one) => send(one, Buffer.from([93, 0, 0])), "a message 93 that is too short"],
  ["half a channel's opening", (one) => send(one, Buffer.from([90, 0, 0, 0, 1, 65])), "that is too short"],
  [
    "an answer to what nobody asked",
    (one) => send(one, Buffer.from([91, 0, 0, 0, 0])),
    "it sends a message 91",
  ],
  ["a message without a meaning", (one) => send(one, Buffer.from([200])), "it sends a message 200"],
])("%s ends the connection, with the reason in the log", async (_, attack, reason) => {
  const one = await login();
  const channel = await session(one);
  attack(one, (channel as unknown as BentChannel).outgoing.id);
  await relay.said(reason);
  await one.closed;
  await session(await login());
});

test("a channel's message before authentication ends the connection", async () => {
  const client = new ssh2.Client();
  clients.push(client);
  const closed = new Promise<void>((resolve) => client.on("close", () => resolve()));
  client.on("error", () => {});
  client.on("handshake", () => (client as unknown as Bent)._protocol.session(0, 1 << 20, 32_768));
  client.connect({ host: "127.0.0.1", port: relay.port, username: "walt-vpn", password: "x" });
  await relay.said("it sends a message 90 before it has authenticated");
  await closed;
});

/** Numbers that are the same at each run (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("random messages end connections, never the relay", async () => {
  const random = numbers(20_240_611);
  const types = [1, 2, 3, 4, 5, 7, 50, 80, 81, 82, 90, 93, 94, 95, 96, 97, 98, 99];
  const words = [
    "session",
    "direct-tcpip",
    "exec",
    "shell",
    "pty-req",
    "env",
    "x11-req",
    "subsystem",
    "signal",
  ];
  const numeric = [0, 1, 2, 7, 255, 4096, 32_768, 0x7fff_ffff, 0xffff_ffff];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const part = (): Buffer => {
    const kind = random();
    if (kind < 0.4) {
      const word = pick(words);
      return Buffer.concat([Buffer.of(0, 0, 0, word.length), Buffer.from(word)]);
    }
    if (kind < 0.5) return Buffer.from(Array.from({ length: random() * 9 }, () => random() * 256));
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(pick(numeric));
    return kind < 0.9 ? bytes : Buffer.of(1);
  };
  for (let round = 0; round < 12; round++) {
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const one = await login();
        await session(one);
        for (let i = 0; i < 12; i++) {
          const parts = Array.from({ length: random() * 6 }, part);
          send(one, Buffer.concat([Buffer.of(pick(types)), ...parts]));
        }
        one.client.end();
        await one.closed;
      }),
    );
  }
  await session(await login());
  expect(await relay.stop()).toBe(0);
}, 120_000);

test("of a burst of connections that say nothing, no more than 64 stay open", async () => {
  const before = relay.sockets;
  let most = 0;
  let closed = 0;
  const burst = Array.from({ length: 600 }, () => {
    const socket = connect({ port: relay.port, host: "127.0.0.1", localAddress: "127.0.0.2" }).resume();
    sockets.add(socket.on("error", () => {}).on("close", () => closed++));
    return new Promise<void>((resolve) => socket.once("connect", resolve).once("close", () => resolve()));
  });
  const watch = async () => {
    for (const late = performance.now() + 60_000; closed < 600 - 64 && performance.now() < late; ) {
      most = Math.max(most, relay.sockets - before);
      await Bun.sleep(1);
    }
  };
  await Promise.all([...burst, watch()]);
  expect(closed).toBe(600 - 64);
  expect(most).toBeLessThanOrEqual(64 + 16); // those just accepted
});

test("while one address opens connections without end, another one's logins all succeed", async () => {
  const quiet = connect(relay.port, "127.0.0.1").resume(); // a slow one, of the honest address
  const since = performance.now();
  let lasted = Number.POSITIVE_INFINITY;
  sockets.add(quiet.on("error", () => {}).on("close", () => (lasted = performance.now() - since)));
  let opened = 0;
  let over = false;
  const open = (): void => {
    if (over) return;
    opened++;
    const socket = connect({ port: relay.port, host: "127.0.0.1", localAddress: "127.0.0.2" }).resume();
    sockets.add(socket);
    socket
      .on("error", () => {})
      .on("close", () => {
        sockets.delete(socket);
        setTimeout(open, 20); // the honest one's logins are made by this process as well
      });
  };
  try {
    for (let i = 0; i < 150; i++) open();
    for (let i = 0; i < 4; i++) (await login()).client.end();
  } finally {
    over = true;
  }
  expect(opened).toBeGreaterThan(300);
  expect(lasted).toBeGreaterThan(19_000); // until the grace time is over, if it came to that
}, 120_000);

test("who repeats what is refused is ended", async () => {
  const one = await login();
  const channel = await session(one);
  const { id } = (channel as unknown as BentChannel).outgoing;
  for (let i = 0; i < 100; i++) one.bent._protocol.subsystem(id, "sftp", false);
  await relay.said("more than 32 of its requests were refused");
  await one.closed;
  const other = await login();
  for (let i = 0; i < 100; i++) void forward(other, 1);
  await relay.said("more than 32 of its requests were refused", 2);
  await other.closed;
});

test("who asks without end is ended, and who asks now and then is not", async () => {
  const [one, other] = [await login(), await login()];
  for (let i = 0; i < 30; i++) other.bent._protocol.ping();
  for (let i = 0; i < 200; i++) one.bent._protocol.ping();
  await relay.said("it asks for something too often");
  await one.closed;
  await session(other);
});

test("a session that is opened and closed without a command is forgotten", async () => {
  const one = await login();
  let answered = 0;
  one.bent._protocol._handlers.CHANNEL_CLOSE = () => answered++;
  for (let i = 0; i < 20; i++) {
    one.bent._protocol.session(1000 + i, 1 << 20, 32_768);
    send(one, Buffer.from([97, 0, 0, 0, i]));
  }
  await session(one); // one at a time is allowed
  expect(answered).toBe(20);
});

test("who begins to exchange keys and stops there does not make the relay keep what it is sent", async () => {
  let written = 0;
  serveNext = (socket) => {
    const more = () => {
      while (!socket.destroyed && written < 256 * MB) {
        written += 65_536;
        if (!socket.write(Buffer.alloc(65_536))) return;
      }
    };
    socket.on("drain", more);
  };
  const one = await login();
  const channel = await forward(one);
  if (channel === undefined) throw new Error("refused");
  one.bent._protocol.channelWindowAdjust((channel as unknown as BentChannel).outgoing.id, 0x7fff_ffff);
  one.bent._protocol.rekey();
  one.bent._sock.pause(); // our half is never answered
  const { memory } = relay;
  await Bun.sleep(100); // the relay has it
  for (const socket of sockets) socket.emit("drain");
  await settled(() => written);
  expect(written).toBeGreaterThan(0);
  expect(written).toBeLessThan(64 * MB);
  expect(relay.memory - memory).toBeLessThan(64 * MB);
});

test("one connection writes one line of each kind, and in the end their number", async () => {
  const one = await login();
  for (let i = 0; i < 30; i++) await forward(one, 1);
  one.client.end();
  await one.closed;
  await relay.said("times=30");
  expect(relay.log.match(/not the next hop/g)).toHaveLength(2);
});

test("one source's lines are bounded, and the number of those left out is told", async () => {
  const before = relay.log.split("\n").length;
  const stranger = generateKey("stranger");
  for (let i = 0; i < 15; i++) {
    await Promise.all(Array.from({ length: 10 }, () => login(stranger).catch(() => {})));
  }
  expect(await relay.stop()).toBe(0);
  expect(relay.log.split("\n").length - before).toBeLessThan(100);
  expect(relay.log).toMatch(/lines were left out of this log: .*strangers=\d\d|left out.*strangers=\d\d/);
}, 120_000);
