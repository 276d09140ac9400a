/** The device's end of a tunnel: its TAP, the transport to the server, and the link that joins both. */

import { closeSync } from "node:fs";
import { Answerer, type OrderHandler } from "../../control/answerer.ts";
import type { End } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import { openOffloadTap, openTap } from "../../linux/tap.ts";
import type { Log } from "../../log.ts";
import type { KeyPair } from "../../ssh/keys/ed25519.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import { FRAMINGS, type FramingName } from "../../tunnel/framing.ts";
import type { Link, PumpThread } from "../../tunnel/pump-thread.ts";
import { endOf } from "../route/route-failure.ts";
import type { ServerCommandOptions } from "../route/server-command.ts";
import { openOriginalTransport, openTransport, type TunnelTransport } from "../route/tunnel-transport.ts";
import { joinBridge, setMtu, VPN_TAP } from "./bridge.ts";
import { keepLanes, type LaneTransport } from "./lanes.ts";

/** How to open a tunnel. Without a command, its framing is `original`. */
export interface TunnelOptions extends ServerCommandOptions {
  /** The device key. */
  readonly key: KeyPair;
  /** The thread that moves the frames. */
  readonly pumps: PumpThread;
  /** Resolves when the bridge is there. */
  readonly bridge: Promise<void>;
  /** Milliseconds of silence after which the server is taken for dead. */
  readonly silence: number;
  /** Largest MTU that the node may get, in bytes. */
  readonly mtu: number;
  /** MiB after which the connection gets new keys. */
  readonly rekeyLimit: number;
  /** How many lanes it shall have; see `LanesOptions`. */
  readonly lanes: number | "auto";
  /** Open a transport for a further lane of the tunnel with this name; see `LanesOptions`. */
  openLane(tunnel: string, signal: AbortSignal): Promise<LaneTransport>;
  /** Carries out the server's orders. */
  readonly orders: OrderHandler;
  /** The log of those orders. */
  readonly log: Log;
}

/** A tunnel, from the attempt to open it to its end. */
export class Tunnel {
  readonly #stopping = new AbortController();
  /** Ends the further lanes. */
  readonly #lanesOver = new AbortController();
  readonly #up = Promise.withResolvers<number>();
  #link: Link | undefined;
  #stopped: string | undefined;
  #isUp = false;
  #over = false;
  /** Resolves when all further lanes have ended. */
  #lanes = Promise.resolve();
  /**
   * Resolves to the MTU in bytes that device and server agreed on, when frames flow: the server has greeted,
   * and the TAP is in the bridge. It never rejects, and stays pending when the tunnel ends before that.
   */
  readonly up = this.#up.promise;
  /**
   * Resolves to the reason when the tunnel has ended, and its TAP and connection are gone. It never rejects.
   */
  readonly ended: Promise<End>;

  constructor(readonly options: TunnelOptions) {
    this.ended = this.#run();
  }

  /** Counters and round trip time; undefined until there is a link. */
  get stats(): LinkStats | undefined {
    return this.#link?.stats();
  }

  /** End the tunnel. Resolves when its connection and TAP are gone. @param reason in words, for the log. */
  stop(reason: string): Promise<End> {
    this.#stopped ??= reason;
    this.#stopping.abort();
    this.#lanesOver.abort();
    this.#link?.stop(reason);
    return this.ended;
  }

  async #run(): Promise<End> {
    try {
      const transport = await this.#open();
      const link = await this.#add(transport);
      this.#link = link;
      if (this.#stopped !== undefined) link.stop(this.#stopped);
      void this.#bringUp(transport, link);
      const linkEnd = await link.ended;
      this.#over = true;
      this.#lanesOver.abort();
      await this.#lanes;
      const end = await transport.explain(linkEnd, this.#isUp, this.#stopping.signal);
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

  /**
   * Make the link. It then owns the file descriptors of stream and TAP, and closes them also when it cannot
   * be made.
   */
  async #add(transport: TunnelTransport): Promise<Link> {
    const { pumps, silence, mtu, command, rekeyLimit, orders, log } = this.options;
    const framing = command === undefined ? "original" : "messages";
    const { stream, ssh } = transport;
    try {
      const { fd, offload } = tapOf(framing, stream);
      return pumps.add({
        ...{ tap: fd, offload, stream, framing, silence, rekeyLimit },
        ...(ssh === undefined ? {} : { ssh, channels: (out) => new Answerer(out, orders, log) }),
        mtu: FRAMINGS[framing].mtu ?? mtu,
      });
    } catch (error) {
      await transport.explain(endOf(error), false, this.#stopping.signal);
      throw error;
    }
  }

  /** Wait until the server has greeted, put the TAP into the bridge, and set the MTU. */
  async #bringUp(transport: TunnelTransport, link: Link): Promise<void> {
    try {
      await transport.entered;
      await this.options.bridge;
      await joinBridge(VPN_TAP);
      const mtu = await link.up;
      await setMtu(mtu);
      this.#isUp = true;
      this.#up.resolve(mtu);
      this.#keepLanes(transport, link);
    } catch (error) {
      // After the end of the tunnel its TAP is gone, so that these steps fail, and the failure is not a
      // reason of the end.
      if (!this.#over) void this.stop(messageOf(error));
    }
  }

  #keepLanes({ name }: TunnelTransport, link: Link): void {
    if (name === undefined || this.#over || this.#stopped !== undefined) return;
    const { lanes: wanted, openLane, rekeyLimit, log } = this.options;
    const open = (signal: AbortSignal): Promise<LaneTransport> => openLane(name, signal);
    this.#lanes = keepLanes({ wanted, link, rekeyLimit, log, open }, this.#lanesOver.signal);
  }
}

/**
 * Make the tunnel's TAP. When that fails, the stream is closed, as the link would do.
 * @throws WaltError with the reason.
 */
function tapOf(framing: FramingName, stream: number): { fd: number; offload?: number | undefined } {
  try {
    return (FRAMINGS[framing].messages ? openOffloadTap : openTap)(VPN_TAP);
  } catch (error) {
    closeSync(stream);
    throw error;
  }
}
