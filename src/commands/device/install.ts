/** `walt device install` */

import { planDeviceInstall } from "../../device/install/install.ts";
import { thisMachine } from "../../install/machine.ts";
import { install } from "../../install/steps.ts";
import { command, print } from "../_command.ts";
import { requireInstallable } from "../_install.ts";

export default command({
  name: "walt device install",
  description:
    "Install this machine as a device that starts at boot, or upgrade it: command, unit, and the device's files",
  examples: [
    "sudo walt device install ./walt-device",
    "sudo walt device install   # after an upgrade, or when /etc/walt has the files",
  ],
  args: {
    folder: {
      type: "positional",
      required: false,
      description: "What `walt vpn setup-node --board generic` has written; it is copied to /etc/walt",
    },
  },
  async run(args) {
    requireInstallable("walt device install");
    await install(planDeviceInstall(thisMachine(process.execPath), args.folder), print);
    print("Next: systemctl daemon-reload && systemctl enable --now walt-vpn-device");
    print("After an upgrade: systemctl daemon-reload && systemctl restart walt-vpn-device");
  },
});
