/** The documentation: every link leads somewhere, every page of the handbook is in its table, lines are not long. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "..");
const pages = [
  "README.md",
  "device/README.md",
  "node/README.md",
  ...new Bun.Glob("docs/*.md").scanSync(ROOT),
];
const textOf = (page: string): string => readFileSync(join(ROOT, page), "utf8");

/** How GitHub makes an anchor of a heading. */
function anchorsOf(page: string): Set<string> {
  const found = new Set<string>();
  for (const [, heading = ""] of textOf(page).matchAll(/^#{1,6} (.*)$/gm)) {
    const anchor = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_\- ]/gu, "")
      .replaceAll(" ", "-");
    found.add(found.has(anchor) ? `${anchor}-1` : anchor);
  }
  return found;
}

test.each(pages)("%s: its links lead to files and headings that there are", (page) => {
  const wrong: string[] = [];
  for (const [, target = ""] of textOf(page)
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ""))
    .matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? page : relative(ROOT, join(ROOT, dirname(page), path));
    const isThere = existsSync(join(ROOT, file)) && (anchor === undefined || anchorsOf(file).has(anchor));
    if (!isThere) wrong.push(target);
  }
  expect(wrong).toEqual([]);
});

test("no page has what a merge left in it", () => {
  for (const page of pages) expect([page, /^(<{7}|={7}|>{7})/m.test(textOf(page))]).toEqual([page, false]);
});

test("prose is wrapped at 110 columns", () => {
  // Made by `bun run docs`.
  const made = ["docs/configuration.md", "docs/doctor.md", "docs/log-events.md"];
  const long = pages.flatMap((page) => {
    if (made.includes(page)) return [];
    const prose = textOf(page).replace(/^\s*```[\s\S]*?^\s*```/gm, "");
    return prose
      .split("\n")
      .filter((line) => line.length > 110 && !/^\s*\||^!?\[/.test(line))
      .map((line) => `${page}: ${line.slice(0, 60)}`);
  });
  expect(long).toEqual([]);
});
