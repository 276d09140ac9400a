/** Nothing half made is left behind: not by an interrupted program either. */

import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { WorkFolder } from "../../src/image/work-folder.ts";
import { folder } from "./rig.ts";

test("it is gone when it is done with, and nobody listens to signals any more", () => {
  using work = folder();
  const before = process.listenerCount("SIGTERM");
  let path: string;
  {
    using inner = new WorkFolder(join(work.path, "x."));
    path = inner.path;
    expect(existsSync(path)).toBe(true);
    expect(process.listenerCount("SIGTERM")).toBe(before + 1);
  }
  expect(existsSync(path)).toBe(false);
  expect(process.listenerCount("SIGTERM")).toBe(before);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  test(`a program that ${signal} ends leaves none, and ends by it`, async () => {
    using work = folder();
    const script = `import { WorkFolder } from ${JSON.stringify(join(import.meta.dir, "../../src/image/work-folder.ts"))};
      using one = new WorkFolder(${JSON.stringify(join(work.path, "x."))});
      console.log("ready");
      await new Promise(() => setInterval(() => {}, 1000));`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
    await child.stdout.getReader().read();
    expect(readdirSync(work.path).length).toBe(1);
    child.kill(signal);
    await child.exited;
    expect(child.signalCode).toBe(signal);
    expect(readdirSync(work.path)).toEqual([]);
  });
}
