/** Nodes as people type them, and one action on many of them. */

import { describe, expect, test } from "bun:test";
import { chooseNodes, isPattern } from "../../src/commands/node/_choose.ts";
import { type Outcome, sideBySide } from "../../src/commands/node/_side-by-side.ts";
import { WaltError } from "../../src/errors.ts";

const node = (name: string, state = "up", defaultName = name) => ({ name, state, defaultName });
const NODES = [
  ...[node("vpn-01"), node("vpn-02", "down"), node("vpn-12")],
  ...[node("lab-3", "up", "vpn-030303"), node("lab-4", "down", "vpn-040404")],
];

const chosen = (typed: string[], state?: string): string[] =>
  chooseNodes(NODES, typed, state).map(({ name }) => name);

/** What is thrown: exit status, message and hint. */
function refusal(act: () => unknown): [status: number, text: string] {
  try {
    act();
  } catch (error) {
    if (error instanceof WaltError) return [error.exitCode, `${error.message}\n${error.hint}`];
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("nodes are chosen", () => {
  test("by names and globs, each once, in the order of the list", () => {
    expect(chosen(["lab-3", "vpn-01"])).toEqual(["vpn-01", "lab-3"]);
    expect(chosen(["vpn-0*"])).toEqual(["vpn-01", "vpn-02"]);
    expect(chosen(["vpn-?2", "vpn-02"])).toEqual(["vpn-02", "vpn-12"]);
    expect(chosen(["{lab,vpn}-[34]"])).toEqual(["lab-3", "lab-4"]);
    expect(chosen(["all"])).toHaveLength(5);
  });

  test("by their state, with names or without", () => {
    expect(chosen([], "down")).toEqual(["vpn-02", "lab-4"]);
    expect(chosen(["vpn-*"], "up")).toEqual(["vpn-01", "vpn-12"]);
    expect(chosen(["vpn-01"], "down")).toEqual([]);
  });

  test("a name that no node has is an error that guesses", () => {
    expect(refusal(() => chosen(["vpn-01", "lab-5x"]))).toEqual([
      1,
      'there is no node "lab-5x"\nDid you mean lab-3?',
    ]);
    expect(refusal(() => chosen(["zzz"]))[1]).toBe(
      'there is no node "zzz"\n`walt node show` lists the nodes.',
    );
    expect(refusal(() => chosen(["vpn-030303"]))[1]).toStartWith(
      'there is no node "vpn-030303": it is called lab-3 now',
    );
    expect(refusal(() => chosen(["\u001b[2J"]))[1]).not.toContain("\u001b");
  });

  test("a glob that fits none is an error, and so is no word at all", () => {
    expect(refusal(() => chosen(["lab-3", "x-*"]))).toEqual([1, expect.stringContaining('name like "x-*"')]);
    expect(refusal(() => chosen([]))).toEqual([2, expect.stringContaining("no node is named")]);
  });

  test("a word that may name several is told from a name", () => {
    expect(["all", "a*", "a?", "[ab]", "{a,b}"].filter((word) => !isPattern(word))).toEqual([]);
    expect(isPattern("lab-3")).toBe(false);
  });
});

describe("an action on many nodes", () => {
  /** Run it; the lines that are printed, and the exit status. */
  async function run(
    names: string[],
    act: (name: string) => Promise<Outcome>,
  ): Promise<[lines: string[], status: number]> {
    const lines: string[] = [];
    const nodes = names.map((name) => ({ name }));
    const show = (line: string): void => void lines.push(line);
    const status = await sideBySide(nodes, ({ name }) => act(name), show).then(
      () => 0,
      (error: unknown) => (error instanceof WaltError ? error.exitCode : 99),
    );
    return [lines, status];
  }

  test("prints a line for each as it ends, and succeeds", async () => {
    const first = Promise.withResolvers<void>();
    const done = run(["a", "b"], async (name) => {
      if (name === "a") await first.promise;
      else first.resolve();
      return { text: "done" };
    });
    expect(await done).toEqual([["b: done", "a: done"], 0]);
  });

  test("goes on after a failure, and ends with the worst status", async () => {
    const act = async (name: string): Promise<Outcome> => {
      if (name === "a") throw new WaltError("cannot");
      return { text: "ran", status: name === "b" ? 42 : 0 };
    };
    expect(await run(["a", "b", "c"], act)).toEqual([["b: ran", "c: ran"], 42]);
  });

  test("runs on 16 at the same time", async () => {
    let [running, most] = [0, 0];
    await run(
      Array.from({ length: 50 }, (_, i) => `n${i}`),
      async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
        return { text: "" };
      },
    );
    expect([running, most]).toEqual([0, 16]);
  });

  test("on one node fails as the action does; on none it fails, and a bug stays a bug", async () => {
    const fail = (error: Error) => () => Promise.reject(error);
    const one = sideBySide([{ name: "a" }], fail(new WaltError("cannot")), () => {});
    expect(one).rejects.toThrow("cannot");
    expect(sideBySide([], fail(new Error()))).rejects.toThrow("nothing was done");
    expect((await run(["a", "b"], fail(new TypeError("oops"))))[1]).toBe(99);
  });
});
