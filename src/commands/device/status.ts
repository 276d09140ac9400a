/** `walt device status` */

import { ApiClient } from "../../api/client.ts";
import type { DeviceStatus } from "../../api/device-status.ts";
import { faultsOf } from "../../api/diagnosis.ts";
import { DEVICE } from "../../api/routes.ts";
import { loadConfig, requireRole } from "../../config/load.ts";
import { runFiles } from "../../device/files.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";
import { startCommand } from "../_server.ts";
import { factsText } from "../_table.ts";
import { trafficRows } from "../_traffic.ts";

export default command({
  name: "walt device status",
  description: "Show the stage of this device's boot, its last error, and when it tries again",
  examples: ["walt device status", "walt device status --json"],
  args: { ...configOption, ...jsonOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "device");
    const api = new ApiClient({
      socket: runFiles(config).socket,
      start: startCommand("walt-vpn-device", "walt device run"),
    });
    const status = await api.call(DEVICE.status, {});
    if (args.json) print(JSON.stringify(status, null, 2));
    else print(factsText(rowsOf(status)));
  },
});

/** In the order of the boot. Round trip time and loss are among the counters. */
function rowsOf(s: DeviceStatus): (readonly [what: string, value: string])[] {
  return [
    ["stage", s.stage],
    ["detail", s.detail],
    ["last error", s.lastError ?? "-"],
    ["doctor", s.doctor === undefined ? "-" : (faultsOf(s.doctor)[0]?.what ?? "found nothing wrong")],
    ["next try in", s.nextTryIn === null ? "-" : `${s.nextTryIn} s`],
    ["since", s.since],
    ["node", s.node ?? "-"],
    ["mac", s.mac ?? "-"],
    ["code", s.code ?? "-"],
    ["fingerprint", s.fingerprint ?? "-"],
    ["tunnel", s.tunnel],
    ["via", s.via ?? "-"],
    ...(s.traffic === null ? [["traffic", "-"] as const] : trafficRows(s.traffic, "server")),
    ["vm", s.vm],
    ["usb", s.usb.map(({ port, id, name }) => `${port} ${id} ${name}`.trim()).join(", ") || "-"],
    ["certificate renewal", s.certificateRenewal ?? "-"],
  ];
}
