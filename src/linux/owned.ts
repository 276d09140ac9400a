/** Children that never outlive us. */

/**
 * A command line whose process the kernel ends when we die, `kill -9` included (prctl(2), PR_SET_PDEATHSIG): an orphan would
 * hold on to bridge, TAP or port, and the next start would find them taken. setpriv(1) is part of util-linux.
 */
export function owned(command: readonly string[]): string[] {
  return ["setpriv", "--pdeathsig", "KILL", "--", ...command];
}
