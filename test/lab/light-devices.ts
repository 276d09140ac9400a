/**
 * Devices without a board in one process, each with a tunnel of its own in which nothing happens, and a
 * control channel. `bun light-devices.ts register FILE` puts those whose private keys come on standard input,
 * one JSON string a line, into a registry; `bun light-devices.ts up HOST PORT KNOWN_HOSTS MODE` brings their
 * tunnels up, prints `up N`, and keeps them up until it is ended. MODE `honest` sends reports, whose `load` is
 * the device's number and how many reports it has sent; a line on standard input makes all send another one.
 * The other modes are attacks.
 */

import { readFileSync } from "node:fs";
import { Answerer, type OrderHandler } from "../../src/control/answerer.ts";
import type { OrderStream } from "../../src/control/order-stream.ts";
import { printPiece } from "../../src/control/pieces.ts";
import { Change } from "../../src/linux/change.ts";
import { createLog } from "../../src/log.ts";
import { Registry } from "../../src/server/registry.ts";
import { MESSAGE } from "../../src/ssh/handshake/message-numbers.ts";
import { parsePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { pinnedKeys } from "../../src/ssh/keys/known-hosts.ts";
import { WireReader, WireWriter } from "../../src/ssh/keys/wire.ts";
import { FEATURE_ACK, HEADER, lengthAt, TYPE, writeHello } from "../../src/tunnel/message.ts";
import { say } from "../ssh/handshake/speaker.ts";
import { SpeakerSocket } from "../ssh/handshake/speaker-socket.ts";

/** Log in so many at a time. */
const TOGETHER = 8;
/** Our number of the tunnel's channel. */
const TUNNEL = 0;

const [what = "", host = "", port = "", known = "", mode = "honest"] = process.argv.slice(2);
const lines: string[] = [];
const again = new Change();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Clear the screen, and set the terminal's title. */
const ESCAPES = "\u001b[2J\u001b]0;owned\u0007";

async function honest(number: number, stream: OrderStream): Promise<void> {
  for (let sent = 1; ; sent++) {
    const next = again.next(stream.gone);
    await stream.write(bytes(`${JSON.stringify({ stage: "watch", load: { one: number, five: sent } })}\n`));
    await next;
  }
}

async function flood(stream: OrderStream, text: string): Promise<void> {
  for (;;) {
    await stream.write(bytes(text));
    await Bun.sleep(0);
  }
}

/** What a device does with an order, in each mode. */
const HANDLERS: Record<string, (number: number) => OrderHandler> = {
  honest: (number) => async (order, stream) => {
    if (order.order === "report") return await honest(number, stream);
    for await (const part of stream.input) await stream.write(part);
  },
  /** Lines of 1 MB. */
  long: () => async (_, stream) => await flood(stream, "x".repeat(65_536)),
  /** Reports and log without end. */
  flood: () => async (order, stream) => {
    if (order.order === "report") return await flood(stream, `{"stage":"flood"}\n`.repeat(2000));
    const place = { ring: "ab", position: 0 };
    const piece = printPiece({ bytes: bytes("a line\n".repeat(4000)), place, writes: false });
    return await flood(stream, Buffer.from(piece).toString());
  },
  /** Takes orders, and never reads or says anything. */
  deaf: () => () => new Promise(() => {}),
  /** Escapes wherever there is text, and reports in another node's name. */
  escapes: () => async (order, stream) => {
    const text = `${ESCAPES}hello`;
    if (order.order === "report") {
      const report = { stage: text, node: "vpn-000000", name: text, versions: { walt: text } };
      await stream.write(bytes(`${JSON.stringify({ ...report, errors: [{ text }] })}\n`));
      return await new Promise(() => {});
    }
    if (order.order === "reboot")
      return await stream.write(bytes(`${JSON.stringify({ did: "not-started", reason: text })}\n`));
    const place = { ring: "ab", position: 0 };
    await stream.write(printPiece({ bytes: bytes(`${text}\n`), place, writes: true }));
    if (order.order === "console") return await new Promise(() => {});
  },
};

class LightDevice {
  readonly #answerer: Answerer;
  readonly #up = Promise.withResolvers<void>();
  /** The server's number of the tunnel's channel. */
  #theirs = 0;
  #unread: Buffer = Buffer.alloc(0);

  private constructor(
    readonly socket: SpeakerSocket,
    number: number,
  ) {
    const handler = (HANDLERS[mode] ?? HANDLERS["honest"])?.(number);
    if (handler === undefined) throw new Error("no handler");
    const out = { waiting: 0, send: (payload: Uint8Array) => this.socket.send(payload) };
    this.#answerer = new Answerer(out, handler, createLog(-999));
  }

  static async start(privateKey: string, number: number): Promise<void> {
    const [hostKey] = pinnedKeys(readFileSync(known, "utf8"), "walt-server", "known_hosts");
    if (hostKey === undefined) throw new Error("no host key");
    const to = { host, port: Number(port) };
    const socket = await SpeakerSocket.login(to, hostKey, parsePrivateKey(privateKey, "standard input"));
    socket.send(say.open(TUNNEL, 1 << 30));
    const confirmed = await socket.message(MESSAGE.openConfirmation);
    const device = new LightDevice(socket, number);
    device.#theirs = new WireReader(confirmed.subarray(5)).u32();
    socket.socket.on("data", () => device.#hear());
    void socket.closed.then(() => {
      device.#answerer.stop();
      console.log(`a tunnel ended: ${number}`);
    });
    socket.send(say.exec(device.#theirs, `tunnel via=${host}:${port}`));
    const hello = new Uint8Array(12);
    writeHello(hello, 0, 1500, FEATURE_ACK);
    socket.send(say.data(device.#theirs, hello));
    await device.#up.promise;
  }

  #hear(): void {
    for (const message of this.socket.speaker.take()) {
      if ((message[0] ?? 0) < MESSAGE.globalRequest) continue;
      if (message[0] === MESSAGE.globalRequest) {
        this.socket.send(Buffer.of(MESSAGE.requestFailure));
        continue;
      }
      if (message[0] === MESSAGE.channelOpen) this.#attack(message);
      else if (message.readUInt32BE(1) === TUNNEL) {
        if (message[0] === MESSAGE.data) this.#frames(message.subarray(9));
        continue;
      }
      this.#answerer.take(message);
      if (mode === "windows" && message[0] === MESSAGE.channelRequest) this.#widen();
    }
  }

  #frames(data: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, data]);
    while (this.#unread.length >= HEADER && this.#unread.length >= HEADER + lengthAt(this.#unread, 0)) {
      const message = Buffer.from(this.#unread.subarray(0, HEADER + lengthAt(this.#unread, 0)));
      this.#unread = this.#unread.subarray(message.length);
      if (message[0] !== TYPE.ping) continue;
      message[0] = TYPE.pong;
      this.socket.send(say.data(this.#theirs, message));
      this.#up.resolve();
    }
  }

  /** What a device must not say over the control channel. */
  #attack(open: Buffer): void {
    const theirs = new WireReader(open.subarray(1 + 4 + "session".length)).u32();
    if (mode === "opens")
      for (let i = 0; i < 1000; i++)
        this.socket.send(say.open(2000 + i, 1 << 20, 4096, i % 2 ? "session" : "x11"));
    if (mode === "unasked") {
      const success = new WireWriter()
        .u8(MESSAGE.channelSuccess)
        .u32(theirs + 7)
        .bytes();
      this.socket.send(success, say.data(theirs + 7, "an answer\n"));
    }
  }

  /** Windows of 4 GB, again and again: they stay what RFC 4254 allows. */
  #widen(): void {
    for (let i = 0; i < 100; i++) this.socket.send(say.adjust(1000, 0xffff_ffff));
  }
}

const reader = console[Symbol.asyncIterator]();
for (let line = await reader.next(); !line.done && line.value !== "."; line = await reader.next())
  lines.push(String(JSON.parse(line.value)));
if (what === "register") {
  const registry = new Registry(host);
  for (const [i, key] of lines.entries()) {
    const { publicKey } = parsePrivateKey(key, "standard input");
    const mac = `b8:27:eb:00:${(i >> 8).toString(16).padStart(2, "0")}:${(i & 255).toString(16).padStart(2, "0")}`;
    registry.accept({ mac, model: "none", serialNumber: String(i), publicKey }, "test", new Date());
  }
  registry.close();
} else {
  const left = lines.entries();
  const work = async (): Promise<void> => {
    for (const [number, key] of left) await LightDevice.start(key, number);
  };
  await Promise.all(Array.from({ length: TOGETHER }, work));
  console.log(`up ${lines.length}`);
  for (let line = await reader.next(); !line.done; line = await reader.next()) again.tell();
}
