/** Writing to a card: what is refused, and what is written and read back, on loop devices. */

import { afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flashCard, inspectCard, refuseCard } from "../../../src/image/disk/flash.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";

const folder = mkdtempSync(join(tmpdir(), "walt-flash-"));
const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
});

const GOOD = { device: "/dev/sdb", model: "Reader", size: 32e9, removable: true, mounts: [] };

describe("what is taken for a card", () => {
  test("removable, not mounted, at most 128 GB; --force is for the first and the last", () => {
    refuseCard(GOOD, false);
    expect(() => refuseCard({ ...GOOD, removable: false }, false)).toThrow(
      /\/dev\/sdb \(Reader, 32\.0 GB\) is not removable/,
    );
    expect(() => refuseCard({ ...GOOD, size: 500e9 }, false)).toThrow(/larger than 128 GB/);
    refuseCard({ ...GOOD, removable: false, size: 500e9 }, true);
    expect(() => refuseCard({ ...GOOD, mounts: ["/media/card"] }, true)).toThrow(/is mounted: \/media\/card/);
  });

  test("a file, a directory and nothing are not", () => {
    writeFileSync(join(folder, "file"), "");
    expect(() => inspectCard(join(folder, "file"))).toThrow(/is not a block device/);
    expect(() => inspectCard(folder)).toThrow(/is not a block device/);
    expect(() => inspectCard(join(folder, "none"))).toThrow(/does not exist/);
  });
});

describeWith({ root: true, programs: ["losetup"], files: ["/dev/loop0"] }, "on a loop device", () => {
  async function loop(size: number): Promise<{ device: string; file: string }> {
    const file = join(folder, "card");
    writeFileSync(file, "");
    truncateSync(file, size);
    const device = (await run(["losetup", "--find", "--show", file])).trim();
    cleanup.push(() => run(["losetup", "-d", device]));
    return { device, file };
  }

  test("an image is written, and found again", async () => {
    const { device, file } = await loop(16 << 20);
    const image = join(folder, "image");
    const content = Buffer.alloc(9 << 20, "walt card\n");
    writeFileSync(image, content);
    const card = inspectCard(device);
    expect(card).toMatchObject({ device, size: 16 << 20, removable: false, mounts: [] });
    const seen: string[] = [];
    await flashCard(image, card, (what, fraction) => fraction === 1 && seen.push(what));
    expect(seen).toEqual(["writing", "verifying"]);
    expect(readFileSync(file).subarray(0, content.length).equals(content)).toBe(true);
  });

  test("a card that is too small is left alone", async () => {
    const { device, file } = await loop(1 << 20);
    const image = join(folder, "image");
    writeFileSync(image, Buffer.alloc(2 << 20, 1));
    await expect(flashCard(image, inspectCard(device), () => {})).rejects.toThrow(
      /the image has 2097152 bytes, but .* has only 1048576 bytes/,
    );
    expect(readFileSync(file).every((byte) => byte === 0)).toBe(true);
  });

  test("one that is in use is left alone, and where it is mounted is told", async () => {
    const { device, file } = await loop(4 << 20);
    await run(["mkfs.ext4", "-q", device]);
    const mounted = join(folder, "mounted");
    mkdirSync(mounted);
    await run(["mount", device, mounted]);
    cleanup.push(() => run(["umount", mounted]));
    const before = Bun.hash(readFileSync(file));
    const card = inspectCard(device);
    expect(card.mounts).toEqual([mounted]);
    expect(() => refuseCard(card, true)).toThrow(/is mounted/);
    // Even if nobody had looked.
    const image = join(folder, "image");
    writeFileSync(image, Buffer.alloc(1 << 20, 1));
    await expect(flashCard(image, card, () => {})).rejects.toThrow(/it is in use/);
    expect(Bun.hash(readFileSync(file))).toBe(before);
  });
});
