/** The tunnel: its TAP, the transport to the server, and the link that pumps between both. */

import { closeSync } from "node:fs";
import type { End } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import { openOffloadTap, openTap } from "../../linux/tap.ts";
import type { KeyPair } from "../../ssh/keys/ed25519.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import { FRAMINGS, type FramingName } from "../../tunnel/framing.ts";
import type { Link, PumpThread } from "../../tunnel/pump-thread.ts";
import { endOf } from "../route/route-failure.ts";
import type { ServerCommandOptions } from "../route/server-command.ts";
import { openOriginalTransport, openTransport, type TunnelTransport } from "../route/tunnel-transport.ts";
import { joinBridge, setMtu, VPN_TAP } from "./bridge.ts";

/** Without a command the tunnel is in the original framing. */
export interface TunnelOptions extends ServerCommandOptions {
  readonly key: KeyPair;
  readonly pumps: PumpThread;
  /** The bridge is there when this resolves. */
  readonly bridge: Promise<void>;
  /** A server that is silent for so many ms is taken for dead. */
  readonly silence: number;
  /** Largest MTU that the node may be given, bytes. */
  readonly mtu: number;
  /** MiB after which the keys are changed. */
  readonly rekeyLimit: number;
}

export class Tunnel {
  readonly #stopping = new AbortController();
  readonly #up = Promise.withResolvers<number>();
  #link: Link | undefined;
  #stopped: string | undefined;
  #isUp = false;
  #over = false;
  /**
   * Frames flow: the server greeted, and the TAP is in the bridge, with the MTU that both agreed on, in bytes. Never rejects:
   * stays pending when it ends first.
   */
  readonly up = this.#up.promise;
  /** Why it ended; TAP and connection are gone by then. */
  readonly ended: Promise<End>;

  constructor(readonly options: TunnelOptions) {
    this.ended = this.#run();
  }

  /** Counters, among them the round trip time; undefined before the server has let us in. */
  get stats(): LinkStats | undefined {
    return this.#link?.stats();
  }

  /** End it. Resolves when connection and TAP are gone. */
  async stop(reason: string): Promise<void> {
    this.#stop(reason);
    await this.ended;
  }

  #stop(reason: string): void {
    this.#stopped ??= reason;
    this.#stopping.abort();
    this.#link?.close(reason);
  }

  async #run(): Promise<End> {
    try {
      const transport = await this.#open();
      const link = await this.#add(transport);
      this.#link = link;
      if (this.#stopped !== undefined) link.close(this.#stopped);
      void this.#rise(transport, link);
      const linkEnd = await link.ended;
      this.#over = true;
      const end = await transport.explain(linkEnd, this.#isUp);
      return this.#stopped === undefined ? end : { kind: "stopped", text: this.#stopped };
    } catch (error) {
      if (this.#stopped !== undefined) return { kind: "stopped", text: this.#stopped };
      return endOf(error);
    }
  }

  async #open(): Promise<TunnelTransport> {
    const { options } = this;
    const { command } = options;
    if (command === undefined) return openOriginalTransport(options, options.silence);
    return await openTransport({ ...options, command }, this.#stopping.signal);
  }

  /** The link owns the descriptors of stream and TAP, also when there can be no link. */
  async #add(transport: TunnelTransport): Promise<Link> {
    const { pumps, silence, mtu, command, rekeyLimit } = this.options;
    const framing = command === undefined ? "original" : "messages";
    const { stream, ssh } = transport;
    try {
      const { fd, offload } = tapOf(framing, stream);
      return pumps.add({
        ...{ tap: fd, offload, stream, framing, silence, rekeyLimit },
        ...(ssh === undefined ? {} : { ssh }),
        mtu: FRAMINGS[framing].mtu ?? mtu,
      });
    } catch (error) {
      await transport.explain(endOf(error), false);
      throw error;
    }
  }

  async #rise(transport: TunnelTransport, link: Link): Promise<void> {
    try {
      await transport.entered;
      await this.options.bridge;
      await joinBridge(VPN_TAP);
      const mtu = await link.up;
      await setMtu(mtu);
      this.#isUp = true;
      this.#up.resolve(mtu);
    } catch (error) {
      // Of a tunnel that has ended meanwhile the TAP is gone, too, which is no news.
      if (!this.#over) this.#stop(messageOf(error));
    }
  }
}

/** The TAP. When there can be none the stream is closed, as the link would do. */
function tapOf(framing: FramingName, stream: number): { fd: number; offload?: number | undefined } {
  try {
    return (FRAMINGS[framing].messages ? openOffloadTap : openTap)(VPN_TAP);
  } catch (error) {
    closeSync(stream);
    throw error;
  }
}
