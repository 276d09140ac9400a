/** The house keeps its shape: imports go downwards only, between floors and between the rooms of a folder, never in circles. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const SRC = join(import.meta.dir, "../src");

/** Folders of `src/` from top to bottom. Each may import itself and lower floors; files of `src/` itself are the ground. */
const FLOORS: readonly (readonly string[])[] = [
  ["commands"],
  ["web"],
  ["server", "proxy", "device", "image"],
  ["doctor", "install"],
  ["api"],
  ["control"],
  ["enrolment", "config"],
  ["tunnel"],
  ["ssh"],
  ["linux"],
];

/**
 * Rooms of a folder from top to bottom, by the same rule. `HALL` stands for the files of the folder itself, but those of `GROUND`,
 * which any room of the folder may import.
 */
const HALL = "";
const ROOMS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  device: [
    [HALL],
    ["doctor"],
    ["boot", "health", "install"],
    ["identity", "net", "usb"],
    ["route", "vm"],
    ["console", "log"],
  ],
  server: [["doctor"], [HALL], ["install"], ["net", "snmp"]],
  image: [[HALL], ["card", "node", "walt"], ["base"], ["disk"]],
  tunnel: [[HALL], ["send", "receive"], ["transport", "frame"]],
  ssh: [[HALL], ["client", "server"], ["handshake", "openssh"], ["keys"]],
};
const GROUND = new Set([
  "device/files.ts",
  "device/settings.ts",
  "image/process.ts",
  "image/tools.ts",
  "image/work-folder.ts",
  "tunnel/framing.ts",
  "tunnel/message.ts",
]);

const files = [...new Bun.Glob("**/*.ts").scanSync(SRC)].filter((file) => !file.endsWith(".d.ts"));

function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), "utf8");
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+\.ts)"/g);
  return [...found]
    .map((m) => normalize(join(dirname(file), m[1] ?? "")))
    .filter((path) => !path.startsWith(".."));
}

const folderOf = (file: string): string => (file.includes("/") ? (file.split("/")[0] ?? "") : "");
const floorOf = (folder: string): number =>
  folder === "" ? FLOORS.length : FLOORS.findIndex((f) => f.includes(folder));

/** The room below the folder; `HALL` for the folder's own files. */
const roomOf = (file: string): string => file.split("/").slice(1, -1).join("/");
const levelOf = (file: string): number => {
  const rooms = ROOMS[folderOf(file)] ?? [];
  return GROUND.has(file) ? rooms.length : rooms.findIndex((level) => level.includes(roomOf(file)));
};

/** Folders with rooms, whose inside is looked at. Those of `commands/` are the words that a user types. */
const inside = files.filter((file) => folderOf(file) in ROOMS);

test("every folder has its floor, and every room its level", () => {
  const unknown = [...new Set(files.map(folderOf))].filter((folder) => floorOf(folder) < 0);
  expect(unknown).toEqual([]);
  expect(inside.filter((file) => levelOf(file) < 0)).toEqual([]);
  const roomless = files.filter((file) => roomOf(file) !== HALL && !(folderOf(file) in ROOMS));
  expect(roomless.filter((file) => folderOf(file) !== "commands")).toEqual([]);
  expect([...GROUND].filter((file) => !files.includes(file))).toEqual([]);
  expect(files.length).toBeGreaterThan(50);
  expect(files.flatMap(importsOf).length).toBeGreaterThan(200); // it does find imports
});

test("imports go downwards only, and no role imports another", () => {
  const wrong = files
    .filter((file) => file !== "main.ts") // the front door opens on everything
    .flatMap((file) =>
      importsOf(file)
        .filter((to) => folderOf(to) !== folderOf(file) && floorOf(folderOf(to)) <= floorOf(folderOf(file)))
        .map((to) => `${file} imports ${to}`),
    );
  expect(wrong).toEqual([]);
});

test("ssh2 serves the relay alone", () => {
  const users = files.filter((file) =>
    /(?:from|import)\s*\(?\s*"ssh2"/.test(readFileSync(join(SRC, file), "utf8")),
  );
  expect(users.filter((file) => folderOf(file) !== "proxy")).toEqual([]);
});

test("within a folder, imports go down to lower rooms only, and never sideways", () => {
  const wrong = inside.flatMap((file) =>
    importsOf(file)
      .filter((to) => folderOf(to) === folderOf(file) && roomOf(to) !== roomOf(file))
      .filter((to) => levelOf(to) <= levelOf(file))
      .map((to) => `${file} imports ${to}`),
  );
  expect(wrong).toEqual([]);
  const upwards = [...GROUND].flatMap((file) =>
    importsOf(file).filter((to) => folderOf(to) === folderOf(file) && !GROUND.has(to)),
  );
  expect(upwards).toEqual([]);
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
