/** A bad wire between devices and the `internet` of a laboratory: a host with a bridge on each side of a shaper. */

import type { Host } from "../../lab/host.ts";
import { INTERNET } from "../../lab/lab.ts";
import type { LabProcess } from "../../lab/process.ts";
import type { World } from "../../lab/world.ts";

/** Devices on this network are behind the wire. */
export const FAR = "far";
const SHAPER = [process.execPath, new URL("./shaper.ts", import.meta.url).pathname];

export class Wire {
  #shaper: LabProcess | undefined;

  private constructor(readonly host: Host) {}

  /** There is no way through it until `shape`. */
  static async lay(world: World): Promise<Wire> {
    const host = await world.lab.host("wire", { networks: [FAR, INTERNET] });
    await host.ip(
      ...["eth0", "eth1"].flatMap((port, i) => [
        `link add b${i} type bridge`,
        `link set ${port} master b${i}`,
        `link set b${i} up`,
      ]),
    );
    return new Wire(host);
  }

  /** Mbit/s (0 = as fast as it goes), ms each way, bytes of queue, per cent of loss. */
  async shape(rate: number, delay: number, queue: number, loss: number): Promise<void> {
    await this.cut();
    const numbers = [rate, delay, queue, loss].map(String);
    this.#shaper = this.host.spawn([...SHAPER, "b0", "b1", ...numbers]);
    await this.#shaper.waitFor(/wire is there/);
  }

  /** Nothing passes any more. */
  async cut(): Promise<void> {
    await this.#shaper?.stop("SIGKILL");
    this.#shaper = undefined;
  }

  /** Give a device behind the wire an address that the others reach. */
  async admit(device: Host, number: number): Promise<void> {
    const near = this.host.address(INTERNET).split(".").slice(0, 3).join(".");
    await device.ip(`address add ${near}.${200 + number}/24 dev eth0`);
  }
}
