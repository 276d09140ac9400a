/** The node's serial console: its last output is kept, any number of watchers see it, and who types reaches the guest. */

/** Bytes that are kept for who comes later. */
export const CONSOLE_KEPT = 65_536;

/** Called with each piece of output. The bytes are the guest's (not safe for a terminal), and valid only during the call. */
export type Watch = (bytes: Uint8Array) => void;

/** It outlives the virtual machines: who watches also sees how the node ends and starts again. */
export class SerialConsole {
  /** A ring: the newest byte is before `#end`, the oldest at it once the ring is full. */
  readonly #ring = new Uint8Array(CONSOLE_KEPT);
  #end = 0;
  #full = false;
  readonly #watchers = new Set<Watch>();
  #guest: ((bytes: Uint8Array) => void) | undefined;

  /** The guest said something. */
  said(bytes: Uint8Array): void {
    this.#keep(bytes);
    for (const watcher of this.#watchers) watcher(bytes);
  }

  /** A line of our own among the guest's output. */
  note(text: string): void {
    this.said(new TextEncoder().encode(`\r\n[walt: ${text}]\r\n`));
  }

  /** The end of what was said, oldest first, at most CONSOLE_KEPT bytes. */
  kept(): Uint8Array {
    if (!this.#full) return this.#ring.slice(0, this.#end);
    return Buffer.concat([this.#ring.subarray(this.#end), this.#ring.subarray(0, this.#end)]);
  }

  /** See what is said from now on. @returns what ends it. */
  watch(watcher: Watch): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Somebody types; lost while no virtual machine runs. */
  type(bytes: Uint8Array): void {
    this.#guest?.(bytes);
  }

  /** From now on a virtual machine takes what is typed. @returns what ends it. */
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
