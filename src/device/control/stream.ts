/** What an order on the control channel reads and writes, whatever carries it. */

/** An SSH channel; a connection of a UNIX socket; in tests a pair of pipes. */
export interface OrderStream {
  /** Bytes from the asker, in order. It ends when the asker has sent its last. */
  readonly input: AsyncIterable<Uint8Array>;
  /** Resolves when the bytes have been taken by the channel's window. Rejects when the asker is gone. */
  write(bytes: Uint8Array): Promise<void>;
  /** Aborted when the channel is gone. */
  readonly gone: AbortSignal;
}
