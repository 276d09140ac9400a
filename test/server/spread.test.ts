/** Who is told how many devices come through the same entrypoint. */

import { expect, test } from "bun:test";
import { spread } from "../../src/device/boot/actions.ts";
import type { Device } from "../../src/server/registry.ts";
import { type Present, Spread } from "../../src/server/spread.ts";
import { eventually } from "../lab/eventually.ts";

const devices = (count: number, via: string, from = 0): Present[] =>
  Array.from({ length: count }, (_, i) => ({ device: { id: from + i } as Device, via }));

test("each is told the number of its entrypoint, again when that has changed much, and after each tunnel", async () => {
  let present = [...devices(10, "a"), ...devices(2, "b", 100)];
  let told: [number, number][] = [];
  const one = new Spread(
    () => present,
    async (device, count) => {
      told.push([device.id, count]);
      if (count === 2) throw new Error("it is old");
    },
    1,
  );
  const changed = async (count: number): Promise<[number, number][]> => {
    told = [];
    one.changed({ id: 0 });
    one.changed({ id: 1 });
    await eventually("they are told", () => told.length >= count);
    return told;
  };
  const first = await changed(12);
  expect(first).toHaveLength(12);
  expect(first.filter(([, count]) => count === 10)).toHaveLength(10);
  expect(first.filter(([, count]) => count === 2)).toHaveLength(2);
  present = [...devices(12, "a"), ...devices(2, "b", 100)];
  // 10 and 12 are about the same: only those whose tunnel is new, and the two that came with it.
  expect((await changed(4)).map(([id]) => id).sort((a, b) => a - b)).toEqual([0, 1, 10, 11]);
  present = devices(40, "a");
  expect(await changed(40)).toHaveLength(40);
  one.stop();
});

test("few devices come back at once, many one after the other", () => {
  expect(spread(1, () => 1)).toBe(0);
  expect(spread(10, () => 1)).toBe(0);
  expect(spread(120, () => 1)).toBe(8000);
  expect(spread(120, () => 0.5)).toBe(4000);
});
