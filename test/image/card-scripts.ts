/** A host of the laboratory in the place of a board, as far as the card's own scripts can tell. */

import { join } from "node:path";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";

const SCRIPTS = join(import.meta.dir, "../../device/root/usr/lib/walt");

/**
 * What the scripts expect of the card's root: themselves, busybox's udhcpc, a console, a boot partition, no
 * modules.
 */
const PREPARE = `set -e
mount -t tmpfs bin /usr/local/bin
ln -s "$(command -v busybox)" /usr/local/bin/udhcpc
mkdir -p /run/over/upper /run/over/work
mount -t overlay -o lowerdir=/usr/lib,upperdir=/run/over/upper,workdir=/run/over/work overlay /usr/lib
cp -r "$0" /usr/lib/walt
mount -t tmpfs boot /boot
: >/run/console
mount --bind /run/console /dev/console
: >/etc/walt-modules
`;

export async function prepareBoard(board: Host): Promise<void> {
  await board.must(["sh", "-c", PREPARE, SCRIPTS]);
}

/** Wait until a shell command on the board succeeds; what it printed. */
export async function until(board: Host, condition: string): Promise<string> {
  const ask = () => board.run(["sh", "-c", condition]);
  const { stdout } = await eventually(condition, ask, { fits: ({ status }) => status === 0, every: 50 });
  return stdout;
}

/** Wait for a line of the board's console. */
export async function said(board: Host, pattern: RegExp): Promise<RegExpExecArray> {
  const text = await until(board, `grep -E '${pattern.source}' /run/console`);
  const found = pattern.exec(text);
  if (found === null) throw new Error(text);
  return found;
}
