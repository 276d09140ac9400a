/** Each check of a server, on a machine that is not there. */

import { describe, expect, test } from "bun:test";
import { chownSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { faultsOf } from "../../../src/api/diagnosis.ts";
import { parseConfig } from "../../../src/config/load.ts";
import { examine } from "../../../src/doctor/examine.ts";
import { WaltError } from "../../../src/errors.ts";
import { type Looks, type RegistryFacts, serverCase } from "../../../src/server/doctor/case.ts";
import { planServer, readRegistry, SERVER_CHECKS } from "../../../src/server/doctor/examine.ts";
import type { Installed } from "../../../src/server/doctor/installed.ts";
import { MIGRATIONS } from "../../../src/server/migrations.ts";
import { Registry } from "../../../src/server/registry.ts";
import { VERSION } from "../../../src/version.ts";
import { type Fake, fakeMachine, NOW, SSHD } from "../../doctor/fake-machine.ts";

const DAY = 86_400_000;
const STATE = "/var/lib/walt-vpn";
const KEYS = Object.fromEntries(["ca", "host", "enrolment"].map((name) => [`${STATE}/keys/${name}`, "key"]));
const WELL: RegistryFacts = {
  version: MIGRATIONS.length,
  check: "ok",
  lastSerial: 7,
  newestIssue: NOW - DAY,
  devices: [{ node: "vpn-1", expires: NOW + 6 * DAY }],
};
const SHOW = "ip -j -d link show dev walt-net";
const BRIDGE = {
  ifname: "walt-net",
  flags: ["UP"],
  mtu: 1500,
  linkinfo: { info_kind: "bridge", info_data: { stp_state: 0 } },
};
const NF_CALL = { "/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n" };
const DROP = "-P FORWARD DROP\n-A FORWARD -i docker0 -j ACCEPT\n";

/** A server that was started by hand, on a machine without WalT. */
const INSTALLED: Installed = {
  parts: [],
  users: [],
  link: { path: "/usr/local/bin/walt", finding: { is: "absent" } },
  walt: undefined,
  lostPlugin: undefined,
  lostKeys: undefined,
};
const COMMAND = "/usr/local/bin/walt-vpn";
const installed = (more: Partial<Installed>) => ({ installed: () => ({ ...INSTALLED, ...more }) });

interface Setting extends Fake, Partial<Looks> {
  toml?: string;
  /** Fields of walt-net's link that differ; null: there is none. */
  bridge?: object | null;
  registryFacts?: Partial<RegistryFacts>;
}

async function look(o: Setting = {}) {
  const config = parseConfig(`role = "server"\n[server]\nmetrics = "127.0.0.1"\n${o.toml ?? ""}`, "vpn.toml");
  const machine = fakeMachine({
    ...o,
    files: {
      ...KEYS,
      [`${STATE}/registry.sqlite`]: "",
      "/proc/1/cmdline": "/sbin/init\0",
      "/proc/7/cmdline": "/usr/local/bin/walt-vpn\0server\0run\0",
      "/proc/7/limits": "Max open files            16384                16384                files\n",
      "/proc/8/cmdline": "dnsmasq\0--keep-in-foreground\0--conf-file=/run/walt-vpn/walt-net/dnsmasq.conf\0",
      "/proc/sys/fs/file-nr": "3000\t0\t100000\n",
      "/proc/self/mounts": "/dev/sda1 / ext4 rw 0 0\n",
      ...o.files,
    },
    ports: o.ports ?? { 9586: "EADDRINUSE", 8080: "EADDRINUSE" },
    talk: o.talk ?? { "::1:2222": SSHD },
    commands: {
      "ip -j -4 address": JSON.stringify([
        { ifname: "eth0", addr_info: [{ local: "192.0.2.1", prefixlen: 24 }] },
        { ifname: "walt-net", addr_info: [{ local: "192.168.192.1", prefixlen: 22 }] },
      ]),
      "ip -j -4 route": '[{"dst":"default","gateway":"192.0.2.254","dev":"eth0"}]',
      [SHOW]: o.bridge === null ? "" : JSON.stringify([{ ...BRIDGE, ...o.bridge }]),
      ...o.commands,
    },
  });
  const server = serverCase(machine, config, {
    daemonVersion: async () => VERSION,
    checkKey: () => {},
    registry: () => ({ ...WELL, ...o.registryFacts }),
    installed: () => INSTALLED,
    ...o,
  });
  return (await examine(planServer(server), { signal: new AbortController().signal, now: machine.now }))
    .findings;
}

async function faults(o: Setting): Promise<string[]> {
  const all = faultsOf({ at: "", findings: await look(o) });
  return all.map(({ check, what, evidence, cure }) => `${check}: ${what} | ${evidence} | ${cure}`);
}

const STOPPED = { daemonVersion: async () => undefined, ports: {} };
const throwing = (message: string) => () => {
  throw new WaltError(message, { hint: "the hint" });
};

const CASES: Readonly<Record<string, readonly [Setting, RegExp]>> = {
  "a command that another program has": [
    installed({ parts: [{ path: COMMAND, finding: { is: "foreign", what: "a link to /opt/walt" } }] }),
    /^installation: \S+\/walt-vpn is another program's: it is a link to \/opt\/walt \| .* \| rm \S+\/walt-vpn\. Install/,
  ],
  "parts of the installation that are missing": [
    { ...installed({ parts: [{ path: COMMAND, finding: { is: "absent" } }], users: ["x"] }), ...STOPPED },
    /^installation: parts .* missing: \S+\/walt-vpn, the user x \|/,
  ],
  "a walt-net that WalT makes, too": [
    installed({ walt: "/etc/walt/server.conf" }),
    /^beside-walt: .*walt-net is managed \| \/etc\/walt\/server\.conf is there, .* \| .*managed = false/,
  ],
  "a plug-in that WalT's upgrade has left behind": [
    installed({ lostPlugin: "/opt/walt-9.0/lib" }),
    /^plug-in: .* \| .*\/opt\/walt-9\.0\/lib.* \| .*--plugin/,
  ],
  "keys of devices that sshd does not read": [
    installed({ lostKeys: { path: "/home/walt-vpn/.ssh/authorized_keys", why: "the home is elsewhere" } }),
    /^own-proxy: .*\/home\/walt-vpn\/\S+ \| the home is elsewhere \| .*walt-vpn-devices/,
  ],
  "programs that are missing": [{ missing: ["bridge"] }, /^programs: .*bridge .* iproute2$/],
  "no iproute2": [{ missing: ["ip", "bridge"] }, /^programs: .*ip, bridge/],
  "a full disk": [{ space: { free: 0 } }, /^disk: /],
  "errors of a disk": [{ files: { "/sys/fs/ext4/sda1/errors_count": "1" } }, /^disk-errors: /],
  "no memory": [{ files: { "/proc/meminfo": "MemAvailable: 1 kB\n" } }, /^memory: /],
  "a machine without descriptors": [
    { files: { "/proc/sys/fs/file-nr": "99000\t0\t100000\n" } },
    /^descriptors: the machine .* \| 99000 of 100000/,
  ],
  "a daemon without descriptors": [
    { folders: { "/proc/7/fd": Array.from({ length: 16_000 }, String), "/proc": ["1", "7", "8"] } },
    /^descriptors: the daemon .* \| 16000 of 16384 .*\/proc\/7\/limits/,
  ],
  "too many watchers": [{ watch: "EMFILE" }, /^inotify: .*EMFILE.*max_user_instances/],
  "a clock behind the newest certificate": [
    { registryFacts: { newestIssue: NOW + DAY } },
    /^clock: the clock is at least 1 d 0 h behind/,
  ],
  "no TAP": [{ access: { "/dev/net/tun": "ENOENT" } }, /^tun: /],
  "a key that is missing": [
    { files: { [`${STATE}/keys/ca`]: undefined } },
    /^keys: keys are missing: \S+\/ca \| .* \| Restore them from a backup/,
  ],
  "a key that others can read": [
    { checkKey: throwing("it has mode 644") },
    /^keys: it has mode 644 \| mode 600 \| the hint/,
  ],
  "a key of another user": [
    { facts: { [STATE]: { uid: 998 } } },
    /^keys: \S+\/keys\/ca belongs to another user .* \| user 0, and 998 .* \| chown 998/,
  ],
  "a registry that cannot be read": [
    { registry: throwing("cannot read the registry") },
    /^registry: cannot read the registry/,
  ],
  "a registry of a newer version": [
    { registryFacts: { version: 99 } },
    /^registry: .*version 99.*Install that one/,
  ],
  "a damaged registry": [
    { registryFacts: { check: "row 3 missing" } },
    /^registry: .*damaged \| PRAGMA quick_check: row 3/,
  ],
  "a registry that is older than the keys": [
    { facts: { [`${STATE}/registry.sqlite`]: { modified: NOW - DAY } } },
    /^registry: the ca key is newer than the registry/,
  ],
  "a registry that knows fewer certificates than the keys have signed": [
    { files: { [`${STATE}/keys/serial`]: "8\n" }, registryFacts: { lastSerial: 7 } },
    /^registry: .* is older than the keys beside it: .*number 7.*number 8.* \| .* \| .*walt server restore/,
  ],
  "certificates that end soon": [
    {
      registryFacts: {
        devices: [
          { node: "vpn-1", expires: NOW + 6 * DAY },
          { node: "vpn-2", expires: NOW + DAY },
          { node: "vpn-3", expires: NOW - DAY },
        ],
      },
    },
    /^certificates: a certificate ends soon.* \| vpn-2 in 1 d 0 h \|/,
  ],
  "a network that collides": [
    {
      commands: {
        "ip -j -4 address": '[{"ifname":"eth1","addr_info":[{"local":"192.168.194.9","prefixlen":24}]}]',
      },
    },
    /^network: walt-net \(192.168.192.1\/22, on walt-net\) .* eth1 .* \| 192.168.194.9\/24 is on eth1/,
  ],
  "a route that collides": [
    { commands: { "ip -j -4 route": '[{"dst":"192.168.0.0/16","dev":"tun0"}]' } },
    /^network: .* \| 192.168.0.0\/16 is on tun0/,
  ],
  "a bridge that is gone": [{ bridge: null }, /^bridge: the daemon runs, and its bridge walt-net is gone/],
  "a bridge that nobody has made": [
    { bridge: null, toml: "[server.network]\nmanaged = false", ...STOPPED },
    /^bridge: the bridge walt-net does not exist/,
  ],
  "an interface that is no bridge": [
    { bridge: { linkinfo: { info_kind: "dummy" } } },
    /^bridge: .*but no bridge/,
  ],
  "a bridge that is down": [{ bridge: { flags: [] } }, /^bridge: the bridge walt-net is down/],
  "a bridge with a smaller MTU": [{ bridge: { mtu: 1400 } }, /^bridge: the MTU of walt-net is 1400, .* 1500/],
  "a bridge with STP": [
    { bridge: { linkinfo: { info_kind: "bridge", info_data: { stp_state: 1 } } } },
    /^bridge: the spanning tree/,
  ],
  "a firewall on the bridge": [
    { files: NF_CALL, commands: { "iptables -S FORWARD": DROP } },
    /^bridge-filter: the firewall drops frames .* \| .*bridge-nf-call-iptables is 1; -P FORWARD DROP .* \| iptables -I FORWARD/,
  ],
  "a firewall of nft on the bridge": [
    {
      files: NF_CALL,
      missing: ["iptables", "iptables-legacy"],
      commands: {
        "nft list ruleset":
          "table ip filter {\n chain FORWARD {\n type filter hook forward priority filter; policy drop;\n}}",
      },
    },
    /^bridge-filter: .*nft list ruleset/,
  ],
  "a dnsmasq that is not installed": [{ missing: ["dnsmasq"] }, /^dnsmasq: .*missing: dnsmasq/],
  "a dnsmasq that is gone": [
    { files: { "/proc/8/cmdline": "dnsmasq\0--other\0" } },
    /^dnsmasq: .*its dnsmasq does not/,
  ],
  "a port that another program has": [
    {
      ...STOPPED,
      ports: { 2222: "EADDRINUSE" },
      commands: { "ss -Hltnp sport = :2222": 'LISTEN 0 128 *:2222 *:* users:(("sshd",pid=712,fd=3))\n' },
    },
    /^port: the port \[::\]:2222 is taken \| sshd \(process 712\) listens there \| .*server.listen/,
  ],
  "a port that does not answer": [{ talk: {} }, /^port: the daemon runs, and nothing answers on its port/],
  "a port with another program behind it": [
    { talk: { "::1:2222": { is: "there", line: "HTTP/1.1", ended: true } } },
    /^port: another program than walt has the port/,
  ],
  "a port for Prometheus that is taken": [
    { ...STOPPED, ports: { 9586: "EADDRINUSE" } },
    /^other-ports: the port 127.0.0.1:9586 is taken .*server.metrics/,
  ],
  "boot files that are not served": [
    { ports: { 9586: "EADDRINUSE" } },
    /^other-ports: .*192.168.192.1:8080 \(server.network.boot_port\)/,
  ],
  "a daemon that hangs": [STOPPED, /^daemon: the daemon runs, and does not answer \| .*process 7/],
  "a daemon that is not running": [
    { ...STOPPED, files: { "/proc/7/cmdline": "sh\0" } },
    /^daemon: the daemon is not running/,
  ],
  "a daemon of another version": [
    { daemonVersion: async () => "0.0.9" },
    /^version: the daemon is walt 0.0.9/,
  ],
};

test("nothing is wrong with a server that is well", async () => {
  expect((await look()).filter((one) => one.is !== "ok")).toEqual([]);
});

describe("found first:", () => {
  for (const [name, [setting, pattern]] of Object.entries(CASES))
    test(name, async () => {
      const found = await faults(setting);
      expect(found.join("\n")).toMatch(pattern);
      // A daemon that does not run because of it is no fault of its own.
      expect(found).toHaveLength(1);
    });
});

describe("no fault:", () => {
  const rule = "-A FORWARD -i walt-net -o walt-net -j ACCEPT\n";
  const good: Readonly<Record<string, Setting>> = {
    "a firewall with a rule for the bridge": {
      files: NF_CALL,
      commands: { "iptables -S FORWARD": `${DROP}${rule}` },
    },
    "a firewall that the bridge's frames do not pass": { commands: { "iptables -S FORWARD": DROP } },
    "a bridge of another program, whose network is its own": {
      toml: "[server.network]\nmanaged = false",
      commands: { "ip -j -4 route": '[{"dst":"192.168.192.0/22","dev":"eth1"}]' },
      ports: { 9586: "EADDRINUSE" },
    },
    "a walt-net that is WalT's alone": {
      toml: "[server.network]\nmanaged = false",
      ports: { 9586: "EADDRINUSE" },
      ...installed({ walt: "/etc/walt/server.conf" }),
    },
    "a short name that is WalT's client": installed({
      link: { path: "/usr/local/bin/walt", finding: { is: "foreign", what: "a link" } },
    }),
    "a machine without IPv6": { talk: { "127.0.0.1:2222": SSHD } },
  };
  for (const [name, setting] of Object.entries(good))
    test(name, async () => expect(await faults(setting)).toEqual([]));
});

test("a daemon that may not be asked is not taken for one that does not run", async () => {
  const daemonVersion = () =>
    Promise.reject(new WaltError("no permission to use it", { cause: { code: "EACCES" } }));
  const all = await look({ daemonVersion });
  expect(all.filter((one) => one.is === "fault")).toEqual([]);
  expect(all.find(({ check }) => check === "daemon")).toMatchObject({
    is: "unknown",
    why: "no permission to use it; run `walt doctor` as root",
  });
});

test("what cannot be seen of a firewall is unknown", async () => {
  const said = async (setting: Setting): Promise<string[]> =>
    (await look(setting)).flatMap((one) => (one.is === "unknown" ? [`${one.check}: ${one.why}`] : []));
  expect((await said({ files: NF_CALL })).join()).toMatch(/^bridge-filter: .*neither iptables nor nft/);
  const closed = { "iptables -S INPUT": "-P INPUT DROP\n-A INPUT -p tcp --dport 22 -j ACCEPT\n" };
  expect((await said({ commands: closed })).join()).toMatch(/^firewall: .*no rule names port 2222/);
  const open = { "iptables -S INPUT": "-P INPUT DROP\n-A INPUT -p tcp --dport 2222 -j ACCEPT\n" };
  expect(await said({ commands: open })).toEqual([]);
});

test("the registry is read as it is, and a damaged one is refused in words", () => {
  const folder = mkdtempSync(join(tmpdir(), "walt-doctor-"));
  try {
    const path = join(folder, "registry.sqlite");
    const registry = new Registry(path);
    expect(readRegistry(path)).toEqual({
      ...{ version: MIGRATIONS.length, check: "ok", lastSerial: 0, newestIssue: undefined, devices: [] },
    });
    registry.close();
    // What SQLite makes beside it belongs to the owner of the file: else the service could not open it any more.
    if (process.geteuid?.() === 0) {
      chownSync(path, 12_345, 12_345);
      readRegistry(path);
      for (const file of readdirSync(folder))
        expect([file, statSync(join(folder, file)).uid]).toEqual([file, 12_345]);
    }
    writeFileSync(path, "x".repeat(8192));
    expect(() => readRegistry(path)).toThrow(/cannot read the registry .*not a database/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("checks have ids of their own, come after others of the list that stand before them, and are found to fail", () => {
  const ids = SERVER_CHECKS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [index, { after }] of SERVER_CHECKS.entries())
    for (const one of after) expect(ids.slice(0, index)).toContain(one);
  const tested = Object.values(CASES).map(([, pattern]) => /^\^([\w-]+):/.exec(pattern.source)?.[1]);
  expect(ids.filter((id) => !tested.includes(id))).toEqual(["firewall"]); // which only knows what it does not know
});
