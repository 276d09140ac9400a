/** `walt vpn accept` */

import { command } from "../_command.ts";
import { answerCodes, answerOptions } from "./_answer.ts";

export default command({
  name: "walt vpn accept",
  description: "Accept devices that ask for access, or that asked while no monitor was running",
  examples: [
    "walt vpn accept PG2WB-J9NS3",
    "walt vpn accept PG2 --name lab-3",
    "walt vpn accept PG2 7K3 --server ssh://admin@walt.lab.example",
  ],
  args: {
    ...answerOptions,
    name: { type: "string", valueHint: "name", description: "What the node is to be called" },
  },
  run: (args, every) => answerCodes(args, every("code"), true, args.name),
});
