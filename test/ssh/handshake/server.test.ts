/**
 * The server's SSH without a socket: the whole way, every refusal, every order in which messages may not
 * come.
 */

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { ClientHandshake, KeyRefused } from "../../../src/ssh/handshake/client.ts";
import type { ServerConnection, ServerEvent } from "../../../src/ssh/handshake/server.ts";
import { parseCertificateLine, signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair } from "../../../src/ssh/keys/ed25519.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";
import { clientKey, hostKey, Pair, playedWire, serverConnection } from "./pair.ts";
import { say } from "./speaker.ts";

const stranger = generateKey("stranger");

/** Our own client's handshake against a server in memory. */
async function handshake(key: KeyPair, command = "tunnel") {
  const server: ServerConnection = serverConnection();
  const requests: Extract<ServerEvent, { kind: "request" }>[] = [];
  const said = (): Uint8Array => {
    for (let event = server.next(); event !== undefined; event = server.next()) {
      if (event.kind !== "request") continue;
      requests.push(event);
      server.prepare(event.channel);
      break; // what comes behind it is the tunnel's
    }
    return server.output();
  };
  const wire = playedWire((bytes) => server.push(bytes), said);
  const client = new ClientHandshake(wire, [hostKey.publicKey.blob], key);
  return { state: await client.run(command), server, requests };
}

test("our client comes all the way to a command, and both ends have the same state", async () => {
  const { state, server, requests } = await handshake(clientKey);
  const [event] = requests;
  if (event === undefined) throw new Error("no command came");
  expect(event.request).toEqual({ kind: "exec", command: "tunnel" });
  const theirs = server.release(event.channel);
  expect(theirs.incoming).toEqual({ ...state.outgoing });
  expect(theirs.outgoing.key).toEqual(state.incoming.key);
  expect(theirs.session.id).toEqual(state.session.id);
  expect([theirs.session.strict, state.session.strict]).toEqual([true, true]);
  expect(theirs).toMatchObject({ ourChannel: state.theirChannel, theirChannel: state.ourChannel });
  expect(theirs).toMatchObject({ ourWindow: 2 << 20, theirWindow: state.ourWindow, theirPacket: 32_768 });
  // Counted from the new keys on: service, proof, channel, command.
  expect(theirs.received).toBe(4);
});

test("a key that may not come in is refused to our client as such", async () => {
  await expect(handshake(stranger)).rejects.toBeInstanceOf(KeyRefused);
});

test("none, a password, a probe, a proof", () => {
  const pair = new Pair().service();
  const failure = Buffer.concat([Buffer.of(51), new WireWriter().string("publickey").u8(0).bytes()]);
  expect(pair.send(say.none()).client.take()).toEqual([failure]);
  expect(pair.send(say.password()).client.take()).toEqual([failure]);
  const probed = pair.send(say.probe(clientKey.publicKey)).client.take();
  expect(probed).toEqual([
    new WireWriter().u8(60).string("ssh-ed25519").string(clientKey.publicKey.blob).bytes(),
  ]);
  expect(pair.send(say.probe(stranger.publicKey)).client.take()).toEqual([failure]);
  const proven = pair.send(say.proof(clientKey, pair.client.id)).client.take();
  expect(proven).toEqual([Buffer.of(52)]);
  expect(pair.events.map((event) => event.kind)).toEqual(["key-refused", "key-refused", "entered"]);
  expect(pair.events[1]).toMatchObject({ user: "walt-vpn", reason: "an unknown key" });
  expect(pair.events[2]).toMatchObject({ offer: { key: { blob: clientKey.publicKey.blob } } });
});

test.each<[string, (pair: Pair) => Buffer, RegExp]>([
  ["another user", ({ client }) => say.proof(clientKey, client.id, { user: "root" }), /another user/],
  ["a stranger's key", ({ client }) => say.proof(stranger, client.id), /an unknown key/],
  [
    "a signature by another key",
    ({ client }) => say.proof(clientKey, client.id, { by: stranger }),
    /signature is wrong/,
  ],
  ["a signature for another session", () => say.proof(clientKey, randomBytes(32)), /signature is wrong/],
  [
    "another algorithm",
    ({ client }) => say.proof(clientKey, client.id, { algo: "ssh-rsa" }),
    /key type ssh-rsa/,
  ],
  [
    "a key of no bytes",
    ({ client }) => say.proof(clientKey, client.id, { blob: new Uint8Array() }),
    /malformed/,
  ],
  ["a certificate, for the proxies", (pair) => certified(pair), /certificates are for the proxies/],
])("%s is refused, with the reason for the log", (_, request, reason) => {
  const pair = new Pair().service();
  expect(
    pair
      .send(request(pair))
      .client.take()
      .map((message) => message[0]),
  ).toEqual([51]);
  expect(pair.events).toMatchObject([{ kind: "key-refused", reason: expect.stringMatching(reason) }]);
  // It may try again, and come in with the right one.
  pair.send(say.proof(clientKey, pair.client.id));
  expect(pair.events.at(-1)?.kind).toBe("entered");
});

function certified({ client }: Pair): Buffer {
  const line = signCertificate(generateKey("ca"), {
    ...{ publicKey: clientKey.publicKey, serial: 1n, keyId: "k", principals: ["walt-vpn"] },
    ...{ validAfter: 0, validBefore: 1 },
  });
  const { blob } = parseCertificateLine(line, "test");
  return say.proof(clientKey, client.id, { algo: "ssh-ed25519-cert-v01@openssh.com", blob });
}

test("a certificate of 8 KiB is still looked at", () => {
  const pair = new Pair().service();
  const principals = Array.from({ length: 178 }, (_, i) => `principal-${i}-`.padEnd(40, "x"));
  const line = signCertificate(generateKey("ca"), {
    ...{ publicKey: clientKey.publicKey, serial: 1n, keyId: "k", principals },
    ...{ validAfter: 0, validBefore: 1 },
  });
  const { blob } = parseCertificateLine(line, "test");
  expect(blob.length).toBeGreaterThan(8000);
  pair.send(say.proof(clientKey, pair.client.id, { algo: "ssh-ed25519-cert-v01@openssh.com", blob }));
  expect(pair.events).toMatchObject([{ reason: "certificates are for the proxies" }]);
});

test("twelve refusals, and not one more", () => {
  const pair = new Pair().service();
  for (let i = 0; i < 13; i++) pair.send(say.probe(stranger.publicKey));
  expect(pair.end).toBeUndefined();
  pair.send(say.none());
  expect(pair.end).toBe("excess: too many attempts");
  expect(pair.client.take(1)).toHaveLength(1);
});

const kexInit = Buffer.concat([Buffer.of(20), randomBytes(100)]);
test.each<[string, (pair: Pair) => unknown, RegExp]>([
  ["no SSH", (pair) => pair.raw(Buffer.from("GET / HTTP/1.1\r\n\r\n")), /does not speak SSH 2.0/],
  ["SSH 1", (pair) => pair.raw(Buffer.from("SSH-1.5-old\r\n")), /does not speak SSH 2.0/],
  ["a version line without end", (pair) => pair.raw(Buffer.alloc(300, 65)), /a line of more than 255 bytes/],
  ["a packet of 4 GiB", (pair) => garbled(pair, Buffer.alloc(64, 255)), /a packet that cannot be/],
  [
    "a packet of 20 kB in clear",
    (pair) => garbled(pair, Buffer.of(0, 0, 78, 32, 4, 20)),
    /a packet that cannot be/,
  ],
  [
    "a packet without a payload",
    (pair) => garbled(pair, Buffer.of(0, 0, 0, 12, 11, 20)),
    /a packet that cannot be/,
  ],
  [
    "IGNORE in the first key exchange",
    (pair) => clear(pair, Buffer.of(2, 0, 0, 0, 0)),
    /message 2 in the first/,
  ],
  ["DEBUG in the first key exchange", (pair) => clear(pair, Buffer.of(4, 0)), /message 4 in the first/],
  ["a service before keys", (pair) => clear(pair, say.service()), /message 5 in the first/],
  ["an unknown message before keys", (pair) => clear(pair, Buffer.of(200)), /message 200 in the first/],
  ["a point before KEXINIT", (pair) => clear(pair, Buffer.of(30)), /message 30 in the first/],
  ["NEWKEYS before keys", (pair) => clear(pair, Buffer.of(21)), /message 21 in the first/],
  ["a malformed KEXINIT", (pair) => clear(pair, kexInit), /malformed|none of/],
  [
    "authentication before its service",
    (pair) => pair.keys().send(say.none()),
    /message 50 in the phase service/,
  ],
  ["a channel before its service", (pair) => pair.keys().send(say.open()), /message 90 in the phase service/],
  ["another service", (pair) => pair.keys().send(say.service("ssh-connection")), /not ssh-userauth/],
  [
    "a channel before authentication",
    (pair) => pair.service().send(say.open()),
    /message 90 in the phase auth/,
  ],
  [
    "a global request before it",
    (pair) => pair.service().send(say.global("x")),
    /message 80 in the phase auth/,
  ],
  ["a second service", (pair) => pair.service().send(say.service()), /message 5 in the phase auth/],
  [
    "a service after authentication",
    (pair) => pair.login().send(say.service()),
    /message 5 in the phase channels/,
  ],
  ["half a request", (pair) => pair.service().send(say.none().subarray(0, 12)), /malformed/],
  [
    "a long packet before authentication",
    (pair) => pair.service().send(Buffer.alloc(12_000, 50)),
    /cannot be/,
  ],
  ["an answer that only clients get", (pair) => pair.login().send(Buffer.of(31)), /nobody began/],
  [
    "a channel that nobody opened",
    (pair) => pair.login().send(Buffer.of(91, 0, 0, 0, 0)),
    /nobody asked for/,
  ],
])("%s ends the connection", (_, misbehave, reason) => {
  const pair = new Pair();
  misbehave(pair);
  expect(pair.end).toMatch(reason);
  expect(pair.end).toStartWith("malformed: ");
  // Nothing that comes behind it is looked at.
  pair.server.output();
  pair.server.push(Buffer.alloc(100_000, 1));
  expect(pair.server.next()).toBeUndefined();
  expect(pair.server.output().length).toBe(0);
});

/** Bytes where the first packet is expected. */
function garbled(pair: Pair, bytes: Uint8Array): void {
  pair.raw(Buffer.from("SSH-2.0-odd\r\n"));
  pair.server.push(bytes);
  const event = pair.server.next();
  if (event !== undefined) pair.events.push(event);
}

/** A message in clear where KEXINIT is expected. */
function clear(pair: Pair, payload: Uint8Array): void {
  pair.client.send(payload);
  pair.server.push(pair.client.output());
  const event = pair.server.next();
  if (event !== undefined) pair.events.push(event);
}

test("the peer's own end is told as such, with its words made safe", () => {
  const pair = new Pair().login().send(say.disconnect("bye\u001b[2J"));
  expect(pair.end).toBe("closed-by-peer: bye?[2J");
});

test("requests for authentication behind the one that succeeded are ignored", () => {
  const pair = new Pair().login().send(say.none(), say.proof(clientKey, pair0().client.id));
  expect(pair.end).toBeUndefined();
  expect(pair.client.take()).toEqual([]);
});
const pair0 = (): Pair => new Pair().keys();

test("an unknown message is answered UNIMPLEMENTED with the number of its packet", () => {
  const pair = new Pair().login();
  // Service and proof came before it, counted from the new keys on.
  expect(pair.send(Buffer.of(200)).client.take()).toEqual([Buffer.of(3, 0, 0, 0, 2)]);
  expect(pair.send(Buffer.of(2), Buffer.of(192)).client.take()).toEqual([Buffer.of(3, 0, 0, 0, 4)]);
});

test("the client may have new keys at any time, in the middle of its channels", () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  pair.client.take();
  void channel.write("before\n");
  pair.move();
  for (let i = 0; i < 3; i++) {
    pair.client.transport?.exchange();
    void channel.write(`during ${i}\n`);
    pair.server.ask();
    pair.move();
  }
  expect(pair.client.transport?.rekeys).toBe(3);
  const said = pair.client.take(94).map((message) => message.subarray(9).toString());
  expect(said.join("")).toBe("before\nduring 0\nduring 1\nduring 2\n");
  expect(pair.end).toBeUndefined();
});

test("between KEXINIT and NEWKEYS nothing else may come, and the server sends nothing else", () => {
  const pair = new Pair().login();
  const channel = pair.exec();
  pair.client.take();
  pair.client.transport?.exchange();
  pair.server.push(pair.client.output());
  expect(pair.server.next()).toBeUndefined();
  pair.client.packets.send(say.data(0, "x")); // in the place of the client's point
  void channel.write("later");
  pair.server.ask();
  const before = pair.client.heard.length;
  pair.client.hear(pair.server.output());
  expect(pair.client.heard.slice(before).map((message) => message[0])).toEqual([20]);
  pair.move();
  expect(pair.end).toBe("malformed: message 94 in a key exchange");
});

test("nobody authenticates in the middle of a key exchange", () => {
  const pair = new Pair().service();
  pair.client.transport?.exchange();
  pair.server.push(pair.client.output());
  expect(pair.server.next()).toBeUndefined();
  pair.client.packets.send(say.proof(clientKey, pair.client.id));
  pair.move();
  expect(pair.end).toBe("malformed: message 50 in a key exchange");
});

test("the client may have new keys some hundred times at once, before it is in, too, and not more", () => {
  const pair = new Pair().keys();
  for (let i = 0; i < 256; i++) {
    pair.client.transport?.exchange();
    pair.move().client.take();
  }
  expect([pair.end, pair.client.transport?.rekeys]).toEqual([undefined, 256]);
  for (let i = 0; i < 64 && pair.end === undefined; i++) {
    pair.client.transport?.exchange();
    pair.move().client.take();
  }
  expect(pair.end).toBe("malformed: it asks for new keys too often");
});

test("new keys after much data are never too many", () => {
  const pair = new Pair().login();
  const exchange = (): void => {
    pair.client.transport?.exchange();
    pair.move().client.take();
  };
  for (let i = 0; i < 250; i++) exchange();
  for (let i = 0; i < 60; i++) {
    for (let part = 0; part < 20; part++) pair.client.send(Buffer.alloc(30_000, 2));
    exchange();
  }
  expect([pair.end, pair.client.transport?.rekeys]).toEqual([undefined, 310]);
});

test("bytes that come one by one, and packets that come many at once, make the same", () => {
  const pair = new Pair();
  const slow = (): void => {
    for (const byte of pair.client.output()) pair.raw(Buffer.of(byte));
  };
  for (let i = 0; i < 4; i++) slow();
  pair.client.send(
    say.service(),
    say.none(),
    say.proof(clientKey, pair.client.id),
    say.open(),
    say.exec(0, "a b"),
  );
  slow();
  expect(pair.events.map((event) => event.kind)).toEqual(["entered", "request"]);
});
