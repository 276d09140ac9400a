/** The device's report: facts of the board, of the supervisor and of the node, gathered from time to time. */

import { release } from "node:os";
import { join } from "node:path";
import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { DeviceStatus, UsbStatus } from "../../api/device-status.ts";
import { type Diagnosis, faultsOf } from "../../api/diagnosis.ts";
import type { Settings } from "../../config/settings.ts";
import { parseReport, type Report } from "../../control/report.ts";
import { readText } from "../../linux/files.ts";
import { Fields } from "../../parse.ts";
import { VERSION } from "../../version.ts";
import type { TrialOutcome } from "../settings.ts";
import type { LastEnd } from "../vm/keeper.ts";
import { type BoardFactsOptions, readBoardFacts } from "./board-facts.ts";
import type { LastError } from "./last-errors.ts";

/** Milliseconds for which a report counts, unless something has changed. */
export const FRESH = 10_000;
/** Milliseconds for which it counts even then: it is gathered no more often, however much changes. */
export const FRESH_AFTER_CHANGE = 1000;

/** Bytes of a base's manifest at most. */
const MAX_FILE = 1 << 20;

/** What the supervisor knows, and what of the board it uses. */
export interface Known extends BoardFactsOptions {
  readonly stage: string;
  readonly detail: string;
  /** MAC address of the board; undefined while no network is found. */
  readonly boardMac: string | undefined;
  readonly serialNumber: string;
  readonly vm: DeviceStatus["vm"];
  /** What DHCP gave to the virtual machine; undefined while it has given nothing. */
  readonly dhcp: { readonly address: string; readonly name: string } | undefined;
  /** How the last virtual machine ended; undefined while none has. */
  readonly lastEnd: LastEnd | undefined;
  /** The USB devices that the node has. */
  readonly usb: readonly UsbStatus[];
  /** The entrypoint that is used or tried, and all of the configuration. */
  readonly entrypoint: Entrypoint;
  readonly entrypoints: readonly Entrypoint[];
  /** The last warnings and errors, the oldest first. */
  readonly errors: readonly LastError[];
  /** What was set from the lab, and what became of the last trial. */
  readonly settings: Settings;
  readonly trial: TrialOutcome | undefined;
  /** When a proxy refused the certificate last, and why. */
  readonly refusal: { readonly at: Date; readonly text: string } | undefined;
  /** What the device found when it last examined itself. */
  readonly diagnosis: Diagnosis | undefined;
}

/** Gathers reports. */
export class Health {
  #report: Report | undefined;
  /** When `#report` was gathered, ms of `now`. */
  #gathered = 0;
  #stale = false;
  readonly #started: number;
  readonly #base: string | null;

  /**
   * @param known asks the supervisor what it knows.
   * @param root folder to read instead of `/`.
   * @param now a clock in ms; tests give another one.
   */
  constructor(
    readonly known: () => Known,
    readonly root = "/",
    readonly now: () => number = () => performance.now(),
  ) {
    this.#started = now();
    this.#base = baseOf(root);
  }

  /** Something of what the supervisor knows has changed. */
  changed(): void {
    this.#stale = true;
  }

  /** The report. It never throws: what is not known is null. */
  report(): Report {
    const now = this.now();
    const age = now - this.#gathered;
    if (this.#report === undefined || age >= (this.#stale ? FRESH_AFTER_CHANGE : FRESH)) {
      this.#stale = false;
      this.#report = this.#gather(now);
      this.#gathered = now;
    }
    return this.#report;
  }

  #gather(now: number): Report {
    const known = this.known();
    const { uptime, ...facts } = readBoardFacts({ ...known, root: this.root });
    const { lastEnd } = known;
    const used = formatEntrypoint(known.entrypoint);
    // The parser cuts what is too long, and makes it safe for a terminal.
    return parseReport({
      ...facts,
      at: new Date().toISOString(),
      stage: known.stage,
      detail: known.detail,
      board: { mac: known.boardMac, serialNumber: known.serialNumber },
      vm: {
        state: known.vm,
        dhcp: known.dhcp,
        lastEnd: lastEnd && { ...lastEnd, at: lastEnd.at.toISOString(), ran: lastEnd.ran / 1000 },
      },
      usb: known.usb,
      uptime: { board: uptime, supervisor: (now - this.#started) / 1000 },
      versions: { walt: VERSION, kernel: release(), base: this.#base },
      entrypoints: { used, others: known.entrypoints.map(formatEntrypoint).filter((one) => one !== used) },
      errors: known.errors,
      refusal: known.refusal && { at: known.refusal.at.toISOString(), reason: known.refusal.text },
      doctor: known.diagnosis && firstFault(known.diagnosis),
      settings: { set: shownSettings(known.settings), trial: known.trial },
    });
  }
}

function firstFault(diagnosis: Diagnosis): { at: string; fault: string | null } {
  return { at: diagnosis.at, fault: faultsOf(diagnosis)[0]?.what ?? null };
}

/** Each value as a line of vpn.toml, then each host whose keys were set. */
function shownSettings({ values, hostKeys }: Settings): string[] {
  const lines = Object.entries(values).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const hosts = new Set(hostKeys.map((line) => line.split(" ", 1)[0]));
  return [...lines, ...[...hosts].map((host) => `known-host of ${host}`)];
}

/**
 * Which base the board runs: of a card the beginning of its recipe's checksum, from the manifest that
 * `walt image build` puts there; of another machine its own name, such as `Debian GNU/Linux 13 (trixie)`.
 */
function baseOf(root: string): string | null {
  const read = (path: string): string => readText(join(root, path), MAX_FILE);
  try {
    const manifest = Fields.parse(read("usr/share/walt/manifest.json"), "the manifest", MAX_FILE);
    return manifest.text("recipe", 64).slice(0, 12);
  } catch {
    // It is not a card's base.
  }
  try {
    return /^PRETTY_NAME="?([^"\n]+)/m.exec(read("etc/os-release"))?.[1] ?? null;
  } catch {
    return null;
  }
}
