/** A server on loopback that releases every connection with an exec, for tests of what comes then. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocate, EAGAIN, libc, type Memory } from "../../../src/linux/libc.ts";
import { createLog } from "../../../src/log.ts";
import { type ChannelOptions, openChannel } from "../../../src/ssh/client/open-channel.ts";
import {
  type ConnectionState,
  decodeState,
  encodeState,
} from "../../../src/ssh/handshake/connection-state.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../../src/ssh/keys/known-hosts.ts";
import { SERVER_ALIAS, serverArguments } from "../../../src/ssh/openssh/arguments.ts";
import { SshListener } from "../../../src/ssh/server/listener.ts";
import { ChannelStream } from "../../../src/tunnel/transport/ssh-channel.ts";
import { STREAM_ROOM } from "../../../src/tunnel/transport/stream.ts";
import { eventually, PATIENCE, turn } from "../../lab/eventually.ts";

/** Bytes after which new keys are asked for: never. */
export const MANY = 2 ** 40;

/** Wait for something that nobody tells. */
export async function until(what: string, is: () => boolean): Promise<void> {
  await eventually(what, is, { every: 0 });
}

/** A stream in the hands of a test. */
export class Held {
  /** Why it ended, once `read` has seen it. */
  end: string | undefined;
  readonly #memory: Memory = allocate(4 * STREAM_ROOM);
  #closed = false;

  constructor(
    readonly stream: ChannelStream,
    readonly over: () => void = () => {},
  ) {}

  /** Bytes that came; undefined at the end of the stream. */
  read(): Uint8Array | undefined {
    if (this.#closed) return undefined; // its descriptor may be somebody else's by now
    const { bytes } = this.#memory;
    const n = this.stream.read(this.#memory, 0, bytes.length, performance.now());
    if (n > 0) return bytes.slice(0, n);
    if (n === -EAGAIN) return new Uint8Array();
    this.end ??= this.stream.end?.text ?? (n === 0 ? "end" : `errno ${-n}`);
    return undefined;
  }

  /** @returns bytes that were taken; 0 = none now. */
  write(bytes: Uint8Array): number {
    if (this.#closed) return -1;
    const memory = allocate(bytes.length);
    memory.bytes.set(bytes);
    const vector = allocate(32);
    const words = new Uint32Array(vector.bytes.buffer);
    // In two parts, as messages are.
    const first = Math.min(5, bytes.length);
    const { address } = memory;
    words.set([address, address / 0x1_0000_0000, first, 0]);
    words.set([address + first, (address + first) / 0x1_0000_0000, bytes.length - first, 0], 4);
    const n = this.stream.writev(vector, words, 0, 2);
    return n === -EAGAIN ? 0 : n;
  }

  /** Send everything back until the end. */
  async echo(): Promise<void> {
    let rest = Buffer.alloc(0);
    let ended = false;
    while (!ended || rest.length > 0) {
      const bytes = this.read();
      ended ||= bytes === undefined;
      if (bytes !== undefined) rest = Buffer.concat([rest, bytes]);
      const n = rest.length === 0 ? 0 : this.write(rest);
      if (n < 0) return;
      rest = rest.subarray(n);
      await turn();
    }
    await until("the end of both", () => {
      this.read();
      return this.#closed || this.stream.close();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.stream.free();
    libc.close(this.stream.fd);
    this.over();
  }
}

export class ReleasingServer {
  readonly dir = mkdtempSync(join(tmpdir(), "walt-taken-"));
  readonly hostKey = generateKey("host");
  readonly key = generateKey("client");
  readonly held: Held[] = [];
  readonly errors: string[] = [];
  #listener: SshListener | undefined;

  /** @param serve what to do with what was released; `before`: what to wait for while it is held. */
  static async start(
    serve: (held: Held, command: string) => Promise<void>,
    before = Promise.resolve(),
  ): Promise<ReleasingServer> {
    const server = new ReleasingServer();
    server.#listener = await SshListener.start({
      listen: { host: "127.0.0.1", port: 0 },
      hostKey: () => server.hostKey,
      log: createLog(-999),
      authorise: (_, { key }) => (key.blob.equals(server.key.publicKey.blob) ? undefined : "a stranger"),
      entered: () => {},
      request: (peer, channel, request) => {
        const command = request.kind === "exec" ? request.command : "";
        peer.hold();
        let held: Held | undefined;
        const take = async (): Promise<void> => {
          await before;
          const over = Promise.withResolvers<void>();
          const owner = { stop: () => held?.close(), ended: over.promise };
          const { fd, state } = await peer.release(channel, owner);
          held = new Held(new ChannelStream(fd, decodeState(encodeState(state).bytes), MANY), over.resolve);
          server.held.push(held);
          await serve(held, command);
          held.close();
        };
        take().catch((error: unknown) => server.errors.push(String(error)));
      },
    });
    writeFileSync(join(server.dir, "key"), encodePrivateKey(server.key), { mode: 0o600 });
    writeFileSync(join(server.dir, "known"), `${knownHostsLine(SERVER_ALIAS, server.hostKey.publicKey)}\n`);
    return server;
  }

  get listener(): SshListener {
    if (this.#listener === undefined) throw new Error("not started");
    return this.#listener;
  }

  /** Everything is over. */
  gone(): Promise<void> {
    return until("the connections' end", () => this.listener.connections === 0);
  }

  /** The command line of OpenSSH's client, as the device would say it. */
  ssh(command: string, ...options: string[]): string[] {
    const [program = "", ...more] = serverArguments({
      connect: this.listener.address,
      keyFiles: [join(this.dir, "key")],
      knownHosts: join(this.dir, "known"),
      command,
      connectTimeout: PATIENCE / 1000,
    });
    return [program, ...options, ...more];
  }

  /** Our own client, up to a command that runs. */
  async open(o: Partial<ChannelOptions> = {}): Promise<{ fd: number; state: ConnectionState }> {
    return await openChannel({
      connect: this.listener.address,
      key: this.key,
      hostKeys: [this.hostKey.publicKey],
      command: "echo",
      ...{ connectTimeout: PATIENCE, openTimeout: PATIENCE },
      signal: new AbortController().signal,
      ...o,
    });
  }

  async stop(): Promise<void> {
    for (const held of this.held) held.close();
    await this.listener.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
