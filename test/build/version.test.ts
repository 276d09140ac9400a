/** The version that a build says: that of package.json, and the commit that git names. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { versionOf } from "../../build.ts";
import { run } from "../../src/linux/run.ts";
import { describeWith } from "../lab/need.ts";

describeWith({ programs: ["git"] }, "the version", () => {
  test("names the commit since the version's tag, and what is not committed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "walt-version-"));
    const git = async (...words: string[]): Promise<string> => {
      const who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"];
      return (await run(["git", "-C", folder, ...who, ...words])).trim();
    };
    const commit = async (): Promise<string> => {
      await git("commit", "--quiet", "--allow-empty", "--message", "x");
      return await git("rev-parse", "--short=9", "HEAD");
    };
    try {
      const file = join(folder, "package.json");
      writeFileSync(file, '{"version":"1.2.3"}');
      expect(await versionOf(folder)).toBe("1.2.3");
      await git("init", "--quiet");
      await git("add", "package.json");
      const first = await commit();
      expect(await versionOf(folder)).toBe(`1.2.3+1.g${first}`);
      await git("tag", "v1.2.3");
      expect(await versionOf(folder)).toBe("1.2.3");
      await commit();
      const last = await commit();
      expect(await versionOf(folder)).toMatch(new RegExp(`^1\\.2\\.3\\+2\\.g${last.slice(0, 7)}`));
      writeFileSync(file, '{"version":"1.2.3" }');
      expect(await versionOf(folder)).toMatch(/\+2\.g[0-9a-f]+\.dirty$/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
