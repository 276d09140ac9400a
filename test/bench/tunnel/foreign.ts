/** Somebody else behind the same wire, who sends or receives as much as goes by one TCP connection. */

import type { Host } from "../../lab/host.ts";
import type { World } from "../../lab/world.ts";
import { flood } from "./measure.ts";
import { FAR, type Wire } from "./wire.ts";

const PORT = 19_999;
/** Longer than any measurement, s. */
const FOR = 3600;

export class Foreign {
  private constructor(
    /** Behind the wire, and in front of it. */
    readonly hosts: { readonly neighbour: Host; readonly outside: Host },
    readonly way: "up" | "down",
    readonly address: string,
  ) {}

  /** @param number of its address behind the wire. */
  static async move(world: World, wire: Wire, way: "up" | "down", number: number): Promise<Foreign> {
    const neighbour = await world.lab.host("neighbour", { networks: [FAR] });
    await wire.admit(neighbour, number);
    const outside = await world.lab.host("outside");
    const address = way === "up" ? outside.address() : wire.address(number);
    return new Foreign({ neighbour, outside }, way, address);
  }

  /** Send while `body` runs. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    const { neighbour, outside } = this.hosts;
    const [from, to] = this.way === "up" ? [neighbour, outside] : [outside, neighbour];
    const sink = to.spawn(flood("sink", PORT));
    await sink.waitFor(/listening/);
    const source = from.spawn(flood("source", this.address, PORT, FOR));
    await Bun.sleep(2000); // past the flow's own beginning
    try {
      return await body();
    } finally {
      await source.stop("SIGKILL");
      await sink.stop("SIGKILL");
    }
  }
}
