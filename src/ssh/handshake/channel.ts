/**
 * One session channel (RFC 4254 section 5), with its windows: at the end that runs a command, or at the one
 * that asked for it. The application reads and writes; the connection gives what came, and takes the messages
 * that are due. It does no I/O. "The client" is the other end here, whichever it is.
 */

import { WaltError } from "../../errors.ts";
import { WireWriter } from "../keys/wire.ts";
import { MESSAGE } from "./message-numbers.ts";

/**
 * Bytes that a client may send on a channel before anything of it was read. Twice the longest line of an
 * enrolment.
 */
export const CHANNEL_WINDOW = 16_384;
/** Bytes that may wait for the client's window before whoever writes has to wait. */
const QUEUE_MAX = 65_536;
/** Bytes of a command's standard error that are kept. */
const STDERR_MAX = 4096;
const U32_MAX = 0xffff_ffff;
/** SSH_EXTENDED_DATA_STDERR */
const STDERR = 1;
const NOTHING: Buffer = Buffer.alloc(0);

export class Channel {
  /** Resolves when the client has closed the channel, or its connection is over. Never rejects. */
  readonly ended: Promise<void>;
  /** It was given a command; it gets no other one. */
  begun = false;
  readonly #close = Promise.withResolvers<void>();
  /** Bytes that the client may still send, and we. */
  #ourWindow = CHANNEL_WINDOW;
  #theirWindow: number;
  /** What came and was not read: from `#from` to `#to`. */
  #input = NOTHING;
  #from = 0;
  #to = 0;
  /** Bytes that were read since the client was last told of room. */
  #consumed = 0;
  /** What comes is wanted: a command runs, and has not said otherwise. */
  #wanted = false;
  /** What waits to be sent: bytes of standard output or error. */
  readonly #queue: { error: boolean; bytes: Uint8Array }[] = [];
  #queued = 0;
  /** To be said once all of it has left, and what of it is still to be said before the close. */
  #status: number | undefined;
  #farewell: Buffer[] | undefined;
  /** The client has closed the channel: it may say nothing more on it. We have: nothing more is said. */
  theirsClosed = false;
  oursClosed = false;
  /** The client sends no more data. */
  #eof = false;
  /** We asked for the command: its input has ended, which is still to be said; or we leave. */
  #inputEnded = false;
  #inputEnds = false;
  #leaves = false;
  /** What the command's end was, once it is told: undefined when a signal or a lost connection ended it. */
  exitStatus: number | undefined;
  /** The first bytes of its standard error. */
  stderr = NOTHING;
  /** Who waits for a line or for bytes, and who for the queue to get shorter. */
  #reader: { max: number | undefined; done: PromiseWithResolvers<Buffer | undefined> } | undefined;
  #writers: (() => void)[] = [];

  /**
   * @param ours the channel's number here, `theirs` at the client.
   * @param theirPacket bytes of data that the client takes in one packet.
   * @param wake called when there may be messages to send.
   * @param asks we asked for the command: what came can be read also after its end.
   */
  constructor(
    readonly ours: number,
    readonly theirs: number,
    theirWindow: number,
    readonly theirPacket: number,
    readonly wake: () => void,
    readonly asks = false,
  ) {
    this.#theirWindow = theirWindow;
    this.ended = this.#close.promise;
  }

  /**
   * The next line, without its newline; undefined when the client's data, or the channel, ended without one.
   * One call at a time.
   * @throws WaltError when it has more than `max` bytes, which must be less than CHANNEL_WINDOW.
   */
  async readLine(max: number): Promise<string | undefined> {
    return (await this.#next(max))?.toString("utf8");
  }

  /**
   * The next bytes, as many as came; undefined when the client's data, or the channel, ended. One call at a
   * time.
   */
  read(): Promise<Buffer | undefined> {
    return this.#next(undefined);
  }

  #next(max: number | undefined): Promise<Buffer | undefined> {
    const done = Promise.withResolvers<Buffer | undefined>();
    this.#reader = { max, done };
    this.#serveReader();
    return done.promise;
  }

  /** Nothing more is read: what comes is thrown away, and the client gets no more room for it. */
  discard(): void {
    this.#wanted = false;
    this.#input = NOTHING;
    this.#from = this.#to = 0;
  }

  /**
   * Write to the client's standard output, or its standard error.
   * @returns a promise that resolves when little enough waits, or nobody reads it any more: who writes much
   * waits for it.
   * @throws RangeError when far too much waits.
   */
  write(text: string | Uint8Array, error = false): Promise<void> {
    const bytes = Buffer.from(text);
    if (this.#status !== undefined || this.#isOver || this.#leaves || this.#inputEnded || bytes.length === 0)
      return Promise.resolve();
    if (this.#queued + bytes.length > 2 * QUEUE_MAX) throw new RangeError("a channel's writer does not wait");
    this.#queue.push({ error, bytes });
    this.#queued += bytes.length;
    this.wake();
    if (this.#queued <= QUEUE_MAX) return Promise.resolve();
    return new Promise((resolve) => this.#writers.push(resolve));
  }

  /**
   * Send the exit status and close, once all that was written has left. Again: does nothing.
   * @param error is said on standard error before.
   */
  exit(status: number, error?: string): void {
    if (error !== undefined) void this.write(`walt: ${error}\r\n`, true);
    this.#status ??= status;
    this.discard();
    this.wake();
  }

  /**
   * Send that no more input comes, once all that was written has left: the other end's command may end. What is
   * written later is dropped.
   */
  endInput(): void {
    if (this.#inputEnded) return;
    this.#inputEnded = this.#inputEnds = true;
    this.wake();
  }

  /** Close without an exit status: the end that asked wants nothing more, and reads no more. Again: does nothing. */
  close(): void {
    this.#leaves = true;
    this.discard();
    this.#wakeWriters();
    this.#serveReader();
    this.wake();
  }

  // What follows is the connection's side.

  /** A command runs: what comes from now on is kept until it is read. */
  begin(): void {
    this.begun = this.#wanted = true;
  }

  /** @param input it is for whoever reads, not standard error. @throws Error when it may not be sent. */
  receive(data: Uint8Array, input = true): void {
    if (data.length > this.#ourWindow) throw new Error("it sends more than its window");
    if (this.#eof) throw new Error("data after its end");
    this.#ourWindow -= data.length;
    if (!input) {
      // Nobody reads it of an end that asked; it counts all the same, and there is no more room for it.
      if (!this.asks) return;
      this.#consumed += data.length;
      if (this.stderr.length < STDERR_MAX)
        this.stderr = Buffer.concat([this.stderr, data.subarray(0, STDERR_MAX - this.stderr.length)]);
      this.wake();
      return;
    }
    if (!this.#wanted || data.length === 0) return;
    this.#reserve(data.length);
    this.#input.set(data, this.#to);
    this.#to += data.length;
    this.#serveReader();
  }

  receiveEof(): void {
    this.#eof = true;
    this.#serveReader();
  }

  receiveClose(): void {
    this.theirsClosed = true;
    this.#end();
  }

  /** The connection is over. */
  stop(): void {
    this.theirsClosed = this.oursClosed = true;
    this.#end();
  }

  /** The client takes so many bytes more. Never above what RFC 4254 section 5.2 allows. */
  adjust(bytes: number): void {
    this.#theirWindow = Math.min(U32_MAX, this.#theirWindow + bytes);
  }

  /** Both sides have closed it: its number is free. */
  get isClosed(): boolean {
    return this.theirsClosed && this.oursClosed;
  }

  /** It can still become a tunnel: nobody has ended anything, and nothing waits. */
  get isOpen(): boolean {
    return !this.#eof && !this.#isOver && this.#status === undefined && this.#queued === 0;
  }

  get windows(): { ourWindow: number; theirWindow: number } {
    return { ourWindow: this.#ourWindow, theirWindow: this.#theirWindow };
  }

  /** Give the client a window of so many bytes: a message that says so, if it is more than it has. */
  widen(window: number): Buffer | undefined {
    const more = window - this.#ourWindow;
    if (more <= 0) return undefined;
    this.#ourWindow = window;
    return new WireWriter().u8(MESSAGE.windowAdjust).u32(this.theirs).u32(more).bytes();
  }

  /** The next message that is due; undefined when there is none for now. */
  produce(): Buffer | undefined {
    if (this.oursClosed) return undefined;
    if (this.theirsClosed) return this.#sayClose();
    if (this.#wanted && !this.#eof && this.#consumed >= CHANNEL_WINDOW / 2) {
      this.#consumed = 0;
      const room = this.widen(CHANNEL_WINDOW - (this.#to - this.#from));
      if (room !== undefined) return room;
    }
    const data = this.#sayData();
    if (data !== undefined) return data;
    if (this.#leaves) return this.#sayClose();
    if (this.#queued > 0) return undefined;
    if (this.#inputEnds) {
      this.#inputEnds = false;
      return new WireWriter().u8(MESSAGE.eof).u32(this.theirs).bytes();
    }
    if (this.#status === undefined) return undefined;
    this.#farewell ??= [
      exitStatus(this.theirs, this.#status),
      new WireWriter().u8(MESSAGE.eof).u32(this.theirs).bytes(),
    ];
    return this.#farewell.shift() ?? this.#sayClose();
  }

  #sayClose(): Buffer {
    this.oursClosed = true;
    return new WireWriter().u8(MESSAGE.close).u32(this.theirs).bytes();
  }

  #sayData(): Buffer | undefined {
    const [first] = this.#queue;
    const n = Math.min(first?.bytes.length ?? 0, this.#theirWindow, this.theirPacket);
    if (first === undefined || n === 0) return undefined;
    const part = first.bytes.subarray(0, n);
    if (n === first.bytes.length) this.#queue.shift();
    else first.bytes = first.bytes.subarray(n);
    this.#queued -= n;
    this.#theirWindow -= n;
    if (this.#queued <= QUEUE_MAX) this.#wakeWriters();
    const message = new WireWriter().u8(first.error ? MESSAGE.extendedData : MESSAGE.data).u32(this.theirs);
    if (first.error) message.u32(STDERR);
    return message.string(part).bytes();
  }

  get #isOver(): boolean {
    return this.theirsClosed || this.oursClosed;
  }

  #end(): void {
    if (!this.asks) this.discard();
    this.#queue.length = 0;
    this.#queued = 0;
    this.#wakeWriters();
    this.#serveReader();
    this.#close.resolve();
  }

  #wakeWriters(): void {
    for (const wake of this.#writers.splice(0)) wake();
  }

  #serveReader(): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    const input = this.#input.subarray(this.#from, this.#to);
    const { max } = reader;
    const end = max === undefined ? input.length - 1 : input.indexOf(10);
    if (max !== undefined && (end > max || (end < 0 && input.length > max))) {
      this.#reader = undefined;
      this.discard();
      reader.done.reject(new WaltError(`a line is longer than ${max} bytes`));
    } else if (end >= 0) {
      this.#reader = undefined;
      this.#from += end + 1;
      this.#consumed += end + 1;
      reader.done.resolve(Buffer.from(max === undefined ? input : input.subarray(0, end)));
      this.wake();
    } else if (this.#eof || this.#isOver || !this.#wanted) {
      this.#reader = undefined;
      reader.done.resolve(undefined);
    }
  }

  /** Room for so many bytes behind what was not read. */
  #reserve(bytes: number): void {
    const length = this.#to - this.#from;
    if (this.#to + bytes <= this.#input.length) return;
    const input = Buffer.allocUnsafeSlow(Math.min(CHANNEL_WINDOW, Math.max(2 * length, length + bytes)));
    this.#input.copy(input, 0, this.#from, this.#to);
    this.#input = input;
    this.#from = 0;
    this.#to = length;
  }
}

/**
 * The message that tells a command's exit status (RFC 4254 section 6.10).
 * @param channel its number at the client.
 */
export function exitStatus(channel: number, status: number): Buffer {
  const message = new WireWriter().u8(MESSAGE.channelRequest).u32(channel);
  return message.string("exit-status").u8(0).u32(status).bytes();
}
