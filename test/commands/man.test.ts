/** Man pages: troff takes them without a warning, and they say what help says. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { manPages } from "../../src/commands/_man.ts";
import { root } from "../../src/commands/root.ts";
import { runAny } from "../../src/linux/run.ts";
import { describeWith } from "../lab/need.ts";
import { leaves } from "./leaves.ts";

const pages = await manPages(root, { version: "0.1.0", date: "2026-03-01" });

test("there is one for each command, with its options", async () => {
  for (const [words, { args }] of await leaves(root)) {
    const page = pages.find(({ file }) => file === `walt-${words.join("-")}.1`);
    for (const [name, arg] of Object.entries(args))
      expect([
        words,
        name,
        page?.text.includes(
          arg.type === "positional" ? name.toUpperCase() : `\\-\\-${name.replaceAll("-", "\\-")}`,
        ),
      ]).toEqual([words, name, true]);
  }
  expect(new Set(pages.map(({ file }) => file)).size).toBe(pages.length);
});

for (const [program, words] of [
  ["mandoc", ["-T", "lint", "-W", "warning"]],
  ["groff", ["-man", "-Tutf8", "-ww", "-z"]],
] as const) {
  describeWith({ programs: [program] }, `man pages by ${program}`, () => {
    test("have no warning", async () => {
      const folder = mkdtempSync(join(tmpdir(), "walt-man-"));
      try {
        for (const { file, text } of pages) writeFileSync(join(folder, file), text);
        const files = pages.map(({ file }) => join(folder, file));
        const { status, stdout, stderr } = await runAny([program, ...words, ...files]);
        expect([status, stdout + stderr]).toEqual([0, ""]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
}
