/** `walt server snmp-relay`: what snmpd runs to ask the daemon. Only the SNMP agent of the daemon uses it. */

import { once } from "node:events";
import { createConnection } from "node:net";
import { pipeline } from "node:stream/promises";
import { messageOf, WaltError } from "../../errors.ts";
import { command } from "../_command.ts";

export default command({
  name: "walt server snmp-relay",
  description: "Connect snmpd with the server: the server itself starts this",
  examples: ["walt server snmp-relay /run/walt-vpn/snmp/relay.sock"],
  args: { socket: { type: "positional", required: true, description: "The server's socket for it" } },
  async run(args) {
    const socket = createConnection({ path: args.socket });
    try {
      await once(socket, "connect");
    } catch (error) {
      throw new WaltError(`cannot connect to the server's socket ${args.socket}: ${messageOf(error)}`, {
        hint: "Only the server starts this command, while it runs with [server.snmp].",
        cause: error,
      });
    }
    await Promise.all([pipeline(process.stdin, socket), pipeline(socket, process.stdout)]);
  },
});
