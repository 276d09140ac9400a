/**
 * The engine of `walt doctor`: it runs checks side by side, each when those before it are done, and leaves
 * out those whose cause is known already.
 *
 */

import { type Diagnosis, type Finding, MAX_WORDS } from "../api/diagnosis.ts";
import { safeText } from "../text.ts";
import { type Check, type Outcome, outcomeOfError, unknown } from "./check.ts";

/** Milliseconds that an examination may take. */
export const LONGEST = 18_000;
/** Milliseconds that one check may take: less, so that those after it have some time. */
const CHECK_LONGEST = 12_000;

/** A check with what it looks at. */
export interface Planned {
  readonly id: string;
  readonly after: readonly string[];
  /** Which of several it is about, such as an entrypoint; "" where there is only one. */
  readonly of: string;
  look(): Outcome | Promise<Outcome>;
}

/** Plan checks of one thing. @param of its name, where there are several. */
export function plan<T>(checks: readonly Check<T>[], thing: T, of = ""): Planned[] {
  return checks.map((check) => ({
    id: check.id,
    after: check.after,
    of,
    look: () => check.look(thing),
  }));
}

/**
 * Do what was planned. It never rejects.
 * @param planned in the order in which faults must be mended. A check comes after the ones that it names: of
 *   the same thing, or of the whole machine.
 * @param signal what is not done when it is aborted is told as unknown.
 */
export async function examine(
  planned: readonly Planned[],
  o: { readonly signal: AbortSignal; readonly now: () => number; readonly longest?: number },
): Promise<Diagnosis> {
  const at = new Date(o.now()).toISOString();
  const findings = new Map<string, Promise<Finding>>();
  for (const one of planned) {
    const before = one.after.flatMap(
      (id) => findings.get(key(id, one.of)) ?? findings.get(key(id, "")) ?? [],
    );
    findings.set(key(one.id, one.of), perform(one, before, o.signal, o.longest ?? CHECK_LONGEST));
  }
  return { at, findings: await Promise.all(findings.values()) };
}

const key = (id: string, of: string): string => `${id} ${of}`;

async function perform(
  { id, of, look }: Planned,
  before: readonly Promise<Finding>[],
  signal: AbortSignal,
  longest: number,
): Promise<Finding> {
  const done = await Promise.all(before);
  const head = { check: id, of: words(of) };
  const cause = done.find((one) => one.is === "fault") ?? done.find((one) => one.is === "skipped");
  if (cause?.is === "fault") return { ...head, is: "skipped", because: cause.check };
  if (cause?.is === "skipped") return { ...head, is: "skipped", because: cause.because };
  return { ...head, ...safe(await bounded(look, signal, longest)) };
}

/** What a look gives, if it gives it in time. */
async function bounded(look: Planned["look"], signal: AbortSignal, longest: number): Promise<Outcome> {
  const { promise: late, resolve } = Promise.withResolvers<Outcome>();
  const end = (): void => resolve(unknown("there was no time left to look"));
  const timer = setTimeout(() => resolve(unknown(`the look took longer than ${longest / 1000} s`)), longest);
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  try {
    return await Promise.race([late, (async () => await look())()]);
  } catch (error) {
    return outcomeOfError(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/** Programs, files and machines far away have a part in these words. */
function words(text: string): string {
  return safeText(text.replace(/\s+/g, " ").trim(), MAX_WORDS);
}

function safe(outcome: Outcome) {
  switch (outcome.is) {
    case "ok":
      return { is: outcome.is, note: words(outcome.note ?? "") };
    case "fault": {
      const { is, what, evidence, cure } = outcome;
      return { is, what: words(what), evidence: words(evidence), cure: words(cure) };
    }
    case "unknown":
      return { is: outcome.is, why: words(outcome.why) };
  }
}
