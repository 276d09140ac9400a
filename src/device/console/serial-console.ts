/**
 * The node's serial console: it keeps the last output, and connects the virtual machine with those who are
 * attached: any number of watchers, and one writer, who also types.
 */

import { randomBytes } from "node:crypto";
import type { OrderStream } from "../../control/order-stream.ts";
import type { PieceStream, Place } from "../../control/pieces.ts";
import { WaltError } from "../../errors.ts";
import { Change } from "../../linux/change.ts";
import { plainText } from "../../text.ts";
import { ByteRing } from "./byte-ring.ts";

/**
 * Bytes of output that are kept, so that whoever attaches sees what happened before. A watcher who is slower
 * than the node by more than this misses some of it.
 */
export const CONSOLE_KEPT = 65_536;
/** Those who may be attached at the same time. */
export const ATTACHED = 16;
/** Bytes that are sent to one of them at a time. */
const PIECE = 8192;

/**
 * What somebody wants: to look only; to type as well; to type in place of the present writer; or to type, and
 * to look only when there is a writer.
 */
export const ATTACH_MODES = ["watch", "write", "take", "resume"] as const;
export type AttachMode = (typeof ATTACH_MODES)[number];

/** Somebody who wants to be attached. */
export interface AttachOptions {
  readonly mode: AttachMode;
  /** The operator's name, which the others may be told. */
  readonly name: string;
  /** Only the output behind this place, as far as it is kept; all that is kept unless given. */
  readonly after?: Place | undefined;
  /** Called once, when attached and before anything is shown. */
  admitted?(): void;
}

/** How one who is attached sees the console, and types. The first piece is empty: he is attached. */
export type Viewer = PieceStream & Pick<OrderStream, "input">;

/** Somebody who is attached. */
interface Attached {
  readonly name: string;
  /** Lines for him alone that were not sent yet. There are two different ones, and each comes once. */
  readonly notes: string[];
}

/** The console. It exists longer than a virtual machine: those who are attached see one end and the next start. */
export class SerialConsole {
  readonly #ring = new ByteRing(CONSOLE_KEPT);
  /** Tells this ring from those of other runs. */
  readonly #id = randomBytes(8).toString("hex");
  readonly #change = new Change();
  readonly #attached = new Set<Attached>();
  #writer: Attached | undefined;
  #guest: ((bytes: Uint8Array) => void) | undefined;

  /** @param heard called with each piece of output, whose bytes are valid during the call only. */
  constructor(readonly heard: (bytes: Uint8Array) => void = () => {}) {}

  /**
   * Take output. The bytes are those of the guest, which are not safe for a terminal. The caller may use its
   * buffer again afterwards.
   */
  output(bytes: Uint8Array): void {
    this.#ring.write(bytes);
    this.heard(bytes);
    this.#change.tell();
  }

  /** Put a line of walt's own into the output. */
  note(text: string): void {
    this.output(noteLine(text));
  }

  /** Send typed bytes to this virtual machine from now on. @returns a function that ends this. */
  connect(guest: (bytes: Uint8Array) => void): () => void {
    this.#guest = guest;
    return () => {
      if (this.#guest === guest) this.#guest = undefined;
    };
  }

  /**
   * Attach somebody: he is sent the output that is kept, and then all new output. What he sends is typed on
   * the console if he is the writer. Resolves when he is gone.
   * @throws WaltError before anything is written when somebody else writes, or too many are attached.
   */
  async attach({ mode, name, after, admitted }: AttachOptions, viewer: Viewer): Promise<void> {
    const one: Attached = { name: plainText(name), notes: [] };
    this.#admit(one, mode);
    void this.#type(one, viewer.input);
    try {
      admitted?.();
      await this.#show(one, this.#placeAfter(after), viewer);
    } catch (error) {
      if (!viewer.gone.aborted) throw error;
    } finally {
      this.#attached.delete(one);
      this.#stopWriting(one);
    }
  }

  #admit(one: Attached, mode: AttachMode): void {
    if (this.#attached.size >= ATTACHED) {
      throw new WaltError(`${ATTACHED} others are attached to the console, which is the limit`, {
        hint: "Try again when one of them has left.",
      });
    }
    const writer = this.#writer;
    if (mode === "write" && writer !== undefined) {
      throw new WaltError(`${writer.name} is typing on the console`, {
        hint: "Add --watch to look on without typing, or --take to type instead.",
      });
    }
    this.#attached.add(one);
    if (mode === "resume" && writer !== undefined) {
      one.notes.push(`${writer.name} is typing on the console: you can only watch`);
      return;
    }
    if (mode === "watch") return;
    this.#writer = one;
    if (writer === undefined) return;
    writer.notes.push(`${one.name} has taken the console: you can only watch now`);
    this.#change.tell();
  }

  /** The position where output begins for somebody who has seen all up to a place, which may be of another ring. */
  #placeAfter(after: Place | undefined): number {
    const { start, end } = this.#ring;
    if (after === undefined || after.ring !== this.#id) return start;
    return Math.min(Math.max(after.position, 0), end);
  }

  /** Show everything to one who is attached, as fast as he takes it, until he is gone. */
  async #show(one: Attached, from: number, viewer: Viewer): Promise<void> {
    let position = from;
    const show = (bytes: Uint8Array): Promise<void> =>
      viewer.show({ bytes, place: { ring: this.#id, position }, writes: this.#writer === one });
    await show(new Uint8Array());
    while (!viewer.gone.aborted) {
      const { bytes, next, lost } = this.#ring.read(position, PIECE);
      position += lost;
      if (lost > 0) await show(noteLine(`${lost} bytes left out`));
      position = next;
      if (bytes.length > 0) await show(bytes);
      const note = one.notes.shift();
      if (note !== undefined) await show(noteLine(note));
      else if (bytes.length === 0) await this.#change.next(viewer.gone);
    }
  }

  /** Type what one who is attached sends, while he is the writer. */
  async #type(one: Attached, input: AsyncIterable<Uint8Array>): Promise<void> {
    let told = false;
    try {
      for await (const bytes of input) {
        if (this.#writer === one) this.#guest?.(bytes);
        else if (!told) {
          told = true;
          one.notes.push("what you type is not sent: you can only watch");
          this.#change.tell();
        }
      }
    } catch {
      // The asker is gone, which `gone` tells.
    }
    this.#stopWriting(one); // he may go on watching, and another one may type
  }

  #stopWriting(one: Attached): void {
    if (this.#writer === one) this.#writer = undefined;
  }
}

/** A line of walt's own, as it stands in the output. */
const noteLine = (text: string): Uint8Array => new TextEncoder().encode(`\r\n[walt: ${text}]\r\n`);
