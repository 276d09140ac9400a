/** `walt vpn monitor` */

import { type ApiClient, MisfitError } from "../../api/client.ts";
import type { PendingRequest } from "../../api/events.ts";
import { SERVER } from "../../api/routes.ts";
import { parseCode } from "../../enrolment/typed-code.ts";
import { usageError, WaltError } from "../../errors.ts";
import { readLines } from "../../linux/lines.ts";
import { sleep } from "../../linux/sleep.ts";
import { safeText } from "../../text.ts";
import { command, print, refuseUnread, UnreadError, untilStopped, write } from "../_command.ts";
import { operator, serverOptions, withServerKept } from "../_server.ts";
import { type Action, MonitorScreen, READING_TIME } from "./_monitor-screen.ts";
import { hasTable, tableView } from "./_monitor-terminal.ts";
import { hasColours, lostText, saidOf, sendAnswer, type View, wordsOf } from "./_monitor-view.ts";
import { NotifyCommand } from "./_notify.ts";
import { wishesOf } from "./_typed-answer.ts";

/** ms between attempts to reach a server that went away. */
const RECONNECT = 2000;
/** Bytes of a line on standard input. */
const MAX_LINE = 1024;
/** Lines within one second that no person types; wrong lines in a row that no program means. */
const TOO_MANY = 100;

export default command({
  name: "walt vpn monitor",
  description: "Show the requests of devices for access, and accept or deny them",
  examples: [
    "walt vpn monitor",
    "walt vpn monitor --server ssh://admin@walt.lab.example",
    "walt vpn monitor --json   # events as JSON lines; answer with `accept CODE`, `accept CODE as NAME` or `deny CODE`",
  ],
  args: {
    ...serverOptions,
    notify: {
      type: "string",
      valueHint: "command",
      description:
        "Run this for each notice: a request waits, a node is down or up again, a certificate was refused, a disk is nearly full. It gets the notice as JSON on standard input",
    },
    json: {
      type: "boolean",
      description: "Print events as JSON lines, and read answers `accept CODE` and `deny CODE`",
    },
  },
  async run(args) {
    const problem = (why: string): void => void process.stderr.write(`walt: ${why}\n`);
    const notify = args.notify === undefined ? undefined : new NotifyCommand(args.notify, problem);
    await withServerKept(args, async (api) => {
      const over = new AbortController();
      const signal = AbortSignal.any([untilStopped(), over.signal]);
      const view = args.json ? jsonView(api) : hasTable() ? tableView(api) : personView(api);
      const connected = Promise.withResolvers<void>();
      // Not before we know whether there is a server at all: that is the better thing to complain about.
      const input = connected.promise.then(() => view.input(signal)).finally(() => over.abort());
      input.catch(() => {}); // it is awaited below
      try {
        await follow(api, signal, view, connected.resolve, notify);
      } finally {
        notify?.stop();
        over.abort();
        connected.resolve();
        view.stop();
      }
      if ((await input) && !process.stdin.isTTY) {
        throw new WaltError("standard input has ended, so that no answers can be read", {
          hint: "Run `walt vpn monitor` on a terminal, or keep its standard input open.",
        });
      }
    });
  },
});

/** Show the server's events until `signal`, also over restarts of the server. */
async function follow(
  api: ApiClient,
  signal: AbortSignal,
  view: View,
  connected: () => void,
  notify?: NotifyCommand,
): Promise<void> {
  let once = false;
  while (!signal.aborted) {
    try {
      for await (const event of api.stream(SERVER.monitor, { name: operator() }, signal)) {
        once = true;
        connected();
        view.event(event);
        if (event.type === "notice") notify?.run(event.notice);
        refuseUnread();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!once || error instanceof UnreadError || error instanceof MisfitError) throw error;
    }
    if (signal.aborted) return;
    view.lost(api.peer.lost?.() ?? "");
    await sleep(RECONNECT, signal);
  }
}

/** Lines of standard input, each for `take`. */
const linesTo = (take: (line: string) => void | Promise<void>) => (signal: AbortSignal) =>
  readLines(process.stdin, "standard input", MAX_LINE, signal, take);

/** Lines, for whatever is no terminal with room for the table. */
function personView(api: ApiClient): View {
  const { columns = 80 } = process.stdout;
  const screen = new MonitorScreen({ columns, colours: hasColours() });
  /** What was said of a lost connection; undefined while there is one. */
  let lost: string | undefined;
  /** Whether the cursor stands behind a prompt, and since when. */
  let prompted = false;
  let promptedAt = 0;
  let second = 0;
  let lines = 0;
  const show = (text: string): void => {
    print(prompted ? `\n${text}` : text);
    prompted = false;
  };
  const act = (actions: readonly Action[]): void => {
    for (const action of actions) {
      if ("print" in action) show(action.print);
      else if ("say" in action) show(action.say);
      else if ("prompt" in action) {
        write(`${prompted ? "\n" : ""}${action.prompt}`);
        prompted = true;
        promptedAt = Date.now();
      } else {
        const { answer } = action;
        sendAnswer(api, answer).then(
          () => {
            const said = saidOf(answer);
            if (said !== undefined) show(said);
          },
          (error: unknown) => act(screen.failed(answer.id, wordsOf(error), Date.now())),
        );
      }
    }
  };
  return {
    event: (event) => {
      if (event.type === "watching" && lost !== undefined) show("Connected again.");
      lost = undefined;
      act(screen.event(event, Date.now()));
    },
    input: linesTo((text) => {
      const now = Date.now();
      if (Math.abs(now - second) >= 1000) [second, lines] = [now, 0];
      if (++lines > TOO_MANY) {
        throw new WaltError(
          `standard input had more than ${TOO_MANY} lines within a second, which no person types`,
          {
            hint: "Programs must use `walt vpn monitor --json`.",
          },
        );
      }
      // The terminal has shown the line and its end: behind the prompt, or before it when they
      // were typed ahead.
      if (process.stdin.isTTY && now - promptedAt >= READING_TIME) prompted = false;
      act(screen.line(text, now));
    }),
    lost: (why) => {
      if (lost === undefined || (why !== "" && lostText(why) !== lost)) show(lostText(why));
      lost = lostText(why);
      screen.lost();
    },
    stop: () => {
      if (prompted) print("");
      prompted = false;
    },
  };
}

function jsonView(api: ApiClient): View {
  const waiting = new Map<string, PendingRequest>();
  let wrong = 0;
  const problem = (error: unknown): void => {
    print(JSON.stringify({ type: "error", error: wordsOf(error) }));
  };
  const answer = async (text: string): Promise<void> => {
    const [verb, typed = "", ...more] = text.trim().split(/\s+/);
    const code = parseCode(typed, 10);
    const wishes = wishesOf(verb === "accept" ? more : []);
    if (wishes instanceof Error) throw wishes;
    const tooMuch = verb === "deny" && more.length > 0;
    if ((verb !== "accept" && verb !== "deny") || code === undefined || wishes === undefined || tooMuch)
      throw usageError(`this is not "accept CODE" or "deny CODE": ${JSON.stringify(safeText(text))}`);
    const fits = [...waiting.values()].filter((one) => one.code.replaceAll("-", "") === code);
    const [request] = fits;
    if (request === undefined || fits.length > 1)
      throw new WaltError(
        `${fits.length === 0 ? "no" : "more than one"} request with the code ${typed} waits`,
      );
    const { id, fingerprint } = request;
    await sendAnswer(api, { id, fingerprint, accept: verb === "accept", ...wishes });
  };
  return {
    event: (event) => {
      if (event.type === "watching") waiting.clear();
      if (event.type === "request") waiting.set(event.request.id, event.request);
      if (event.type === "answered") waiting.delete(event.id);
      if (event.type !== "alive") print(JSON.stringify(event));
    },
    input: linesTo(async (text) => {
      try {
        await answer(text);
        wrong = 0;
      } catch (error) {
        problem(error);
        if (++wrong < TOO_MANY) return;
        throw new WaltError(`the last ${TOO_MANY} lines of standard input were not answers`, {
          hint: "Answers are lines `accept CODE` and `deny CODE`.",
        });
      }
    }),
    lost: (why) => {
      waiting.clear();
      const said = why === "" ? "" : `: ssh: ${why}`;
      problem(new WaltError(`the connection to the server is lost; trying again${said}`));
    },
    stop: () => {},
  };
}
