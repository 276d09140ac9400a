/**
 * The server's SSH under fuzz, by bytes and by messages: no call throws, an end comes once and is the last,
 * and what is kept and said stays within bounds. Seeded; WALT_FUZZ is the seconds that each run may take.
 */

import { expect, test } from "bun:test";
import type { Channel } from "../../../src/ssh/handshake/channel.ts";
import { OUTPUT_MAX, type ServerConnection } from "../../../src/ssh/handshake/server.ts";
import { chance } from "../../tunnel/rig.ts";
import { clientKey, Pair, serverConnection } from "./pair.ts";
import { say } from "./speaker.ts";

const SECONDS = Number(process.env["WALT_FUZZ"] ?? 2);
const TIMEOUT = 1000 * SECONDS + 30_000;

/** What the server makes of what came, in its bounds. */
function serve(server: ServerConnection, channels: Channel[], random: (below: number) => number): void {
  let ended = false;
  for (let i = 0; i < 10_000; i++) {
    const { stalled } = server;
    const event = server.next();
    if (ended) expect(event).toBeUndefined();
    if (event?.kind === "ended") {
      expect(event.end.text.length).toBeLessThan(400);
      ended = true;
    }
    if (event?.kind === "request") channels.push(event.channel);
    // The application does something, too.
    const channel = channels[random(Math.max(1, channels.length))];
    if (channel !== undefined && random(4) === 0) use(channel, random);
    const output = server.output();
    expect(output.length).toBeLessThan(OUTPUT_MAX + 2 * 36_000);
    if (event === undefined && output.length === 0 && !stalled) return;
  }
  throw new Error("it does not come to rest");
}

function use(channel: Channel, random: (below: number) => number): void {
  switch (random(4)) {
    case 0:
      channel.readLine(100).catch(() => {});
      break;
    case 1:
      if (channel.isOpen) void channel.write(Buffer.alloc(random(40_000)));
      break;
    case 2:
      channel.exit(random(256));
      break;
    default:
      channel.exit(1, "no");
  }
}

/** Rounds until the time is over; at least one. */
function fuzz(seed: number, round: (random: (below: number) => number) => void): void {
  const late = performance.now() + 1000 * SECONDS;
  for (let i = 0; i === 0 || performance.now() < late; i++) {
    try {
      round(chance(seed + i));
    } catch (error) {
      throw new Error(`with the seed ${seed + i}: ${error}`, { cause: error });
    }
  }
}

const bytes = (random: (below: number) => number, most: number): Buffer =>
  Buffer.from(Array.from({ length: random(most) }, () => random(256)));

/** Change, cut, double or put in something. */
function damage(message: Buffer, random: (below: number) => number): Buffer {
  const at = random(message.length + 1);
  switch (random(6)) {
    case 0:
      return message.subarray(0, at);
    case 1:
      return Buffer.concat([message.subarray(0, at), bytes(random, 20), message.subarray(at)]);
    case 2:
      return Buffer.concat([message, message.subarray(at)]);
    case 3: {
      // A number, where there may be one.
      const changed = Buffer.from(message);
      const number = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, random(100_000)][random(6)] ?? 0;
      if (changed.length >= 4) changed.writeUInt32BE(number, random(changed.length - 3));
      return changed;
    }
    default:
      return message.map((byte) => (random(20) === 0 ? random(256) : byte)) as Buffer;
  }
}

test(
  "bytes at random, and what a client says with bytes changed",
  () => {
    const client = new Pair();
    client.move();
    const [hello] = [Buffer.from("SSH-2.0-hand\r\n")];
    fuzz(1000, (random) => {
      const server = serverConnection();
      const parts = [hello, bytes(random, 300), Buffer.concat([hello, bytes(random, 300)])];
      for (let i = 0; i < 6; i++) {
        const part = parts[random(parts.length)] ?? hello;
        server.push(Buffer.from(random(2) === 0 ? part : damage(part, random)));
        serve(server, [], random);
      }
      expect(server.unread).toBeLessThan(10_000);
      server.stop();
    });
  },
  TIMEOUT,
);

test(
  "messages in any order, whole and damaged, before and after authentication",
  () => {
    fuzz(2000, (random) => {
      const pair = new Pair().keys();
      if (random(8) > 0) pair.service();
      if (random(8) > 0) pair.login();
      const channels: Channel[] = [];
      const channel = (): number => (random(10) === 0 ? random(12) : random(3));
      const messages: (() => Buffer)[] = [
        () => say.service(),
        () => say.none(),
        () => say.proof(clientKey, pair.client.id),
        () => say.open(random(10), random(100_000), [0, 1, 4095, 4096, 32_768, 0xffff_ffff][random(6)]),
        () => say.exec(channel(), "enrol"),
        () => say.request(channel(), "shell", random(2) === 0),
        () => say.data(channel(), bytes(random, 3000)),
        () => say.stderr(channel(), "x".repeat(random(3000))),
        () => say.adjust(channel(), random(0xffff_ffff)),
        () => say.eof(channel()),
        () => say.close(channel()),
        () => say.global("keepalive@openssh.com"),
        () => Buffer.of(random(256), 0, 0, 0, channel()),
        () => say.disconnect("x"),
      ];
      const count = random(80);
      for (let i = 0; i < count; i++) {
        // Half of all rounds are of messages that are whole: they come further.
        const message =
          messages[random(random(30) === 0 ? messages.length : messages.length - 1)]?.() ?? Buffer.of(2);
        pair.client.packets.send(random(10) === 0 ? damage(message, random) : message);
        pair.server.push(pair.client.output());
        serve(pair.server, channels, random);
      }
      expect(pair.server.unread).toBeLessThan(100_000);
      pair.server.stop();
      for (const one of channels) expect(one.isClosed).toBe(true);
    });
  },
  TIMEOUT,
);
