/** The arm64 walt binary that goes into an image. */

import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { dirname, join } from "node:path";
import { usageError, WaltError } from "../../errors.ts";
import { AARCH64 } from "../base/elf.ts";

export const ARM64_NAME = "walt-linux-arm64";

/** Whether this program is the compiled binary. */
const compiled = import.meta.path.startsWith("/$bunfs/");

/** Where it is looked for, in this order. */
export function binaryPlaces(): string[] {
  const beside = compiled ? [join(dirname(process.execPath), ARM64_NAME)] : [];
  if (compiled && process.arch === "arm64") beside.unshift(process.execPath);
  const repository = compiled ? [] : [join(import.meta.dir, "../../../dist", ARM64_NAME)];
  return [
    ...beside,
    ...repository,
    join("/usr/local/lib/walt", ARM64_NAME),
    join(process.cwd(), "dist", ARM64_NAME),
  ];
}

/**
 * Its path.
 * @param told the one to take.
 * @throws WaltError that says where it was looked for, or that it is another kind of file.
 */
export function findBinary(told?: string, places = binaryPlaces()): string {
  const found = told ?? places.find((path) => existsSync(path));
  if (found === undefined) {
    throw new WaltError(
      `there is no arm64 walt binary, which an image needs; looked for ${places.join(", ")}`,
      {
        hint: "Put it beside this one, or name it with --binary. `bun run build` makes both.",
      },
    );
  }
  if (machineOf(found) !== AARCH64) throw usageError(`${found} is not an arm64 binary`);
  return found;
}

/** e_machine of an ELF file; undefined of any other. */
function machineOf(path: string): number | undefined {
  const header = Buffer.alloc(20);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    throw new WaltError(`cannot read ${path}`);
  }
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  return header.toString("latin1", 0, 4) === "\x7fELF" ? header.readUInt16LE(18) : undefined;
}
