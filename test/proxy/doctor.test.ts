/** Each check of a relay, on a machine that is not there. */

import { describe, expect, test } from "bun:test";
import { faultsOf } from "../../src/api/diagnosis.ts";
import { parseConfig } from "../../src/config/load.ts";
import { examine } from "../../src/doctor/examine.ts";
import { WaltError } from "../../src/errors.ts";
import { planRelay, RELAY_CHECKS, type RelayCase, relayCase } from "../../src/proxy/doctor.ts";
import { type Fake, fakeMachine, SSHD } from "../doctor/fake-machine.ts";

const KEY = "/var/lib/walt-vpn/proxy_host_key";

async function faults(o: Fake & Partial<Pick<RelayCase, "next" | "checkKey">> = {}): Promise<string[]> {
  const machine = fakeMachine({
    ...o,
    names: o.names ?? { "walt.example": ["192.0.2.9"] },
    talk: { "::1:22": SSHD, "192.0.2.9:2222": SSHD, ...o.talk },
    files: {
      [KEY]: "",
      "/proc/7/cmdline": "walt\0proxy\0run\0",
      "/proc/self/mounts": "a / ext4 rw 0 0",
      ...o.files,
    },
  });
  const relay = relayCase(machine, parseConfig('role = "proxy"', "vpn.toml"), {
    next: () => ({ host: "walt.example", port: 2222 }),
    checkKey: () => {},
    ...o,
  });
  const found = await examine(planRelay(relay), { signal: new AbortController().signal, now: machine.now });
  return faultsOf(found).map(({ check, what, evidence }) => `${check}: ${what} | ${evidence}`);
}

const STOPPED = { "/proc/7/cmdline": "sh\0" };
const throwing = (message: string) => () => {
  throw new WaltError(message);
};

const CASES: Readonly<Record<string, readonly [Parameters<typeof faults>[0], RegExp]>> = {
  "a configuration without keys": [
    { next: throwing("vpn.toml lacks proxy.ca") },
    /^settings: vpn.toml lacks proxy.ca/,
  ],
  "a full disk": [{ space: { free: 0 } }, /^disk: /],
  "errors of a disk": [{ files: { "/sys/fs/ext4/sda1/errors_count": "1" } }, /^disk-errors: /],
  "no memory": [{ files: { "/proc/meminfo": "MemAvailable: 1 kB\n" } }, /^memory: /],
  "no descriptors": [{ files: { "/proc/sys/fs/file-nr": "10\t0\t10\n" } }, /^descriptors: /],
  "a clock of 1970, by which no certificate is valid": [{ now: 0 }, /^clock: the clock is wrong/],
  "a host key that others can read": [
    { checkKey: throwing("it has mode 644") },
    /^keys: it has mode 644 \| .*host_key/,
  ],
  "a port that another program has": [{ files: STOPPED, ports: { 22: "EADDRINUSE" } }, /^port: .*taken/],
  "a relay that is not running": [{ files: STOPPED }, /^relay: the relay is not running/],
  "a next hop without an address": [{ names: {} }, /^name: .*walt.example, cannot be resolved \| ENOTFOUND/],
  "a next hop that is down": [
    { talk: { "192.0.2.9:2222": { is: "none", code: "ECONNREFUSED" } } },
    /^next-hop: .*walt.example:2222 cannot be reached \| connect: ECONNREFUSED/,
  ],
  "a next hop that is no SSH server": [
    { talk: { "192.0.2.9:2222": { is: "there", line: "220 mail", ended: false } } },
    /^next-hop: .*no SSH server \| .*220 mail/,
  ],
};

test("nothing is wrong with a relay that is well", async () => expect(await faults()).toEqual([]));

describe("found first, and alone:", () => {
  for (const [name, [setting, pattern]] of Object.entries(CASES))
    test(name, async () => {
      const found = await faults(setting);
      expect(found.join("\n")).toMatch(pattern);
      expect(found).toHaveLength(1);
    });
});

test("checks come after others of the list that stand before them, and each is found to fail", () => {
  const ids = RELAY_CHECKS.map(({ id }) => id);
  for (const [index, { after }] of RELAY_CHECKS.entries())
    for (const one of after) expect(ids.slice(0, index)).toContain(one);
  const tested = Object.values(CASES).map(([, pattern]) => /^\^([\w-]+):/.exec(pattern.source)?.[1]);
  expect(ids.filter((id) => !tested.includes(id))).toEqual([]);
});
