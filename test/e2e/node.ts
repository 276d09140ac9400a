/** The node's own operating system for an arm64 VM, on a machine of any architecture. */

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { unpackArm64 } from "../lab/arm64-packages.ts";
import { assembleNodeOs, type NodeOs } from "../lab/node-os.ts";

/** Build it from these packages' content: `ARM64_NODE`. */
export async function assembleArm64Node(boot: string, packages: string): Promise<NodeOs> {
  const os = await assembleNodeOs(boot, packages, "arm64");
  // iPXE unpacks it, and the emulated board's USB network is slow.
  writeFileSync(os.vmlinuz, gzipSync(readFileSync(os.vmlinuz)));
  return os;
}

/** The packages of it. */
export const ARM64_NODE = ["linux-image-arm64", "busybox-static"];

/**
 * Build it in a server's folder of boot files; bytes that a node downloads.
 * @param work an empty folder of its own.
 * @param cache where downloads are kept.
 */
export async function buildArm64Node(boot: string, work: string, cache: string): Promise<number> {
  await unpackArm64(ARM64_NODE, work, cache);
  const { vmlinuz, initrd } = await assembleArm64Node(boot, work);
  return statSync(vmlinuz).size + statSync(initrd).size;
}
