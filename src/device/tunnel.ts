/** The tunnel: the inner ssh whose standard input and output carry frames, its TAP, and the link that pumps between both. */

import { closeSync } from "node:fs";
import { messageOf } from "../errors.ts";
import { socketPair } from "../linux/socketpair.ts";
import { openOffloadTap, openTap } from "../linux/tap.ts";
import { CONNECTED } from "../ssh/client.ts";
import { SILENCE } from "../tunnel/control.ts";
import { ORIGINAL_MTU } from "../tunnel/message.ts";
import type { Link, LinkStats, Pumps } from "../tunnel/pumps.ts";
import { joinBridge, setMtu, VPN_TAP } from "./bridge.ts";
import type { Child } from "./child.ts";
import { innerCommand, type SessionOptions } from "./session.ts";
import { SshFailure, serverWords } from "./ssh-failure.ts";

/** Without a command the tunnel is in the original framing. */
export interface TunnelOptions extends SessionOptions {
  readonly pumps: Pumps;
  /** The bridge is there when this resolves. */
  readonly bridge: Promise<void>;
  /** A server that is silent for so many ms is taken for dead. */
  readonly silence: number;
  /** Largest MTU that the node may be given, bytes. */
  readonly mtu: number;
}

export class Tunnel {
  readonly #child: Child;
  readonly #link: Link;
  #stopped: string | undefined;
  #isUp = false;
  #over = false;
  /**
   * Frames flow: the server greeted, and the TAP is in the bridge, with the MTU that both agreed on, in bytes. Never rejects:
   * stays pending when it ends first.
   */
  readonly up: Promise<number>;
  /** Why it ended; ssh and TAP are gone by then. */
  readonly ended: Promise<SshFailure>;

  /** @throws WaltError when there can be no TAP. */
  constructor(readonly options: TunnelOptions) {
    const mark = options.hops.mark;
    const original = options.command === undefined;
    const [ours, theirs] = socketPair();
    try {
      // In the original framing only ssh can tell that the server is silent: after three times this it gives up.
      const alive = Math.max(1, Math.round(options.silence / 3000));
      const command = innerCommand(original ? { ...options, alive } : options);
      this.#child = options.children.spawn(command, theirs);
    } catch (error) {
      closeSync(ours);
      throw error;
    } finally {
      closeSync(theirs);
    }
    try {
      this.#link = options.pumps.add({
        ...this.#tap(ours, original),
        original,
        stream: ours,
        mtu: original ? ORIGINAL_MTU : options.mtu,
        silence: options.silence,
      });
    } catch (error) {
      void this.#child.stop();
      throw error;
    }
    this.up = this.#rise(original);
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
  #tap(ours: number, original: boolean): { tap: number; offload: number | undefined } {
    try {
      const { fd, offload } = (original ? openTap : openOffloadTap)(VPN_TAP);
      return { tap: fd, offload };
    } catch (error) {
      closeSync(ours);
      throw error;
    }
  }

  async #rise(original: boolean): Promise<number> {
    try {
      // Without a hello it is ssh's own word that the server has let us in; before it frames would wait in vain.
      if (original) await this.#child.printed(CONNECTED);
      await this.options.bridge;
      await joinBridge(VPN_TAP);
      const mtu = await this.#link.up;
      await setMtu(mtu);
      this.#isUp = true;
      return mtu;
    } catch (error) {
      // Of a tunnel that has ended meanwhile the TAP is gone, too, which is no news.
      if (!this.#over) this.#stopped ??= messageOf(error);
      this.#link.close(messageOf(error));
      return await new Promise(() => {}); // never up
    }
  }

  async #end(mark: number): Promise<SshFailure> {
    const reason = await this.#link.ended;
    this.#over = true;
    // Its stdio is closed: an ssh that is well ends by itself at once, and one that failed has said why.
    const status = await Promise.race([this.#child.exited, Bun.sleep(300)]);
    await this.#child.stop();
    if (this.#stopped !== undefined) return new SshFailure(this.#stopped);
    const stderr = this.#child.stderr.replace(CONNECTED, "");
    // What the pump saw is better than ssh's words, unless it saw nothing but ssh's end.
    if (status !== 255 || stderr.trim() === "" || (this.#isUp && !/\bstream\b/.test(reason))) {
      return new SshFailure(serverWords(stderr) ?? reason, false, SILENCE.test(reason));
    }
    return await this.options.hops.explain(stderr, mark);
  }
}
