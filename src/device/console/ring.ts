/**
 * The node's serial console: it keeps the last output, and connects the virtual machine with any number of
 * watchers.
 */

/** Bytes of output that are kept, so that a new watcher sees what happened before. */
export const CONSOLE_KEPT = 65_536;

/**
 * Called with each piece of output. The bytes are those of the guest, which are not safe for a terminal, and
 * they are valid during the call only.
 */
export type Watch = (bytes: Uint8Array) => void;

/**
 * The console. It exists longer than a virtual machine, so that watchers also see how the node ends and
 * starts again.
 */
export class SerialConsole {
  /** A ring buffer. The newest byte is before `#end`; once the ring is full, the oldest byte is at `#end`. */
  readonly #ring = new Uint8Array(CONSOLE_KEPT);
  #end = 0;
  #full = false;
  readonly #watchers = new Set<Watch>();
  #guest: ((bytes: Uint8Array) => void) | undefined;

  /** Keep output of the guest, and pass it on to the watchers. */
  output(bytes: Uint8Array): void {
    this.#keep(bytes);
    for (const watcher of this.#watchers) watcher(bytes);
  }

  /** Put a line of walt's own into the output. */
  note(text: string): void {
    this.output(new TextEncoder().encode(`\r\n[walt: ${text}]\r\n`));
  }

  /** The last output, oldest byte first, at most CONSOLE_KEPT bytes. */
  recent(): Uint8Array {
    if (!this.#full) return this.#ring.slice(0, this.#end);
    return Buffer.concat([this.#ring.subarray(this.#end), this.#ring.subarray(0, this.#end)]);
  }

  /** Call `watcher` with all output from now on. @returns a function that ends this. */
  watch(watcher: Watch): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Send typed bytes to the guest. They are lost while no virtual machine runs. */
  type(bytes: Uint8Array): void {
    this.#guest?.(bytes);
  }

  /** Send typed bytes to this virtual machine from now on. @returns a function that ends this. */
  connect(guest: (bytes: Uint8Array) => void): () => void {
    this.#guest = guest;
    return () => {
      if (this.#guest === guest) this.#guest = undefined;
    };
  }

  #keep(bytes: Uint8Array): void {
    const last = bytes.subarray(-CONSOLE_KEPT);
    const room = CONSOLE_KEPT - this.#end;
    this.#ring.set(last.subarray(0, room), this.#end);
    this.#ring.set(last.subarray(room));
    this.#full ||= last.length >= room;
    this.#end = (this.#end + last.length) % CONSOLE_KEPT;
  }
}
