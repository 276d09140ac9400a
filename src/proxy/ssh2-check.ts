/**
 * Whether the ssh2 of this binary is as the guard needs it: tried once on a connection that never leaves
 * memory. An ssh2 that is different would not be guarded, without anybody noticing.
 */

import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import ssh2, { type Connection, type ServerChannel, type Session } from "ssh2";
import { messageOf, WaltError } from "../errors.ts";
import { ALGORITHMS } from "../ssh/handshake/algorithms.ts";
import { MESSAGE } from "../ssh/handshake/message-numbers.ts";
import { generateKey } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import { WireWriter } from "../ssh/keys/wire.ts";
import { Ssh2Guard } from "./ssh2-guard.ts";
import { insideOf, keptAs, numberOf, PLACES, SSH2_VERSION } from "./ssh2-inside.ts";

/** ms for ssh2 to show a connection. */
const PATIENCE = 5000;

/** What to do about an ssh2 that is not `SSH2_VERSION`. */
export const COMPARE = `ssh2 was upgraded: compare these places: ${PLACES.map((place) => `\n- ${place}`).join("")}`;

/** @throws WaltError when something that the guard relies on is missing, or does something else. */
export async function checkSsh2(): Promise<void> {
  const socket = new Duplex({ read: () => {}, write: (_bytes, _encoding, done) => done() });
  socket.on("error", () => {});
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error("it showed no connection")), PATIENCE);
  try {
    const server = new ssh2.Server(
      { hostKeys: [encodePrivateKey(generateKey("check"))], algorithms: ALGORITHMS },
      (client) => {
        client.on("error", () => {});
        try {
          check(client);
          resolve();
        } catch (error) {
          reject(error);
        }
      },
    );
    server.injectSocket(socket as unknown as Socket);
    socket.push("SSH-2.0-check\r\n");
    await promise;
  } catch (error) {
    throw new WaltError(`the relay cannot guard this version of ssh2: ${messageOf(error)}`, {
      hint: `It was written for ssh2 ${SSH2_VERSION}. ${COMPARE}`,
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** Lead a connection through all that the guard relies on. */
function check(client: Connection): void {
  const { _protocol: protocol, _chanMgr: channels, authenticated } = insideOf(client);
  want("Client._protocol", typeof protocol === "object" && protocol !== null);
  want("Client._chanMgr", typeof channels === "object" && channels !== null);
  want("Client.authenticated", authenticated === false);
  want("Protocol._kexinit", "_kexinit" in protocol && protocol._kexinit === undefined);
  for (const name of [
    ...["_onPayload", "channelOpenConfirm", "channelOpenFail", "channelWindowAdjust", "channelClose"],
  ] as const) {
    want(`Protocol.${name}`, typeof protocol[name as keyof typeof protocol] === "function");
  }
  for (const name of ["get", "remove"] as const) {
    want(`ChannelManager.${name}`, typeof channels[name] === "function");
  }
  const said = { granted: 0, opened: 0, failed: 0, closed: 0 };
  protocol.channelOpenConfirm = (_theirs, _ours, window) => {
    said.granted = window;
  };
  protocol.channelOpenFail = (_theirs, reason) => {
    said.failed = reason;
  };
  protocol.channelWindowAdjust = (_theirs, bytes) => {
    said.opened += bytes;
  };
  protocol.channelClose = () => {
    said.closed++;
  };
  let violated: string | undefined;
  const guard = new Ssh2Guard(client, (reason) => {
    violated = reason;
  });
  const sessions: Session[] = [];
  client.on("session", (accept) => sessions.push(accept()));
  client.on("tcpip", (_accept, reject) => reject());
  insideOf(client).authenticated = true;
  const message = (type: number): WireWriter => new WireWriter().u8(type);
  const hear = (writer: WireWriter): unknown => protocol._onPayload(writer.bytes());
  const open = (type: string): WireWriter =>
    message(MESSAGE.channelOpen).string(type).u32(7).u32(1000).u32(32_768);

  hear(open("session"));
  want("a session is kept under 0", keptAs(channels.get(0))?.session === true);
  want("its window is the guard's", said.granted > 0 && said.granted < 65_536);
  hear(message(MESSAGE.close).u32(0));
  want("an idle session is forgotten", channels.get(0) === undefined && said.closed === 1);

  hear(open("session"));
  let channel: ServerChannel | undefined;
  sessions[1]?.on("exec", (accept) => {
    channel = accept();
  });
  want("a session has no channel before its command", keptAs(channels.get(1))?.running === false);
  hear(message(MESSAGE.channelRequest).u32(1).string("exec").u8(0).string("x"));
  want("a session has a channel once its command runs", keptAs(channels.get(1))?.running === true);
  if (channel === undefined) throw new Error("Session: a command gives no channel");
  const { outgoing } = channel as unknown as { outgoing: { window: number; id: number; packetSize: number } };
  want("Channel.incoming.id", numberOf(channel) === 1);
  want("Channel.outgoing", outgoing.id === 7 && outgoing.packetSize === 32_768);
  want("Channel.outgoing.window", outgoing.window === 1000);
  hear(message(MESSAGE.windowAdjust).u32(1).u32(5));
  want("Channel.outgoing.window grows", outgoing.window === 1005);
  hear(message(MESSAGE.data).u32(1).string("0123456789"));
  want("data comes on the channel", channel.readableLength === 10 && guard.held === 10);
  want("ssh2 does not open the window", said.opened === 0);
  guard.window(channel).consumed(said.granted);
  want("the guard opens the window", said.opened === said.granted);

  hear(
    message(MESSAGE.channelOpen)
      .string("direct-tcpip")
      .u32(8)
      .u32(1000)
      .u32(32_768)
      .string("h")
      .u32(1)
      .string("h")
      .u32(1),
  );
  want("reject() has reason 2", said.failed === 2);
  want("no honest message is refused", violated === undefined);
  want(
    "what the guard refuses is dropped",
    hear(message(MESSAGE.channelOpen).string("session").u32(9).u32(0).u32(0)) === Number.POSITIVE_INFINITY &&
      violated !== undefined &&
      sessions.length === 2,
  );
}

/** @throws Error naming what is not as it was. */
function want(what: string, is: boolean): void {
  if (!is) throw new Error(`not so any more: ${what}`);
}
