/** The partition table: what others read in it, and what is refused. */

import { expect, test } from "bun:test";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { layout, MIB, masterBootRecord, parseMasterBootRecord } from "../../../src/image/disk/disk.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { folder } from "../rig.ts";

const LAYOUT = layout(70_000_001);

test("it reads back, and nothing else passes for it", () => {
  const sector = masterBootRecord(LAYOUT);
  expect(parseMasterBootRecord(sector, LAYOUT.size, "x")).toEqual(LAYOUT);
  expect(LAYOUT.root.size).toBe(67 * MIB);
  const refused = (change: (copy: Buffer) => void, size = LAYOUT.size): (() => unknown) => {
    const copy = Buffer.from(sector);
    change(copy);
    return () => parseMasterBootRecord(copy, size, "x");
  };
  expect(refused((b) => b.fill(0, 510))).toThrow(
    "x is not an SD-card image of walt: it has no partition table",
  );
  expect(refused((b) => b.fill(0, 440, 444))).toThrow("its disk signature is not that of walt");
  expect(refused((b) => b.fill(0, 466, 467))).toThrow("partition 2 has the type 0 instead of 131");
  expect(refused((b) => b.writeUInt32LE(4096, 454))).toThrow("its partitions are at other places");
  expect(refused(() => {}, LAYOUT.size - 1)).toThrow("the file is cut off");
  expect(() => parseMasterBootRecord(sector.subarray(0, 100), 100, "x")).toThrow("no partition table");
});

describeWith({ programs: ["sfdisk"] }, "sfdisk", () => {
  test("finds the three partitions", async () => {
    using work = folder();
    const file = join(work.path, "disk");
    writeFileSync(file, masterBootRecord(LAYOUT));
    truncateSync(file, LAYOUT.size);
    const { partitiontable } = JSON.parse(await run(["sfdisk", "--json", file])) as {
      partitiontable: {
        label: string;
        id: string;
        partitions: { start: number; size: number; type: string }[];
      };
    };
    expect(partitiontable.label).toBe("dos");
    expect(partitiontable.id).toBe("0x57414c54");
    expect(partitiontable.partitions.map(({ start, size, type }) => [start * 512, size * 512, type])).toEqual(
      [
        [LAYOUT.boot.start, LAYOUT.boot.size, "c"],
        [LAYOUT.root.start, LAYOUT.root.size, "83"],
        [LAYOUT.state.start, LAYOUT.state.size, "83"],
      ],
    );
    expect(await run(["sfdisk", "--verify", file])).toContain("No errors detected");
  });
});
