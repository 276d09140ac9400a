/** A server on loopback that takes every connection with an exec away from ssh2, for tests of what comes then. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocate, EAGAIN, libc, type Memory } from "../../src/linux/libc.ts";
import { STREAM_ROOM } from "../../src/linux/stream.ts";
import { createLog } from "../../src/log.ts";
import { ChannelStream } from "../../src/ssh/channel-stream.ts";
import { innerArguments, SERVER_ALIAS } from "../../src/ssh/client.ts";
import { decodeState, encodeState } from "../../src/ssh/connection-state.ts";
import { encodePrivateKey, generateKey } from "../../src/ssh/keys.ts";
import { knownHostsLine } from "../../src/ssh/known-hosts.ts";
import { SshListener } from "../../src/ssh/listener.ts";
import { PATIENCE } from "../tunnel/rig.ts";

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What the taker does with the stream until it ends. */
export class Held {
  readonly memory: Memory = allocate(4 * STREAM_ROOM);
  readonly ended = Promise.withResolvers<string>();
  #over = false;

  constructor(
    readonly stream: ChannelStream,
    readonly done: () => void,
  ) {}

  /** Bytes that came, at most `room`; undefined at the end of the stream. */
  read(room = 4 * STREAM_ROOM): Uint8Array | undefined {
    const n = this.stream.read(this.memory, 0, room, performance.now());
    if (n > 0) return this.memory.bytes.slice(0, n);
    if (n === -EAGAIN) return new Uint8Array();
    this.ended.resolve(this.stream.problem ?? (n === 0 ? "end" : `errno ${-n}`));
    return undefined;
  }

  /** @returns bytes that were taken of up to 64 buffers. */
  write(...buffers: Memory[]): number {
    const vector = allocate(16 * buffers.length);
    const words = new Uint32Array(vector.bytes.buffer);
    for (const [i, { address, bytes }] of buffers.entries()) {
      words.set([address, address / 0x1_0000_0000, bytes.length, 0], 4 * i);
    }
    const n = this.stream.writev(vector, words, 0, buffers.length);
    return n === -EAGAIN ? 0 : n;
  }

  /** Send everything back until the end. */
  async echo(): Promise<void> {
    for (;;) {
      const bytes = this.read();
      if (bytes === undefined) break;
      for (let done = 0; done < bytes.length; await turn()) {
        const rest = allocate(bytes.length - done);
        rest.bytes.set(bytes.subarray(done));
        const n = this.write(rest);
        if (n < 0) return;
        done += n;
      }
      await turn();
    }
    while (!this.stream.shut()) await turn();
  }

  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.stream.dispose();
    libc.close(this.stream.fd);
    this.done();
  }
}

export class TakingServer {
  readonly dir = mkdtempSync(join(tmpdir(), "walt-taken-"));
  readonly held: Held[] = [];
  readonly errors: string[] = [];
  #listener: SshListener | undefined;

  /** @param serve what to do with what was taken; `wait`: for how long ssh2's connection is left frozen before. */
  static async start(
    serve: (held: Held, command: string) => Promise<void>,
    wait: () => Promise<void> = async () => {},
  ): Promise<TakingServer> {
    const server = new TakingServer();
    const hostKey = generateKey("host");
    const key = generateKey("client");
    server.#listener = await SshListener.start({
      listen: { host: "127.0.0.1", port: 0 },
      hostKey,
      log: createLog(-999),
      authorise: () => undefined,
      serve: (peer) => {
        peer.client.on("session", (accept) => {
          accept().on("exec", (acceptExec, _reject, { command }) => {
            const channel = acceptExec();
            peer.freeze();
            const take = async (): Promise<void> => {
              await wait();
              const { fd, state, over } = await peer.take(channel, () => held?.close());
              const stream = new ChannelStream(fd, decodeState(encodeState(state).bytes));
              held = new Held(stream, over);
              server.held.push(held);
              await serve(held, command);
              held.close();
            };
            let held: Held | undefined;
            take().catch((error: unknown) => server.errors.push(String(error)));
          });
        });
      },
    });
    writeFileSync(join(server.dir, "key"), encodePrivateKey(key), { mode: 0o600 });
    writeFileSync(join(server.dir, "known"), `${knownHostsLine(SERVER_ALIAS, hostKey.publicKey)}\n`);
    return server;
  }

  get listener(): SshListener {
    if (this.#listener === undefined) throw new Error("not started");
    return this.#listener;
  }

  /** The command line of the device's own inner ssh. */
  ssh(command: string, ...options: string[]): string[] {
    const [program = "", ...more] = innerArguments({
      connect: this.listener.address,
      keyFile: join(this.dir, "key"),
      knownHosts: join(this.dir, "known"),
      command,
      connectTimeout: PATIENCE / 1000,
    });
    return [program, ...options, ...more];
  }

  async stop(): Promise<void> {
    await this.listener.close();
    for (const held of this.held) held.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
