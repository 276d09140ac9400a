/**
 * Connections that leave the event loop, on a real port: of OpenSSH's client and of ours, and why ours fails.
 */

import { afterEach, expect, spyOn, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readdirSync, readlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { allocate, libc } from "../../../src/linux/libc.ts";
import { createLog } from "../../../src/log.ts";
import { ChannelError, openChannel } from "../../../src/ssh/client/open-channel.ts";
import { CHANNEL_WINDOW } from "../../../src/ssh/handshake/channel.ts";
import { OVERHEAD, PACKET_MAX, PAYLOAD, Sealer } from "../../../src/ssh/handshake/packet-cipher.ts";
import { ServerConnection } from "../../../src/ssh/handshake/server.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { WireReader, WireWriter } from "../../../src/ssh/keys/wire.ts";
import { SshListener } from "../../../src/ssh/server/listener.ts";
import type { Peer } from "../../../src/ssh/server/peer.ts";
import { ChannelStream } from "../../../src/tunnel/transport/ssh-channel.ts";
import { turn } from "../../lab/eventually.ts";
import { describeWith } from "../../lab/need.ts";
import { chance, writeNow } from "../../tunnel/rig.ts";
import { Held, MANY, ReleasingServer, until } from "./taken.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

async function server(...o: Parameters<typeof ReleasingServer.start>): Promise<ReleasingServer> {
  const made = await ReleasingServer.start(...o);
  cleanup.push(() => made.stop());
  return made;
}

const hostKey = generateKey("host");
const echo = (held: Held): Promise<void> => held.echo();

describeWith([{ programs: ["ssh"] }], "OpenSSH's client", () => {
  /** What ssh prints when it is given these bytes, until it has printed as many. */
  async function ssh(to: ReleasingServer, input: Uint8Array, ...options: string[]) {
    const child = Bun.spawn(to.ssh("echo", ...options), { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    cleanup.push(() => child.kill());
    const err = new Response(child.stderr).text();
    child.stdin.write(input);
    const parts: Uint8Array[] = [];
    let length = 0;
    for await (const part of child.stdout) {
      parts.push(part);
      length += part.length;
      // Its end is the channel's: what the server has not sent by then is lost.
      if (length >= input.length) child.stdin.end();
    }
    return { out: Buffer.concat(parts), err: await err, status: await child.exited };
  }

  test("bytes pass both ways, and both ends part in peace", async () => {
    const at = await server(echo);
    const input = randomBytes(8 << 20);
    const { out, err, status } = await ssh(at, input);
    expect(out.equals(input)).toBe(true);
    expect({ err, status }).toEqual({ err: "", status: 0 });
    await at.gone();
    expect(at.errors).toEqual([]);
  });

  test("new keys whenever it wants them, in the middle of everything", async () => {
    const at = await server(echo);
    const input = randomBytes(6 << 20);
    const { out, err, status } = await ssh(at, input, "-v", "-o", "RekeyLimit=512K");
    expect(out.equals(input)).toBe(true);
    expect(status).toBe(0);
    expect(err.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0).toBeGreaterThan(5);
  });

  test("its signs of life are answered", async () => {
    const at = await server(echo);
    const command = at.ssh("echo", "-vvv", "-o", "ServerAliveInterval=1");
    const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    cleanup.push(() => child.kill());
    let err = "";
    for await (const chunk of child.stderr) {
      err += new TextDecoder().decode(chunk);
      // REQUEST_FAILURE, which is one.
      if (/receive packet: type 82/.test(err)) break;
    }
    expect(err).toMatch(/receive packet: type 82/);
    child.stdin.end();
    expect(await child.exited).toBe(0);
  });
});

test("what comes before the connection is released comes first, and nothing of it is lost", async () => {
  const go = Promise.withResolvers<void>();
  const at = await server(echo, go.promise);
  const { fd, state } = await at.open();
  const held = new Held(new ChannelStream(fd, state, MANY));
  cleanup.push(() => held.close());
  const input = randomBytes(3 << 20);
  let sent = 0;
  for (let n = 1; n > 0; sent += n) n = held.write(input.subarray(sent)); // as much as the held connection takes
  expect(sent).toBe(CHANNEL_WINDOW); // the tunnel's is opened when it begins
  go.resolve();
  const back: Uint8Array[] = [];
  await until("all of it", () => {
    sent += held.write(input.subarray(sent));
    back.push(held.read() ?? new Uint8Array());
    return back.reduce((sum, part) => sum + part.length, 0) === input.length;
  });
  expect(Buffer.concat(back).equals(input)).toBe(true);
});

/** A way to the server that cuts everything into small pieces. */
async function cutting(to: number, seed: number): Promise<number> {
  const random = chance(seed);
  const net = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    const pass = (from: Socket, into: Socket): void => {
      from.on("data", async (bytes) => {
        from.pause();
        for (let at = 0; at < bytes.length; await turn()) {
          const end = at + 1 + random(40);
          into.write(bytes.subarray(at, end));
          at = end;
        }
        from.resume();
      });
      from.on("close", () => into.destroy());
      from.on("error", () => {});
    };
    pass(near, far);
    pass(far, near);
  });
  await new Promise<void>((resolve) => net.listen(0, "127.0.0.1", resolve));
  cleanup.push(() => net.close());
  return (net.address() as AddressInfo).port;
}

test("our client, over a way that cuts everything into small pieces", async () => {
  const at = await server(echo);
  const port = await cutting(at.listener.address.port, 11);
  const { fd, state } = await at.open({ connect: { host: "127.0.0.1", port } });
  const held = new Held(new ChannelStream(fd, state, MANY));
  cleanup.push(() => held.close());
  expect(held.write(Buffer.from("hello"))).toBe(5);
  let back = "";
  await until("the answer", () => {
    back += Buffer.from(held.read() ?? []).toString();
    return back === "hello";
  });
});

test("a connection that ends while it is held: an error, and nothing is left", async () => {
  const go = Promise.withResolvers<void>();
  const at = await server(echo, go.promise);
  const { fd } = await at.open();
  libc.close(fd);
  go.resolve();
  await at.gone();
});

test("a connection that cannot be released leaves no descriptor", async () => {
  const fail = spyOn(ServerConnection.prototype, "release").mockImplementation(() => {
    throw new Error("not now");
  });
  cleanup.push(() => fail.mockRestore());
  const at = await server(echo);
  const sockets = (): number => {
    const links = readdirSync("/proc/self/fd").map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return ""; // the one that reads them
      }
    });
    return links.filter((link) => link.startsWith("socket:")).length;
  };
  const before = sockets();
  const { fd } = await at.open();
  await until("the failure", () => at.errors.length > 0);
  expect(at.errors).toEqual(["Error: not now"]);
  libc.close(fd);
  await at.listener.stop();
  await until("the connection's end", () => sockets() < before); // the listener's own has gone, too
});

test("a connection that is held, resumed and held again keeps no more than it had read", async () => {
  let held = 0;
  const again = Promise.withResolvers<Peer>();
  const listener = await SshListener.start({
    listen: { host: "127.0.0.1", port: 0 },
    hostKey: () => hostKey,
    log: createLog(-999),
    authorise: () => undefined,
    entered: () => {},
    request: (peer, _channel, request) => {
      if (request.kind === "exec" && request.command === "first") return;
      peer.hold();
      if (++held === 1)
        setImmediate(() => peer.resume()); // as when the first cannot be released
      else again.resolve(peer);
    },
  });
  cleanup.push(() => listener.stop());
  const key = generateKey("client");
  const { fd, state } = await openChannel({
    ...{ connect: listener.address, key, hostKeys: [hostKey.publicKey], command: "first" },
    ...{ connectTimeout: 5000, openTimeout: 5000, signal: new AbortController().signal },
  });
  cleanup.push(() => libc.close(fd));
  const sealer = new Sealer(state.outgoing);
  const [place, out] = [allocate(PACKET_MAX + OVERHEAD), allocate(PACKET_MAX + OVERHEAD)];
  const sealed = (payload: Uint8Array): Uint8Array => {
    place.bytes.set(payload, PAYLOAD);
    return out.bytes.slice(0, sealer.seal(place, payload.length, out, 0));
  };
  // Two more commands in one piece: the second is kept while the first is looked at.
  const commands = [1, 2].flatMap((id) => [
    sealed(
      new WireWriter()
        .u8(90)
        .string("session")
        .u32(7 + id)
        .u32(1 << 20)
        .u32(32_768)
        .bytes(),
    ),
    sealed(new WireWriter().u8(98).u32(id).string("exec").u8(1).string("more").bytes()),
  ]);
  writeNow(fd, Buffer.concat(commands));
  const peer = await again.promise;
  for (let i = 0; i < 20; i++) await turn();
  expect(peer.socket.isPaused()).toBe(true);
  // It goes on sending: what the kernel does not hold, it keeps.
  const flood = new Uint8Array(1 << 18);
  let sent = 0;
  for (let idle = 0; idle < 50; idle++) {
    const n = writeNow(fd, flood);
    sent += n;
    if (n > 0) idle = 0;
    expect(sent).toBeLessThan(32 << 20);
    await turn();
  }
});

test("whoever ends the server's connections ends those that were released, too", async () => {
  const at = await server(async (held) => until("its end", () => held.read() === undefined));
  const { fd, state } = await at.open();
  const held = new Held(new ChannelStream(fd, state, MANY));
  cleanup.push(() => held.close());
  await until("released", () => at.held.length > 0);
  await at.listener.stop();
  await until("our end", () => held.read() === undefined);
});

describeWith([], "why our client fails, in words that go behind the server's name", () => {
  const why = async (
    at: ReleasingServer,
    o: Parameters<ReleasingServer["open"]>[0],
  ): Promise<[string, string]> => {
    const failure: unknown = await at.open(o).catch((error: unknown) => error);
    if (!(failure instanceof ChannelError)) throw new Error(`it did not fail as it should: ${failure}`);
    return [failure.kind, failure.message];
  };
  /** A port on which somebody does this with whoever comes. */
  const listen = async (serve: (socket: Socket) => void): Promise<{ host: string; port: number }> => {
    const net = createServer(serve);
    await new Promise<void>((resolve) => net.listen(0, "127.0.0.1", resolve));
    cleanup.push(() => net.close());
    return { host: "127.0.0.1", port: (net.address() as AddressInfo).port };
  };

  test("another host key, and our key refused", async () => {
    const at = await server(echo);
    expect(await why(at, { hostKeys: [generateKey("other").publicKey] })).toEqual([
      "wrong-host-key",
      expect.stringMatching(/its host key is not the pinned one: it shows ssh-ed25519 SHA256:/),
    ]);
    expect(await why(at, { key: generateKey("stranger") })).toEqual([
      "key-refused",
      expect.stringMatching(/does not accept our key/),
    ]);
    await at.gone();
  });

  test("a server that takes only tiny packets", async () => {
    const at = await server(echo);
    const open = WireReader.prototype.u32;
    let seen = 0;
    // The largest packet: the server reads the client's, then the client that of the confirmation.
    const tiny = spyOn(WireReader.prototype, "u32").mockImplementation(function (this: WireReader) {
      const value = open.call(this);
      return value === 32_768 && ++seen === 2 ? 100 : value;
    });
    cleanup.push(() => tiny.mockRestore());
    expect((await why(at, {}))[1]).toBe("it takes packets of no more than 100 bytes");
  });

  test("nobody there, no SSH, silence, an end, an abort", async () => {
    const at = await server(echo);
    const closed = await listen(() => {});
    cleanup.pop()?.();
    expect((await why(at, { connect: closed }))[1]).toMatch(/nothing listens on its port \d+/);
    const web = await listen((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    expect((await why(at, { connect: web }))[1]).toBe("it closed the connection");
    const chatter = await listen((socket) => socket.end("x".repeat(20_000)));
    expect((await why(at, { connect: chatter }))[1]).toBe("what listens there is no SSH server");
    const open: Socket[] = [];
    cleanup.push(() => open.map((socket) => socket.destroy()));
    const silent = await listen((socket) => open.push(socket));
    expect(await why(at, { connect: silent, openTimeout: 50 })).toEqual([
      "silent",
      expect.stringMatching(/does not speak SSH/),
    ]);
    const odd = await listen((socket) => socket.write("SSH-2.0-odd\r\n\xff\xff\xff\xff\xff\xff", "latin1"));
    expect((await why(at, { connect: odd }))[1]).toBe("it sends a packet that cannot be");
    const abort = new AbortController();
    const aborted = why(at, { connect: silent, signal: abort.signal });
    abort.abort();
    expect((await aborted)[1]).toBe("this side stopped the attempt");
  });
});
