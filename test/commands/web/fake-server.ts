/** A server for `walt web` that answers from memory, and notes what it was told to do. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../../src/api/client.ts";
import type { ListedRequest, MonitorEvent } from "../../../src/api/events.ts";
import { apiHandler, serve, serveAnswer, serveStream } from "../../../src/api/handler.ts";
import type { History } from "../../../src/api/history.ts";
import type { JournalEvent } from "../../../src/api/journal.ts";
import type { NodeDetails } from "../../../src/api/messages.ts";
import { SERVER } from "../../../src/api/routes.ts";
import { PieceReader, printPiece } from "../../../src/control/pieces.ts";
import { parseReport } from "../../../src/control/report.ts";
import { createLog } from "../../../src/log.ts";
import { DETAILS, EVENT, HISTORY, PENDING } from "../../api/messages.ts";

/** What a stranger may say of himself, or an operator of a node: HTML, if anybody took it for that. */
export const HTML = "<img src=x onerror=alert(1)><b>bold</b>";

export const REQUEST: ListedRequest = {
  ...{ ...PENDING, model: HTML.slice(0, 40), state: "waiting", asked: 1 },
  lastAskedAt: PENDING.receivedAt,
};

export class FakeServer implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "walt-web-"));
  readonly socket = join(this.folder, "server.sock");
  requests: ListedRequest[] = [];
  histories: History[] = [HISTORY];
  events: JournalEvent[] = [EVENT];
  nodes: NodeDetails[] = [
    {
      ...{
        ...DETAILS,
        why: null,
        note: HTML,
        events: [{ ...EVENT, details: { ...EVENT.details, reason: HTML } }],
      },
      report: {
        receivedAt: EVENT.at,
        facts: parseReport({
          usb: [{ port: "1-1.2", id: "0781:5567", name: HTML }],
          vm: { state: "running" },
        }),
      },
    },
  ];
  /** Answers, notes, orders and what was typed, in order. */
  readonly told: unknown[] = [];
  readonly #server: Bun.Server<undefined>;
  /** Tells the monitor that watches. */
  tell: (event: MonitorEvent) => void = () => {};

  constructor() {
    const handle = apiHandler(
      [
        serve(SERVER.nodes, () => this.nodes),
        serve(SERVER.node, () => this.nodes[0] ?? DETAILS),
        serve(SERVER.history, () => HISTORY),
        serve(SERVER.histories, () => this.histories),
        serve(SERVER.requests, () => this.requests),
        serve(SERVER.troubles, () => []),
        serve(SERVER.rotations, () => []),
        serve(SERVER.events, () => this.events),
        serve(SERVER.answer, (answer) => {
          this.told.push(answer);
          this.requests = this.requests.filter(({ id }) => id !== answer.id);
          const node = answer.accept ? { node: answer.name ?? "vpn-010203" } : {};
          const outcome = answer.accept ? "accepted" : "denied";
          this.tell({ type: "answered", id: answer.id, outcome, by: "root", ...node });
          return { node: node.node ?? null };
        }),
        serve(SERVER.rename, (order) => {
          this.told.push(order);
          this.nodes = this.nodes.map((one) => ({ ...one, name: order.name }));
          return {};
        }),
        serve(SERVER.revoke, (order) => {
          this.told.push(order);
          this.nodes = [];
          return { passesUntil: null };
        }),
        serve(SERVER.note, (order) => {
          this.told.push(order);
          return {};
        }),
        serve(SERVER.input, ({ bytes }) => {
          this.told.push(Buffer.from(bytes, "base64").toString());
          return {};
        }),
        serveAnswer(SERVER.order, async (asked, _, signal) => {
          this.told.push(asked.order);
          return asked.order.order === "console" ? consoleEvents(signal) : rebootEvents();
        }),
        serveStream(SERVER.monitor, (_, tell) => {
          this.tell = tell;
          tell({ type: "watching" });
          return () => {};
        }),
      ],
      createLog(),
    );
    this.#server = Bun.serve({ unix: this.socket, fetch: (request) => handle(request, "root") });
  }

  get api(): ApiClient {
    return new ApiClient({ socket: this.socket, start: "walt server run" });
  }

  /** Four nodes and a request, as a lab has them. */
  beLifelike(): void {
    const one = (name: string, more: Partial<NodeDetails>): NodeDetails => {
      return { ...DETAILS, why: null, name, note: "", loss: 0, since: ago(90), ...more };
    };
    this.nodes = [
      one("cellar", { rtt: 23.1, note: "behind the door" }),
      one("lab-1", { rtt: 41.7, loss: 0.02, via: "gate2.example.org:22", since: ago(12) }),
      one("lab-2", { rtt: 18.4 }),
      one("roof", {
        ...{ state: "down", rtt: null, loss: null, via: null, since: ago(7), note: "weather station" },
        why: { kind: "tunnel-ended", at: ago(7), end: "silent", reason: "the peer was silent" },
      }),
    ];
    this.histories = this.nodes.map(({ name, rtt, state }, of) =>
      lifelike(name, rtt ?? 30, state === "down", of),
    );
    this.events = [
      {
        id: 1,
        at: ago(7),
        kind: "tunnel-down",
        node: "roof",
        by: null,
        details: { end: "silent", reason: "the peer was silent", lasted: 8.1e7 },
      },
      {
        id: 2,
        at: ago(12),
        kind: "tunnel-up",
        node: "lab-1",
        by: null,
        details: { via: "gate2.example.org:22" },
      },
      {
        id: 3,
        at: ago(30),
        kind: "order",
        node: "lab-2",
        by: "alice",
        details: { order: "reboot", what: "guest" },
      },
    ];
    const { id, mac, serialNumber } = REQUEST;
    this.ask({ ...REQUEST, id, mac, serialNumber, model: "Raspberry Pi 3 Model B Plus Rev 1.3" });
  }

  /** A device asks for access. */
  ask(request: ListedRequest = REQUEST): void {
    this.requests = [...this.requests, request];
    this.tell({ type: "request", request });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** So many minutes ago. */
const ago = (minutes: number): string => new Date(Date.now() - 60_000 * minutes).toISOString();

/** An hour of a node, a sample for each minute. @param of makes those of several nodes differ. */
function lifelike(node: string, rtt: number, isDown: boolean, of: number): History {
  const minutes = Array.from({ length: 60 }, (_, index) => index);
  const isOff = (minute: number): boolean => (isDown ? minute > 52 : of === 1 && minute > 40 && minute < 48);
  const wave = (minute: number): number =>
    1 + 0.25 * Math.sin(minute / (3 + of)) + 0.1 * Math.sin(minute * 1.7);
  const known = (value: (minute: number) => number): (number | null)[] =>
    minutes.map((minute) => (isOff(minute) ? null : value(minute)));
  return {
    ...{ node, step: 60, from: ago(60), up: minutes.map((minute) => (isOff(minute) ? 0 : 1)) },
    rtt: known((minute) => rtt * wave(minute)),
    loss: known((minute) => (of === 1 && minute % 9 === 4 ? 0.15 : 0)),
    ...{ receive: known(() => 1000), transmit: known(() => 1000) },
  };
}

async function* rebootEvents(): AsyncGenerator<object> {
  yield { type: "begun", session: "a1" };
  yield { type: "output", bytes: Buffer.from('{"did":"rebooted"}').toString("base64") };
  yield { type: "done" };
}

/** A console that says two lines, and then waits. */
async function* consoleEvents(signal: AbortSignal): AsyncGenerator<object> {
  yield { type: "begun", session: "a1" };
  const bytes = Buffer.from("Debian GNU/Linux\r\nlab-3 login: ");
  const piece = printPiece({ bytes, place: { ring: "ab", position: bytes.length }, writes: true });
  new PieceReader().take(piece); // it is one that can be read
  yield { type: "output", bytes: Buffer.from(piece).toString("base64") };
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
