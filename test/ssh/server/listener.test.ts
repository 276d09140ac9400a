/** The port on which SSH is served: who is kept, who has to go, what is written about it. */

import { afterEach, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { formatLine, type Log } from "../../../src/log.ts";
import type { Channel } from "../../../src/ssh/handshake/channel.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { type ListenerOptions, SshListener } from "../../../src/ssh/server/listener.ts";
import { eventually, turn } from "../../lab/eventually.ts";
import { clientKey, hostKey } from "../handshake/pair.ts";
import { say } from "../handshake/speaker.ts";
import { SpeakerSocket } from "../handshake/speaker-socket.ts";
import { until } from "./taken.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

let lines: string[] = [];
const log: Log = (() => {
  const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
    lines.push(formatLine("", message, fields));
  };
  const made: Log = { debug: () => {}, info: note, warn: note, error: note, with: () => made };
  return made;
})();

async function listen(more: Partial<ListenerOptions> = {}): Promise<SshListener> {
  lines = [];
  const made = await SshListener.start({
    listen: { host: "127.0.0.1", port: 0 },
    hostKey: () => hostKey,
    log,
    authorise: (_, { key }) => (key.blob.equals(clientKey.publicKey.blob) ? undefined : "a stranger"),
    entered: () => {},
    request: () => {},
    ...more,
  });
  cleanup.push(() => made.stop());
  return made;
}

/** A connection that says nothing. */
async function halfOpen(to: SshListener, from: string): Promise<Socket> {
  const socket = connect({ ...to.address, localAddress: from });
  cleanup.push(() => socket.destroy());
  socket.on("error", () => {}).resume();
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

async function login(to: SshListener, from?: string): Promise<SpeakerSocket> {
  const made = await SpeakerSocket.login(to.address, hostKey.publicKey, clientKey, from);
  cleanup.push(() => made.close());
  return made;
}

test("a burst of half-open connections from one source leaves its share, at any time, and others come in", async () => {
  const at = await listen({ maxConnections: 256 }); // 64 half-open, 16 of a source
  let most = 0;
  const burst = Array.from({ length: 400 }, async () => {
    await halfOpen(at, "127.0.0.2");
    most = Math.max(most, at.connections);
  });
  await Promise.all([...burst, login(at, "127.0.0.3"), login(at, "127.0.0.4")]);
  expect(most).toBeLessThanOrEqual(16 + 2);
  await until("its end", () => at.connections <= 18);
});

test("of many sources whoever has most goes first, and all together stay within their bound", async () => {
  const at = await listen({ maxConnections: 64 }); // 16 half-open, 4 of a source
  const honest = await SpeakerSocket.connect(at.address, hostKey.publicKey, "127.0.0.99");
  cleanup.push(() => honest.close());
  for (let i = 0; i < 200; i++) await halfOpen(at, `127.0.1.${i % 10}`);
  await turn();
  expect(at.connections).toBeLessThanOrEqual(16);
  // It came first and has one connection: it is not the one that had to go.
  await honest.until("keys", () => honest.speaker.transport?.ready === true);
  honest.send(say.service(), say.proof(clientKey, honest.speaker.id));
  await honest.message(52);
});

test("who is in does not count as half-open; one more than all is refused", async () => {
  const at = await listen({ maxConnections: 8 });
  const all: SpeakerSocket[] = [];
  for (let i = 0; i < 8; i++) all.push(await login(at));
  expect(at.connections).toBe(8);
  const late = await halfOpen(at, "127.0.0.1");
  await new Promise((resolve) => late.once("close", resolve));
  expect(lines).toEqual([
    "connection refused: too many event=connection-refused from=127.0.0.1 connections=8",
  ]);
  all[0]?.close();
  await until("room", () => at.connections === 7);
  await login(at);
});

test("who does not authenticate in time is ended", async () => {
  const at = await listen({ grace: 50 });
  const socket = await halfOpen(at, "127.0.0.1");
  await new Promise((resolve) => socket.once("close", resolve));
  await until("its end", () => at.connections === 0);
});

test("a silent client is asked, and ended when it does not answer; one that answers stays", async () => {
  const at = await listen({ silence: 1500 });
  const lively = await login(at);
  lively.socket.on("data", () => {
    for (const _ of lively.speaker.take(80)) lively.send(Buffer.of(82));
  });
  for (let i = 0; i < 2; i++) {
    const start = performance.now();
    const quiet = await login(at);
    await quiet.closed;
    expect(performance.now() - start).toBeGreaterThan(1400);
    expect(quiet.speaker.take(80).length).toBeGreaterThanOrEqual(1);
  }
  expect(lively.isClosed).toBe(false);
  await until("their end", () => at.connections === 1);
  expect(lines[0]).toMatch(/^connection ended .*reason="nothing came for 1500 ms"/);
}, 120_000);

test("who does not read what it makes us send is not read from, and goes on where it was once it reads", async () => {
  const at = await listen({
    request: (_, channel) => {
      const write = async (): Promise<void> => {
        for (let i = 0; i < 512; i++) await channel.write(Buffer.alloc(65_536));
        channel.exit(0);
      };
      void write();
    },
  });
  const client = await login(at);
  client.send(say.open(7, 0xffff_ffff), say.exec(0, "flood"));
  await client.message(94);
  client.socket.pause();
  // As much as the kernel holds, and then no more.
  const ignored = Buffer.alloc(30_000, 2);
  let sent = 0;
  for (let still = 0; still < 200; still++) {
    const before = client.socket.bytesWritten - client.socket.writableLength;
    if (client.socket.writableLength < 1 << 20) {
      client.send(ignored);
      sent += ignored.length;
    }
    await turn();
    if (client.socket.bytesWritten - client.socket.writableLength > before) still = 0;
    expect(sent).toBeLessThan(64 << 20);
  }
  expect(client.socket.writableLength).toBeGreaterThan(1 << 19);
  client.send(say.global("keepalive@openssh.com"));
  client.socket.resume();
  let got = 0;
  client.socket.on("data", () => {
    for (const message of client.speaker.take()) got += message[0] === 94 ? message.length - 9 : 0;
  });
  await client.until("all of it", () => got >= (32 << 20) - 65_536);
}, 120_000);

test("of each kind a connection writes one line, and in the end how many there were", async () => {
  const at = await listen();
  const client = await login(at);
  for (let i = 0; i < 20; i++) client.send(say.open(1, 1, 1, "x11"), say.global("keepalive@openssh.com"));
  for (let i = 0; i < 20; i++) await client.message(82);
  client.close();
  await until("its end", () => at.connections === 0);
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^refused event=request-refused from=127.0.0.1:\d+ what="a channel x11"$/);
  expect(lines[1]).toMatch(/^refused, again and again event=repeated from=127.0.0.1:\d+ count=20$/);
});

test("who is refused too often is ended, with a line", async () => {
  const at = await listen();
  const client = await login(at);
  for (let i = 0; i < 100; i++) client.send(say.open(1, 1, 1, "x11"));
  await client.closed;
  expect(lines.some((line) => line.includes("more than 32 requests that are refused"))).toBe(true);
});

test("strangers' lines are bounded for each source", async () => {
  const at = await listen();
  const start = performance.now();
  for (let i = 0; i < 100; i++) {
    const one = await SpeakerSocket.connect(at.address, hostKey.publicKey);
    await one.until("keys", () => one.speaker.transport?.ready === true);
    one.send(say.service(), say.probe(generateKey("x").publicKey));
    await one.message(51);
    one.close();
  }
  expect(lines.length).toBeWithin(60, 65 + (2 * 2 * (performance.now() - start)) / 1000);
});

test("who sends very much at once does not hold up others", async () => {
  const commands: string[] = [];
  const at = await listen({
    request: (_, channel, request) => {
      commands.push(request.kind === "exec" ? request.command : request.kind);
      channel.exit(0);
    },
  });
  const [many, few] = [await login(at), await login(at)];
  many.send(...Array<Buffer>(1000).fill(Buffer.of(2)), say.open(), say.exec(0, "many"));
  few.send(say.open(), say.exec(0, "few"));
  await until("both", () => commands.length === 2);
  expect(commands).toEqual(["few", "many"]);
});

test("who sends very much before it is in is ended: little is kept of strangers", async () => {
  const at = await listen({ grace: 600_000 });
  const stranger = await SpeakerSocket.connect(at.address, hostKey.publicKey);
  cleanup.push(() => stranger.close());
  await stranger.until("keys", () => stranger.speaker.transport?.ready === true);
  stranger.send(...Array<Buffer>(500).fill(Buffer.alloc(8000, 2)));
  await eventually("its end", stranger.closed);
});

test("a thousand commands leave nothing behind", async () => {
  const channels: Channel[] = [];
  const at = await listen({
    request: (_, channel) => {
      channels.push(channel);
      void channel.write("done\n");
      channel.exit(0);
    },
  });
  for (let n = 0; n < 20; n++) {
    const client = await login(at);
    for (let i = 0; i < 50; i++) {
      client.send(say.open(), say.exec(0, "x"));
      await client.message(97);
      client.send(say.close(0));
    }
    await until("the last close", () => channels.every((channel) => channel.isClosed));
    client.close();
    await until("its end", () => at.connections === 0);
  }
  expect(channels).toHaveLength(1000);
});
