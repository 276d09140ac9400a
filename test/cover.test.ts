/** Which lines no test runs, as a report of lcov's has them. */

import { expect, test } from "bun:test";
import { gapsOf, parseLcov } from "./cover.ts";

const REPORT = `TN:
SF:src/a.ts
FNF:2
DA:1,1
DA:3,0
DA:7,0
DA:8,2
DA:9,0
LF:5
end_of_record
SF:src/b.ts
DA:4,3
end_of_record
SF:src/a.ts
DA:9,1
DA:10,0
end_of_record
`;

test("a file that is there twice was run that often in all", () => {
  const files = parseLcov(REPORT);
  expect([...files.keys()]).toEqual(["src/a.ts", "src/b.ts"]);
  expect(files.get("src/a.ts")?.get(9)).toBe(1);
  expect(files.get("src/b.ts")).toEqual(new Map([[4, 3]]));
});

test("lines without code neither begin a gap nor end one", () => {
  expect(gapsOf(parseLcov(REPORT).get("src/a.ts") ?? new Map())).toEqual([
    { from: 3, to: 7, lines: 2 },
    { from: 10, to: 10, lines: 1 },
  ]);
});

test("a file that was run whole has no gap", () => {
  expect(gapsOf(new Map([[1, 1]]))).toEqual([]);
  expect(parseLcov("")).toEqual(new Map());
});
