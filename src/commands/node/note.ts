/** `walt node note` */

import { MAX_NOTE } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { command, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt node note",
  description: 'Write a note about a node, such as where its board is. An empty note ("") removes it',
  examples: ["walt node note lab-3 in the cellar", 'walt node note lab-3 ""'],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    text: {
      type: "positional",
      required: true,
      valueHint: "…",
      description: `The note, of up to ${MAX_NOTE} characters`,
    },
    ...serverOptions,
  },
  async run(args, every) {
    const note = every("text").join(" ").trim();
    if (note.length > MAX_NOTE) throw usageError(`the note is longer than ${MAX_NOTE} characters`);
    await withServer(args, (api) => api.call(SERVER.note, { node: args.node, note, by: operator() }));
    print(note === "" ? `${args.node} has no note now.` : `${args.node}: ${note}`);
  },
});
