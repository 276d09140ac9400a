/** Machines that cannot run the binary: the script beside it says why. */

import { expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binaryPath } from "../../build.ts";
import { runAny } from "../../src/linux/run.ts";
import { ownTarget, waltBinary } from "../lab/binary.ts";
import { describeWith } from "../lab/need.ts";

const SCRIPT = join(import.meta.dir, "../../src/walt-check.sh");
/** The same in a mount namespace, in which /proc/cpuinfo is another file. */
const withProcessor = (flags: string, args: string): string[] => [
  ...["unshare", "--mount", "sh", "-c"],
  `mount -t tmpfs tmpfs /mnt && echo 'flags : ${flags}' > /mnt/cpuinfo && mount --bind /mnt/cpuinfo /proc/cpuinfo && sh ${SCRIPT} ${args}`,
];

describeWith({ root: true, programs: ["unshare", "setarch"] }, "walt-check.sh", () => {
  test("a machine that can run it, and what is not the machine's fault", async () => {
    const binary = await waltBinary();
    const dir = mkdtempSync(join(tmpdir(), "walt-check-"));
    try {
      expect(await runAny(["sh", SCRIPT, binary])).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/^walt \d+\.\d+\.\d+\S* runs here\n$/),
      });
      const said = async (name: string): Promise<string> => (await runAny(["sh", SCRIPT, name])).stderr;
      const other = join(dir, "other");
      const elf = Buffer.alloc(64);
      elf.write("\x7fELF", "latin1");
      elf.writeUInt16LE(ownTarget() === "x64" ? 183 : 62, 18);
      writeFileSync(other, elf, { mode: 0o755 });
      expect(await said(other)).toContain(`${other} is not for this machine`);
      const closed = join(dir, "closed");
      copyFileSync(binary, closed);
      await runAny(["chmod", "644", closed]);
      expect(await said(closed)).toContain(`${closed} may not be executed\nchmod +x`);
      expect(await said(join(dir, "none"))).toContain(`there is no ${dir}/none`);
    } finally {
      rmSync(dir, { recursive: true });
    }
    expect(await Bun.file(join(binaryPath(ownTarget()), "../walt-check.sh")).text()).toBe(
      await Bun.file(SCRIPT).text(),
    );
  }, 120_000);

  test.skipIf(process.arch !== "x64")(
    "a processor without SSE4.2, and a 32-bit one",
    async () => {
      const binary = await waltBinary();
      const old = await runAny(withProcessor("fpu sse sse2 ssse3 sse4_1", binary));
      expect([old.status, old.stderr]).toEqual([
        1,
        expect.stringMatching(/has no SSE4\.2: walt ends with "Illegal instruction"\nUse a machine of 2010/),
      ]);
      expect((await runAny(withProcessor("fpu sse4_1 sse4_2", binary))).status).toBe(0);
      const small = await runAny(["setarch", "i686", "sh", SCRIPT, binary]);
      expect([small.status, small.stderr]).toEqual([1, expect.stringContaining("this machine is i686")]);
    },
    120_000,
  );
});

describeWith({ programs: ["qemu-x86_64"] }, "the binary on an old processor", () => {
  test.skipIf(process.arch !== "x64")(
    "runs from SSE4.2 on, as the script says",
    async () => {
      const binary = await waltBinary();
      const on = (processor: string) =>
        runAny(["qemu-x86_64", "-cpu", processor, binary, "--version"], { timeout: 120_000 });
      expect((await on("Nehalem")).status).toBe(0);
      expect((await on("core2duo")).stderr).toContain("Illegal instruction");
    },
    240_000,
  );
});
