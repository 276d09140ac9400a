/** The recipe for an image of WalT: what is written, and what its set-up does to the tree of an image. */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { writeRecipe } from "../../../src/image/walt/recipe.ts";
import { run, runAny } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { folder, textFile } from "../rig.ts";

const NEWEST = "6.12.10+deb13-arm64";

/**
 * The tree of an image of WalT with two kernels of Debian, and one of Raspberry Pi. WalT's own scripts, as /bin/walt-init,
 * are not in it: the WalT server puts them in when it serves the image.
 */
const IMAGE: Readonly<Record<string, string>> = {
  "bin/busybox": "",
  "boot/vmlinuz-6.12.9+deb13-arm64": "old kernel",
  [`boot/vmlinuz-${NEWEST}`]: "new kernel",
  "boot/vmlinuz-6.12.99+rpt-rpi-v8": "kernel of a Raspberry Pi",
  [`boot/config-${NEWEST}`]: "CONFIG_VIRTIO_NET=m\n",
  "etc/initramfs-tools/modules": "# modules\nof-the-image\n",
  "etc/initramfs-tools/hooks/of-walt": "",
  "usr/share/initramfs-tools/scripts/netroot": "",
};

/** Set up such an image, with other files or without some of them. */
async function setUp(work: string, changes: Record<string, string | undefined> = {}) {
  const root = join(work, "root");
  rmSync(root, { recursive: true, force: true });
  for (const [name, text] of Object.entries({ ...IMAGE, ...changes })) {
    if (text === undefined) continue;
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  // mkinitramfs(8), with the folder of its configuration as -d, and the file to write as -o.
  const make = textFile(
    join(work, "make"),
    '#!/bin/sh\n{ echo "$5"; grep -h "" "$2/conf.d/zz-walt-vpn" "$2/modules"; ls "$2/hooks"; } >"$4"\n',
  );
  const env = { ...process.env, ROOT: root, MKINITRAMFS: `sh ${make}` } as Record<string, string>;
  return { root, ...(await runAny(["sh", join(work, "recipe/setup.sh")], { env })) };
}

test("a folder with three files; an existing one is refused", () => {
  using work = folder();
  const place = join(work.path, "recipe");
  writeRecipe(place);
  expect(readdirSync(place).sort()).toEqual(["Containerfile", "setup.sh", "start.ipxe"]);
  const text = readFileSync(join(place, "Containerfile"), "utf8");
  expect(text).toContain("\nLABEL walt.node.models=qemu-arm-64\n");
  for (const name of ["setup.sh", "start.ipxe"]) expect(text).toMatch(new RegExp(`^COPY .*${name}`, "m"));
  expect(() => writeRecipe(place)).toThrow(`${place} exists already`);
});

test("the newest kernel of Debian, an initramfs with network card and NFS, and a script for iPXE", async () => {
  using work = folder();
  writeRecipe(join(work.path, "recipe"));
  const { root, status, stdout, stderr } = await setUp(work.path);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toBe(`walt: qemu-arm-64 boots the kernel ${NEWEST}, with boot=netroot\n`);
  const boot = join(root, "boot/qemu-arm-64");
  expect(readdirSync(boot).sort()).toEqual(["initrd", "kernel", "start.ipxe"]);
  expect(gunzipSync(readFileSync(join(boot, "kernel"))).toString()).toBe("new kernel");
  const [kernel, list, ...more] = readFileSync(join(boot, "initrd"), "utf8").trim().split("\n");
  expect([kernel, list, more.at(-1)]).toEqual([NEWEST, "MODULES=list", "of-walt"]);
  for (const module of [
    "of-the-image",
    "virtio_pci",
    "virtio_net",
    "virtio-rng",
    "af_packet",
    "nfs",
    "nfsv3",
  ])
    expect(more).toContain(module);
  // The image's own initramfs is for its boards.
  expect(readFileSync(join(root, "etc/initramfs-tools/modules"), "utf8")).toBe("# modules\nof-the-image\n");
  const start = readFileSync(join(boot, "start.ipxe"), "utf8");
  expect(start).toStartWith("#!ipxe\n");
  expect(start).toMatch(/ boot=netroot rootfstype=netroot nfsroot=\$\{next-server\}:\S+,ro,vers=3,nolock,/);
  expect(start).not.toContain("@");
});

test("since 2025 the root is mounted by another script", async () => {
  using work = folder();
  writeRecipe(join(work.path, "recipe"));
  const { stdout } = await setUp(work.path, { "etc/initramfs-tools/scripts/walt": "" });
  expect(stdout).toEndWith("with boot=walt\n");
});

test.each([
  ["has no /bin/busybox", { "bin/busybox": undefined }],
  [
    "install Debian's package linux-image-arm64",
    { "boot/vmlinuz-6.12.9+deb13-arm64": undefined, [`boot/vmlinuz-${NEWEST}`]: undefined },
  ],
  ["has no virtio", { [`boot/config-${NEWEST}`]: "# CONFIG_VIRTIO_NET is not set\n" }],
  ["neither the script walt nor netroot", { "usr/share/initramfs-tools/scripts/netroot": undefined }],
])("an image that cannot run is refused: %s", async (why, changes) => {
  using work = folder();
  writeRecipe(join(work.path, "recipe"));
  const { root, status, stderr } = await setUp(work.path, changes);
  expect([status, stderr]).toEqual([1, expect.stringContaining(why)]);
  expect(readdirSync(join(root, "boot"))).not.toContain("qemu-arm-64");
});

describeWith({ programs: ["shellcheck"] }, "the set-up", () => {
  test("is clean", async () => {
    expect(await run(["shellcheck", join(import.meta.dir, "../../../src/image/walt/setup.sh")])).toBe("");
  }, 30_000);
});
