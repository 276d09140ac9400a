/** The supervisor's socket: JSON for commands, plain text for scripts. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DeviceStatus } from "../../src/api/device-status.ts";
import type { ApiServer } from "../../src/api/listen.ts";
import { serveStatus } from "../../src/device/status.ts";
import { createLog } from "../../src/log.ts";
import { VERSION } from "../../src/version.ts";

const STATUS: DeviceStatus = {
  stage: "enrol",
  detail: "asking…",
  lastError: null,
  nextTryIn: null,
  since: "2026-03-01T14:05:25.335Z",
  node: null,
  mac: null,
  code: "PG2WB-J9NS3",
  fingerprint: null,
  tunnel: "down",
  via: null,
  rtt: null,
  loss: null,
  traffic: null,
  vm: "off",
  usb: [],
  certificateRenewal: null,
};

let dir: string;
let api: ApiServer;
let status = STATUS;
let illness: string | undefined;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "walt-status-"));
  [status, illness] = [STATUS, undefined];
  api = await serveStatus(join(dir, "s"), { status: () => status, illness: () => illness }, createLog());
});
afterEach(async () => {
  await api.stop();
  rmSync(dir, { recursive: true });
});

const get = (path: string, method = "GET"): Promise<Response> =>
  fetch(`http://walt${path}`, { unix: join(dir, "s"), method });
const screen = async (): Promise<string> => await (await get("/v1/screen")).text();

test("the status is JSON, as it is", async () => {
  expect(await (await get("/v1/status")).json()).toEqual(STATUS);
});

test("the screen has stage, code or node, the error until all is up, and the time of the next try", async () => {
  expect(await screen()).toBe(
    "Stage    enrol: asking...\nCode     PG2WB-J9NS3   (compare it with the one in walt vpn monitor)\n",
  );
  status = { ...STATUS, node: "vpn-010203", lastError: "it broke", nextTryIn: 0 };
  expect(await screen()).toBe(
    "Stage    enrol: asking...\nNode     vpn-010203\nError    it broke\nNext try in 0 s\n",
  );
  status = { ...status, stage: "watch", nextTryIn: null };
  expect(await screen()).toBe("Stage    watch: asking...\nNode     vpn-010203\n");
});

test("the screen has the first fault that the device has found itself, until all is up", async () => {
  const head = { check: "address", of: "" };
  const fault = { ...head, is: "fault", what: "no address", evidence: "eth0", cure: "DHCP" } as const;
  const findings = [{ ...head, is: "ok", note: "" } as const, fault, { ...fault, what: "another" }];
  status = { ...STATUS, doctor: { at: STATUS.since, findings }, nextTryIn: 3 };
  expect(await screen()).toEndWith("\nDoctor   no address\nNext try in 3 s\n");
  status = { ...status, stage: "watch" };
  expect(await screen()).not.toContain("Doctor");
  status = { ...STATUS, doctor: { at: STATUS.since, findings: [] } };
  expect(await screen()).not.toContain("Doctor");
});

test("whatever is in an error, the screen has printable ASCII in few, short lines", async () => {
  status = { ...STATUS, lastError: `a\nb\u001b[2J\u202e\u009b é 🎉${"x".repeat(5000)}` };
  const text = await screen();
  expect(text).toMatch(/^[\n -~]*$/);
  expect(text.split("\n")).toHaveLength(4);
  expect(Math.max(...text.split("\n").map((line) => line.length))).toBe(300);
  expect(text).toContain("Error    a?b?[2J?? ? ??xxx");
});

test("health is ok, or the reason with a status that says so", async () => {
  const well = await get("/v1/health");
  expect([well.status, await well.text()]).toEqual([200, "ok\n"]);
  illness = "it is\nstopping";
  const ill = await get("/v1/health");
  expect([ill.status, await ill.text()]).toEqual([503, "it is?stopping\n"]);
});

test("every answer says the version", async () => {
  for (const path of ["/v1/status", "/v1/screen", "/v1/health", "/v1/other"])
    expect([path, (await get(path)).headers.get("walt-version")]).toEqual([path, VERSION]);
});

test("there is nothing else, and nothing to be changed", async () => {
  expect((await get("/v1/other")).status).toBe(404);
  expect((await get("/v1/health", "POST")).status).toBe(404);
});
