/** A server for `walt web` that answers from memory, and notes what it was told to do. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../../src/api/client.ts";
import type { ListedRequest, MonitorEvent } from "../../../src/api/events.ts";
import { apiHandler, serve, serveAnswer, serveStream } from "../../../src/api/handler.ts";
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
  #tell: (event: MonitorEvent) => void = () => {};

  constructor() {
    const handle = apiHandler(
      [
        serve(SERVER.nodes, () => this.nodes),
        serve(SERVER.node, () => this.nodes[0] ?? DETAILS),
        serve(SERVER.history, () => HISTORY),
        serve(SERVER.histories, () => [HISTORY]),
        serve(SERVER.requests, () => this.requests),
        serve(SERVER.troubles, () => []),
        serve(SERVER.rotations, () => []),
        serve(SERVER.events, () => [EVENT]),
        serve(SERVER.answer, (answer) => {
          this.told.push(answer);
          this.requests = this.requests.filter(({ id }) => id !== answer.id);
          return { node: answer.accept ? (answer.name ?? "vpn-010203") : null };
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
          this.#tell = tell;
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

  /** A device asks for access. */
  ask(request: ListedRequest = REQUEST): void {
    this.requests = [...this.requests, request];
    this.#tell({ type: "request", request });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
    rmSync(this.folder, { recursive: true, force: true });
  }
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
