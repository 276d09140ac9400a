/** A limit on how often each device may have something that costs the server much. */

import { WaltError } from "../errors.ts";
import { type Rate, TokenBucket } from "../token-bucket.ts";
import type { Device } from "./registry.ts";

export class DeviceLimit {
  /** By the device's id: no more than there are devices in the registry. */
  readonly #buckets = new Map<number, TokenBucket>();

  /**
   * @param what is limited, for the error: "certificates".
   * @param now a clock in ms.
   */
  constructor(
    readonly what: string,
    readonly rate: Rate,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** Count one more. @throws WaltError when the device has had too many in a short time. */
  take({ id, node }: Pick<Device, "id" | "node">): void {
    const now = this.now();
    const bucket = this.#buckets.get(id) ?? new TokenBucket(this.rate, now);
    this.#buckets.set(id, bucket);
    if (!bucket.take(now)) throw new WaltError(`${node} asks for ${this.what} too often`);
  }
}
