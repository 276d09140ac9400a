/**
 * The window on simulated paths: a bottleneck with a rate and a queue, a delay, and a peer that acknowledges.
 */

import { expect, test } from "bun:test";
import { Window } from "../../../src/tunnel/send/window.ts";

interface Path {
  /** Bytes per ms. */
  rate: number;
  /** Round trip time, ms. */
  rtt: number;
}

/** Bytes that are sent at a time. */
const PIECE = 3000;

/**
 * Run a sender that always has more to send, for `ms`.
 * @returns of the second half: the sorted round trip times of all pieces (ms), the goodput (bytes per ms) and
 *   the largest window.
 */
function drive(
  window: Window,
  path: (now: number) => Path,
  ms: number,
  o: { start?: number; jitter?: (now: number) => number; busy?: (now: number) => boolean } = {},
): { rtts: number[]; goodput: number; highest: number } {
  const start = o.start ?? 0;
  const rtts: number[] = [];
  const answers: { at: number; total: number; sent: number }[] = [];
  let [total, busyUntil, highest, done, doneAtHalf] = [window.inFlight, start, 0, 0, 0];
  total = driven.get(window) ?? 0;
  for (let now = start; now < start + ms; now += 0.25) {
    const { rate, rtt } = path(now);
    for (;;) {
      const first = answers[0];
      if (first === undefined || first.at > now) break;
      answers.shift();
      expect(window.acked(first.total % 0x1_0000_0000, 0, now)).toBe(true);
      done = first.total;
      if (now > start + ms / 2) {
        rtts.push(now - first.sent);
        highest = Math.max(highest, window.size);
      } else doneAtHalf = done;
    }
    if (o.busy?.(now) === false) continue;
    window.refill(now);
    while (window.room > 0) {
      total += PIECE;
      window.sent(PIECE, true, now);
      busyUntil = Math.max(busyUntil, now) + PIECE / rate;
      const late = Math.max(busyUntil + rtt + (o.jitter?.(now) ?? 0), answers.at(-1)?.at ?? 0);
      answers.push({ at: late, total, sent: now });
    }
  }
  // Acknowledge what is in flight, so that the next run begins with nothing in flight.
  for (const { at, total: all } of answers) window.acked(all % 0x1_0000_0000, 0, at);
  driven.set(window, total);
  return { rtts: rtts.toSorted((a, b) => a - b), goodput: (done - doneAtHalf) / (ms / 2), highest };
}
const driven = new Map<Window, number>();
const quantile = (sorted: number[], q: number): number => sorted[Math.floor(sorted.length * q)] ?? Number.NaN;

const mbits = (n: number): number => (n * 1e6) / 8 / 1000;
const paths: [string, Path][] = [
  ["20 Mbit/s, 40 ms", { rate: mbits(20), rtt: 40 }],
  ["2 Mbit/s, 200 ms", { rate: mbits(2), rtt: 200 }],
  ["100 Mbit/s, 5 ms", { rate: mbits(100), rtt: 5 }],
  ["1 Gbit/s, 1 ms", { rate: mbits(1000), rtt: 1 }],
  ["160 Mbit/s, 100 ms", { rate: mbits(160), rtt: 100 }],
  ["500 kbit/s, 600 ms", { rate: mbits(0.5), rtt: 600 }],
];

for (const [name, path] of paths) {
  test(`${name}: the path is full, and hardly more than full`, () => {
    const { rtts, goodput } = drive(new Window(), () => path, 30_000);
    expect(goodput / path.rate).toBeGreaterThan(0.92);
    // The time to send a piece, the standing queue, and a little for bursts of acknowledgements.
    const most = path.rtt * 1.2 + (3 * PIECE) / path.rate + 12;
    expect(quantile(rtts, 0.99)).toBeLessThan(most);
    expect(quantile(rtts, 0.5)).toBeLessThan(path.rtt * 1.12 + (2 * PIECE) / path.rate + 8);
  });
}

test("startup finds the rate of a fast path soon, and does not flood a slow path for long", () => {
  const fast = new Window();
  drive(fast, () => ({ rate: mbits(160), rtt: 100 }), 2500);
  expect(fast.size).toBeGreaterThan(mbits(160) * 90);
  const slow = new Window();
  const { rtts } = drive(slow, () => ({ rate: mbits(2), rtt: 50 }), 3000);
  expect(rtts.at(-1)).toBeLessThan(150);
});

test("a path that becomes faster, slower, longer or shorter is followed", () => {
  const window = new Window();
  const fit = (path: Path, ms: number, start: number): void => {
    const { goodput, rtts } = drive(window, () => path, ms, { start });
    expect(goodput / path.rate).toBeGreaterThan(0.93);
    expect(quantile(rtts, 0.9)).toBeLessThan(path.rtt * 1.25 + (2 * PIECE) / path.rate + 12);
  };
  fit({ rate: mbits(20), rtt: 40 }, 10_000, 0);
  fit({ rate: mbits(80), rtt: 40 }, 10_000, 11_000);
  fit({ rate: mbits(5), rtt: 40 }, 10_000, 22_000);
  fit({ rate: mbits(5), rtt: 150 }, 60_000, 33_000);
  fit({ rate: mbits(50), rtt: 20 }, 30_000, 94_000);
});

test("acknowledgements in bursts of 5 ms do not starve a short path", () => {
  // A process on the way waits for its processor for up to 5 ms.
  const { goodput } = drive(new Window(), () => ({ rate: mbits(1000), rtt: 0.5 }), 5000, {
    jitter: (now) => 5 - (now % 5),
  });
  expect(goodput / mbits(1000)).toBeGreaterThan(0.85);
});

test("a sender with little to send does not lower the rate", () => {
  const window = new Window();
  drive(window, () => ({ rate: mbits(20), rtt: 40 }), 5000);
  const { rate } = window;
  let total = driven.get(window) ?? 0;
  for (let i = 0; i < 300; i++) {
    total += 100;
    window.sent(100, false, 6000 + 100 * i);
    expect(window.acked(total % 0x1_0000_0000, 0, 6040 + 100 * i)).toBe(true);
  }
  expect(window.rate).toBe(rate);
});

test("an acknowledgement of more than was sent is refused; the number wraps at 2^32", () => {
  const window = new Window();
  window.sent(1000, false, 0);
  expect(window.acked(1001, 0, 1)).toBe(false);
  expect(window.acked(1000, 0, 1)).toBe(true);
  expect(window.acked(1000, 0, 2)).toBe(true);
  expect(window.acked(999, 0, 2)).toBe(false);
  for (let i = 0; i < 5000; i++) {
    window.sent(1_000_000, true, 3 + i);
    expect(window.acked((1000 + 1_000_000 * (i + 1)) % 0x1_0000_0000, 0, 3.5 + i)).toBe(true);
    expect(window.inFlight).toBe(0);
  }
});

test.each<[string, number, number]>([
  ["31 ms in which a process waits for its processor, on a path of 40 ms", 5000, 31],
  ["the pauses of slow start, after nothing was in flight", 100, 50],
])("a pause that is no stall does not open the window by a round trip: %s", (_, after, pause) => {
  const path = { rate: mbits(20), rtt: 40 };
  const window = new Window();
  drive(window, () => path, 4000);
  // Nothing is sent for a while. Then the acknowledgements of a short time come late, all at once.
  const start = 9000;
  const jitter = (now: number): number => {
    const from = start + after;
    return now >= from && now < from + pause ? from + pause - now : 0;
  };
  const { highest } = drive(window, () => path, 2 * after + 200, { start, jitter });
  expect(highest).toBeLessThan(1.45 * path.rate * path.rtt);
});
