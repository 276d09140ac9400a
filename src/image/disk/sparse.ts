/** Large files with holes: written without their zeros, and read once for every sum that is wanted. */

import { createHash, type Hash } from "node:crypto";
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";

/** Bytes; a hole is a multiple of this, and so is an entry of a block map. */
export const BLOCK = 4096;
const CHUNK = 4 << 20;

/** Told how far it is, from 0 to 1. */
export type Progress = (fraction: number) => void;

const ZEROS = Buffer.alloc(BLOCK);

/** Calls `use` with each chunk of a file, in order; the buffer is used again. Lets others run in between. */
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

/** Copy the content of one file to a place in another, leaving out blocks of zeros: those must be holes there. */
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

/** Runs of blocks that are not all zero: [start, end) in bytes. */
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

/** What one reading of an image tells. */
export interface Survey {
  /** Bytes. */
  size: number;
  /** Hex, of the whole. */
  sha256: string;
  /** Of each range that was asked for. */
  ranges: readonly { start: number; end: number; sha256: string }[];
}

/** Read an image once: its SHA-256, and that of ranges [start, end) in bytes, in order and apart from each other. */
export async function survey(
  path: string,
  ranges: readonly { start: number; end: number }[],
  progress?: Progress,
): Promise<Survey> {
  const fd = openSync(path, "r");
  try {
    const { size } = fstatSync(fd);
    const whole = createHash("sha256");
    const sums: Hash[] = ranges.map(() => createHash("sha256"));
    await chunks(
      fd,
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
  } finally {
    closeSync(fd);
  }
}

/** The end of the last block within [start, end) that is not all zero; `start` where all are. */
export async function lastData(path: string, start: number, end: number): Promise<number> {
  const fd = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(CHUNK);
    for (let to = end; to > start; ) {
      const from = Math.max(start, to - CHUNK);
      const n = readSync(fd, buffer, 0, to - from, from);
      const last = dataRuns(buffer.subarray(0, n)).at(-1);
      if (last !== undefined) return from + last[1];
      to = from;
    }
    return start;
  } finally {
    closeSync(fd);
  }
}
