import { describe, expect, test } from "bun:test";
import { messageOf } from "../../src/errors.ts";
import { run, runAny } from "../../src/linux/run.ts";

const failure = (promise: Promise<unknown>): Promise<string> =>
  promise.then((value) => `no error, but ${JSON.stringify(value)}`, messageOf);

describe("run", () => {
  test("status, output and input", async () => {
    const { status, stdout, stderr } = await runAny(["sh", "-c", "cat; echo $A >&2; exit 3"], {
      input: "in",
      env: { A: "b" },
    });
    expect({ status, stdout, stderr }).toEqual({ status: 3, stdout: "in", stderr: "b\n" });
    expect(await run(["echo", "x"])).toBe("x\n");
  });

  test("without input its standard input is at its end", async () => {
    expect(await run(["cat"])).toBe("");
  });

  test("a failure is told with the program's own words", async () => {
    expect(await failure(run(["sh", "-c", "echo reason >&2; exit 3"]))).toBe(
      "sh -c echo reason >&2; exit 3 failed (exit 3): reason",
    );
    expect(await failure(run(["sh", "-c", "echo said; exit 1"]))).toEndWith("(exit 1): said");
  });

  test("a program that does not exist, and one that takes too long", async () => {
    expect(await failure(runAny(["walt-no-such-program"]))).toStartWith("cannot run walt-no-such-program: ");
    expect(await failure(runAny(["sleep", "1234"], { timeout: 50 }))).toBe(
      "sleep 1234 took longer than 50 ms and was killed",
    );
  });

  test("one that nobody waits for any more is ended", async () => {
    const stop = new AbortController();
    const ended = failure(runAny(["sleep", "1234"], { signal: stop.signal }));
    stop.abort(new Error("stopped"));
    expect(await ended).toBe("stopped");
    expect(await failure(runAny(["sleep", "1234"], { signal: stop.signal }))).toBe("stopped");
  });

  test("a megabyte each way does not block", async () => {
    const text = "x".repeat(1 << 20);
    expect((await runAny(["cat"], { input: text })).stdout).toBe(text);
  });
});
