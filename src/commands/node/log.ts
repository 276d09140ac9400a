/** `walt node log` */

import { usageError } from "../../errors.ts";
import { command, untilStopped } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { showContinued } from "./_continued.ts";
import { PlainOutput, printed } from "./_output.ts";

export default command({
  name: "walt node log",
  description: "Show the log of a node's board: its supervisor's, its kernel's, or the node's console",
  examples: ["walt node log lab-3", "walt node log lab-3 --kernel --lines 50", "walt node log lab-3 --vm -f"],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    follow: { type: "boolean", alias: "f", description: "Go on with what is written later; ^C ends it" },
    board: { type: "boolean", description: "The log of the board's supervisor (unless told otherwise)" },
    kernel: { type: "boolean", description: "The log of the board's kernel" },
    vm: { type: "boolean", description: "The last output of the node's serial console, without its escapes" },
    lines: { type: "string", valueHint: "n", description: "The last n of the lines that are kept" },
    ...serverOptions,
  },
  async run(args) {
    const sources = (["board", "kernel", "vm"] as const).filter((one) => args[one]);
    const [source = "board", ...others] = sources;
    if (others.length > 0) throw usageError(`--${source} and --${others[0]} exclude each other`);
    if (args.lines !== undefined && !/^\d{1,6}$/.test(args.lines))
      throw usageError(`--lines ${JSON.stringify(args.lines)} is no number of lines`);
    const lines = args.lines === undefined ? {} : { lines: Number(args.lines) };
    const plain = new PlainOutput();
    await showContinued((use) => withServer(args, use), args.node, {
      order: (after) => {
        const more = after === undefined ? lines : { after };
        return { order: "log" as const, source, follow: args.follow ?? false, ...more };
      },
      show: ({ bytes }) => printed(plain.take(bytes)),
      lost: () => process.stderr.write("[The way to the board is lost; it is tried again.]\n"),
      goesOn: args.follow === true,
      signal: untilStopped(),
    });
    await printed(plain.end());
  },
});
