/** proxy-setup.sh on a machine with a real sshd, under dash and under busybox. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run, runAny } from "../../src/linux/run.ts";
import { type ProxyScriptOptions, proxySetupScript } from "../../src/proxy/script.ts";
import { authorizedKeys } from "../../src/ssh/keys/authorized-keys.ts";
import { signCertificate } from "../../src/ssh/keys/certificate.ts";
import { generateKey, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../src/ssh/keys/known-hosts.ts";
import { outerArguments } from "../../src/ssh/openssh/arguments.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";

const ca = generateKey('it\'s "quoted" $(touch /x) `id` \\');
const options: ProxyScriptOptions = {
  ca: ca.publicKey,
  enrolment: generateKey("enrolment").publicKey,
  next: { host: "server.lab", port: 2222 },
  serverCaFile: "/var/lib/walt-vpn/ca.pub",
  version: "1.2.3",
};
const script = proxySetupScript(options);

test("it is filled in: no placeholder is left, and every shell can parse it", async () => {
  expect(script).not.toMatch(/@[A-Z_]+@/);
  expect(script).toContain("(walt 1.2.3)");
  for (const shell of [["sh", "-n"], ...(Bun.which("busybox") ? [["busybox", "sh", "-n"]] : [])]) {
    await run(shell, { input: script });
  }
});

describeWith({ programs: ["shellcheck"] }, "with shellcheck", () => {
  test("it has nothing to complain of", async () => {
    // With ordinary comments in the keys: the others look like a mistake to it.
    const input = proxySetupScript({ ...options, ca: options.enrolment });
    expect((await runAny(["shellcheck", "-s", "sh", "-"], { input })).stdout).toBe("");
  });
});

test("an unknown option is an error of usage, and --help needs no root", async () => {
  const unknown = await runAny(["sh", "-s", "--", "--frobnicate"], { input: script });
  expect(unknown.status).toBe(2);
  expect(unknown.stderr).toContain("unknown option --frobnicate\nusage:");
  const help = await runAny(["sh", "-s", "--", "--help"], { input: script });
  expect(help.status).toBe(0);
  expect(help.stdout).toContain("pass through this machine to server.lab:2222");
});

const SHELLS = [["dash"], ...(existsSync("/bin/busybox") ? [["/bin/busybox", "sh"]] : [])];

for (const shell of SHELLS) {
  describeWith([LAB, { programs: ["sshd", "useradd", shell[0] ?? ""] }], `under ${shell.join(" ")}`, () => {
    let lab: Lab;
    let host: Host;
    const setup = async (...args: string[]) =>
      host.run([...shell, join(host.dir, "proxy-setup.sh"), ...args]);
    const configure = (text: string) => host.writeFile("/etc/ssh/sshd_config.d/test.conf", text);
    const stat = async (path: string) => (await host.must(["stat", "-c", "%U:%G %a", path])).trim();

    beforeAll(async () => {
      lab = await Lab.create();
      host = await lab.host("proxy");
      await startSshd(host);
      host.writeFile(join(host.dir, "proxy-setup.sh"), script, 0o755);
    });
    afterAll(() => lab?.stop());

    test("makes the account and its files, root's, with exactly the two lines", async () => {
      const { status, stdout, stderr } = await setup();
      expect(stderr).toBe("");
      expect(status).toBe(0);
      expect(stdout).toContain("made the user walt-vpn\nwrote /home/walt-vpn/.ssh/authorized_keys\n");
      expect(stdout).toContain("sshd accepts walt-vpn: devices may pass to server.lab:2222");
      expect(await stat("/home/walt-vpn")).toBe("root:root 755");
      expect(await stat("/home/walt-vpn/.ssh")).toBe("root:root 755");
      expect(await stat("/home/walt-vpn/.ssh/authorized_keys")).toBe("root:root 644");
      expect(await host.must(["cat", "/home/walt-vpn/.ssh/authorized_keys"])).toBe(authorizedKeys(options));
      expect(await host.must(["ls", "-A", "/home/walt-vpn", "/home/walt-vpn/.ssh"])).toBe(
        "/home/walt-vpn:\n.ssh\n\n/home/walt-vpn/.ssh:\nauthorized_keys\n",
      );
      expect(await host.must(["grep", "^walt-vpn:", "/etc/passwd", "/etc/shadow"])).toMatch(
        /WalT VPN:\/home\/walt-vpn:\/bin\/sh\n.*walt-vpn:\*:/,
      );
      expect((await host.run(["test", "-e", "/x"])).status).toBe(1);
    });

    test.each(["yes", "no"])(
      "the real sshd, with UsePAM %s, lets a certificate in after that",
      async (pam) => {
        const sshd = await startSshd(host, { port: 2022, extraConfig: `UsePAM ${pam}\nPidFile none\n` });
        const device = generateKey("device");
        const seconds = Math.floor(Date.now() / 1000);
        const line = signCertificate(ca, {
          ...{ publicKey: device.publicKey, serial: 1n, keyId: "k", principals: ["walt-vpn"] },
          ...{ validAfter: seconds - 60, validBefore: seconds + 600 },
        });
        const file = (name: string) => join(host.dir, name);
        host.writeFile(file("key"), encodePrivateKey(device), 0o600);
        host.writeFile(file("certificate"), line);
        host.writeFile(
          file("known_hosts"),
          sshd.hostKeys.map((key) => `${knownHostsLine("p", key)}\n`).join(""),
        );
        const command = outerArguments({
          ...{ connect: { host: "127.0.0.1", port: 2022 }, alias: "p", connectTimeout: 5, aes: false },
          ...{ keyFile: file("key"), certificateFile: file("certificate"), knownHosts: file("known_hosts") },
          forward: { localPort: 4000, to: options.next },
        });
        const { stdout, stderr } = await host.run([...command, "id"], { input: "echo\n" });
        expect({ stdout, stderr }).toEqual({ stdout: "echo\n", stderr: "" });
        await sshd.stop();
      },
    );

    test("where systemd listens for sshd and its folder is not there yet, it is made", async () => {
      await host.must(["rmdir", "/run/sshd"]);
      const { status, stderr } = await setup();
      expect(stderr).toBe("");
      expect(status).toBe(0);
      expect(await stat("/run/sshd")).toBe("root:root 755");
    });

    test("run again it changes nothing and says so", async () => {
      const { status, stdout } = await setup();
      expect(status).toBe(0);
      expect(stdout).toStartWith("unchanged: ");
    });

    test("what was changed it puts right, and says what", async () => {
      await host.must([
        "sh",
        "-c",
        "echo evil >>/home/walt-vpn/.ssh/authorized_keys; chown walt-vpn /home/walt-vpn; usermod -s /bin/bash -p '!' walt-vpn",
      ]);
      const { status, stdout } = await setup();
      expect(status).toBe(0);
      expect(stdout).toContain("updated /home/walt-vpn/.ssh/authorized_keys\n");
      expect(stdout).toContain("changed owner or mode of /home/walt-vpn\n");
      expect(stdout).toContain("changed the shell of walt-vpn");
      expect(stdout).toContain("took the password of walt-vpn away");
      expect(stdout).not.toContain("unchanged");
      expect(await host.must(["cat", "/home/walt-vpn/.ssh/authorized_keys"])).toBe(authorizedKeys(options));
      expect((await setup()).stdout).toStartWith("unchanged: ");
    });

    test("a symbolic link in the way is not followed", async () => {
      await host.must([
        "sh",
        "-c",
        "mv /home/walt-vpn/.ssh /home/walt-vpn/was; mkdir /root/trap; ln -s /root/trap /home/walt-vpn/.ssh",
      ]);
      const { status, stderr } = await setup();
      expect(status).toBe(1);
      expect(stderr).toContain("/home/walt-vpn/.ssh is a symbolic link");
      expect(await host.must(["ls", "-A", "/root/trap"])).toBe("");
      await host.must(["sh", "-c", "rm /home/walt-vpn/.ssh; mv /home/walt-vpn/was /home/walt-vpn/.ssh"]);
    });

    test.each([
      ["PubkeyAuthentication no", "PubkeyAuthentication is 'no': it should be 'yes'"],
      ["AllowTcpForwarding no", "AllowTcpForwarding is 'no': it should be 'local'"],
      ["AllowTcpForwarding remote", "AllowTcpForwarding is 'remote'"],
      ["DisableForwarding yes", "DisableForwarding is 'yes': it should be 'no'"],
      ["AllowUsers alice bob@10.*", "AllowUsers is 'alice bob@10.*': it should hold 'walt-vpn'"],
      ["DenyUsers walt-*", "DenyUsers is 'walt-*': it keeps out 'walt-vpn'"],
      ["AllowGroups sudo", "AllowGroups is 'sudo': it should hold 'walt-vpn'"],
      ["DenyGroups walt-vpn", "DenyGroups is 'walt-vpn'"],
      ["AuthorizedKeysFile /etc/keys/%u", "AuthorizedKeysFile is '/etc/keys/walt-vpn'"],
      ["AuthenticationMethods publickey,password", "AuthenticationMethods is 'publickey,password'"],
      ["ForceCommand /bin/false", "ForceCommand is '/bin/false'"],
      ["PermitOpen other:22", "PermitOpen is 'other:22': it should be 'any' or hold 'server.lab:2222'"],
      ["ChrootDirectory /srv", "ChrootDirectory is '/srv'"],
      [
        "PubkeyAcceptedAlgorithms ssh-ed25519",
        "PubkeyAcceptedAlgorithms lacks 'ssh-ed25519-cert-v01@openssh.com'",
      ],
      ["Match User walt-vpn\nAllowTcpForwarding no", "AllowTcpForwarding is 'no'"],
    ])("an sshd with %j would not let devices pass: exit 1, and what to change", async (line, said) => {
      configure(`${line}\n`);
      const { status, stderr } = await setup();
      expect(stderr).toContain(said);
      expect(stderr.match(/^ {2}- /gm)).toHaveLength(1);
      expect(status).toBe(1);
    });

    test.each([
      "AllowUsers alice walt-vpn",
      "AllowUsers w*@10.*",
      "AllowGroups sudo walt-*",
      "DenyUsers alice *@192.168.*",
      "PermitOpen server.lab:2222",
      "AllowTcpForwarding local",
      "AuthorizedKeysFile /etc/keys/%u %h/.ssh/authorized_keys",
      "AuthenticationMethods publickey,password publickey",
    ])("an sshd with %j will do", async (line) => {
      configure(`${line}\n`);
      const { status, stderr } = await setup();
      expect(stderr).toBe("");
      expect(status).toBe(0);
    });

    test("a broken configuration of sshd is told as such", async () => {
      configure("Nonsense yes\n");
      const { status, stderr } = await setup();
      expect(status).toBe(1);
      expect(stderr).toContain("sshd does not accept its own configuration");
      expect(stderr).toContain("Nonsense");
      configure("");
    });

    test("on the server's own machine it refuses unless told", async () => {
      host.writeFile(options.serverCaFile, `${publicKeyLine(ca.publicKey)}\n`);
      const { status, stderr } = await setup();
      expect(status).toBe(1);
      expect(stderr).toContain("this is the WalT server itself");
      expect((await setup("--allow-server")).status).toBe(0);
      host.writeFile(options.serverCaFile, `${publicKeyLine(generateKey("another server").publicKey)}\n`);
      expect((await setup()).status).toBe(0);
    });

    test("--remove takes everything away, with open sessions, and can be said twice", async () => {
      await host.must(["sh", "-c", "setpriv --reuid=walt-vpn --clear-groups sleep 1000 & "]);
      const first = await setup("--remove");
      expect(first.status).toBe(0);
      expect(first.stdout).toBe("removed the user walt-vpn\nremoved /home/walt-vpn\n");
      expect(await host.must(["ls", "/home"])).not.toContain("walt-vpn");
      expect((await host.run(["grep", "walt-vpn", "/etc/passwd", "/etc/group", "/etc/shadow"])).status).toBe(
        1,
      );
      expect(host.processes().filter(({ command }) => command.includes("sleep 1000"))).toEqual([]);
      expect((await setup("--remove")).stdout).toBe("nothing to remove\n");
    });

    test("who is not root is handed to sudo, with the same arguments", async () => {
      await host.must([
        "sh",
        "-c",
        "mount -t tmpfs tmpfs /usr/local/bin; printf '#!/bin/sh\\necho \"sudo $*\"\\n' >/usr/local/bin/sudo; chmod 755 /usr/local/bin/sudo",
      ]);
      const path = "/var/log/proxy-setup.sh";
      host.writeFile(path, script, 0o755);
      const { stdout } = await host.run([
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        ...shell,
        path,
        "--allow-server",
      ]);
      expect(stdout).toBe(`sudo sh ${path} --allow-server\n`);
      await host.must(["umount", "/usr/local/bin"]);
    });

    test("who is not root and has no sudo is told", async () => {
      await host.must(["chmod", "755", join(host.dir, "proxy-setup.sh")]);
      const { status, stderr } = await host.run(
        ["setpriv", "--reuid=65534", "--clear-groups", ...shell, "-s"],
        { input: script },
      );
      expect(status).toBe(1);
      expect(stderr).toContain("it must run as root");
    });
  });
}
