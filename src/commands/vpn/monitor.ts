/** `walt vpn monitor` */

import { createInterface } from "node:readline";
import { type ApiClient, MisfitError } from "../../api/client.ts";
import type { MonitorEvent } from "../../api/events.ts";
import { SERVER } from "../../api/routes.ts";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { command, print, untilStopped } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { type Action, MonitorScreen } from "./_monitor-screen.ts";

/** ms between attempts to reach a server that went away. */
const RECONNECT = 2000;

export default command({
  name: "walt vpn monitor",
  description: "Wait for devices that ask for access, and accept or deny each",
  examples: [
    "walt vpn monitor",
    "walt vpn monitor --server ssh://admin@walt.lab.example",
    "walt vpn monitor --json   # events as JSON lines; answer with `accept ID` or `deny ID`",
  ],
  args: {
    ...serverOptions,
    json: {
      type: "boolean",
      description: "Print events as JSON lines; read answers `accept ID` and `deny ID`",
    },
  },
  async run(args) {
    await withServer(args, async (api) => {
      const stop = new AbortController();
      const signal = AbortSignal.any([untilStopped(), stop.signal]);
      const view = args.json ? jsonView(api) : personView(api);
      const input = createInterface({ input: process.stdin });
      let eof = false;
      const connected = Promise.withResolvers<void>();
      input.on("line", view.line);
      input.on("close", () => {
        eof = !signal.aborted;
        // Not before we know whether there is a server at all: that is the better thing to complain about.
        void connected.promise.then(() => stop.abort());
      });
      try {
        await follow(api, signal, {
          ...view,
          event: (event) => {
            connected.resolve();
            view.event(event);
          },
        });
      } finally {
        input.close();
      }
      if (eof && !process.stdin.isTTY) {
        throw new WaltError("standard input has ended, so no answer can be given any more", {
          hint: "Run `walt vpn monitor` on a terminal, or keep its standard input open.",
        });
      }
    });
  },
});

interface View {
  event(event: MonitorEvent): void;
  line(text: string): void;
  /** The server went away; we go on trying. */
  lost(): void;
}

/** Show the server's events until `signal`, also over restarts of the server. */
async function follow(api: ApiClient, signal: AbortSignal, view: View): Promise<void> {
  let connected = false;
  while (!signal.aborted) {
    try {
      for await (const event of api.stream(SERVER.monitor, { name: operator() }, signal)) {
        connected = true;
        view.event(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!connected || error instanceof MisfitError) throw error;
    }
    if (signal.aborted) return;
    view.lost();
    await waitOr(RECONNECT, signal);
  }
}

function waitOr(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

function personView(api: ApiClient): View {
  const screen = new MonitorScreen();
  let prompted = "";
  let lost = false;
  const act = (actions: readonly Action[]): void => {
    for (const action of actions) {
      if ("print" in action) print(action.print);
      else if ("prompt" in action) process.stdout.write(action.prompt);
      else {
        const { id, accept } = action.answer;
        api
          .call(SERVER.answer, { id, accept, by: operator() })
          .catch((error: unknown) => act(screen.failed(id, messageOf(error))));
      }
    }
    prompted = screen.current?.id ?? "";
  };
  return {
    event: (event) => {
      if (event.type === "watching" && lost) print("Connected again.");
      lost = false;
      const before = prompted;
      const actions = screen.event(event);
      act(actions);
      // Something was printed in the middle of the question: ask it again.
      if (actions.length > 0 && before !== "" && screen.current?.id === before) act(screen.line(""));
    },
    line: (text) => act(screen.line(text)),
    lost: () => {
      if (!lost) print("\nThe connection to the server is lost; trying again.");
      lost = true;
      screen.lost();
      prompted = "";
    },
  };
}

function jsonView(api: ApiClient): View {
  const problem = (error: unknown): void => print(JSON.stringify({ type: "error", error: messageOf(error) }));
  return {
    event: (event) => {
      if (event.type !== "alive") print(JSON.stringify(event));
    },
    line: (text) => {
      const match = /^\s*(accept|deny)\s+(\d+)\s*$/.exec(text);
      if (match === null) return problem(usageError(`not "accept ID" or "deny ID": ${JSON.stringify(text)}`));
      api
        .call(SERVER.answer, { id: match[2] ?? "", accept: match[1] === "accept", by: operator() })
        .catch(problem);
    },
    lost: () => problem(new WaltError("the connection to the server is lost; trying again")),
  };
}
