/** The page of one node: its state, its history, its buttons, its console, and all that is known of it. */

import type { History } from "../api/history.ts";
import { act, read } from "./ask.ts";
import { button, confirmed, make, setText } from "./dom.ts";
import { eventList } from "./events.ts";
import type { Fact, NodePage } from "./messages.ts";
import { attempt, type Part, pause, repeat } from "./part.ts";
import { percent, sparkline } from "./sparkline.ts";

/** ms between two looks. */
const INTERVAL = 3000;
const HISTORY_INTERVAL = 10_000;

export function showNode(part: Part, node: string): void {
  const { main, signal } = part;
  document.title = `${node} – WalT VPN`;
  const state = make("p", { class: "state" });
  const why = make("p", { class: "why" });
  const history = make("div", { class: "histories" });
  const usb = make("ul", { class: "usb" });
  const facts = make("dl", { class: "facts" });
  const counters = make("dl", { class: "facts" });
  const events = make("section", {}, make("h2", {}, "Events"));
  const happened = eventList(events, false);
  let isOff = false;

  /** A button that asks before it gives an order. */
  const order = (
    text: string,
    question: string,
    action: string,
    body: object,
    isDanger = true,
  ): HTMLElement =>
    button(
      text,
      async () => {
        if (!(await confirmed(`${question} ${node}?`, text))) return;
        part.done(`${node}: …`);
        await attempt(part, async () => (await act(action, { node, ...body })).text);
      },
      isDanger ? { class: "danger" } : {},
    );
  const off = order("Switch off", "End the virtual machine, and keep it off, of", "power", { on: false });
  const on = order("Switch on", "Start the virtual machine of", "power", { on: true }, false);
  on.hidden = true;
  let revocation = "";
  const rename = async (): Promise<void> => {
    const name = make("input", { maxlength: "32", value: node, "aria-label": "New name of the node" });
    if (!(await confirmed(`What is ${node} to be called?`, "Rename", name))) return;
    const to = name.value.trim();
    const body = { node, name: to };
    await attempt(part, async () => (await act("rename", body)).text, `/node/${encodeURIComponent(to)}`);
  };
  const revoke = async (): Promise<void> => {
    const about = make("pre", {}, revocation);
    if (!(await confirmed(`Revoke ${node}?`, "Revoke", about))) return;
    await attempt(part, async () => (await act("revoke", { node })).text, "/");
  };
  const buttons = make(
    "div",
    { class: "buttons" },
    order("Reboot", "Ask the guest to reboot, on", "reboot", { what: "guest" }),
    order("Reset", "End the virtual machine at once, and start it again, on", "reboot", { what: "vm" }),
    off,
    on,
    order("Reboot the board", "Reboot the whole board of", "reboot", { what: "board" }),
    button("Rename", rename),
    button("Revoke", revoke, { class: "danger" }),
  );
  const terminal = make("section", { class: "console" }, make("h2", {}, "Console"));
  main.append(
    make("p", {}, make("a", { href: "#/" }, "All nodes")),
    make("h2", { class: "name" }, node),
    state,
    why,
    history,
    buttons,
    terminal,
    make("section", {}, make("h2", {}, "USB devices"), usb),
    make("section", {}, make("h2", {}, "What is known"), facts),
    make("section", {}, make("h2", {}, "Counters of the tunnel"), counters),
    events,
  );
  // xterm.js is larger than all the rest, and most pages are left without it.
  void import("./console.ts").then(({ addConsole }) => addConsole(terminal, node, signal));

  void repeat(part, async () => {
    const page = await read<NodePage>("node", { node }, signal);
    const { row } = page;
    part.problem(null);
    state.className = `state ${!row.isUp ? "down" : row.why === "" ? "up" : "unwell"}`;
    const rtt = row.rtt === null ? [] : [`${row.rtt.toFixed(1)} ms`];
    const loss = row.loss === null ? [] : [`${percent(row.loss)} loss`];
    setText(state, [row.state, row.via, ...rtt, ...loss].join(" · "));
    setText(why, row.why);
    why.hidden = row.why === "";
    isOff = page.isOff;
    revocation = page.revocation;
    on.hidden = !isOff;
    off.hidden = isOff;
    usb.replaceChildren(...usbOf(page));
    showFacts(facts, page.facts);
    showFacts(counters, page.counters.length === 0 ? [["tunnel", "down"]] : page.counters);
    happened(page.events);
    await pause(INTERVAL, signal);
  });
  void repeat(part, async () => {
    const hour = await read<History>("history", { node, span: "hour" }, signal);
    const month = await read<History>("history", { node, span: "month" }, signal);
    history.replaceChildren(
      make("figure", {}, sparkline(hour, 720, 60), make("figcaption", {}, "last hour")),
      make("figure", {}, sparkline(coarser(month, 12), 720, 60), make("figcaption", {}, "last 30 days")),
    );
    await pause(HISTORY_INTERVAL, signal);
  });
}

function usbOf({ usb }: NodePage): HTMLElement[] {
  if (usb === null) return [make("li", { class: "none" }, "The board has not told.")];
  if (usb.length === 0) return [make("li", { class: "none" }, "None.")];
  return usb.map(({ port, id, name }) => make("li", {}, `${port} ${id} ${name}`));
}

function showFacts(list: HTMLElement, facts: readonly Fact[]): void {
  list.replaceChildren(...facts.flatMap(([what, value]) => [make("dt", {}, what), make("dd", {}, value)]));
}

/** A history with one sample for each `many`, so that it has about as many as the screen has pixels. */
function coarser(history: History, many: number): History {
  const together = (values: readonly (number | null)[]): (number | null)[] =>
    Array.from({ length: Math.ceil(values.length / many) }, (_, index) => {
      const known = values.slice(index * many, (index + 1) * many).filter((one) => one !== null);
      return known.length === 0 ? null : known.reduce((sum, one) => sum + one, 0) / known.length;
    });
  const { up, rtt, loss, receive, transmit } = history;
  return {
    ...history,
    step: history.step * many,
    ...{ up: together(up), rtt: together(rtt), loss: together(loss) },
    ...{ receive: together(receive), transmit: together(transmit) },
  };
}
