/** Who is told how many devices come through the same entrypoint. */

import { expect, test } from "bun:test";
import type { Device } from "../../src/server/registry.ts";
import { type Present, Spread } from "../../src/server/spread.ts";
import { eventually } from "../lab/eventually.ts";

const devices = (count: number, via: string, from = 0): Present[] =>
  Array.from({ length: count }, (_, i) => ({ device: { id: from + i } as Device, via }));

test("each is told the number of its entrypoint, again when that has changed much, and after each tunnel", async () => {
  let present = [...devices(10, "a"), ...devices(2, "b", 100)];
  let told: [number, number][] = [];
  const turns = new Map<number, number>();
  const one = new Spread(
    () => present,
    async (device, { count, turn }) => {
      told.push([device.id, count]);
      turns.set(device.id, turn);
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
  // Each has a turn of its own.
  expect([...turns].filter(([id]) => id < 100).sort(([a], [b]) => a - b)).toEqual(
    devices(10, "a").map((_, i) => [i, i]),
  );
  present = [...devices(12, "a"), ...devices(2, "b", 100)];
  // 10 and 12 are about the same: only those whose tunnel is new, the two that came with it, and those whose
  // turns have moved by more than a twentieth of all.
  const again = (await changed(7)).map(([id]) => id).sort((a, b) => a - b);
  expect(again).toEqual([0, 1, 4, 5, 6, 7, 8, 9, 10, 11]);
  present = devices(40, "a");
  expect(await changed(40)).toHaveLength(40);
  one.stop();
});
