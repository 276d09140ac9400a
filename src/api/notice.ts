/** A notice: what an operator should know although he does not look. For monitors, and for `server.notify`. */

import type { Fields } from "../parse.ts";

export const NOTICE_KINDS = [
  "request-waits",
  "node-down",
  "node-up",
  "certificate-refused",
  "disk-low",
  "disk-enough",
] as const;

export type NoticeKind = (typeof NOTICE_KINDS)[number];

/** Notices that are shown to people who look; the others are about what they see in other words. */
export const SHOWN_NOTICES: ReadonlySet<string> = new Set<NoticeKind>([
  "node-down",
  "certificate-refused",
  "disk-low",
  "disk-enough",
]);

export type Notice = ReturnType<typeof parseNotice>;

export function parseNotice(f: Fields) {
  return {
    /** A NoticeKind, or one that only a newer version knows. */
    event: f.text("event", 40, /^[a-z][a-z-]*$/),
    at: f.time("at"),
    /** The node that it is about; null if it is about none. */
    node: f.orNull("node", (key) => f.words(key)),
    /** One sentence for people. */
    text: f.words("text", 500),
  };
}
