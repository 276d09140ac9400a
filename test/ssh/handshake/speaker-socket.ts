/** A client whose every message the test makes, on a socket. */

import { connect, type Socket } from "node:net";
import type { KeyPair, PublicKey } from "../../../src/ssh/keys/ed25519.ts";
import { PATIENCE } from "../../lab/eventually.ts";

import { Speaker, say } from "./speaker.ts";

export class SpeakerSocket {
  /** Resolves when the connection is closed, whoever did it. */
  readonly closed: Promise<void>;
  isClosed = false;
  readonly speaker: Speaker;
  #wake = (): void => {};

  private constructor(
    readonly socket: Socket,
    hostKey: PublicKey,
  ) {
    this.speaker = new Speaker(hostKey);
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    void this.closed.then(() => {
      this.isClosed = true;
      this.#wake();
    });
    socket.on("error", () => {});
    socket.on("data", (bytes: Buffer) => {
      this.speaker.hear(bytes);
      this.flush();
      this.#wake();
    });
    this.flush();
  }

  /** Connect, and no more: keys are exchanged from then on. @param from the address to come from. */
  static connect(
    to: { host: string; port: number },
    hostKey: PublicKey,
    from?: string,
  ): Promise<SpeakerSocket> {
    const socket = connect({ ...to, noDelay: true, ...(from === undefined ? {} : { localAddress: from }) });
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => resolve(new SpeakerSocket(socket, hostKey)));
    });
  }

  /** Connect and authenticate. */
  static async login(
    to: { host: string; port: number },
    hostKey: PublicKey,
    key: KeyPair,
    from?: string,
  ): Promise<SpeakerSocket> {
    const made = await SpeakerSocket.connect(to, hostKey, from);
    await made.until("keys", () => made.speaker.transport?.ready === true);
    made.send(say.service(), say.proof(key, made.speaker.id));
    await made.message(52);
    return made;
  }

  send(...payloads: Uint8Array[]): void {
    this.speaker.send(...payloads);
    this.flush();
  }

  flush(): void {
    const bytes = this.speaker.output();
    if (bytes.length > 0 && !this.socket.destroyed) this.socket.write(bytes);
  }

  /** Wait for something that messages bring about. */
  async until(what: string, is: () => boolean): Promise<void> {
    const late = setTimeout(() => this.#wake(), PATIENCE);
    const start = performance.now();
    try {
      while (!is()) {
        if (this.isClosed) throw new Error(`the connection was closed before: ${what}`);
        if (performance.now() - start > PATIENCE) throw new Error(`${what}: not within ${PATIENCE} ms`);
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      clearTimeout(late);
    }
  }

  /** The next message of a type; those before it are forgotten. */
  async message(type: number): Promise<Buffer> {
    const { heard } = this.speaker;
    await this.until(`message ${type}`, () => heard.some((message) => message[0] === type));
    const at = heard.findIndex((message) => message[0] === type);
    return heard.splice(0, at + 1).at(-1) ?? Buffer.alloc(0);
  }

  close(): void {
    this.socket.destroy();
  }
}
