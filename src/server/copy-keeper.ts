/**
 * Keeps copies of the registry: one a day, and one soon after each change that an operator would have to make
 * again. Each copy reads all pages, so that damage is noticed within a day.
 */

import { dirname } from "node:path";
import type { JournalKind } from "../api/journal.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { isDamage, reasonOf } from "../system-error.ts";
import type { Registry } from "./registry.ts";
import { copiesOf, newestWhole, takeCopy } from "./registry-copies.ts";

/** ms between two copies when nothing changes, and after a copy that failed. */
const DAY = 86_400_000;
const AGAIN = 600_000;
/** ms after a change, in which more of them may come; and ms between two copies. */
const SOON = 1000;
const REST = 10_000;

/** After these events there is something to lose. */
const CHANGES: ReadonlySet<string> = new Set<JournalKind>([
  "device-accepted",
  "device-revoked",
  "device-restored",
  "device-removed",
  "node-renamed",
  "node-noted",
  "node-board",
  "invitation-added",
  "invitation-withdrawn",
]);

type Copied = Pick<Registry, "path" | "copyTo" | "check"> & {
  readonly journal: Pick<Registry["journal"], "events" | "follow">;
};

export class CopyKeeper {
  #timer: Timer | undefined;
  /** When the timer fires; of `performance.now()`. */
  #due = Number.POSITIVE_INFINITY;
  #lastTry = Number.NEGATIVE_INFINITY;
  readonly #unfollow: () => void;

  constructor(
    readonly registry: Copied,
    readonly log: Log,
  ) {
    const last = registry.journal.events({ last: 1 })[0]?.id ?? 0;
    this.#unfollow = registry.journal.follow(last, ({ kind }) => {
      if (CHANGES.has(kind)) this.soon();
    });
    const newest = copiesOf(dirname(registry.path))[0];
    const age = newest === undefined ? DAY : Date.now() - newest.taken.getTime();
    this.#in(Math.min(DAY, Math.max(SOON, DAY - age)));
  }

  /** Take a copy within seconds, as when something was seen to be damaged. */
  soon(): void {
    this.#in(Math.max(SOON, this.#lastTry + REST - performance.now()));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#unfollow();
  }

  #in(ms: number): void {
    const due = performance.now() + ms;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#take(), ms);
  }

  #take(): void {
    this.#due = Number.POSITIVE_INFINITY;
    this.#lastTry = performance.now();
    try {
      const found = this.registry.check();
      if (found === "ok") this.#copy();
      else this.#damaged(found);
    } catch (error) {
      if (isDamage(error)) this.#damaged(messageOf(error));
      else this.#failed(error);
    }
  }

  #copy(): void {
    const { registry } = this;
    const { path } = takeCopy(dirname(registry.path), (file) => registry.copyTo(file), new Date());
    this.log.info("the registry was copied", { event: "registry-copied", copy: path });
    this.#in(DAY);
  }

  #failed(error: unknown): void {
    const fields = { event: "registry-copy-failed", reason: reasonOf(error) } as const;
    this.log.error("the registry could not be copied; it is tried again", fields);
    this.#in(AGAIN);
  }

  #damaged(found: string): void {
    this.#in(AGAIN);
    const copy = newestWhole(dirname(this.registry.path));
    const cure =
      copy === undefined
        ? "there is no copy: save the file, and restore a backup (walt server restore FILE)"
        : "to use the copy: systemctl stop walt-vpn; walt server restore; systemctl start walt-vpn";
    this.log.error(`the registry is damaged; tunnels stay up meanwhile; ${cure}`, {
      event: "registry-damaged",
      reason: found,
      copy: copy?.path,
      taken: copy?.taken.toISOString(),
    });
  }
}
