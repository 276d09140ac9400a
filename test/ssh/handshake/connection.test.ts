/**
 * Channels of a server's connection without a socket: windows both ways, ends, and clients that ask for what
 * they may not have.
 */

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { CHANNEL_WINDOW } from "../../../src/ssh/handshake/channel.ts";
import { OUTPUT_MAX } from "../../../src/ssh/handshake/server.ts";
import { WireReader, WireWriter } from "../../../src/ssh/keys/wire.ts";
import { Pair } from "./pair.ts";
import { say } from "./speaker.ts";

const types = (messages: readonly Buffer[]): (number | undefined)[] => messages.map((message) => message[0]);
/** What a client was told on its standard output. */
const output = (messages: readonly Buffer[]): string =>
  messages.flatMap((message) => (message[0] === 94 ? [message.subarray(9).toString()] : [])).join("");

test("a command reads lines, writes, says how it went, and is closed", async () => {
  const pair = new Pair().login();
  const channel = pair.exec("enrol");
  expect(types(pair.client.take())).toEqual([91, 99]);
  void channel.write("hello\n");
  pair.send(say.data(0, "one\ntw"), say.data(0, "o\nrest"), say.eof(0));
  expect(output(pair.client.take())).toBe("hello\n");
  expect([await channel.readLine(100), await channel.readLine(100), await channel.readLine(100)]).toEqual([
    "one",
    "two",
    undefined,
  ]);
  void channel.write("oops\n", true);
  channel.exit(3);
  void channel.write("too late");
  channel.exit(4);
  const said = pair.move().client.take();
  expect(types(said)).toEqual([95, 98, 96, 97]);
  expect(said[1]?.readUInt32BE(said[1].length - 4)).toBe(3);
  let closed = false;
  void channel.ended.then(() => (closed = true));
  await Promise.resolve();
  expect(closed).toBe(false);
  pair.send(say.close(0));
  await channel.ended;
  expect(pair.end).toBeUndefined();
  // Its number is free again.
  expect(pair.exec("again").ours).toBe(0);
});

test("what fails says why on standard error, with status 1", () => {
  const pair = new Pair().login();
  pair.exec().exit(1, "no");
  const said = pair.move().client.take(95, 98);
  expect(said[0]?.subarray(13).toString()).toBe("walt: no\r\n");
  expect(said[1]?.readUInt32BE(said[1].length - 4)).toBe(1);
});

test("a client that closes gets our close, whoever reads or writes is told, and nothing more is sent", async () => {
  const pair = new Pair().login();
  const channel = pair.exec("enrol", 0);
  pair.client.take();
  const [line, written] = [channel.readLine(10), channel.write(Buffer.alloc(100_000))];
  pair.send(say.close(0));
  expect(types(pair.client.take())).toEqual([97]);
  expect(await line).toBeUndefined();
  await written;
  await channel.ended;
  void channel.write("more");
  channel.exit(0);
  pair.move();
  expect(pair.client.take()).toEqual([]);
});

test("when the connection ends, so do its channels", async () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  const line = channel.readLine(10);
  pair.server.stop();
  await channel.ended;
  expect(await line).toBeUndefined();
});

test("a line that is too long is refused as soon as that is clear, and what follows is thrown away", async () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  const line = channel.readLine(8);
  pair.send(say.data(0, "123456789"));
  await expect(line).rejects.toThrow("a line is longer than 8 bytes");
  pair.send(say.data(0, Buffer.alloc(1000)));
  expect(await channel.readLine(8)).toBeUndefined();
});

test("the client has its window and gets more only as its data is read", async () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  const line = Buffer.from(`${"x".repeat(4095)}\n`);
  pair.client.take();
  for (let i = 0; i < 4; i++) pair.send(say.data(0, line));
  expect(pair.client.take()).toEqual([]); // all of the window is used, and nothing was read
  expect(channel.windows.ourWindow).toBe(0);
  await channel.readLine(5000);
  expect(pair.move().client.take()).toEqual([]);
  await channel.readLine(5000);
  const [more] = pair.move().client.take(93);
  expect(more?.readUInt32BE(5)).toBe(8192);
  pair.send(say.data(0, line), say.data(0, line));
  expect(pair.end).toBeUndefined();
  pair.send(say.data(0, "x"));
  expect(pair.end).toBe("malformed: it sends more than its window");
});

test("standard error of the client's counts for the window, too, and is thrown away", async () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  for (let i = 0; i < 4; i++) pair.send(say.stderr(0, "x".repeat(4096)));
  expect(channel.windows.ourWindow).toBe(0);
  pair.send(say.eof(0));
  expect(await channel.readLine(100)).toBeUndefined();
  const other = new Pair().login();
  other.exec();
  other.send(say.stderr(0, "x".repeat(CHANNEL_WINDOW + 1)));
  expect(other.end).toMatch(/more than its window/);
});

test("what nobody wants is thrown away within the window: before a command, and after what is read", () => {
  const pair = new Pair().login().send(say.open());
  for (let i = 0; i < 4; i++) pair.send(say.data(0, Buffer.alloc(4096)));
  expect(pair.end).toBeUndefined();
  expect(pair.client.take(93)).toEqual([]);
  pair.send(say.data(0, "x"));
  expect(pair.end).toMatch(/more than its window/);
});

test("the server sends no more than the client's window, in packets of its size, and whoever writes waits", async () => {
  const pair = new Pair().login();
  const channel = pair.exec("enrol", 10_000, 4096);
  pair.client.take();
  const bytes = randomBytes(100_000);
  let went = false;
  void channel.write(bytes).then(() => (went = true));
  const lengths = (): number[] =>
    pair
      .move()
      .client.take(94)
      .map((message) => new WireReader(message.subarray(5)).u32());
  expect(lengths()).toEqual([4096, 4096, 1808]);
  await Promise.resolve();
  expect(went).toBe(false);
  pair.send(say.adjust(0, 30_000));
  await Promise.resolve();
  expect(went).toBe(true);
  expect(lengths().reduce((sum, n) => sum + n, 0)).toBe(30_000);
  expect(() => void channel.write(Buffer.alloc(200_000))).toThrow("does not wait");
  // An end waits for what was written.
  channel.exit(0);
  expect(pair.move().client.take()).toEqual([]);
  for (let i = 0; i < 3; i++) pair.send(say.adjust(0, 0xffff_ffff));
  expect(types(pair.client.take()).slice(-4)).toEqual([94, 98, 96, 97]);
  expect(channel.windows.theirWindow).toBeLessThanOrEqual(0xffff_ffff);
});

test("packets of any size: more than 32 KiB are 32 KiB, and less than 4 KiB are refused", () => {
  const pair = new Pair().login();
  const channel = pair.exec("enrol", 1 << 20, 0xffff_ffff);
  expect(channel.theirPacket).toBe(32_768);
  for (const packet of [0, 1, 4095]) {
    pair.client.take();
    const [refusal] = pair.send(say.open(9, 1 << 20, packet)).client.take(92);
    expect(refusal?.readUInt32BE(1)).toBe(9);
    expect(refusal?.toString()).toContain(`packets of ${packet} bytes are too small: 4096 are the least`);
  }
  expect(pair.exec("enrol", 1 << 20, 4096, 1).theirPacket).toBe(4096);
});

test("eight channels, and not a ninth; each has its own windows", () => {
  const pair = new Pair().login();
  const channels = Array.from({ length: 8 }, (_, i) => pair.exec(`c${i}`, 1000 * (i + 1), 32_768, i));
  expect(channels.map((channel) => [channel.ours, channel.theirs])).toEqual(
    channels.map((_, i) => [i, 7 + i]),
  );
  pair.client.take();
  const [refusal] = pair.send(say.open(99)).client.take(92);
  expect([refusal?.readUInt32BE(1), refusal?.readUInt32BE(5)]).toEqual([99, 4]);
  expect(pair.events.splice(0)).toEqual([{ kind: "refused", what: "one more session" }]);
  for (const channel of channels) void channel.write(Buffer.alloc(50_000));
  const counts = new Map<number, number>();
  for (const message of pair.move().client.take(94)) {
    const to = message.readUInt32BE(1);
    counts.set(to, (counts.get(to) ?? 0) + message.length - 9);
  }
  expect([...counts.values()]).toEqual(channels.map((_, i) => 1000 * (i + 1)));
  pair.send(say.close(3));
  expect(pair.exec("again", 1, 32_768, 3).ours).toBe(3);
});

test("forwarding, listeners, agents, terminals and more are refused, each in SSH's own way", () => {
  const pair = new Pair().login();
  pair.exec();
  pair.client.take();
  const tcpip = new WireWriter()
    .raw(say.open(5, 1, 1, "direct-tcpip"))
    .string("db\u001b")
    .u32(5432)
    .string("")
    .u32(1);
  pair.send(
    tcpip.bytes(),
    say.open(6, 1, 1, "direct-streamlocal@openssh.com"),
    say.open(8, 1, 1, "tun@openssh.com"),
    say.global("tcpip-forward"),
    say.global("streamlocal-forward@openssh.com", false),
    say.request(0, "pty-req"),
    say.request(0, "x11-req"),
    say.request(0, "auth-agent-req@openssh.com"),
    say.request(0, "shell"),
    say.request(0, "window-change", false),
  );
  expect(types(pair.client.take())).toEqual([92, 92, 92, 82, 100, 100, 100, 100]);
  expect(pair.events.map((event) => event.kind === "refused" && event.what)).toEqual([
    "forwarding to db?:5432",
    "forwarding to a UNIX socket",
    "a channel tun@openssh.com",
    "global request tcpip-forward",
    "global request streamlocal-forward@openssh.com",
    "a terminal",
    "X11",
    "an agent",
    "channel request shell",
    "channel request window-change",
  ]);
});

test("signs of life are answered and given without end; an environment is ignored without a word", () => {
  const pair = new Pair().login();
  pair.exec();
  pair.client.take();
  for (let i = 0; i < 200; i++) pair.send(say.global("keepalive@openssh.com"), say.request(0, "env"));
  expect(new Set(types(pair.client.take()))).toEqual(new Set([82, 100]));
  expect(pair.events).toEqual([]);
  pair.server.ask();
  expect(pair.move().client.take(80)[0]?.toString()).toContain("keepalive@openssh.com");
  pair.send(Buffer.of(82), Buffer.of(81));
  expect(pair.end).toBeUndefined();
});

test.each<[string, (i: number) => Buffer]>([
  ["global requests", () => say.global("x")],
  ["global requests that want no answer", () => say.global("x", false)],
  ["channels", () => say.open(1, 1, 1, "x11")],
  ["channel requests", () => say.request(0, "x11-req")],
  ["unknown messages", (i) => Buffer.of(200 + (i % 50))],
  ["authentication", () => say.none()],
])("who goes on asking is ended: %s", (_, ask) => {
  const pair = new Pair().login();
  pair.exec();
  for (let i = 0; i < 32; i++) pair.send(ask(i));
  expect(pair.end).toBeUndefined();
  pair.send(ask(0));
  expect(pair.end).toBe("excess: more than 32 requests that are refused");
});

test("thousands of questions at once: no more is answered than waits to be sent", () => {
  const pair = new Pair().login();
  pair.exec();
  for (let i = 0; i < 50_000; i++) pair.client.send(say.global("keepalive@openssh.com"));
  pair.server.push(pair.client.output());
  while (!pair.server.stalled) {
    pair.server.turn();
    expect(pair.server.next()).toBeUndefined();
  }
  const first = pair.server.output().length;
  expect(first).toBeLessThan(OUTPUT_MAX + 100);
  // It goes on where it was as that leaves.
  expect(pair.server.next()).toBeUndefined();
  expect(pair.server.output().length).toBeWithin(1, OUTPUT_MAX + 100);
});

test("some hundred messages are looked at in one turn, and the rest in the next ones", () => {
  const pair = new Pair().login();
  for (let i = 0; i < 600; i++) pair.client.send(Buffer.of(2));
  pair.client.send(say.open(), say.exec(0, "enrol"));
  pair.server.push(pair.client.output());
  for (let turn = 0; turn < 2; turn++) {
    pair.server.turn();
    expect(pair.server.next()).toBeUndefined();
    expect(pair.server.tired).toBe(true);
    expect(pair.server.next()).toBeUndefined();
  }
  pair.server.turn();
  expect(pair.server.next()).toMatchObject({ kind: "request" });
  expect(pair.server.tired).toBe(false);
});

test("a connection opens 64 sessions in its life, and not one more", () => {
  const pair = new Pair().login();
  for (let i = 0; i < 64; i++) pair.send(say.open(), say.close(0));
  expect(pair.end).toBeUndefined();
  pair.send(say.open());
  expect(pair.end).toBe("excess: more than 64 sessions");
});

test.each<[string, Buffer[], RegExp]>([
  ["data for a channel that is not open", [say.data(1, "x")], /channel 1, which is not open/],
  ["room for it", [say.adjust(0xffff_ffff, 1)], /channel 4294967295/],
  ["its end", [say.eof(1)], /channel 1/],
  ["its close", [say.close(1)], /channel 1/],
  ["a request on it", [say.exec(1, "x")], /channel 1/],
  ["a close twice", [say.close(0), say.close(0)], /channel 0, which is not open/],
  ["a request behind the close", [say.close(0), say.exec(0, "x")], /channel 0/],
  ["data behind the end", [say.eof(0), say.data(0, "x")], /data after its end/],
  ["data that say another length", [Buffer.of(94, 0, 0, 0, 0, 0, 0, 9, 0, 1)], /another length/],
  ["data of 4 GiB, as they say", [Buffer.of(94, 0, 0, 0, 0, 255, 255, 255, 255, 1)], /another length/],
  ["half a header", [Buffer.of(94, 0, 0)], /too short/],
  ["half a request", [Buffer.of(98, 0, 0, 0, 0, 0, 0, 0, 9, 65)], /malformed/],
  ["half a channel", [say.open().subarray(0, 20)], /malformed/],
  ["a channel with more", [Buffer.concat([say.open(), Buffer.of(1)])], /malformed/],
  ["a name of 4 GiB, as it says", [Buffer.of(80, 255, 255, 255, 255, 65)], /malformed/],
  ["a name that is no text", [new WireWriter().u8(80).string(Buffer.of(255)).u8(1).bytes()], /not UTF-8/],
])("%s ends the connection", (_, messages, reason) => {
  const pair = new Pair().login();
  pair.exec();
  pair.send(...messages);
  expect(pair.end).toMatch(reason);
});

test("an end twice is one; a request behind it, or a second command, fails", () => {
  const pair = new Pair().login();
  pair.exec();
  pair.client.take();
  expect(types(pair.send(say.exec(0, "second")).client.take())).toEqual([100]);
  pair.send(say.eof(0), say.eof(0)).send(say.open(1), say.eof(1), say.exec(1, "late"));
  expect(types(pair.client.take())).toEqual([91, 100]);
  expect(pair.end).toBeUndefined();
});

test("a connection is released for one channel, not for one of several", () => {
  const pair = new Pair().login();
  const channel = pair.exec("tunnel");
  pair.exec("enrol", 1, 32_768, 1);
  expect(pair.server.prepare(channel)).toMatch(/a connection of its own/);
  pair.send(say.close(1));
  expect(pair.server.prepare(channel)).toBeUndefined();
  expect(() => pair.server.release(channel)).toThrow("not prepared"); // the window has not left yet
  const opened = pair.move().client.take(93);
  expect(opened[0]?.readUInt32BE(5)).toBe((2 << 20) - CHANNEL_WINDOW);
  const rest = randomBytes(100);
  pair.server.push(rest);
  const state = pair.server.release(channel);
  expect(rest.equals(state.unread)).toBe(true);
  expect(state).toMatchObject({ ourChannel: 0, theirChannel: 7, ourWindow: 2 << 20, theirWindow: 1 << 21 });
  const ended = new Pair().login();
  const gone = ended.exec("tunnel");
  ended.send(say.close(0));
  expect(ended.server.prepare(gone)).toMatch(/has ended/);
});
