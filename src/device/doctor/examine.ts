/** Examines a device: all checks, in the order in which faults must be mended. */

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Diagnosis } from "../../api/diagnosis.ts";
import { isListenedOn } from "../../api/listen.ts";
import { BOARDS } from "../../boards.ts";
import type { Config } from "../../config/schema.ts";
import { type Check, denied } from "../../doctor/check.ts";
import { examine, LONGEST, type Planned, plan } from "../../doctor/examine.ts";
import { thisMachine } from "../../doctor/this-machine.ts";
import { type DeviceFiles, makeFolder } from "../files.ts";
import { trustServerKeys } from "../identity/server-keys.ts";
import { tryAccelerator, whyNoKvm } from "../vm/kvm-probe.ts";
import { checkMachine, thisArchitecture } from "../vm/qemu-arguments.ts";
import { type Attempt, attemptWay } from "./attempt.ts";
import { BOARD_CHECKS, CERTIFICATE_CHECK, SUPERVISOR_CHECKS, VM_CHECKS } from "./board.ts";
import { type DeviceCase, deviceCase, type WayCase } from "./case.ts";
import { NETWORK_CHECKS } from "./network.ts";
import { WAY_CHECKS } from "./way.ts";

const KVM = "/dev/kvm";
/** Milliseconds that a trial of KVM may take. A Raspberry Pi needs longer for one: there it is left out. */
const KVM_LONGEST = 10_000;

/** All checks of a device, in their order, for the table in docs/doctor.md. */
export const DEVICE_CHECKS: readonly (Check<DeviceCase> | Check<WayCase>)[] = [
  ...BOARD_CHECKS,
  ...SUPERVISOR_CHECKS,
  ...NETWORK_CHECKS,
  CERTIFICATE_CHECK,
  ...WAY_CHECKS,
  ...VM_CHECKS,
];

/** The configuration of a device with what was set from the lab. */
export interface InUse {
  readonly config: Config;
  /** Lines of known_hosts that take the place of the card's. */
  readonly hostKeys: readonly string[];
}

/** @param scope `all`, or `connection`: only what may keep a supervisor that runs from its tunnel. */
export function planDevice(device: DeviceCase, scope: "all" | "connection"): Planned[] {
  const all = scope === "all";
  return [
    ...plan(BOARD_CHECKS, device),
    ...(all ? plan(SUPERVISOR_CHECKS, device) : []),
    ...plan(NETWORK_CHECKS, device),
    ...plan([CERTIFICATE_CHECK], device),
    ...device.ways.flatMap((way) => plan(WAY_CHECKS, way, way.name)),
    ...(all ? plan(VM_CHECKS, device) : []),
  ];
}

/**
 * Examine this machine as a device. It ends within `LONGEST` ms, and never rejects.
 * @param signal ends it early.
 */
export async function examineDevice(
  { config, hostKeys }: InUse,
  files: DeviceFiles,
  scope: "all" | "connection",
  signal: AbortSignal,
): Promise<Diagnosis> {
  const end = new AbortController();
  const until = AbortSignal.any([signal, end.signal, AbortSignal.timeout(LONGEST)]);
  const machine = thisMachine(until);
  const attempts: Promise<Attempt>[] = [];
  let folder: string | undefined;
  const device = deviceCase(machine, config, files, hostKeys, {
    attempt: (entrypoint) => {
      // As the supervisor does for its own: ssh refuses the card's private key, which everybody can read.
      folder ??= makeRunFolder(files);
      const own = inFolder(files, folder);
      trustServerKeys(own, config.device.framing !== "original", () => {}, hostKeys);
      const attempt = attemptWay(entrypoint, config, own, until);
      attempts.push(attempt);
      return attempt;
    },
    kvm: async () => {
      if ((await machine.access(KVM)) === "EACCES") throw denied(KVM);
      const { board } = config.device;
      const arch = thisArchitecture();
      const why = whyNoKvm(arch);
      if (why !== undefined || BOARDS[board].probeTimeout > KVM_LONGEST) return why;
      return await tryAccelerator({ board, arch, accel: "kvm" }, KVM_LONGEST, until);
    },
    checkVm: () => checkMachine(thisArchitecture()),
    isRunning: () => isListenedOn(files.socket),
  });
  try {
    return await examine(planDevice(device, scope), { signal: until, now: machine.now });
  } finally {
    end.abort();
    await Promise.all(attempts);
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

function makeRunFolder(files: DeviceFiles): string {
  makeFolder(files.run, 0o755);
  return mkdtempSync(join(files.run, "doctor-"));
}

/** The files that ssh is given, in a folder of our own: a supervisor that runs has and removes its own. */
function inFolder(files: DeviceFiles, folder: string): DeviceFiles {
  return {
    ...files,
    trustedHosts: join(folder, "trusted_hosts"),
    trustedEnrolmentKeys: [join(folder, "trusted_enrolment_key"), join(folder, "trusted_enrolment_key_2")],
  };
}
