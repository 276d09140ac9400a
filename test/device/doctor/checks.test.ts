/**
 * Each check of a device, on a machine that is not there: what it finds, and that it finds nothing where
 * all is well.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Finding, faultsOf } from "../../../src/api/diagnosis.ts";
import { parseConfig } from "../../../src/config/load.ts";
import type { Attempt } from "../../../src/device/doctor/attempt.ts";
import { deviceCase, type Trials } from "../../../src/device/doctor/case.ts";
import { DEVICE_CHECKS, planDevice } from "../../../src/device/doctor/examine.ts";
import { deviceFiles } from "../../../src/device/files.ts";
import { examine } from "../../../src/doctor/examine.ts";
import type { Talk } from "../../../src/doctor/machine.ts";
import type { EndKind } from "../../../src/end.ts";
import { WaltError } from "../../../src/errors.ts";
import { signCertificate, VPN_PRINCIPAL } from "../../../src/ssh/keys/certificate.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { type Fake, fakeMachine, NOW, SSHD } from "../../doctor/fake-machine.ts";

const WAY = "gate.example.org:22";
const ETH0 = {
  ifname: "eth0",
  link_type: "ether",
  address: "b8:27:eb:01:02:03",
  flags: ["UP", "LOWER_UP"],
  addr_info: [{ family: "inet", scope: "global", local: "192.0.2.5" }],
};
const CA = generateKey("ca");
const certificate = (validAfter: number, validBefore: number): string =>
  signCertificate(CA, {
    ...{
      publicKey: generateKey("device").publicKey,
      serial: 1n,
      keyId: "vpn-1",
      principals: [VPN_PRINCIPAL],
    },
    ...{ validAfter: Math.floor(validAfter / 1000), validBefore: Math.floor(validBefore / 1000) },
  });
const DAY = 86_400_000;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "walt-doctor-"));
  for (const file of ["known_hosts", "enrolment_key"]) writeFileSync(join(folder, file), "x\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Setting extends Fake, Partial<Trials> {
  /** Lines of vpn.toml's table [device]. */
  toml?: string;
  /** The value of device.entrypoint. */
  entrypoint?: string;
  /** The line that names the server. */
  server?: string;
  hostKeys?: readonly string[];
  links?: readonly object[];
  scope?: "all" | "connection";
}

/**
 * All findings of a device that is well, but for what is told. KNOWN_HOSTS stands for the path of that
 * file.
 */
async function findings(o: Setting = {}): Promise<Finding[]> {
  const { KNOWN_HOSTS: known, ...more } = o.files ?? {};
  const file = join(folder, "vpn.toml");
  const toml = `entrypoint = ${o.entrypoint ?? '"gate.example.org"'}\n${o.server ?? 'server = "walt.example:2222"'}\n${o.toml ?? ""}`;
  const config = parseConfig(`role = "device"\n[device]\n${toml}`, file);
  const files = deviceFiles(config);
  const machine = fakeMachine({
    ...o,
    names: o.names ?? { "gate.example.org": ["198.51.100.7"] },
    talk: o.talk ?? { "198.51.100.7:22": SSHD },
    files: {
      [files.knownHosts]: `${WAY} ssh-ed25519 AAAA\nwalt-server ssh-ed25519 AAAA\n`,
      [files.credentials]: "{}",
      [files.certificate]: certificate(NOW - DAY, NOW + DAY),
      "/proc/self/mounts": "/dev/root / squashfs ro 0 0\n/dev/mmcblk0p3 /var/lib/walt-vpn ext4 rw 0 0\n",
      "/var/lib/walt-vpn/device_key": "",
      "/etc/resolv.conf": "nameserver 192.0.2.1\n",
      ...more,
      ...(known === undefined ? {} : { [files.knownHosts]: known }),
    },
    commands: {
      "ip -j address": JSON.stringify(o.links ?? [ETH0]),
      "ip -j route show default": '[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"}]',
      "ip -j route get 198.51.100.7": '[{"dst":"198.51.100.7","gateway":"192.0.2.1","dev":"eth0"}]',
      "ip -j route get 192.0.2.1": '[{"dst":"192.0.2.1","dev":"eth0"}]',
      "ping -c 1 -W 1 192.0.2.1": "",
      "ip -j link show dev walt-br": '[{"ifname":"walt-br","flags":["BROADCAST","UP"]}]',
      ...o.commands,
    },
  });
  const device = deviceCase(machine, config, files, o.hostKeys ?? [], {
    attempt: async () => ({ is: "in" }),
    kvm: async () => undefined,
    checkVm: () => {},
    isRunning: async () => true,
    ...o,
  });
  const options = { signal: new AbortController().signal, now: machine.now };
  return (await examine(planDevice(device, o.scope ?? "all"), options)).findings;
}

/** The faults of a device: the check of each, and all that it says. */
async function faults(o: Setting): Promise<string[]> {
  const all = faultsOf({ at: "", findings: await findings(o) });
  return all.map(({ check, what, evidence, cure }) => `${check}: ${what} | ${evidence} | ${cure}`);
}

test("nothing is wrong with a device that is well", async () => {
  expect((await findings()).filter((one) => one.is !== "ok")).toEqual([]);
});

test("a device that examines itself leaves out what is not about its connection", async () => {
  const broken = { isRunning: async () => false, kvm: async () => "no", scope: "connection" } as const;
  expect(await faults(broken)).toEqual([]);
});

test("checks have ids of their own, and come after others of the list that stand before them", () => {
  const ids = DEVICE_CHECKS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [index, { after }] of DEVICE_CHECKS.entries())
    for (const one of after) expect(ids.slice(0, index)).toContain(one);
});

const failed = (at: "proxies" | "server", kind: EndKind) => ({
  attempt: async (): Promise<Attempt> => ({ is: "failed", at, end: { kind, text: "why it failed" } }),
});
const one = (talk: Talk | ((send: number) => Talk)): Setting => ({ talk: { "198.51.100.7:22": talk } });
const there = (line: string | undefined, ended = true): Setting => one({ is: "there", line, ended });
const none = (code: string): Setting => one({ is: "none", code });
const noName = { names: {}, talk: {} };
/** The bytes of a DNS answer to our question with this code. */
const answer = (code: number): Uint8Array => Buffer.from([0x57, 0x41, 0x80, code, 0, 1, 0, 0, 0, 0, 0, 0]);

const CASES: Readonly<Record<string, readonly [Setting, RegExp, ...RegExp[]]>> = {
  "a server that is not named": [
    { server: "" },
    /^files: device.server is not set, but the entrypoint .* is a proxy \| .*vpn.toml \| .*setup-node/,
  ],
  "programs that are missing": [
    { missing: ["ssh"] },
    /^programs: a program is missing: ssh .*install .*openssh-client$/,
  ],
  "no iproute2": [{ missing: ["ip"] }, /^programs: a program is missing: ip /],
  "a read-only disk": [
    {
      access: { "/var/lib/walt-vpn": "EROFS" },
      files: {
        "/proc/self/mounts": "/dev/root / squashfs ro 0 0\n/dev/sda3 /var/lib/walt-vpn ext4 ro,noatime 0 0",
      },
    },
    /^disk: .*read-only \| \/dev\/sda3 on \/var\/lib\/walt-vpn, ext4 \(ro,noatime\) \|/,
  ],
  "a full disk": [
    { space: { free: 1e6 } },
    /^disk: the disk of \/var\/lib\/walt-vpn is full \| 1.0 MB of 10.0 GB/,
  ],
  "no inodes": [{ space: { freeFiles: 3 } }, /^disk: .*no more files \| 3 of 1000/],
  "errors of a card": [
    { files: { "/sys/fs/ext4/mmcblk0p3/errors_count": "4\n", "/sys/fs/ext4/sda1/errors_count": "0\n" } },
    /^disk-errors: a disk or card has errors \| mmcblk0p3: 4 errors \(\S+\) \|/,
  ],
  "no memory": [
    { files: { "/proc/meminfo": "MemAvailable: 9000 kB\n" } },
    /^memory: .*almost no memory left \| 9.2 MB are available/,
  ],
  "a clock of 1970": [{ now: 1e9 }, /^clock: the clock is wrong \| the clock shows 1970-01-12T/],
  "a clock behind the server's": [
    { now: NOW - 3 * DAY },
    /^clock: the clock is at least 2 d 0 h behind \| .*by the server's clock the certificate is valid since/,
  ],
  "no TAP": [
    { access: { "/dev/net/tun": "ENOENT" } },
    /^tun: no TAP can be made.* \| .*ENOENT \| .*modprobe tun/,
  ],
  "no loopback": [{ ports: { 0: "EADDRNOTAVAIL" } }, /^loopback: .*127.0.0.1.* \| bind: EADDRNOTAVAIL/],
  "no supervisor": [{ isRunning: async () => false }, /^supervisor: .*not running \| .*device.sock/],
  "no bridge": [
    { commands: { "ip -j link show dev walt-br": "" } },
    /^bridge: the bridge walt-br is missing/,
  ],
  "a bridge that is down": [
    { commands: { "ip -j link show dev walt-br": '[{"ifname":"walt-br","flags":["BROADCAST"]}]' } },
    /^bridge: the bridge walt-br is down/,
  ],
  "no card": [{ links: [] }, /^card: there is no wired network card.* \| ip address shows no Ethernet card/],
  "no cable": [
    { links: [{ ...ETH0, flags: ["UP"], addr_info: [] }] },
    /^card: no network cable is plugged in \| eth0: no link, no address \|/,
  ],
  "a card alone that is wireless": [
    { folders: { "/sys/class/net/eth0": ["wireless"] } },
    /^card: there is no wired network card/,
  ],
  "a card that is not there": [{ toml: 'interface = "eth7"' }, /^card: there is no network card eth7/],
  "no address": [
    { links: [{ ...ETH0, addr_info: [] }] },
    /^address: .*no .*address yet \| eth0: link, no address \| No DHCP/,
  ],
  "two cards": [
    {
      links: [ETH0, { ...ETH0, ifname: "eth1" }],
      commands: { "ip -j route show default": "[]" },
    },
    /^address: eth0, eth1 have addresses.* \| .* \| Name the card/,
  ],
  "no route": [
    {
      commands: {
        "ip -j route get 198.51.100.7": { status: 2, stdout: "", stderr: "unreachable" },
        "ip route": "192.0.2.0/24 dev eth0\n",
      },
    },
    /^route: there is no route.* \| ip route: 192.0.2.0\/24 dev eth0 \| .*option 3/,
  ],
  "no route, and no name server that could be asked": [
    { ...noName, files: { "/etc/resolv.conf": "" }, commands: { "ip -j route show default": "" } },
    /^route: there is no route/,
  ],
  "a gateway that is off": [
    {
      commands: {
        "ping -c 1 -W 1 192.0.2.1": undefined,
        "ip -j neigh show to 192.0.2.1 dev eth0": '[{"dst":"192.0.2.1","state":["FAILED"]}]',
      },
    },
    /^gateway: the gateway 192.0.2.1 does not answer \| .*: FAILED \|/,
  ],
  "no name server": [
    { ...noName, files: { "/etc/resolv.conf": "search example\n" } },
    /^resolver: no name server is known.* \| .*names none \| .*option 6/,
  ],
  "name servers that are silent": [noName, /^resolver: no name server answers \| 192.0.2.1: no answer \|/],
  "a name that is not known": [
    { ...noName, answers: { "192.0.2.1": answer(3) } },
    /^name: proxy gate.example.org:22: its name cannot be resolved \| gate.example.org: ENOTFOUND \|/,
  ],
  "an expired certificate": [
    { files: { "/var/lib/walt-vpn/device-certificate.pub": certificate(NOW - 9 * DAY, NOW - 2 * DAY) } },
    /^certificate: the certificate expired 2 d 0 h ago \| /,
  ],
  "a damaged certificate": [
    { files: { "/var/lib/walt-vpn/device-certificate.pub": "ssh-ed25519 AAAA" } },
    /^certificate: .*device-certificate.pub/,
  ],
  "a closed port": [
    none("ECONNREFUSED"),
    /^reach: .*nothing listens on its port 22 .* \| connect: ECONNREFUSED \|/,
  ],
  "a machine that is off": [none("TIMEOUT"), /^reach: .*does not answer \(connection timed out\)/],
  "an unreachable network": [none("EHOSTUNREACH"), /^reach: .*cannot be reached \(EHOSTUNREACH\)/],
  "no SSH server": [
    there("HTTP/1.0 400 Bad Request"),
    /^ssh: .*is no SSH server \| .*"HTTP\/1.0 400 Bad Request"/,
  ],
  "an address that is shut out": [there("Not allowed at this time"), /^ssh: .*shut this address out/],
  "connections that are closed at once": [
    there(undefined),
    /^ssh: .*closes connections at once .*MaxStartups/,
  ],
  "a server that says nothing": [there(undefined, false), /^ssh: .*does not speak SSH \(timed out\)/],
  "a path that loses large packets": [
    {
      ...one((send) => ({ is: "there", line: "SSH-2.0-x", ended: send < 1000 })),
      commands: Object.fromEntries(
        [1280, 1350, 1380].map((mtu) => [`ping -c 1 -W 1 -s ${mtu - 28} 198.51.100.7`, ""]),
      ),
    },
    /^mtu: .*large ones are lost.* \| a ping of 1380 bytes passes, and none larger; .* mtu 1380`/,
  ],
  "such a path without pings": [
    one((send) => ({ is: "there", line: "SSH-2.0-x", ended: send < 1000 })),
    /^mtu: .* \| 4000 bytes in one write are lost.* mtu 1280`/,
  ],
  "no pinned key": [
    { files: { KNOWN_HOSTS: "walt-server ssh-ed25519 AAAA\n" } },
    /^pinned: no host key is pinned for gate.example.org:22 \| .*known_hosts has no such line/,
  ],
  "another host key": [
    failed("proxies", "wrong-host-key"),
    /^host-key: why it failed \| pinned in .*known_hosts/,
  ],
  "another host key of the server": [failed("server", "wrong-host-key"), /^host-key: why it failed/],
  "a key that is refused": [failed("proxies", "key-refused"), /^login: why it failed .*journalctl/],
  "a login that hangs": [failed("proxies", "silent"), /^login: why it failed/],
  "a certificate alone that is refused": [
    { attempt: async () => ({ is: "in", refused: { kind: "key-refused", text: "not ours" } }) },
    /^login: not ours \| it accepts the enrolment key, .*clocks/,
  ],
  "forwarding that is forbidden": [
    failed("server", "refused"),
    /^forward: why it failed .*walt.example:2222.*allowtcpforwarding/,
  ],
  "a proxy of WalT's own": [
    failed("proxies", "walt-proxy"),
    /^forward: why it failed \| .*ended: walt-proxy \| Use another entrypoint\. .*USER@HOST/,
  ],
  "a next hop that is down": [
    failed("server", "unreachable"),
    /^forward: why it failed .*nc -v walt.example 2222/,
  ],
  "a server that refuses the key": [
    failed("server", "key-refused"),
    /^server: the server refuses this device's key/,
  ],
  "a server that is silent": [failed("server", "silent"), /^server: why it failed/],
  "no QEMU": [
    {
      checkVm: () => {
        throw new WaltError("qemu is missing", { hint: "apt-get install qemu" });
      },
    },
    /^qemu: qemu is missing \| .* \| apt-get install qemu$/,
  ],
  "no KVM": [
    { kvm: async () => "no /dev/kvm" },
    /^kvm: the virtual machine is emulated.* \| no \/dev\/kvm \|/,
  ],
};

describe("found first, and alone:", () => {
  for (const [name, [setting, pattern]] of Object.entries(CASES)) {
    test(name, async () => {
      const found = await faults(setting);
      expect(found.join("\n")).toMatch(pattern);
      expect(found.length).toBeLessThanOrEqual(1);
    });
  }
});

describe("no fault:", () => {
  const good: Readonly<Record<string, Setting>> = {
    "a Raspberry Pi in 1970, which needs no clock": { now: 0, toml: 'board = "rpi-3-b"' },
    "a gateway that answers ARP and no ping": {
      commands: {
        "ping -c 1 -W 1 192.0.2.1": undefined,
        "ip -j neigh show to 192.0.2.1 dev eth0": '[{"dst":"192.0.2.1","state":["STALE"]}]',
      },
    },
    "a host key that was set from the lab": {
      files: { KNOWN_HOSTS: "walt-server ssh-ed25519 AAAA\n" },
      hostKeys: [`${WAY} ssh-ed25519 BBBB`],
    },
    "a peer that never closes connections": one({ is: "there", line: "SSH-2.0-x", ended: false }),
  };
  for (const [name, setting] of Object.entries(good))
    test(name, async () => expect(await faults(setting)).toEqual([]));

  test("an expired certificate that a proxy refuses is one fault, not two", async () => {
    const expired = certificate(NOW - 9 * DAY, NOW - 2 * DAY);
    const found = await faults({
      files: { "/var/lib/walt-vpn/device-certificate.pub": expired },
      attempt: async () => ({ is: "in", refused: { kind: "key-refused", text: "not ours" } }),
    });
    expect(found.map((text) => text.split(":")[0])).toEqual(["certificate"]);
  });
});

test("of several entrypoints only what is wrong with one is told of it, and each is looked at in its own way", async () => {
  const looked: string[] = [];
  const all = await findings({
    entrypoint: '["gate.example.org,inner.example:2022", "ssh://198.51.100.9:2222"]',
    files: { KNOWN_HOSTS: `${WAY} ssh-ed25519 AAAA\nwalt-server ssh-ed25519 AAAA\n` },
    talk: { "198.51.100.7:22": SSHD },
    attempt: async (entrypoint) => {
      looked.push("direct" in entrypoint ? "direct" : "proxies");
      return { is: "in" };
    },
  });
  const [chain, direct] = [`${WAY},inner.example:2022`, "ssh://198.51.100.9:2222"];
  expect(faultsOf({ at: "", findings: all }).map(({ check, of, what }) => [check, of, what])).toEqual([
    ["pinned", chain, "no host key is pinned for inner.example:2022"],
    ["reach", direct, "the server 198.51.100.9:2222: nothing listens on its port 2222 (connection refused)"],
  ]);
  expect(looked).toEqual([]); // each has a fault before its trial
});

test("a program that hangs or fails is not taken for a network that is missing", async () => {
  for (const ran of [undefined, { status: 1, stdout: "", stderr: "RTNETLINK: no buffer space" }]) {
    const all = await findings({ commands: { "ip -j address": ran } });
    expect(all.filter((one) => one.is === "fault")).toEqual([]);
    expect(all.find(({ check }) => check === "card")).toMatchObject({
      is: "unknown",
      why: expect.stringMatching(/^ip -j address (failed \(exit 1\): RTNETLINK|cannot be run)/),
    });
  }
});

test("each check is found to fail by some test", () => {
  const tested = Object.values(CASES).map(([, pattern]) => /^\^([\w-]+):/.exec(pattern.source)?.[1]);
  expect(DEVICE_CHECKS.map(({ id }) => id).filter((id) => !tested.includes(id))).toEqual([]);
});
