/** The supervisor performs one action after the other, and goes on whatever they throw. */

import { expect, test } from "bun:test";
import { parseEntrypoint } from "../../../src/address.ts";
import type { Event, State } from "../../../src/device/boot/state.ts";
import { type Actions, Supervisor } from "../../../src/device/boot/supervisor.ts";
import { RouteFailure } from "../../../src/device/route/route-failure.ts";
import type { Log } from "../../../src/log.ts";

function logInto(lines: string[]): Log {
  const add = (text: string): void => void lines.push(text);
  const log: Log = { debug() {}, info: add, warn: add, error: add, with: () => log };
  return log;
}

type Script = (state: State, tell: (event: Event) => void) => Event | Promise<Event>;

/** Perform the steps one after the other; after the last one, stop the supervisor. */
async function play(
  script: Script[],
  proxies = false,
): Promise<{ supervisor: Supervisor; done: string[]; lines: string[] }> {
  const stop = new AbortController();
  const done: string[] = [];
  const lines: string[] = [];
  const actions: Actions = {
    perform: async (state, tell) => {
      done.push(state.action.do);
      const next = script.shift();
      if (next !== undefined) return await next(state, tell);
      stop.abort();
      throw new Error("stopped");
    },
    proxiesAlive: () => proxies,
  };
  const first = { credentials: true, vm: false, entrypoints: [parseEntrypoint("a:22")] };
  const supervisor = new Supervisor(first, actions, logInto(lines));
  await supervisor.run(stop.signal);
  return { supervisor, done, lines };
}

const network = (): Event => ({ type: "network" });
const open = (): Event => ({ type: "proxies-open" });

test("each outcome leads to the next action, and events during an action take effect at once", async () => {
  let stage = "";
  const { supervisor, done, lines } = await play([
    network,
    open,
    (_, tell) => {
      tell({ type: "tunnel-up" });
      stage = "told";
      const end = { kind: "closed-by-peer", text: "the server stops" } as const;
      return { type: "tunnel-ended", end, up: 40_000, proxies: true };
    },
  ]);
  expect(stage).toBe("told");
  expect(done).toEqual(["find-network", "open-proxies", "tunnel", "wait"]);
  expect(lines).toEqual([
    "proxies: connecting to the entrypoint",
    "tunnel: connecting to the server",
    "watch: the tunnel is up",
    "the server stops",
  ]);
  expect(supervisor.state.lastError).toBe("the server stops");
});

test("an action that throws is a failure with that message, and the device goes on", async () => {
  const throwing = (): never => {
    throw new Error("cannot run ip");
  };
  const { supervisor, done } = await play([throwing, () => ({ type: "waited", proxies: false })]);
  expect(done).toEqual(["find-network", "wait", "find-network"]);
  expect(supervisor.state.lastError).toBe("cannot run ip");
});

test("a key that is refused is told apart from other failures", async () => {
  const refused = (): never => {
    throw new RouteFailure({ kind: "key-refused", text: "proxy a:22: it does not accept our key" });
  };
  const { supervisor } = await play([network, refused]);
  expect(supervisor.state.action).toEqual({ do: "open-proxies", key: "enrolment" });
});

test("the outcome of an action that was ended by a stop is ignored", async () => {
  const { supervisor, lines } = await play([network]);
  expect(supervisor.state).toMatchObject({ action: { do: "open-proxies" }, lastError: null });
  expect(lines).toEqual(["proxies: connecting to the entrypoint"]);
});
