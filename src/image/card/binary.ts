/** Finds the arm64 walt binary that goes into an image. */

import { existsSync, readSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { openFile } from "../../linux/files.ts";
import { isCompiled } from "../../linux/this-program.ts";
import { ARM64 } from "../base/architecture.ts";

/** Name of the arm64 binary, as `bun run build` makes it. */
export const ARM64_NAME = "walt-linux-arm64";

/** Paths at which the binary is looked for, in this order. */
export function binaryPlaces(): string[] {
  const beside = isCompiled ? [join(dirname(process.execPath), ARM64_NAME)] : [];
  if (isCompiled && process.arch === "arm64") beside.unshift(process.execPath);
  const repository = isCompiled ? [] : [join(import.meta.dir, "../../../dist", ARM64_NAME)];
  return [
    ...beside,
    ...repository,
    join("/usr/local/lib/walt", ARM64_NAME),
    join(process.cwd(), "dist", ARM64_NAME),
  ];
}

/**
 * The path of the arm64 binary.
 * @param given the path that the user chose; otherwise the first of `places` that exists.
 * @throws WaltError when there is none (naming the places), when it cannot be read, or when it is not for
 *   arm64 (usage).
 */
export function findBinary(given?: string, places = binaryPlaces()): string {
  const found = given ?? places.find((path) => existsSync(path));
  if (found === undefined) {
    throw new WaltError(
      `an image needs the arm64 walt binary, but none of these exists: ${places.join(", ")}`,
      {
        hint: "Put it beside this program, or name it with --binary. `bun run build` makes both programs.",
      },
    );
  }
  const machine = machineOf(found);
  if (machine === ARM64.machine) return found;
  const is = machine === undefined ? "no program" : `for ${MACHINES[machine] ?? "another processor"}`;
  throw usageError(
    `${found} is not an arm64 binary: it is ${is}`,
    `The card needs ${ARM64_NAME}, also on a server of another architecture.`,
  );
}

/** Names of some values of e_machine (elf.h). */
const MACHINES: Readonly<Record<number, string>> = {
  3: "32-bit x86",
  40: "32-bit arm",
  62: "x86-64",
  243: "RISC-V",
};

/**
 * e_machine of an ELF file, the kind of processor; undefined for other files.
 * @throws WaltError when the file cannot be read.
 */
function machineOf(path: string): number | undefined {
  const header = Buffer.alloc(20);
  try {
    using file = openFile(path, "r");
    readSync(file.fd, header, 0, header.length, 0);
  } catch (error) {
    throw new WaltError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  return header.toString("latin1", 0, 4) === "\x7fELF" ? header.readUInt16LE(18) : undefined;
}
