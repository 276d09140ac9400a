/** What a board last told of itself, in rows for people. What it does not know is left out. */

import type { Report } from "../../control/report.ts";
import { duration, size } from "../../text.ts";

type Row = [what: string, value: string];

/** Errors that are shown. */
const ERRORS_SHOWN = 3;

/** @param receivedAt when the server got it, ms since 1970. */
export function reportRows(report: Report, receivedAt: number, now = Date.now()): Row[] {
  const { versions, entrypoints, link, load } = report;
  const rows: [what: string, value: string | null | undefined][] = [
    ["reported", `${duration(Math.max(0, now - receivedAt))} ago`],
    ["board's walt", versions.walt],
    ["board's kernel", versions.kernel],
    ["board's base", versions.base],
    ["stage", joined([report.stage, report.detail])],
    ["VM", vmOf(report)],
    ["DHCP name", report.vm.dhcp.name],
    ["DHCP address", report.vm.dhcp.address],
    ["USB devices", listed(report.usb?.map(({ port, id, name }) => joined([port, id, name], " ")))],
    ["temperature", report.temperature === null ? null : `${report.temperature.toFixed(1)} °C`],
    ["power", powerOf(report)],
    ["load", load.one === null ? null : [load.one, load.five, load.fifteen].join(" ")],
    ["memory", partOf(report.memory.available, report.memory.total)],
    ["disk", joined([partOf(report.disk.free, report.disk.size), errorsOf(report.disk.errors)])],
    ["board up for", since(report.uptime.board)],
    ["supervisor up for", since(report.uptime.supervisor)],
    ["entrypoint used", entrypoints.used],
    ["other entrypoints", listed(entrypoints.others)],
    ["link", joined([link.interface, link.speed === null ? null : `${link.speed} Mbit/s`])],
    ["clock", clockOf(report)],
    ["certificate refused", refusalOf(report)],
    ["doctor", report.doctor.fault],
    ["set from the lab", listed(report.settings.set)],
    ["last trial", trialOf(report)],
    ...(report.errors ?? [])
      .slice(-ERRORS_SHOWN)
      .map(({ at, text }): Row => ["board's error", joined([at, text], " ") ?? ""]),
  ];
  return rows.flatMap(([what, value]): Row[] => (value == null || value === "" ? [] : [[what, value]]));
}

function vmOf({ vm: { state, lastEnd } }: Report): string | null {
  if (lastEnd.reason === null) return state;
  const ended = lastEnd.at === null ? "" : ` at ${lastEnd.at}`;
  return joined([state, `the last one ended${ended}: ${lastEnd.reason}`]);
}

function powerOf({ power }: Report): string | null {
  if (power.underVoltage === null && power.throttled === null) return null;
  const words = [
    power.underVoltage
      ? "the voltage is too low"
      : power.underVoltageBefore
        ? "the voltage was too low"
        : null,
    power.throttled ? "slowed down" : power.throttledBefore ? "was slowed down" : null,
  ];
  return joined(words) ?? "good";
}

function clockOf({ clock }: Report): string | null {
  if (clock.synchronised === null) return null;
  if (!clock.synchronised) return "nothing keeps it";
  return clock.error === null ? "kept" : `kept, at most ${duration(clock.error)} wrong`;
}

function refusalOf({ refusal: { at, reason } }: Report): string | null {
  return at === null ? null : `${at} by the board's clock: ${reason}`;
}

function trialOf({ settings: { trial } }: Report): string | null {
  if (trial.outcome === null) return null;
  return joined([
    `${trial.outcome}, by ${trial.by ?? "somebody"}`,
    trial.reason === "" ? null : trial.reason,
  ]);
}

const partOf = (free: number | null, all: number | null): string | null =>
  free === null || all === null ? null : `${size(free)} free of ${size(all)}`;
const errorsOf = (errors: number | null): string | null => (errors ? `${errors} errors` : null);
const since = (seconds: number | null): string | null => (seconds === null ? null : duration(1000 * seconds));
const listed = (texts: readonly (string | null)[] | null | undefined): string | null =>
  joined(texts ?? [], ", ");

function joined(texts: readonly (string | null)[], between = "; "): string | null {
  const known = texts.filter((text) => text !== null && text !== "");
  return known.length === 0 ? null : known.join(between);
}
