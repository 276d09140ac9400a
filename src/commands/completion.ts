/** `walt completion` */

import { usageError } from "../errors.ts";
import { quoted } from "../text.ts";
import { command, write } from "./_command.ts";
import { completionScript, SHELLS } from "./_completion.ts";

export default command({
  name: "walt completion",
  description:
    "Print a script that completes commands, options, nodes and servers in a shell. The Debian package has it already",
  examples: [
    "source <(walt completion bash)   # in ~/.bashrc",
    "walt completion fish > ~/.config/fish/completions/walt.fish",
  ],
  args: {
    shell: { type: "positional", required: true, description: `The shell: ${SHELLS.join(", ")}` },
  },
  async run(args, _, root) {
    const shell = SHELLS.find((one) => one === args.shell);
    if (shell === undefined)
      throw usageError(
        `there is no completion for ${quoted(args.shell)}`,
        `There is for ${SHELLS.join(", ")}.`,
      );
    write(await completionScript(root, shell));
  },
});
