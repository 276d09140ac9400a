/** `walt vpn monitor` on a terminal of tmux: what stands on the screen, and what somebody types there. */

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { READING_TIME } from "../../src/commands/vpn/_monitor-screen.ts";
import { run, runAny } from "../../src/linux/run.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { FakeServer, REQUEST } from "./web/fake-server.ts";

const WALT = [process.execPath, new URL("../../src/main.ts", import.meta.url).pathname];
const ONE = { ...REQUEST, model: "Raspberry Pi 3" };
const TWO = {
  ...{ ...ONE, id: "2", fingerprint: "SHA256:y", code: "7KQ2M-X9ABC" },
  ...{ mac: "b8:27:eb:00:00:02", serialNumber: "8", model: "mini-PC" },
};

/** Servers of tmux so far: each terminal has one of its own. */
let count = 0;

/** A terminal with a program in it. */
class Terminal implements AsyncDisposable {
  private constructor(readonly tmux: readonly string[]) {}

  /** @param size `100x30`: columns and lines. */
  static async start(fake: FakeServer, size: string, more: Record<string, string> = {}): Promise<Terminal> {
    const config = join(fake.folder, "vpn.toml");
    writeFileSync(config, `role = "server"\n[server]\nsocket = "${fake.socket}"\n`);
    const tmux = ["tmux", "-u", "-S", join(fake.folder, `tmux-${++count}`), "-f", "/dev/null"];
    const [x = "", y = ""] = size.split("x");
    const env = { WALT_CONFIG: config, LC_ALL: "C.UTF-8", USER: "alice", ...more };
    const set = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const command = ["env", ...set, ...WALT, "vpn", "monitor"].map((word) => `'${word}'`).join(" ");
    const shown = `${command}; echo "status $?"; stty -a | grep -o '[-]*icanon'; exec sleep 1000`;
    await run([...tmux, "new-session", "-d", "-x", x, "-y", y, shown]);
    return new Terminal(tmux);
  }

  /** What stands on the screen, without empty lines at its end. */
  async screen(): Promise<string> {
    return (await run([...this.tmux, "capture-pane", "-p"])).trimEnd();
  }

  shown(pattern: RegExp): Promise<string> {
    return eventually(`the screen shows ${pattern}`, () => this.screen(), {
      every: 50,
      fits: (text) => pattern.test(text),
    });
  }

  /** Press keys, by the names of tmux, once what is on the screen has been there for long enough. */
  async press(...keys: string[]): Promise<void> {
    await Bun.sleep(READING_TIME + 100); // nobody reads faster, and what is typed sooner does not count
    await run([...this.tmux, "send-keys", ...keys]);
  }

  async resize(x: number, y: number): Promise<void> {
    await run([...this.tmux, "resize-window", "-x", String(x), "-y", String(y)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runAny([...this.tmux, "kill-server"]);
  }
}

const countOf = (text: string, what: string): number => text.split(what).length - 1;

describeWith({ programs: ["tmux"] }, "the monitor on a terminal", () => {
  let fake: FakeServer;
  beforeAll(() => {
    fake = new FakeServer();
  });
  afterAll(() => fake[Symbol.asyncDispose]());
  beforeEach(() => {
    fake.told.length = 0;
  });

  test("one table that is drawn in place, events above it with their time, the answer by code, and a clean end", async () => {
    await using terminal = await Terminal.start(fake, "100x30");
    await terminal.shown(/^\d\d:\d\d:\d\d Waiting for devices/);
    fake.ask(ONE);
    fake.ask(TWO);
    await terminal.shown(/2 devices wait:\n {2}PG2WB-J9NS3 .*\n {2}7KQ2M-X9ABC /);
    for (let i = 0; i < 5; i++) fake.tell({ type: "node", node: `lab-${i}`, state: "down", via: "" });
    const many = await terminal.shown(/\d\d:\d\d:\d\d node lab-4 is down\n2 devices wait:/);
    expect(countOf(many, "devices wait:")).toBe(1);
    expect(countOf(many, "7KQ2M-X9ABC  ")).toBe(1);
    await terminal.press("pg2 as lab-3 note shelf 2", "Enter");
    const answered = await terminal.shown(/1 device waits:/);
    // The result is a line of its own.
    expect(answered).toMatch(
      /^\d\d:\d\d:\d\d PG2WB-J9NS3 \(b8:27:eb:01:02:03\) accepted: it becomes node lab-3$/m,
    );
    await eventually("the note", () => fake.told, { fits: (told) => told.length === 2 });
    expect(fake.told).toMatchObject([
      { id: "1", fingerprint: "SHA256:x", accept: true, name: "lab-3", by: expect.stringMatching(/^alice@/) },
      { node: "lab-3", note: "shelf 2" },
    ]);
    await terminal.press("C-c");
    const end = await terminal.shown(/status 0\nicanon$/);
    expect(end).not.toContain("device waits");
  });

  test("cursor keys choose a line; name and note are asked at once; a filter; a block", async () => {
    await using terminal = await Terminal.start(fake, "100x30");
    await terminal.shown(/Waiting for devices/);
    fake.ask(ONE);
    fake.ask(TWO);
    await terminal.shown(/2 devices wait/);
    await terminal.press("/mini", "Enter", "Down");
    await terminal.shown(/2 devices wait, 1 shown:\n> 7KQ2M-X9ABC/);
    await terminal.press("Enter");
    await terminal.shown(/short code +7KQ2M-X9ABC[\s\S]*a accepts, d denies, b blocks this key/);
    await terminal.press("a");
    await terminal.shown(/Name of the node \(empty: the server chooses\):$/);
    await terminal.press("lab-8", "Enter");
    await terminal.shown(/Note about it \(may be empty\):$/);
    await terminal.press("by the door", "Enter");
    await terminal.shown(/7KQ2M-X9ABC \(\S+\) accepted: it becomes node lab-8/);
    await terminal.press("Escape");
    await terminal.press("Down", "Enter");
    await terminal.shown(/short code +PG2WB-J9NS3/);
    await terminal.press("b");
    const end = await terminal.shown(/This key is blocked/);
    expect(end).toMatch(/^\d\d:\d\d:\d\d PG2WB-J9NS3 \(\S+\) denied$/m);
    expect(fake.told).toMatchObject([
      { id: "2", accept: true, name: "lab-8" },
      { node: "lab-8", note: "by the door" },
      { id: "1", accept: false, block: "key" },
    ]);
  });

  test("what is typed ahead, before the table or a request is there, does nothing", async () => {
    fake.ask(ONE);
    await using terminal = await Terminal.start(fake, "100x30");
    fake.ask(ONE);
    for (let i = 0; i < 20; i++)
      await run([...terminal.tmux, "send-keys", "Down", "Enter", "d", "pg2", "Enter"]);
    await terminal.shown(/Waiting for devices/);
    // Sent in one piece: the letter is there before anybody can have read what it would be for.
    fake.tell({ type: "request", request: ONE });
    await terminal.shown(/1 device waits/);
    await terminal.press("Escape");
    await terminal.press("Escape");
    await terminal.press("Down", "Enter", "d");
    await terminal.shown(/a accepts, d denies/);
    expect(fake.told).toEqual([]);
    await terminal.press("d");
    await terminal.shown(/PG2WB-J9NS3 \(\S+\) denied$/m);
    expect(fake.told).toHaveLength(1);
    fake.requests = [];
  });

  test("another size: the table is drawn anew, once", async () => {
    await using terminal = await Terminal.start(fake, "120x30");
    await terminal.shown(/Waiting for devices/);
    fake.ask(ONE);
    fake.ask(TWO);
    await terminal.shown(/2 devices wait/);
    await terminal.resize(62, 20);
    await terminal.resize(100, 30);
    fake.tell({ type: "node", node: "lab-9", state: "down", via: "" });
    const whole =
      /node lab-9 is down\n2 devices wait:\n {2}PG2.*\n {2}7KQ.*\n.*\nThe first 3 .* deny CODE\):$/;
    const text = await terminal.shown(whole);
    expect(countOf(text, "devices wait:")).toBe(1);
  });

  test("a terminal that is narrow, dumb or not of UTF-8 gets plain lines", async () => {
    for (const [size, more] of [
      ["50x30", {}],
      ["100x10", {}],
      ["100x30", { TERM: "dumb" }],
      ["100x30", { LC_ALL: "C" }],
    ] as const) {
      await using terminal = await Terminal.start(fake, size, more);
      await terminal.shown(/Waiting for devices/);
      fake.ask(ONE);
      const text = await terminal.shown(/\nAccept\? Type the first 3/);
      expect([size, more, text.includes("device waits:")]).toEqual([size, more, false]);
      fake.requests = [];
    }
  });
});
