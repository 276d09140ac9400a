/** Our command lines, authorized_keys and explanations against the real ssh and sshd. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { authorizedKeys } from "../../../src/ssh/keys/authorized-keys.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../../src/ssh/keys/known-hosts.ts";
import {
  CONNECTED,
  explainSshFailure,
  type ProxyArguments,
  proxyArguments,
} from "../../../src/ssh/openssh/arguments.ts";
import type { Host } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";
import { type Sshd, startSshd } from "../../lab/sshd.ts";

const ca = generateKey("ca");
const enrolment = generateKey("enrolment");
const device = generateKey("device");
const seconds = Math.floor(Date.now() / 1000);

function certificate(by: KeyPair, more: { principals?: string[]; validBefore?: number } = {}): string {
  return signCertificate(by, {
    ...{ publicKey: device.publicKey, serial: 1n, keyId: "vpn-010203", principals: ["walt-vpn"] },
    ...{ validAfter: seconds - 3600, validBefore: seconds + 3600 },
    ...more,
  });
}

/** Reads one line from the next hop through the forwarded port, while ssh runs. */
const FETCH = 'exec 3<>/dev/tcp/127.0.0.1/$0; read -r line <&3; echo "got $line"';

describeWith([LAB, { programs: ["ssh", "sshd", "bash", "useradd"] }], "with OpenSSH", () => {
  let lab: Lab;
  let host: Host;
  let sshd: Sshd;
  const file = (name: string) => join(host.dir, name);

  beforeAll(async () => {
    lab = await Lab.create();
    host = await lab.host("proxy");
    sshd = await startSshd(host, { extraConfig: "LogLevel VERBOSE", patient: true });
    await host.must(["useradd", "-m", "-p", "*", "-s", "/bin/sh", "walt-vpn"]);
    const lines = authorizedKeys({
      cas: [ca.publicKey],
      enrolments: [enrolment.publicKey],
      next: { host: "127.0.0.1", port: 2222 },
    });
    host.writeFile("/home/walt-vpn/.ssh/authorized_keys", lines);
    const write = (name: string, text: string) => writeFileSync(file(name), text, { mode: 0o600 });
    write("device_key", encodePrivateKey(device));
    write("enrolment_key", encodePrivateKey(enrolment));
    write("other key 100%", encodePrivateKey(generateKey("other")));
    write("good", certificate(ca));
    write("expired", certificate(ca, { validBefore: seconds - 1 }));
    write("principal", certificate(ca, { principals: ["root"] }));
    write("evil", certificate(generateKey("evil")));
    write("known_hosts", sshd.hostKeys.map((key) => `${knownHostsLine("proxy:22", key)}\n`).join(""));
    write("wrong_hosts", `${knownHostsLine("proxy:22", generateKey("wrong").publicKey)}\n`);
    // The next hop says one line to whoever connects.
    const says = host.spawn([
      "bun",
      "-e",
      'Bun.listen({ hostname: "127.0.0.1", port: 2222, socket: { open: (s) => { s.end("NEXT\\n"); }, data() {} } }); console.log("listening")',
    ]);
    await says.waitFor(/listening/);
  });
  afterAll(async () => {
    await lab?.stop();
  });

  const proxy = (more: Partial<ProxyArguments> = {}): ProxyArguments => ({
    connect: { host: "127.0.0.1", port: 22 },
    alias: "proxy:22",
    keyFiles: [file("device_key")],
    knownHosts: file("known_hosts"),
    aes: false,
    forward: { localPort: 4000, to: { host: "127.0.0.1", port: 2222 } },
    connectTimeout: 5,
    ...more,
  });

  /** Opens a connection to the proxy, has its forced command echo a line, fetches a line through it, and closes it. */
  const through = async (more: Partial<ProxyArguments>): Promise<string> => {
    const ssh = host.spawn(proxyArguments(proxy(more)));
    ssh.write("echo this\n");
    await ssh.waitFor(/echo this/);
    const fetched = await host.run(["bash", "-c", FETCH, "4000"]);
    await ssh.closeInput();
    expect(await ssh.exited).toBe(0);
    return fetched.stdout + ssh.stderr;
  };

  /** What is reported about a connection to the proxy that fails. */
  const failure = async (more: Partial<ProxyArguments>): Promise<string> => {
    const { status, stderr } = await host.run(proxyArguments(proxy(more)));
    expect(status).toBe(255);
    return explainSshFailure(stderr, "proxy:22").text;
  };

  test("a certificate, and the enrolment key, get the echo and the next hop", async () => {
    const expected = `got NEXT\n${CONNECTED}`;
    expect(await through({ certificateFiles: [file("good")] })).toBe(expected);
    expect(await through({ keyFiles: [file("enrolment_key")], aes: true })).toBe(expected);
  });

  test.each(["expired", "principal", "evil"])("certificate refused: %s", async (name) => {
    expect(await failure({ certificateFiles: [file(name)] })).toContain(
      "proxy:22: it does not accept our key",
    );
  });

  test("a device key without certificate, and a key in a file with an odd name, are refused", async () => {
    expect(await failure({})).toContain("it does not accept our key");
    expect(await failure({ keyFiles: [file("other key 100%")] })).toContain("it does not accept our key");
  });

  test("another host key is told with the fingerprint that was shown, and an unknown host is refused", async () => {
    const { stdout } = await host.run(["sh", "-c", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"]);
    const print = stdout.split(" ")[1] ?? "none";
    expect(await failure({ knownHosts: file("wrong_hosts") })).toContain(
      `its host key is not the pinned one: it shows ED25519 ${print}. Either`,
    );
    expect(await failure({ alias: "nobody:22" })).toMatch(/no (ED25519|ECDSA) host key of it is pinned/);
  });

  test("unreachable in every way", async () => {
    expect(await failure({ connect: { host: "127.0.0.1", port: 23 } })).toBe(
      "proxy:22: nothing listens on its port 23 (connection refused)",
    );
    expect(await failure({ connect: { host: "no-such-host.invalid", port: 22 } })).toContain(
      "its name cannot be resolved (",
    );
    expect(await failure({ connect: { host: "192.0.2.1", port: 22 } })).toBe(
      "proxy:22: it cannot be reached (Network is unreachable)",
    );
    expect(await failure({ connect: { host: "10.99.0.77", port: 22 }, connectTimeout: 1 })).toMatch(
      /it does not answer|No route to host/,
    );
    expect(await failure({ connect: { host: "127.0.0.1", port: 2222 } })).toMatch(
      /it closed the connection|no SSH server/,
    );
  });

  test("a local port that is taken", async () => {
    expect(
      await failure({
        certificateFiles: [file("good")],
        forward: { localPort: 2222, to: { host: "127.0.0.1", port: 2222 } },
      }),
    ).toBe("proxy:22: the local port 2222 cannot be used (Address already in use)");
  });

  test("a next hop that is not the one allowed is told, and no other port, listener or terminal is given", async () => {
    const ssh = host.spawn(
      proxyArguments(
        proxy({
          certificateFiles: [file("good")],
          forward: { localPort: 4001, to: { host: "127.0.0.1", port: 22 } },
        }),
      ),
    );
    ssh.write("up\n");
    await ssh.waitFor(/up/);
    await host.run(["bash", "-c", FETCH, "4001"]);
    await ssh.waitFor(/open failed/);
    expect(explainSshFailure(ssh.stderr, "p").text).toBe(
      "p: it does not let us through to the next hop: it was set up for another one",
    );
    await ssh.stop();
    const more = async (...options: string[]) => {
      const command = proxyArguments(proxy({ keyFiles: [file("enrolment_key")] }));
      return host.run(["ssh", ...options, ...command.slice(1).filter((word) => word !== "-T")]);
    };
    for (const listen of ["8080:127.0.0.1:22", "*:8080:127.0.0.1:22", "127.0.0.1:1:127.0.0.1:22"]) {
      expect((await more("-R", listen)).stderr).toContain("remote port forwarding failed");
    }
    expect((await more("-t", "-t")).stderr).toContain("PTY allocation request failed");
  });

  test("any command is the forced one", async () => {
    const command = [
      ...proxyArguments(proxy({ certificateFiles: [file("good")] })),
      "id; touch /home/walt-vpn/x",
    ];
    const { stdout } = await host.run(command, { input: "only an echo\n" });
    expect(stdout).toBe("only an echo\n");
    expect((await host.run(["test", "-e", "/home/walt-vpn/x"])).status).toBe(1);
  });

  test("its host keys can be scanned, and pinned as they are", async () => {
    const source = `
      import { scanHostKeys } from "${join(import.meta.dir, "../../../src/ssh/keys/known-hosts.ts")}";
      console.log(JSON.stringify(await scanHostKeys({ host: "127.0.0.1", port: 22 })));
      console.log(await scanHostKeys({ host: "127.0.0.1", port: 23 }).catch(String));
      console.log(await scanHostKeys({ host: "127.0.0.1", port: 2222 }).catch(String));
      console.log(await scanHostKeys({ host: "no-such-host.invalid", port: 22 }).catch(String));`;
    const lines = (await host.must([process.execPath, "-e", source])).split("\n");
    expect(JSON.parse(lines[0] ?? "")).toEqual([...sshd.hostKeys].sort());
    expect(lines[1]).toBe("WaltError: cannot get the host keys of 127.0.0.1:23: no SSH server answered");
    expect(lines[2]).toStartWith("WaltError: cannot get the host keys of 127.0.0.1:2222: ");
    expect(lines[3]).toContain("no-such-host.invalid");
  });

  test("a file that ssh cannot be told about is an error", () => {
    for (const bad of ['a"b', "a\\b", "$HOME", "~/x", "a\nb"]) {
      expect(() => proxyArguments(proxy({ keyFiles: [bad] }))).toThrow(/cannot be given to ssh/);
    }
    rmSync(file("evil"));
  });
});

test("known_hosts lines: a name or key that means something else there is refused", () => {
  const key = generateKey("x").publicKey;
  expect(knownHostsLine("[::1]:22", key)).toBe(`[::1]:22 ssh-ed25519 ${key.blob.toString("base64")}`);
  for (const name of ["", "*", "a,b", "!a", "@revoked", "|1|x", "#a", "a b", "a\nb", "a?"]) {
    expect(() => knownHostsLine(name, key)).toThrow(/cannot stand in known_hosts/);
  }
  for (const bad of ["", "ssh-ed25519", "ssh-ed25519 AAAA\nb", "a b", `ssh-ed25519 ${"A".repeat(1 << 20)}`]) {
    expect(() => knownHostsLine("a", bad)).toThrow(/malformed/);
  }
});

test("silence and nonsense from ssh is told as such, and safely", () => {
  expect(explainSshFailure("", "p").text).toBe("p: ssh ended without a word");
  expect(explainSshFailure("a\r\n\u001b[31mred\r\n\n", "p").text).toBe("p: ?[31mred");
  expect(explainSshFailure("x".repeat(1 << 20), "p").text.length).toBeLessThan(300);
});
