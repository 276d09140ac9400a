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

  /** From now on it is as that model says (test/tunnel/send/paths/models.ts). */
  async shape(model: string, seed = 1): Promise<void> {
    await this.cut();
    this.#shaper = this.host.spawn([...SHAPER, "b0", "b1", model, String(seed)]);
    await this.#shaper.waitFor(/wire is there/);
  }

  /** Begin the model's time anew, so that what is compared meets the same changes of the path. */
  restart(): void {
    this.#shaper?.write("again\n");
  }

  /** Nothing passes any more. */
  async cut(): Promise<void> {
    await this.#shaper?.stop("SIGKILL");
    this.#shaper = undefined;
  }

  /** Address of what is behind the wire, for those in front of it. */
  address(number: number): string {
    const near = this.host.address(INTERNET).split(".").slice(0, 3).join(".");
    return `${near}.${200 + number}`;
  }

  /** Give a device behind the wire an address that the others reach. */
  async admit(device: Host, number: number): Promise<void> {
    await device.ip(`address add ${this.address(number)}/24 dev eth0`);
  }
}
