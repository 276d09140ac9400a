/** `walt version` */

import { VERSION } from "../version.ts";
import { command, jsonOption, print } from "./_command.ts";

export default command({
  name: "walt version",
  description: "Print the version of this program",
  examples: ["walt version", "walt version --json"],
  args: { ...jsonOption },
  async run(args) {
    const { arch } = process;
    print(args.json ? JSON.stringify({ version: VERSION, arch }, null, 2) : VERSION);
  },
});
