/**
 * Programs that are not ours against our server on a real port: OpenSSH's clients of two Debian releases, and
 * ssh2's.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";
import { runAny } from "../../../src/linux/run.ts";
import { createLog } from "../../../src/log.ts";
import type { Channel } from "../../../src/ssh/handshake/channel.ts";
import type { Request } from "../../../src/ssh/handshake/connection.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, publicKeyLine } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../../src/ssh/keys/known-hosts.ts";
import { SshListener } from "../../../src/ssh/server/listener.ts";
import type { Peer } from "../../../src/ssh/server/peer.ts";
import { ChannelStream } from "../../../src/tunnel/transport/ssh-channel.ts";
import { need } from "../../lab/need.ts";
import { trixieSsh } from "../../lab/trixie-ssh.ts";
import { clientKey, hostKey } from "../handshake/pair.ts";
import { Held, MANY } from "./taken.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-foreign-"));
const FLOOD = 3 << 20;
const refused: string[] = [];
const fingerprints: string[] = [];
let listener: SshListener;

/** `lines`: each line comes back. `flood`: 3 MB. `status N`. No command: a tunnel that echoes. */
async function serve(peer: Peer, channel: Channel, request: Request): Promise<void> {
  if (request.kind === "subsystem") return channel.exit(1, `no subsystem ${request.name}`);
  if (request.kind === "shell") {
    peer.hold();
    const over = Promise.withResolvers<void>();
    const { fd, state } = await peer.release(channel, { stop: () => {}, ended: over.promise });
    const held = new Held(new ChannelStream(fd, state, MANY), over.resolve);
    await held.echo();
    return held.close();
  }
  const [verb, argument] = request.command.split(" ");
  if (verb === "lines") {
    for (let line = await channel.readLine(8192); line !== undefined; line = await channel.readLine(8192)) {
      await channel.write(`${line}\n`);
    }
  } else if (verb === "flood") {
    for (let sent = 0; sent < FLOOD; sent += 32_768) await channel.write(Buffer.alloc(32_768, sent >> 15));
  }
  channel.exit(Number(argument ?? 0));
}

beforeAll(async () => {
  listener = await SshListener.start({
    listen: { host: "127.0.0.1", port: 0 },
    hostKey: () => hostKey,
    log: {
      ...createLog(-999),
      warn: (_, fields) => refused.push(String(fields?.["what"] ?? fields?.["reason"])),
    },
    authorise: (_, { key, certificate }) => {
      if (certificate !== undefined) return "a certificate";
      return key.blob.equals(clientKey.publicKey.blob) ? undefined : "a stranger";
    },
    entered: ({ offer }) => fingerprints.push(offer?.kind ?? ""),
    request: (peer, channel, request) => void serve(peer, channel, request).catch(() => channel.exit(1)),
  });
  const stranger = generateKey("stranger");
  const certificate = signCertificate(generateKey("ca"), {
    ...{ publicKey: clientKey.publicKey, serial: 1n, keyId: "k", principals: ["walt-vpn"] },
    ...{ validAfter: 0, validBefore: 1e10 },
  });
  const files = {
    key: encodePrivateKey(clientKey),
    "key.pub": `${publicKeyLine(clientKey.publicKey)}\n`,
    "key-cert.pub": `${certificate}\n`,
    plain: encodePrivateKey(clientKey),
    stranger: encodePrivateKey(stranger),
    known: `${knownHostsLine("walt-server", hostKey.publicKey)}\n`,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text, { mode: 0o600 });
});
afterEach(() => {
  refused.splice(0);
});
afterAll(async () => {
  await listener?.stop();
  rmSync(dir, { recursive: true, force: true });
});

const newer = await trixieSsh();
const older = need({ programs: ["ssh"] });
const clients: [name: string, command: readonly string[] | string][] = [
  ["OpenSSH of this machine", older.skip ? older.why : ["ssh"]],
  ["OpenSSH of Debian 13", newer],
];

for (const [name, command] of clients) {
  if (typeof command === "string") {
    describe.skip(`${name} (skipped: ${command})`, () => test("all of it", () => {}));
    continue;
  }
  describe(name, () => {
    const ssh = (words: readonly string[], input = "", key = "plain") => {
      const options = [
        ...["BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "HostKeyAlias=walt-server"],
        ...[`UserKnownHostsFile=${join(dir, "known")}`, "GlobalKnownHostsFile=/dev/null"],
      ].flatMap((option) => ["-o", option]);
      const to = ["-i", join(dir, key), "-l", "walt-vpn", "-p", String(listener.address.port), "127.0.0.1"];
      const flags = words.filter((word) => word.startsWith("-"));
      const rest = words.filter((word) => !word.startsWith("-"));
      return runAny([...command, "-F", "/dev/null", ...options, ...flags, ...to, ...rest], {
        input,
        timeout: 25_000,
      });
    };

    test("a command: lines both ways, output without end, exit status", async () => {
      const text = Array.from({ length: 3000 }, (_, i) => `line ${i}\n`).join("");
      const lines = await ssh(["-T", "lines"], text);
      expect([lines.status, lines.stdout === text, lines.stderr]).toEqual([0, true, ""]);
      const flood = await ssh(["-T", "flood 7"]);
      expect([flood.status, flood.stdout.length]).toEqual([7, FLOOD]);
    });

    test("strict key exchange, and new keys whenever it wants them, before there is a tunnel", async () => {
      const { status, stdout, stderr } = await ssh(["-T", "-v", "-v", "-oRekeyLimit=256K", "flood"]);
      expect([status, stdout.length]).toEqual([0, FLOOD]);
      expect(stderr.match(/resetting (send|read) seqnr/g)?.length ?? 0).toBeGreaterThanOrEqual(4);
      expect(stderr.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0).toBeGreaterThanOrEqual(2);
    });

    test("a session without a command is released, and goes on elsewhere", async () => {
      const { status, stdout, stderr } = await ssh(["-T"], "hello tunnel\n".repeat(10_000));
      expect(stderr).toBe("");
      // What the server has not sent back when the client's input ends is lost: its end is the channel's.
      expect(status).toBe(0);
      expect(stdout).toStartWith("hello tunnel\n");
    });

    test("a stranger's key and a certificate are refused, each with its reason", async () => {
      expect((await ssh(["-T", "lines"], "", "stranger")).stderr).toMatch(/Permission denied \(publickey\)/);
      expect(refused.splice(0)).toEqual(["a stranger"]);
      // A certificate that is named comes first, and the plain key then.
      const certificate = `-oCertificateFile=${join(dir, "key-cert.pub")}`;
      expect((await ssh(["-T", certificate, "status"])).status).toBe(0);
      expect(refused).toEqual(["a certificate"]);
    });

    test("forwarding, listeners, agent, terminal and subsystems are refused, and the session goes on", async () => {
      const forward = await ssh(["-T", "-W127.0.0.1:22"]);
      expect(forward.stderr).toMatch(/administratively prohibited: nothing is forwarded here/);
      expect(refused.splice(0)).toEqual(["forwarding to 127.0.0.1:22"]);
      const listen = await ssh(["-T", "-R0:127.0.0.1:22", "status"]);
      expect(listen.status).toBe(0);
      expect(refused.splice(0)).toContain("global request tcpip-forward");
      const terminal = await ssh(["-tt", "status"]);
      expect(terminal.stderr).toMatch(/PTY allocation request failed/);
      expect(refused.splice(0)).toContain("a terminal");
      const sftp = await ssh(["-T", "-s", "sftp"]);
      expect([sftp.status, sftp.stderr]).toEqual([1, "walt: no subsystem sftp\r\n"]);
    });
  });
}

describe("ssh2's client", () => {
  const open = (): Promise<ssh2.Client> =>
    new Promise((resolve, reject) => {
      const client = new ssh2.Client();
      client.on("ready", () => resolve(client)).on("error", reject);
      client.connect({ ...listener.address, username: "walt-vpn", privateKey: encodePrivateKey(clientKey) });
    });
  /** What a command says until its end, and how that was. */
  const exec = (
    client: ssh2.Client,
    command: string,
    input = "",
  ): Promise<[length: number, status: number]> =>
    new Promise((resolve, reject) => {
      client.exec(command, (error, channel) => {
        if (error !== undefined) return reject(error);
        let length = 0;
        let status = -1;
        channel.on("data", (bytes: Buffer) => (length += bytes.length));
        channel.on("exit", (code: number) => (status = code));
        channel.on("close", () => resolve([length, status]));
        channel.end(input);
      });
    });

  test("several commands at once on one connection, one after the other for long", async () => {
    const client = await open();
    const text = "line\n".repeat(20_000);
    const together = [exec(client, "flood 3"), exec(client, "lines", text), exec(client, "status 5")];
    expect(await Promise.all(together)).toEqual([
      [FLOOD, 3],
      [text.length, 0],
      [0, 5],
    ]);
    for (let i = 0; i < 20; i++) expect(await exec(client, `status ${i}`)).toEqual([0, i]);
    client.end();
  });
});
