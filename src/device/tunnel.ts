/** The tunnel: the inner ssh whose standard input and output carry frames, its TAP, and the link that pumps between both. */

import { closeSync } from "node:fs";
import { messageOf } from "../errors.ts";
import { socketPair } from "../linux/socketpair.ts";
import { openOffloadTap } from "../linux/tap.ts";
import { SILENCE } from "../tunnel/control.ts";
import type { Link, LinkStats, Pumps } from "../tunnel/pumps.ts";
import { joinBridge, VPN_TAP } from "./bridge.ts";
import type { Child } from "./child.ts";
import { innerCommand, type SessionOptions } from "./session.ts";
import { SshFailure, serverWords } from "./ssh-failure.ts";

/** MTU of walt-net, bytes. */
const MTU = 1500;

export interface TunnelOptions extends SessionOptions {
  readonly pumps: Pumps;
  /** The bridge is there when this resolves. */
  readonly bridge: Promise<void>;
  /** A server that is silent for so many ms is taken for dead. */
  readonly silence: number;
}

export class Tunnel {
  readonly #child: Child;
  readonly #link: Link;
  #stopped: string | undefined;
  #isUp = false;
  /** Frames flow: the server greeted, and the TAP is in the bridge. Never rejects: stays pending when it ends first. */
  readonly up: Promise<void>;
  /** Why it ended; ssh and TAP are gone by then. */
  readonly ended: Promise<SshFailure>;

  /** @throws WaltError when there can be no TAP. */
  constructor(readonly options: TunnelOptions) {
    const mark = options.hops.mark;
    const [ours, theirs] = socketPair();
    try {
      this.#child = options.children.spawn(innerCommand(options), theirs);
    } catch (error) {
      closeSync(ours);
      throw error;
    } finally {
      closeSync(theirs);
    }
    try {
      this.#link = options.pumps.add({
        ...this.#tap(ours),
        stream: ours,
        mtu: MTU,
        silence: options.silence,
      });
    } catch (error) {
      void this.#child.stop();
      throw error;
    }
    this.up = Promise.all([this.#link.up, this.#join()]).then(() => {
      this.#isUp = true;
    });
    this.ended = this.#end(mark);
  }

  /** Counters, among them the round trip time. */
  get stats(): LinkStats {
    return this.#link.stats();
  }

  /** End it. Resolves when ssh and TAP are gone. */
  async stop(reason: string): Promise<void> {
    this.#stopped ??= reason;
    this.#link.close(reason);
    await this.ended;
  }

  /** The TAP. The link owns both descriptors once it has them, not before. */
  #tap(ours: number): { tap: number; offload: number | undefined } {
    try {
      const { fd, offload } = openOffloadTap(VPN_TAP);
      return { tap: fd, offload };
    } catch (error) {
      closeSync(ours);
      throw error;
    }
  }

  async #join(): Promise<void> {
    try {
      await this.options.bridge;
      await joinBridge(VPN_TAP);
    } catch (error) {
      this.#stopped ??= messageOf(error);
      this.#link.close(this.#stopped);
      await new Promise(() => {}); // never up
    }
  }

  async #end(mark: number): Promise<SshFailure> {
    const reason = await this.#link.ended;
    // Its stdio is closed: an ssh that is well ends by itself at once, and one that failed has said why.
    const status = await Promise.race([this.#child.exited, Bun.sleep(300)]);
    await this.#child.stop();
    if (this.#stopped !== undefined) return new SshFailure(this.#stopped);
    const { stderr } = this.#child;
    // What the pump saw is better than ssh's words, unless it saw nothing but ssh's end.
    if (status !== 255 || stderr.trim() === "" || (this.#isUp && !/\bstream\b/.test(reason))) {
      return new SshFailure(serverWords(stderr) ?? reason, false, SILENCE.test(reason));
    }
    return await this.options.hops.explain(stderr, mark);
  }
}
