/** `walt help` */

import { EXIT } from "../errors.ts";
import { command, write } from "./_command.ts";
import { find, noCommand } from "./_find.ts";
import { help } from "./_help.ts";
import { isColoured, proseWidth } from "./_terminal.ts";

export default command({
  name: "walt help",
  description: "Explain a command",
  examples: ["walt help", "walt help vpn accept"],
  args: {
    command: {
      type: "positional",
      required: false,
      valueHint: "…",
      description: "The words of the command, without walt",
    },
  },
  async run(_, every, root) {
    const words = every("command");
    const { entry, rest } = await find(root, words);
    if (rest.length > 0 && "subCommands" in entry) throw noCommand(entry, rest);
    write(await help(root, words, proseWidth(), isColoured()));
    process.exitCode = EXIT.done;
  },
});
