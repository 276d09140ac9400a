/** What programs print is bounded: in memory, and in how long it is waited for. */

import { expect, test } from "bun:test";
import { messageOf } from "../../src/errors.ts";
import { Children } from "../../src/linux/child.ts";
import { Pace } from "../../src/linux/pace.ts";
import { OUTPUT_MOST, PrintedTooMuch, runAny } from "../../src/linux/run.ts";
import { sleep } from "../../src/linux/sleep.ts";
import { eventually } from "../lab/eventually.ts";

const memory = (): number => process.memoryUsage.rss();

test("a program that prints without end is killed, and named", async () => {
  for (const script of ["yes", "yes >&2"]) {
    const before = memory();
    const error: unknown = await runAny(["sh", "-c", script]).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PrintedTooMuch);
    expect(messageOf(error)).toBe(`sh -c ${script} printed more than ${OUTPUT_MOST} bytes and was killed`);
    expect(memory() - before).toBeLessThan(150e6);
  }
});

test("a process that a program leaves behind with its pipe is not waited for", async () => {
  const { stdout, status } = await runAny(["sh", "-c", "sleep 20 & echo $!; exit 3"]);
  expect(status).toBe(3);
  process.kill(Number(stdout), "SIGKILL");
});

test("a child that prints without end costs no memory, whether it is read or not, and ends when it is told to", async () => {
  const children = new Children();
  const before = memory();
  const child = children.spawn(["sh", "-c", "yes & exec yes >&2"], "pipe");
  await eventually("much is printed", () => child.mark > 300_000);
  await Bun.sleep(500); // it goes on meanwhile
  expect(memory() - before).toBeLessThan(100e6);
  expect(child.stderr.length).toBeLessThanOrEqual(8192);
  await children.stop();
});

test("what a child has started ends with it", async () => {
  const children = new Children();
  const child = children.spawn(["sh", "-c", "yes & echo $! >&2; exec sleep 1234"], "pipe");
  await eventually("its process id is told", () => child.stderr.endsWith("\n"));
  const pid = Number(child.stderr);
  expect(isAlive(pid)).toBe(true);
  await children.stop();
  await eventually("it ends as well", () => !isAlive(pid));
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("a loop that fails at once has a pause, and ends with its signal", async () => {
  const stop = new AbortController();
  let turns = 0;
  const loop = (async () => {
    for (const pace = new Pace(); !stop.signal.aborted; await pace.turn(stop.signal)) turns++;
  })();
  const from = performance.now();
  await eventually("the first turns", () => turns >= 30);
  await sleep(500, stop.signal); // in which there would be millions
  stop.abort();
  await loop;
  expect(turns).toBeLessThan(40 + ((performance.now() - from) / 1000) * 5);
});
