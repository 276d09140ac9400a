/** Asks before something happens to nodes that the operator may not have meant. */

import { WaltError } from "../../errors.ts";
import { confirm } from "../_ask.ts";
import { isPattern } from "./_choose.ts";

export const yesOption = { yes: { type: "boolean", description: "Do not ask" } } as const;

/** Names that a question has at most. */
const NAMED = 20;

interface Named {
  readonly name: string;
}

/**
 * Ask in any case.
 * @param o `about`: what will happen, in lines for people; `question` names the action: "Revoke".
 * @throws WaltError when the answer is no; WaltError (usage) without a terminal, if there is no `yes` either.
 */
export async function confirmNodes(
  nodes: readonly Named[],
  o: { readonly about: string; readonly question: string; readonly yes: boolean | undefined },
): Promise<void> {
  if (o.yes || nodes.length === 0) return;
  if (process.stdin.isTTY) process.stderr.write(`${o.about}\n`);
  if (!(await confirm(`${o.question} ${namesOf(nodes)}?`, "--yes")))
    throw new WaltError("the answer was no: nothing was done");
}

/**
 * Ask on a terminal if a pattern or a state stands for several nodes. A script is not asked.
 * @param typed the words that name nodes. @param question names the action: "Reboot".
 * @throws WaltError when the answer is no.
 */
export async function confirmMany(
  nodes: readonly Named[],
  typed: readonly string[],
  question: string,
  yes: boolean | undefined,
): Promise<void> {
  const isNamed = typed.length > 0 && !typed.some(isPattern);
  if (yes || isNamed || nodes.length < 2 || !process.stdin.isTTY) return;
  if (!(await confirm(`${question} ${namesOf(nodes)}?`, "--yes")))
    throw new WaltError("the answer was no: nothing was done");
}

/** `lab-3`, or `these 2 nodes: lab-3, lab-4`. */
function namesOf(nodes: readonly Named[]): string {
  const names = nodes.map(({ name }) => name);
  if (names.length === 1) return names.join();
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
  return `these ${names.length} nodes: ${names.slice(0, NAMED).join(", ")}${more}`;
}
