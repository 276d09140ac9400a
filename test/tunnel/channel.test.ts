/** The main loop's joint between a pump and an SSH channel: nothing lost, nothing hoarded, both ends seen. */

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import ssh2, { type Connection, type ServerChannel } from "ssh2";
import { libc } from "../../src/linux/libc.ts";
import { socketPair } from "../../src/linux/socketpair.ts";
import { encodePrivateKey, generateKey, publicKeyLine } from "../../src/ssh/keys.ts";
import { type Flow, joinChannel } from "../../src/tunnel/channel.ts";
import { Pumps } from "../../src/tunnel/pumps.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { chance, PATIENCE, readNow, Site, soon, streamPair, writeNow } from "./rig.ts";

/** A channel whose other side the test is. */
class FakeChannel extends Duplex {
  readonly taken: Buffer[] = [];
  takenBytes = 0;
  /** Whether writes are taken; while not, one is held back. */
  taking = true;
  /** How many bytes `read` still gives: a count that goes up. */
  left = 0;
  given = 0;
  #held: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.taken.push(chunk);
    this.takenBytes += chunk.length;
    if (this.taking) done();
    else this.#held = done;
  }

  release(): void {
    this.taking = true;
    this.#held?.();
    this.#held = undefined;
  }

  override _read(size: number): void {
    const length = Math.min(size, this.left);
    if (length === 0) return;
    this.left -= length;
    this.push(counting(this.given, length));
    this.given += length;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function until(what: string, is: () => boolean): Promise<void> {
  const late = performance.now() + PATIENCE;
  while (!is()) {
    if (performance.now() > late) throw new Error(`${what}: not within ${PATIENCE} ms`);
    await turn();
  }
}

/** Bytes that count up, so that one that is missing shows. */
function counting(start: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = start + i;
  return bytes;
}

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

function joined(): {
  channel: FakeChannel;
  far: number;
  joint: ReturnType<typeof joinChannel>;
} {
  const [near, far] = streamPair();
  const channel = new FakeChannel();
  const joint = joinChannel(near, channel);
  open.push(() => joint.destroy());
  return { channel, far, joint };
}

test("to the channel: all bytes in order, and no more is read than the channel takes", async () => {
  const { channel, far } = joined();
  channel.taking = false;
  let sent = 0;
  // Offer 16 MB for as long as something is taken, and then some.
  for (let idle = 0; idle < 200 && sent < 16 << 20; idle++) {
    const n = writeNow(far, counting(sent, 65_536));
    sent += n;
    if (n > 0) idle = 0;
    await turn();
  }
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThan(4 << 20);
  channel.release();
  while (sent < 16 << 20) {
    sent += writeNow(far, counting(sent, 65_536));
    await turn();
  }
  await until("all taken", () => channel.takenBytes === sent);
  expect(Buffer.concat(channel.taken).equals(counting(0, sent))).toBe(true);
  libc.close(far);
});

test("from the channel: all bytes in order, and no more is read than the socket takes", async () => {
  const { channel, far } = joined();
  channel.left = 16 << 20;
  channel.read(0);
  let before = -1;
  for (let idle = 0; idle < 200; idle++) {
    if (channel.given !== before) idle = 0;
    before = channel.given;
    await turn();
  }
  expect(channel.given).toBeGreaterThan(0);
  expect(channel.given).toBeLessThan(4 << 20);
  const random = chance(8);
  const parts: Uint8Array[] = [];
  for (let got = 0; got < 16 << 20; await turn()) {
    const bytes = readNow(far, 1 + random(200_000)) ?? new Uint8Array();
    parts.push(bytes);
    got += bytes.length;
  }
  expect(Buffer.concat(parts).equals(counting(0, 16 << 20))).toBe(true);
  libc.close(far);
});

test("the channel's end: what came before is delivered, then the socket is closed", async () => {
  const { channel, far, joint } = joined();
  channel.push(counting(0, 1 << 20));
  channel.push(null);
  const parts: Uint8Array[] = [];
  for (;;) {
    const bytes = readNow(far, 10_000);
    if (bytes === undefined) break;
    parts.push(bytes);
    await turn();
  }
  expect(Buffer.concat(parts).equals(counting(0, 1 << 20))).toBe(true);
  await soon(joint.done, "done");
  libc.close(far);
});

test("the socket's end: what came before is delivered, then the channel is ended", async () => {
  const { channel, far, joint } = joined();
  writeNow(far, counting(0, 100_000));
  libc.close(far);
  await soon(joint.done, "done");
  expect(Buffer.concat(channel.taken).equals(counting(0, 100_000))).toBe(true);
  expect(channel.writableFinished).toBe(true);
});

test("a channel that breaks closes the socket; so does destroy, even while the channel is full", async () => {
  const broken = joined();
  await turn();
  broken.channel.destroy(new Error("connection lost"));
  await soon(broken.joint.done, "done");
  await until("closed", () => readNow(broken.far) === undefined);
  libc.close(broken.far);

  const full = joined();
  full.channel.taking = false;
  for (let i = 0; i < 100; i++) {
    writeNow(full.far, new Uint8Array(65_536));
    await turn();
  }
  full.joint.destroy();
  await soon(full.joint.done, "done");
  await until("closed", () => readNow(full.far) === undefined);
  libc.close(full.far);

  const early = joined();
  early.joint.destroy(); // before the socket is open
  await soon(early.joint.done, "done");
  await until("closed", () => readNow(early.far) === undefined);
  libc.close(early.far);
});

test("a congested connection below: the socket is not read until that is clear", async () => {
  const [near, far] = streamPair();
  const channel = new FakeChannel();
  const waiting: (() => void)[] = [];
  const flow = {
    congested: true,
    cork(): void {},
    whenClear(then: () => void): void {
      waiting.push(then);
    },
  };
  const joint = joinChannel(near, channel, flow);
  open.push(() => joint.destroy());
  let sent = 0;
  for (let idle = 0; idle < 200; idle++) {
    const n = writeNow(far, counting(sent, 65_536));
    sent += n;
    if (n > 0) idle = 0;
    await turn();
  }
  expect(waiting.length).toBe(1);
  expect(channel.takenBytes).toBeLessThan(sent);
  flow.congested = false;
  waiting[0]?.();
  await until("all taken", () => channel.takenBytes === sent);
  expect(Buffer.concat(channel.taken).equals(counting(0, sent))).toBe(true);
  libc.close(far);
});

/** What src/ssh/listener.ts does for a connection, in short. */
function flowOf(connection: Connection): Flow {
  const { _sock: socket } = connection as unknown as { _sock: Socket };
  return {
    cork(): void {
      socket.cork();
      setImmediate(() => socket.uncork());
    },
    get congested(): boolean {
      return socket.writableLength > 1 << 20;
    },
    whenClear(then): void {
      if (this.congested) socket.once("drain", then);
      else then();
    },
  };
}

describeWith([LAB, { programs: ["ssh", "ping"] }], "a tunnel through OpenSSH and ssh2", () => {
  test("ping, both directions saturated, ping again, and the end is seen at both ends", async () => {
    const dir = mkdtempSync(join(tmpdir(), "walt-channel-"));
    const hostKey = generateKey("host");
    const [left, right, pumps] = await Promise.all([Site.create(1), Site.create(2), Pumps.start()]);
    const channelOpen = Promise.withResolvers<{ connection: Connection; channel: ServerChannel }>();
    const server = new ssh2.Server(
      {
        hostKeys: [encodePrivateKey(hostKey)],
        algorithms: { kex: ["curve25519-sha256"], cipher: ["aes128-gcm@openssh.com"] },
      },
      (connection) => {
        connection.on("error", () => {});
        connection.on("authentication", (context) => context.accept());
        connection.on("session", (accept) => {
          accept().on("exec", (ok) => channelOpen.resolve({ connection, channel: ok() }));
        });
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await Bun.write(join(dir, "known_hosts"), `server ${publicKeyLine(hostKey.publicKey)}\n`);
    const [ours, theirs] = socketPair();
    // biome-ignore format: one option a line
    const ssh = Bun.spawn(
      [
        "ssh", "-F", "/dev/null", "-T", "-p", `${port}`,
        "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=server",
        "-o", `UserKnownHostsFile=${dir}/known_hosts`, "-o", "IdentityFile=none", "-o", "IdentityAgent=none",
        "-o", "Ciphers=aes128-gcm@openssh.com", "walt-vpn@127.0.0.1", "tunnel",
      ],
      { stdio: [theirs, theirs, "inherit"] },
    );
    libc.close(theirs);
    try {
      const { connection, channel } = await soon(channelOpen.promise, "the channel");
      const [near, far] = streamPair();
      const joint = joinChannel(near, channel, flowOf(connection));
      const device = pumps.add({ tap: left.tap, stream: ours, mtu: 1500, silence: 15_000 });
      const node = pumps.add({ tap: right.tap, stream: far, mtu: 1500, silence: 15_000 });
      await soon(Promise.all([device.up, node.up]), "up");
      const ping = (): Promise<string> =>
        left.run("ping", "-i", "0.01", "-c", "10", "-W", "5", "-q", right.address);
      expect(await ping()).toContain("10 received");
      const blast = new URL("./blast.ts", import.meta.url).pathname;
      const rss = process.memoryUsage().rss;
      await soon(
        Promise.all([
          left.run(process.execPath, blast, right.address, "40000"),
          right.run(process.execPath, blast, left.address, "40000"),
        ]),
        "end of the blast",
      );
      expect(device.stats().framesIn).toBeGreaterThan(100);
      expect(node.stats().framesIn).toBeGreaterThan(100);
      expect(process.memoryUsage().rss - rss).toBeLessThan(128 << 20);
      expect(await ping()).toContain("10 received");
      node.close("revoked");
      expect(await soon(device.ended, "end")).toBe("the peer ended the tunnel: revoked");
      await soon(joint.done, "done");
      channel.close();
      await soon(ssh.exited, "the end of ssh");
    } finally {
      ssh.kill();
      server.close();
      await pumps.stop();
      await Promise.all([left[Symbol.asyncDispose](), right[Symbol.asyncDispose]()]);
      rmSync(dir, { recursive: true });
    }
  }, 60_000);
});
