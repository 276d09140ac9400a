/**
 * Runs on the emulated board: a virtual machine, and the board's USB devices passed on to it as on a Raspberry Pi 3 B+.
 * Prints `node has: <products as QEMU names them>; status: <what walt device status would tell>` whenever that changes.
 */

import { SerialConsole } from "../../src/device/console/serial-console.ts";
import { usbPorts } from "../../src/device/usb/ports.ts";
import { Usb } from "../../src/device/usb/usb.ts";
import { Vm } from "../../src/device/vm/vm.ts";
import { run } from "../../src/linux/run.ts";
import { createLog } from "../../src/log.ts";

const log = createLog();
await run(["ip", "tuntap", "add", "tap-vm", "mode", "tap"]);
const usb = new Usb({ ports: usbPorts("rpi-3-b-plus", ""), log: log.with("usb") });
const vm = await Vm.start(
  {
    board: "generic",
    arch: "x64",
    accel: "tcg",
    memory: 128,
    cpus: 1,
    nodeMac: "52:54:00:01:02:03",
    mtu: 1500,
    model: "a-model",
    tap: "tap-vm",
    qmpSocket: "/run/vm.sock",
  },
  new SerialConsole(),
  log,
);
usb.use(vm);
// Until the board is switched off. What a virtual machine has, nobody tells: it is asked.
for (let before = ""; ; await Bun.sleep(200)) {
  const answer = await vm.command("human-monitor-command", { "command-line": "info usb" });
  const products = [...String(answer).matchAll(/Product (.*?), ID: usb-/g)].map((match) => match[1]);
  const status = usb.passed().map(({ port, id }) => `${port} ${id}`);
  const now = `node has: ${products.sort().join(", ")}; status: ${status.join(", ")}`;
  if (now !== before) console.log(now);
  before = now;
}
