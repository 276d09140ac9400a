/** Listeners without file descriptors: they wait for some without turning, and go on when there are. */

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection, createServer, type NetConnectOpts, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../lab/eventually.ts";
import { need } from "../lab/need.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-listening-"));
afterAll(() => rmSync(dir, { recursive: true }));
const PROGRAM = join(import.meta.dir, "listening-process.ts");
const NO_DESCRIPTORS = /there are no file descriptors left/;

interface Served {
  process: Bun.Subprocess<"ignore", "pipe", "inherit">;
  /** What it has said. */
  said: { text: string };
  /** Where it listens: SSH, HTTP, and the API. */
  places: readonly NetConnectOpts[];
}

let count = 0;
async function serve(descriptors: number): Promise<Served> {
  const free = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => free.once("listening", resolve));
  const address = free.address();
  const http = typeof address === "object" && address !== null ? address.port : 0;
  await new Promise((resolve) => free.close(resolve));
  const path = join(dir, `${count++}.sock`);
  const child = Bun.spawn(
    ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", process.execPath, PROGRAM, path, String(http)],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  const said = { text: "" };
  void (async () => {
    for await (const bytes of child.stdout) said.text += new TextDecoder().decode(bytes);
  })();
  const found = await eventually("where it listens", () => /listening (\d+)/.exec(said.text));
  const ports = [Number(found[1]), http].map((port) => ({ host: "127.0.0.1", port }));
  return { process: child, said, places: [...ports, { path }] };
}

/** It has said that there are no descriptors left. */
const outOfDescriptors = ({ said }: Served): Promise<unknown> =>
  eventually("no descriptors", () => NO_DESCRIPTORS.test(said.text) || undefined);

async function stop({ process: child }: Served): Promise<void> {
  child.kill("SIGKILL");
  await child.exited;
}

/** Open connections, which say nothing. */
function open(place: NetConnectOpts, number: number): Socket[] {
  return Array.from({ length: number }, () => createConnection(place).on("error", () => {}));
}

/** It sleeps, each time that we look: a loop that turns is found running. */
async function sleeps({ process: { pid } }: Served): Promise<void> {
  let inARow = 0;
  const state = (): string =>
    readFileSync(`/proc/${pid}/task/${pid}/stat`, "utf8").replace(/^.*\) /, "")[0] ?? "";
  await eventually("it sleeps", () => (inARow = state() === "S" ? inARow + 1 : 0), { fits: (n) => n >= 30 });
}

/** It answers on HTTP and the API, and greets on SSH. */
async function answers({ places }: Served): Promise<void> {
  for (const place of places) {
    const text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    const answer = (): Promise<string> =>
      new Promise((resolve) => {
        const socket = createConnection(place, () =>
          socket.write("port" in place && place === places[0] ? "" : text),
        );
        socket.on("error", () => resolve(""));
        socket.once("close", () => resolve(""));
        socket.once("data", (bytes) => {
          resolve(bytes.toString("latin1"));
          socket.destroy();
        });
      });
    await eventually("an answer", answer, { fits: (got) => /^(SSH-2\.0|HTTP\/1\.1 200)/.test(got) });
  }
}

for (const [index, name] of ["SSH", "HTTP", "the API"].entries()) {
  test(`${name}: more connections than descriptors`, async () => {
    const served = await serve(100);
    const place = served.places[index];
    if (place === undefined) throw new Error("no place");
    const held = open(place, 150);
    try {
      await outOfDescriptors(served);
      // Somebody knocks at the others, too.
      for (const other of served.places) held.push(...open(other, 3));
      await sleeps(served);
      for (const socket of held) socket.destroy();
      await answers(served);
    } finally {
      for (const socket of held) socket.destroy();
      await stop(served);
    }
  });
}

const prlimit = need({ programs: ["prlimit"] });
test.skipIf(prlimit.skip && process.env["CI"] !== "true")(
  `no descriptor is left while it listens${prlimit.skip ? ` (skipped: ${prlimit.why})` : ""}`,
  async () => {
    const served = await serve(100);
    const limit = (number: number): Promise<number> =>
      Bun.spawn(["prlimit", `--pid=${served.process.pid}`, `--nofile=${number}:100`]).exited;
    try {
      await answers(served);
      expect(await limit(5)).toBe(0);
      const held = served.places.flatMap((place) => open(place, 3));
      await outOfDescriptors(served);
      await sleeps(served);
      for (const socket of held) socket.destroy();
      expect(await limit(100)).toBe(0);
      await answers(served);
    } finally {
      await stop(served);
    }
  },
);
