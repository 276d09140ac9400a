/** What a device answers over the control channel, under fuzz. */

import { expect } from "bun:test";
import { parseReboot, printReboot } from "../../../src/control/reboot.ts";
import { MAX_REPORT, parseReport, printReport } from "../../../src/control/report.ts";
import { damageJson, damageText, fuzz, oneOf, plainWords, refusedOr } from "../fuzz.ts";

fuzz(
  "a report: whatever it is, it is bounded, safe for a terminal, and comes back the same",
  1500,
  (random) => {
    const text = plainWords(random, 300);
    const report = {
      at: "2026-11-27T03:21:55.123Z",
      stage: text,
      vm: {
        state: "running",
        lastEnd: { kind: text, reason: text, exitCode: random(300), ran: random(1e6) },
      },
      usb: Array.from({ length: random(30) }, () => ({ port: "1-1.2", id: "0781:5567", name: text })),
      temperature: random(100_000) / 1000,
      power: { underVoltage: true },
      entrypoints: { used: text, others: [text, text] },
      errors: Array.from({ length: random(30) }, () => ({ at: text, text })),
    };
    const value = random(2) === 0 ? damageJson(report, random) : report;
    const parsed = refusedOr(() => parseReport(value));
    if (parsed === undefined) return;
    const printed = printReport(parsed);
    expect(Buffer.byteLength(printed)).toBeLessThanOrEqual(MAX_REPORT);
    expect(printed).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(printReport(parseReport(JSON.parse(printed)))).toBe(printed);
  },
);

fuzz("the outcome of a reboot: refused, or the same when it is printed", 1500, (random) => {
  const reason = plainWords(random, 100);
  const outcome = oneOf(
    random,
    { did: "rebooted" },
    { did: "not-started", reason },
    { did: "no-reaction", seconds: 1 },
  );
  const line = oneOf(
    random,
    damageText(JSON.stringify(outcome), random),
    JSON.stringify(damageJson(outcome, random)) ?? "",
  );
  const parsed = refusedOr(() => parseReboot(line));
  if (parsed !== undefined) expect(parseReboot(printReboot(parsed))).toEqual(parsed);
});
