/** Output of nodes as lines. */

import { expect, test } from "bun:test";
import { nodeLines } from "../../src/commands/node/_node-lines.ts";

async function lines(...parts: (string | Uint8Array)[]): Promise<string[]> {
  const bytes = parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part));
  const shown: string[] = [];
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const one of bytes) controller.enqueue(one);
      controller.close();
    },
  });
  await nodeLines(stream, async (line) => void shown.push(line));
  return shown;
}

test("lines are whole, however they come, and the last one needs no end", async () => {
  expect(await lines("a\nb", "c\n", "\nd")).toEqual(["a", "bc", "", "d"]);
  const [first, second] = [Buffer.from("é\n").subarray(0, 1), Buffer.from("é\n").subarray(1)];
  expect(await lines(first, second)).toEqual(["é"]);
  expect(await lines()).toEqual([]);
});

test("escapes and control characters are left out", async () => {
  expect(await lines("\u001b[31mred\u001b[0m\r\n\ttab\u0007\u202e\n")).toEqual(["red", "\ttab"]);
});

test("a line without end is shown in parts", async () => {
  const shown = await lines("x".repeat(20_000), "y");
  expect(shown.map((line) => line.length)).toEqual([8192, 8192, 3617]);
});
