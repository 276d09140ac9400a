/** What can be said of an image without booting it: file systems, files, libraries, secrets. */

import {
  ftruncateSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../errors.ts";
import { openFile } from "../../linux/files.ts";
import { AARCH64, isElf, parseElf } from "../base/elf.ts";
import { loadRecipe } from "../base/recipe.ts";
import { MANIFEST_PATH, WALT_PATH } from "../base/rootfs.ts";
import { Tree, walk } from "../base/tree.ts";
import { type Layout, type Partition, parseMasterBootRecord } from "../disk/disk.ts";
import { listFat, readFat } from "../disk/fat.ts";
import { tool, toolAny } from "../process.ts";
import { needTools } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";
import { DEVICE_FILES } from "./write.ts";

export const CHECK_TOOLS: Readonly<Record<string, string>> = {
  "fsck.vfat": "dosfstools",
  e2fsck: "e2fsprogs",
  debugfs: "e2fsprogs",
  unsquashfs: "squashfs-tools",
  mcopy: "mtools",
};

export interface Checked {
  /** What is wrong, in words. */
  problems: string[];
  /** Files in the root. */
  files: number;
  /** How many kinds of check were made. */
  checks: number;
}

/** A private key with its content: the header alone stands in every program that reads keys. */
const PRIVATE_KEY = /-----BEGIN ([A-Z]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{40}/;

/** @throws WaltError when a tool is missing, or the file is no image at all. */
export async function checkImage(image: string): Promise<Checked> {
  needTools(CHECK_TOOLS);
  const layout = readLayout(image);
  using folder = new WorkFolder(join(tmpdir(), "walt-check-"));
  const work = folder.path;
  const result: Checked = { problems: [], files: 0, checks: 0 };
  /** @returns whether nothing was wrong. */
  const check = async (
    what: string,
    body: () => Promise<readonly string[]> | readonly string[],
  ): Promise<boolean> => {
    result.checks++;
    const before = result.problems.length;
    try {
      for (const problem of await body()) result.problems.push(`${what}: ${problem}`);
    } catch (error) {
      result.problems.push(`${what}: ${messageOf(error)}`);
    }
    return result.problems.length === before;
  };
  await check("boot partition", () => checkFat(image, layout, work));
  await check("state partition", () => checkState(image, layout));
  await check("boot files", () => checkBootFiles(image, layout));
  await check("state", () => checkStateEmpty(image, layout));
  const root = join(work, "root");
  const unpacked = await check("root partition", async () => {
    await tool(["unsquashfs", "-n", "-q", "-no-xattrs", "-o", `${layout.root.start}`, "-d", root, image]);
    return [];
  });
  const paths = unpacked ? walk(root).filter((path) => lstatSync(join(root, path)).isFile()) : [];
  result.files = paths.length;
  await check("permissions", () => checkPermissions(image, layout));
  await check("libraries", () => checkLibraries(root, paths));
  await check("secrets", () => checkSecrets(root, paths));
  await check("users", () => checkUsers(root));
  return result;
}

/** The partitions of an image. @throws WaltError when it is none of ours. */
export function readLayout(image: string): Layout {
  using file = openFile(image, "r");
  const sector = Buffer.alloc(512);
  readSync(file.fd, sector, 0, sector.length, 0);
  return parseMasterBootRecord(sector, statSync(image).size, image);
}

/** A partition as a file of its own, for a program that knows no offsets. */
function extract(image: string, { start, size }: Partition, to: string): void {
  using from = openFile(image, "r");
  using file = openFile(to, "w", 0o600);
  ftruncateSync(file.fd, size);
  const buffer = Buffer.alloc(1 << 20);
  for (let at = 0; at < size; at += buffer.length) {
    const n = readSync(from.fd, buffer, 0, Math.min(buffer.length, size - at), start + at);
    writeSync(file.fd, buffer, 0, n, at);
  }
}

async function checkFat(image: string, l: Layout, work: string): Promise<string[]> {
  const file = join(work, "fat");
  extract(image, l.boot, file);
  const { status, stdout, stderr } = await toolAny(["fsck.vfat", "-n", file]);
  rmSync(file);
  return status === 0 ? [] : [`fsck.vfat says ${(stdout + stderr).trim()}`];
}

async function checkState(image: string, l: Layout): Promise<string[]> {
  const { status, stdout, stderr } = await toolAny([
    "e2fsck",
    "-f",
    "-n",
    `${image}?offset=${l.state.start}`,
  ]);
  return status === 0 ? [] : [`e2fsck says ${(stdout + stderr).trim()}`];
}

/** What the board's firmware and kernel read, and what config.txt names. */
async function checkBootFiles(image: string, l: Layout): Promise<string[]> {
  const recipe = loadRecipe();
  const present = await listFat(image, l.boot.start);
  const config = (await readFat(image, l.boot.start, "config.txt")).toString();
  const named = [/^kernel=(\S+)$/m, /^initramfs (\S+)/m].map((pattern) => pattern.exec(config)?.[1] ?? "?");
  const system = ["cmdline.txt", "config.txt", ...named, ...recipe.firmware.map(({ name }) => name)];
  const device = Object.keys(DEVICE_FILES);
  const wanted = [...system, ...device.filter((name) => DEVICE_FILES[name])];
  const problems = wanted.filter((name) => !present.includes(name)).map((name) => `${name} is missing`);
  for (const name of present) {
    if (![...system, ...device].includes(name)) problems.push(`${name} is not of an image`);
    // The enrolment key is the one that every card may have, and nobody's file but its own.
    if (!device.includes(name) || name === "enrolment_key") continue;
    if ((await readFat(image, l.boot.start, name)).toString("latin1").includes("PRIVATE KEY"))
      problems.push(`${name} holds a private key`);
  }
  return problems;
}

/** What is on the state partition would be on every board: keys that are made on one, above all. */
async function checkStateEmpty(image: string, l: Layout): Promise<string[]> {
  const listing = await tool(["debugfs", "-R", "ls -p /", `${image}?offset=${l.state.start}`]);
  // /inode/mode/uid/gid/name/size/
  const names = [...listing.matchAll(/^\/\d+\/\d+\/\d+\/\d+\/([^/]+)\//gm)].map((match) => match[1] ?? "");
  if (!names.includes("lost+found")) return [`debugfs says ${listing.trim()}`];
  return names
    .filter((name) => ![".", "..", "lost+found"].includes(name))
    .map((name) => `${name} would be on every board`);
}

/** By the squashfs itself, as unpacking gives everything to the current user. */
async function checkPermissions(image: string, l: Layout): Promise<string[]> {
  const listing = await tool(["unsquashfs", "-lln", "-o", `${l.root.start}`, image]);
  return listing.split("\n").flatMap((line) => {
    const match = /^([-dlbcps])(\S{9}) (\d+)\/(\d+) .*?(squashfs-root.*)$/.exec(line);
    if (match === null) return [];
    const [, type = "", mode = "", uid, gid, path = ""] = match;
    const problems: string[] = [];
    if (type !== "l" && mode[7] === "w") problems.push(`${path} may be written by everybody`);
    if (type === "d" && mode !== "rwxr-xr-x") problems.push(`${path} is a folder not open to all`);
    if (/[sS]/.test(mode)) problems.push(`${path} is set-user-id`);
    if (uid !== "0" || gid !== "0") problems.push(`${path} does not belong to root`);
    if (!/[-dl]/.test(type)) problems.push(`${path} is no file, folder or link`);
    return problems;
  });
}

/** Every program and library of the root finds what it needs within the root. */
function checkLibraries(root: string, paths: readonly string[]): string[] {
  const tree = new Tree();
  tree.add("root", root);
  const problems: string[] = [];
  for (const path of paths) {
    const bytes = readFileSync(join(root, path));
    if (!isElf(bytes) || path.endsWith(".ko")) continue;
    try {
      const elf = parseElf(bytes, path);
      if (elf.machine === AARCH64) tree.closure(`/${path}`);
      else problems.push(`${path} is not for arm64`);
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  const needed = [WALT_PATH, MANIFEST_PATH, "/etc/walt-os"];
  return [
    ...problems,
    ...needed.filter((path) => tree.find(path) === undefined).map((path) => `${path} is missing`),
  ];
}

function checkSecrets(root: string, paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (/ssh_host_|host_key$|dropbear_\w+_key|authorized_keys$/.test(path))
      return [`${path} must not be in an image`];
    const bytes = readFileSync(join(root, path));
    // Libraries bring keys of their own, for testing themselves.
    const found = !isElf(bytes) && PRIVATE_KEY.test(bytes.toString("latin1"));
    return found ? [`${path} holds a private key`] : [];
  });
}

/** Nobody can log in with a password, and none is there to be guessed. */
function checkUsers(root: string): string[] {
  const problems: string[] = [];
  const names = readdirSync(join(root, "etc"));
  for (const name of ["shadow", "gshadow"])
    if (names.includes(name)) problems.push(`there is an /etc/${name}`);
  for (const line of readFileSync(join(root, "etc/passwd"), "utf8").split("\n")) {
    const [user, password] = line.split(":");
    if (line !== "" && password !== "*") problems.push(`${user} has something for a password`);
  }
  return problems;
}
