/** File systems that lack something, and folders for temporary files that do not do. */

import { expect, test } from "bun:test";
import {
  existsSync,
  type linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tryAccelerator } from "../../src/device/vm/kvm-probe.ts";
import { thisArchitecture } from "../../src/device/vm/qemu-arguments.ts";
import { messageOf } from "../../src/errors.ts";
import { claim, smallFolder } from "../../src/linux/files.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

/** In a folder of its own. */
async function inFolder(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "walt-fs-"));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const failing =
  (code: string): typeof linkSync =>
  () => {
    throw Object.assign(new Error(`${code}: no`), { code });
  };

test.each(["EPERM", "ENOSYS", "EOPNOTSUPP", "EMLINK", "EXDEV", "EINVAL"])(
  "a link that is %s: the file gets its name all the same, and replaces none",
  (code) =>
    inFolder((folder) => {
      const [temp, path] = [join(folder, "temp"), join(folder, "path")];
      writeFileSync(temp, "new");
      expect(claim(temp, path, failing(code))).toBe(true);
      expect([readFileSync(path, "utf8"), readdirSync(folder)]).toEqual(["new", ["path"]]);
      writeFileSync(temp, "newer");
      expect(() => claim(temp, path, failing(code))).toThrow(/EEXIST/);
      expect(readFileSync(path, "utf8")).toBe("new");
    }),
);

test("what could not be written is not there", () =>
  inFolder((folder) => {
    const path = join(folder, "path");
    expect(() => claim(join(folder, "none"), path, failing("ENOSYS"))).toThrow(/ENOENT/);
    expect(() => claim(join(folder, "none"), path, failing("EIO"))).toThrow(/EIO/);
    expect(readdirSync(folder)).toEqual([]);
  }));

test("little files find room elsewhere, or the reason is that of the first place", () => {
  const tried: string[] = [];
  const folder = smallFolder((made) => {
    tried.push(made);
    if (tried.length < 2) throw new Error("full");
    return made;
  });
  expect(tried).toHaveLength(2);
  expect(existsSync(tried[0] ?? "")).toBe(false);
  rmSync(folder, { recursive: true });
  expect(() => smallFolder(() => ({}), 10)).toThrow(/is too long/);
  const reason = messageOf(
    (() => {
      try {
        return smallFolder((made) => {
          throw new Error(`no room in ${made.slice(0, 4)}`);
        });
      } catch (error) {
        return error;
      }
    })(),
  );
  expect(reason).toStartWith("cannot make a folder for temporary files: no room in ");
});

const QEMU = process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";

describeWith({ programs: [QEMU] }, "the probe for KVM", () => {
  test.each(["/nonexistent", "/proc", `/tmp/${"long/".repeat(60)}`])(
    "does not need TMPDIR: %s",
    async (folder) => {
      const before = process.env["TMPDIR"];
      process.env["TMPDIR"] = folder;
      try {
        // Emulation executes it as well.
        expect(
          await tryAccelerator({ board: "generic", arch: thisArchitecture(), accel: "tcg" }, 60_000),
        ).toBeUndefined();
      } finally {
        if (before === undefined) delete process.env["TMPDIR"];
        else process.env["TMPDIR"] = before;
      }
    },
    90_000,
  );
});

describeWith(INTEGRATION, "the whole program", () => {
  test("without link(2), and on a disk that is full: what is named is whole, or not there", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server, binary } = world;
    const without = [process.execPath, join(import.meta.dir, "without-link.ts")];
    expect((await server.run([...without, "/bin/ln", "/etc/hosts", "/srv/hosts"])).stderr).toContain(
      "Function not implemented",
    );
    await world.stopServer();
    // The keys are made anew.
    await server.must(["rm", "-r", "/var/lib/walt-vpn"]);
    world.daemon = server.spawn([...without, binary, "server", "run"]);
    await world.daemon.waitFor(/event=server-ready/);
    const known = `${server.dir}/known`;
    server.writeFile(known, "");
    const setUps = (folder: string): Record<string, string[]> => ({
      "proxy-setup.sh": [
        "vpn",
        "setup-proxy",
        "--next",
        "walt.lab.example:2222",
        "-o",
        `${folder}/proxy-setup.sh`,
      ],
      device: [
        ...["vpn", "setup-node", "--board", "generic", "--entrypoint", "ssh://walt.lab.example"],
        ...["--known-hosts", known, "-o", `${folder}/device`],
      ],
    });
    await server.must(["mkdir", "/srv/out", "/srv/full"]);
    for (const [name, words] of Object.entries(setUps("/srv/out"))) {
      expect([name, await server.run([...without, binary, ...words])]).toMatchObject([name, { status: 0 }]);
      const again = await server.run([...without, binary, ...words]);
      expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining("exists already") });
    }
    expect(await server.must(["ls", "-A", "/srv/out", "/srv/out/device"])).toBe(
      "/srv/out:\ndevice\nproxy-setup.sh\n\n/srv/out/device:\nenrolment_key\nknown_hosts\nvpn.toml\n",
    );

    const fill = "mount -t tmpfs -o size=8k tmpfs /srv/full; head -c 100000 /dev/zero > /srv/full/filler";
    await server.run(["sh", "-c", fill]);
    for (const [name, words] of Object.entries(setUps("/srv/full"))) {
      const { status, stderr } = await server.run([binary, ...words]);
      expect([name, status, stderr]).toEqual([
        name,
        1,
        expect.stringMatching(/^walt: cannot write \/srv\/full\/\S+: .*ENOSPC/),
      ]);
    }
    expect(await server.must(["ls", "-A", "/srv/full"])).toBe("filler\n");
  }, 120_000);

  test("a device whose TMPDIR is missing, full or read-only starts its virtual machine", async () => {
    await using world = await World.create({ proxies: 0 });
    const device = await world.device("device");
    await device.enrol();
    await device.stop();
    await device.host.must([
      "sh",
      "-c",
      "mkdir /srv/full; mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs /srv/full",
    ]);
    const toml = readFileSync(device.host.path("/etc/walt/vpn.toml"), "utf8");
    device.host.writeFile("/etc/walt/vpn.toml", toml.replace("start = false", "start = true"));
    for (const folder of ["/nonexistent", "/srv/full", "/proc"]) {
      device.env = { TMPDIR: folder };
      const run = device.start();
      await run.waitFor(/event=vm-started/, { timeout: 90_000 });
      expect([folder, await device.stop()]).toEqual([folder, 0]);
    }
  }, 240_000);
});
