/**
 * What an operator types at the monitor, as an answer: a verb, the beginning of a short code, and the node's name
 * and note.
 */

import { type Block, MAX_NOTE } from "../../api/messages.ts";
import { LEAST_CODE, parseCode } from "../../enrolment/typed-code.ts";
import { messageOf } from "../../errors.ts";
import { parseNodeName } from "../../node-name.ts";
import { plainText, safeText } from "../../text.ts";

export type TypedAnswer =
  | { kind: "nothing" }
  | ({ kind: "code"; accept: boolean; code: string } & Wishes)
  /** `n`, `no` or `d`: a denial of the one request that waits, if there is only one. */
  | { kind: "deny-only-one" }
  /** Not an answer, and why, in words. */
  | { kind: "wrong"; why: string };

/** What an answer also says. */
export interface Wishes {
  /** What the node of the accepted device is to be called. */
  name?: string;
  /** The operator's words about it. */
  note?: string;
  /** What a denial blocks. */
  block?: Block;
}

const BLOCK: Readonly<Record<string, Block>> = { block: "key", "block-source": "source" };
const ACCEPT: readonly string[] = ["accept", "a", "yes", "y"];
const DENY: readonly string[] = ["deny", "d", "no", "n"];

/** Never throws: whatever is typed means something, or tells what is wrong with it. */
export function parseAnswer(text: string): TypedAnswer {
  const words = text.trim().split(/\s+/);
  const [first = ""] = words;
  if (first === "") return { kind: "nothing" };
  const verb = first.toLowerCase();
  const accept = ACCEPT.includes(verb);
  const block = Object.hasOwn(BLOCK, verb) ? BLOCK[verb] : undefined;
  const deny = DENY.includes(verb) || block !== undefined;
  const [code, ...more] = accept || deny ? words.slice(1) : words;
  if (code === undefined) {
    // Shorter than any code that is typed, so it cannot be meant as one.
    if (deny && verb.length < LEAST_CODE) return { kind: "deny-only-one" };
    const what = accept ? "accepts" : block !== undefined ? "blocks" : "denies";
    return {
      kind: "wrong",
      why: `"${verb}" alone ${what} nothing: type the first characters of the code that the device shows.`,
    };
  }
  const wishes = wishesOf(more);
  if (wishes instanceof Error) return { kind: "wrong", why: `${wishes.message}.` };
  if (deny && wishes !== undefined && more.length > 0)
    return { kind: "wrong", why: "A device that is denied gets no name and no note." };
  const parsed = wishes === undefined ? undefined : parseCode(code, LEAST_CODE);
  if (parsed === undefined) {
    return {
      kind: "wrong",
      why: `"${plainText(text)}" is not the beginning of a code: at least ${LEAST_CODE} of its characters are needed.`,
    };
  }
  return { kind: "code", accept: !deny, code: parsed, ...wishes, ...(block === undefined ? {} : { block }) };
}

/**
 * The name and the note in `as lab-3 note behind the door`, or what is wrong with the name; undefined when the
 * words are something else.
 */
export function wishesOf(words: readonly string[]): Wishes | Error | undefined {
  const rest = [...words];
  const wishes: Wishes = {};
  if (rest[0]?.toLowerCase() === "as" && rest[1] !== undefined) {
    try {
      wishes.name = parseNodeName(rest[1]);
    } catch (error) {
      return new Error(messageOf(error));
    }
    rest.splice(0, 2);
  }
  if (rest[0]?.toLowerCase() === "note" && rest[1] !== undefined) {
    wishes.note = safeText(rest.slice(1).join(" "), MAX_NOTE);
    rest.length = 0;
  }
  return rest.length === 0 ? wishes : undefined;
}
