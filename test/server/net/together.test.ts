/** Jobs that are done together: in groups, each with its own outcome. */

import { expect, test } from "bun:test";
import { Together } from "../../../src/server/net/together.ts";
import { turn } from "../../lab/eventually.ts";

test("what comes while a group is done makes the next one, of a bounded size", async () => {
  const groups: number[] = [];
  const together = new Together<number>(async (jobs) => {
    groups.push(jobs.length);
    await turn();
  });
  await Promise.all(Array.from({ length: 150 }, (_, i) => together.add(i)));
  expect(groups).toEqual([1, 64, 64, 21]);
  await together.add(1);
  expect(groups.at(-1)).toBe(1);
});

test("one that cannot be done does not concern the others of its group", async () => {
  const done: string[] = [];
  const together = new Together<string>(async (jobs) => {
    await turn();
    if (jobs.includes("bad")) throw new Error(`failed: ${jobs.join(" ")}`);
    done.push(...jobs);
  });
  const all = ["first", "good", "bad", "better"].map((job) => together.add(job));
  const outcomes = await Promise.allSettled(all);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
  expect(outcomes[2]).toMatchObject({ reason: new Error("failed: bad") });
  expect(done).toEqual(["first", "good", "better"]);
});
