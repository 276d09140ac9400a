/**
 * Block maps: which parts of an image have to be written to a card, with their sums. Format 2.0 of bmaptool ("Bmap file
 * format" in its documentation).
 *
 * Blocks of zeros are left out only where they mean nothing, behind the last file of the boot partition: on a card that was used
 * before, what is not written is whatever was there, and a file system's empty tables have to be empty.
 */

import { createHash } from "node:crypto";
import type { Layout } from "./disk.ts";
import { BLOCK, lastData, type Survey } from "./sparse.ts";

/** Ranges of an image that have to be written, in bytes. */
export async function mappedRanges(path: string, l: Layout): Promise<{ start: number; end: number }[]> {
  const end = l.boot.start + l.boot.size;
  return [
    { start: 0, end: await lastData(path, l.boot.start, end) },
    { start: l.root.start, end: l.size },
  ];
}

/** The map as XML. */
export function blockMap(s: Survey): string {
  const ranges = s.ranges.map(
    ({ start, end, sha256 }) =>
      `        <Range chksum="${sha256}"> ${start / BLOCK}-${Math.ceil(end / BLOCK) - 1} </Range>`,
  );
  const mapped = s.ranges.reduce((sum, { start, end }) => sum + Math.ceil(end / BLOCK) - start / BLOCK, 0);
  const text = (checksum: string): string =>
    [
      '<?xml version="1.0" ?>',
      '<bmap version="2.0">',
      `    <ImageSize> ${s.size} </ImageSize>`,
      `    <BlockSize> ${BLOCK} </BlockSize>`,
      `    <BlocksCount> ${Math.ceil(s.size / BLOCK)} </BlocksCount>`,
      `    <MappedBlocksCount> ${mapped} </MappedBlocksCount>`,
      "    <ChecksumType> sha256 </ChecksumType>",
      `    <BmapFileChecksum> ${checksum} </BmapFileChecksum>`,
      "    <BlockMap>",
      ...ranges,
      "    </BlockMap>",
      "</bmap>",
      "",
    ].join("\n");
  // The checksum is that of the map in which it is all zeros.
  return text(
    createHash("sha256")
      .update(text("0".repeat(64)))
      .digest("hex"),
  );
}
