/** Why a connection, a tunnel or a link ended: the kind decides what happens next, the text is for people only. */

export type EndKind =
  /** Nothing came from the peer for longer than is allowed. */
  | "silent"
  /** The peer took nothing for longer than is allowed. */
  | "stalled"
  /** The stream was closed without a word. */
  | "closed"
  /** The stream failed with a system error. */
  | "broken"
  /** The peer said that it ends the connection, and why. */
  | "closed-by-peer"
  /** The peer violated the protocol. */
  | "malformed"
  /** The peer does not accept our key or certificate: trying again with the same key is of little use. */
  | "key-refused"
  /** The peer let us in and refuses what we ask for. */
  | "refused"
  /** The peer shows another host key than the pinned one. */
  | "wrong-host-key"
  /** The peer cannot be reached. */
  | "unreachable"
  /** A local port that was chosen for a forward cannot be used. */
  | "port-taken"
  /** The TAP is gone or cannot be used. */
  | "tap"
  /** This side ended it. */
  | "stopped"
  /** A mistake in this program. */
  | "fault"
  /** Any other failure. */
  | "failed";

export interface End {
  readonly kind: EndKind;
  /** What happened, in words for a person, safe for a terminal. */
  readonly text: string;
}

/** Whether the stream itself ended or failed: the cause may lie below it, for example at a proxy. */
export function isStreamEnd({ kind }: End): boolean {
  return kind === "closed" || kind === "broken" || kind === "stalled";
}
