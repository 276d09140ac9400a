/** Waiting ends: with what was awaited, or with words that say what was not there. */

import { describe, expect, test } from "bun:test";
import { eventually } from "./eventually.ts";

const failure = (waiting: Promise<unknown>): Promise<string> => waiting.then(String, String);

describe("a condition", () => {
  test("that comes true is the result", async () => {
    let looks = 0;
    expect(await eventually("the third look", () => (++looks === 3 ? { looks } : undefined))).toEqual({
      looks: 3,
    });
    const counted = await eventually("zero", async () => --looks, { fits: (n) => n === 0, every: 0 });
    expect(counted).toBe(0);
  });

  test("that does not is told with its name, the time and the last value", async () => {
    const waiting = eventually("a queue without frames", () => ({ queued: 7 }), {
      fits: ({ queued }) => queued === 0,
      within: 30,
    });
    expect(await failure(waiting)).toBe(
      "Error: a queue without frames: not within 30 ms; the last value was { queued: 7 }",
    );
  });

  test("that throws is at fault at once", async () => {
    const waiting = eventually("anything", () => {
      throw new Error("no such process");
    });
    expect(await failure(waiting)).toBe("Error: no such process");
  });

  test("whose look hangs does not hold up the failure, and nobody looks after it", async () => {
    let looks = 0;
    const hanging = eventually("an answer", () => new Promise<boolean>(() => {}), { within: 30 });
    expect(await failure(hanging)).toBe("Error: an answer: not within 30 ms; not one look came to its end");
    expect(await failure(eventually("never", () => ++looks < 0, { within: 30 }))).toContain("was false");
    const seen = looks;
    await Bun.sleep(30); // what is tested: nothing happens in this time
    expect(looks).toBe(seen);
  });
});

describe("an event", () => {
  test("gives what its promise gives, or throws what that throws", async () => {
    expect(await eventually("seven", Promise.resolve(7))).toBe(7);
    expect(await failure(eventually("seven", Promise.reject(new Error("six"))))).toBe("Error: six");
  });

  test("that does not come is told", async () => {
    const waiting = eventually("the end", new Promise(() => {}), { within: 20 });
    expect(await failure(waiting)).toBe("Error: the end: not within 20 ms");
  });
});
