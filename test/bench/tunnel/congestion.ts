/**
 * TCP as Debian's kernels have it, and so devices and proxies, whatever this machine was told: CUBIC. Hosts of
 * the laboratory may use only what the machine allows, so what it allows is changed while the bench runs.
 */

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import type { Host } from "../../lab/host.ts";

const WANTED = "cubic";
const SYSCTL = "/proc/sys/net/ipv4";
const ALLOWED = `${SYSCTL}/tcp_allowed_congestion_control`;
const words = (file: string): string[] => readFileSync(file, "utf8").trim().split(/\s+/);

/** Allow CUBIC on this machine until the process ends. @param say is told if that is not possible. */
export function allowCubic(say: (line: string) => void): void {
  try {
    spawnSync("modprobe", [`tcp_${WANTED}`]); // there may be no such module, as it is built in
    const before = words(ALLOWED);
    if (before.includes(WANTED)) return;
    writeFileSync(ALLOWED, [...before, WANTED].join(" "));
    process.on("exit", () => writeFileSync(ALLOWED, before.join(" ")));
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  } catch (error) {
    say(`${ALLOWED} cannot be changed (${error instanceof Error ? error.message : error})`);
  }
}

/** From now on new connections of these hosts use CUBIC. @param say is told of those that do not. */
export async function useCubic(hosts: readonly Host[], say: (line: string) => void): Promise<void> {
  const file = `${SYSCTL}/tcp_congestion_control`;
  for (const host of hosts) {
    const set = `for name in ${WANTED} reno; do echo $name 2>/dev/null >${file} && break; done; cat ${file}`;
    const name = (await host.must(["sh", "-c", set])).trim();
    if (name !== WANTED) say(`${host.name}: TCP uses ${name}, as there is no ${WANTED} here`);
  }
}
