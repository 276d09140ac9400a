/** `walt device console` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { usageError } from "../../errors.ts";
import { command, configOption, untilStopped } from "../_command.ts";

export default command({
  name: "walt device console",
  description: "Attach to the node's serial console. It shows the last output first; ^] leaves",
  examples: ["walt device console", "walt device console --watch | grep --line-buffered Linux"],
  args: {
    watch: { type: "boolean", description: "Look on without typing" },
    take: { type: "boolean", description: "Type in place of whoever is typing, who can then only look on" },
    ...configOption,
  },
  async run(args) {
    if (args.watch && args.take) throw usageError("--watch and --take exclude each other");
    const config = requireRole(loadConfig(args.config), "device");
    const { attachConsole, LEAVE } = await import("../../device/console/client.ts");
    const { runFiles } = await import("../../device/files.ts");
    const leave = new AbortController();
    const terminal = process.stdin.isTTY && process.stdout.isTTY;
    const restore = (): void => {
      if (terminal) process.stdin.setRawMode(false);
    };
    try {
      const why = await attachConsole({
        socket: runFiles(config).consoleSocket,
        mode: args.watch ? "watch" : args.take ? "take" : "write",
        show: (bytes) =>
          process.stdout.write(bytes.slice())
            ? undefined
            : new Promise((room) => process.stdout.once("drain", () => room())),
        attached: (type) => {
          if (terminal) {
            process.stderr.write("Attached to the node's serial console; ^] leaves.\n");
            process.stdin.setRawMode(true);
            process.once("exit", restore);
          }
          process.stdin.on("error", () => leave.abort()); // the terminal is gone
          process.stdin.on("data", (bytes: Buffer) => {
            const end = terminal ? bytes.indexOf(LEAVE) : -1;
            type(end < 0 ? bytes : bytes.subarray(0, end));
            if (end >= 0) leave.abort();
          });
        },
        signal: AbortSignal.any([leave.signal, untilStopped()]),
      });
      restore();
      const words = why === "left" ? "Left the node's serial console." : "The device ended the connection.";
      if (terminal) process.stderr.write(`\n${words}\n`);
    } finally {
      restore();
      process.stdin.pause();
    }
  },
});
