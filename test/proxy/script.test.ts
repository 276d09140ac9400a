/** proxy-setup.sh on a machine with a real sshd, under dash and under busybox. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { run, runAny } from "../../src/linux/run.ts";
import { markedKeys, type ProxyScriptOptions, proxySetupScript } from "../../src/proxy/script.ts";
import { authorizedKeys } from "../../src/ssh/keys/authorized-keys.ts";
import { signCertificate } from "../../src/ssh/keys/certificate.ts";
import { fingerprint, generateKey, type KeyPair, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { knownHostsLine } from "../../src/ssh/keys/known-hosts.ts";
import { CONNECTED, proxyArguments } from "../../src/ssh/openssh/arguments.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { type Sshd, startSshd } from "../lab/sshd.ts";

const ca = generateKey('it\'s "quoted" $(touch /x) `id` \\');
const options: ProxyScriptOptions = {
  cas: [ca.publicKey],
  enrolments: [generateKey("enrolment").publicKey],
  mark: fingerprint(ca.publicKey),
  revoked: [],
  next: { host: "server.lab", port: 2222 },
  serverCaFile: "/var/lib/walt-vpn/ca.pub",
  version: "1.2.3",
  written: new Date("2026-11-02T03:04:05Z"),
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
    const input = proxySetupScript({ ...options, cas: options.enrolments });
    expect((await runAny(["shellcheck", "-s", "sh", "-"], { input })).stdout).toBe("");
  });
});

test("the mark is the last word of each line, however long the comment of a key is", () => {
  const long = generateKey("x".repeat(300)).publicKey;
  const lines = markedKeys({ ...options, cas: [long], enrolments: [long], mark: fingerprint(long) })
    .trimEnd()
    .split("\n");
  expect(lines).toHaveLength(2);
  for (const line of lines) expect(line).toEndWith(` walt-vpn=${fingerprint(long)}`);
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
    /** The one that runs all the time, on port 22. */
    let first: Sshd;
    const setup = async (...args: string[]) =>
      host.run([...shell, join(host.dir, "proxy-setup.sh"), ...args]);
    const configure = (text: string) => host.writeFile("/etc/ssh/sshd_config.d/test.conf", text);
    const stat = async (path: string) => (await host.must(["stat", "-c", "%U:%G %a", path])).trim();

    beforeAll(async () => {
      lab = await Lab.create();
      host = await lab.host("proxy");
      first = await startSshd(host);
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
      expect(await host.must(["cat", "/home/walt-vpn/.ssh/authorized_keys"])).toBe(markedKeys(options));
      expect(await host.must(["ls", "-A", "/home/walt-vpn", "/home/walt-vpn/.ssh"])).toBe(
        "/home/walt-vpn:\n.ssh\n\n/home/walt-vpn/.ssh:\nauthorized_keys\n",
      );
      expect(await host.must(["grep", "^walt-vpn:", "/etc/passwd", "/etc/shadow"])).toMatch(
        /WalT VPN:\/home\/walt-vpn:\/bin\/sh\n.*walt-vpn:\*:/,
      );
      expect((await host.run(["test", "-e", "/x"])).status).toBe(1);
    });

    /** The command line of a device's connection to the proxy, with the files that `pass` has written. */
    function deviceCommand(server: ProxyScriptOptions, sshd: Sshd): string[] {
      const file = (name: string) => join(host.dir, name);
      host.writeFile(
        file("known_hosts"),
        sshd.hostKeys.map((key) => `${knownHostsLine("p", key)}\n`).join(""),
      );
      return proxyArguments({
        ...{ connect: { host: "127.0.0.1", port: 2022 }, alias: "p", connectTimeout: 5, aes: false },
        ...{
          keyFiles: [file("key")],
          certificateFiles: [file("certificate")],
          knownHosts: file("known_hosts"),
        },
        forward: { localPort: 4000, to: server.next },
      });
    }

    /** What a device with a certificate of a server is told through the real sshd: the echo, or why not. */
    async function pass(server: ProxyScriptOptions, signer: KeyPair, sshd: Sshd): Promise<string> {
      const device = generateKey("device");
      const seconds = Math.floor(Date.now() / 1000);
      const line = signCertificate(signer, {
        ...{ publicKey: device.publicKey, serial: 1n, keyId: "k", principals: ["walt-vpn"] },
        ...{ validAfter: seconds - 60, validBefore: seconds + 600 },
      });
      const file = (name: string) => join(host.dir, name);
      host.writeFile(file("key"), encodePrivateKey(device), 0o600);
      host.writeFile(file("certificate"), line);
      const { stdout, stderr } = await host.run([...deviceCommand(server, sshd), "id"], { input: "echo\n" });
      return stdout + stderr.replace(CONNECTED, "");
    }

    test.each(["yes", "no"])(
      "the real sshd, with UsePAM %s, lets a certificate in after that",
      async (pam) => {
        const sshd = await startSshd(host, { port: 2022, extraConfig: `UsePAM ${pam}\nPidFile none\n` });
        expect(await pass(options, ca, sshd)).toBe("echo\n");
        // A session is one process beside sshd's own: no shell waits for it.
        const session = host.spawn(deviceCommand(options, sshd));
        session.write("echo\n");
        await session.waitFor(/^echo$/m);
        const processes = (await host.must(["ps", "-u", "walt-vpn", "-o", "args="])).trim().split("\n");
        expect(processes.filter((command) => !/sshd|<defunct>/.test(command))).toEqual(["cat"]);
        await session.stop();
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
        "sed -i s/permitopen=[^,]*,// /home/walt-vpn/.ssh/authorized_keys; chown walt-vpn /home/walt-vpn; usermod -s /bin/bash -p '!' walt-vpn",
      ]);
      const { status, stdout } = await setup();
      expect(status).toBe(0);
      expect(stdout).toContain("updated /home/walt-vpn/.ssh/authorized_keys\n");
      expect(stdout).toContain("changed owner or mode of /home/walt-vpn\n");
      expect(stdout).toContain("changed the shell of walt-vpn");
      expect(stdout).toContain("took the password of walt-vpn away");
      expect(stdout).not.toContain("unchanged");
      expect(await host.must(["cat", "/home/walt-vpn/.ssh/authorized_keys"])).toBe(markedKeys(options));
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

    /** Each with what is said of it: all in one run, as a run starts some hundred programs. */
    const WRONG = [
      ["AllowTcpForwarding no", "AllowTcpForwarding is 'no': it should be 'local'"],
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
      ["MaxSessions 0", "MaxSessions is '0': it should be '1' or more"],
      ["CASignatureAlgorithms rsa-sha2-512", "CASignatureAlgorithms lacks 'ssh-ed25519'"],
      [
        "PubkeyAcceptedAlgorithms ssh-ed25519",
        "PubkeyAcceptedAlgorithms lacks 'ssh-ed25519-cert-v01@openssh.com'",
      ],
    ] as const;
    test.each([
      ["many faults", WRONG],
      [
        "others",
        [
          ["PubkeyAuthentication no", "PubkeyAuthentication is 'no': it should be 'yes'"],
          ["AllowTcpForwarding remote", "AllowTcpForwarding is 'remote'"],
        ],
      ],
      ["a rule for the user", [["Match User walt-vpn\nAllowTcpForwarding no", "AllowTcpForwarding is 'no'"]]],
    ] as const)(
      "an sshd with %s would not let devices pass: exit 1, and what to change",
      async (_, faults) => {
        configure(faults.map(([line]) => `${line}\n`).join(""));
        const { status, stderr } = await setup();
        for (const [, said] of faults) expect(stderr).toContain(said);
        expect(stderr.match(/^ {2}- /gm)).toHaveLength(faults.length);
        expect(status).toBe(1);
      },
    );

    test.each([
      [
        "AllowUsers alice walt-vpn",
        "AllowGroups sudo walt-*",
        "DenyUsers alice *@192.168.*",
        "PermitOpen server.lab:2222",
        "AllowTcpForwarding local",
        "AuthorizedKeysFile /etc/keys/%u %h/.ssh/authorized_keys",
        "AuthenticationMethods publickey,password publickey",
      ],
      ["AllowUsers w*@10.*"],
    ])("an sshd with %j will do", async (...lines) => {
      configure(lines.map((line) => `${line}\n`).join(""));
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

    // What another server or somebody else left does not depend on the shell.
    describe.if(shell === SHELLS[0])("shared", () => {
      /** Each run of the script starts some hundred small programs. */
      const PATIENCE = 120_000;
      let sshd: Sshd | undefined;
      const KEYS = "/home/walt-vpn/.ssh/authorized_keys";
      const secondCa = generateKey("second");
      const second: ProxyScriptOptions = {
        ...options,
        cas: [secondCa.publicKey],
        enrolments: [generateKey("second enrolment").publicKey],
        mark: fingerprint(secondCa.publicKey),
        next: { host: "second.lab", port: 2222 },
      };
      /** What somebody else has there: comments, odd blanks, a line of WalT's own devices. */
      const FOREIGN =
        '# walt VPN secured access\n\ncert-authority,restrict,agent-forwarding,command="ssh walt-vpn@inner" ecdsa-sha2-nistp521 AAAA\t x \\ $(id)  \n';
      const keys = () => host.must(["cat", KEYS]);
      const shell_ = (script: string) => host.must(["sh", "-c", script]);
      async function script2(what: ProxyScriptOptions, ...args: string[]) {
        host.writeFile(join(host.dir, "second.sh"), proxySetupScript(what), 0o755);
        return await host.run([...shell, join(host.dir, "second.sh"), ...args]);
      }
      const clean = () =>
        shell_(
          "userdel -f walt-vpn 2>/dev/null; groupdel walt-vpn 2>/dev/null; rm -rf /home/walt-vpn /home/.walt-vpn.*",
        );
      const account = () =>
        shell_("grep ^walt-vpn: /etc/passwd /etc/shadow; find /home -ls | awk '{ print $3, $5, $6, $11 }'");
      beforeEach(clean);
      afterEach(async () => {
        if (sshd !== undefined) {
          // Its configuration took the place of the first one's, which would read it at its next reload.
          await Promise.all([sshd.stop(), first.stop()]);
          first = await startSshd(host);
        }
        sshd = undefined;
        expect(await host.must(["ls", "-A", "/home"])).not.toContain(".walt-vpn.");
      });
      afterAll(clean);

      test(
        "two servers' devices pass; what one updates or removes leaves the other",
        async () => {
          expect((await setup()).status).toBe(0);
          const { status, stdout, stderr } = await script2(second);
          expect([status, stderr]).toEqual([0, ""]);
          expect(stdout).toContain("another server uses the user walt-vpn, too; its lines were kept");
          expect(await keys()).toBe(markedKeys(options) + markedKeys(second));
          sshd = await startSshd(host, { port: 2022, extraConfig: "PidFile none\n" });
          expect(await pass(options, ca, sshd)).toBe("echo\n");
          expect(await pass(second, secondCa, sshd)).toBe("echo\n");

          const moved = { ...second, next: { host: "moved.lab", port: 22 } };
          expect((await script2(moved)).stdout).toContain(`updated ${KEYS}`);
          expect(await keys()).toBe(markedKeys(options) + markedKeys(moved));
          expect((await setup()).stdout).toStartWith("unchanged: ");
          expect((await script2(moved)).stdout).toStartWith("unchanged: ");

          const removed = await script2(moved, "--remove");
          expect(removed.stdout).toContain(
            `removed this server's lines from ${KEYS}\nkept the user walt-vpn`,
          );
          expect(await keys()).toBe(markedKeys(options));
          expect(await pass(options, ca, sshd)).toBe("echo\n");
          expect(await pass(second, secondCa, sshd)).toContain("Permission denied");
          expect((await script2(moved, "--remove")).stdout).toContain("nothing to remove");
          expect((await setup("--remove")).stdout).toContain("removed the user walt-vpn\n");
          expect(await host.must(["ls", "/home"])).not.toContain("walt-vpn");
        },
        PATIENCE,
      );

      test(
        "two servers share the limits: each replaces its own revoked keys, and the last one takes the limits away",
        async () => {
          const [one, two, three] = [generateKey("1"), generateKey("2"), generateKey("3")];
          const REVOKED = "/etc/ssh/walt-vpn-revoked-keys";
          const DROP_IN = "/etc/ssh/sshd_config.d/walt-vpn.conf";
          const text = ({ publicKey }: KeyPair, { mark }: ProxyScriptOptions): string =>
            `ssh-ed25519 ${publicKey.blob.toString("base64")} walt-vpn=${mark}`;
          const revoked = async (): Promise<string[]> =>
            (await host.must(["cat", REVOKED])).split("\n").filter((line) => line !== "");
          const first = { ...options, revoked: [one.publicKey] };
          const both = { ...second, revoked: [two.publicKey] };
          const run1 = async (what: ProxyScriptOptions, ...args: string[]) => {
            host.writeFile(join(host.dir, "first.sh"), proxySetupScript(what), 0o755);
            return await host.run([...shell, join(host.dir, "first.sh"), ...args]);
          };
          expect((await run1(first, "--limits")).status).toBe(0);
          const dropIn = await host.must(["cat", DROP_IN]);
          // The limits are there, so that the second server's script keeps them up to date without being told.
          const { status, stderr } = await script2(both);
          expect([status, stderr]).toEqual([0, ""]);
          expect(await revoked()).toEqual([text(one, first), text(two, both)]);
          expect(await host.must(["cat", DROP_IN])).toBe(dropIn);
          await script2({ ...both, revoked: [three.publicKey] });
          expect((await revoked()).toSorted()).toEqual([text(one, first), text(three, both)].toSorted());
          await run1({ ...first, revoked: [] });
          expect(await revoked()).toEqual([text(three, both)]);
          await run1(first);
          // `walt proxy setup` does not know whose keys are revoked: they stay.
          const unknown = await run1({ ...first, revoked: undefined });
          expect([unknown.status, unknown.stderr]).toEqual([0, ""]);
          expect((await revoked()).toSorted()).toEqual([text(one, first), text(three, both)].toSorted());

          expect((await script2(both, "--remove")).stdout).toContain("removed this server's lines");
          expect(await revoked()).toEqual([text(one, first)]);
          expect(await host.must(["cat", DROP_IN])).toBe(dropIn);
          expect(await keys()).toBe(markedKeys(first));
          // Somebody else's line is no server: the limits go with the last one.
          await shell_(`printf '%s' '${FOREIGN}' >>${KEYS}`);
          expect((await run1(first, "--remove")).stdout).toContain("removed the limits of walt-vpn");
          expect((await host.run(["ls", DROP_IN, REVOKED])).stdout).toBe("");
          expect(await keys()).toBe(FOREIGN);
        },
        PATIENCE,
      );

      test(
        "lines of an earlier version, without a mark, are known by their key and replaced",
        async () => {
          await setup();
          const before = authorizedKeys({ ...options, next: { host: "old.lab", port: 1 } });
          host.writeFile(KEYS, `${before.split("\n")[0]}\n${FOREIGN}${before.split("\n")[1]}\n`);
          expect((await setup()).stdout).toContain(`updated ${KEYS}`);
          expect(await keys()).toBe(FOREIGN + markedKeys(options));
        },
        PATIENCE,
      );

      test(
        "a line with our key and other rules, or another server's, is nobody's to replace",
        async () => {
          await setup();
          const [line = ""] = authorizedKeys(options).split("\n");
          const others = [
            line.replace('permitopen="server.lab:2222"', 'permitopen="server.lab:2222",from="10.0.0.0/8"'),
            line.replace(/command="[^"]*"/, 'command="sh"'),
            ...authorizedKeys(second).trimEnd().split("\n"),
          ].join("\n");
          host.writeFile(KEYS, `${others}\n`);
          await setup();
          expect(await keys()).toBe(`${others}\n${markedKeys(options)}`);
        },
        PATIENCE,
      );

      test(
        "a user that somebody else made keeps everything: shell, password, files, owners, mode, lines to the byte",
        async () => {
          await shell_(
            "useradd -m -s /bin/bash -p 'x$y' walt-vpn; install -d -m 700 -o walt-vpn -g walt-vpn /home/walt-vpn/.ssh; echo host key >/home/walt-vpn/.ssh/known_hosts; chown walt-vpn /home/walt-vpn/.ssh/known_hosts",
          );
          host.writeFile(KEYS, FOREIGN, 0o600);
          await shell_(`chown walt-vpn:walt-vpn ${KEYS}; chmod 600 ${KEYS}`);
          const before = await account();
          const { status, stdout, stderr } = await setup();
          expect([status, stderr]).toEqual([0, ""]);
          expect(stdout).toContain("its shell, its password, its files and all other keys were kept");
          expect(await account()).toBe(before);
          expect(await keys()).toBe(FOREIGN + markedKeys(options));
          sshd = await startSshd(host, { port: 2022, extraConfig: "PidFile none\n" });
          expect(await pass(options, ca, sshd)).toBe("echo\n");
          expect((await setup("--remove")).stdout).toContain("kept the user walt-vpn");
          expect(await keys()).toBe(FOREIGN);
          expect(await account()).toBe(before);
        },
        PATIENCE,
      );

      test(
        "without a line break at its end the last line of somebody else is still a line",
        async () => {
          await setup();
          host.writeFile(KEYS, "ssh-rsa AAAA somebody");
          await setup();
          expect(await keys()).toBe(`ssh-rsa AAAA somebody\n${markedKeys(options)}`);
        },
        PATIENCE,
      );

      test(
        "where WalT's own VPN has the user, ours has another name, which is said",
        async () => {
          await shell_("useradd -m -d /var/lib/walt/vpn walt-vpn 2>/dev/null");
          const theirs = (): Promise<string> =>
            shell_(
              "grep ^walt-vpn: /etc/passwd /etc/shadow; find /var/lib/walt /home/walt-vpn 2>/dev/null; :",
            );
          const before = await theirs();
          const { status, stdout, stderr } = await setup();
          expect([status, stderr]).toEqual([0, ""]);
          expect(stdout).toContain("setup-node --entrypoint walt-vpn-devices@HOST");
          expect(await shell_("cat /home/walt-vpn-devices/.ssh/authorized_keys")).toBe(markedKeys(options));
          await setup("--remove");
          expect(await shell_("grep -c walt-vpn-devices /etc/passwd || :")).toBe("0\n");
          expect(await theirs()).toBe(before);
          await shell_("rm -rf /var/lib/walt; sed -i /^walt-vpn:/d /etc/passwd /etc/shadow /etc/group");
        },
        PATIENCE,
      );

      test.each([
        ["-d /home/walt-vpn -s /usr/sbin/nologin", /has the shell \/usr\/sbin\/nologin/],
        ["-d /home/walt-vpn -o -u 0", /the user walt-vpn is root/],
      ])(
        "a user made with %s is refused, and nothing is changed",
        async (made, said) => {
          await shell_(`useradd -m ${made} walt-vpn 2>/dev/null`);
          const before = await account();
          const { status, stderr } = await setup();
          expect(status).toBe(1);
          expect(stderr).toMatch(said);
          expect(await account()).toBe(before);
          await setup("--remove");
          expect(await account()).toBe(before);
          await shell_("rm -rf /var/lib/walt; sed -i /^walt-vpn:/d /etc/passwd /etc/shadow /etc/group");
        },
        PATIENCE,
      );

      test(
        "files of a user that is no more are not taken over",
        async () => {
          await shell_("mkdir -p /home/walt-vpn/.ssh");
          host.writeFile(KEYS, FOREIGN);
          expect((await setup()).stderr).toContain("there is no user walt-vpn, but files of one");
          expect(await keys()).toBe(FOREIGN);
        },
        PATIENCE,
      );
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
