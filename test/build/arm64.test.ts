/** The arm64 binary starts on the processor of a Raspberry Pi 3: Bun has broken there before. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { runAny } from "../../src/linux/run.ts";
import { ownTarget, waltBinary } from "../lab/binary.ts";
import { describeWith } from "../lab/need.ts";

const SYSROOT = "/usr/aarch64-linux-gnu";
const emulated = ownTarget() === "arm64" ? [] : ["qemu-aarch64", "-cpu", "cortex-a53", "-L", SYSROOT];

describeWith(
  emulated.length === 0
    ? {}
    : { programs: ["qemu-aarch64"], files: [`${SYSROOT}/lib/ld-linux-aarch64.so.1`] },
  "arm64 binary",
  () => {
    test("prints its version, checks and shows a configuration, refuses a wrong one", async () => {
      const binary = await waltBinary("arm64");
      const walt = (...args: string[]) => runAny([...emulated, binary, ...args], { timeout: 60_000 });
      const folder = mkdtempSync(join(tmpdir(), "walt-arm64-"));
      try {
        expect((await walt("--version")).stdout).toMatch(
          new RegExp(`^${manifest.version.replaceAll(".", "\\.")}(\\+\\d+\\.g[0-9a-f]+(\\.dirty)?)?\n$`),
        );
        const file = join(folder, "vpn.toml");
        await Bun.write(file, 'role = "server"\n[server]\naddress = "walt.lab.example"\n');
        const good = await walt("config", "check", "--config", file);
        expect(good.stdout).toBe(`${file}: correct, role = "server"\n`);
        expect(good.status).toBe(0);
        const shown = JSON.parse(
          (await walt("config", "show", "--json", "--config", file)).stdout,
        ) as unknown[];
        expect(shown).toContainEqual({
          key: "server.address",
          value: "walt.lab.example:2222",
          source: file,
        });
        await Bun.write(file, 'role = "device"\n[device]\nentrypont = "gate.example.org"\n');
        const bad = await walt("config", "check", "--config", file);
        expect(bad.status).toBe(1);
        expect(bad.stderr).toContain(
          `${file}, line 3: device.entrypont is not a key of [device]; did you mean entrypoint?`,
        );
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    }, 180_000);
  },
);
