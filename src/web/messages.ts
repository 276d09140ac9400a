/** What `walt web` tells its page, and what the page asks of it. Texts are in words for people, and plain text. */

/** What the overview shows. */
export interface Overview {
  /** Grows with every change: the page asks for what is later than this. */
  readonly version: number;
  /** `walt 0.1.0, on this machine`. */
  readonly server: string;
  /** Why the server cannot be asked at present; null when it can. What is shown beside it is old. */
  readonly problem: string | null;
  readonly nodes: readonly NodeRow[];
  readonly requests: readonly RequestCard[];
  readonly attention: readonly Attention[];
  readonly events: readonly EventRow[];
}

export interface NodeRow {
  readonly name: string;
  readonly isUp: boolean;
  /** `up`, `down`, or `up, no boot files`. */
  readonly state: string;
  /** Why it is down or not in order; empty where nothing is known to be wrong. */
  readonly why: string;
  /** The entrypoint of its tunnel; `-` while there is none. */
  readonly via: string;
  /** Round trip, ms. */
  readonly rtt: number | null;
  /** 0 to 1. */
  readonly loss: number | null;
  readonly note: string;
  /** Since when it is in this state, ISO 8601; null if it never was up. */
  readonly since: string | null;
}

/** A request for access, by what the device says of itself. */
export interface RequestCard {
  readonly id: string;
  readonly fingerprint: string;
  readonly code: string;
  readonly mac: string;
  readonly model: string;
  readonly serialNumber: string;
  readonly from: string;
  /** `waiting`: its device waits for an answer. `remembered`: it asks again. `denied`: an operator denied it. */
  readonly state: "waiting" | "remembered" | "denied";
  readonly warnings: readonly string[];
}

export interface Attention {
  readonly what: string;
  readonly cure: string;
}

export interface EventRow {
  /** ISO 8601. */
  readonly at: string;
  readonly node: string;
  readonly what: string;
  /** Who gave the order; empty if nobody did. */
  readonly by: string;
}

/** What the page of one node shows. */
export interface NodePage {
  readonly row: NodeRow;
  /** All that is known, as `walt node show NODE` shows it. */
  readonly facts: readonly Fact[];
  /** Counters of its tunnel; empty while it is down. */
  readonly counters: readonly Fact[];
  /** The USB devices that the node has; null when its board has not told. */
  readonly usb: readonly UsbRow[] | null;
  readonly events: readonly EventRow[];
  /** Whether its virtual machine was switched off. */
  readonly isOff: boolean;
  /** What a revocation of its device does, in lines. */
  readonly revocation: string;
}

export type Fact = readonly [what: string, value: string];

export interface UsbRow {
  readonly port: string;
  readonly id: string;
  readonly name: string;
}

/** An answer to a request. */
export interface TypedAnswer {
  readonly id: string;
  readonly fingerprint: string;
  /** What was typed of the short code. */
  readonly typed: string;
  readonly accept: boolean;
  /** What the node is to be called; empty: the server chooses. */
  readonly name: string;
  /** An operator's words about the node; may be empty. */
  readonly note: string;
  /** Of a denial: no monitor is shown this key again, or for an hour what comes from its source. */
  readonly block?: "key" | "source";
}

/** What an action led to, in words. */
export interface Done {
  readonly text: string;
}

/** Why the page did not get what it asked for. */
export interface Refused {
  readonly error: string;
  readonly hint?: string;
}

/** What the console's WebSocket says in text. What the node prints, and what is typed, are binary. */
export type ConsoleNotice =
  | { readonly type: "begun"; readonly writes: boolean }
  | { readonly type: "lost" }
  | ({ readonly type: "ended" } & Partial<Refused>);

export const CONSOLE_MODES = ["watch", "write", "take"] as const;
export type ConsoleMode = (typeof CONSOLE_MODES)[number];

/** The WebSocket's subprotocol, which the token follows in the list: a page cannot set other headers. */
export const CONSOLE_PROTOCOL = "walt";

/** Bytes of input in one message of the WebSocket. */
export const TYPED_MAX = 4096;
