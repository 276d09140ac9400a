/**
 * Why a connection, a tunnel or a link ended: a kind that decides what happens next, and words for people.
 */

/** Kinds of ends. "The peer" is the other end of the connection. */
export type EndKind =
  /** The peer sent nothing for longer than is allowed. */
  | "silent"
  /** The peer took nothing for longer than is allowed. */
  | "stalled"
  /** The peer closed the stream without saying why. */
  | "closed"
  /** The stream failed with a system error. */
  | "broken"
  /** The peer ended the connection, and said why. */
  | "closed-by-peer"
  /** The peer violated the protocol. */
  | "malformed"
  /** The peer asked too often for what it may not have. */
  | "excess"
  /** The peer does not accept our key or certificate. To try again with the same key hardly helps. */
  | "key-refused"
  /** The peer accepted our key, but refuses what we asked for. */
  | "refused"
  /** The peer has another host key than the one that we know it by. */
  | "wrong-host-key"
  /** The peer is a proxy of WalT's own VPN, which lets nobody through without an agent. */
  | "walt-proxy"
  /** The peer cannot be reached. */
  | "unreachable"
  /** The local port that was chosen for an SSH forward cannot be used. */
  | "port-taken"
  /** The TAP no longer exists, or cannot be used. */
  | "tap"
  /** This program ended it. */
  | "stopped"
  /** A mistake in this program. */
  | "fault"
  /** Any other failure. */
  | "failed";

export interface End {
  readonly kind: EndKind;
  /** What happened, in words for people. It has no characters that are unsafe for a terminal. */
  readonly text: string;
}

/**
 * Whether the stream itself ended or failed. The cause may then be below the stream, for example at a proxy.
 */
export function isStreamEnd({ kind }: End): boolean {
  return kind === "closed" || kind === "broken" || kind === "stalled";
}
