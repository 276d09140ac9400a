/** Packages come only from an archive that Debian's keyring vouches for. */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../../../src/errors.ts";
import { Apt } from "../../../src/image/base/apt.ts";
import { ARM64 } from "../../../src/image/base/architecture.ts";
import { debianKeyring } from "../../../src/image/tools.ts";
import { describeWith } from "../../lab/need.ts";
import { elfFile, folder, textFile } from "../rig.ts";

const KEYRING = debianKeyring();

/** A mirror with the right files and nobody's signature. */
function unsignedMirror(root: string): string {
  const dist = join(root, "dists/trixie/main/binary-arm64");
  mkdirSync(dist, { recursive: true });
  writeFileSync(join(dist, "Packages"), "");
  writeFileSync(
    join(root, "dists/trixie/Release"),
    "Origin: Debian\nSuite: trixie\nCodename: trixie\nArchitectures: arm64\nComponents: main\nDate: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n",
  );
  return `file:${root}`;
}

describeWith(
  {
    programs: ["apt-get", "mksquashfs", "depmod", "mcopy", "mkfs.vfat", "mkfs.ext4", "xz"],
    files: KEYRING === undefined ? ["debian-archive-keyring"] : [KEYRING],
  },
  "apt",
  () => {
    test("an archive that is not signed is refused, and the machine's own apt knows nothing of it", async () => {
      using work = folder();
      const packages = {
        suites: ["trixie"],
        security: [],
        components: ["main"],
        withDependencies: [],
        alone: [],
      };
      const mirrors = { debian: unsignedMirror(join(work.path, "mirror")), security: undefined };
      const before = readdirSync("/var/lib/apt/lists").sort();
      const apt = await Apt.create({
        folder: join(work.path, "apt"),
        mirrors,
        keyring: KEYRING ?? "",
        architecture: ARM64,
        packages,
      });
      const error = await apt.update().then(
        () => "it was accepted",
        (e: unknown) => messageOf(e),
      );
      expect(error).toContain("cannot download the list of Debian's packages");
      expect(error).toContain("is not signed");
      expect(readdirSync("/var/lib/apt/lists").sort()).toEqual(before);
    }, 120_000);

    test("the mirror is the one that is told, else the configuration's", async () => {
      using work = folder();
      const binary = join(work.path, "walt");
      writeFileSync(binary, elfFile({}));
      const config = textFile(join(work.path, "vpn.toml"), '[image]\nmirror = "file:/nowhere/configured"\n');
      const build = async (...more: string[]): Promise<string> => {
        const main = join(import.meta.dir, "../../../src/main.ts");
        const child = Bun.spawn(
          [
            ...[process.execPath, main, "image", "build", "--config", config, "--binary", binary],
            ...["--cache", join(work.path, "cache"), ...more],
          ],
          { stdout: "ignore", stderr: "pipe" },
        );
        const said = await new Response(child.stderr).text();
        expect(await child.exited).not.toBe(0);
        return said;
      };
      expect(await build()).toContain("/nowhere/configured");
      const told = await build("--mirror", "file:/nowhere/told");
      expect(told).toContain("/nowhere/told");
      expect(told).not.toContain("configured");
      textFile(config, '[image]\nmirror = "mirror.example/debian"\n');
      expect(await build()).toContain("image.mirror must be the address of a Debian mirror");
    }, 120_000);
  },
);
