import { expect, test } from "bun:test";
import { join } from "node:path";
import { doctorReference } from "../../src/commands/_doctor-reference.ts";
import { configurationReference, logEventsReference } from "../../src/config/reference.ts";
import { TABLES } from "../../src/config/schema.ts";
import { LOG_EVENTS } from "../../src/log-events.ts";

test("docs/configuration.md is what `bun run docs` makes", async () => {
  const file = join(import.meta.dir, "../../docs/configuration.md");
  expect(await Bun.file(file).text()).toBe(configurationReference());
});

test("docs/doctor.md is what `bun run docs` makes", async () => {
  expect(await Bun.file(join(import.meta.dir, "../../docs/doctor.md")).text()).toBe(doctorReference());
});

test("docs/log-events.md is what `bun run docs` makes, and no event is without a line that says it", async () => {
  const root = join(import.meta.dir, "../..");
  expect(await Bun.file(join(root, "docs/log-events.md")).text()).toBe(logEventsReference());
  const sources = [...new Bun.Glob("src/**/*.ts").scanSync(root)].filter(
    (file) => file !== "src/log-events.ts",
  );
  const text = (await Promise.all(sources.map((file) => Bun.file(join(root, file)).text()))).join("\n");
  expect(Object.keys(LOG_EVENTS).filter((event) => !text.includes(`event: "${event}"`))).toEqual([]);
});

test("every key has a row of four cells, with its default", () => {
  const rows = configurationReference()
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  for (const row of rows) expect(row.split(" | ")).toHaveLength(4);
  const names = rows.map((row) => /`([^`]+)`/.exec(row)?.[1]);
  const expected = Object.entries(TABLES).flatMap(([table, keys]) =>
    Object.keys(keys).map((key) => `${table}.${key}`),
  );
  expect(names).toEqual(["role", ...expected]);
  expect(rows).toContainEqual(expect.stringMatching(/^\| `server\.answer_timeout` \| `"5m"` \| a duration /));
});
