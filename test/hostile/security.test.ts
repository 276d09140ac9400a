/** docs/security.md names a test for each of its statements: they are there. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

test("every test that docs/security.md names exists, and every attack test is named there", () => {
  const text = readFileSync(join(ROOT, "docs/security.md"), "utf8");
  const named = [...text.matchAll(/`(test\/[\w./-]+\.ts)`/g)].map(([, file = ""]) => file);
  expect(named.length).toBeGreaterThan(50);
  expect(named.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  const tests = [...new Bun.Glob("*.test.ts").scanSync(join(ROOT, "test/hostile"))];
  const unnamed = tests.filter(
    (file) => file !== "security.test.ts" && !named.includes(`test/hostile/${file}`),
  );
  expect(unnamed).toEqual([]);
});
