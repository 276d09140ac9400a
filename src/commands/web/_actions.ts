/** What the page asks for, and what it does: each request of its script, parsed and answered. */

import { ApiError } from "../../api/api-error.ts";
import type { ApiClient } from "../../api/client.ts";
import type { History } from "../../api/history.ts";
import { BLOCKS } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { parseReboot } from "../../control/reboot.ts";
import { codeBegins, LEAST_CODE, parseCode } from "../../enrolment/typed-code.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { parseNodeName } from "../../node-name.ts";
import type { Fields } from "../../parse.ts";
import { plainText } from "../../text.ts";
import type { Done, NodePage, Overview } from "../../web/messages.ts";
import { operator } from "../_server.ts";
import { trafficRows } from "../_traffic.ts";
import { factsOf } from "../node/_facts.ts";
import { askOrder, type GivenOrder } from "../node/_orders.ts";
import { outcomeOf } from "../node/_reboot-outcome.ts";
import { saidOf } from "../vpn/_monitor-view.ts";
import { aboutRevocation, afterRevocation } from "../vpn/_revoked.ts";
import { eventRow, type LiveOverview, nodeRow } from "./_overview.ts";

/** Characters of a note, as the server takes them. */
const NOTE_MAX = 200;

export interface Asked {
  readonly api: ApiClient;
  readonly live: LiveOverview;
  readonly fields: Fields;
  /** Aborted when the page does not wait any more. */
  readonly signal: AbortSignal;
}

type Action = (asked: Asked) => Promise<unknown>;

/** By the last word of the path: what a GET is answered. Fields are those of the query. */
export const READS: Readonly<Record<string, Action>> = {
  overview: ({ live, fields, signal }): Promise<Overview> => live.after(fields.digits("seen"), signal),
  histories: ({ api }): Promise<History[]> => api.call(SERVER.histories, {}),
  history: ({ api, fields }): Promise<History> =>
    api.call(SERVER.history, {
      node: fields.text("node"),
      span: fields.choice("span", ["hour", "month"]),
    }),
  node: async ({ api, fields }): Promise<NodePage> => {
    const node = await api.call(SERVER.node, { node: fields.text("node") });
    const usb = node.report?.facts.usb;
    return {
      row: nodeRow(node),
      facts: factsOf(node),
      counters: node.traffic === null ? [] : trafficRows(node.traffic, "node"),
      usb: usb?.map(({ port, id, name }) => ({ port: port ?? "", id: id ?? "", name: name ?? "" })) ?? null,
      events: node.events.toReversed().map(eventRow),
      isOff: node.report?.facts.vm.state === "powered-off",
      revocation: aboutRevocation([node.device], false),
    };
  },
};

/** By the last word of the path: what a POST does. Fields are those of its body. */
export const WRITES: Readonly<Record<string, Action>> = {
  answer,
  reboot: ({ api, fields, signal }) =>
    ordered(
      api,
      fields.text("node"),
      { order: "reboot", what: fields.choice("what", ["guest", "vm", "board"]), by: operator() },
      signal,
    ),
  rename: async ({ api, live, fields }): Promise<Done> => {
    const [node, name] = [fields.text("node"), parseNodeName(fields.text("name"))];
    await api.call(SERVER.rename, { node, name, by: operator() });
    live.touch();
    return { text: `${node} is called ${name} now` };
  },
  revoke: async ({ api, live, fields }): Promise<Done> => {
    const node = fields.text("node");
    const { passesUntil } = await api.call(SERVER.revoke, { node, reenrol: false, by: operator() });
    live.touch();
    return { text: `${node} is revoked. ${afterRevocation([passesUntil], false)}` };
  },
  power: ({ api, fields, signal }) =>
    ordered(api, fields.text("node"), { order: "power", on: fields.boolean("on"), by: operator() }, signal),
};

/**
 * An operator's answer. What he typed decides: it must be the beginning of this request's short code, and of no
 * other's.
 */
async function answer({ api, live, fields }: Asked): Promise<Done> {
  const [id, fingerprint] = [fields.text("id", 40), fields.text("fingerprint", 100)];
  const [text, accept] = [fields.text("typed", 40), fields.boolean("accept")];
  const name = fields.text("name") === "" ? undefined : parseNodeName(fields.text("name"));
  const note = fields.words("note", NOTE_MAX);
  const typed = parseCode(text.trim(), LEAST_CODE);
  if (typed === undefined) {
    throw new WaltError(`"${plainText(text)}" is not the beginning of a short code`, {
      hint: `Type at least ${LEAST_CODE} characters of the code that the device shows.`,
    });
  }
  const all = await api.call(SERVER.requests, {});
  const fits = all.filter(({ code }) => codeBegins(code, typed));
  const request = fits.find((one) => one.id === id && one.fingerprint === fingerprint);
  if (request === undefined) {
    throw new WaltError(
      `the code of this request does not begin with "${plainText(text)}"; nothing was done`,
    );
  }
  if (new Set(fits.map(({ code }) => code)).size > 1)
    throw new WaltError(`"${plainText(text)}" fits several requests: type more of the code`);
  const block = !accept && fields.has("block") ? { block: fields.choice("block", BLOCKS) } : {};
  const given = { id, fingerprint, accept, ...(accept && name !== undefined ? { name } : {}), ...block };
  const { node } = await api.call(SERVER.answer, { ...given, by: operator() });
  live.touch();
  if (node === null) return { text: [`${request.code} is denied.`, saidOf(given) ?? ""].join(" ").trim() };
  const accepted = `${request.code} is accepted as ${node}`;
  if (note === "") return { text: accepted };
  try {
    await api.call(SERVER.note, { node, note, by: operator() });
  } catch (error) {
    return { text: `${accepted}, but has no note: ${messageOf(error)}` };
  }
  return { text: accepted };
}

async function ordered(api: ApiClient, node: string, order: GivenOrder, signal: AbortSignal): Promise<Done> {
  const { text, status } = outcomeOf(parseReboot(await askOrder(api, node, order, signal)));
  if (status !== undefined && status !== 0) throw new ApiError("failed", `${node}: ${text}`);
  return { text: `${node}: ${text}` };
}
