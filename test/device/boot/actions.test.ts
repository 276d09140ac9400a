/** What a device does at each step of its boot, with an ssh and an ip that are scripts, and an SSH server as its peer. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Entrypoint, formatHostPort, parseEntrypoint } from "../../../src/address.ts";
import { parseConfig } from "../../../src/config/load.ts";
import { DeviceActions, type DeviceParts } from "../../../src/device/boot/actions.ts";
import { type Action, type Event, initial, type State } from "../../../src/device/boot/state.ts";
import { type DeviceFiles, deviceFiles } from "../../../src/device/files.ts";
import { readCredentials } from "../../../src/device/identity/credentials.ts";
import { RouteFailure } from "../../../src/device/route/route-failure.ts";
import { encodeChallenge, encodeReply, type Grant, parseRequest } from "../../../src/enrolment/messages.ts";
import type { Log } from "../../../src/log.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey, parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../../src/ssh/keys/known-hosts.ts";
import { eventually } from "../../lab/eventually.ts";
import { isAlive } from "../../lab/proc.ts";
import { ECHO, FakeSsh } from "../route/fake-ssh.ts";
import { SshPeer } from "../route/ssh-peer.ts";

const key = generateKey("device");
const CHALLENGE = Buffer.alloc(32, 7);
const identity = { model: "Raspberry Pi 3 Model B Plus", serialNumber: "00000000deadbeef" };
const ETH = { ifname: "eth7", link_type: "ether", address: "b8:27:eb:01:02:03", flags: ["UP", "LOWER_UP"] };
const GATE = "gate.example.org:22";
const OTHER = "other.example.org:22";

const grant = (serial: bigint, renewAfter = 3600): Grant => {
  const validity = { validAfter: 0, validBefore: 2_000_000_000 };
  const content = { serial, keyId: "vpn-010203", principals: ["walt-vpn"], ...validity };
  const line = signCertificate(generateKey("ca"), { publicKey: key.publicKey, ...content });
  const certificate = line.split(" ").slice(0, 2).join(" ");
  return { node: "vpn-010203", mac: "52:54:00:01:02:03", certificate, renewAfter };
};

let ssh: FakeSsh;
let files: DeviceFiles;
let stop: AbortController;
let entrypoints: Entrypoint[] = [];
let device: DeviceActions;
/** Message and fields of each line of the log. */
let lines: string[];
/** Events that came while an action went on. */
let told: Event[];
let peer: SshPeer;

beforeEach(async () => {
  ssh = new FakeSsh();
  stop = new AbortController();
  lines = [];
  told = [];
  peer = await SshPeer.start(key);
  for (const alias of [GATE, OTHER]) ssh.plays(alias, ECHO);
  ssh.program(
    "ip",
    `cd '${ssh.dir}'
case "$*" in
monitor*) exec sleep 600 ;;
-batch*) cat >>batch; [ ! -e broken ] || { echo 'RTNETLINK answers: Operation not permitted' >&2; exit 2; } ;;
*address*) cat addresses ;;
*) echo '[]' ;;
esac`,
  );
  addresses([{ ...ETH, addr_info: [{ scope: "global", local: "192.0.2.7" }] }]);
  make();
});
afterEach(async () => {
  stop.abort();
  await device.stop();
  await device.prerequisites.stop();
  await peer[Symbol.asyncDispose]();
  ssh[Symbol.dispose]();
});

function addresses(list: readonly unknown[]): void {
  writeFileSync(join(ssh.dir, "addresses"), JSON.stringify(list));
}

/** A device with this in its walt.toml, not accepted yet. */
function make(toml = ""): void {
  const folder = join(ssh.dir, "device");
  mkdirSync(folder, { recursive: true });
  const config = parseConfig(
    `role = "device"\n[device]\nserver = "walt.example.org"\nstate = "${folder}"\nrun = "${folder}"\n${toml}\n`,
    join(folder, "walt.toml"),
  );
  files = deviceFiles(config);
  writeFileSync(files.deviceKey, encodePrivateKey(key), { mode: 0o600 });
  writeFileSync(files.knownHosts, `${knownHostsLine("walt-server", peer.hostKey.publicKey)}\n`);
  writeFileSync(files.enrolmentKey, encodePrivateKey(generateKey("enrolment")));
  const add = (text: string, fields = {}): void => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log: Log = { debug() {}, info: add, warn: add, error: add, with: () => log };
  entrypoints = [GATE, OTHER, `ssh://${formatHostPort(peer.address)}`].map(parseEntrypoint);
  const parts: DeviceParts = {
    ...{ config, files, key, identity, log, signal: stop.signal },
    hostKeys: [],
    tunnelUp() {},
    orders: () => Promise.resolve(),
  };
  device = new DeviceActions(parts, undefined);
  device.trustServerKeys();
}

/** Do one thing; its outcome. `entrypoint` is 0 for one proxy, 1 for another, 2 for the peer itself. */
function perform(action: Action, entrypoint = 0): Promise<Event> {
  const first = initial({ credentials: false, vm: false, entrypoints });
  const state: State = { ...first, action, entrypoint };
  return device.perform(state, (event) => told.push(event));
}

/** What the server says to a command by ssh: lines, after it read one where it greeted with a challenge. */
function serverSays(...replies: string[]): void {
  const file = join(ssh.dir, "replies");
  writeFileSync(file, replies.join(""));
  const challenge = encodeChallenge(CHALLENGE).trim();
  ssh.plays(
    "walt-server",
    `for command; do :; done
if [ "$command" = enrol ]; then echo '${challenge}'; head -n 1 >'${ssh.dir}/request'; fi
cat '${file}'`,
  );
}

const granted = (given: Grant): string => encodeReply({ type: "granted", ...given });
const OPEN: Action = { do: "open-proxies", key: "enrolment" };
const lastCall = () => ssh.calls.at(-1);

describe("the network", () => {
  test("is the interface with an address; the log tells it once", async () => {
    for (let i = 0; i < 2; i++) expect(await perform({ do: "find-network" })).toEqual({ type: "network" });
    expect(lines).toEqual([
      'network {"event":"network","interface":"eth7","address":"192.0.2.7","mac":"b8:27:eb:01:02:03"}',
    ]);
    expect(told).toEqual([]);
  });

  test("is waited for, and why is told", async () => {
    addresses([{ ...ETH, addr_info: [] }]);
    const finding = perform({ do: "find-network" });
    await eventually("the reason", () => told[0]);
    addresses([{ ...ETH, addr_info: [{ scope: "global", local: "192.0.2.7" }] }]);
    expect(await finding).toEqual({ type: "network" });
    expect(told).toEqual([{ type: "no-network", why: "no wired network card has an address yet" }]);
  });

  test("is no longer waited for once the device is to stop", async () => {
    addresses([]);
    const finding = perform({ do: "find-network" });
    await eventually("the reason", () => told[0]);
    stop.abort();
    await expect(finding).rejects.toThrow(/abort/);
  });
});

describe("the proxies", () => {
  test("are connected to with the enrolment key, or with the device's own and its certificate", async () => {
    expect(await perform(OPEN)).toEqual({ type: "proxies-open" });
    expect(device.proxiesAlive()).toBe(true);
    expect(lastCall()?.options).toMatchObject({
      HostKeyAlias: GATE,
      IdentityFile: files.trustedEnrolmentKeys[0],
    });
    expect(lastCall()?.options).not.toHaveProperty("CertificateFile");
    expect(lastCall()?.forward?.to).toBe("walt.example.org:2222");
    await perform({ do: "open-proxies", key: "device" });
    expect(lastCall()?.options).toMatchObject({
      IdentityFile: files.deviceKey,
      CertificateFile: files.certificate,
    });
  });

  test("of a server of WalT's original VPN know no certificates", async () => {
    make('framing = "original"');
    await perform({ do: "open-proxies", key: "device" });
    expect(lastCall()?.options).not.toHaveProperty("CertificateFile");
    await perform({ do: "find-network" });
    expect(device.node).toEqual({ node: "vpn-010203", mac: "52:54:00:01:02:03" });
    expect(device.renewal).toBeUndefined();
  });

  test("of another entrypoint take the place of the ones before", async () => {
    await perform(OPEN);
    await perform(OPEN, 1);
    expect(ssh.calls.map(({ options }) => options["HostKeyAlias"])).toEqual([GATE, OTHER]);
    expect(ssh.calls.map(({ pid }) => isAlive(pid))).toEqual([false, true]);
  });

  test("that refuse are a failure, and there are none then", async () => {
    ssh.plays(GATE, "echo 'walt-vpn@gate: Permission denied (publickey).' >&2; exit 255");
    await expect(perform(OPEN)).rejects.toThrow(`proxy ${GATE}: it does not accept our key`);
    expect(device.proxiesAlive()).toBe(false);
  });
});

describe("asking for access", () => {
  test("sends what the board is; what is granted is on the disk, and is the node from then on", async () => {
    await perform({ do: "find-network" });
    await perform(OPEN);
    serverSays(encodeReply({ type: "pending" }), granted(grant(1n)));
    expect(await perform({ do: "ask" })).toEqual({ type: "granted" });
    expect(lastCall()).toMatchObject({
      command: "enrol",
      options: { HostKeyAlias: "walt-server", IdentityFile: files.trustedEnrolmentKeys[0] },
    });
    const request = parseRequest(readFileSync(join(ssh.dir, "request"), "utf8").trim(), CHALLENGE);
    expect(request).toMatchObject({ ...identity, mac: ETH.address });
    expect(told).toEqual([{ type: "pending", code: expect.stringMatching(/^[0-9A-Z]{5}-[0-9A-Z]{5}$/) }]);
    expect(device.node).toMatchObject({ node: "vpn-010203", mac: "52:54:00:01:02:03" });
    expect(readCredentials(files, key.publicKey, (why) => lines.push(why))).toEqual(device.credentials);
    const inMs = Date.parse(device.renewal ?? "") - Date.now();
    expect(inMs).toBeWithin(3_500_000, 3_600_001);
  });

  test("may be denied, over proxies that stay; who asks is logged once", async () => {
    await perform(OPEN);
    const denial = { reason: "operator", message: "the operator denied this device", retryAfter: 7 } as const;
    serverSays(encodeReply({ type: "denied", ...denial }));
    for (let i = 0; i < 2; i++)
      expect(await perform({ do: "ask" })).toMatchObject({ type: "denied", denial, proxies: true });
    expect(device.node).toBeUndefined();
    expect(existsSync(files.credentials)).toBe(false);
    expect(lines.filter((line) => line.startsWith("this device asks for access"))).toHaveLength(1);
  });

  test("needs a route to the server", async () => {
    await expect(perform({ do: "ask" })).rejects.toThrow("the proxies are not connected");
  });
});

test("forgetting: nothing of the old key is left, and the next request is with a new one", async () => {
  await perform({ do: "find-network" });
  await perform(OPEN);
  serverSays(granted(grant(1n)));
  await perform({ do: "ask" });
  const revoked = { reason: "revoked", message: "revoked", retryAfter: 1, forget: true } as const;
  serverSays(encodeReply({ type: "denied", ...revoked }));
  expect(await perform({ do: "ask" })).toMatchObject({ type: "denied", denial: { forget: true } });
  expect(await perform({ do: "forget", retryAfter: 1 })).toEqual({ type: "forgotten", proxies: true });
  for (const file of [files.credentials, files.certificate]) expect(existsSync(file)).toBe(false);
  expect([device.node, device.renewal]).toEqual([undefined, undefined]);
  expect(lines.at(-1)).toContain("key-forgotten");
  serverSays(encodeReply({ type: "denied", ...revoked, forget: undefined }));
  await perform({ do: "ask" });
  const request = parseRequest(readFileSync(join(ssh.dir, "request"), "utf8").trim(), CHALLENGE);
  expect(request.publicKey.blob).toEqual(device.key.publicKey.blob);
  expect(request.publicKey.blob).not.toEqual(key.publicKey.blob);
  expect(parsePrivateKey(readFileSync(files.deviceKey, "utf8"), "x").publicKey.blob).toEqual(
    device.key.publicKey.blob,
  );
});

describe("renewing the certificate", () => {
  test("is done with the device's own key, and the new one is on the disk", async () => {
    await perform(OPEN);
    serverSays(granted(grant(1n)));
    await perform({ do: "ask" });
    const next = grant(2n, 7200);
    serverSays(granted(next));
    expect(await perform({ do: "renew" })).toEqual({
      type: "renewed",
      clocks: expect.stringMatching(
        /^1970-01-01T01:00:00.000Z by the server's clock, 20.*Z by this device's$/,
      ),
    });
    expect(lastCall()).toMatchObject({ command: "renew", options: { IdentityFile: files.deviceKey } });
    expect(readFileSync(files.certificate, "utf8")).toBe(`${next.certificate}\n`);
    expect(device.credentials?.renewAfter).toBe(7200);
    expect(Date.parse(device.renewal ?? "") - Date.now()).toBeWithin(7_100_000, 7_200_001);
  });

  test("that fails leaves what there was", async () => {
    await perform(OPEN);
    const first = grant(1n);
    serverSays(granted(first));
    await perform({ do: "ask" });
    serverSays(granted({ ...grant(2n), node: "vpn-ffffff" }));
    await expect(perform({ do: "renew" })).rejects.toThrow(
      "the server sent a certificate of node vpn-ffffff",
    );
    expect(readFileSync(files.certificate, "utf8")).toBe(`${first.certificate}\n`);
  });

  test("without credentials is a mistake", async () => {
    await perform(OPEN);
    await expect(perform({ do: "renew" })).rejects.toThrow("no credentials");
  });
});

describe("the tunnel", () => {
  // With a TAP and frames it needs root: test/integration/. Here it ends before there is one.
  const dead = { type: "tunnel-ended", up: 0 } as const;

  test("that does not come about tells why, and that the proxies are still there", async () => {
    await perform(OPEN);
    expect(await perform({ do: "tunnel" })).toMatchObject({
      ...dead,
      end: { kind: "unreachable", text: expect.stringContaining("the server walt.example.org:2222") },
      proxies: true,
    });
    expect(device.traffic).toBeUndefined();
  });

  test("with a key that the server does not know", async () => {
    await using strict = await SshPeer.start(generateKey("another"));
    writeFileSync(files.knownHosts, `${knownHostsLine("walt-server", strict.hostKey.publicKey)}\n`);
    device.trustServerKeys();
    entrypoints = [parseEntrypoint(`ssh://${formatHostPort(strict.address)}`)];
    await perform(OPEN);
    expect(await perform({ do: "tunnel" })).toMatchObject({ ...dead, end: { kind: "key-refused" } });
  });

  test("ends with its proxies, which are the better reason", async () => {
    // The server takes the connection and says nothing; then the proxy is lost.
    ssh.plays(GATE, `trap 'echo "Connection to gate closed by remote host." >&2; exit 255' USR1\n${ECHO}`);
    await perform(OPEN);
    const port = lastCall()?.forward?.localPort ?? 0;
    using silent = Bun.listen({
      hostname: "127.0.0.1",
      port,
      socket: { data() {}, open: () => void process.kill(lastCall()?.pid ?? 0, "SIGUSR1") },
    });
    expect(silent.port).toBe(port);
    expect(await perform({ do: "tunnel" })).toEqual({
      ...dead,
      end: { kind: "closed", text: `proxy ${GATE}: it closed the connection` },
      proxies: false,
    });
  });

  test("needs a route to the server", async () => {
    await expect(perform({ do: "tunnel" })).rejects.toThrow("the proxies are not connected");
  });
});

describe("waiting", () => {
  test("keeps the proxies or closes them first, and tells for how long", async () => {
    await perform({ do: "find-network" });
    await perform(OPEN);
    const wait = (keepProxies: boolean, ms: number) => perform({ do: "wait", ms, keepProxies });
    expect(await wait(true, 10)).toEqual({ type: "waited", proxies: true, changed: false });
    expect(device.nextTryIn).toBeUndefined();
    const waiting = wait(false, 60_000);
    expect(await eventually("the time of the next try", () => device.nextTryIn)).toBeWithin(59, 73);
    expect(isAlive(ssh.calls[0]?.pid ?? 0)).toBe(false);
    stop.abort();
    expect(await waiting).toEqual({ type: "waited", proxies: false, changed: false });
    expect(device.nextTryIn).toBeUndefined();
  });
});

describe("what does not depend on the network", () => {
  test("is made early: the bridge with its pinned address, and the virtual machine's TAP", async () => {
    device.prerequisites.prepare();
    const batch = await eventually(
      "the bridge",
      () => (existsSync(join(ssh.dir, "batch")) ? readFileSync(join(ssh.dir, "batch"), "utf8") : undefined),
      {
        fits: (text) => text?.includes("link set walt-br up") === true,
      },
    );
    expect(batch).toMatch(/link add name walt-br address 02(:[0-9a-f]{2}){5} type bridge/);
    expect(batch).toContain("tuntap add dev walt-vm mode tap");
  });

  test("is tried again when it failed, and the log says why", async () => {
    writeFileSync(join(ssh.dir, "broken"), "");
    device.prerequisites.prepare();
    await eventually("the failure", () =>
      lines.find((line) => line.includes("the bridge could not be made")),
    );
    expect(lines.join()).toContain("Operation not permitted");
    const before = readFileSync(join(ssh.dir, "batch"), "utf8");
    device.prerequisites.prepare();
    await eventually(
      "a second try",
      () => readFileSync(join(ssh.dir, "batch"), "utf8").length > before.length,
    );
  });
});

test("a stop ends everything that was started, and nothing more is started", async () => {
  await perform({ do: "find-network" });
  await perform(OPEN);
  void perform({ do: "wait", ms: 60_000, keepProxies: true });
  await eventually("the wait", () => device.nextTryIn !== undefined);
  stop.abort();
  await device.stop();
  expect(ssh.calls.map(({ pid }) => isAlive(pid))).toEqual([false]);
  await expect(perform(OPEN)).rejects.toThrow("the device is being stopped");
});

test("errors of the route keep their kind", async () => {
  ssh.plays(GATE, "echo 'Host key verification failed.' >&2; exit 255");
  const error = await perform(OPEN).then(String, (reason: unknown) => reason);
  expect(error).toBeInstanceOf(RouteFailure);
  expect(error).toMatchObject({ end: { kind: "wrong-host-key" } });
});
