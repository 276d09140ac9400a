/** `walt node ping` */

import { SERVER } from "../../api/routes.ts";
import { ROUNDS_MAX } from "../../control/hops.ts";
import { EXIT, usageError, WaltError } from "../../errors.ts";
import { command, jsonOption, print } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { wayOf } from "./_way.ts";

export default command({
  name: "walt node ping",
  description:
    "Measure every part of the way to a node: proxies, tunnel, node; and say which is slow or lossy",
  examples: ["walt node ping lab-3", "walt node ping lab-3 --count 40 --json"],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    count: {
      type: "string",
      alias: "c",
      valueHint: "n",
      description: "Round trips of each part (default: 8)",
    },
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const rounds = Number(args.count ?? "8");
    if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX)
      throw usageError(`--count ${JSON.stringify(args.count)} is no number from 1 to ${ROUNDS_MAX}`);
    const { node } = args;
    const { server, parts } = await withServer(args, async (api) => {
      const server: number[] = [];
      for (let round = 0; round < Math.min(rounds, 8); round++) {
        const from = performance.now();
        await api.call(SERVER.rotations, {});
        server.push(performance.now() - from);
      }
      return { server, parts: await api.call(SERVER.ping, { node, rounds }) };
    });
    if (args.json) print(JSON.stringify({ server, parts }, null, 2));
    else print(wayOf(server, parts));
    const answered = parts.some(({ part, rtts }) => part === "node" && rtts.some((ms) => ms !== null));
    if (!answered) throw new WaltError(`${node} does not answer`, { exitCode: EXIT.failed });
  },
});
