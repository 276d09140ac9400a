/** The pump thread in a compiled binary, which has no file but itself to run, and how its process ends. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeWith, LAB } from "../lab/need.ts";

const SOURCE = new URL("../../src/", import.meta.url).pathname;

/** A minimal main.ts; `argv[2]` says how it is to end. */
const MAIN = `
if (!Bun.isMainThread) await import("${SOURCE}tunnel/pump-main.ts");
else {
  const { PumpThread } = await import("${SOURCE}tunnel/pump-thread.ts");
  const { openTap } = await import("${SOURCE}linux/tap.ts");
  const { socketPair } = await import("${SOURCE}linux/socketpair.ts");
  const { setNonBlocking } = await import("${SOURCE}linux/libc.ts");
  const pumps = await PumpThread.start();
  const [a, b] = socketPair();
  setNonBlocking(b);
  const links = [a, b].map((stream) =>
    pumps.add({ tap: openTap("compiled%d").fd, stream, mtu: 1500, silence: 5000 }));
  await Promise.all(links.map((link) => link.up));
  console.log("up");
  const how = process.argv[2];
  if (how === "exit") process.exit(7);
  if (how === "throw") setTimeout(() => { throw new Error("main thread throws"); }, 0);
  if (how === "stop") await pumps.stop();
  if (how === "leave") links[0].stop("leaving");
  console.log(how === "throw" ? "" : (await links[1].ended).text);
}
`;

describeWith([LAB, { programs: ["unshare"] }], "a compiled binary", () => {
  let dir: string;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "walt-compiled-"));
    await Bun.write(join(dir, "main.ts"), MAIN);
    const build = Bun.spawn(
      [process.execPath, "build", "--compile", join(dir, "main.ts"), "--outfile", join(dir, "walt")],
      { stdout: "ignore", stderr: "inherit" },
    );
    expect(await build.exited).toBe(0);
  }, 120_000);
  afterAll(() => rmSync(dir, { recursive: true }));

  // In a network namespace that ends with it. A process that hangs is killed, and the test fails.
  const cases: [string, number, string][] = [
    ["leave", 0, "up\nthe peer ended the tunnel: leaving\n"],
    ["stop", 0, "up\nthe pump thread is stopping\n"],
    ["exit", 7, "up\n"],
    ["throw", 1, "up\n"],
  ];
  for (const [how, status, output] of cases) {
    for (const program of ["compiled", "source"]) {
      test(`${program}: the process ends by itself: ${how}`, async () => {
        const command =
          program === "compiled" ? [join(dir, "walt"), how] : [process.execPath, join(dir, "main.ts"), how];
        const child = Bun.spawn(["unshare", "--net", ...command], {
          cwd: "/",
          stdout: "pipe",
          stderr: "pipe",
          timeout: 15_000,
          killSignal: "SIGKILL",
        });
        const [text, error] = await Promise.all([
          new Response(child.stdout).text(),
          new Response(child.stderr).text(),
        ]);
        expect([text.trim(), await child.exited]).toEqual([output.trim(), status]);
        expect(error.includes("main thread throws")).toBe(how === "throw");
      }, 120_000);
    }
  }
});
