/**
 * The front door: the root command, and the only place that turns an error into a message and an exit status.
 */

import { EXIT, messageOf } from "./errors.ts";
import { explained } from "./system-error.ts";

/** Everything a user types after `walt`. */
async function main(rawArgs: string[]): Promise<number> {
  const { root } = await import("./commands/root.ts");
  const end = rawArgs.indexOf("--");
  const flags = end < 0 ? rawArgs : rawArgs.slice(0, end);
  try {
    if (rawArgs.length === 1 && (rawArgs[0] === "--version" || rawArgs[0] === "-v")) {
      const { VERSION } = await import("./version.ts");
      process.stdout.write(`${VERSION}\n`);
      return EXIT.done;
    }
    if (flags.includes("--help") || flags.includes("-h")) {
      const { help } = await import("./commands/_help.ts");
      const { isColoured, proseWidth } = await import("./commands/_terminal.ts");
      process.stdout.write(await help(root, rawArgs, proseWidth(), isColoured()));
      return EXIT.done;
    }
    if (rawArgs.length === 0) {
      process.stderr.write(await (await import("./commands/_help.ts")).help(root, []));
      return EXIT.usage;
    }
    await (await import("./commands/_find.ts")).runTyped(root, rawArgs);
    return typeof process.exitCode === "number" ? process.exitCode : EXIT.done;
  } catch (error) {
    return explain(error, flags.includes("--json"));
  }
}

/**
 * Say on standard error what went wrong.
 * @param asJson as one line of JSON: `{"error":…,"hint":…,"status":…}`. Standard output has results alone.
 */
function explain(error: unknown, asJson: boolean): number {
  const known = explained(error);
  const status = known?.exitCode ?? EXIT.failed;
  const message = known?.message ?? `this is a bug in walt: ${messageOf(error)}`;
  const stack = known === undefined && error instanceof Error ? (error.stack ?? "") : undefined;
  const hint = known?.hint ?? stack;
  const lines = asJson
    ? [JSON.stringify({ error: message, ...(hint === undefined ? {} : { hint }), status })]
    : [`walt: ${message}`, ...(hint === undefined ? [] : [hint])];
  process.stderr.write(lines.map((line) => `${line}\n`).join(""));
  return status;
}

if (Bun.isMainThread) {
  // A reader that has gone (`walt vpn list | head -1`) is no error.
  process.stdout.on("error", (error: Error & { code?: string }) => {
    if (error.code === "EPIPE") process.exit(EXIT.done);
    process.stderr.write(`walt: cannot write to standard output: ${messageOf(error)}\n`);
    process.exit(EXIT.failed);
  });
  const status = await main(process.argv.slice(2));
  // Until a slow reader of the pipe has taken all: the callback of an empty write would not wait for what was
  // written before.
  const taken = new Promise<void>((resolve) => process.stdout.end(() => resolve()));
  // A signal that ends the command also ends the wait for a reader that has stopped reading.
  const { stopSignal } = await import("./commands/_command.ts");
  const { aborted } = await import("./linux/sleep.ts");
  await Promise.race([taken, aborted(stopSignal).then(() => Bun.sleep(500))]);
  process.exit(status);
} else {
  // In the compiled binary the pump's thread begins here too (src/tunnel/pump-thread.ts).
  await import("./tunnel/pump-main.ts");
}
