/** The board's logs: what is kept, who reads it, and what a slow reader misses. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import type { Piece, Place } from "../../../src/control/pieces.ts";
import { KernelLog, type KernelLogSystem } from "../../../src/device/log/kernel-log.ts";
import { LINES_KEPT, LineRing, LONGEST_LINE } from "../../../src/device/log/line-ring.ts";
import { linesOf } from "../../../src/device/log/lines-of.ts";
import { type LineLog, tail } from "../../../src/device/log/tail.ts";
import { alsoTo, type Log, type LogLine } from "../../../src/log.ts";
import { eventually, turn } from "../../lab/eventually.ts";
import { Asker } from "../../lab/order-stream.ts";

const AT = new Date("2026-11-27T03:21:55.123Z");
const ring = (limit?: number): LineRing => new LineRing(limit, () => AT);
const line = (text: string): string => `2026-11-27T03:21:55.123Z ${text}\n`;

test("who asks gets what is there, with its times, and without `follow` nothing more", async () => {
  const log = ring();
  for (const word of ["one", "two", "three\u001b[2J"]) log.add(word);
  const all = new Asker();
  await tail(log, { follow: false }, all);
  expect(all.seen).toBe(line("one") + line("two") + line("three?[2J"));
  const last = new Asker();
  await tail(log, { lines: 2, follow: false }, last);
  expect(last.seen).toBe(line("two") + line("three?[2J"));
  const none = new Asker();
  await tail(log, { lines: 0, follow: false }, none);
  expect(none.seen).toBe("");
});

test("who follows gets what comes, until he leaves", async () => {
  const log = ring();
  log.add("before");
  const asker = new Asker();
  const over = tail(log, { lines: 0, follow: true }, asker);
  await turn();
  log.add("one");
  await eventually("the first", () => asker.seen === line("one"));
  log.add("two");
  log.add("three");
  await eventually("the others", () => asker.seen === line("one") + line("two") + line("three"));
  asker.leave();
  await eventually("the end", over);
});

/** The text that follows a place, and the place behind it. */
async function read(log: LineLog, after?: Place): Promise<[string, Place]> {
  const asker = new Asker();
  let place = after ?? { ring: "", position: 0 };
  const show = (piece: Piece): Promise<void> => {
    place = piece.place;
    return asker.show(piece);
  };
  await tail(log, { follow: false, after }, { gone: asker.gone, show });
  return [asker.seen, place];
}

test("who comes back gets what was written meanwhile, and how much of it is not kept", async () => {
  const log = ring(1000);
  log.add("one");
  log.add("two");
  const [, first] = await read(log);
  log.add("three");
  const [meanwhile, second] = await read(log, first);
  expect(meanwhile).toBe(line("three"));
  expect(await read(log, second)).toEqual(["", second]);
  for (let i = 0; i < 100; i++) log.add(`line ${i}`);
  const [rest] = await read(log, second);
  const [, missed] = /^\[walt: (\d+) lines left out\]\n/.exec(rest) ?? [];
  expect(rest).toContain(`lines left out]\n${line(`line ${missed}`)}`);
  // A place in another log, or one that nobody can have reached, is no reason to fail.
  expect((await read(ring(), second))[0]).toBe("");
  const other = ring();
  other.add("other");
  expect((await read(other, second))[0]).toBe(line("other"));
  expect((await read(other, { ring: other.ring, position: 1e9 }))[0]).toBe("");
});

test("a log that never stops ends all the same for one who does not follow", async () => {
  const log = ring();
  log.add("first");
  const asker = new Asker();
  asker.block();
  const over = tail(log, { follow: false }, asker);
  for (let i = 0; i < 10; i++) log.add("later");
  asker.unblock();
  await eventually("the end", over);
  expect(asker.seen).toStartWith(line("first"));
});

test("a flood: memory is bounded, nobody waits, and a slow reader is told how many lines he missed", async () => {
  const log = ring();
  const asker = new Asker();
  asker.block();
  log.add("begin");
  void tail(log, { follow: true }, asker);
  await turn(); // it is writing now
  const lines = 100_000;
  for (let i = 0; i < lines; i++) log.add(`line ${i}`); // all of it before the reader has a turn
  expect(log.bytes).toBeLessThanOrEqual(LINES_KEPT);
  asker.unblock();
  await eventually("the last line", () => asker.seen.endsWith(line(`line ${lines - 1}`)));
  const [first, gap, ...rest] = asker.seen.split("\n").slice(0, -1);
  expect(`${first}\n`).toBe(line("begin"));
  const missed = Number(/^\[walt: (\d+) lines left out\]$/.exec(gap ?? "")?.[1]);
  expect(missed + rest.length).toBe(lines);
  expect(`${rest[0]}\n`).toBe(line(`line ${missed}`));
  asker.leave();
});

test("a reader whose asker goes while it writes just ends; another error of writing is told", async () => {
  const log = ring();
  log.add("one");
  const asker = new Asker();
  asker.block();
  const over = tail(log, { follow: true }, asker);
  await turn();
  asker.leave();
  await eventually("the end", over);
  const broken = {
    gone: new AbortController().signal,
    show: () => Promise.reject(new Error("no")),
  };
  await expect(tail(log, { follow: true }, broken)).rejects.toThrow("no");
});

test("a line longer than the ring is cut, and is kept all the same", async () => {
  const log = ring(100);
  log.add("x".repeat(1_000_000));
  const asker = new Asker();
  await tail(log, { follow: false }, asker);
  expect(asker.seen).toBe(line(`${"x".repeat(LONGEST_LINE - 1)}…`));
});

test("a serial console's output becomes lines, whatever the pieces it came in", () => {
  const text = "U-Boot\r\n\u001b[1mÜber\u001b[0m\r\r\n\nlogin: ";
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 7, bytes.length]) {
    const lines: string[] = [];
    const take = linesOf((line) => lines.push(line));
    for (let at = 0; at < bytes.length; at += size) take(bytes.subarray(at, at + size));
    expect(lines).toEqual(["U-Boot", "\u001b[1mÜber\u001b[0m", ""]);
  }
  const lines: string[] = [];
  const take = linesOf((line) => lines.push(line));
  for (let i = 0; i < 1000; i++) take(new TextEncoder().encode("y".repeat(100)));
  expect(lines.join("").length).toBeGreaterThan(100_000 - LONGEST_LINE - 1); // no more than one line waits
  expect(Math.max(...lines.map((line) => line.length))).toBe(LONGEST_LINE);
});

test("a log passes its lines on, with their subjects, but not those for debugging", () => {
  const written: string[] = [];
  const note = (message: string): void => void written.push(message);
  const to: Log = { debug: note, info: note, warn: note, error: note, with: () => to };
  const kept: LogLine[] = [];
  const log = alsoTo(to, (line) => kept.push(line));
  log.debug("hidden", { event: "detail" });
  log.info("one", { event: "stage", stage: "tunnel" });
  log.with("vm").with("usb").error("two\u001b", { event: "usb-failed" });
  expect(written).toEqual(["hidden", "one", "two\u001b"]);
  expect(kept).toEqual([
    { level: "info", text: "one event=stage stage=tunnel" },
    { level: "error", text: "vm/usb: two  event=usb-failed" },
  ]);
});

/** A kernel whose log has these records, and more as they are pushed. */
function kernel(records: string[], boot = "0b") {
  let open = 0;
  let look = (): void => {};
  const system: KernelLogSystem = {
    open: () => {
      open++;
      let at = 0;
      return { read: () => (at < records.length ? records[at++] : undefined), close: () => void open-- };
    },
    boot: () => boot,
    started: () => AT.getTime() - 5000,
    wait: (signal) =>
      new Promise((resolve) => {
        look = resolve;
        signal.addEventListener("abort", () => resolve());
      }),
  };
  return { log: new KernelLog(system), opened: () => open, look: () => look() };
}

test("the kernel's log: its lines with their times, and how many the kernel has dropped meanwhile", async () => {
  const records = [
    "6,339,4000000,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n DEVICE=+net\n",
    "not a record",
    "3,340,5000000,-;\\x1b[2J odd\n",
  ];
  const { log, opened, look } = kernel(records);
  const asker = new Asker();
  const over = tail(log, { follow: true }, asker);
  const first = `2026-11-27T03:21:54.123Z NET: Registered protocol family 10\n${line("\\x1b[2J odd")}`;
  await eventually("what is there", () => asker.seen === first);
  records.push("4,400,5000000,-;after the flood\n");
  look();
  await eventually(
    "what comes",
    () => asker.seen === `${first}[walt: 59 lines left out]\n${line("after the flood")}`,
  );
  asker.leave();
  await eventually("the end", over);
  expect(opened()).toBe(0);
  const last = new Asker();
  await tail(log, { lines: 1, follow: false }, last);
  expect(last.seen).toBe(line("after the flood"));
  expect(opened()).toBe(0);
});

test("the kernel's log goes on behind a place, however much of it is there already", async () => {
  const records = Array.from({ length: 1000 }, (_, i) => `6,${i},5000000,-;${i}\n`);
  const [, place] = await read(kernel(records).log);
  const more = [...records, "6,1000,5000000,-;new\n"];
  expect((await read(kernel(more).log, place))[0]).toBe(line("new"));
  expect((await read(kernel(["6,1003,5000000,-;late\n"]).log, place))[0]).toBe(
    `[walt: 3 lines left out]\n${line("late")}`,
  );
  expect((await read(kernel(["6,0,5000000,-;rebooted\n"], "0c").log, place))[0]).toBe(line("rebooted"));
});

test("a kernel that floods its log is bounded, and whoever asks gets the last of it", async () => {
  const records = Array.from({ length: 30_000 }, (_, i) => `6,${i},5000000,-;${"z".repeat(100)} ${i}\n`);
  const asker = new Asker();
  await tail(kernel(records).log, { follow: false }, asker);
  expect(asker.seen.length).toBeLessThan(3 * LINES_KEPT);
  expect(asker.seen).toEndWith(" 19999\n"); // it did not wait for the end
});

test("a kernel's log that cannot be read says why", async () => {
  const log = new KernelLog({
    open: () => {
      throw new Error("EPERM: operation not permitted");
    },
    boot: () => "",
    started: () => 0,
    wait: async () => {},
  });
  await expect(tail(log, { follow: false }, new Asker())).rejects.toThrow(
    "cannot read the kernel's log /dev/kmsg: EPERM: operation not permitted",
  );
});

test.skipIf(process.geteuid?.() !== 0 || !existsSync("/dev/kmsg"))("the kernel of this machine", async () => {
  const asker = new Asker();
  await tail(new KernelLog(), { lines: 3, follow: false }, asker);
  const lines = asker.seen.split("\n").slice(0, -1);
  expect(lines.length).toBeGreaterThan(0);
  for (const line of lines) expect(line).toMatch(/^(\d{4}-\d\d-\d\dT[\d:.]{12}Z |\[walt: )/);
});
