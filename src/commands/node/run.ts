/** `walt node run` */

import { SERVER } from "../../api/routes.ts";
import { EXIT, messageOf, usageError, WaltError } from "../../errors.ts";
import { ALL_NODES } from "../../node-name.ts";
import { command, print } from "../_command.ts";
import { chooseNodes, chooseOptions } from "./_choose.ts";
import { confirmMany, yesOption } from "./_confirm.ts";
import { type Logins, loginOptions, withLogins } from "./_login.ts";
import type { LoginNode } from "./_login-failure.ts";
import { printed } from "./_output.ts";
import { sideBySide } from "./_side-by-side.ts";
import { sshOn } from "./_ssh.ts";

export default command({
  name: "walt node run",
  description:
    "Run a command on nodes, through ssh to their own sshd. Its exit status is that of the command; of several nodes, the worst one",
  examples: [
    "walt node run lab-3 uptime",
    "walt node run lab-3 lab-4 -- cat /proc/loadavg",
    "walt node run all --state up --user alice -- df -h",
  ],
  args: {
    ...chooseOptions,
    command: {
      type: "positional",
      required: false,
      valueHint: "…",
      description: "The command. Behind -- it may have options, and stand after several nodes",
    },
    ...loginOptions,
    ...yesOption,
    json: { type: "boolean", description: "Print a line of JSON for each line of output and for each end" },
  },
  async run(args, every) {
    const line = every("command").join(" ");
    if (line === "")
      throw usageError("no command is given", "Write it behind --: walt node run lab-3 -- ls -l");
    await withLogins(args, every("identity"), async (api, logins) => {
      const nodes = chooseNodes(await api.call(SERVER.nodes, {}), every("node"), args.state);
      const [only, ...others] = nodes;
      if (only !== undefined && others.length === 0 && !args.json) {
        process.exitCode = await sshOn(logins, only, { line });
        return;
      }
      if (every("node").includes(ALL_NODES))
        await confirmMany(nodes, every("node"), "Run the command on", args.yes);
      const act = (node: LoginNode): Promise<number> =>
        args.json ? runAsJson(logins, node, line) : runWithName(logins, node, line);
      await sideBySide(
        nodes,
        async (node) => ({ text: "", status: await act(node) }),
        () => {},
      );
    });
  },
});

async function runWithName(logins: Logins, node: LoginNode, line: string): Promise<number> {
  const status = await sshOn(logins, node, {
    line,
    takes: async (text, isError) => {
      const bytes = new TextEncoder().encode(`${node.name}: ${text}\n`);
      if (isError) process.stderr.write(bytes);
      else await printed(bytes);
    },
  });
  if (status !== EXIT.done) process.stderr.write(`${node.name}: exit status ${status}\n`);
  return status;
}

async function runAsJson(logins: Logins, node: LoginNode, line: string): Promise<number> {
  const { name } = node;
  try {
    const takes = async (text: string, isError: boolean): Promise<void> => {
      const from = isError ? "stderr" : "stdout";
      await printed(new TextEncoder().encode(`${JSON.stringify({ node: name, from, line: text })}\n`));
    };
    const status = await sshOn(logins, node, { line, takes });
    print(JSON.stringify({ node: name, status }));
    return status;
  } catch (error) {
    if (error instanceof WaltError) print(JSON.stringify({ node: name, error: messageOf(error) }));
    throw error;
  }
}
