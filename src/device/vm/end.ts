/** Why a virtual machine ended. */

/**
 * What ended it. `guest-…` and `host-…` are QEMU's own words, in its event SHUTDOWN (ShutdownCause in
 * qapi/run-state.json of QEMU).
 */
export type VmEndKind =
  | "guest-reset"
  | "guest-shutdown"
  | "guest-panic"
  | "host-qmp-quit"
  | "host-signal"
  | "host-error"
  /** QEMU halted the machine, because its processor could not go on. */
  | "halted"
  /** This program stopped it; the reason says why. */
  | "stopped"
  /** A signal ended QEMU. */
  | "killed"
  /** QEMU ended by itself, without a reason or with an exit status other than 0. */
  | "exited"
  /** It did not start. */
  | "not-started";

/** How a virtual machine ended. */
export interface VmEnd {
  readonly kind: VmEndKind;
  /** The same in words, with details. */
  readonly reason: string;
  /** QEMU's exit status; null when a signal ended it, or it was never started. */
  readonly exitCode: number | null;
  /** The signal that ended QEMU, such as `SIGKILL`. */
  readonly signal: string | null;
}

/** Kinds of end for which the node itself asked, by a reboot or a power-off, so that nothing is wrong. */
const ORDERLY: readonly VmEndKind[] = ["guest-reset", "guest-shutdown"];

/** Whether the node itself asked for its end. */
export const isOrderly = ({ kind }: Pick<VmEnd, "kind">): boolean => ORDERLY.includes(kind);

/** The words for QEMU's reasons; undefined for others. */
export function causeOf(reason: string): Pick<VmEnd, "kind" | "reason"> | undefined {
  const found = CAUSES.find(([kind]) => kind === reason);
  return found === undefined ? undefined : { kind: found[0], reason: found[1] };
}

const CAUSES: readonly (readonly [VmEndKind, string])[] = [
  ["guest-reset", "the node rebooted"],
  ["guest-shutdown", "the node powered itself off"],
  ["guest-panic", "the node's kernel panicked"],
  ["host-qmp-quit", "stopped"],
  ["host-signal", "QEMU was ended by a signal"],
  ["host-error", "QEMU ended because of an error"],
];
