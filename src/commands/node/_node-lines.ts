/** The output of many nodes on one screen: whole lines, each with what tells whose it is. */

import { plainLine } from "./_output.ts";

/** Characters of a line; a longer one becomes several. */
const LINE_MAX = 8192;

/**
 * Pass on the lines of a stream, without escapes and other control characters. The next part is read when `show` is
 * done.
 */
export async function nodeLines(
  stream: ReadableStream<Uint8Array>,
  show: (line: string) => Promise<void>,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) await show(plainLine(line));
    for (; rest.length > LINE_MAX; rest = rest.slice(LINE_MAX))
      await show(plainLine(rest.slice(0, LINE_MAX)));
  }
  if (rest !== "") await show(plainLine(rest));
}
