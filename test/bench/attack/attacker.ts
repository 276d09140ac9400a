/**
 * Attackers that go on until they are ended: `bun attacker.ts MODE HOST PORT KEYFILE MAC`. HOST and PORT are the
 * endpoint's, KEYFILE has the enrolment key or that of an accepted device, whose node has the MAC address. They
 * say `attacking` once it has begun. `bun attacker.ts download ADDRESS` sends datagrams to a node instead.
 */

import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { readU32 } from "../../../src/bytes.ts";
import { encodeRequest, parseChallenge } from "../../../src/enrolment/messages.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { pinnedKeys } from "../../../src/ssh/keys/known-hosts.ts";
import { WireReader } from "../../../src/ssh/keys/wire.ts";
import { TYPE } from "../../../src/tunnel/message.ts";
import { say } from "../../ssh/handshake/speaker.ts";
import { SpeakerSocket } from "../../ssh/handshake/speaker-socket.ts";
import { EXPERIMENT, frame, helloMessage, message } from "../../tunnel/rig.ts";

const [mode = "", host = "", port = "", keyFile = "", mac = ""] = process.argv.slice(2);
const to = { host, port: Number(port) };
/** Connections that one attacker works on at the same time. */
const TOGETHER = 8;
/** Connections that it leaves open behind itself. */
const LEFT_OPEN = 500;
/** Bytes of a packet of data. */
const PACKET = 32_000;

function login(): Promise<SpeakerSocket> {
  const key = parsePrivateKey(readFileSync(keyFile, "utf8"), keyFile);
  const [hostKey] = pinnedKeys(readFileSync("/etc/walt/known_hosts", "utf8"), "walt-server", "known_hosts");
  if (hostKey === undefined) throw new Error("no host key");
  return SpeakerSocket.login(to, hostKey, key);
}

/** Do something again and again, several times at once. What fails is tried again. */
async function withoutEnd(what: () => Promise<void>): Promise<void> {
  const loop = async (): Promise<void> => {
    for (;;) await what().catch(() => Bun.sleep(5));
  };
  await Promise.all(Array.from({ length: TOGETHER }, loop));
}

/** Sockets that stay; of too many the oldest goes. */
const open: { close(): void }[] = [];
function leave(socket: { close(): void }): void {
  open.push(socket);
  if (open.length > LEFT_OPEN) open.shift()?.close();
}

/** A tunnel by hand, up. */
async function tunnel(): Promise<{ socket: SpeakerSocket; window: number }> {
  const socket = await login();
  socket.send(say.open());
  const confirmed = await socket.message(91);
  socket.send(say.exec(0, `tunnel via=ssh://${host}:${port}`));
  await socket.message(99);
  const hello = helloMessage();
  socket.send(say.data(0, hello));
  return { socket, window: readU32(confirmed, 9) - hello.length };
}

/** Fill a tunnel with these bytes, as fast as the server takes them; then make another. */
async function flood(bytes: Uint8Array): Promise<void> {
  for (;;) {
    try {
      const made = await tunnel();
      const { socket } = made;
      while (!socket.isClosed) {
        for (const one of socket.speaker.take(93)) made.window += readU32(one, 5);
        if (made.window >= bytes.length && socket.socket.writableLength < 1 << 20) {
          socket.send(say.data(0, bytes));
          made.window -= bytes.length;
        } else await Bun.sleep(1);
      }
    } catch {
      await Bun.sleep(100);
    }
  }
}

/** As many copies of a message as fit into a packet. */
const repeated = (one: Uint8Array): Uint8Array =>
  Buffer.concat(Array(Math.floor(PACKET / one.length)).fill(one));

const MODES: Record<string, () => Promise<unknown>> = {
  /** A stranger: connections that say nothing. */
  "half-open": () =>
    withoutEnd(
      () =>
        new Promise((resolve) => {
          const socket = connect(to);
          socket.on("error", () => resolve());
          socket.on("connect", () => {
            leave({ close: () => socket.destroy() });
            resolve();
          });
        }),
    ),
  /** The enrolment key: requests for access with ever new keys, whose connections stay. */
  enrol: () =>
    withoutEnd(async () => {
      const socket = await login();
      socket.send(say.open(), say.exec(0, "enrol"));
      const challenge = parseChallenge(new WireReader((await socket.message(94)).subarray(5)).text());
      const bytes = Buffer.from(Array.from({ length: 6 }, () => Math.floor(Math.random() * 256)));
      const board = bytes.toString("hex").replace(/(..)(?=.)/g, "$1:");
      const claims = { mac: board, model: "x", serialNumber: bytes.toString("hex") };
      socket.send(say.data(0, encodeRequest(claims, generateKey("x"), challenge)));
      leave(socket);
    }),
  /** The enrolment key: 4 MB on each of 8 channels, which nobody reads, beyond every window. */
  unread: () =>
    withoutEnd(async () => {
      const socket = await login();
      for (let channel = 0; channel < 8 && !socket.isClosed; channel++) {
        socket.send(say.open(channel), say.exec(channel, "enrol"));
        for (let i = 0; i < 128; i++) socket.send(say.data(channel, Buffer.alloc(PACKET, 65)));
      }
      await socket.closed;
    }),
  /** The enrolment key: commands that are refused, each with a line in the log. */
  log: () =>
    withoutEnd(async () => {
      const socket = await login();
      socket.send(say.open(), say.exec(0, `nonsense ${Math.random()}`));
      await socket.message(97);
      socket.close();
    }),
  /** A device: the smallest frames to one machine that is not there. */
  small: () => flood(repeated(message(TYPE.frame, frame(mac, EXPERIMENT, "52:54:00:99:99:99")))),
  /** A device: frames to everybody. */
  group: () => flood(repeated(message(TYPE.frame, frame(mac, [...EXPERIMENT, ...new Uint8Array(46)])))),
  /** A device that takes nothing of what comes, and comes again when it is given up. */
  deaf: async () => {
    for (;;) {
      const made = await tunnel().catch(() => undefined);
      made?.socket.socket.pause();
      const late = performance.now() + 9000;
      while (made !== undefined && !made.socket.isClosed && performance.now() < late) {
        made.socket.send(say.data(0, message(TYPE.pong, new Uint8Array(8)))); // it lives
        await Bun.sleep(500);
      }
      made?.socket.close();
    }
  },
  /** No attacker: who sends 100 Mbit/s to a node. */
  download: async () => {
    const socket = createSocket("udp4");
    for (;;) {
      for (let i = 0; i < 45; i++) socket.send(Buffer.alloc(1400), 9, host);
      await Bun.sleep(5);
    }
  },
};

const attack = MODES[mode];
if (attack === undefined) throw new Error(`no such mode: ${mode}`);
console.log("attacking");
await attack();
