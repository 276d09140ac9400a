/** What failed once is tried again. */

import { expect, test } from "bun:test";
import { kept } from "../src/kept.ts";

test("it is done once for all, and again after a failure alone", async () => {
  let times = 0;
  const work = kept(() => (++times === 1 ? Promise.reject(new Error("not yet")) : Promise.resolve(times)));
  expect(await Promise.allSettled([work(), work()])).toMatchObject([
    { status: "rejected" },
    { status: "rejected" },
  ]);
  expect(await Promise.all([work(), work()])).toEqual([2, 2]);
  expect(await work()).toBe(2);
});
