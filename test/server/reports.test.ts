/** Reports of devices: the newest counts, malformed ones end them, and a flood is read slowly. */

import { expect, test } from "bun:test";
import type { Answer } from "../../src/control/asker.ts";
import { MAX_REPORT } from "../../src/control/report.ts";
import type { Device } from "../../src/server/registry.ts";
import { Reports } from "../../src/server/reports.ts";
import { SessionLost } from "../../src/ssh/handshake/client-channels.ts";
import { eventually } from "../lab/eventually.ts";

const device = { id: 7, node: "lab-7" } as Device;

/** An answer that gives these pieces, one each time it is read; then it ends as `done` says. */
function answerOf(
  pieces: readonly string[],
  done: Promise<void>,
): Answer & { reads: number; closed: boolean } {
  const left = [...pieces];
  const answer = {
    reads: 0,
    closed: false,
    read: async () => {
      answer.reads++;
      const piece = left.shift();
      return piece === undefined ? undefined : new TextEncoder().encode(piece);
    },
    write: async () => {},
    endInput: () => {},
    close: () => {
      answer.closed = true;
    },
    done,
  };
  done.catch(() => {});
  return answer;
}

async function follow(pieces: readonly string[], done: Promise<void>) {
  const answer = answerOf(pieces, done);
  const failures: unknown[] = [];
  const told: (number | null)[] = [];
  const reports = new Reports(
    async () => answer,
    (_, error) => failures.push(error),
    (_, { temperature }) => told.push(temperature),
  );
  reports.follow(device);
  await eventually("the end of the reports", () => answer.closed);
  await Bun.sleep(0);
  return { temperature: reports.of(device)?.facts.temperature, failures, told, reads: answer.reads };
}

const lost = (): Promise<void> => Promise.reject(new SessionLost("the tunnel ended"));

test("a report that comes in pieces, and several at once, of which the newest counts", async () => {
  const { temperature, failures, told } = await follow(
    ['{"temperature":4', '1}\n{"temperature":42}\n{"temp'],
    lost(),
  );
  expect(temperature).toBe(42);
  expect(told).toEqual([42]);
  expect(failures).toEqual([]); // the end of a tunnel is no failure of the reports
});

test("what is no report ends them, and what came before stays", async () => {
  for (const bad of ["nonsense\n", "[]\n", `"${"x".repeat(MAX_REPORT)}`]) {
    const { temperature, failures } = await follow(
      ['{"temperature":41}\n', bad, '{"temperature":43}\n'],
      lost(),
    );
    expect(temperature).toBe(41);
    expect(failures).toHaveLength(1);
  }
});

test("a device that cannot be asked, or ends its reports, is told of", async () => {
  const failures: string[] = [];
  const reports = new Reports(
    () => Promise.reject(new Error("it is old")),
    (_, error) => failures.push(String(error)),
    () => {},
  );
  reports.follow(device);
  await eventually("the failure", () => failures.length === 1);
  expect(reports.of(device)).toBeUndefined();
  expect((await follow([], Promise.resolve())).failures).toHaveLength(1);
});
