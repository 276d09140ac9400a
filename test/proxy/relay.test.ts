/** The relay with the real ssh client: who comes in, where to, and what it survives. */

import { afterAll, afterEach, beforeAll, beforeEach, expect, spyOn, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";
import { runAny } from "../../src/linux/run.ts";
import type { Log } from "../../src/log.ts";
import { Relay, type RelayOptions } from "../../src/proxy/relay.ts";
import { signCertificate } from "../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair, publicKeyLine, sign } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../src/ssh/keys/known-hosts.ts";
import {
  explainSshFailure,
  proxyArguments,
  SERVER_ALIAS,
  serverArguments,
} from "../../src/ssh/openssh/arguments.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";

const ca = generateKey("ca");
const enrolment = generateKey("enrolment");
const device = generateKey("device");
const hostKey = generateKey("host");
const seconds = Math.floor(Date.now() / 1000);
const dir = mkdtempSync(join(tmpdir(), "walt-relay-"));
const file = (name: string) => join(dir, name);

/** A log that is kept, and can be waited for. */
class Kept {
  readonly lines: string[] = [];
  readonly log: Log = this.#make();

  #make(): Log {
    const add = (message: string, fields = {}) => {
      this.lines.push(`${message} ${JSON.stringify(fields)}`);
    };
    const log: Log = { debug: add, info: add, warn: add, error: add, with: () => log };
    return log;
  }

  async waitFor(text: string, count = 1): Promise<void> {
    await eventually(`${count} log lines with ${JSON.stringify(text)}`, () => this.lines, {
      fits: (lines) => lines.filter((line) => line.includes(text)).length >= count,
    });
  }
}

/** Wait until a count that had begun to grow stands still for 200 ms: nothing is taken any more. */
async function standing(count: () => number): Promise<void> {
  let before = -1;
  const stands = (now: number): boolean => {
    const same = now === before && now > 0;
    before = now;
    return same;
  };
  await eventually("a count that stands still", count, { fits: stands, every: 200 });
}

function certificate(by: KeyPair, more: { principals?: string[]; validBefore?: number } = {}): string {
  return signCertificate(by, {
    ...{ publicKey: device.publicKey, serial: 1n, keyId: "vpn-010203", principals: ["walt-vpn"] },
    ...{ validAfter: seconds - 3600, validBefore: seconds + 3600 },
    ...more,
  });
}

beforeAll(() => {
  const write = (name: string, text: string) => writeFileSync(file(name), text, { mode: 0o600 });
  write("device", encodePrivateKey(device));
  write("enrolment", encodePrivateKey(enrolment));
  write("unknown", encodePrivateKey(generateKey("unknown")));
  write("good", certificate(ca));
  write("expired", certificate(ca, { validBefore: seconds - 1 }));
  write("principal", certificate(ca, { principals: ["root"] }));
  write("evil", certificate(generateKey("evil")));
  write("known_hosts", `${knownHostsLine("relay", hostKey.publicKey)}\n`);
});
afterAll(() => rmSync(dir, { recursive: true }));

let kept: Kept;
let relay: Relay;
/** The next hop: what it does with a connection is the test's. */
let next: Server;
let serveNext: (socket: Socket) => void;
let nextSockets: Set<Socket>;
let children: Bun.Subprocess[];

const portOf = (server: Server): number => {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
};

async function start(more: Partial<RelayOptions> = {}): Promise<void> {
  await relay?.stop();
  relay = await Relay.start({
    ...{ listen: { host: "127.0.0.1", port: 0 }, next: { host: "127.0.0.1", port: portOf(next) } },
    ...{ cas: [ca.publicKey], enrolments: [enrolment.publicKey], hostKey, log: kept.log },
    ...more,
  });
}

beforeEach(async () => {
  kept = new Kept();
  children = [];
  nextSockets = new Set();
  serveNext = (socket) => socket.end("NEXT\n");
  next = createServer({ allowHalfOpen: true }, (socket) => {
    nextSockets.add(socket);
    socket.on("close", () => nextSockets.delete(socket));
    socket.on("error", () => {});
    serveNext(socket);
  });
  await new Promise<void>((resolve) => next.listen(0, "127.0.0.1", resolve));
  await start();
});
afterEach(async () => {
  for (const child of children) {
    child.kill("SIGKILL");
    await child.exited;
  }
  await relay.stop();
  for (const socket of nextSockets) socket.destroy();
  await new Promise((resolve) => next.close(resolve));
});

interface TunnelTransport {
  key?: string;
  certificate?: string;
  to?: number;
  user?: string;
  options?: string[];
  command?: string;
}

/** A local port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function commandLine(way: TunnelTransport): Promise<{ command: string[]; port: number }> {
  const port = await freePort();
  const command = proxyArguments({
    ...{ connect: relay.address, alias: "relay", keyFiles: [file(way.key ?? "device")] },
    ...(way.certificate === undefined ? {} : { certificateFiles: [file(way.certificate)] }),
    ...{ knownHosts: file("known_hosts"), connectTimeout: 5, aes: false },
    forward: { localPort: port, to: { host: "127.0.0.1", port: way.to ?? portOf(next) } },
  });
  if (way.user !== undefined) command[command.indexOf("-l") + 1] = way.user;
  command.splice(1, 0, ...(way.options ?? []));
  if (way.command !== undefined) command.push(way.command);
  return { command, port };
}

/** An open connection: its session has echoed. */
async function open(way: TunnelTransport) {
  const { command, port } = await commandLine(way);
  const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  children.push(child);
  child.stdin.write("hello\n");
  await child.stdin.flush();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  expect(new TextDecoder().decode(value)).toBe("hello\n");
  return { child, port, stderr: () => new Response(child.stderr).text() };
}

/** What comes back through a forwarded port until its end, and what was sent meanwhile. */
function exchange(port: number, send: Buffer = Buffer.alloc(0)): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const parts: Buffer[] = [];
    socket.on("data", (part) => parts.push(part));
    socket.on("end", () => resolve(Buffer.concat(parts)));
    socket.on("error", reject);
    socket.end(send);
  });
}

const sha = (data: Buffer): string => createHash("sha256").update(data).digest("hex");

describeWith({ programs: ["ssh"] }, "with ssh", () => {
  test.each<TunnelTransport>([{ certificate: "good" }, { key: "enrolment" }])(
    "%j comes in, and to the next hop",
    async (way) => {
      const { child, port } = await open(way);
      expect((await exchange(port)).toString()).toBe("NEXT\n");
      await child.stdin.end();
      expect(await child.exited).toBe(0);
    },
  );

  test.each<[TunnelTransport, string]>([
    [{ certificate: "expired" }, "expired at"],
    [{ certificate: "evil" }, "signed by another authority"],
    [{ certificate: "principal" }, "not for the principal walt-vpn"],
    [{ key: "unknown" }, "neither a certificate nor the enrolment key"],
    [{ certificate: "good", user: "root" }, "the user is not walt-vpn"],
    [{ key: "enrolment", user: "root" }, "the user is not walt-vpn"],
    [{ key: "device" }, "neither a certificate nor the enrolment key"],
  ])("%j is refused", async (way, reason) => {
    const { status, stderr } = await runAny((await commandLine(way)).command);
    expect(status).toBe(255);
    expect(explainSshFailure(stderr, "relay").text).toContain("it does not accept our key");
    expect(kept.lines.join("\n")).toContain(reason);
  });

  test("a certificate without the key it is for is refused", async () => {
    const { command } = await commandLine({ key: "unknown", certificate: "good" });
    expect((await runAny(command)).status).toBe(255);
    expect(kept.lines.join("\n")).not.toContain('"who":"vpn-010203"');
  });

  test("another address than the next hop is refused, by number and by name, and said in the log", async () => {
    for (const to of ["127.0.0.1:1", `localhost:${portOf(next)}`, `127.0.0.2:${portOf(next)}`]) {
      const { command } = await commandLine({ certificate: "good", options: ["-W", to] });
      const { status, stderr } = await runAny(
        command.filter((word, i) => word !== "-L" && command[i - 1] !== "-L"),
      );
      expect(status).toBe(255);
      expect(stderr).toContain("open failed");
      expect(kept.lines.join("\n")).toContain(`"to":"${to}"`);
    }
    expect(nextSockets.size).toBe(0);
  });

  test("any command is an echo; terminal, subsystem, agent, X11, and reverse forwarding are refused", async () => {
    const run = async (way: TunnelTransport, input: string) =>
      runAny((await commandLine({ certificate: "good", ...way })).command, { input });
    expect(await run({ command: "id; reboot" }, "only an echo\n")).toMatchObject({
      status: 0,
      stdout: "only an echo\n",
    });
    expect((await run({ options: ["-R", "8080:127.0.0.1:22"] }, "")).stderr).toContain(
      "remote port forwarding failed",
    );
    expect((await run({ options: ["-R", "/tmp/x:127.0.0.1:22"] }, "")).status).toBe(255);
    expect((await run({ options: ["-s"], command: "sftp" }, "")).stderr).toContain(
      "subsystem request failed",
    );
    const { command } = await commandLine({ certificate: "good" });
    const pty = ["ssh", "-tt", ...command.slice(1).filter((word) => word !== "-T")];
    expect((await runAny(pty, { input: "x\n" })).stderr).toContain("PTY allocation request failed");
  });

  test("the command line for the server's endpoint agrees with what our listener speaks", async () => {
    const inner = {
      keyFiles: [file("enrolment")],
      knownHosts: file("server_hosts"),
      command: "enrol",
      connectTimeout: 5,
    };
    writeFileSync(inner.knownHosts, `${knownHostsLine(SERVER_ALIAS, hostKey.publicKey)}\n`);
    const run = () => runAny(serverArguments({ connect: relay.address, ...inner }), { input: "line\n" });
    expect(await run()).toEqual({ status: 0, stdout: "line\n", stderr: "" });
    writeFileSync(inner.knownHosts, `${knownHostsLine(SERVER_ALIAS, device.publicKey)}\n`);
    expect(explainSshFailure((await run()).stderr, "server").text).toContain(
      "server: its host key is not the pinned one",
    );
  });

  test("a next hop that is not there is told, and the connection stays", async () => {
    const dead = await freePort();
    await start({ next: { host: "127.0.0.1", port: dead } });
    const { child, port, stderr } = await open({ certificate: "good", to: dead });
    expect((await exchange(port)).length).toBe(0);
    expect((await exchange(port)).length).toBe(0);
    await child.stdin.end();
    expect(await child.exited).toBe(0);
    expect(explainSshFailure(await stderr(), "relay").text).toContain("relay: it cannot reach the next hop");
    expect(kept.lines.join("\n")).toContain("cannot reach the next hop");
  });

  test("much data arrives whole: up, down, and both at once", async () => {
    const big = randomBytes(24 << 20);
    const { port } = await open({ certificate: "good" });
    serveNext = (socket) => {
      const hash = createHash("sha256");
      socket.on("data", (data) => hash.update(data));
      socket.on("end", () => socket.end(hash.digest("hex")));
    };
    expect((await exchange(port, big)).toString()).toBe(sha(big));
    serveNext = (socket) => socket.end(big);
    expect(sha(await exchange(port))).toBe(sha(big));
    serveNext = (socket) => socket.pipe(socket);
    expect(sha(await exchange(port, big))).toBe(sha(big));
  }, 120_000);

  test("keys that are exchanged in the middle of a transfer cost nothing of it", async () => {
    const big = randomBytes(16 << 20);
    const { port } = await open({ certificate: "good", options: ["-o", "RekeyLimit=2M"] });
    serveNext = (socket) => socket.pipe(socket);
    expect(sha(await exchange(port, big))).toBe(sha(big));
  }, 120_000);

  test("much data through the session comes back whole", async () => {
    const { command } = await commandLine({ certificate: "good" });
    const big = randomBytes(8 << 20);
    const child = Bun.spawn(command, { stdin: new Uint8Array(big), stdout: "pipe", stderr: "ignore" });
    children.push(child);
    const back = Buffer.from(await new Response(child.stdout).arrayBuffer());
    expect(sha(back)).toBe(sha(big));
    expect(await child.exited).toBe(0);
  }, 120_000);

  test("a client that is killed in the middle of a transfer takes its way to the next hop with it", async () => {
    const closed = Promise.withResolvers<void>();
    serveNext = (socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      };
      socket.on("drain", more).on("close", () => closed.resolve());
      more();
    };
    const { child, port } = await open({ certificate: "good" });
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("data", resolve));
    child.kill("SIGKILL");
    await closed.promise;
    await kept.waitFor("disconnected");
    expect(relay.connections).toBe(0);
    serveNext = (other) => other.end("NEXT\n");
    expect((await exchange((await open({ key: "enrolment" })).port)).toString()).toBe("NEXT\n");
  });

  test("a next hop that dies ends its channel, not the connection", async () => {
    const { child, port } = await open({ certificate: "good" });
    serveNext = (socket) => {
      socket.write("x");
      socket.once("data", () => socket.resetAndDestroy());
    };
    const socket = connect(port, "127.0.0.1");
    const ended = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => {}));
    await new Promise((resolve) => socket.once("data", resolve));
    socket.write("die");
    await ended;
    serveNext = (other) => other.end("NEXT\n");
    expect((await exchange(port)).toString()).toBe("NEXT\n");
    expect(child.exitCode).toBeNull();
  });

  test("who says nothing cannot keep others out", async () => {
    await start({ maxConnections: 8 });
    const quiet = silent(20);
    await Promise.race(quiet.map(({ closed }) => closed));
    const { port } = await open({ certificate: "good" });
    expect((await exchange(port)).toString()).toBe("NEXT\n");
    for (const { socket } of quiet) socket.destroy();
  });

  test("a next hop that does not read slows the client down, and gets everything in the end", async () => {
    const chunk = randomBytes(65_536);
    const chunks = 1024;
    const hash = createHash("sha256");
    let resume = () => {};
    serveNext = (socket) => {
      socket.pause();
      resume = () => {
        socket.on("data", (data) => hash.update(data)).on("end", () => socket.end("done"));
        socket.resume();
      };
    };
    const { port } = await open({ certificate: "good" });
    let sent = 0;
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const done = new Promise<string>((resolve) => socket.on("data", (data) => resolve(data.toString())));
    const more = () => {
      while (sent < chunks) {
        sent++;
        if (!socket.write(chunk)) return;
      }
      socket.end();
    };
    socket.on("drain", more).on("connect", more);
    await standing(() => sent);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(chunks / 2);
    resume();
    expect(await done).toBe("done");
    const all = createHash("sha256");
    for (let i = 0; i < chunks; i++) all.update(chunk);
    expect(hash.digest("hex")).toBe(all.digest("hex"));
  }, 120_000);

  test("200 connections of garbage leave it as it was", async () => {
    await Promise.all(
      Array.from(
        { length: 200 },
        (_, i) =>
          new Promise<void>((resolve) => {
            const socket = connect(relay.address.port, "127.0.0.1");
            socket.on("close", () => resolve()).on("error", () => {});
            socket.on("data", () => {});
            const greeting = i % 3 === 0 ? "" : "SSH-2.0-garbage\r\n";
            socket.write(Buffer.concat([Buffer.from(greeting), randomBytes(1 + ((i * 97) % 4000))]));
            socket.end();
          }),
      ),
    );
    const { port } = await open({ certificate: "good" });
    expect((await exchange(port)).toString()).toBe("NEXT\n");
  }, 120_000);
});

/** Connections that say nothing. */
function silent(count: number): { socket: Socket; closed: Promise<void> }[] {
  return Array.from({ length: count }, () => {
    const socket = connect(relay.address.port, "127.0.0.1").resume();
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => {}));
    return { socket, closed };
  });
}

test("who says nothing is cut off after the grace time", async () => {
  await start({ grace: 300 });
  await Promise.all(silent(20).map(({ closed }) => closed));
  expect(relay.connections).toBe(0);
  expect(kept.lines.join("\n")).toContain("did not authenticate in time");
});

/** ssh2's own client, which lets a test break the protocol. */
function hostile(): Promise<{ client: ssh2.Client; channel: ssh2.ClientChannel }> {
  return new Promise((resolve, reject) => {
    const client = new ssh2.Client();
    client.on("error", reject).on("ready", () => {
      client.exec("x", (error, channel) => (error ? reject(error) : resolve({ client, channel })));
    });
    client.connect({ ...relay.address, username: "walt-vpn", privateKey: encodePrivateKey(enrolment) });
  });
}

test("a client that ignores its window is cut off before it fills the memory", async () => {
  const { client, channel } = await hostile();
  const closed = new Promise<void>((resolve) => client.on("close", () => resolve()));
  // It neither reads what it gets back nor waits to be allowed to send.
  const inside = channel as unknown as { outgoing: { window: number } };
  inside.outgoing.window = Number.MAX_SAFE_INTEGER;
  client.removeAllListeners("error").on("error", () => {});
  channel.pause();
  // Of a size that does not end where the window ends: there ssh2 itself drops what comes.
  for (let i = 0; i < 1024; i++) channel.write(Buffer.alloc(32_000));
  await closed;
  expect(kept.lines.join("\n")).toContain("it sends more than its window");
});

test("a client that does not read what it asked for does not fill the memory", async () => {
  let written = 0;
  serveNext = (socket) => {
    const more = () => {
      while (written < 256 << 20 && !socket.destroyed) {
        written += 65_536;
        if (!socket.write(Buffer.alloc(65_536))) return;
      }
    };
    socket.on("drain", more);
    more();
  };
  const { client, channel } = await hostile();
  const inside = client as unknown as {
    _sock: Socket;
    _protocol: { channelWindowAdjust(id: number, by: number): void };
  };
  const forwarded = await new Promise<ssh2.ClientChannel>((resolve, reject) =>
    client.forwardOut("127.0.0.1", 1, "127.0.0.1", portOf(next), (error, way) =>
      error ? reject(error) : resolve(way),
    ),
  );
  const { id } = (forwarded as unknown as { outgoing: { id: number } }).outgoing;
  inside._protocol.channelWindowAdjust(id, 0x7fffffff);
  inside._sock.pause();
  await standing(() => written);
  expect(written).toBeGreaterThan(0);
  expect(written).toBeLessThan(64 << 20);
  channel.on("error", () => {});
  client.on("error", () => {}).destroy();
  await kept.waitFor("disconnected");
});

test("when all together hold too much, the connection that holds most is ended", async () => {
  await start({ memory: 1 << 20 });
  serveNext = (socket) => socket.pause();
  const closed = new Set<string>();
  const holding = async (name: string, bytes: number) => {
    const { client } = await hostile();
    client
      .on("close", () => closed.add(name))
      .removeAllListeners("error")
      .on("error", () => {});
    const channel = await new Promise<ssh2.ClientChannel>((resolve, reject) =>
      client.forwardOut("127.0.0.1", 1, "127.0.0.1", portOf(next), (error, way) =>
        error ? reject(error) : resolve(way.on("error", () => {})),
      ),
    );
    for (let left = bytes; left > 0; left -= 32_768) channel.write(Buffer.alloc(32_768));
    return client;
  };
  const small = await holding("small", 65_536);
  // The system's own buffers on the way to the next hop take some megabytes before anything waits in the relay.
  const large = await holding("large", 32 << 20);
  for (let i = 0; !closed.has("large") && i < 8; i++) await holding(`other ${i}`, 32 << 20);
  await kept.waitFor("hold too much in memory");
  expect(closed.has("small")).toBe(false);
  small.destroy();
  large.destroy();
});

test("what is done on a connection again and again adds no listeners to it", async () => {
  const sockets: Socket[] = [];
  const inject = ssh2.Server.prototype.injectSocket;
  const spy = spyOn(ssh2.Server.prototype, "injectSocket").mockImplementation(function (
    this: ssh2.Server,
    socket: Socket,
  ) {
    sockets.push(socket);
    return inject.call(this, socket);
  });
  const { client, channel } = await hostile();
  spy.mockRestore();
  const session = (open: ssh2.ClientChannel) =>
    new Promise<void>((resolve) =>
      open
        .on("close", () => resolve())
        .resume()
        .end("x"),
    );
  await session(channel);
  const socket = sockets.at(-1);
  const listeners = () => socket?.eventNames().map((name) => [String(name), socket.listenerCount(name)]);
  const before = listeners();
  expect(before).not.toEqual([]);
  for (let i = 0; i < 12; i++) {
    await session(
      await new Promise((resolve, reject) =>
        client.exec("x", (error, one) => (error ? reject(error) : resolve(one))),
      ),
    );
    await session(
      await new Promise((resolve, reject) =>
        client.forwardOut("127.0.0.1", 1, "127.0.0.1", portOf(next), (error, one) =>
          error ? reject(error) : resolve(one),
        ),
      ),
    );
  }
  expect(listeners()).toEqual(before);
  client.end();
});

test("who shows the enrolment key without holding it is refused", async () => {
  class Thief extends ssh2.BaseAgent {
    override getIdentities(then: (error: Error | undefined, keys?: ssh2.ParsedKey[]) => void): void {
      const parsed = ssh2.utils.parseKey(publicKeyLine(enrolment.publicKey));
      if (parsed instanceof Error) then(parsed);
      else then(undefined, [parsed]);
    }
    override sign(_: unknown, data: Buffer, ...rest: unknown[]): void {
      const then = rest.find((one) => typeof one === "function") as (
        error: undefined,
        signature: Buffer,
      ) => void;
      then(undefined, sign(device, data));
    }
  }
  const client = new ssh2.Client();
  const outcome = new Promise<string>((resolve) =>
    client.on("ready", () => resolve("in")).on("error", (error) => resolve(error.message)),
  );
  client.connect({ ...relay.address, username: "walt-vpn", agent: new Thief() });
  expect(await outcome).toContain("authentication methods failed");
  expect(kept.lines.join("\n")).toContain("the signature is wrong");
  client.destroy();
});

test("more channels than a device needs are refused", async () => {
  serveNext = () => {};
  const { client } = await hostile();
  const opened = async (open: (then: (error?: Error) => void) => void) => {
    const tries = Array.from(
      { length: 8 },
      () => new Promise<boolean>((done) => open((error) => done(!error))),
    );
    return (await Promise.all(tries)).filter(Boolean).length;
  };
  expect(await opened((then) => client.exec("x", then))).toBe(0); // beside the one that is open
  expect(await opened((then) => client.forwardOut("127.0.0.1", 1, "127.0.0.1", portOf(next), then))).toBe(4);
  client.end();
  await kept.waitFor("disconnected");
});

test("a port that is taken is an error in words", async () => {
  expect(start({ listen: { host: "127.0.0.1", port: portOf(next) } })).rejects.toThrow(
    /cannot listen on 127.0.0.1:\d+: /,
  );
});
