/**
 * A `Vm` with nothing around it, to be run on a host of the laboratory: options as JSON in its argument, the serial console on its
 * standard output, `stop` on its standard input ends it. Says `vm: started <pid>` and `vm: ended: <reason>` on standard error.
 */

import { Vm, type VmOptions } from "../../src/device/vm.ts";
import { messageOf, WaltError } from "../../src/errors.ts";
import { createLog } from "../../src/log.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as VmOptions;
try {
  const vm = await Vm.start({ ...options, onConsole: (text) => process.stdout.write(text) }, createLog(4));
  console.error(`vm: started ${vm.pid}`);
  void vm.ended.then((reason) => {
    console.error(`vm: ended: ${reason}`);
    process.exit(0);
  });
  for await (const line of console) {
    if (line === "stop") await vm.stop();
  }
} catch (error) {
  const hint = error instanceof WaltError && error.hint !== undefined ? `; ${error.hint}` : "";
  console.error(`vm: failed: ${messageOf(error)}${hint}`);
  process.exit(1);
}
