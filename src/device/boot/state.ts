/**
 * The boot of a device as a pure state machine: network → credentials → ssh → tunnel → vm → watch.
 * `step` takes a state and what happened, and gives the next state, in which `action` is the one thing to do now. The
 * supervisor does it and tells its outcome as the next event. No I/O, no clock, no randomness here.
 */

import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { DeviceStatus } from "../../api/device-status.ts";
import type { Denial } from "../../enrolment/messages.ts";
import { backoff, FIRST_WAIT } from "../../linux/sleep.ts";

/** Where the boot stands: `ssh` is the hops through the proxies, `tunnel` the inner ssh with TAP and bridge. */
export type Stage = "network" | "credentials" | "ssh" | "tunnel" | "vm" | "watch";

/** What the supervisor does now; each ends with an event. */
export type Action =
  | { readonly do: "find-network" }
  /** Open the outer connections with one of the two keys that proxies let through. */
  | { readonly do: "open-hops"; readonly key: ProxyKey }
  | { readonly do: "ask" }
  /** Fetch a new certificate because a proxy refuses the one that we have. */
  | { readonly do: "renew" }
  | { readonly do: "tunnel" }
  /** `ms` is without jitter. ProxyChain that are not kept are closed first. */
  | { readonly do: "wait"; readonly ms: number; readonly keepHops: boolean };

/** The enrolment key of the SD card, or the device's own key with its certificate. */
export type ProxyKey = "enrolment" | "device";

export type Event =
  /** Outcomes of actions. `hops`: the outer connections are still open. `refused`: the peer does not accept our key. */
  | { readonly type: "network" }
  | { readonly type: "hops-open" }
  | { readonly type: "granted" }
  | { readonly type: "denied"; readonly denial: Denial; readonly hops: boolean }
  | { readonly type: "renewed" }
  | { readonly type: "failed"; readonly error: string; readonly refused: boolean; readonly hops: boolean }
  /** `up`: how long it was up, ms. `silent`: nothing came through it any more. */
  | {
      readonly type: "tunnel-ended";
      readonly error: string;
      readonly refused: boolean;
      readonly silent: boolean;
      readonly up: number;
      readonly hops: boolean;
    }
  | { readonly type: "waited"; readonly hops: boolean }
  /** What happens meanwhile; the action stays. */
  | { readonly type: "no-network"; readonly why: string }
  | { readonly type: "pending"; readonly code: string }
  | { readonly type: "tunnel-up" }
  | { readonly type: "vm"; readonly vm: DeviceStatus["vm"]; readonly error?: string }
  | { readonly type: "trouble"; readonly error: string };

export interface State {
  readonly stage: Stage;
  /** What the stage is about right now, in words; what went wrong is not repeated there. */
  readonly detail: string;
  readonly lastError: string | null;
  readonly action: Action;
  /** Credentials are on the disk. */
  readonly credentials: boolean;
  /** The key for the next opening of the hops. */
  readonly key: ProxyKey;
  /** The certificate was renewed because it was refused, and did not work since: asking for one more would not help. */
  readonly fresh: boolean;
  /** The entrypoints, at least one, the preferred one first; and the place of the one that is used. */
  readonly entrypoints: readonly Entrypoint[];
  readonly entrypoint: number;
  /** Entrypoints in a row that failed. When it is all of them, that is a failure of the device. */
  readonly failed: number;
  /** The last tunnel through this entrypoint ended soon. */
  readonly soon: boolean;
  /** Failures in a row; decides how long to wait. */
  readonly failures: number;
  readonly tunnel: DeviceStatus["tunnel"];
  readonly vm: DeviceStatus["vm"];
  readonly vmWanted: boolean;
  /** The server gives credentials and renews them; WalT's original one does not, and is never asked. */
  readonly enrols: boolean;
}

/** A tunnel that was up for so long, ms, makes earlier failures forgotten. */
export const STABLE = 30_000;
/** Wait of a device whose key the server refuses, ms: only a person can change that. */
export const REFUSED_WAIT = 60_000;
/** After so many failures over the same hops these are opened anew too: one of them may be half dead. */
const FAILURES_PER_HOPS = 3;

export const REFUSED_BY_SERVER =
  "the server refuses this device's key: revoked, or the server lost its registry; `walt device forget` lets it ask afresh";

export const UNKNOWN_TO_SERVER =
  "the server refuses this device's key: its public key belongs into the authorized_keys of walt-vpn there";

/** The state of a device that was just switched on. There is at least one entrypoint. */
export function initial(o: {
  credentials: boolean;
  vm: boolean;
  entrypoints: readonly Entrypoint[];
  enrols?: boolean;
}): State {
  return {
    enrols: o.enrols ?? true,
    stage: "network",
    detail: "looking for a network",
    lastError: null,
    action: { do: "find-network" },
    credentials: o.credentials,
    key: o.credentials ? "device" : "enrolment",
    fresh: false,
    entrypoints: o.entrypoints,
    entrypoint: 0,
    failed: 0,
    soon: false,
    failures: 0,
    tunnel: "down",
    vm: "off",
    vmWanted: o.vm,
  };
}

/** What becomes of a state when something happens. */
export function step(state: State, event: Event): State {
  switch (event.type) {
    case "network":
      return begin(state, { do: "open-hops", key: state.key });
    case "hops-open":
      return begin(state, overHops(state));
    case "granted":
      // The hops were opened with the enrolment key; from now on it is the device's own.
      return begin(
        { ...state, credentials: true, key: "device", failed: 0, failures: 0, lastError: null },
        { do: "open-hops", key: "device" },
      );
    case "denied":
      return {
        ...state,
        detail: "waiting to ask again",
        lastError: `denied: ${event.denial.message}`,
        failed: 0,
        failures: 0,
        action: { do: "wait", ms: event.denial.retryAfter * 1000, keepHops: event.hops },
      };
    case "renewed":
      return begin({ ...state, key: "device", fresh: true }, { do: "open-hops", key: "device" });
    case "failed":
      return failed(state, event);
    case "tunnel-ended":
      return tunnelEnded(state, event);
    case "waited":
      return begin(state, event.hops ? overHops(state) : { do: "find-network" });
    case "no-network":
      // Then no entrypoint is to blame: once the network is back, it is as after a start.
      return { ...state, detail: event.why, entrypoint: 0, failed: 0, soon: false };
    case "pending":
      return { ...state, detail: `waiting for an operator to answer, code ${event.code}` };
    case "tunnel-up":
      return settled({ ...state, tunnel: "up", fresh: false });
    case "vm":
      return settled({ ...state, vm: event.vm, lastError: event.error ?? state.lastError });
    case "trouble":
      return { ...state, lastError: event.error };
  }
}

function overHops(state: State): Action {
  if (!state.credentials) return { do: "ask" };
  return { do: state.key === "enrolment" ? "renew" : "tunnel" };
}

/** Stage and words for an action that begins. */
function begin(state: State, action: Action): State {
  const at = (stage: Stage, detail: string, tunnel: DeviceStatus["tunnel"] = "down"): State => ({
    ...state,
    action,
    stage,
    detail,
    tunnel,
  });
  switch (action.do) {
    case "find-network":
      return at("network", "looking for a network");
    case "open-hops":
      return state.credentials
        ? at("ssh", `connecting to ${nameOf(state)}`, "connecting")
        : at("credentials", `connecting to ${nameOf(state)} to ask for access`);
    case "ask":
      return at("credentials", "asking the server for access");
    case "renew":
      return at("credentials", "asking the server for a new certificate", "connecting");
    case "tunnel":
      return at("tunnel", "connecting to the server", "connecting");
    case "wait":
      return { ...state, action, tunnel: "down" };
  }
}

/** The entrypoint that is used. */
export function entrypointOf({ entrypoints, entrypoint }: State): Entrypoint {
  const used = entrypoints[entrypoint];
  if (used === undefined) throw new Error(`there is no entrypoint ${entrypoint} of ${entrypoints.length}`);
  return used;
}

/** Which of several it is; a single one needs no name. */
function nameOf(state: State): string {
  const count = state.entrypoints.length;
  if (count === 1) return "the entrypoint";
  return `the entrypoint ${formatEntrypoint(entrypointOf(state))} (${state.entrypoint + 1} of ${count})`;
}

/** Where a device stands whose tunnel is up; nothing changes while it is not. */
function settled(state: State): State {
  if (state.tunnel !== "up") return state;
  if (!state.vmWanted) return { ...state, stage: "watch", detail: "the tunnel is up" };
  if (state.vm === "running")
    return { ...state, stage: "watch", detail: "tunnel and virtual machine are up" };
  const detail =
    state.vm === "waiting" ? "the virtual machine ended; starting it again" : "starting the virtual machine";
  return { ...state, stage: "vm", detail };
}

function failed(state: State, event: Extract<Event, { type: "failed" }>): State {
  const { action } = state;
  if (action.do === "open-hops" && action.key === "device" && event.refused && !state.fresh && state.enrols) {
    // Most often it expired while the device was off. Proxies let the enrolment key through as far as the server.
    return begin(
      { ...state, key: "enrolment", lastError: event.error },
      { do: "open-hops", key: "enrolment" },
    );
  }
  const next: State = { ...state, key: state.credentials ? "device" : "enrolment", fresh: false };
  if ((action.do === "renew" || action.do === "tunnel") && event.refused) return refusedByServer(next);
  if (action.do === "find-network") return again(next, event.error, event.hops);
  // A renewal is only ever needed over hops with the enrolment key, which the next attempt does not begin with.
  return elsewhere(next, event.error, event.hops && action.do !== "renew");
}

function tunnelEnded(state: State, event: Extract<Event, { type: "tunnel-ended" }>): State {
  if (event.refused) return refusedByServer(state);
  const stable = event.up >= STABLE;
  const next = stable ? { ...state, failed: 0, soon: false, failures: 0 } : state;
  // An entrypoint is judged by what passes through the tunnel: one that carried it is given another chance, once.
  const carried = event.up > 0 && !event.silent && !next.soon;
  if (carried) return again({ ...next, soon: !stable }, event.error, event.hops);
  return elsewhere(next, event.error, event.hops);
}

/** A failure after which the same entrypoint is tried again. */
function again(state: State, error: string, hops: boolean): State {
  return waiting({ ...state, failures: state.failures + 1 }, error, hops);
}

/** A failure of the entrypoint: the next one is tried soon, and when all have failed after a wait that grows. */
function elsewhere(state: State, error: string, hops: boolean): State {
  const count = state.entrypoints.length;
  const failed = state.failed + 1;
  const entrypoint = (state.entrypoint + 1) % count;
  const next = { ...state, entrypoint, soon: false };
  if (failed >= count) return again({ ...next, failed: 0 }, error, hops && count === 1);
  const wait = begin({ ...next, failed }, { do: "wait", ms: FIRST_WAIT, keepHops: false });
  return { ...fallen(wait, false), lastError: error, detail: "waiting to try the next entrypoint" };
}

function waiting(state: State, error: string, hops: boolean): State {
  const keepHops = hops && state.failures % FAILURES_PER_HOPS !== 0;
  const next = begin(state, { do: "wait", ms: backoff(state.failures), keepHops });
  return { ...fallen(next, hops), lastError: error, detail: "waiting to try again" };
}

function refusedByServer(state: State): State {
  const next = begin(state, { do: "wait", ms: REFUSED_WAIT, keepHops: false });
  const error = state.enrols ? REFUSED_BY_SERVER : UNKNOWN_TO_SERVER;
  return { ...fallen(next, true), lastError: error, detail: "waiting to try again" };
}

/** A device whose boot was over is back at the stage that failed. */
function fallen(state: State, hops: boolean): State {
  return state.stage === "vm" || state.stage === "watch"
    ? { ...state, stage: hops ? "tunnel" : "ssh" }
    : state;
}
