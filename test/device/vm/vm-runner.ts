/**
 * A `Vm` with nothing around it, to be run on a host of the laboratory: options as JSON in its argument, the
 * serial console on its standard output. On its standard input `stop <why>` ends it, `power` presses its power
 * button, and `qmp <command>` is passed to QEMU. Says `vm: started <pid>`, `vm: ended: <reason>` and
 * `vm: end <kind>, <status>` on standard error.
 */

import { SerialConsole } from "../../../src/device/console/serial-console.ts";
import { isOrderly } from "../../../src/device/vm/end.ts";
import { type MachineOptions, Vm } from "../../../src/device/vm/vm.ts";
import { messageOf, WaltError } from "../../../src/errors.ts";
import { createLog } from "../../../src/log.ts";

const options = JSON.parse(process.argv[2] ?? "{}") as MachineOptions;
const serial = new SerialConsole((bytes) => process.stdout.write(bytes.slice()));
try {
  const vm = await Vm.start(options, serial, createLog(4));
  console.error(`vm: started ${vm.pid}`);
  void vm.ended.then((end) => {
    const status = end.signal ?? `exit ${end.exitCode}`;
    console.error(
      `vm: ended: ${end.reason}${isOrderly(end) ? " (orderly)" : ""}\nvm: end ${end.kind}, ${status}`,
    );
    process.exit(0);
  });
  for await (const line of console) {
    const [word, command = ""] = line.split(" ");
    if (word === "stop") await vm.stop(command);
    if (word === "power") await vm.powerDown();
    if (word === "qmp") await vm.command(command).catch((error: unknown) => console.error(messageOf(error)));
  }
} catch (error) {
  const hint = error instanceof WaltError && error.hint !== undefined ? `; ${error.hint}` : "";
  console.error(`vm: failed: ${messageOf(error)}${hint}`);
  process.exit(1);
}
