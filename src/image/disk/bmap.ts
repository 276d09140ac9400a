/**
 * Block maps: which ranges of an image have to be written to a card, with their checksums.
 *
 * The format is version 2.0 of bmaptool ("Bmap file format" in its documentation).
 *
 * A range that is not in the map keeps whatever the card held there before. The empty tables of a file system
 * must not, so that blocks of zeros are left out in one place only: after the last file of the boot
 * partition.
 */

import { createHash } from "node:crypto";
import type { Layout } from "./disk.ts";
import { BLOCK, lastData, type Survey } from "./sparse.ts";

/** The ranges of an image that have to be written: [start, end) in bytes. @param path of the image. */
export async function mappedRanges(path: string, l: Layout): Promise<{ start: number; end: number }[]> {
  const end = l.boot.start + l.boot.size;
  return [
    { start: 0, end: await lastData(path, l.boot.start, end) },
    { start: l.root.start, end: l.size },
  ];
}

/** The block map of an image as XML. @param s with the ranges of `mappedRanges`. */
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
  // The map's own checksum is computed with zeros in its place.
  return text(
    createHash("sha256")
      .update(text("0".repeat(64)))
      .digest("hex"),
  );
}
