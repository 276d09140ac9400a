/**
 * What an operator types at the monitor, as an answer: a verb, the beginning of a short code, and the node's
 * name.
 */

import { LEAST_CODE, parseCode } from "../../enrolment/typed-code.ts";
import { messageOf } from "../../errors.ts";
import { parseNodeName } from "../../node-name.ts";
import { plainText } from "../../text.ts";

export type TypedAnswer =
  | { kind: "nothing" }
  | { kind: "code"; accept: boolean; code: string; name?: string }
  /** `n`, `no` or `d`: a denial of the one request that waits, if there is only one. */
  | { kind: "deny-only-one" }
  /** Not an answer, and why, in words. */
  | { kind: "wrong"; why: string };

const ACCEPT: readonly string[] = ["accept", "a", "yes", "y"];
const DENY: readonly string[] = ["deny", "d", "no", "n"];

/** Never throws: whatever is typed means something, or tells what is wrong with it. */
export function parseAnswer(text: string): TypedAnswer {
  const words = text.trim().split(/\s+/);
  const [first = ""] = words;
  if (first === "") return { kind: "nothing" };
  const verb = first.toLowerCase();
  const accept = ACCEPT.includes(verb);
  const deny = DENY.includes(verb);
  const [code, ...more] = accept || deny ? words.slice(1) : words;
  if (code === undefined) {
    // Shorter than any code that is typed, so it cannot be meant as one.
    if (deny && verb.length < LEAST_CODE) return { kind: "deny-only-one" };
    const what = accept ? "accepts" : "denies";
    return {
      kind: "wrong",
      why: `"${verb}" alone ${what} nothing: type the first characters of the code that the device shows.`,
    };
  }
  const name = nameOf(more);
  if (name instanceof Error) return { kind: "wrong", why: `${name.message}.` };
  if (deny && name !== undefined) return { kind: "wrong", why: "A device that is denied gets no name." };
  const parsed = more.length > 0 && name === undefined ? undefined : parseCode(code, LEAST_CODE);
  if (parsed === undefined) {
    return {
      kind: "wrong",
      why: `"${plainText(text)}" is not the beginning of a code: at least ${LEAST_CODE} of its characters are needed.`,
    };
  }
  return { kind: "code", accept: !deny, code: parsed, ...(name === undefined ? {} : { name }) };
}

/** The name in `as lab-3`, or what is wrong with it; undefined when the words are something else. */
export function nameOf(words: readonly string[]): string | Error | undefined {
  const [as, name, ...more] = words;
  if (as?.toLowerCase() !== "as" || name === undefined || more.length > 0) return undefined;
  try {
    return parseNodeName(name);
  } catch (error) {
    return new Error(messageOf(error));
  }
}
