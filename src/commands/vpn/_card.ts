/** An SD card's image with a device's files on it. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../errors.ts";
import { ensureBase } from "../../image/base/build.ts";
import { cacheFolder } from "../../image/base/cache.ts";
import { findBinary } from "../../image/card/binary.ts";
import { loginKeysFile } from "../../image/card/login-keys.ts";
import { type OsSettings, osSettingsFile } from "../../image/card/os-settings.ts";
import { type WrittenImage, writeImage } from "../../image/card/write.ts";
import { type Card, flashCard, inspectCard, refuseCard } from "../../image/disk/flash.ts";
import { temporaryFolder } from "../../linux/files.ts";
import { duration } from "../../text.ts";
import { confirm } from "../_ask.ts";
import { printed } from "../node/_output.ts";
import type { DeviceFiles } from "./_device-files.ts";

export interface CardOptions {
  output: string;
  /** A base. Default: the one in the cache, or one that is built now. */
  base: string | undefined;
  compress: boolean;
  force: boolean;
  /** The Debian mirror to build a base from. Default: the one of this machine. */
  mirror: string | undefined;
  /** From `systemFiles`. */
  system: SystemFiles;
}

/** The settings of the card's operating system. */
export type SystemFiles = Partial<Record<"os.txt" | "authorized_keys", string>>;

/** @param loginKeys file of public keys that may log in. @throws WaltError naming a value that cannot be. */
export function systemFiles(os: OsSettings, loginKeys: string | undefined): SystemFiles {
  const settings = osSettingsFile(os);
  return {
    ...(settings === undefined ? {} : { "os.txt": settings }),
    ...(loginKeys === undefined ? {} : { authorized_keys: loginKeysFile(loginKeys) }),
  };
}

/**
 * Write the image, with progress on standard error.
 * @throws WaltError when a base cannot be had or the image not be written.
 */
export async function writeCard(files: DeviceFiles, o: CardOptions): Promise<WrittenImage> {
  const content: Record<string, string> = { ...files, ...o.system };
  const show = progress();
  try {
    return await writeImage({
      base: o.base ?? (await ownBase(o.mirror)),
      deviceFiles: Object.fromEntries(
        Object.entries(content).map(([name, text]) => [name, Buffer.from(text)]),
      ),
      output: o.output,
      compress: o.compress,
      force: o.force,
      progress: show.tell,
    });
  } finally {
    show.stop();
  }
}

/** The base in the cache, or a new one. */
async function ownBase(mirror: string | undefined): Promise<string> {
  const start = performance.now();
  const step = (what: string): void => {
    process.stderr.write(`${duration(performance.now() - start).padStart(8)}  ${what}\n`);
  };
  const base = await ensureBase({ cache: cacheFolder(), binary: findBinary(), mirror, step });
  return base.files.image;
}

/** A line that changes, on a terminal; nothing elsewhere, for it takes a second. */
function progress(): { tell: (what: string, fraction: number) => void; stop: () => void } {
  const { stderr } = process;
  if (!stderr.isTTY) return { tell: () => {}, stop: () => {} };
  return {
    tell: (what, fraction) => void stderr.write(`\r\x1b[K${what} ${Math.round(fraction * 100)} %`),
    stop: () => void stderr.write("\r\x1b[K"),
  };
}

/** The card in a reader. @throws WaltError when it is not to be written to. */
export function lookAtCard(device: string, force: boolean): Card {
  const card = inspectCard(device);
  refuseCard(card, force);
  return card;
}

/** The same, confirmed. @throws WaltError when it is not to be written to, or the answer is no. */
export async function chooseCard(device: string, o: { force: boolean; yes: boolean }): Promise<Card> {
  const card = lookAtCard(device, o.force);
  const question = `${card.device}: ${card.model}, ${(card.size / 1e9).toFixed(1)} GB. All data on it will be lost. Write to it?`;
  if (!o.yes && !(await confirm(question, "--yes")))
    throw new WaltError("the card was not confirmed; nothing was written");
  return card;
}

/**
 * Write an image with a device's files straight to a card.
 * @throws WaltError when the card is not what was written to it.
 */
export async function flashFiles(
  files: DeviceFiles,
  card: Card,
  o: Omit<CardOptions, "output" | "compress" | "force">,
): Promise<void> {
  const folder = temporaryFolder("walt-card-");
  const show = progress();
  try {
    const { image } = await writeCard(files, {
      ...o,
      output: join(folder, "image"),
      compress: false,
      force: false,
    });
    await flashCard(image, card, show.tell);
  } finally {
    show.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Write an image with a device's files to standard output. */
export async function printCard(files: DeviceFiles, o: Omit<CardOptions, "output" | "force">): Promise<void> {
  const folder = temporaryFolder("walt-card-");
  try {
    const { image } = await writeCard(files, { ...o, output: join(folder, "image"), force: false });
    for await (const bytes of Bun.file(image).stream()) await printed(bytes);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
