/** A node's image as boot files: what goes where, and what is not overwritten. */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AMD64, ARM64 } from "../../../src/image/base/architecture.ts";
import { cpioNewc } from "../../../src/image/base/cpio.ts";
import { refuseForeign, writeBootFiles } from "../../../src/image/node/boot-files.ts";
import type { NodeImage } from "../../../src/image/node/build.ts";
import { folder, textFile } from "../rig.ts";

const KEYS = "ssh-ed25519 AAAA somebody\n";

/** An image in a cache, of a few bytes. */
function image(cache: string, text: string): NodeImage {
  return {
    architecture: AMD64,
    kernel: textFile(join(cache, "kernel"), `kernel ${text}`),
    initramfs: textFile(join(cache, "initramfs"), `initramfs ${text}`),
    cmdline: "console=ttyS0 quiet\n",
    record: { inputs: "", sha256: "", epoch: 1, size: 1 },
    recordFile: textFile(join(cache, "record"), `{"record": "${text}"}\n`),
    cached: true,
  };
}

test("kernel, command line, record, and an initramfs that begins with the keys; an image replaces an earlier one", () => {
  using work = folder();
  const boot = join(work.path, "lib/boot");
  const before = process.umask(0o077);
  try {
    for (const text of ["first", "second"]) {
      const { place, size } = writeBootFiles(image(work.path, text), boot, KEYS);
      expect(place).toBe(join(boot, "x86_64"));
      expect(readdirSync(place).sort()).toEqual(["cmdline", "image.json", "initrd.img", "vmlinuz"]);
      expect(readFileSync(join(place, "vmlinuz"), "utf8")).toBe(`kernel ${text}`);
      expect(readFileSync(join(place, "cmdline"), "utf8")).toBe("console=ttyS0 quiet\n");
      expect(readFileSync(join(place, "image.json"), "utf8")).toBe(`{"record": "${text}"}\n`);
      const keys = cpioNewc([{ path: "authorized_keys", type: "file", data: KEYS, mode: 0o600 }]);
      expect(keys.length % 4).toBe(0); // the kernel finds the next archive there
      const initrd = readFileSync(join(place, "initrd.img"));
      expect(initrd).toEqual(Buffer.concat([keys, Buffer.from(`initramfs ${text}`)]));
      expect(size).toBe(initrd.length + `kernel ${text}`.length);
    }
  } finally {
    process.umask(before);
  }
  // The service that reads them is another user.
  for (const name of ["", "x86_64"]) expect(statSync(join(boot, name)).mode & 0o777).toBe(0o755);
  for (const name of ["vmlinuz", "initrd.img", "cmdline"])
    expect(statSync(join(boot, "x86_64", name)).mode & 0o777).toBe(0o644);
});

test("boot files of somebody else are not overwritten", () => {
  using work = folder();
  const boot = join(work.path, "boot");
  mkdirSync(join(boot, "x86_64"), { recursive: true });
  refuseForeign(boot, { architecture: AMD64 });
  writeFileSync(join(boot, "x86_64/initrd.img"), "the lab's own");
  expect(() => writeBootFiles(image(work.path, "first"), boot, KEYS)).toThrow(
    `${boot}/x86_64/initrd.img exists and is not of an image that this command has written`,
  );
  expect(readdirSync(join(boot, "x86_64"))).toEqual(["initrd.img"]);
  refuseForeign(boot, { architecture: ARM64 });
});
