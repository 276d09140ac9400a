/** The overview: requests that wait, what needs attention, all nodes, and what happened. */

import type { History } from "../api/history.ts";
import { codeBegins, LEAST_CODE, parseCode } from "../enrolment/typed-code.ts";
import { duration } from "../text.ts";
import { act, read } from "./ask.ts";
import { button, confirmed, KeyedList, make, type Shown, setText } from "./dom.ts";
import { eventList } from "./events.ts";
import type { Attention, NodeRow, Overview, RequestCard, TypedAnswer } from "./messages.ts";
import { attempt, type Part, pause, repeat } from "./part.ts";
import { percent, sparkline } from "./sparkline.ts";

/** ms between two looks at the histories. */
const HISTORY_INTERVAL = 30_000;

export function showOverview(part: Part): void {
  const { main, signal } = part;
  const requests = section("Requests for access");
  const attention = section("Needs attention");
  const nodes = section("Nodes");
  const events = section("Events");
  const filter = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the nodes" });
  const body = make("tbody");
  const head = ["Name", "State", "Round trip", "Loss", "Last hour", "Entrypoint", "Note"];
  const none = make("p", { class: "none" });
  nodes.append(
    filter,
    make(
      "table",
      { class: "nodes" },
      make("thead", {}, make("tr", {}, ...head.map((one) => make("th", { scope: "col" }, one)))),
      body,
    ),
    none,
  );
  const drafts: Drafts = new Map();
  const cards = new KeyedList<RequestCard>(
    list(requests),
    ({ id }) => id,
    (one) => card(part, one, drafts),
  );
  const warnings = new KeyedList<Attention>(list(attention), ({ what, cure }) => what + cure, attentionOf);
  const histories = new Map<string, History>();
  const rows = new KeyedList<NodeRow>(
    body,
    ({ name }) => name,
    ({ name }) => row(name, histories),
  );
  const happened = eventList(events, true);
  main.append(requests, attention, nodes, events);

  let last: Overview | undefined;
  const draw = (): void => {
    if (last === undefined) return;
    const wanted = filter.value.trim().toLowerCase();
    const fits = last.nodes.filter(({ name, note, state }) =>
      `${name} ${note} ${state}`.toLowerCase().includes(wanted),
    );
    const waiting = last.requests.filter(({ state }) => state !== "denied");
    requests.hidden = waiting.length === 0;
    attention.hidden = last.attention.length === 0;
    cards.show(waiting);
    warnings.show(last.attention);
    rows.show(fits);
    none.hidden = fits.length > 0;
    setText(none, last.nodes.length === 0 ? "There are no nodes yet." : "No node fits the filter.");
    happened(last.events);
    document.title = waiting.length === 0 ? "WalT VPN" : `(${waiting.length}) WalT VPN`;
  };
  filter.addEventListener("input", draw);
  let seen = 0;
  void repeat(part, async () => {
    last = await read<Overview>("overview", { seen: String(seen) }, signal);
    seen = last.version;
    part.server(last.server);
    part.problem(last.problem);
    draw();
  });
  void repeat(part, async () => {
    for (const one of await read<History[]>("histories", {}, signal)) histories.set(one.node, one);
    draw();
    await pause(HISTORY_INTERVAL, signal);
  });
}

function section(title: string): HTMLElement {
  return make("section", {}, make("h2", {}, title));
}

function list(parent: HTMLElement): HTMLElement {
  const made = make("ul");
  parent.append(made);
  return made;
}

function attentionOf({ what, cure }: Attention): Shown<Attention> {
  return { element: make("li", {}, make("strong", {}, what), " ", cure), update: () => {} };
}

/** One node. */
function row(name: string, histories: ReadonlyMap<string, History>): Shown<NodeRow> {
  const link = make("a", { href: `#/node/${encodeURIComponent(name)}` }, name);
  const cell = (label: string, ...children: Node[]): HTMLTableCellElement =>
    make("td", { "data-label": label }, ...children);
  const [state, rtt, loss, spark] = [cell("State"), cell("Round trip"), cell("Loss"), cell("Last hour")];
  const [via, note] = [cell("Entrypoint"), cell("Note")];
  const element = make("tr", {}, make("th", { scope: "row" }, link), state, rtt, loss, spark, via, note);
  let drawn: History | undefined;
  return {
    element,
    update: (node) => {
      const since =
        node.since === null ? "" : ` for ${duration(Math.max(0, Date.now() - Date.parse(node.since)))}`;
      element.className = !node.isUp ? "down" : node.why === "" ? "up" : "unwell";
      setText(state, `${node.state}${since}`);
      state.title = node.why;
      setText(rtt, node.rtt === null ? "-" : `${node.rtt.toFixed(1)} ms`);
      setText(loss, node.loss === null ? "-" : percent(node.loss));
      setText(via, node.via);
      setText(note, node.note);
      const history = histories.get(name);
      if (history === undefined || history === drawn) return;
      drawn = history;
      spark.replaceChildren(sparkline(history, 120, 24));
    },
  };
}

/**
 * What was typed for a request: code, name and note, by the fingerprint of its key. It stays when the connection is
 * lost, and the device asks again.
 */
type Drafts = Map<string, readonly string[]>;

/** One request, with its answer: no button does anything before the beginning of its code was typed. */
function card(part: Part, request: RequestCard, drafts: Drafts): Shown<RequestCard> {
  const { id, fingerprint, code } = request;
  const typed = make("input", {
    ...{ required: "", autocomplete: "off", autocapitalize: "characters", spellcheck: "false" },
    ...{
      maxlength: "11",
      size: "11",
      "aria-label": `First ${LEAST_CODE} characters of the code that the device shows`,
    },
    placeholder: "code on the device",
  });
  const name = make("input", { maxlength: "32", placeholder: "name", "aria-label": "Name of the node" });
  const note = make("input", { maxlength: "200", placeholder: "note", "aria-label": "Note about the node" });
  const answer = async (accept: boolean, block: Pick<TypedAnswer, "block"> = {}): Promise<void> => {
    const body: TypedAnswer = {
      ...{ id, fingerprint, accept, typed: typed.value, ...block },
      ...{ name: name.value.trim(), note: note.value.trim() },
    };
    if (await attempt(part, async () => (await act("answer", body)).text)) drafts.delete(fingerprint);
    allow();
  };
  const accept = button("Accept", () => answer(true), { class: "accept" });
  const deny = button("Deny", () => answer(false));
  const blockKey = button("Block the key", () => answer(false, { block: "key" }));
  const blockSource = button("Block the source", async () => {
    const question = `Deny all that comes from ${request.from} for an hour, also of other devices?`;
    if (await confirmed(question, "Block the source")) await answer(false, { block: "source" });
  });
  const buttons = [accept, deny, blockKey, blockSource];
  const allow = (): void => {
    const said = parseCode(typed.value.trim(), LEAST_CODE);
    const fits = said !== undefined && codeBegins(code, said);
    for (const one of buttons) one.disabled = !fits;
    typed.setAttribute("aria-invalid", String(said !== undefined && !fits));
  };
  typed.addEventListener("input", allow);
  const inputs = [typed, name, note];
  for (const [index, input] of inputs.entries()) {
    input.value = drafts.get(fingerprint)?.[index] ?? "";
    input.addEventListener("input", () =>
      drafts.set(
        fingerprint,
        inputs.map(({ value }) => value),
      ),
    );
  }
  const form = make("form", { class: "answer" }, ...inputs, ...buttons);
  // The return key accepts nothing: it is too easily typed.
  form.addEventListener("submit", (event) => event.preventDefault());
  const warnings = make("div", { class: "warnings" });
  const fact = (what: string, value: string): Node[] => [make("dt", {}, what), make("dd", {}, value)];
  const asks = make("span");
  const element = make(
    "li",
    { class: "request" },
    make(
      "p",
      {},
      "A device asks for access. Its screen shows ",
      make("code", { class: "code" }, code),
      ". ",
      asks,
    ),
    make(
      "dl",
      {},
      ...fact("MAC address", request.mac),
      ...fact("model", request.model),
      ...fact("serial number", request.serialNumber),
      ...fact("came from", request.from),
      ...fact("key", fingerprint),
    ),
    warnings,
    form,
  );
  allow();
  return {
    element,
    update: (now) => {
      setText(asks, now.state === "waiting" ? "It waits." : "It asks again in a moment.");
      warnings.replaceChildren(
        ...now.warnings.map((one) => make("p", { class: "warning" }, `Warning: ${one}`)),
      );
    },
  };
}
