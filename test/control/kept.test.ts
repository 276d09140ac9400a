/**
 * What version 0.1 of walt says over the control channel, word for word: every later version must understand
 * it. When a message changes, add lines to the fixture, and take none away.
 */

import { describe, expect, test } from "bun:test";
import { parseHops } from "../../src/control/hops.ts";
import { parseOrder, parseRefusal } from "../../src/control/orders.ts";
import { PieceReader } from "../../src/control/pieces.ts";
import { parseReboot } from "../../src/control/reboot.ts";
import { parseReport } from "../../src/control/report.ts";
import kept from "./fixtures/0.1.json";

/** Parts of what was said that came through; what a later version adds beside them is its own. */
const understood: Record<keyof typeof kept, (said: string) => unknown> = {
  orders: parseOrder,
  refusals: (said) => ({ ...parseRefusal(said), message: parseRefusal(said).message }),
  hops: parseHops,
  reboots: parseReboot,
  reports: (said) => parseReport(JSON.parse(said)),
  pieces: (said) =>
    new PieceReader().take(Buffer.from(said)).map((one) => ({ ...one, bytes: one.bytes.toString() })),
};

describe.each(Object.keys(kept) as (keyof typeof kept)[])("%s of walt 0.1", (kind) => {
  test.each(kept[kind] as { said: string; means: object }[])("number %#", ({ said, means }) => {
    expect(understood[kind](said)).toMatchObject(means);
  });
});
