/** Checks an image without booting it: its file systems, files, libraries, and that it holds no secrets. */

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
import { ARM64 } from "../base/architecture.ts";
import { isElf, parseElf } from "../base/elf.ts";
import { loadRecipe } from "../base/recipe.ts";
import { MANIFEST_PATH, WALT_PATH } from "../base/rootfs.ts";
import { Tree, walk } from "../base/tree.ts";
import { type Layout, type Partition, parseMasterBootRecord } from "../disk/disk.ts";
import { listFat, readFat } from "../disk/fat.ts";
import { tool, toolAny } from "../process.ts";
import { needTools } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";
import { DEVICE_FILES } from "./write.ts";

/** Programs that check an image: program → package. */
export const CHECK_TOOLS: Readonly<Record<string, string>> = {
  "fsck.vfat": "dosfstools",
  e2fsck: "e2fsprogs",
  debugfs: "e2fsprogs",
  unsquashfs: "squashfs-tools",
  mcopy: "mtools",
};

/** The result of a check. */
export interface Checked {
  /** One message for each thing that is wrong; empty when the image is good. */
  problems: string[];
  /** Number of files in the root partition. */
  files: number;
  /** Number of kinds of check that were made. */
  checks: number;
}

/**
 * A private key with its content. The header alone does not count: every program that reads keys contains it.
 */
const PRIVATE_KEY = /-----BEGIN ([A-Z]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{40}/;

/**
 * Check an image. What is wrong with it is in the result.
 * @param image path of the uncompressed image.
 * @throws WaltError when a tool of this machine is missing, or when the file is not an image of walt.
 */
export async function checkImage(image: string): Promise<Checked> {
  needTools(CHECK_TOOLS);
  const layout = readLayout(image);
  using folder = new WorkFolder(join(tmpdir(), "walt-check-"));
  const work = folder.path;
  const result: Checked = { problems: [], files: 0, checks: 0 };
  /** Make one kind of check, and add what it finds to the result; true when it finds nothing wrong. */
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

/** The partitions of an image. @throws WaltError when the file is not an image of walt. */
export function readLayout(image: string): Layout {
  using file = openFile(image, "r");
  const sector = Buffer.alloc(512);
  readSync(file.fd, sector, 0, sector.length, 0);
  return parseMasterBootRecord(sector, statSync(image).size, image);
}

/** Copy a partition into a separate file, for a program that cannot read a partition inside an image. */
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
  return status === 0 ? [] : [`fsck.vfat reports: ${(stdout + stderr).trim()}`];
}

async function checkState(image: string, l: Layout): Promise<string[]> {
  const { status, stdout, stderr } = await toolAny([
    "e2fsck",
    "-f",
    "-n",
    `${image}?offset=${l.state.start}`,
  ]);
  return status === 0 ? [] : [`e2fsck reports: ${(stdout + stderr).trim()}`];
}

/**
 * The files of the boot partition: those that the board's firmware reads and that config.txt names are there,
 * the files of a device's configuration are there, and nothing else is.
 */
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
    if (![...system, ...device].includes(name)) problems.push(`${name} is not a file of an image`);
    // The enrolment key is the one private key that every card has, and it is allowed in its own file only.
    if (!device.includes(name) || name === "enrolment_key") continue;
    if ((await readFat(image, l.boot.start, name)).toString("latin1").includes("PRIVATE KEY"))
      problems.push(`${name} holds a private key`);
  }
  return problems;
}

/**
 * The state partition is empty. A file on it would be on every board, and a board's keys, which the board
 * makes for itself, must not be the same on two boards.
 */
async function checkStateEmpty(image: string, l: Layout): Promise<string[]> {
  const listing = await tool(["debugfs", "-R", "ls -p /", `${image}?offset=${l.state.start}`]);
  // A line is: /inode/mode/uid/gid/name/size/
  const names = [...listing.matchAll(/^\/\d+\/\d+\/\d+\/\d+\/([^/]+)\//gm)].map((match) => match[1] ?? "");
  if (!names.includes("lost+found")) return [`debugfs reports: ${listing.trim()}`];
  return names
    .filter((name) => ![".", "..", "lost+found"].includes(name))
    .map((name) => `the file ${name} would be on every board`);
}

/**
 * Owners and permissions of the root partition's files. They are read from the squashfs, because unpacked
 * files belong to the current user.
 */
async function checkPermissions(image: string, l: Layout): Promise<string[]> {
  const listing = await tool(["unsquashfs", "-lln", "-o", `${l.root.start}`, image]);
  return listing.split("\n").flatMap((line) => {
    const match = /^([-dlbcps])(\S{9}) (\d+)\/(\d+) .*?(squashfs-root.*)$/.exec(line);
    if (match === null) return [];
    const [, type = "", mode = "", uid, gid, path = ""] = match;
    const problems: string[] = [];
    if (type !== "l" && mode[7] === "w") problems.push(`${path} can be written by everybody (${mode})`);
    if (type === "d" && mode !== "rwxr-xr-x")
      problems.push(`the folder ${path} has the permissions ${mode} instead of rwxr-xr-x`);
    if (/[sS]/.test(mode)) problems.push(`${path} has a set-user-id or set-group-id bit (${mode})`);
    if (uid !== "0" || gid !== "0") problems.push(`${path} does not belong to root, but to ${uid}:${gid}`);
    if (!/[-dl]/.test(type)) problems.push(`${path} is neither a file nor a folder nor a symbolic link`);
    return problems;
  });
}

/** Every program and library in the root partition finds the libraries that it needs there. */
function checkLibraries(root: string, paths: readonly string[]): string[] {
  const tree = new Tree(ARM64);
  tree.add("root", root);
  const problems: string[] = [];
  for (const path of paths) {
    const bytes = readFileSync(join(root, path));
    if (!isElf(bytes) || path.endsWith(".ko")) continue;
    try {
      const elf = parseElf(bytes, path);
      if (elf.machine === ARM64.machine) tree.closure(`/${path}`);
      else problems.push(`${path} is a program, but not for arm64`);
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

/** The root partition has no private keys, and none of the files in which SSH keeps keys. */
function checkSecrets(root: string, paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (/ssh_host_|host_key$|dropbear_\w+_key|authorized_keys$/.test(path))
      return [`${path} is a file of keys, which must not be in an image`];
    const bytes = readFileSync(join(root, path));
    // Programs and libraries are left out: cryptographic libraries contain private keys for their self-tests.
    const found = !isElf(bytes) && PRIVATE_KEY.test(bytes.toString("latin1"));
    return found ? [`${path} holds a private key`] : [];
  });
}

/**
 * No user can log in with a password: there are no hashes of passwords, and passwd(5) says `*` for every
 * user.
 */
function checkUsers(root: string): string[] {
  const problems: string[] = [];
  const names = readdirSync(join(root, "etc"));
  for (const name of ["shadow", "gshadow"])
    if (names.includes(name)) problems.push(`/etc/${name} exists, which may hold passwords`);
  for (const line of readFileSync(join(root, "etc/passwd"), "utf8").split("\n")) {
    const [user, password] = line.split(":");
    if (line !== "" && password !== "*") problems.push(`the user ${user} has a password in /etc/passwd`);
  }
  return problems;
}
