/**
 * The number of the last certificate, kept beside the keys. By it the daemon notices a registry that is older
 * than the keys, or empty: it does not know boards that have certificates of these keys.
 */

import { dirname, join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../linux/files.ts";
import type { Log } from "../log.ts";
import { newestWhole } from "./registry-copies.ts";

/** ms between two writes: after a crash the mark may be behind, which does no harm. */
const DELAY = 1000;

const fileOf = (state: string): string => join(state, "keys", "serial");

/**
 * @param registry path of its file.
 * @param last number of the last certificate that the registry knows; 0 if there was none.
 * @param text of the mark's file.
 * @throws WaltError when the keys have signed later ones.
 */
export function refuseOlder(
  registry: string,
  last: bigint,
  text = readTextIfAny(fileOf(dirname(registry)), 100),
): void {
  const state = dirname(registry);
  const mark = /^\d{1,18}$/.test(text?.trim() ?? "") ? BigInt(text?.trim() ?? 0) : 0n;
  if (last >= mark) return;
  const what = last === 0n ? "it is new and empty" : `it knows certificates up to number ${last}`;
  const copy = newestWhole(state);
  const from =
    copy === undefined
      ? "walt server restore BACKUP"
      : `walt server restore (the copy of ${copy.taken.toISOString()} with ${copy.devices} devices), or walt server restore BACKUP`;
  throw new WaltError(
    `the registry ${registry} is older than the keys beside it: ${what}, and the keys have signed number ${mark}. Boards that came in meanwhile would be refused`,
    {
      hint: `To put the right one back: systemctl stop walt-vpn; ${from}; systemctl start walt-vpn. To go on with this one, and accept those boards again as they ask: rm ${fileOf(state)}`,
    },
  );
}

export class SerialMark {
  #timer: Timer | undefined;
  #written: bigint | undefined;

  /** @param last number of the last certificate that the registry knows. */
  constructor(
    readonly state: string,
    readonly last: () => bigint,
    readonly log: Log,
  ) {
    this.#write();
    this.#timer = setInterval(() => this.#write(), DELAY);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#write();
  }

  #write(): void {
    try {
      const last = this.last();
      if (last === this.#written) return;
      writeFileAtomic(fileOf(this.state), `${last}\n`, { mode: 0o600 });
      this.#written = last;
    } catch (error) {
      this.log.debug("the mark is not written", { event: "detail", reason: messageOf(error) });
    }
  }
}
