/** `walt vpn deny` */

import { command } from "../_command.ts";
import { answerCodes, answerOptions } from "./_answer.ts";

export default command({
  name: "walt vpn deny",
  description:
    "Deny devices that ask for access. Monitors no longer show a device that was denied while no monitor was running",
  examples: ["walt vpn deny PG2WB-J9NS3", "walt vpn deny PG2 7K3 --server ssh://admin@walt.lab.example"],
  args: answerOptions,
  run: (args, every) => answerCodes(args, every("code"), false),
});
