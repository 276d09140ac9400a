/** What carries the tunnel: our own connection to an SSH server, or an ssh that is a script; and why each of them ended. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, readdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { type Entrypoint, formatHostPort, type HostPort, parseEntrypoint } from "../../../src/address.ts";
import { ProxyChain } from "../../../src/device/route/proxy-chain.ts";
import { RouteFailure } from "../../../src/device/route/route-failure.ts";
import {
  openOriginalTransport,
  openTransport,
  type TunnelTransport,
} from "../../../src/device/route/tunnel-transport.ts";
import type { End } from "../../../src/end.ts";
import { Children } from "../../../src/linux/child.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { knownHostsLine } from "../../../src/ssh/keys/known-hosts.ts";
import { eventually } from "../../lab/eventually.ts";
import { isAlive } from "../../lab/proc.ts";
import { readable, readNow, writeNow } from "../../tunnel/rig.ts";
import { ECHO_AND_COMPLAIN, FakeSsh } from "./fake-ssh.ts";
import { SshPeer } from "./ssh-peer.ts";

const key = generateKey("device");
const GATE = "gate.example.org:22";
const SERVER: HostPort = { host: "walt.example.org", port: 2222 };
const CLOSED: End = { kind: "closed", text: "the stream is closed" };
let ssh: FakeSsh;
let children: Children;
let chain: ProxyChain | undefined;
beforeEach(() => {
  ssh = new FakeSsh();
  children = new Children();
  ssh.plays(GATE, ECHO_AND_COMPLAIN);
});
afterEach(async () => {
  await chain?.stop();
  chain = undefined;
  await children.stop();
  ssh[Symbol.dispose]();
});

const direct = (to: HostPort): Entrypoint => ({ direct: to });

/** The first entrypoint's chain is open; more of what is needed for a command on the server. */
async function over(entrypoint: Entrypoint, knownHosts = "/keys/known") {
  chain = await ProxyChain.open({
    ...{ entrypoint, server: SERVER, keyFiles: ["/keys/device"], knownHosts },
    ...{ silence: 10_000, children, signal: new AbortController().signal },
  });
  return { proxies: chain, keyFiles: ["/keys/device"], knownHosts, children };
}

/** The proxy says that it could not reach what is behind it. */
async function complain(): Promise<void> {
  const before = chain?.mark ?? 0;
  const proxy = ssh.calls.findLast(({ options }) => options["HostKeyAlias"] === GATE);
  if (proxy === undefined) throw new Error("there is no proxy");
  process.kill(proxy.pid, "SIGUSR1");
  await eventually("the proxy's complaint", () => (chain?.mark ?? 0) > before);
}

/** A server on a port of 127.0.0.1; any unless told. */
async function listening(port = 0): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;
const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));

const { signal } = new AbortController();
const descriptors = (): number => readdirSync("/proc/self/fd").length;

describe("to WalT's own endpoint", () => {
  let peer: SshPeer;
  beforeAll(async () => {
    peer = await SshPeer.start(key);
  });
  afterAll(() => peer[Symbol.asyncDispose]());

  /** A known_hosts file in which the server has this key. */
  function pinned(hostKey = peer.hostKey): string {
    const file = join(ssh.dir, "known_hosts");
    writeFileSync(file, `${knownHostsLine("walt-server", hostKey.publicKey)}\n`);
    return file;
  }

  async function open(
    o: { to?: HostPort; entrypoint?: Entrypoint; as?: typeof key; known?: string; signal?: AbortSignal } = {},
  ): Promise<TunnelTransport> {
    const given = await over(o.entrypoint ?? direct(o.to ?? peer.address), o.known ?? pinned());
    const options = { ...given, key: o.as ?? key, command: "tunnel via=gate.example.org:22" };
    return await openTransport(options, o.signal ?? new AbortController().signal);
  }

  async function failure(opening: Promise<unknown>): Promise<End> {
    const error = await opening.then(String, (reason: unknown) => reason);
    if (error instanceof RouteFailure) return error.end;
    throw new Error(`no RouteFailure: ${error}`);
  }

  test("the command runs, and connection and keys are handed over", async () => {
    const before = peer.commands.length;
    const transport = await open();
    await transport.entered;
    expect(peer.commands.slice(before)).toEqual([
      { user: "walt-vpn", command: "tunnel via=gate.example.org:22" },
    ]);
    expect(transport.ssh?.bytes.length).toBeGreaterThan(100);
    expect(peer.connections).toBe(1);
    closeSync(transport.stream);
    await eventually("the end of the connection", () => peer.connections === 0);
  });

  test("its end is told as the link saw it, once it was up", async () => {
    const transport = await open();
    for (const end of [CLOSED, { kind: "silent", text: "silent for 10 s" }] as const)
      expect(await transport.explain(end, true, signal)).toBe(end);
    closeSync(transport.stream);
  });

  test("words of the server are a refusal, whenever they come", async () => {
    const transport = await open();
    const refused: End = { kind: "refused", text: "walt: the server has too many tunnels\n" };
    for (const wasUp of [false, true])
      expect(await transport.explain(refused, wasUp, signal)).toEqual({
        kind: "refused",
        text: "the server refuses: the server has too many tunnels",
      });
    const other: End = { kind: "refused", text: "something else" };
    expect(await transport.explain(other, false, signal)).toEqual(other);
    closeSync(transport.stream);
  });

  test("a stream that ends before the tunnel was up is the server's doing; other ends speak for themselves", async () => {
    const transport = await open();
    expect(await transport.explain(CLOSED, false, signal)).toEqual({
      kind: "closed",
      text: `the server ${formatHostPort(peer.address)}: it closed the connection`,
    });
    const malformed: End = { kind: "malformed", text: "a frame of 1 bytes" };
    expect(await transport.explain(malformed, false, signal)).toBe(malformed);
    closeSync(transport.stream);
  });

  test("why there is none is told under the server's name: strange host key, refused key, nothing there, no SSH", async () => {
    const name = `the server ${formatHostPort(peer.address)}`;
    const before = descriptors();
    expect(await failure(open({ known: pinned(generateKey("other")) }))).toMatchObject({
      kind: "wrong-host-key",
      text: expect.stringContaining(
        `${name}: its host key is not the pinned one: it shows ssh-ed25519 SHA256:`,
      ),
    });
    expect(await failure(open({ as: generateKey("stranger") }))).toMatchObject({
      kind: "key-refused",
      text: expect.stringContaining(`${name}: it does not accept our key`),
    });
    const other = await listening();
    const mute = { host: "127.0.0.1", port: portOf(other) };
    other.on("connection", (socket) =>
      socket
        .resume()
        .on("error", () => {})
        .end("HTTP/1.1 400 Bad Request\r\n\r\n"),
    );
    const babble = await failure(open({ to: mute }));
    expect(babble.text).toStartWith(`the server ${formatHostPort(mute)}: `);
    await close(other);
    expect(await failure(open({ to: mute }))).toEqual({
      kind: "unreachable",
      text: `the server ${formatHostPort(mute)}: nothing listens on its port ${mute.port} (connection refused)`,
    });
    await eventually("the end of all connections", () => peer.connections === 0);
    await eventually("no descriptor more than before", descriptors, { fits: (n) => n <= before });
  });

  test("behind a proxy that could not reach the server, the proxy's complaint is the reason", async () => {
    const given = await over(parseEntrypoint(GATE), pinned());
    const options = { ...given, key, command: "tunnel via=gate.example.org:22" };
    const { signal } = new AbortController();
    // In the place of ssh's forward: one that passes nothing on, as when the proxy could not, and later one that does.
    const forward = await listening(given.proxies.target.port);
    forward.on("connection", async (socket) => {
      await complain();
      socket.destroy();
    });
    const reason = {
      kind: "unreachable",
      text: `proxy ${GATE}: it cannot reach the next hop (Connection refused)`,
    } as const;
    expect(await failure(openTransport(options, signal))).toEqual(reason);
    forward.removeAllListeners("connection").on("connection", (socket) => {
      const onwards = connect(peer.address.port, peer.address.host);
      socket.on("error", () => {}).pipe(onwards.on("error", () => {}));
      onwards.pipe(socket);
    });
    const transport = await openTransport(options, signal);
    expect(await transport.explain(CLOSED, false, signal)).toEqual({
      kind: "closed",
      text: "the server walt.example.org:2222: it closed the connection",
    });
    await complain();
    expect(await transport.explain(CLOSED, false, signal)).toEqual(reason);
    // Once it was up, its own words count.
    expect(await transport.explain(CLOSED, true, signal)).toBe(CLOSED);
    closeSync(transport.stream);
    await close(forward);
  });

  test("a stop ends the attempt", async () => {
    const silent = await listening();
    const stop = new AbortController();
    silent.on("connection", () => stop.abort());
    const to = { host: "127.0.0.1", port: portOf(silent) };
    expect((await failure(open({ to, signal: stop.signal }))).kind).toBe("stopped");
    await close(silent);
  });
});

describe("to a server of WalT's original VPN, by an ssh", () => {
  const name = "the server walt.example.org:2222";

  /** Through the proxy, with this ssh to the server. */
  async function open(script: string, silence = 30_000): Promise<TunnelTransport> {
    ssh.plays("walt-server", script);
    const given = { ...(await over(parseEntrypoint(GATE))), command: undefined };
    return openOriginalTransport(given, silence);
  }

  test("its standard input and output are the stream, once it says that it is in", async () => {
    const transport = await open("echo walt-connected >&2\nexec cat");
    await transport.entered;
    writeNow(transport.stream, Buffer.from("frames"));
    expect(readable(transport.stream, 10_000)).toBe(true);
    expect(Buffer.from(readNow(transport.stream) ?? []).toString()).toBe("frames");
    const call = await ssh.call(1);
    expect(call).toMatchObject({ host: "127.0.0.1", port: chain?.target.port, command: undefined });
    expect(call.options).toMatchObject({ HostKeyAlias: "walt-server", IdentityFile: "/keys/device" });
    closeSync(transport.stream);
    // It ends by itself, without a word: what the link saw is all there is to say.
    expect(await transport.explain(CLOSED, true, signal)).toBe(CLOSED);
  });

  test("it is asked for signs of life three times within the silence, and at least once a second", async () => {
    for (const [n, [silence, interval]] of [
      [30_000, "10"],
      [10_000, "3"],
      [1000, "1"],
    ].entries() as ArrayIterator<[number, [number, string]]>) {
      const transport = await open("exec cat", silence);
      expect((await ssh.call(2 * n + 1)).options["ServerAliveInterval"]).toBe(interval);
      closeSync(transport.stream);
      await transport.explain(CLOSED, false, signal);
      await chain?.stop();
    }
  });

  test("one that fails says why, under the server's name or the proxy's, and was never in", async () => {
    let entered = false;
    const refused = await open("echo 'walt-vpn@x: Permission denied (publickey).' >&2; exit 255");
    void refused.entered.then(() => {
      entered = true;
    });
    expect(await refused.explain(CLOSED, false, signal)).toMatchObject({
      kind: "key-refused",
      text: expect.stringContaining(`${name}: it does not accept our key`),
    });
    expect(entered).toBe(false);
    closeSync(refused.stream);
    await chain?.stop();
    const unreached = await open("echo 'Connection closed by 127.0.0.1 port 9' >&2; exit 255");
    await complain();
    expect(await unreached.explain(CLOSED, false, signal)).toEqual({
      kind: "unreachable",
      text: `proxy ${GATE}: it cannot reach the next hop (Connection refused)`,
    });
    closeSync(unreached.stream);
  });

  test("what the link saw of a tunnel that was up is better than ssh's words, unless it only saw ssh's end", async () => {
    const silent = "echo walt-connected >&2; echo 'Timeout, server 127.0.0.1 not responding.' >&2; exit 255";
    for (const [end, expected] of [
      [CLOSED, { kind: "silent", text: `${name}: it fell silent` }],
      [
        { kind: "malformed", text: "a frame of 3 bytes" },
        { kind: "malformed", text: "a frame of 3 bytes" },
      ],
    ] as const) {
      const transport = await open(silent);
      await transport.entered;
      expect(await transport.explain(end, true, signal)).toEqual(expected);
      closeSync(transport.stream);
      await chain?.stop();
    }
  });

  test("what the server's program says is a refusal", async () => {
    const transport = await open("echo 'walt: this node is unknown' >&2; exit 1");
    expect(await transport.explain(CLOSED, false, signal)).toEqual({
      kind: "refused",
      text: "the server refuses: this node is unknown",
    });
    closeSync(transport.stream);
  });

  test("an ssh that does not end by itself is ended", async () => {
    const transport = await open("echo walt-connected >&2; trap '' TERM; while :; do sleep 1; done");
    await transport.entered;
    expect(await transport.explain(CLOSED, true, signal)).toBe(CLOSED);
    expect(isAlive((await ssh.call(1)).pid)).toBe(false);
    closeSync(transport.stream);
  });

  test("where no ssh can be started no descriptor stays open", async () => {
    const given = { ...(await over(direct(SERVER))), command: undefined };
    await children.stop();
    const before = descriptors();
    expect(() => openOriginalTransport(given, 30_000)).toThrow("the device is being stopped");
    expect(descriptors()).toBe(before);
  });
});
