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

test("the handbook names every page of a task, and each is under two screens", () => {
  const told = new Set(
    [...textOf("docs/deployment.md").matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, page]) => `docs/${page}`),
  );
  // What is looked up, and what is no operator's task.
  const others = [
    "architecture",
    "configuration",
    "data-plane",
    "deployment",
    "glossary",
    "log-events",
    "protocol",
  ];
  const more = [...others, "scale", "sd-card", "security", "testing"].map((name) => `docs/${name}.md`);
  const tasks = pages.filter((page) => page.startsWith("docs/") && !more.includes(page));
  expect(tasks.filter((page) => !told.has(page))).toEqual([]);
  const long = tasks.map((page) => [page, textOf(page).split("\n").length - 1] as const);
  expect(long.filter(([, lines]) => lines > 120)).toEqual([]);
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
