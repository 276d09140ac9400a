/** What the page shows of the server, kept up to date: it watches as a monitor does. */

import { type ApiClient, MisfitError } from "../../api/client.ts";
import type { ListedRequest } from "../../api/events.ts";
import type { JournalEvent } from "../../api/journal.ts";
import type { NodeInfo } from "../../api/messages.ts";
import { type Notice, SHOWN_NOTICES } from "../../api/notice.ts";
import { SERVER } from "../../api/routes.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import type { EventRow, NodeRow, Overview, RequestCard } from "../../web/messages.ts";
import { askAttention } from "../_attention.ts";
import { wordsOf } from "../_events.ts";
import { operator } from "../_server.ts";
import { inOrder } from "../_table.ts";
import { viaOf } from "../node/_facts.ts";
import { stateOf, whyWords } from "../node/_why.ts";

/** ms between attempts to reach a server that went away. */
const RECONNECT = 2000;
/** ms after which a page that asks for something new gets what is there. */
const REFRESH = 5000;
/** ms for which what the server told is not asked again, however many pages there are. */
const FRESH = 500;
/** Events, and notices, that are shown. */
const EVENTS_SHOWN = 30;

type Gathered = Omit<Overview, "version">;

export class LiveOverview {
  #version = 1;
  #changed = Promise.withResolvers<void>();
  #notices: Notice[] = [];
  #last: Gathered;
  /** What is being asked, or was a moment ago. */
  #asked: Promise<Gathered> | undefined;

  /**
   * @param address `local`, or that of another machine.
   * @param refresh ms after which a page gets what is there; a parameter for tests.
   */
  constructor(
    readonly api: ApiClient,
    readonly address: string,
    readonly refresh = REFRESH,
  ) {
    this.#last = { server: "", problem: null, nodes: [], requests: [], attention: [], events: [] };
  }

  /** Watch as a monitor until `signal`, also over restarts of the server. @throws at first, as `ApiClient.stream`. */
  async watch(signal: AbortSignal, connected: () => void): Promise<void> {
    let once = false;
    while (!signal.aborted) {
      try {
        for await (const event of this.api.stream(SERVER.monitor, { name: operator() }, signal)) {
          once = true;
          connected();
          if (event.type === "alive") continue;
          if (event.type === "notice" && SHOWN_NOTICES.has(event.notice.event))
            this.#notices = [...this.#notices, event.notice].slice(-EVENTS_SHOWN);
          this.#change();
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!once || error instanceof MisfitError) throw error;
      }
      this.#change();
      await sleep(RECONNECT, signal);
    }
  }

  /** The overview as soon as there is a later one than `seen`, or it is to be refreshed, or `signal` is aborted. */
  async after(seen: number, signal: AbortSignal): Promise<Overview> {
    if (seen >= this.#version) {
      const over = new AbortController();
      await Promise.race([
        this.#changed.promise,
        sleep(this.refresh, AbortSignal.any([signal, over.signal])),
      ]);
      over.abort();
    }
    const version = this.#version;
    return { version, ...(await this.#gather()) };
  }

  /** What is shown has changed, by the page's own doing. */
  touch(): void {
    this.#change();
  }

  #change(): void {
    this.#version++;
    this.#asked = undefined;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #gather(): Promise<Gathered> {
    if (this.#asked !== undefined) return this.#asked;
    const asked = this.#ask();
    this.#asked = asked;
    const forget = (): void => {
      if (this.#asked === asked) this.#asked = undefined;
    };
    void asked.then(() => setTimeout(forget, FRESH).unref());
    return asked;
  }

  async #ask(): Promise<Gathered> {
    const { api } = this;
    try {
      const nodes = await api.call(SERVER.nodes, {});
      const requests = await api.call(SERVER.requests, {});
      const events = await api.call(SERVER.events, { last: EVENTS_SHOWN });
      const place = this.address === "local" ? "on this machine" : this.address;
      const all = [...events.map(eventRow), ...this.#notices.map(noticeRow)];
      this.#last = {
        server: `walt ${api.version ?? ""}, ${place}`,
        problem: null,
        nodes: nodes.map(nodeRow).sort((a, b) => inOrder(a.name, b.name)),
        requests: requests.map(requestCard),
        attention: await askAttention(api, nodes),
        events: all.sort((a, b) => b.at.localeCompare(a.at)).slice(0, EVENTS_SHOWN),
      };
    } catch (error) {
      this.#last = { ...this.#last, problem: problemOf(error) };
    }
    return this.#last;
  }
}

/** An error in words, on one line. */
export function problemOf(error: unknown): string {
  const hint = error instanceof WaltError && error.hint !== undefined ? `. ${error.hint}` : "";
  return `${messageOf(error)}${hint}`;
}

export function nodeRow(node: NodeInfo): NodeRow {
  const { name, rtt, loss, note, since, why } = node;
  return {
    name,
    isUp: node.state === "up",
    state: stateOf(node),
    why: why === null ? "" : whyWords(why),
    via: viaOf(node),
    rtt,
    loss,
    note,
    since,
  };
}

function requestCard(one: ListedRequest): RequestCard {
  const { id, fingerprint, code, mac, model, serialNumber, state, warnings } = one;
  return { id, fingerprint, code, mac, model, serialNumber, from: one.address, state, warnings };
}

export function eventRow(event: JournalEvent): EventRow {
  return { at: event.at, node: event.node ?? "", what: wordsOf(event), by: event.by ?? "" };
}

function noticeRow({ at, node, text }: Notice): EventRow {
  return { at, node: node ?? "", what: text, by: "" };
}
