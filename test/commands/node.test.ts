/** Commands on nodes: what is typed, what is shown of a board and of the way to it. */

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pinged } from "../../src/api/ping.ts";
import { Escapes } from "../../src/commands/node/_escapes.ts";
import { PlainOutput } from "../../src/commands/node/_output.ts";
import { reportRows } from "../../src/commands/node/_report.ts";
import { verdicts, wayOf } from "../../src/commands/node/_way.ts";
import { changesOf } from "../../src/commands/node/set.ts";
import { parseReport } from "../../src/control/report.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

describe("escapes of the console", () => {
  /** What goes to the console of what was typed in these pieces, and what was asked for. */
  function typed(...pieces: string[]): [string, string[]] {
    const escapes = new Escapes();
    const all = pieces.map((piece) => escapes.type(utf8(piece)));
    return [all.map(({ bytes }) => text(bytes)).join(""), all.map(({ asks }) => asks)];
  }

  test("~. leaves at the beginning of a line only, however it is cut", () => {
    expect(typed("~.rest")).toEqual(["", ["leave"]]);
    expect(typed("~", ".")).toEqual(["", ["nothing", "leave"]]);
    expect(typed("ls\r~.")).toEqual(["ls\r", ["leave"]]);
    expect(typed("ls\n", "~", ".")[1]).toEqual(["nothing", "nothing", "leave"]);
    expect(typed("cd ~.")).toEqual(["cd ~.", ["nothing"]]);
    expect(typed("x~.")).toEqual(["x~.", ["nothing"]]);
  });

  test("~~ is one tilde, ~? helps, and any other ~ is typed with what follows it", () => {
    expect(typed("~~.")).toEqual(["~.", ["nothing"]]);
    expect(typed("~?", "~.")).toEqual(["", ["help", "leave"]]);
    expect(typed("~/bin\r")).toEqual(["~/bin\r", ["nothing"]]);
    expect(typed("~\r~.")).toEqual(["~\r", ["leave"]]);
  });
});

test("a console's output without its escapes: whole lines, bounded, without control characters", () => {
  const plain = new PlainOutput();
  expect(text(plain.take(utf8("\u001b[2J\u001b[1;31mred\u001b[0m\tx\r\nhal")))).toBe("red\tx\n");
  expect(text(plain.take(utf8("f\u0007\u001b]0;title\u0007 line\n")))).toBe("half line\n");
  const bytes = utf8("ü\n");
  expect(text(plain.take(bytes.subarray(0, 1))) + text(plain.take(bytes.subarray(1)))).toBe("ü\n");
  plain.take(utf8("x".repeat(1_000_000)));
  expect(plain.take(utf8("\n")).length).toBeLessThan(10_000);
});

describe("walt node set", () => {
  test("what may be set, several entrypoints, and what is given back to the card", () => {
    expect(changesOf(["entrypoint=a", "entrypoint=b:2200", "mtu=1500", "silence="])).toEqual({
      ...{ values: { entrypoint: ["a", "b:2200"], mtu: 1500, silence: null }, hostKeys: [] },
    });
    expect(changesOf(["known-host="])).toEqual({ values: {}, hostKeys: null });
    expect(() => changesOf([])).toThrow("nothing is to be set");
    expect(() => changesOf(["state=/tmp"])).toThrow('"state" cannot be set');
    expect(() => changesOf(["known-host=/does/not/exist"])).toThrow("cannot read");
  });

  test("host keys of a file as ssh writes it, by the names that a device looks up", () => {
    const folder = mkdtempSync(join(tmpdir(), "walt-set-"));
    try {
      const file = join(folder, "known_hosts");
      writeFileSync(file, "# of the gate\ngate ssh-ed25519 AAAA\r\n[gate]:2200 ssh-rsa BBBB\n\nother:22 x y");
      expect(changesOf([`known-host=${file}`]).hostKeys).toEqual([
        "gate:22 ssh-ed25519 AAAA",
        "gate:2200 ssh-rsa BBBB",
        "other:22 x y",
      ]);
      writeFileSync(file, "# nothing\n");
      expect(() => changesOf([`known-host=${file}`])).toThrow("has no host key");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the way to a node", () => {
  const part = (name: Pinged["part"], rtts: (number | null)[], problem: string | null = null): Pinged => ({
    ...{ part: name, name: `${name}.example`, rtts, problem },
  });

  test("a line for each part, with what was lost", () => {
    const parts = [part("proxy", [10, 12, 11]), part("tunnel", [30, 31, 32]), part("node", [31, 33, 32])];
    expect(wayOf([1, 2, 3], parts)).toBe(
      [
        "FROM … TO                                MEDIAN   LONGEST  LOST",
        "this command to the server               2.0 ms   3.0 ms   0 of 3",
        "board to proxy proxy.example             11.0 ms  12.0 ms  0 of 3",
        "server to board, through tunnel.example  31.0 ms  32.0 ms  0 of 3",
        "server to node node.example              32.0 ms  33.0 ms  0 of 3",
        "",
        "Nothing on the way is slow or lossy.",
      ].join("\n"),
    );
  });

  test("the first part that loses is named, and one from which nothing comes", () => {
    const lossy = [
      part("proxy", [10, null, 10]),
      part("tunnel", [30, null, 30]),
      part("node", [null, null, 31]),
    ];
    expect(verdicts(lossy)).toEqual(["Answers are lost: board to proxy proxy.example, 1 of 3."]);
    const dead = [part("proxy", [10]), part("tunnel", [30]), part("node", [null, null])];
    expect(verdicts(dead)).toEqual(["Nothing comes back: server to node node.example."]);
    const unknown = [part("proxy", [], "the device is old"), part("tunnel", [30]), part("node", [31])];
    expect(verdicts(unknown)[0]).toContain("Not measured: board to proxy proxy.example: the device is old");
    const down = [part("proxy", [], "is down"), part("tunnel", [], "is down"), part("node", [null])];
    expect(verdicts(down)).toEqual(["The board does not answer: is down."]);
  });

  test("the slow segment is named: to the proxy, behind it, or the node itself", () => {
    const slow = (proxy: number, tunnel: number, node: number): string | undefined =>
      verdicts([part("proxy", [proxy]), part("tunnel", [tunnel]), part("node", [node])])[0];
    expect(slow(200, 210, 211)).toContain("from the board to proxy proxy.example: 200 of 211 ms");
    expect(slow(10, 210, 211)).toContain("from proxy proxy.example to the server: 200 of 211 ms");
    expect(slow(10, 20, 300)).toContain("from the board to the node: 280 of 300 ms");
    expect(slow(10, 40, 45)).toBe("Nothing on the way is slow or lossy.");
  });
});

test("what a board told, in rows: what it does not know is left out", () => {
  const facts = parseReport({
    ...{ stage: "watch", detail: "up", temperature: 51.24, uptime: { board: 3600 } },
    vm: { state: "running", lastEnd: { at: "2026-11-27T03:21:55.123Z", reason: "QEMU was killed" } },
    usb: [{ port: "1-1.2", id: "0781:5567", name: "Stick" }],
    power: { underVoltage: false, underVoltageBefore: true, throttled: false, throttledBefore: false },
    settings: { set: ["mtu = 1500"], trial: { id: "1", by: "root", outcome: "reverted", reason: "no way" } },
    errors: [
      { at: null, text: "one" },
      { at: null, text: "two" },
      { at: null, text: "three" },
      { at: null, text: "four" },
    ],
  });
  expect(reportRows(facts, 1000, 6000)).toEqual([
    ["reported", "5.0 s ago"],
    ["stage", "watch; up"],
    ["VM", "running; the last one ended at 2026-11-27T03:21:55.123Z: QEMU was killed"],
    ["USB devices", "1-1.2 0781:5567 Stick"],
    ["temperature", "51.2 °C"],
    ["power", "the voltage was too low"],
    ["board up for", "1 h 0 min"],
    ["set from the lab", "mtu = 1500"],
    ["last trial", "reverted, by root; no way"],
    ["board's error", "two"],
    ["board's error", "three"],
    ["board's error", "four"],
  ]);
  expect(reportRows(parseReport({}), 0, 0)).toHaveLength(1);
});
