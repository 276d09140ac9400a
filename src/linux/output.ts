/** The output of a program, read with bounds: how much of it is kept, and how fast it may go on without end. */

/** A program's standard output or standard error. */
type Stream = ReadableStream<Uint8Array>;

/** Bytes that are read of a program before the next pause, and the pause, ms: 1.3 MB a second together. */
const AT_ONCE = 65_536;
const PAUSE = 50;

/**
 * Read a program that runs for long. One that prints without end is held up, as its pipe stays full: it costs
 * neither memory nor all of a processor. The stream must be that of a program started with `lazy`.
 */
export async function* paced(stream: Stream): AsyncGenerator<Uint8Array> {
  let read = 0;
  for await (const chunk of stream) {
    yield chunk;
    read += chunk.length;
    if (read < AT_ONCE) continue;
    read = 0;
    await Bun.sleep(PAUSE);
  }
}

/** Milliseconds without a byte after which the rest of an output is not waited for. */
const PIPE_LONGEST = 500;

/** The whole output of a program that is run to its end. */
export class WholeOutput {
  readonly #reader: ReturnType<typeof readerOf>;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  #isOver = false;
  readonly #ended: Promise<void>;

  /**
   * @param most bytes that it may have.
   * @param tooLong called once it is longer. What comes after that is not read.
   */
  constructor(
    stream: Stream,
    readonly most: number,
    tooLong: () => void,
  ) {
    this.#reader = readerOf(stream);
    this.#ended = this.#read(tooLong)
      .catch(() => {}) // the program has ended, which its owner sees
      .finally(() => {
        this.#isOver = true;
      });
  }

  /**
   * The output as text, at most the first `most` bytes of it. To be called when the program has ended: a program
   * that it has started may keep the pipe open, and is not waited for.
   */
  async text(): Promise<string> {
    for (let before = -1; !this.#isOver && before !== this.#length; ) {
      before = this.#length;
      await Promise.race([this.#ended, Bun.sleep(PIPE_LONGEST)]);
    }
    this.#reader.cancel().catch(() => {});
    return Buffer.concat(this.#chunks).toString("utf8", 0, this.most);
  }

  async #read(tooLong: () => void): Promise<void> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done || value === undefined) return;
      this.#chunks.push(value);
      this.#length += value.length;
      if (this.#length > this.most) return tooLong();
    }
  }
}

function readerOf(stream: Stream): {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
} {
  return stream.getReader();
}
