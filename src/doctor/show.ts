/** What `walt doctor` found, as text for people. */

import { type Diagnosis, type Finding, faultsOf } from "../api/diagnosis.ts";

const BOLD_RED = "\u001b[1;31m";
const GREEN = "\u001b[32m";
const PLAIN = "\u001b[0m";

/** The name of a check, with what it is about: `reach (gate.example.org:22)`. */
export function nameOf({ check, of }: Finding): string {
  return of === "" ? check : `${check} (${of})`;
}

/**
 * The text, without a line break at its end.
 * @param colours whether a terminal shows it.
 */
export function showDiagnosis(diagnosis: Diagnosis, colours: boolean): string {
  const painted = (text: string, colour: string): string => (colours ? `${colour}${text}${PLAIN}` : text);
  const { findings } = diagnosis;
  const faults = faultsOf(diagnosis);
  const lines: string[] = faults.flatMap((one, index) => [
    `${painted(`${index + 1}. ${capital(one.what)}`, BOLD_RED)}  [${nameOf(one)}]`,
    ...(one.evidence === "" ? [] : [`   seen: ${one.evidence}`]),
    `   do:   ${one.cure}`,
    "",
  ]);
  const skipped = Map.groupBy(
    findings.filter((one) => one.is === "skipped"),
    ({ because }) => because,
  );
  for (const [because, all] of skipped) {
    lines.push(`Not looked at, because of ${because}: ${all.map(nameOf).join(", ")}`);
  }
  for (const one of findings)
    if (one.is === "unknown") lines.push(`Not found out: ${nameOf(one)}: ${one.why}`);
  const good = findings.filter((one) => one.is === "ok");
  if (good.length > 0) lines.push(`${painted("No fault", GREEN)}: ${good.map(nameOf).join(", ")}`);
  lines.push(verdict(faults.length));
  return lines.join("\n");
}

function verdict(faults: number): string {
  if (faults === 0) return "Nothing wrong was found.";
  return faults === 1 ? "One thing is wrong." : `${faults} things are wrong. Mend the first one first.`;
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
