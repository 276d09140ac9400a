/**
 * Two boards with one key, as a card that was copied makes them: each ends the tunnel of the other, without end.
 * They are told apart by what each says of itself in its reports. One of them keeps the tunnel: the board that was
 * registered if it is among them, else the one that had it first. The other has to wait.
 */

import type { Device } from "./registry.ts";

/** ms in which a board has to come back that another one has displaced; and for which two boards are remembered. */
const WINDOW = 600_000;
/**
 * Changes from one board to another in that time that mean two boards. One change may be a card that was moved. A
 * board with two network cards has two MAC addresses, so that these alone must change more often.
 */
const CHANGES = 2;
const CHANGES_OF_MAC = 4;
/** Changes that are remembered of a device. */
const REMEMBERED = 8;

/** What a board says of itself. Texts of a report, which are safe and bounded. */
export interface Board {
  readonly mac: string;
  /** Of the board, or made from the system's machine-id, which a copy has as well. */
  readonly serialNumber: string;
}

/** What is known of a device's boards. */
interface Known {
  /** The boards that had the tunnel, each once until another came; the last one is the newest. */
  history: { readonly board: Board; readonly at: number }[];
  /** The board that has the tunnel; undefined until it has said which it is. */
  holder: Board | undefined;
  /** Those that share the key, the first one first; and until when. */
  shared: { readonly boards: readonly [Board, Board]; until: number } | undefined;
}

type Named = Pick<Device, "id" | "boardMac">;

export class SharedKeys {
  /** By the device's id: no more than there are devices in the registry. */
  readonly #known = new Map<number, Known>();

  /** @param now a clock in ms. */
  constructor(readonly now: () => number = () => performance.now()) {}

  /** A tunnel came up: it is not known yet which board has it. */
  cameUp({ id }: Named): void {
    const known = this.#known.get(id);
    if (known !== undefined) known.holder = undefined;
  }

  /**
   * The board that has the tunnel says which it is.
   * @returns whether this shows that two boards share the key, and nothing had shown it lately.
   */
  seen({ id }: Named, board: Board): boolean {
    const known = this.#known.get(id) ?? { history: [], holder: undefined, shared: undefined };
    this.#known.set(id, known);
    known.holder = board;
    const at = this.now();
    const last = known.history.at(-1);
    if (last !== undefined && isSame(last.board, board)) return false;
    known.history = [...known.history, { board, at }].slice(-REMEMBERED);
    const lately = known.history.filter((one) => at - one.at < WINDOW);
    const earlier = lately.slice(0, -1).some((one) => isSame(one.board, board));
    const other = lately.at(-2)?.board;
    if (other === undefined || !earlier) return false;
    const enough = other.serialNumber === board.serialNumber ? CHANGES_OF_MAC : CHANGES;
    if (lately.length - 1 < enough) return false;
    const isNew = this.#shared(known) === undefined;
    known.shared = { boards: [board, other], until: at + WINDOW };
    return isNew;
  }

  /** The MAC addresses of two boards that share the key, the registered one first; undefined if none do. */
  boards({ id, boardMac }: Named): [string, string] | undefined {
    const shared = this.#shared(this.#known.get(id));
    if (shared === undefined) return undefined;
    const [one, two] = shared.boards;
    return two.mac === boardMac ? [two.mac, one.mac] : [one.mac, two.mac];
  }

  /**
   * Whether the tunnel that is up stays, and another connection with this key has to wait. Asked when one comes.
   */
  keeps(device: Named): boolean {
    const known = this.#known.get(device.id);
    const shared = this.#shared(known);
    if (known?.holder === undefined || shared === undefined) return false;
    if (known.holder.mac !== this.boards(device)?.[0]) return false;
    shared.until = this.now() + WINDOW;
    return true;
  }

  #shared(known: Known | undefined): Known["shared"] {
    if (known?.shared !== undefined && known.shared.until <= this.now()) known.shared = undefined;
    return known?.shared;
  }
}

function isSame(one: Board, other: Board): boolean {
  return one.mac === other.mac && one.serialNumber === other.serialNumber;
}

/** What is said of two boards. */
export function sharedText(node: string, [one, two]: readonly [string, string]): string {
  return `${node}: two devices use this key: MAC ${one} and MAC ${two}. ${one} keeps the tunnel, the other waits`;
}

/** What to do about it. */
export function sharedCure(node: string, [, two]: readonly [string, string]): string {
  return `Was the card copied? On the board with MAC ${two}: \`walt device forget\`, so that it asks for access with a key of its own. If that is the right one: walt node board ${node} ${two}`;
}
