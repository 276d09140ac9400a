import { describe, expect, test } from "bun:test";
import { PassThrough } from "node:stream";
import { LineCutter, readLines } from "../../src/linux/lines.ts";

const bytes = (text: string): Buffer => Buffer.from(text);

describe("LineCutter", () => {
  test("gives lines as they are completed, however they are cut", () => {
    const cutter = new LineCutter(100);
    expect(cutter.push(bytes("one\ntw"))).toEqual(["one"]);
    expect(cutter.push(bytes("o"))).toEqual([]);
    expect(cutter.push(bytes("\n\nthree\n"))).toEqual(["two", "", "three"]);
  });

  test("a character cut in two is whole again", () => {
    const cutter = new LineCutter(100);
    const [first, second] = [bytes("é\n").subarray(0, 1), bytes("é\n").subarray(1)];
    expect([...cutter.push(first), ...cutter.push(second)]).toEqual(["é"]);
  });

  test("a line of exactly the bound passes, one byte more does not, ended or not", () => {
    expect(new LineCutter(4).push(bytes("abcd\n"))).toEqual(["abcd"]);
    expect(new LineCutter(4).push(bytes("abcd"))).toEqual([]);
    expect(() => new LineCutter(4).push(bytes("abcde\n"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("abcde"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("ééé"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("ok\nabcde"))).toThrow("a line is longer than 4 bytes");
  });

  test("what was too long is not kept: who goes on sending finds an empty line begun", () => {
    const cutter = new LineCutter(4);
    for (let i = 0; i < 3; i++) expect(() => cutter.push(bytes("too long"))).toThrow("longer than 4");
    expect(cutter.push(bytes("ok\n"))).toEqual(["ok"]);
  });
});

describe("readLines", () => {
  const never = new AbortController().signal;

  test("gives one line after the other, and waits for each to be dealt with", async () => {
    const stream = new PassThrough();
    const log: string[] = [];
    stream.end("one\ntwo\nthree\nrest");
    const ended = await readLines(stream, "input", 100, never, async (line) => {
      log.push(`begin ${line}`);
      await new Promise((resolve) => setImmediate(resolve));
      log.push(`end ${line}`);
    });
    expect(ended).toBe(true);
    expect(log).toEqual(["one", "two", "three"].flatMap((line) => [`begin ${line}`, `end ${line}`]));
  });

  test("a line that does not end is not kept: it is an error, and nothing more is read", async () => {
    const stream = new PassThrough();
    const read = readLines(stream, "input", 100, never, () => {});
    stream.write(Buffer.alloc(1000));
    await expect(read).rejects.toThrow("input: a line is longer than 100 bytes");
    expect(stream.isPaused()).toBe(true);
    expect(stream.listenerCount("data")).toBe(0);
  });

  test("stops when it is told so, also between two lines, and before the first", async () => {
    const stop = new AbortController();
    const stream = new PassThrough();
    const lines: string[] = [];
    stream.write("one\ntwo\n");
    const read = readLines(stream, "input", 100, stop.signal, (line) => {
      lines.push(line);
      stop.abort();
    });
    expect([await read, lines]).toEqual([false, ["one"]]);
    expect(await readLines(stream, "input", 100, stop.signal, () => {})).toBe(false);
    expect(stream.listenerCount("end")).toBe(0);
  });

  test("what is thrown about a line ends it", async () => {
    const stream = new PassThrough();
    stream.write("one\n");
    const read = readLines(stream, "input", 100, never, () => {
      throw new Error("no");
    });
    await expect(read).rejects.toThrow("no");
    expect(stream.destroyed).toBe(false);
  });
});
