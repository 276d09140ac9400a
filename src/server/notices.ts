/**
 * What an operator should know although he does not look: a request waits, a node is down for a while or up
 * again, a certificate was refused, a disk is nearly full. Each is told once.
 */

import { statfsSync } from "node:fs";
import type { JournalEvent } from "../api/journal.ts";
import type { Notice, NoticeKind } from "../api/notice.ts";
import { duration, size } from "../text.ts";
import type { Presence } from "./presence.ts";
import type { Device } from "./registry.ts";

/** ms between two looks at nodes and disks. */
const LOOK = 5000;
/** A disk is nearly full with less of its bytes free than this share, and less than so many; and has enough again. */
const LOW = { share: 0.1, bytes: 1 << 30 };
const ENOUGH = { share: 0.15, bytes: 1.5 * (1 << 30) };

/** Bytes of a file system; null where it is not known. */
export interface DiskSpace {
  readonly size: number | null;
  readonly free: number | null;
}

/** Of the file system with this folder, as far as an unprivileged user may use it. */
export function diskSpace(folder: string): DiskSpace {
  try {
    const { bsize, blocks, bavail } = statfsSync(folder);
    return { size: blocks * bsize, free: bavail * bsize };
  } catch {
    return { size: null, free: null };
  }
}

type Node = Pick<Device, "id" | "node">;

export interface NoticesOptions {
  /** The devices that are not revoked. */
  nodes(): readonly Node[];
  isUp(node: Node): boolean;
  readonly presence: Pick<Presence, "of">;
  /** What a board last told of its disk. */
  diskOf(node: Node): DiskSpace | undefined;
  serverDisk(): DiskSpace;
  /** ms for which a node must be down. */
  readonly down: number;
  tell(notice: Notice): void;
  /** A clock, ms since 1970. */
  now?(): number;
}

export class Notices {
  /** Nodes that are known to be down for so long, by their devices' ids. */
  readonly #down = new Set<number>();
  /** Whose disk is nearly full: a device's id, or 0 for the server. */
  readonly #low = new Set<number>();
  readonly #started: number;
  readonly #timer: Timer;

  constructor(readonly o: NoticesOptions) {
    this.#started = this.#now();
    this.#timer = setInterval(() => this.look(), LOOK);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** An event of the journal. */
  event({ kind, node, details }: JournalEvent): void {
    if (kind === "enrolment-requested")
      this.#tell("request-waits", null, `a device asks for access: ${details["code"]}, ${details["model"]}`);
    if (kind === "certificate-refused")
      this.#tell(
        "certificate-refused",
        node,
        `a proxy refused the certificate of ${node}: ${details["reason"]}`,
      );
  }

  /** Look at nodes and disks. Called every 5 s. */
  look(): void {
    const nodes = this.o.nodes();
    for (const node of nodes) {
      this.#lookAt(node);
      const disk = this.o.isUp(node) ? this.o.diskOf(node) : undefined;
      if (disk !== undefined) this.#lookAtDisk(node.id, `the board of ${node.node}`, node.node, disk);
    }
    this.#lookAtDisk(0, "the server", null, this.o.serverDisk());
    const ids = new Set([0, ...nodes.map(({ id }) => id)]);
    for (const set of [this.#down, this.#low]) for (const id of set) if (!ids.has(id)) set.delete(id);
  }

  #lookAt(node: Node): void {
    const { down, presence } = this.o;
    if (this.o.isUp(node)) {
      if (this.#down.delete(node.id)) this.#tell("node-up", node.node, `${node.node} is up again`);
      return;
    }
    const seen = presence.of(node);
    if (seen === undefined || this.#down.has(node.id)) return;
    const now = this.#now();
    const since = Date.parse(seen.endedAt ?? seen.seenAt);
    // One that ended with the server has had no chance to come back before the server's start.
    const byServer = seen.endedAt === null || seen.end === "stopped";
    const told = !byServer && since + down < this.#started; // by the run before
    const due = byServer ? Math.max(since, this.#started) + down : since + down;
    if (now < due) return;
    this.#down.add(node.id);
    if (told) return;
    const why = seen.reason === null ? "the server was away" : seen.reason;
    this.#tell("node-down", node.node, `${node.node} is down for ${duration(now - since)}: ${why}`);
  }

  #lookAtDisk(id: number, whose: string, node: string | null, { size: all, free }: DiskSpace): void {
    if (all === null || free === null || all === 0) return;
    const has = (least: typeof LOW): boolean => free >= Math.min(least.share * all, least.bytes);
    const left = `${size(free)} of ${size(all)} are free`;
    if (!has(LOW) && !this.#low.has(id)) {
      this.#low.add(id);
      this.#tell("disk-low", node, `the disk of ${whose} is nearly full: ${left}`);
    } else if (has(ENOUGH) && this.#low.delete(id)) {
      this.#tell("disk-enough", node, `the disk of ${whose} has room again: ${left}`);
    }
  }

  #tell(event: NoticeKind, node: string | null, text: string): void {
    this.o.tell({ event, at: new Date(this.#now()).toISOString(), node, text });
  }

  #now(): number {
    return (this.o.now ?? Date.now)();
  }
}
