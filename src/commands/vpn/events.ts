/** `walt vpn events` */

import type { ApiClient } from "../../api/client.ts";
import { MisfitError } from "../../api/client.ts";
import { type JournalEvent, MAX_EVENTS } from "../../api/journal.ts";
import { SERVER } from "../../api/routes.ts";
import { parseSpan } from "../../config/keys.ts";
import { usageError } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import { command, print, refuseUnread, UnreadError, untilStopped } from "../_command.ts";
import { EVENT_COLUMNS, eventLine } from "../_events.ts";
import { serverOptions, withServer, withServerKept } from "../_server.ts";
import { checkListArgs, type List, listOptions, printList } from "../_table.ts";
import { chooseNodes, chooseOptions } from "../node/_choose.ts";
import { lostText } from "./_monitor-view.ts";

/** Events that are shown unless --since says otherwise. */
const LAST = 100;
/** ms between attempts to reach a server that went away. */
const RECONNECT = 2000;

const LIST: List<JournalEvent> = { columns: EVENT_COLUMNS, empty: "Nothing is in the journal." };

export default command({
  name: "walt vpn events",
  description:
    "Show the journal: what happened to nodes and to the server, and who gave the order. Without options the last 100 events",
  examples: ["walt vpn events", "walt vpn events lab-3 --since 2d", "walt vpn events -f --json"],
  args: {
    node: { ...chooseOptions.node, description: `${chooseOptions.node.description}. Revoked ones, too` },
    follow: { type: "boolean", alias: "f", description: "Go on with what happens from now on, until ^C" },
    since: { type: "string", valueHint: "duration", description: "All events of the last 12h, or 2d" },
    ...listOptions(EVENT_COLUMNS),
    ...serverOptions,
    json: { type: "boolean", description: "Print each event as a line of JSON" },
  },
  async run(args, every) {
    const span = args.since === undefined ? undefined : parseSpan(args.since);
    if (args.since !== undefined && (span === undefined || span === 0))
      throw usageError(
        `--since ${JSON.stringify(args.since)} is not a duration`,
        "Write for example 12h or 2d.",
      );
    const since = span === undefined ? undefined : new Date(Date.now() - span).toISOString();
    const typed = every("node");
    checkListArgs(LIST, args);
    await (args.follow ? withServerKept : withServer)(args, async (api) => {
      const chosen = typed.length === 0 ? undefined : await chosenNames(api, typed);
      const before = await eventsOf(api, chosen, since);
      const last = await lastEvent(api, before);
      if (args.json) for (const event of before) print(JSON.stringify(event));
      else if (before.length > 0 || !args.follow) printList(LIST, before, args);
      if (!args.follow) return;
      const show = (event: JournalEvent): void => {
        if (!isOf(chosen, event)) return;
        print(args.json ? JSON.stringify(event) : eventLine(event));
        refuseUnread();
      };
      await follow(api, last, show, untilStopped());
    });
  },
});

/** The names that were typed, of nodes that are or were. */
async function chosenNames(api: ApiClient, typed: readonly string[]): Promise<Set<string>> {
  const devices = await api.call(SERVER.devices, {});
  const all = devices.map(({ node, ...rest }) => ({ ...rest, name: node }));
  return new Set(chooseNodes(all, typed).map(({ name }) => name));
}

/** Events from before, the oldest first. */
async function eventsOf(
  api: ApiClient,
  chosen: ReadonlySet<string> | undefined,
  since: string | undefined,
): Promise<JournalEvent[]> {
  const lists: JournalEvent[][] = [];
  for (const node of chosen ?? [undefined]) {
    const of = node === undefined ? {} : { node };
    lists.push(
      since === undefined
        ? await api.call(SERVER.events, { ...of, last: LAST })
        : await allEvents(api, { ...of, since }, 0),
    );
  }
  const byId = new Map(lists.flat().map((event) => [event.id, event]));
  const sorted = [...byId.values()].sort((a, b) => a.id - b.id);
  return since === undefined ? sorted.slice(-LAST) : sorted;
}

/** All events after a number, page by page. */
async function allEvents(
  api: ApiClient,
  wanted: { node?: string; since?: string },
  after: number,
): Promise<JournalEvent[]> {
  const all: JournalEvent[] = [];
  for (;;) {
    const page = await api.call(SERVER.events, { ...wanted, after: all.at(-1)?.id ?? after });
    all.push(...page);
    if (page.length < MAX_EVENTS) return all;
  }
}

/** The number of the newest event. */
async function lastEvent(api: ApiClient, known: readonly JournalEvent[]): Promise<number> {
  const [newest] = await api.call(SERVER.events, { last: 1 });
  return Math.max(newest?.id ?? 0, known.at(-1)?.id ?? 0);
}

/**
 * Whether an event is of the nodes that were chosen. A node that is renamed is followed under its new name.
 */
function isOf(chosen: Set<string> | undefined, { kind, node, details }: JournalEvent): boolean {
  if (chosen === undefined) return true;
  if (node === null) return false;
  if (kind === "node-renamed" && chosen.has(String(details["was"]))) chosen.add(node);
  return chosen.has(node);
}

/** Show the events after a number until `signal`, also over restarts of the server. */
async function follow(
  api: ApiClient,
  after: number,
  show: (event: JournalEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  let last = after;
  let lost: string | undefined;
  const take = (event: JournalEvent): void => {
    if (event.id <= last) return;
    last = event.id;
    show(event);
  };
  while (!signal.aborted) {
    try {
      // A stream begins with one page at most.
      for (const event of await allEvents(api, {}, last)) take(event);
      lost = undefined;
      for await (const told of api.stream(SERVER.follow, { after: last }, signal))
        if (told.type === "event") take(told.event);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof UnreadError || error instanceof MisfitError) throw error;
    }
    const why = lostText(api.peer.lost?.() ?? "");
    if (lost !== why) process.stderr.write(`${why}\n`);
    lost = why;
    await sleep(RECONNECT, signal);
  }
}
