/** An image out of a base: what is in it, what stands beside it, and what is left when it fails. */

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../../../src/errors.ts";
import { writeImage } from "../../../src/image/card/write.ts";
import { MIB } from "../../../src/image/disk/disk.ts";
import { listFat, readFat } from "../../../src/image/disk/fat.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { DEVICE, folder, slice, smallBase } from "../rig.ts";

const TOOLS = { programs: ["mkfs.vfat", "mcopy", "mtype", "zstd"] };

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "it did not fail",
    (error: unknown) => messageOf(error),
  );
}

describeWith(TOOLS, "image", () => {
  test("has the device's files on its boot partition, and all else as in the base", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const output = join(work.path, "card.dd");
    const written = await writeImage({ base, deviceFiles: DEVICE, output, compress: false, force: false });
    expect(written.image).toBe(output);
    expect(written.size).toBe(statSync(base).size);
    for (const [name, data] of Object.entries(DEVICE)) expect(await readFat(output, MIB, name)).toEqual(data);
    expect((await listFat(output, MIB)).sort()).toEqual([
      "config.txt",
      "enrolment_key",
      "kernel8.img",
      "known_hosts",
      "vpn.toml",
    ]);
    const end = statSync(base).size;
    expect(slice(output, 0, MIB).equals(slice(base, 0, MIB))).toBe(true);
    expect(slice(output, 65 * MIB, end).equals(slice(base, 65 * MIB, end))).toBe(true);
    expect(statSync(output).mode & 0o777).toBe(0o600);
    expect(statSync(output).blocks * 512).toBeLessThan(8 * MIB);
  });

  test("is the same for the same configuration", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const one = { base, deviceFiles: DEVICE, compress: false, force: false };
    const first = await writeImage({ ...one, output: join(work.path, "1.dd") });
    const second = await writeImage({ ...one, output: join(work.path, "2.dd") });
    expect(second.sha256).toBe(first.sha256);
  });

  test("has its sum beside it, and compressed it is the same image", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const o = { base, deviceFiles: DEVICE, output: join(work.path, "card.dd"), force: false };
    const raw = await writeImage({ ...o, compress: false });
    const packed = await writeImage({ ...o, compress: true, force: true });
    expect(packed.image).toBe(`${raw.image}.zst`);
    for (const one of [raw, packed]) {
      await run(["sh", "-c", 'cd "$0" && sha256sum --check --strict --quiet "$1"', work.path, one.checksum]);
    }
    const unpacked = Bun.zstdDecompressSync(readFileSync(packed.image));
    expect(Buffer.from(unpacked).equals(readFileSync(raw.image))).toBe(true);
  });

  test("replaces nothing unless forced", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const output = join(work.path, "card.dd");
    const o = { base, deviceFiles: DEVICE, output, compress: false };
    for (const existing of ["card.dd", "card.dd.sha256", "card.dd.bmap"]) {
      const path = join(work.path, existing);
      writeFileSync(path, "mine");
      expect(await failure(writeImage({ ...o, force: false }))).toContain(`${path} exists already`);
      expect(readFileSync(path, "utf8")).toBe("mine");
      await Bun.file(path).delete();
    }
    // Nor what appears while it is written.
    const progress = (): void => writeFileSync(output, "mine");
    expect(await failure(writeImage({ ...o, force: false, progress }))).toContain(`${output} exists already`);
    expect(readdirSync(work.path).sort()).toEqual(["base.img", "card.dd", "fat"]);
    expect(readFileSync(output, "utf8")).toBe("mine");
    await writeImage({ ...o, force: true });
    expect(statSync(output).size).toBe(statSync(base).size);
  });

  test("refuses what is no base, and a configuration that is not whole", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const output = join(work.path, "card.dd");
    const o = { base, deviceFiles: DEVICE, output, compress: false, force: false };
    const other = join(work.path, "other.img");
    writeFileSync(other, Buffer.alloc(100_000));
    expect(await failure(writeImage({ ...o, base: other }))).toContain(
      `${other} is not an SD-card image of walt`,
    );
    writeFileSync(other, readFileSync(base).subarray(0, 66 * MIB));
    expect(await failure(writeImage({ ...o, base: other }))).toContain("the file is cut off");
    const { known_hosts: _, ...less } = DEVICE;
    expect(await failure(writeImage({ ...o, deviceFiles: less }))).toContain("lacks known_hosts");
    const more = { ...DEVICE, "config.txt": Buffer.from("x") };
    expect(await failure(writeImage({ ...o, deviceFiles: more }))).toContain(
      "config.txt is not a file of a device's configuration",
    );
    expect(readdirSync(work.path).filter((name) => name.includes("card"))).toEqual([]);
  });

  test("comes from a compressed base as from the base itself; one that is damaged is refused", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const packed = join(work.path, "base.img.zst");
    await run(["zstd", "-q", base, "-o", packed]);
    const output = join(work.path, "card.dd");
    const o = { deviceFiles: DEVICE, output, compress: false, force: true };
    const first = await writeImage({ ...o, base });
    const second = await writeImage({ ...o, base: packed });
    expect(second.sha256).toBe(first.sha256);
    writeFileSync(packed, readFileSync(packed).subarray(0, -10));
    expect(await failure(writeImage({ ...o, base: packed }))).toContain(`cannot unpack the base ${packed}`);
    expect(readdirSync(work.path).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("does not come from another device's image, whose settings would stay", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const [first, second] = [join(work.path, "1.dd"), join(work.path, "2.dd")];
    const o = { compress: false, force: false };
    const login = { ...DEVICE, authorized_keys: Buffer.from("ssh-ed25519 AAAA\n") };
    await writeImage({ ...o, base, deviceFiles: login, output: first });
    const why = await failure(writeImage({ ...o, base: first, deviceFiles: DEVICE, output: second }));
    expect(why).toContain("the base has a device's configuration already: ");
    expect(why).toContain("authorized_keys");
    expect(existsSync(second)).toBe(false);
  });

  test("has a block map with the sums of all that must be written", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const output = join(work.path, "card.dd");
    const written = await writeImage({ base, deviceFiles: DEVICE, output, compress: false, force: false });
    const map = readFileSync(written.blockMap, "utf8");
    const checksum = /<BmapFileChecksum> ([0-9a-f]{64}) /.exec(map)?.[1] ?? "";
    const blank = map.replace(checksum, "0".repeat(64));
    expect(createHash("sha256").update(blank).digest("hex")).toBe(checksum);
    // What it names, on a card full of other things, is a card whose files are the image's.
    const card = Buffer.alloc(written.size, 0xa5);
    const image = readFileSync(output);
    const ranges = [...map.matchAll(/<Range chksum="([0-9a-f]{64})"> (\d+)-(\d+) </g)];
    expect(ranges.length).toBe(2);
    for (const [, sum = "", first, last] of ranges) {
      const [start, end] = [Number(first) * 4096, Math.min((Number(last) + 1) * 4096, written.size)];
      expect(createHash("sha256").update(image.subarray(start, end)).digest("hex")).toBe(sum);
      image.copy(card, start, start, end);
    }
    const copy = join(work.path, "copy");
    writeFileSync(copy, card);
    for (const [name, data] of Object.entries(DEVICE)) expect(await readFat(copy, MIB, name)).toEqual(data);
    expect(slice(copy, 65 * MIB, written.size).equals(slice(output, 65 * MIB, written.size))).toBe(true);
  });
});

describeWith([TOOLS, { root: true, programs: ["unshare", "mount"] }], "a full disk", () => {
  test("leaves nothing behind", async () => {
    using work = folder();
    const base = await smallBase(work.path);
    const disk = join(work.path, "disk");
    mkdirSync(disk);
    const script = `import { writeImage } from ${JSON.stringify(join(import.meta.dir, "../../../src/image/card/write.ts"))};
      import { DEVICE } from ${JSON.stringify(join(import.meta.dir, "../rig.ts"))};
      await writeImage({ base: ${JSON.stringify(base)}, deviceFiles: DEVICE, output: ${JSON.stringify(join(disk, "card.dd"))}, compress: false, force: false })
        .catch((error) => console.log(error.message));`;
    const shell = 'mount -t tmpfs -o size=2m none "$0" && "$1" -e "$2" && ls -A "$0"';
    const said = await run(["unshare", "--mount", "sh", "-c", shell, disk, process.execPath, script]);
    expect(said).toBe(`cannot write ${join(disk, "card.dd")}: the disk is full\n`);
    expect(existsSync(join(disk, "card.dd"))).toBe(false);
  });
});
