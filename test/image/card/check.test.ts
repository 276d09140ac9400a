/**
 * The checks on an image find what they are for: each defect is put into an image that is right otherwise.
 */

import { expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { loadRecipe } from "../../../src/image/base/recipe.ts";
import { MANIFEST_PATH, makeSquashfs, normalizeModes, WALT_PATH } from "../../../src/image/base/rootfs.ts";
import { checkImage } from "../../../src/image/card/check.ts";
import { BOOT_SIZE, layout, masterBootRecord, STATE_SIZE } from "../../../src/image/disk/disk.ts";
import { makeFat, writeFat } from "../../../src/image/disk/fat.ts";
import { copySparse } from "../../../src/image/disk/sparse.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { DEVICE, elfFile, folder } from "../rig.ts";

/** Files of the root, and of the boot partition. */
interface Parts {
  root: Record<string, string | Buffer>;
  boot: Record<string, Buffer>;
  modes: Record<string, number>;
  /** Files of the state partition. */
  state: Record<string, string>;
}

function good(): Parts {
  const recipe = loadRecipe();
  const names = [...recipe.firmware.map(({ name }) => name), "kernel8.img", "initramfs.img", "cmdline.txt"];
  return {
    root: {
      [WALT_PATH]: elfFile({ needed: ["libc.so.6"], interpreter: "/lib/ld-linux-aarch64.so.1" }),
      "/usr/lib/ld-linux-aarch64.so.1": elfFile({}),
      "/usr/lib/aarch64-linux-gnu/libc.so.6": elfFile({}),
      [MANIFEST_PATH]: "{}",
      "/etc/walt-os": "6.12\n",
      "/etc/passwd": "root:*:0:0:root:/root:/bin/sh\n",
    },
    boot: {
      ...Object.fromEntries(names.map((name) => [name, Buffer.from("x")])),
      ...DEVICE,
      "config.txt": Buffer.from(recipe.configTxt),
    },
    modes: {},
    state: {},
  };
}

async function makeImage(work: string, parts: Parts): Promise<string> {
  const root = join(work, "root");
  rmSync(root, { recursive: true, force: true });
  for (const [path, content] of Object.entries(parts.root)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), parts.modes[path] ?? 0o644);
  }
  for (const [path, mode] of Object.entries(parts.modes)) chmodSync(join(root, path), mode);
  const [squashfs, fat, state] = [join(work, "squashfs"), join(work, "fat"), join(work, "state")];
  await makeSquashfs(root, squashfs, 1, 1e9);
  await makeFat(fat, BOOT_SIZE);
  await writeFat(fat, 0, parts.boot, 1e9);
  writeFileSync(state, "");
  truncateSync(state, STATE_SIZE);
  const kept = join(work, "kept");
  mkdirSync(kept, { recursive: true });
  for (const [name, content] of Object.entries(parts.state)) writeFileSync(join(kept, name), content);
  await run(["mkfs.ext4", "-q", "-F", "-d", kept, state], {
    env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
  });
  const l = layout(statSync(squashfs).size);
  const image = join(work, "image");
  rmSync(image, { force: true });
  const fd = openSync(image, "wx+");
  try {
    writeSync(fd, masterBootRecord(l), 0, 512, 0);
    for (const [file, at] of [
      [fat, l.boot.start],
      [squashfs, l.root.start],
      [state, l.state.start],
    ] as const) {
      const from = openSync(file, "r");
      await copySparse(from, fd, { at });
      closeSync(from);
    }
  } finally {
    closeSync(fd);
  }
  truncateSync(image, l.size);
  return image;
}

const TOOLS = {
  programs: ["mkfs.vfat", "fsck.vfat", "mcopy", "mksquashfs", "unsquashfs", "mkfs.ext4", "e2fsck"],
};

describeWith(TOOLS, "checks on an image", () => {
  test("a right one has no problems", async () => {
    using work = folder();
    const checked = await checkImage(await makeImage(work.path, good()));
    expect(checked.problems).toEqual([]);
    expect(checked.files).toBe(6);
  });

  test("a root is the same whatever umask it was put together with", async () => {
    const root = async (umask: number): Promise<Buffer> => {
      using work = folder();
      const before = process.umask(umask);
      try {
        const path = join(work.path, "root");
        mkdirSync(join(path, "usr/bin"), { recursive: true });
        writeFileSync(join(path, "usr/list"), "x");
        writeFileSync(join(path, "usr/bin/program"), "x", { mode: 0o777 });
        normalizeModes(path);
        await makeSquashfs(path, join(work.path, "squashfs"), 1, 1e9);
        return readFileSync(join(work.path, "squashfs"));
      } finally {
        process.umask(before);
      }
    };
    expect((await root(0o077)).equals(await root(0o002))).toBe(true);
  });

  const key = `-----BEGIN OPENSSH PRIVATE KEY-----\n${"b3Blbn".repeat(12)}\n`;
  const defects: [name: string, change: (parts: Parts) => void, problem: RegExp][] = [
    [
      "a library that is not there",
      (p) => delete p.root["/usr/lib/aarch64-linux-gnu/libc.so.6"],
      /needs libc\.so\.6/,
    ],
    [
      "a program for a PC",
      (p) => (p.root["/usr/bin/x"] = elfFile({ machine: 62 })),
      /usr\/bin\/x is a program, but not for arm64/,
    ],
    ["a private key", (p) => (p.root["/etc/key"] = key), /etc\/key holds a private key/],
    [
      "a host key",
      (p) => (p.root["/etc/ssh/ssh_host_ed25519_key"] = "x"),
      /ssh_host_ed25519_key is a file of keys/,
    ],
    [
      "a password",
      (p) => (p.root["/etc/passwd"] = "root:$6$x:0:0::/:/bin/sh\n"),
      /the user root has a password/,
    ],
    ["a shadow file", (p) => (p.root["/etc/shadow"] = "root:*::::::\n"), /\/etc\/shadow exists/],
    [
      "a file for everybody to write",
      (p) => (p.modes["/etc/passwd"] = 0o666),
      /etc\/passwd can be written by everybody/,
    ],
    [
      "a set-user-id program",
      (p) => (p.modes[WALT_PATH] = 0o4755),
      /walt has a set-user-id or set-group-id bit/,
    ],
    ["no firmware", (p) => delete p.boot["bootcode.bin"], /boot files: bootcode\.bin is missing/],
    [
      "another kernel than config.txt names",
      (p) => delete p.boot["kernel8.img"],
      /boot files: kernel8\.img is missing/,
    ],
    [
      "a folder that only root may read",
      (p) => (p.modes["/etc"] = 0o700),
      /squashfs-root\/etc has the permissions rwx------ instead of rwxr-xr-x/,
    ],
    [
      "a login for everybody's boards",
      (p) => (p.root["/root/.ssh/authorized_keys"] = "ssh-ed25519 AAAA\n"),
      /authorized_keys is a file of keys/,
    ],
    [
      "a host key that boards would share",
      (p) => (p.state["host_key"] = "x"),
      /state: the file host_key would be on every board/,
    ],
    [
      "a private key where a public one belongs",
      (p) => (p.boot["authorized_keys"] = Buffer.from(key)),
      /boot files: authorized_keys holds a private key/,
    ],
    [
      "a file of somebody's on the boot partition",
      (p) => (p.boot["ca_key"] = Buffer.from(key)),
      /boot files: ca_key is not a file of an image/,
    ],
    ["no configuration", (p) => delete p.boot["vpn.toml"], /boot files: vpn\.toml is missing/],
    ["no walt", (p) => delete p.root[WALT_PATH], /\/usr\/local\/bin\/walt is missing/],
  ];
  for (const [name, change, problem] of defects) {
    test(`${name} is found`, async () => {
      using work = folder();
      const parts = good();
      change(parts);
      const { problems } = await checkImage(await makeImage(work.path, parts));
      expect(problems.length).toBe(1);
      expect(problems[0]).toMatch(problem);
    });
  }

  test("damaged file systems are found", async () => {
    using work = folder();
    const image = await makeImage(work.path, good());
    const l = layout(statSync(join(work.path, "squashfs")).size);
    const fd = openSync(image, "r+");
    writeSync(fd, Buffer.alloc(4096, 0xff), 0, 4096, l.state.start + 2048); // group descriptors
    writeSync(fd, Buffer.alloc(512 * 8, 0x5a), 0, 4096, l.boot.start + 32 * 512); // file allocation table
    writeSync(fd, Buffer.alloc(96, 0), 0, 96, l.root.start);
    closeSync(fd);
    const { problems } = await checkImage(image);
    for (const what of ["boot partition", "root partition", "state partition"])
      expect(problems.some((text) => text.startsWith(what)) ? what : `${what}: ${problems}`).toBe(what);
  });
});
