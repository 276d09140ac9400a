/** When a device opens further lanes. */

import { expect, test } from "bun:test";
import { keepLanes, LanePause, pays } from "../../../src/device/net/lanes.ts";
import { createLog } from "../../../src/log.ts";
import { LINK_COUNTERS, type LinkStats } from "../../../src/tunnel/counters.ts";
import type { Link } from "../../../src/tunnel/pump-thread.ts";

const NONE = Object.fromEntries(Object.keys(LINK_COUNTERS).map((name) => [name, 0])) as LinkStats;
const MIB = 1 << 20;

test("a lane that ends again and again is tried less and less often, also if it was up", () => {
  const pause = new LanePause();
  const waits: number[] = [];
  let now = 0;
  for (let i = 0; i < 8; i++) {
    pause.ended(now, now + 1000);
    pause.ended(now, now + 1000); // another one, at the same moment
    const from = now + 1000;
    for (now = from; !pause.isOver(now); ) now += 1000;
    waits.push((now - from) / 1000);
  }
  expect(waits).toEqual([5, 10, 20, 40, 80, 160, 300, 300]);
  // One that lasted.
  pause.ended(now, now + 400_000);
  expect([pause.isOver(now + 404_999), pause.isOver(now + 405_000)]).toEqual([false, true]);
});

test("lanes pay where PINGs are late, or the path holds much", () => {
  expect(pays({ ...NONE, pings: 64, loss: 0.02 }, 0)).toBe(true);
  expect(pays({ ...NONE, pings: 63, loss: 0.02 }, 0)).toBe(false);
  expect(pays({ ...NONE, minRtt: 100 }, 10 * MIB)).toBe(true);
  expect(pays({ ...NONE, minRtt: 100 }, 9 * MIB)).toBe(false);
});

test("what goes to the peer counts as well, over whatever lane", async () => {
  const stats = { ...NONE, minRtt: 1000 };
  const link = { hasLanes: true, stats: () => ({ ...stats }) } as Partial<Link> as Link;
  const stop = new AbortController();
  const log = createLog(-999);
  const opened = Promise.withResolvers<void>();
  const open = (): Promise<never> => {
    opened.resolve();
    return Promise.reject(new Error("enough"));
  };
  const over = keepLanes({ wanted: "auto", link, rekeyLimit: 1, log, open }, stop.signal);
  stats.bytesOut = 1000 * MIB;
  await opened.promise;
  stop.abort();
  await over;
});
