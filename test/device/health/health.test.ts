/** What the board tells of itself: from the files of a kernel that stand in a folder, and of this machine. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { MAX_ERRORS, parseReport, printReport } from "../../../src/control/report.ts";
import { readBoardFacts } from "../../../src/device/health/board-facts.ts";
import { FRESH, Health, type Known } from "../../../src/device/health/health.ts";
import { LastErrors } from "../../../src/device/health/last-errors.ts";
import { clockError } from "../../../src/linux/clock.ts";
import { VERSION } from "../../../src/version.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "walt-health-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Files of the board's kernel: a Raspberry Pi 3 B+ with Raspberry Pi's own kernel. */
const PI = {
  "proc/uptime": "93784.21 370211.02\n",
  "proc/loadavg": "0.52 0.58 0.59 1/189 4021\n",
  "proc/meminfo": "MemTotal:         927232 kB\nMemFree:          100000 kB\nMemAvailable:     612344 kB\n",
  "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
  "sys/class/thermal/thermal_zone0/temp": "99999\n",
  "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
  "sys/class/thermal/thermal_zone1/temp": "61224\n",
  "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
  "sys/fs/ext4/features/lazy_itable_init": "supported\n",
  "sys/fs/ext4/mmcblk0p3/errors_count": "2\n",
  "sys/fs/ext4/sda1/errors_count": "1\n",
  "sys/class/net/eth0/speed": "1000\n",
  "usr/share/walt/manifest.json": JSON.stringify({ recipe: "0123456789abcdef".repeat(4) }),
};

function write(files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}
const facts = (more: Partial<Parameters<typeof readBoardFacts>[0]> = {}) =>
  readBoardFacts({ board: "rpi-3-b-plus", state: root, interface: "eth0", root, ...more });

test("a Raspberry Pi's temperature, power, load, memory, disk and link", () => {
  write(PI);
  const { disk, clock, ...others } = facts();
  expect(others).toEqual({
    uptime: 93_784.21,
    load: { one: 0.52, five: 0.58, fifteen: 0.59 },
    memory: { total: 927_232 * 1024, available: 612_344 * 1024 },
    temperature: 61.224,
    power: { underVoltage: true, underVoltageBefore: true, throttled: true, throttledBefore: true },
    link: { interface: "eth0", speed: 1000 },
  });
  expect(disk.errors).toBe(3);
  expect(disk.size).toBeGreaterThanOrEqual(disk.free ?? Number.POSITIVE_INFINITY);
  expect(Object.keys(clock)).toEqual(["synchronised", "error"]);
});

test.each([
  ["0x0", false, false, false, false],
  ["1", true, false, false, false],
  ["10000", false, true, false, false],
  ["2", false, false, true, false],
  ["4", false, false, true, false],
  ["80000", false, false, false, true],
  ["f000f", true, true, true, true],
  ["nonsense", null, null, null, null],
])("the firmware's flags %s", (text, underVoltage, underVoltageBefore, throttled, throttledBefore) => {
  write({ ...PI, "sys/devices/platform/soc/soc:firmware/get_throttled": `${text}\n` });
  expect(facts().power).toEqual({ underVoltage, underVoltageBefore, throttled, throttledBefore });
});

test("a kernel without the firmware's flags tells of the voltage by its sensor; a PC's flags are no flags", () => {
  const unknown = { underVoltage: null, underVoltageBefore: null, throttled: null, throttledBefore: null };
  const { "sys/devices/platform/soc/soc:firmware/get_throttled": _, ...others } = PI;
  write({
    ...others,
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
  });
  expect(facts().power).toEqual({ ...unknown, underVoltage: true });
  write({ "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n" });
  expect(facts().power).toEqual({ ...unknown, underVoltage: false });
  write({ ...PI, "sys/class/hwmon/hwmon1/name": "other\n" });
  expect(facts({ board: "generic" }).power).toEqual(unknown);
});

test("what the kernel does not tell is null", () => {
  const nothing = facts({ state: join(root, "missing"), interface: undefined });
  const { clock, ...others } = nothing;
  expect(others).toEqual({
    temperature: null,
    power: { underVoltage: null, underVoltageBefore: null, throttled: null, throttledBefore: null },
    load: { one: null, five: null, fifteen: null },
    memory: { total: null, available: null },
    disk: { size: null, free: null, errors: null },
    link: { interface: null, speed: null },
    uptime: null,
  });
  write({ ...PI, "sys/class/net/eth0/speed": "-1\n", "proc/meminfo": "odd", "proc/uptime": "\n" });
  expect(facts().link).toEqual({ interface: "eth0", speed: null }); // the cable is out
  expect([facts().memory.total, facts().uptime]).toEqual([null, null]);
});

test("the clock: kept by something, or not", () => {
  const error = clockError();
  expect(error === null || (error !== undefined && error >= 0)).toBe(true);
});

test("the last warnings and errors are kept, with their times and without what only informs", () => {
  const last = new LastErrors(() => new Date("2026-11-27T03:21:55.123Z"));
  for (let i = 0; i < 1000; i++) last.keep({ level: i % 2 === 0 ? "warn" : "error", text: `no ${i}` });
  last.keep({ level: "error", text: "x\u001b".repeat(100_000) });
  last.keep({ level: "info", text: "all is well" });
  expect(last.errors).toHaveLength(MAX_ERRORS);
  expect(last.errors[0]).toEqual({ at: "2026-11-27T03:21:55.123Z", text: `no ${1001 - MAX_ERRORS}` });
  expect(last.errors.at(-1)?.text).toBe(`${"x?".repeat(99)}x…`);
});

const KNOWN: Omit<Known, "state"> = {
  refusal: { at: new Date("2026-11-27T03:20:00.000Z"), text: "gate:22: it does not accept our key" },
  board: "rpi-3-b-plus",
  diagnosis: {
    at: "2026-11-27T03:21:55.123Z",
    findings: [{ check: "dns", of: "", is: "fault", what: "no resolver", evidence: "", cure: "" }],
  },
  settings: { values: { mtu: 1500 }, hostKeys: ["gate:22 ssh-ed25519 AAAA"] },
  trial: { id: "0123456789abcdef", by: "root (me)", outcome: "kept", reason: "" },
  interface: "eth0",
  boardMac: "b8:27:eb:01:02:03",
  serialNumber: "10000000abcdef01",
  stage: "watch",
  detail: "everything is up",
  vm: "running",
  dhcp: { address: "192.168.152.7", name: "lab-7" },
  lastEnd: {
    kind: "killed",
    reason: "QEMU was killed (SIGKILL)",
    exitCode: null,
    signal: "SIGKILL",
    at: new Date("2026-11-27T03:21:55.123Z"),
    ran: 61_000,
  },
  usb: [{ port: "1-1.2", id: "0781:5567", name: "Cruzer" }],
  entrypoint: { proxies: [{ host: "proxy.example", port: 22 }] },
  entrypoints: [
    { proxies: [{ host: "proxy.example", port: 22 }] },
    { proxies: [{ host: "other.example", port: 22 }] },
  ],
  errors: [{ at: "2026-11-27T03:21:55.123Z", text: "tunnel: lost" }],
};

test("a report has all facts, and is gathered again only after a while", () => {
  write(PI);
  let now = 5000;
  let asked = 0;
  let stage = "watch";
  const health = new Health(
    () => {
      asked++;
      return { ...KNOWN, state: root, stage };
    },
    root,
    () => now,
  );
  now += 7000;
  const report = health.report();
  expect(JSON.parse(printReport(report))).toEqual(JSON.parse(JSON.stringify(report)));
  expect(report).toMatchObject({
    stage: "watch",
    refusal: { at: "2026-11-27T03:20:00.000Z", reason: "gate:22: it does not accept our key" },
    board: { mac: "b8:27:eb:01:02:03", serialNumber: "10000000abcdef01" },
    detail: "everything is up",
    vm: {
      state: "running",
      lastEnd: {
        at: "2026-11-27T03:21:55.123Z",
        kind: "killed",
        reason: "QEMU was killed (SIGKILL)",
        exitCode: null,
        signal: "SIGKILL",
        ran: 61,
      },
    },
    usb: KNOWN.usb,
    temperature: 61.2,
    uptime: { board: 93_784, supervisor: 7 },
    versions: { walt: VERSION, base: "0123456789ab" },
    entrypoints: { used: "proxy.example:22", others: ["other.example:22"] },
    errors: KNOWN.errors,
  });
  expect(report.versions.kernel).toMatch(/^\d+\.\d+/);
  expect(Date.parse(report.at ?? "")).toBeLessThanOrEqual(Date.now());
  stage = "tunnel";
  now += FRESH - 1;
  expect(health.report().stage).toBe("watch");
  expect(asked).toBe(1);
  now += 1;
  expect(health.report().stage).toBe("tunnel");
  expect(asked).toBe(2);
});

test("before any virtual machine has ended, and on a machine that is no card's", () => {
  write({ "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n' });
  const health = new Health(() => ({ ...KNOWN, state: root, lastEnd: undefined }), root);
  const { vm, versions } = health.report();
  expect(vm.lastEnd).toEqual(parseReport({}).vm.lastEnd);
  expect(versions.base).toBe("Debian GNU/Linux 13 (trixie)");
});

test("this machine", () => {
  const { memory, load, uptime } = new Health(() => ({ ...KNOWN, board: "generic", state: "/" })).report();
  expect(memory.total).toBeGreaterThan(memory.available ?? Number.POSITIVE_INFINITY);
  expect(load.one).toBeGreaterThanOrEqual(0);
  expect(uptime.board).toBeGreaterThan(0);
});
