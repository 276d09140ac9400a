/** The main thread's side of the pump thread: links between a TAP and a stream are added to it and told of here. */

export interface LinkOptions {
  /** File descriptor of the TAP; the link owns it and closes it. */
  tap: number;
  /** File descriptor of the byte stream to the peer, a socket; the link owns it and closes it. */
  stream: number;
  /** The TAP's MTU in bytes, told to the peer. */
  mtu: number;
  /** A peer that sends nothing for so many ms is taken for dead. */
  silence: number;
  /**
   * Only on the server: the one source MAC that frames from the stream may have; DHCP-server packets and router
   * advertisements from it are dropped.
   */
  guard?: string;
}

/** Counters since the link began. In = from the stream to the TAP. */
export interface LinkStats {
  framesIn: number;
  framesOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Frames lost for want of room or because the TAP is down. */
  dropped: number;
  /** Frames from the peer that the guard refused. */
  refused: number;
  /** Round trip time in ms, 0 = unknown. */
  rtt: number;
}

export interface Link {
  /** The reason in words. Both file descriptors are closed by then. */
  readonly ended: Promise<string>;
  /** The peer's hello came. Never rejects: stays pending when the link ends first. */
  readonly up: Promise<void>;
  close(reason: string): void;
  stats(): LinkStats;
}

export class Pumps {
  /** Resolves when the thread died; every link has ended then. */
  readonly failed: Promise<Error> = new Promise(() => {});
  static start(): Promise<Pumps> {
    throw new Error("being written");
  }
  add(_options: LinkOptions): Link {
    throw new Error("being written");
  }
  stop(): Promise<void> {
    throw new Error("being written");
  }
}
