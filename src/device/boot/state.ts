/**
 * The boot of a device as a pure state machine: network → credentials → proxies → tunnel → vm → watch.
 * `step` takes a state and what happened, and gives the next state, in which `action` is the one thing to do now. The
 * supervisor does it and tells its outcome as the next event. No I/O, no clock, no randomness here.
 */

import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { DeviceStatus } from "../../api/device-status.ts";
import type { End } from "../../end.ts";
import type { Denial } from "../../enrolment/messages.ts";
import { backoff, FIRST_WAIT } from "../../linux/sleep.ts";

/** Where the boot stands: `proxies` is the chain of connections to the proxies, `tunnel` the connection to the server behind it. */
export type Stage = "network" | "credentials" | "proxies" | "tunnel" | "vm" | "watch";

/** What the supervisor does now; each ends with an event. */
export type Action =
  | { readonly do: "find-network" }
  /** Open the outer connections with one of the two keys that proxies let through. */
  | { readonly do: "open-proxies"; readonly key: ProxyKey }
  | { readonly do: "ask" }
  /** Fetch a new certificate because a proxy refuses the one that we have. */
  | { readonly do: "renew" }
  | { readonly do: "tunnel" }
  /** `ms` is without jitter. Connections to proxies that are not kept are closed first. */
  | { readonly do: "wait"; readonly ms: number; readonly keepProxies: boolean };

/** The enrolment key of the SD card, or the device's own key with its certificate. */
export type ProxyKey = "enrolment" | "device";

export type Event =
  /** Outcomes of actions. `proxies`: the connections to the proxies are still open. */
  | { readonly type: "network" }
  | { readonly type: "proxies-open" }
  | { readonly type: "granted" }
  | { readonly type: "denied"; readonly denial: Denial; readonly proxies: boolean }
  | { readonly type: "renewed" }
  | { readonly type: "failed"; readonly end: End; readonly proxies: boolean }
  /** `up`: how long it was up, ms. */
  | {
      readonly type: "tunnel-ended";
      readonly end: End;
      readonly up: number;
      readonly proxies: boolean;
    }
  | { readonly type: "waited"; readonly proxies: boolean }
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
  /** The key with which the proxies are connected to next. */
  readonly key: ProxyKey;
  /** The certificate was renewed because it was refused, and did not work since: asking for one more would not help. */
  readonly renewedInVain: boolean;
  /** The entrypoints, at least one, the preferred one first; and the place of the one that is used. */
  readonly entrypoints: readonly Entrypoint[];
  readonly entrypoint: number;
  /** Entrypoints in a row that failed. When it is all of them, that is a failure of the device. */
  readonly failed: number;
  /** The last tunnel through this entrypoint ended soon. */
  readonly lastEndedSoon: boolean;
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
/** After so many failures over the same connections to proxies these are opened anew too: one may be half dead. */
const FAILURES_PER_CHAIN = 3;

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
    renewedInVain: false,
    entrypoints: o.entrypoints,
    entrypoint: 0,
    failed: 0,
    lastEndedSoon: false,
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
      return begin(state, { do: "open-proxies", key: state.key });
    case "proxies-open":
      return begin(state, overProxies(state));
    case "granted":
      // The proxies let us in with the enrolment key; from now on it is the device's own.
      return begin(
        { ...state, credentials: true, key: "device", failed: 0, failures: 0, lastError: null },
        { do: "open-proxies", key: "device" },
      );
    case "denied":
      return {
        ...state,
        detail: "waiting to ask again",
        lastError: `denied: ${event.denial.message}`,
        failed: 0,
        failures: 0,
        action: { do: "wait", ms: event.denial.retryAfter * 1000, keepProxies: event.proxies },
      };
    case "renewed":
      return begin({ ...state, key: "device", renewedInVain: true }, { do: "open-proxies", key: "device" });
    case "failed":
      return failed(state, event);
    case "tunnel-ended":
      return tunnelEnded(state, event);
    case "waited":
      return begin(state, event.proxies ? overProxies(state) : { do: "find-network" });
    case "no-network":
      // Then no entrypoint is to blame: once the network is back, it is as after a start.
      return { ...state, detail: event.why, entrypoint: 0, failed: 0, lastEndedSoon: false };
    case "pending":
      return { ...state, detail: `waiting for an operator to answer, code ${event.code}` };
    case "tunnel-up":
      return stageWhenUp({ ...state, tunnel: "up", renewedInVain: false });
    case "vm":
      return stageWhenUp({ ...state, vm: event.vm, lastError: event.error ?? state.lastError });
    case "trouble":
      return { ...state, lastError: event.error };
  }
}

function overProxies(state: State): Action {
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
    case "open-proxies":
      return state.credentials
        ? at("proxies", `connecting to ${nameOf(state)}`, "connecting")
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
function stageWhenUp(state: State): State {
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
  const refused = event.end.kind === "key-refused";
  const error = event.end.text;
  const asDevice = action.do === "open-proxies" && action.key === "device";
  if (asDevice && refused && !state.renewedInVain && state.enrols) {
    // Most often it expired while the device was off. Proxies let the enrolment key through as far as the server.
    return begin({ ...state, key: "enrolment", lastError: error }, { do: "open-proxies", key: "enrolment" });
  }
  const next: State = { ...state, key: state.credentials ? "device" : "enrolment", renewedInVain: false };
  if ((action.do === "renew" || action.do === "tunnel") && refused) return refusedByServer(next);
  if (action.do === "find-network") return again(next, error, event.proxies);
  // A renewal is only ever needed over connections with the enrolment key, which the next attempt does not begin with.
  return tryNextEntrypoint(next, error, event.proxies && action.do !== "renew");
}

function tunnelEnded(state: State, event: Extract<Event, { type: "tunnel-ended" }>): State {
  const { kind, text } = event.end;
  if (kind === "key-refused") return refusedByServer(state);
  const stable = event.up >= STABLE;
  const next = stable ? { ...state, failed: 0, lastEndedSoon: false, failures: 0 } : state;
  // An entrypoint is judged by what passes through the tunnel: one that carried it is given another chance, once.
  const carried = event.up > 0 && kind !== "silent" && kind !== "stalled" && !next.lastEndedSoon;
  if (carried) return again({ ...next, lastEndedSoon: !stable }, text, event.proxies);
  return tryNextEntrypoint(next, text, event.proxies);
}

/** A failure after which the same entrypoint is tried again. */
function again(state: State, error: string, proxies: boolean): State {
  return waiting({ ...state, failures: state.failures + 1 }, error, proxies);
}

/** A failure of the entrypoint: the next one is tried soon, and when all have failed after a wait that grows. */
function tryNextEntrypoint(state: State, error: string, proxies: boolean): State {
  const count = state.entrypoints.length;
  const failed = state.failed + 1;
  const entrypoint = (state.entrypoint + 1) % count;
  const next = { ...state, entrypoint, lastEndedSoon: false };
  if (failed >= count) return again({ ...next, failed: 0 }, error, proxies && count === 1);
  const wait = begin({ ...next, failed }, { do: "wait", ms: FIRST_WAIT, keepProxies: false });
  return { ...stageAfterLoss(wait, false), lastError: error, detail: "waiting to try the next entrypoint" };
}

function waiting(state: State, error: string, proxies: boolean): State {
  const keepProxies = proxies && state.failures % FAILURES_PER_CHAIN !== 0;
  const next = begin(state, { do: "wait", ms: backoff(state.failures), keepProxies });
  return { ...stageAfterLoss(next, proxies), lastError: error, detail: "waiting to try again" };
}

function refusedByServer(state: State): State {
  const next = begin(state, { do: "wait", ms: REFUSED_WAIT, keepProxies: false });
  const error = state.enrols ? REFUSED_BY_SERVER : UNKNOWN_TO_SERVER;
  return { ...stageAfterLoss(next, true), lastError: error, detail: "waiting to try again" };
}

/** A device whose boot was over is back at the stage that failed. */
function stageAfterLoss(state: State, proxies: boolean): State {
  return state.stage === "vm" || state.stage === "watch"
    ? { ...state, stage: proxies ? "tunnel" : "proxies" }
    : state;
}
