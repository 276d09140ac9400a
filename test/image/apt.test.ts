/** Packages come only from an archive that Debian's keyring vouches for. */

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../../src/errors.ts";
import { Apt } from "../../src/image/apt.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { describeWith } from "../lab/need.ts";
import { folder } from "./rig.ts";

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
  { programs: ["apt-get"], files: KEYRING === undefined ? ["debian-archive-keyring"] : [KEYRING] },
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
        packages,
      });
      const error = await apt.update().then(
        () => "it was accepted",
        (e: unknown) => messageOf(e),
      );
      expect(error).toContain("cannot get the list of Debian's packages");
      expect(error).toContain("is not signed");
      expect(readdirSync("/var/lib/apt/lists").sort()).toEqual(before);
    }, 30_000);
  },
);
