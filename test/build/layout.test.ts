/** Structures and numbers that bun:ffi hands to the kernel, on both architectures; layout.ts is what runs there. */

import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/linux/run.ts";
import { TUN_F_ALL, TUN_F_TCP, TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ } from "../../src/linux/tap.ts";
import { GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM } from "../../src/tunnel/frame/virtio.ts";
import { ownTarget } from "../lab/binary.ts";
import { describeWith, LAB, need } from "../lab/need.ts";

const PROGRAM = new URL("layout.ts", import.meta.url).pathname;
const SYSROOT = "/usr/aarch64-linux-gnu";
const CHECKS = [
  "struct pollfd",
  "numbers of errno",
  "struct sockaddr_un",
  "struct sockaddr_nl",
  "struct iovec",
  "the pump's loop",
];

/** With TAPs where that can be: in a network namespace of its own. */
async function check(command: string[], arch: string): Promise<void> {
  const taps = !need(LAB).skip;
  const output = await run([...(taps ? ["unshare", "-n"] : []), ...command, ...(taps ? ["tap"] : [])], {
    timeout: 60_000,
  });
  const checks = taps ? [...CHECKS, "struct ifreq and virtio-net header"] : CHECKS;
  expect(output).toBe(`${checks.map((name) => `ok ${name}\n`).join("")}done on ${arch}\n`);
}

test("structures on this machine", () => check([process.execPath, PROGRAM], ownTarget()), 90_000);

if (ownTarget() !== "arm64") {
  describeWith(
    { programs: ["qemu-aarch64"], files: [`${SYSROOT}/lib/ld-linux-aarch64.so.1`] },
    "arm64",
    () => {
      test("structures on the processor of a Raspberry Pi 3, compiled as the binary is", async () => {
        const folder = mkdtempSync(join(tmpdir(), "walt-layout-"));
        try {
          const outfile = join(folder, "layout");
          const built = await Bun.build({
            entrypoints: [PROGRAM],
            compile: { target: "bun-linux-arm64", outfile },
          });
          expect(built.success).toBe(true);
          await check(["qemu-aarch64", "-cpu", "cortex-a53", "-L", SYSROOT, outfile], "arm64");
        } finally {
          rmSync(folder, { recursive: true });
        }
      }, 180_000);
    },
  );
}

const HEADERS = "/usr/include/linux";

test.skipIf(!existsSync(`${HEADERS}/if_tun.h`))("numbers as the kernel's headers have them", () => {
  const text = ["if_tun.h", "virtio_net.h"]
    .map((file) => readFileSync(`${HEADERS}/${file}`, "utf8"))
    .join("\n");
  const value = (name: string): number => {
    const words = new RegExp(`^#define\\s+${name}\\s+(.+?)\\s*(/\\*.*)?$`, "m").exec(text)?.[1] ?? "";
    // asm-generic/ioctl.h: direction "write" 1 << 30, size of the argument << 16, type << 8, number.
    const [, type = "", number] = /^_IOW\('(.)', (\d+), (?:unsigned )?int\)$/.exec(words) ?? [];
    if (number !== undefined) return 0x40000000 + (4 << 16) + (type.charCodeAt(0) << 8) + Number(number);
    return Number(words);
  };
  expect({ TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ }).toEqual({
    TUNSETIFF: value("TUNSETIFF"),
    TUNSETOFFLOAD: value("TUNSETOFFLOAD"),
    TUNSETVNETHDRSZ: value("TUNSETVNETHDRSZ"),
  });
  const bits = (names: string[]): number => names.reduce((all, name) => all | value(`TUN_F_${name}`), 0);
  const tcp = ["CSUM", "TSO4", "TSO6", "TSO_ECN"];
  expect(TUN_F_TCP).toBe(bits(tcp));
  // A header older than Linux 6.2 has no USO.
  if (text.includes("TUN_F_USO4")) expect(TUN_F_ALL).toBe(bits([...tcp, "USO4", "USO6"]));
  for (const [ours, name] of [
    [NEEDS_CSUM, "VIRTIO_NET_HDR_F_NEEDS_CSUM"],
    [GSO_TCPV4, "VIRTIO_NET_HDR_GSO_TCPV4"],
    [GSO_TCPV6, "VIRTIO_NET_HDR_GSO_TCPV6"],
    [GSO_UDP_L4, "VIRTIO_NET_HDR_GSO_UDP_L4"],
  ] as const) {
    if (text.includes(name)) expect([name, value(name)]).toEqual([name, ours]);
  }
});
