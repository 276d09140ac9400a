/** Medians and tables of the benches. */

import { table } from "../../src/text.ts";

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[half - 1] ?? Number.NaN, sorted[half] ?? Number.NaN];
  return sorted.length % 2 === 1 ? high : (low + high) / 2;
}

/** Median, extremes and ratio to the first row's median. */
export function report(unit: string, samples: Record<string, readonly number[]>): string {
  const base = median(Object.values(samples)[0] ?? []);
  return table(
    ["WHAT", `MEDIAN ${unit}`, "MIN", "MAX", "RATIO", "RUNS"],
    Object.entries(samples).map(([name, values]) => [
      name,
      median(values).toFixed(0),
      Math.min(...values).toFixed(0),
      Math.max(...values).toFixed(0),
      (median(values) / base).toFixed(2),
      String(values.length),
    ]),
  );
}
