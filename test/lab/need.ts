/** What a test needs of the machine it runs on; without it the test is skipped and says why, or fails where CI=true. */

import { describe, test } from "bun:test";
import { existsSync } from "node:fs";

/** Things a suite cannot do without. */
export interface Needs {
  /** The effective user must be root: namespaces, TAPs and bridges ask for it. */
  root?: boolean;
  /** Programs that must be on the PATH (the sbin folders count as if they were). */
  programs?: readonly string[];
  /** Paths that must exist, such as `/dev/net/tun`. */
  files?: readonly string[];
}

/** The PATH with the folders of administration, which an ordinary user's lacks. */
export const SYSTEM_PATH = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/** What every suite with a `Lab` needs. */
export const LAB: Needs = {
  root: true,
  programs: ["ip", "unshare", "nsenter", "mount"],
  files: ["/proc/self/ns/net", "/dev/net/tun"],
};

/** Whether something is missing, and what, in words. */
export function need(...needs: readonly Needs[]): { skip: boolean; why: string } {
  const missing: string[] = [];
  for (const what of needs) {
    if (what.root && process.geteuid?.() !== 0) missing.push("root");
    for (const program of what.programs ?? []) {
      if (Bun.which(program, { PATH: SYSTEM_PATH }) === null) missing.push(program);
    }
    for (const file of what.files ?? []) if (!existsSync(file)) missing.push(file);
  }
  const why = [...new Set(missing)].join(", ");
  return { skip: why !== "", why: why === "" ? "" : `needs ${why}` };
}

/** Like `describe`, for a suite with needs: skipped with the reason in its name, and with CI=true one failing test. */
export function describeWith(needs: Needs | readonly Needs[], name: string, suite: () => void): void {
  const { skip, why } = need(...(Array.isArray(needs) ? needs : [needs]));
  if (!skip) {
    describe(name, suite);
  } else if (process.env["CI"] === "true") {
    test(`${name} (${why})`, () => {
      throw new Error(`${name}: this machine lacks what it ${why}`);
    });
  } else {
    describe.skip(`${name} (skipped: ${why})`, suite);
  }
}
