/** The endpoint against ssh2's own client: who may do what, how much, and what ends whom. */

import { afterEach, expect, test } from "bun:test";
import ssh2 from "ssh2";
import { libc } from "../../src/linux/libc.ts";
import { createLog } from "../../src/log.ts";
import { Endpoint, type TunnelRequest } from "../../src/server/endpoint.ts";
import type { Device } from "../../src/server/registry.ts";
import type { Channel } from "../../src/ssh/handshake/channel.ts";
import { generateKey, type KeyPair, publicKeyLine, sameKey } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { LogLimiter } from "../../src/ssh/server/log-limiter.ts";
import { eventually } from "../lab/eventually.ts";

const [hostKey, enrolment, device, stranger] = ["host", "enrolment", "device", "stranger"].map(
  generateKey,
) as [KeyPair, KeyPair, KeyPair, KeyPair];
const DEVICE: Device = {
  id: 7,
  node: "vpn-010203",
  defaultName: "vpn-010203",
  note: "",
  mac: "52:54:00:01:02:03",
  address: null,
  boardMac: "b8:27:eb:01:02:03",
  model: "board",
  serialNumber: "1",
  publicKey: publicKeyLine(device.publicKey),
  acceptedAt: "",
  acceptedBy: "",
  revokedAt: null,
  reenrol: "no",
  certificateSerial: 1,
  certificateExpires: "",
};

let revoked = false;
const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  revoked = false;
  for (const end of cleanup.splice(0).reverse()) await end();
});

async function endpoint(
  enrolling?: number,
  tunnel = async (request: TunnelRequest, via: string): Promise<void> =>
    request.refuse(`hello tunnel ${via}`),
  enrol = async (channel: Channel, _keep: () => () => void): Promise<void> => {
    await channel.write("hello enrol\n");
  },
): Promise<Endpoint> {
  const made = await Endpoint.start({
    listen: { host: "127.0.0.1", port: 0 },
    hostKey: () => hostKey,
    log: createLog(-999),
    logLimiter: new LogLimiter(),
    identify: (key) => {
      if (sameKey(key, enrolment.publicKey)) return { kind: "enrolment" };
      return sameKey(key, device.publicKey) && !revoked ? { kind: "device", device: DEVICE } : undefined;
    },
    enrol: (channel, _from, keep) => enrol(channel, keep),
    renew: async (_device: Device, channel: Channel) => {
      void channel.write("hello renew\n");
      channel.exit(0);
    },
    tunnel: (_device, request, via) => tunnel(request, via),
    lane: async (_device, request, name) => request.refuse(`hello lane ${name}`),
    originalTunnel: async (_device, request) => request.refuse("hello original"),
    ...(enrolling === undefined ? {} : { enrolling }),
  });
  cleanup.push(() => made.stop());
  return made;
}

function connect(
  to: Endpoint,
  key: KeyPair,
  username = "walt-vpn",
  localAddress = "127.0.0.1",
): Promise<{ client: ssh2.Client; closed: Promise<void> }> {
  const client = new ssh2.Client();
  cleanup.push(() => client.destroy());
  return new Promise((resolve, reject) => {
    const closed = new Promise<void>((done) => client.on("close", () => done()));
    client.on("ready", () => resolve({ client, closed }));
    client.on("error", reject);
    client.connect({ ...to.address, localAddress, username, privateKey: encodePrivateKey(key) });
  });
}

/** What a command says on its outputs, until it says something or ends. */
function exec(client: ssh2.Client, command: string): Promise<string> {
  return new Promise((resolve, reject) => client.exec(command, said(resolve, reject)));
}

function shell(client: ssh2.Client): Promise<string> {
  return new Promise((resolve, reject) => client.shell(false, said(resolve, reject)));
}

function said(resolve: (text: string) => void, reject: (error: Error) => void): ssh2.ClientCallback {
  return (error, channel) => {
    if (error !== undefined) return reject(error);
    channel.on("data", (data: Buffer) => resolve(data.toString()));
    channel.stderr.on("data", (data: Buffer) => resolve(data.toString()));
    channel.on("close", () => resolve(""));
  };
}

test("who is who: an unknown key and another user are refused", async () => {
  const at = await endpoint();
  await expect(connect(at, stranger)).rejects.toThrow(/authentication/);
  await expect(connect(at, device, "root")).rejects.toThrow(/authentication/);
  await connect(at, device);
});

test("each key runs its own commands, and is told about others", async () => {
  const at = await endpoint();
  const { client: enrolling } = await connect(at, enrolment);
  expect(await exec(enrolling, "enrol")).toBe("hello enrol\n");
  expect(await exec(enrolling, "renew")).toMatch(/not allowed; this key may run: enrol/);
  const { client: registered } = await connect(at, device);
  expect(await exec(registered, "renew")).toBe("hello renew\n");
  expect(await exec(registered, "tunnel via=gate.example.org:22")).toBe(
    "walt: hello tunnel gate.example.org:22\r\n",
  );
  expect(await exec(registered, "enrol")).toMatch(/not allowed; this key may run: tunnel/);
  for (const bad of [
    "tunnel",
    "tunnel via=",
    "tunnel via=a b",
    "tunnel via=$(id)",
    `tunnel via=${"a".repeat(5000)}`,
  ]) {
    expect(await exec(registered, bad)).toMatch(/^walt: /);
  }
});

test("a session without a command is a tunnel in the original framing for a device, and nothing for others", async () => {
  const at = await endpoint();
  expect(await shell((await connect(at, device)).client)).toBe("walt: hello original\r\n");
  expect(await shell((await connect(at, enrolment)).client)).toMatch(
    /no shell here; this key may run: enrol/,
  );
});

test("a connection that is held for a person's answer is not ended for one more; once released it is", async () => {
  const releases: (() => void)[] = [];
  const at = await endpoint(2, undefined, async (channel, keep) => {
    releases.push(keep(), keep());
    await channel.write("waits\n");
  });
  const honest = await connect(at, enrolment);
  expect(await exec(honest.client, "enrol")).toBe("waits\n");
  const others = [await connect(at, enrolment)];
  for (let i = 0; i < 5; i++) {
    others.push(await connect(at, enrolment));
    await others[i]?.closed; // the older one of those that ask for nothing
  }
  expect(await exec(honest.client, "other")).toMatch(/is not allowed/); // it is there
  // Held twice, released once, and that one twice: it is still held.
  releases[0]?.();
  releases[0]?.();
  others.push(await connect(at, enrolment));
  await others[5]?.closed;
  expect(await exec(honest.client, "other")).toMatch(/is not allowed/);
  releases[1]?.();
  await connect(at, enrolment);
  await honest.closed;
});

test("a connection has so many sessions and no more", async () => {
  const at = await endpoint();
  const { client } = await connect(at, enrolment);
  for (let i = 0; i < 8; i++) expect(await exec(client, "enrol")).toBe("hello enrol\n");
  await expect(exec(client, "enrol")).rejects.toThrow(/Channel open failure/);
});

test("with the enrolment key only so many connections are kept: the oldest goes", async () => {
  const at = await endpoint(2);
  const first = await connect(at, enrolment);
  await connect(at, enrolment);
  const other = await connect(at, device); // not one of them
  const third = await connect(at, enrolment);
  await first.closed;
  expect(await exec(third.client, "enrol")).toBe("hello enrol\n");
  expect(await exec(other.client, "renew")).toBe("hello renew\n");
});

test("of those with the enrolment key the oldest of the source that has most goes", async () => {
  const at = await endpoint(4);
  const honest = await connect(at, enrolment, "walt-vpn", "127.0.0.2");
  const flood: Awaited<ReturnType<typeof connect>>[] = [];
  for (let i = 0; i < 12; i++) flood.push(await connect(at, enrolment));
  await flood[8]?.closed;
  expect(await exec(honest.client, "enrol")).toBe("hello enrol\n");
});

test("a device has twelve connections, also while those that were ended take their time", async () => {
  const ended: (() => void)[] = [];
  const at = await endpoint(undefined, async (request) => {
    const over = Promise.withResolvers<void>();
    const { fd } = await request.release({ stop: () => {}, ended: over.promise });
    ended.push(() => {
      libc.close(fd);
      over.resolve();
    });
  });
  cleanup.push(() => ended.map((end) => end()));
  const { client } = await connect(at, device);
  client.exec("tunnel via=gate.example.org:22", () => {});
  await eventually("the tunnel", () => ended.length === 1);
  for (let i = 0; i < 30; i++) await connect(at, device);
  // The one that takes its time, and the youngest.
  await eventually("thirteen connections at most", () => at.listener.connections, { fits: (n) => n <= 13 });
});

test("a key that was revoked runs no further command on a connection that it has, not even before that is cut off", async () => {
  const at = await endpoint();
  const { client, closed } = await connect(at, device);
  expect(await exec(client, "renew")).toBe("hello renew\n");
  revoked = true;
  const said = exec(client, "renew").catch(() => "");
  await closed;
  expect(await said).toBe("");
});

test("a device that is cut off loses all its connections, others keep theirs", async () => {
  const at = await endpoint();
  const [one, two, other] = [
    await connect(at, device),
    await connect(at, device),
    await connect(at, enrolment),
  ];
  at.stopConnections(DEVICE.id);
  await Promise.all([one.closed, two.closed]);
  expect(await exec(other.client, "enrol")).toBe("hello enrol\n");
});
