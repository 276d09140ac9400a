/** The house keeps its shape: imports go downwards only, no role knows another, and nothing runs in circles. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const SRC = join(import.meta.dir, "../src");

/** From top to bottom. A folder may import itself and folders of lower floors; files of `src/` itself are the ground. */
const FLOORS: readonly (readonly string[])[] = [
  ["commands"],
  ["server", "proxy", "device", "image"],
  ["api"],
  ["enrolment", "tunnel", "config"],
  ["ssh"],
  ["linux"],
];
const GROUND = "";

const files = [...new Bun.Glob("**/*.ts").scanSync(SRC)].filter((file) => !file.endsWith(".d.ts"));

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), "utf8");
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+\.ts)"/g);
  return [...found]
    .map((m) => normalize(join(dirname(file), m[1] ?? "")))
    .filter((path) => !path.startsWith(".."));
}

const roomOf = (file: string): string => (file.includes("/") ? (file.split("/")[0] ?? "") : GROUND);
const floorOf = (room: string): number =>
  room === GROUND ? FLOORS.length : FLOORS.findIndex((f) => f.includes(room));

test("every folder has its floor", () => {
  const unknown = [...new Set(files.map(roomOf))].filter((room) => floorOf(room) < 0);
  expect(unknown).toEqual([]);
  expect(files.length).toBeGreaterThan(50);
  expect(files.flatMap(importsOf).length).toBeGreaterThan(200); // it does find imports
});

test("imports go downwards only, and no role imports another", () => {
  const wrong = files
    .filter((file) => file !== "main.ts") // the front door opens on everything
    .flatMap((file) =>
      importsOf(file)
        .filter((to) => roomOf(to) !== roomOf(file) && floorOf(roomOf(to)) <= floorOf(roomOf(file)))
        .map((to) => `${file} imports ${to}`),
    );
  expect(wrong).toEqual([]);
});

test("no file imports itself by way of others", () => {
  const graph = new Map(files.map((file) => [file, importsOf(file)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" → "));
    if (done.has(file) || path.includes(file)) return;
    for (const to of graph.get(file) ?? []) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});
