/** What the handler of an order reads and writes. */

/** The asker has left, or its connection is gone. */
export class AskerGone extends Error {}

export interface OrderStream {
  /** Bytes from the asker, in order. It ends when the asker has sent its last, or is gone. */
  readonly input: AsyncIterable<Uint8Array>;
  /**
   * Write to the asker. Resolves when little enough waits: who writes much waits for it.
   * @param bytes at most WRITE_MAX.
   * @throws AskerGone.
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Aborted when the asker is gone. */
  readonly gone: AbortSignal;
}

/** Bytes of one `write`. */
export const WRITE_MAX = 65_536;
