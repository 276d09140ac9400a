/** Both ends of a control channel, joined in memory. */

import { Answerer, type OrderHandler } from "../../src/control/answerer.ts";
import { Asker } from "../../src/control/asker.ts";
import { createLog } from "../../src/log.ts";
import type { MessageInput, MessageOutput } from "../../src/tunnel/pump-thread.ts";

export interface Wire {
  asker: Asker;
  answerer: Answerer;
  /** Bytes of data that went to the asker and to the answerer. */
  sent: { toAsker: number; toAnswerer: number };
  cut(): void;
}

export function controlWire(handle: OrderHandler): Wire {
  const sent = { toAsker: 0, toAnswerer: 0 };
  let isCut = false;
  const to = (name: keyof typeof sent, end: () => MessageInput): MessageOutput => ({
    waiting: 0,
    send: (payload) => {
      sent[name] += payload.length;
      queueMicrotask(() => {
        if (!isCut) end().take(payload);
      });
    },
  });
  const asker: Asker = new Asker(to("toAnswerer", () => answerer));
  const answerer: Answerer = new Answerer(
    to("toAsker", () => asker),
    handle,
    createLog(-999),
  );
  const cut = (): void => {
    isCut = true;
    asker.stop();
    answerer.stop();
  };
  return { asker, answerer, sent, cut };
}

/** All that an answer says. */
export async function textOf(answer: { read(): Promise<Uint8Array | undefined> }): Promise<string> {
  const parts: Uint8Array[] = [];
  for (let part = await answer.read(); part !== undefined; part = await answer.read()) parts.push(part);
  return Buffer.concat(parts).toString();
}
