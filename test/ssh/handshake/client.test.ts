/** The client's way to a command, without a socket, against servers that a test makes by hand. */

import { expect, test } from "bun:test";
import { ClientHandshake, HandshakeError } from "../../../src/ssh/handshake/client.ts";
import { PacketStream } from "../../../src/ssh/handshake/packet-stream.ts";
import { Transport } from "../../../src/ssh/handshake/transport.ts";
import { seedOf } from "../../../src/ssh/keys/ed25519.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";
import { clientKey, hostKey, playedWire } from "./pair.ts";

/** A client to which somebody says these bytes, and then nothing more. */
async function told(...parts: Uint8Array[]): Promise<unknown> {
  const wire = {
    read: async () => {
      const next = parts.shift();
      if (next === undefined) throw new Error("the end of the wire");
      return next;
    },
    write: () => {},
  };
  return await new ClientHandshake(wire, [hostKey.publicKey.blob], clientKey)
    .run("tunnel")
    .catch((error: unknown) => error);
}

/** A version line, and messages in clear. */
function inClear(line: string, ...payloads: Uint8Array[]): Uint8Array {
  const packets = new PacketStream();
  packets.raw(Buffer.from(line));
  for (const payload of payloads) packets.send(payload);
  return packets.output();
}

test.each([
  ["IGNORE", Buffer.of(2, 0, 0, 0, 0)],
  ["DEBUG", Buffer.of(4, 0)],
  ["EXT_INFO", Buffer.of(7, 0, 0, 0, 0)],
  ["NEWKEYS", Buffer.of(21)],
  ["an unknown message", Buffer.of(200)],
])("%s in the first key exchange ends it", async (_, payload) => {
  const error = await told(inClear("SSH-2.0-odd\r\n", payload));
  expect(String(error)).toContain(`message ${payload[0]} in the first key exchange`);
});

test("a server may say lines before its version, but not without end", async () => {
  const end = "the end of the wire";
  expect(String(await told(inClear("Welcome.\r\n\r\nSSH-2.0-odd\r\n")))).toContain(end);
  expect(String(await told(inClear(`${"x\r\n".repeat(2000)}SSH-2.0-odd\r\n`)))).toContain(end);
  const chatter = await told(...Array.from({ length: 100 }, () => inClear(`${"x".repeat(98)}\r\n`)));
  expect(chatter).toBeInstanceOf(HandshakeError);
});

test("new keys that the server asks for on the way, and a message that is not known", async () => {
  const packets = new PacketStream();
  const transport = Transport.begin({ end: "server", hostSeed: seedOf(hostKey) }, packets);
  const heard: number[] = [];
  /** What the server says to each message of the client's; before it, it asks for new keys. */
  const answers: Record<number, () => WireWriter> = {
    5: () => new WireWriter().u8(6).string("ssh-userauth"),
    50: () => new WireWriter().u8(52),
    90: () => new WireWriter().u8(91).u32(0).u32(3).u32(1000).u32(32_768),
    98: () => new WireWriter().u8(99).u32(0),
  };
  let greeted = false;
  const said = (): Uint8Array => {
    if (!greeted) greeted = transport.greet(packets);
    for (let payload = packets.next(); payload !== undefined; payload = packets.next()) {
      const type = payload[0] ?? 0;
      heard.push(type);
      if (transport.take(payload)) continue;
      transport.send(Buffer.of(200));
      transport.exchange();
      transport.send(answers[type]?.().bytes() ?? Buffer.of(1));
    }
    return packets.output();
  };
  const wire = playedWire((bytes) => packets.push(bytes), said);
  const client = new ClientHandshake(wire, [hostKey.publicKey.blob], clientKey);
  const state = await client.run("tunnel");
  expect(transport.rekeys).toBeGreaterThan(1);
  expect(heard.filter((type) => type === 3).length).toBeGreaterThan(1); // UNIMPLEMENTED
  expect(state).toMatchObject({ theirChannel: 3, theirWindow: 1000 });
  expect(state.session.id).toEqual(transport.session.id);
  expect(state.incoming.key).toEqual(packets.release().outgoing.key);
});
