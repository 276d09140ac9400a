/** `walt web` */

import { command, print, untilStopped } from "./_command.ts";
import { serverOptions, withServerKept } from "./_server.ts";
import { chooseServer } from "./_servers.ts";
import { LiveOverview } from "./web/_overview.ts";
import { parsePort, servePage } from "./web/_server.ts";

export default command({
  name: "walt web",
  description:
    "Show the nodes, and accept and deny devices, on a page of your own browser. It is on this machine alone, and ends with the command",
  examples: ["walt web", "walt web --server ssh://alice@walt.lab.example", "walt web --port 8080"],
  args: {
    port: {
      type: "string",
      valueHint: "number",
      description: "The port of 127.0.0.1 (default: one that is free)",
    },
    ...serverOptions,
  },
  async run(args) {
    const port = parsePort(args.port);
    const remote = chooseServer(args.server);
    await withServerKept(args, async (api) => {
      const over = new AbortController();
      const signal = AbortSignal.any([untilStopped(), over.signal]);
      const live = new LiveOverview(api, remote?.address ?? "local");
      // Not before we know whether there is a server at all.
      const connected = Promise.withResolvers<void>();
      const watch = live.watch(signal, connected.resolve);
      await Promise.race([connected.promise, watch]);
      if (signal.aborted) return;
      try {
        const page = await servePage(api, live, port);
        try {
          print(page.address);
          print("Open this address on this machine. Who has it can do what you can. ^C ends the page.");
          await watch;
        } finally {
          await page.stop();
        }
      } finally {
        over.abort();
        await watch.catch(() => {});
      }
    });
  },
});
