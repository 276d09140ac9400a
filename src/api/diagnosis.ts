/** What `walt doctor` found on a machine: its findings, as a daemon tells them and `--json` prints them. */

import type { Fields } from "../parse.ts";

/** Longest text of a finding, in characters. */
export const MAX_WORDS = 600;
/** Findings of one examination at most. */
export const MAX_FINDINGS = 256;

/** The findings of one examination. Strings are safe for a terminal. */
export type Diagnosis = ReturnType<typeof parseDiagnosis>;

/** What one check found. */
export type Finding = ReturnType<typeof parseFinding>;

/** Something that is wrong. */
export type Fault = Extract<Finding, { is: "fault" }>;

export function parseDiagnosis(f: Fields) {
  return {
    /** When it began, by the machine's own clock, which may be wrong. */
    at: f.time("at"),
    /** In the order in which faults must be mended. */
    findings: f.list("findings", parseFinding, MAX_FINDINGS),
  };
}

function parseFinding(f: Fields) {
  const head = {
    /** The check's id, which does not change between versions. */
    check: f.words("check", 40),
    /** Which of several it is about, such as an entrypoint; "" where there is only one. */
    of: f.words("of", MAX_WORDS),
  };
  const words = (key: string): string => f.words(key, MAX_WORDS);
  const is = f.choice("is", ["ok", "fault", "unknown", "skipped"]);
  switch (is) {
    case "ok":
      /** `note`: what is good to know; "" for nothing. */
      return { ...head, is, note: words("note") };
    case "fault":
      /** What is wrong, what shows it, and what to do. */
      return { ...head, is, what: words("what"), evidence: words("evidence"), cure: words("cure") };
    case "unknown":
      return { ...head, is, why: words("why") };
    case "skipped":
      /** The check whose fault is the cause: it must be mended first. */
      return { ...head, is, because: words("because") };
  }
}

/** The faults, the one to be mended first in front. */
export function faultsOf({ findings }: Diagnosis): Fault[] {
  return findings.filter((finding) => finding.is === "fault");
}
