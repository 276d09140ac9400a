/**
 * `walt vpn monitor` with what a shell can put at its ends: endless input, closed input, readers that stop, a
 * terminal.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MonitorEvent } from "../../src/api/events.ts";
import { API, API_HEADER, VERSION_HEADER } from "../../src/api/routes.ts";
import { READING_TIME } from "../../src/commands/vpn/_monitor-screen.ts";
import { VERSION } from "../../src/version.ts";
import { describeWith } from "../lab/need.ts";

const WALT = [process.execPath, new URL("../../src/main.ts", import.meta.url).pathname];
const REQUEST: MonitorEvent = {
  type: "request",
  request: {
    id: "1",
    mac: "b8:27:eb:00:00:01",
    model: "Pi",
    serialNumber: "7",
    address: "192.0.2.1",
    fingerprint: "SHA256:xyz",
    code: "7KQ2M-X9ABC",
    receivedAt: "2026-03-01T12:00:00.000Z",
    expiresAt: "2026-03-01T12:05:00.000Z",
    warnings: [],
  },
};

const headers = { [API_HEADER]: String(API), [VERSION_HEADER]: VERSION };

const dir = mkdtempSync(join(tmpdir(), "walt-monitor-"));
const socket = join(dir, "server.sock");
let server: ReturnType<typeof Bun.serve>;
/** Answers that were given, and the monitor that watches. */
let answers: unknown[];
let tell: (event: MonitorEvent) => void = () => {};
let watching: () => void = () => {};

beforeAll(() => {
  const config = `role = "server"\n[server]\nsocket = "${socket}"\n`;
  writeFileSync(join(dir, "vpn.toml"), config);
  server = Bun.serve({
    unix: socket,
    fetch: async (request) => {
      if (request.method === "POST") {
        answers.push([new URL(request.url).pathname, await request.json()]);
        tell({ type: "answered", id: "1", outcome: "accepted", by: "x", node: "vpn-000001" });
        return Response.json({ node: "vpn-000001" }, { headers });
      }
      const start = (controller: ReadableStreamDefaultController): void => {
        tell = (event) => controller.enqueue(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
        tell({ type: "watching" });
        tell(REQUEST);
        watching();
      };
      return new Response(new ReadableStream({ start }), { headers });
    },
  });
});
afterAll(async () => {
  await server.stop(true);
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(() => {
  answers = [];
});

const env = (more: Record<string, string> = {}): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "",
  WALT_CONFIG: join(dir, "vpn.toml"),
  USER: "alice",
  ...more,
});

/** Run a line of bash in which "$@" is walt, for at most 20 s; the status of walt itself. */
async function shell(line: string): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = Bun.spawn(["timeout", "20", "bash", "-c", line, "bash", ...WALT], {
    env: env(),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { status: await child.exited, stdout, stderr };
}

describe("input that does not end", () => {
  test("is refused within its bound: a line without an end, and lines without number", async () => {
    for (const [line, said] of [
      ['"$@" vpn monitor < /dev/zero', /^walt: standard input: a line is longer than 1024 bytes\n$/],
      [
        '"$@" vpn monitor --json < /dev/zero',
        /^{"error":"standard input: a line is longer than 1024 bytes","status":1}\n$/,
      ],
      ['yes | "$@" vpn monitor', /^walt: standard input had more than 100 lines within a second, [^\n]*\n/],
      ['yes | "$@" vpn monitor --json', /^{"error":"the last 100 lines of standard input were not answers"/],
    ] as const) {
      const { status, stdout, stderr } = await shell(`set -o pipefail; ${line}`);
      expect([line, status]).toEqual([line, 1]);
      expect(stderr).toMatch(said);
      expect(stdout.length).toBeLessThan(20_000);
    }
    expect(answers).toEqual([]);
  }, 120_000);

  test("that has ended already is told", async () => {
    for (const closed of ["< /dev/null", "<&-"]) {
      const { status, stderr } = await shell(`"$@" vpn monitor ${closed}`);
      expect([closed, status]).toEqual([closed, 1]);
      expect(stderr).toStartWith("walt: standard input has ended");
    }
  }, 120_000);
});

/** A monitor whose standard input stays open, when it has connected. */
async function monitor(stdout: number): Promise<Bun.Subprocess<"pipe", number, "pipe">> {
  const { promise: connected, resolve } = Promise.withResolvers<void>();
  watching = resolve;
  const child = Bun.spawn(["timeout", "--foreground", "20", ...WALT, "vpn", "monitor"], {
    ...{ env: env(), stdin: "pipe", stdout, stderr: "pipe" },
  });
  closeSync(stdout);
  await Promise.race([connected, child.exited]);
  return child;
}

describe("standard output", () => {
  test("on a full disk is one line, and status 1", async () => {
    const child = await monitor(openSync("/dev/full", "w"));
    expect(await child.exited).toBe(1);
    expect(await child.stderr.text()).toMatch(/^walt: cannot write to standard output: [^\n]*\n$/);
  }, 120_000);

  test("whose reader has seen enough is no failure", async () => {
    // Its standard input is a pipe that stays open for longer than it runs.
    const { status, stdout, stderr } = await shell(
      '{ "$@" vpn monitor < <(exec sleep 4 2> /dev/null); echo "status $?" >&2; } | head -n 1',
    );
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^\d\d:\d\d:\d\d Waiting [^\n]*\n$/)]);
    expect(stderr).toBe("status 0\n");
  }, 120_000);

  test("that nobody reads ends the monitor before it fills the memory, and a signal ends the wait for a reader", async () => {
    const fifo = join(dir, "fifo");
    expect(await Bun.spawn(["mkfifo", fifo]).exited).toBe(0);
    const reader = openSync(fifo, constants.O_RDWR);
    try {
      const child = await monitor(openSync(fifo, "w"));
      for (let i = 0; i < 40_000; i++)
        tell({ type: "node", node: "vpn-000001", state: "up", via: "gate:22" });
      const { value } = await child.stderr.getReader().read();
      expect(new TextDecoder().decode(value)).toBe(
        "walt: standard output is not being read, so that no events can be shown\n",
      );
      child.kill("SIGTERM");
      expect(await child.exited).toBe(1);
    } finally {
      closeSync(reader);
    }
  }, 120_000);
});

test("each signal ends it at once, and its last line is whole", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    const file = join(dir, signal);
    const child = await monitor(openSync(file, "w"));
    for (let i = 0; i < 500 && !readFileSync(file, "utf8").includes("Accept?"); i++) await Bun.sleep(10);
    child.kill(signal);
    expect([signal, await child.exited, await child.stderr.text()]).toEqual([signal, 0, ""]);
    expect(readFileSync(file, "utf8")).toMatch(/\nAccept\? [^\n]*: \n$/);
  }
}, 120_000);

describeWith({ programs: ["script"] }, "on a terminal", () => {
  /** A monitor on a pseudo-terminal: what it shows, and what is typed. */
  function terminal(more: Record<string, string> = {}) {
    const command = [...WALT, "vpn", "monitor"].map((word) => `'${word}'`).join(" ");
    const child = Bun.spawn(["timeout", "20", "script", "-qec", `exec ${command}`, "/dev/null"], {
      env: env({ TERM: "xterm", ...more }),
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
    });
    let seen = "";
    let wake = (): void => {};
    void (async () => {
      for await (const bytes of child.stdout) {
        seen += new TextDecoder().decode(bytes);
        wake();
      }
    })();
    return {
      /** Bounded by the `timeout` of the command: then the output ends. */
      shown: async (pattern: RegExp): Promise<string> => {
        const ended = child.exited.then(() => Bun.sleep(100)).then(() => "ended");
        for (;;) {
          const [match] = pattern.exec(seen) ?? [];
          if (match !== undefined) return match;
          const more = new Promise<void>((resolve) => (wake = resolve));
          if ((await Promise.race([more, ended])) === "ended" && !pattern.test(seen))
            throw new Error(`it ended before ${pattern}:\n${seen}`);
        }
      },
      type: (text: string): void => {
        child.stdin.write(text);
        void child.stdin.flush();
      },
      get output() {
        return seen;
      },
      exited: child.exited,
    };
  }

  test("a y, and a code that is typed too early, do nothing; the code then accepts, for its key", async () => {
    const screen = terminal();
    await screen.shown(/Accept\? [^\n]*: $/);
    screen.type("7kq\r");
    await screen.shown(/Not counted: 7KQ2M-X9ABC had not been on the screen for half a second/);
    await Bun.sleep(READING_TIME + 50);
    screen.type("y\r");
    await screen.shown(/"y" alone accepts nothing/);
    expect(answers).toEqual([]);
    screen.type("7kq\r");
    const result = await screen.shown(/[^\n]*accepted: it becomes node vpn-000001/);
    // The result is a line of its own, with its time.
    expect(result).toMatch(/^\d\d:\d\d:\d\d 7KQ2M-X9ABC \(b8:27:eb:00:00:01\) accepted/);
    expect(answers).toEqual([
      ["/v1/requests/1", { accept: true, fingerprint: "SHA256:xyz", by: expect.stringMatching(/^alice@/) }],
    ]);
    screen.type("\u0003");
    expect(await screen.exited).toBe(0);
  }, 120_000);

  test("an event in the middle of the question leaves both readable, and ^D ends it on a line of its own", async () => {
    const screen = terminal();
    await screen.shown(/Accept\? [^\n]*: $/);
    tell({ type: "node", node: "vpn-000002", state: "down", via: "" });
    await screen.shown(/denies\): \r\n\d\d:\d\d:\d\d node vpn-000002 is down\r\nAccept\? [^\n]*: $/);
    screen.type("\u0004");
    expect(await screen.exited).toBe(0);
    await screen.shown(/denies\): \r\n$/);
  }, 120_000);

  test("colours are for terminals that have them, and only without NO_COLOR", async () => {
    for (const [more, coloured] of [
      [{}, true],
      [{ TERM: "dumb" }, false],
      [{ NO_COLOR: "1" }, false],
    ] as const) {
      const screen = terminal(more);
      await screen.shown(/Accept\? [^\n]*: $/);
      screen.type("\u0003");
      await screen.exited;
      expect([more, screen.output.includes("\u001b[")]).toEqual([more, coloured]);
      if (!coloured) expect(screen.output).toMatch(/^[\r\n -~]*$/);
    }
  }, 120_000);
});
