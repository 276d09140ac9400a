/** `walt device status` */

import { join } from "node:path";
import { ApiClient } from "../../api/client.ts";
import type { DeviceStatus, UsbStatus } from "../../api/types.ts";
import { loadConfig, requireRole } from "../../config/load.ts";
import { table } from "../../text.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";
import { trafficRows } from "../_traffic.ts";

export default command({
  name: "walt device status",
  description: "Show how far this device's boot is, its last error, and when it tries again",
  examples: ["walt device status", "walt device status --json"],
  args: { ...configOption, ...jsonOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "device");
    const api = new ApiClient(join(config.device.run, "device.sock"), "walt device run");
    const status = (await api.call("GET", "/v1/status")) as DeviceStatus;
    if (args.json) print(JSON.stringify(status, null, 2));
    else
      print(
        table(
          ["WHAT", "VALUE"],
          Object.entries(status).flatMap(([key, value]) => {
            if (key === "rtt" || key === "loss") return []; // among the counters
            if (key === "traffic" && value !== null) return trafficRows(value as LinkStats, "server");
            return [[words(key), shown(key, value)]];
          }),
        ),
      );
  },
});

/** `lastError` → `last error` */
function words(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function shown(key: string, value: unknown): string {
  if (value === null) return "-";
  if (Array.isArray(value)) {
    const rows = (value as UsbStatus[]).map(({ port, id, name }) => `${port} ${id} ${name}`.trim());
    return rows.length === 0 ? "-" : rows.join(", ");
  }
  if (key === "nextTryIn") return `${String(value)} s`;
  return String(value);
}
