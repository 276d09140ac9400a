/** `walt node set` */

import { readFileSync } from "node:fs";
import type { ApiClient } from "../../api/client.ts";
import { SERVER } from "../../api/routes.ts";
import { parseSpan } from "../../config/keys.ts";
import { type Changes, isEmpty, SETTABLE, type Settable } from "../../config/settings.ts";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import { Fields } from "../../parse.ts";
import { duration, quoted } from "../../text.ts";
import { command, untilStopped } from "../_command.ts";

import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "./_choose.ts";
import { confirmMany, yesOption } from "./_confirm.ts";
import { askOrder } from "./_orders.ts";
import { type Outcome, sideBySide } from "./_side-by-side.ts";

/** ms between two looks at what became of a trial. */
const LOOK = 500;
/** ms after the end of a trial in which its outcome must be told: the old tunnel has to come up again. */
const GRACE = 120_000;
const HOST_KEYS = "known-host";

export default command({
  name: "walt node set",
  description:
    "Change settings of nodes' boards: entrypoint, server, silence, mtu, known-host. They are tried, and kept only if the tunnel comes up with them in time; else the old ones are back. KEY= alone gives back what the card says",
  examples: [
    "walt node set lab-3 entrypoint=gate2.example.org known-host=./gate2.keys",
    "walt node set 'lab-*' entrypoint=gate1.example entrypoint=gate2.example --within 2m",
    "walt node set lab-3 mtu=",
  ],
  args: {
    ...chooseOptions,
    within: { type: "string", valueHint: "time", description: "How long a trial may take (default: 60s)" },
    ...yesOption,
    ...serverOptions,
  },
  async run(args, every) {
    const words = every("node");
    const typed = words.filter((word) => !word.includes("="));
    const changes = changesOf(words.filter((word) => word.includes("=")));
    const within = secondsOf(args.within ?? "60s");
    const signal = untilStopped();
    await withServer(args, async (api) => {
      const nodes = chooseNodes(await api.call(SERVER.nodes, {}), typed, args.state);
      await confirmMany(nodes, typed, "Change settings of", args.yes);
      await sideBySide(nodes, ({ name }) => trySettings(api, name, changes, within, signal));
    });
  },
});

function secondsOf(span: string): number {
  const seconds = Math.ceil((parseSpan(span) ?? 0) / 1000);
  if (seconds >= 5 && seconds <= 3600) return seconds;
  throw usageError(`--within ${quoted(span)} is no time from 5s to 1h`);
}

/** @throws WaltError (usage) for a word that is no setting. */
export function changesOf(words: readonly string[]): Changes {
  const values: Partial<Record<Settable, unknown>> = {};
  const hostKeys: string[] = [];
  let cardsKeys = false;
  for (const word of words) {
    const [name = "", ...rest] = word.split("=");
    const value = rest.join("=");
    if (name === HOST_KEYS) {
      if (value === "") cardsKeys = true;
      else hostKeys.push(...hostKeysOf(value));
      continue;
    }
    const key = SETTABLE.find((one) => one === name);
    if (key === undefined)
      throw usageError(
        `${quoted(name)} cannot be set`,
        `Settings are ${[...SETTABLE, HOST_KEYS].join(", ")}.`,
      );
    if (value === "") values[key] = null;
    else if (key === "entrypoint") values[key] = [...listOf(values[key]), value];
    else values[key] = key === "mtu" && /^\d+$/.test(value) ? Number(value) : value;
  }
  if (cardsKeys && hostKeys.length > 0) throw usageError(`${HOST_KEYS}= excludes another ${HOST_KEYS}`);
  const changes = { values, hostKeys: cardsKeys ? null : hostKeys };
  if (isEmpty(changes))
    throw usageError(
      "nothing is to be set",
      `Say what: entrypoint=gate2.example.org, mtu=1500, silence=20s.`,
    );
  return changes;
}

const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** The lines of a known_hosts file. @throws WaltError. */
function hostKeysOf(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new WaltError(`${HOST_KEYS}: cannot read ${file}: ${messageOf(error)}`);
  }
  const lines = text.split("\n").map((line) => line.trim());
  const found = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (found.length === 0) throw new WaltError(`${HOST_KEYS}: ${file} has no host key`);
  return found.map((line) => withPort(line));
}

/** `gate ssh-ed25519 …` as a device looks it up: `gate:22 ssh-ed25519 …`; also `[gate]:2200`. */
function withPort(line: string): string {
  const [name = "", ...rest] = line.split(/\s+/);
  const bracketed = /^\[([^\]]+)\]:(\d+)$/.exec(name);
  const host =
    bracketed === null ? (name.includes(":") ? name : `${name}:22`) : `${bracketed[1]}:${bracketed[2]}`;
  return [host, ...rest].join(" ");
}

/** Begin a trial on one node, and wait for its outcome. */
async function trySettings(
  api: ApiClient,
  node: string,
  changes: Changes,
  within: number,
  signal: AbortSignal,
): Promise<Outcome> {
  const order = { order: "set" as const, changes, within, by: operator() };
  const answer = Fields.parse(await askOrder(api, node, order, signal), "the device's answer");
  const id = answer.text("id", 16);
  const from = performance.now();
  const until = from + 1000 * within + GRACE;
  while (performance.now() < until && !signal.aborted) {
    const { report, via } = await api.call(SERVER.node, { node });
    const trial = report?.facts.settings.trial;
    if (trial?.id === id && trial.outcome === "kept") {
      const took = duration(performance.now() - from);
      return { text: `kept: the tunnel is up through ${via ?? "its entrypoint"} (${took})` };
    }
    if (trial?.id === id && trial.outcome === "reverted")
      return { text: `taken back: ${trial.reason ?? "it says no reason"}`, status: 1 };
    await sleep(LOOK, signal);
  }
  return {
    text: "the board has not told what became of it: `walt node show` tells when it is back",
    status: 1,
  };
}
