/** What a monitor shows and asks, as a small machine: events and typed lines in, text and answers out. No I/O. */

import type { MonitorEvent, PendingRequest } from "../../api/events.ts";

export type Action = { print: string } | { answer: { id: string; accept: boolean } } | { prompt: string };

const OUTCOMES = {
  accepted: "accepted",
  denied: "denied",
  expired: "denied: nobody answered in time",
  withdrawn: "withdrawn",
} as const;

/** The text of a request, for a person who has to decide. */
export function describeRequest(r: PendingRequest): string {
  return [
    "",
    "A device asks for access to the VPN:",
    `  MAC address    ${r.mac}`,
    `  model          ${r.model}`,
    `  serial number  ${r.serialNumber}`,
    `  came from      ${r.address}`,
    `  key            ${r.fingerprint}`,
    `  short code     ${r.code}   (the device shows the same)`,
    ...(r.warning === undefined ? [] : [`  WARNING        ${r.warning}`]),
  ].join("\n");
}

const PROMPT = "Accept this device? (y/n) ";

export class MonitorScreen {
  readonly #queue: PendingRequest[] = [];
  /** Requests whose answer of ours is on its way. */
  readonly #answered = new Map<string, PendingRequest>();

  /** The request that is being asked about. */
  get current(): PendingRequest | undefined {
    return this.#queue[0];
  }

  event(event: MonitorEvent): Action[] {
    switch (event.type) {
      case "watching":
        return [{ print: "Waiting for devices that ask for access. ^C ends." }];
      case "request":
        this.#queue.push(event.request);
        if (this.#queue.length === 1) return this.#show();
        return [{ print: `\n(one more device is waiting: ${event.request.mac})` }];
      case "answered": {
        const own = this.#answered.get(event.id);
        if (own !== undefined) {
          this.#answered.delete(event.id);
          const as = event.node === undefined ? "" : `: it becomes node ${event.node}`;
          return [{ print: `${own.mac} ${OUTCOMES[event.outcome]}${as}` }];
        }
        const index = this.#queue.findIndex((r) => r.id === event.id);
        const request = this.#queue[index];
        if (request === undefined) return [];
        this.#queue.splice(index, 1);
        const by = event.outcome === "expired" ? "" : ` by ${event.by}`;
        const as = event.node === undefined ? "" : ` as node ${event.node}`;
        const said: Action = {
          print: `${index === 0 ? "\n" : ""}${request.mac} ${OUTCOMES[event.outcome]}${by}${as}`,
        };
        return index === 0 ? [said, ...this.#show()] : [said];
      }
      case "node":
        return [
          {
            print:
              event.state === "up"
                ? `node ${event.node} is up${event.via === "" ? "" : `, through ${event.via}`}`
                : `node ${event.node} is down`,
          },
        ];
      case "alive":
        return [];
    }
  }

  /** A line that the operator typed. */
  line(text: string): Action[] {
    const request = this.current;
    if (request === undefined) return text.trim() === "" ? [] : [{ print: "No device is waiting." }];
    const word = text.trim().toLowerCase();
    const accept = ["y", "yes", "a", "accept"].includes(word);
    if (!accept && !["n", "no", "d", "deny"].includes(word)) return [{ prompt: PROMPT }];
    this.#queue.shift();
    this.#answered.set(request.id, request);
    return [{ answer: { id: request.id, accept } }, ...this.#show()];
  }

  /** An answer that the server did not take: it tells why. */
  failed(id: string, message: string): Action[] {
    const request = this.#answered.get(id);
    this.#answered.delete(id);
    // It still waits: had it been ended, we would have been told.
    if (request !== undefined) this.#queue.unshift(request);
    return [{ print: message }, ...(request === undefined ? [] : this.#show())];
  }

  /** The connection to the server is lost: what waited there waits no more. */
  lost(): void {
    this.#queue.length = 0;
    this.#answered.clear();
  }

  #show(): Action[] {
    const request = this.current;
    return request === undefined ? [] : [{ print: describeRequest(request) }, { prompt: PROMPT }];
  }
}
