/** `walt device forget` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { command, configOption, print } from "../_command.ts";

export default command({
  name: "walt device forget",
  description: "Delete this device's key and credentials, so that it asks for access as a new device",
  examples: ["walt device forget"],
  args: { ...configOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "device");
    const { forgetCredentials } = await import("../../device/forget.ts");
    const deleted = await forgetCredentials(config);
    print(
      deleted.length === 0
        ? "nothing to delete: this device has no key and no credentials"
        : `deleted:\n${deleted.map((f) => `  ${f}`).join("\n")}`,
    );
  },
});
