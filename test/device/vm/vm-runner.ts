/**
 * A `Vm` with nothing around it, to be run on a host of the laboratory: options as JSON in its argument, the serial console on its
 * standard output, `stop` on its standard input ends it, `qmp <command>` is passed to QEMU. Says `vm: started <pid>` and
 * `vm: ended: <reason>` on standard error.
 */

import { SerialConsole } from "../../../src/device/console/serial-console.ts";
import { type MachineOptions, Vm } from "../../../src/device/vm/vm.ts";
import { messageOf, WaltError } from "../../../src/errors.ts";
import { createLog } from "../../../src/log.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as MachineOptions;
const serial = new SerialConsole((bytes) => process.stdout.write(bytes.slice()));
try {
  const vm = await Vm.start(options, serial, createLog(4));
  console.error(`vm: started ${vm.pid}`);
  void vm.ended.then(({ reason, orderly }) => {
    console.error(`vm: ended: ${reason}${orderly ? " (orderly)" : ""}`);
    process.exit(0);
  });
  for await (const line of console) {
    const [word, command = ""] = line.split(" ");
    if (word === "stop") await vm.stop();
    if (word === "qmp") await vm.command(command).catch((error: unknown) => console.error(messageOf(error)));
  }
} catch (error) {
  const hint = error instanceof WaltError && error.hint !== undefined ? `; ${error.hint}` : "";
  console.error(`vm: failed: ${messageOf(error)}${hint}`);
  process.exit(1);
}
