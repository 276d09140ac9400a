/** The node's own operating system for an arm64 VM, on a machine of any architecture. */

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { unpackArm64 } from "../lab/arm64-packages.ts";
import { assembleNodeOs, type NodeOs } from "../lab/node-os.ts";

/** Build it from these packages' content: `ARM64_NODE` or `ARM64_SMALL`. */
export async function assembleArm64Node(boot: string, packages: string): Promise<NodeOs> {
  const os = await assembleNodeOs(boot, packages, "arm64");
  // iPXE unpacks it, and the emulated board's USB network is slow.
  writeFileSync(os.vmlinuz, gzipSync(readFileSync(os.vmlinuz)));
  return os;
}

/** The packages of it. */
export const ARM64_NODE = ["linux-image-arm64", "busybox-static"];
/** The packages of one that has no USB: its kernel is a fifth smaller. */
export const ARM64_SMALL = ["linux-image-cloud-arm64", "busybox-static"];

/**
 * Build it in a folder of boot files.
 * @param packages `ARM64_NODE` or `ARM64_SMALL`.
 * @param work an empty folder of its own.
 * @param cache where downloads are kept.
 */
export async function buildArm64Node(
  packages: readonly string[],
  boot: string,
  work: string,
  cache: string,
): Promise<NodeOs> {
  await unpackArm64(packages, work, cache);
  return await assembleArm64Node(boot, work);
}

/** Bytes that a node downloads of it. */
export function downloadSize({ vmlinuz, initrd }: NodeOs): number {
  return statSync(vmlinuz).size + statSync(initrd).size;
}
