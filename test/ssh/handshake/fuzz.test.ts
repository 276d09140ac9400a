/**
 * The server's SSH under fuzz, by bytes and by messages: no call throws, an end comes once and is the last,
 * and what is kept and said stays within bounds.
 */

import { expect } from "bun:test";
import type { Channel } from "../../../src/ssh/handshake/channel.ts";
import { ClientHandshake, type Wire } from "../../../src/ssh/handshake/client.ts";
import { OUTPUT_MAX, type ServerConnection } from "../../../src/ssh/handshake/server.ts";
import { damage, fuzz, oneOf, type Random, someBytes } from "../../hostile/fuzz.ts";
import { clientKey, hostKey, Pair, serverConnection } from "./pair.ts";
import { say } from "./speaker.ts";

/** What the server makes of what came, in its bounds. */
function serve(server: ServerConnection, channels: Channel[], random: Random): void {
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

function use(channel: Channel, random: Random): void {
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

fuzz("bytes at random, and what a client says with bytes changed", 500, (random) => {
  const hello = Buffer.from("SSH-2.0-hand\r\n");
  const server = serverConnection();
  for (let i = 0; i < 6; i++) {
    const part = oneOf(random, hello, someBytes(random, 300), Buffer.concat([hello, someBytes(random, 300)]));
    server.push(random(2) === 0 ? Buffer.from(part) : damage(part, random));
    serve(server, [], random);
  }
  expect(server.unread).toBeLessThan(10_000);
  server.stop();
});

fuzz("messages in any order, whole and damaged, before and after authentication", 400, (random) => {
  const pair = new Pair().keys();
  if (random(8) > 0) pair.service();
  if (random(8) > 0) pair.login();
  const channels: Channel[] = [];
  const channel = (): number => (random(10) === 0 ? random(12) : random(3));
  const messages: (() => Buffer)[] = [
    () => say.service(),
    () => say.none(),
    () => say.proof(clientKey, pair.client.id),
    () => say.open(random(10), random(100_000), oneOf(random, 0, 1, 4095, 4096, 32_768, 0xffff_ffff)),
    () => say.exec(channel(), "enrol"),
    () => say.request(channel(), "shell", random(2) === 0),
    () => say.data(channel(), someBytes(random, 3000)),
    () => say.stderr(channel(), "x".repeat(random(3000))),
    () => say.adjust(channel(), random(0xffff_ffff)),
    () => say.eof(channel()),
    () => say.close(channel()),
    () => say.global("keepalive@openssh.com"),
    () => Buffer.of(random(256), 0, 0, 0, channel()),
    () => say.disconnect("x"),
  ];
  for (let i = random(80); i > 0; i--) {
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

fuzz("a client whom somebody on the way tells anything: an error, and an end", 300, async (random) => {
  const version = Buffer.from("SSH-2.0-odd\r\n");
  const server = serverConnection();
  server.push(Buffer.from("SSH-2.0-hand\r\n"));
  server.next();
  const said = Buffer.from(server.output()); // version and KEXINIT of a real server
  const parts = Array.from({ length: 1 + random(5) }, () =>
    oneOf(random, version, said, damage(said, random), someBytes(random, 300)),
  );
  const wire: Wire = {
    read: () => {
      const next = parts.shift();
      return next === undefined ? Promise.reject(new Error("the end")) : Promise.resolve(next);
    },
    write: () => {},
  };
  const handshake = new ClientHandshake(wire, [hostKey.publicKey.blob], clientKey);
  const outcome = await handshake.run("enrol").catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(Error);
  expect(outcome).not.toBeInstanceOf(TypeError);
  server.stop();
});
