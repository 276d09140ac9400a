/**
 * Sparse files: copying without the blocks of zeros, and checksums of a whole file and of ranges in one
 * reading.
 */

import { createHash, type Hash } from "node:crypto";
import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { openFile } from "../../linux/files.ts";

/** Bytes of a block: the unit of holes and of block maps. */
export const BLOCK = 4096;
/** Bytes that are read at a time. */
const CHUNK = 4 << 20;

/** Called with the fraction that is done, from 0 to 1. */
export type Progress = (fraction: number) => void;

const ZEROS = Buffer.alloc(BLOCK);

/**
 * Call `use` with each chunk of a file, in order. The chunk is valid during the call only, as its buffer is
 * used again. Other tasks of the program run between two chunks.
 */
async function chunks(
  fd: number,
  size: number,
  use: (chunk: Buffer, position: number) => void,
  progress?: Progress,
): Promise<void> {
  const buffer = Buffer.alloc(CHUNK);
  for (let position = 0; position < size; ) {
    const n = readSync(fd, buffer, 0, Math.min(CHUNK, size - position), position);
    if (n === 0) throw new Error("the file became shorter while it was read");
    use(buffer.subarray(0, n), position);
    position += n;
    progress?.(position / size);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/**
 * Copy one open file into another without the blocks of zeros, so that the target must read as zeros there
 * already.
 * @param from descriptor of the source.
 * @param to descriptor of the target, which is made longer when it is too short.
 * @param o `at`: where the copy begins in the target, in bytes; 0 unless given.
 * @returns size of the source, in bytes.
 */
export async function copySparse(
  from: number,
  to: number,
  o: { at?: number; progress?: Progress } = {},
): Promise<number> {
  const { size } = fstatSync(from);
  const at = o.at ?? 0;
  if (fstatSync(to).size < at + size) ftruncateSync(to, at + size);
  await chunks(
    from,
    size,
    (chunk, position) => {
      for (const [start, end] of dataRuns(chunk)) {
        for (let done = start; done < end; )
          done += writeSync(to, chunk, done, end - done, at + position + done);
      }
    },
    o.progress,
  );
  return size;
}

/** The runs of blocks in a chunk that are not all zero: [start, end) in bytes. */
function dataRuns(chunk: Buffer): [number, number][] {
  const runs: [number, number][] = [];
  for (let start = 0; start < chunk.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, chunk.length);
    if (chunk.compare(ZEROS, 0, end - start, start, end) === 0) continue;
    const last = runs.at(-1);
    if (last?.[1] === start) last[1] = end;
    else runs.push([start, end]);
  }
  return runs;
}

/** Size and checksums of an image. */
export interface Survey {
  /** Bytes. */
  size: number;
  /** SHA-256 of the whole image, in hex. */
  sha256: string;
  /** The ranges that were asked for, [start, end) in bytes, with the SHA-256 of each in hex. */
  ranges: readonly { start: number; end: number; sha256: string }[];
}

/**
 * Read an image once, for the SHA-256 of the whole and of some ranges.
 * @param ranges [start, end) in bytes.
 */
export async function survey(
  path: string,
  ranges: readonly { start: number; end: number }[],
  progress?: Progress,
): Promise<Survey> {
  using file = openFile(path, "r");
  const { size } = fstatSync(file.fd);
  const whole = createHash("sha256");
  const sums: Hash[] = ranges.map(() => createHash("sha256"));
  await chunks(
    file.fd,
    size,
    (chunk, position) => {
      whole.update(chunk);
      for (const [index, { start, end }] of ranges.entries()) {
        const from = Math.max(start, position);
        const to = Math.min(end, position + chunk.length);
        if (from < to) sums[index]?.update(chunk.subarray(from - position, to - position));
      }
    },
    progress,
  );
  const digests = sums.map((sum) => sum.digest("hex"));
  return {
    size,
    sha256: whole.digest("hex"),
    ranges: ranges.map((range, index) => ({ ...range, sha256: digests[index] ?? "" })),
  };
}

/**
 * The end of the last block in [start, end) that is not all zero, in bytes; `start` when all blocks are zero.
 */
export async function lastData(path: string, start: number, end: number): Promise<number> {
  using file = openFile(path, "r");
  const buffer = Buffer.alloc(CHUNK);
  for (let to = end; to > start; ) {
    const from = Math.max(start, to - CHUNK);
    const n = readSync(file.fd, buffer, 0, to - from, from);
    const last = dataRuns(buffer.subarray(0, n)).at(-1);
    if (last !== undefined) return from + last[1];
    to = from;
  }
  return start;
}
