/** Files that others write: vpn.toml, dnsmasq's leases; and the card's os.txt, which shell scripts read, under fuzz. */

import { afterAll, expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { explainConfig, parseConfig } from "../../../src/config/load.ts";
import { osSettingsFile } from "../../../src/image/card/os-settings.ts";
import { MAC } from "../../../src/parse.ts";
import { readLeases } from "../../../src/server/net/dnsmasq.ts";
import { damage, damageText, fuzz, oneOf, refusedOr } from "../fuzz.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-fuzz-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A file that has these keys, as `walt config show` prints them. */
function toml(rows: readonly { key: string; value: string }[]): string {
  const tables = Map.groupBy(rows, ({ key }) => key.slice(0, Math.max(0, key.lastIndexOf("."))));
  return [...tables]
    .sort()
    .map(([table, keys]) => {
      const lines = keys.map(({ key, value }) => `${key.slice(key.lastIndexOf(".") + 1)} = ${value}\n`);
      return `${table === "" ? "" : `[${table}]\n`}${lines.join("")}`;
    })
    .join("");
}

const EXAMPLE = `role = "server"
[server]
listen = "[::]:2222"
address = "walt.example.org:2222"
answer_timeout = "5min"
[server.network]
bridge = "walt-net"
address = "192.168.192.1/22"
mtu = 1500
[device]
entrypoint = ["gate.example.org,inner:2022", "ssh://walt.example.org:2222"]
[device.vm]
start = false
`;

fuzz(
  "vpn.toml: a reason, or values that `config show` prints and that are read as the same",
  1500,
  (random) => {
    let text = EXAMPLE;
    for (let i = random(4); i >= 0; i--) text = damageText(text, random);
    const config = refusedOr(() => parseConfig(text, "vpn.toml"));
    if (config === undefined) return;
    const shown = explainConfig(config).map(({ key, value }) => ({ key, value }));
    const given = shown.filter(({ value }) => value !== '""');
    const again = explainConfig(parseConfig(toml(given), "vpn.toml"));
    expect(again.map(({ key, value }) => ({ key, value }))).toEqual(shown);
  },
);

fuzz(
  "os.txt: a refusal, or lines of a key and a word that a shell takes for nothing else",
  4000,
  (random) => {
    const text = (good: string): string => (random(3) === 0 ? damageText(good, random) : good);
    const some = <T>(value: T): T | undefined => (random(3) === 0 ? undefined : value);
    const file = refusedOr(() =>
      osSettingsFile({
        hostname: some(text("board-7")),
        address: some(text("192.168.1.20/24")),
        gateway: some(text("192.168.1.1")),
        dns: some([text("192.0.2.53"), text("192.0.2.54")]),
        vlan: some(oneOf(random, random(5000), -1, 1.5, Number.NaN)),
        ntp: some([text("ntp.example.org"), text("2001:db8::1"), text("fe80::1%eth0")]),
      }),
    );
    if (file !== undefined)
      expect(file).toMatch(/^((hostname|address|gateway|dns|vlan|ntp) [A-Za-z0-9.:/%-]+\n)+$/);
  },
);

fuzz("dnsmasq's leases: MAC addresses and IPv4 addresses, and nothing else", 1000, (random) => {
  const line = `1772366400 d6:12:34:01:02:03 192.168.192.${random(256)} node-7 01:d6:12:34:01:02:03\n`;
  const duid = "duid 00:01:00:01:2d:00:00:00:d6:12:34:01:02:03\n1772366400 1234 fd00::7 node-7 00:01\n";
  let text = line + oneOf(random, "", duid) + line.replace("01:02:03", "01:02:04");
  writeFileSync(join(dir, "dhcp.leases"), text);
  expect(readLeases(join(dir, "dhcp.leases")).size).toBe(2);
  for (let i = random(4); i >= 0; i--) text = damageText(text, random);
  writeFileSync(join(dir, "dhcp.leases"), random(2) === 0 ? text : damage(Buffer.from(text), random));
  for (const [mac, address] of readLeases(join(dir, "dhcp.leases"))) {
    expect(mac).toMatch(MAC);
    expect(isIPv4(address)).toBe(true);
  }
});
