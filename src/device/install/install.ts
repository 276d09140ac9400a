/** `walt device install`: command, unit, and the files of a device, beside whatever else is on the machine. */

import { join } from "node:path";
import { parseConfig, requireRole } from "../../config/load.ts";
import { WaltError } from "../../errors.ts";
import { type Machine, placesOf } from "../../install/machine.ts";
import { type Finding, lookAtCommand, lookAtUnit } from "../../install/ours.ts";
import { addCommand, addFile, addLink, PACKAGED, type Plan, type Step, write } from "../../install/steps.ts";
import { filled, quoted } from "../../install/unit.ts";
import { readTextIfAny } from "../../linux/files.ts";
import template from "./walt-vpn-device.service" with { type: "text" };

/** What a folder of `walt vpn setup-node` has, and who may read it. */
const FILES: Readonly<Record<string, number>> = {
  "vpn.toml": 0o644,
  known_hosts: 0o644,
  enrolment_key: 0o600,
  enrolment_token: 0o600,
};

/** The unit of a device. @param command path of the program. */
export function deviceUnit(command: string): string {
  return filled(template, { BINARY: quoted(command), CONFIG: quoted(placesOf("/").config) });
}

/**
 * Check everything, and plan the changes. Nothing is changed yet.
 * @param folder with the device's files; undefined where they are in /etc/walt already.
 * @throws WaltError naming what is in the way or missing; (usage) when the configuration is for another role.
 */
export function planDeviceInstall(machine: Machine, folder: string | undefined): Plan {
  const places = placesOf(machine.root);
  const plan = { found: [] as string[], steps: [] as Step[], notes: [] as string[], starts: false };
  const unit = lookAtUnit(places.deviceUnit);
  const command = lookAtCommand(places.command, machine.binary);
  const inTheWay = [
    ...foreign(places.deviceUnit, unit),
    ...foreign(places.command, command),
    ...addFiles(join(places.config, ".."), folder, plan),
  ];
  if (inTheWay.length > 0) {
    throw new WaltError(`cannot install:\n${inTheWay.map((one) => `- ${one}`).join("\n")}`, {
      hint: "Nothing was changed. Move these things away, or install on another machine.",
    });
  }
  if (machine.packaged) {
    plan.found.push(PACKAGED);
    return plan;
  }
  addFile({ path: places.deviceUnit, text: deviceUnit(placesOf("/").command) }, plan.steps, plan.found);
  addCommand(machine, command.is, plan.steps, plan.found);
  addLink(machine, plan.steps, plan.found, plan.notes);
  const byHand = join(places.units, "walt.service");
  if (/^ExecStart=\S*walt run$/m.test(readTextIfAny(byHand) ?? ""))
    plan.notes.push(`${byHand} runs a device, too: systemctl disable --now walt && rm ${byHand}`);
  return plan;
}

function foreign(path: string, finding: Finding): string[] {
  return finding.is === "foreign" ? [`${path} is not ours: it is ${finding.what}`] : [];
}

/** The device's files, from a folder or as they are. @returns what is in the way. */
function addFiles(
  target: string,
  folder: string | undefined,
  plan: Plan & { steps: Step[]; found: string[] },
): string[] {
  const from = folder ?? target;
  const toml = join(from, "vpn.toml");
  const text = readTextIfAny(toml);
  if (text === undefined) {
    throw new WaltError(`${toml} does not exist`, {
      hint: "On the server, `walt vpn setup-node --board generic` writes a folder with it: walt device install FOLDER",
    });
  }
  const config = requireRole(parseConfig(text, toml), "device");
  if (config.role === undefined) throw new WaltError(`${toml} does not say role = "device"`);
  if (folder === undefined) {
    plan.found.push(`${toml}: left as it is`);
    return [];
  }
  const inTheWay: string[] = [];
  for (const [name, mode] of Object.entries(FILES)) {
    const content = readTextIfAny(join(from, name));
    const path = join(target, name);
    const there = readTextIfAny(path);
    if (content === undefined) continue;
    if (there === content) plan.found.push(`${path}: unchanged`);
    else if (there !== undefined) inTheWay.push(`${path} is there already, and is another one`);
    else plan.steps.push({ what: `${path}: copied`, do: () => write(path, content, mode) });
  }
  return inTheWay;
}
