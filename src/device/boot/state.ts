/**
 * The boot of a device as a pure state machine: network → proxies → tunnel → vm → watch, with a
 * detour to credentials while the device has none.
 *
 * `step` takes a state and an event, and returns the next state. The `action` of a state is the one thing to
 * do now. The supervisor (supervisor.ts) does it, and passes its outcome as the next event. There is no I/O,
 * no clock and no randomness here.
 */

import { type Entrypoint, formatEntrypoint } from "../../address.ts";
import type { DeviceStatus } from "../../api/device-status.ts";
import type { End, EndKind } from "../../end.ts";
import type { Denial } from "../../enrolment/messages.ts";
import { backoff, FIRST_WAIT } from "../../linux/sleep.ts";

/**
 * How far the boot is.
 *
 * - `network`: no usable network yet.
 * - `credentials`: asking the server for access or for a new certificate.
 * - `proxies`: connecting to the proxies with the device key.
 * - `tunnel`: connecting to the server behind them.
 * - `vm`: the tunnel is up; the virtual machine is starting, or being started again.
 * - `watch`: everything is up.
 */
export type Stage = "network" | "credentials" | "proxies" | "tunnel" | "vm" | "watch";

/** What the supervisor does now. Each action ends with an event. */
export type Action =
  /** Wait until there is a usable network. */
  | { readonly do: "find-network" }
  /** Connect to the proxies with one of the two keys that they accept. */
  | { readonly do: "open-proxies"; readonly key: ProxyKey }
  /** Ask the server for access, and wait for the operator's answer. */
  | { readonly do: "ask" }
  /** Delete credentials and device key, and make a new key. */
  | { readonly do: "forget"; readonly retryAfter: number }
  /** Fetch a new certificate, because a proxy refuses the present one. */
  | { readonly do: "renew" }
  /** Build the tunnel, and wait until it ends. */
  | { readonly do: "tunnel" }
  /** Wait `ms` and some jitter. Without `keepProxies` the connections to the proxies are closed first. */
  | { readonly do: "wait"; readonly ms: number; readonly keepProxies: boolean };

/** The enrolment key of the SD card, or the device key with its certificate. */
export type ProxyKey = "enrolment" | "device";

/** What happened. In all events, `proxies` says whether the connections to the proxies are still open. */
export type Event =
  // Outcomes of actions:
  /** `find-network` found a network. */
  | { readonly type: "network" }
  /** `open-proxies` connected to all proxies. */
  | { readonly type: "proxies-open" }
  /** `ask`: the device was accepted, and its credentials are on the disk. */
  | { readonly type: "granted" }
  /** `ask`: the device was denied. */
  | { readonly type: "denied"; readonly denial: Denial; readonly proxies: boolean }
  /** `forget`: there is a new key. */
  | { readonly type: "forgotten"; readonly proxies: boolean }
  /** `renew`: the new certificate is on the disk. `clocks` says in words what the clocks showed then. */
  | { readonly type: "renewed"; readonly clocks: string }
  /** Any action failed. */
  | { readonly type: "failed"; readonly end: End; readonly proxies: boolean }
  /** `tunnel`: the tunnel ended. It was up for `up` ms; 0 = never. */
  | {
      readonly type: "tunnel-ended";
      readonly end: End;
      readonly up: number;
      readonly proxies: boolean;
    }
  /** `wait` is over. `changed`: it ended early, because the network is another one now. */
  | { readonly type: "waited"; readonly proxies: boolean; readonly changed?: boolean }
  // What happens during an action. The action goes on.
  /** There is no usable network yet. */
  | { readonly type: "no-network"; readonly why: string }
  /** The request for access waits for an operator. `code` is the short code of the device key. */
  | { readonly type: "pending"; readonly code: string }
  /** The tunnel is up. */
  | { readonly type: "tunnel-up" }
  /** The virtual machine has another status. */
  | { readonly type: "vm"; readonly vm: DeviceStatus["vm"]; readonly error?: string }
  /** Something went wrong that does not stop the action. */
  | { readonly type: "trouble"; readonly error: string }
  /** The entrypoints are others now: the action is being stopped, and the device connects anew. */
  | { readonly type: "settings"; readonly entrypoints: readonly Entrypoint[] };

/** Types of the outcomes of actions. */
const OUTCOMES: readonly Event["type"][] = [
  ...(["network", "proxies-open", "granted", "denied", "forgotten", "renewed", "failed"] as const),
  ...(["tunnel-ended", "waited"] as const),
];

export interface State {
  readonly stage: Stage;
  /** What the device is doing in this stage, in words. What went wrong is only in `lastError`. */
  readonly detail: string;
  /** What went wrong last, in words; null = nothing yet. It is cleared when the device is accepted. */
  readonly lastError: string | null;
  /** What to do now. */
  readonly action: Action;
  /** The device has credentials on its disk, or needs none (`enrols` is false). */
  readonly credentials: boolean;
  /** The key for the next connections to proxies. */
  readonly key: ProxyKey;
  /**
   * Set while a certificate that was renewed because a proxy refused it has not got through: another renewal
   * would not help. It says in words what the clocks showed at that renewal.
   */
  readonly renewedInVain: string | undefined;
  /** The server refuses the device key: it is asked what became of the device, as a device without credentials asks. */
  readonly refused: boolean;
  /** A proxy refused the certificate: why. A new object each time. */
  readonly refusal: { readonly text: string } | undefined;
  /** The entrypoints, at least one, the preferred one first. */
  readonly entrypoints: readonly Entrypoint[];
  /** Index of the entrypoint that is used. */
  readonly entrypoint: number;
  /**
   * How many entrypoints failed in a row. When all of them have, that counts as one failure of the device.
   */
  readonly failed: number;
  /** The last tunnel through this entrypoint was up, but for less than STABLE. */
  readonly lastEndedSoon: boolean;
  /** The settings have changed: whatever the action comes to, the device connects anew. */
  readonly restart: boolean;
  /** Failures of the device in a row. They decide how long to wait. */
  readonly failures: number;
  /** A tunnel was up, and since then no wait has closed the connections to the proxies. */
  readonly lost: boolean;
  /** A proxy closed the last connection before the login. */
  readonly dropped: boolean;
  readonly tunnel: DeviceStatus["tunnel"];
  readonly vm: DeviceStatus["vm"];
  /** The device is to run a virtual machine. */
  readonly vmWanted: boolean;
  /** The server gives out and renews credentials. A server of WalT's own VPN is never asked for them. */
  readonly enrols: boolean;
}

/** After a tunnel was up for this long, ms, earlier failures of entrypoints do not count any more. */
export const STABLE = 30_000;
/** How long a device waits that the server has revoked, ms. Only a person can change that. */
export const REFUSED_WAIT = 60_000;
/**
 * The longest wait after failures, ms: a device is back within 5 s after an outage of any length. An attempt
 * costs the board a process and the proxy a connection.
 */
const LONGEST_RETRY = 4000;
/** So many failures in a row have the same wait; then it is doubled. A daemon that is restarted takes seconds. */
const FAILURES_PER_WAIT = 3;
/**
 * After this many failures over the same connections to proxies, which take half a minute, these are opened
 * anew: one may hang. To open them costs a proxy more than a refused tunnel does.
 */
const FAILURES_PER_CHAIN = 15;

/** The error of a device that the server does not accept any more. */
export const REFUSED_BY_SERVER =
  "the server refuses this device's key: the device was revoked, or the server lost its registry";

/** The error of a device that a server of WalT's own VPN does not accept. */
export const UNKNOWN_TO_SERVER =
  "the server refuses this device's key: add its public key to the authorized_keys of walt-vpn there";

/**
 * The error of a device whose certificate a proxy refuses although it is new.
 * @param clocks see `State.renewedInVain`.
 */
function freshRefused(refusal: string, clocks: string): string {
  return (
    `${refusal}. It refuses a certificate that was new (${clocks}): compare the clocks of the server and of ` +
    "the proxy, and let CASignatureAlgorithms of its sshd hold ssh-ed25519. Until then the enrolment key " +
    "carries the tunnel"
  );
}

/**
 * The state of a device that was just switched on.
 * @param o its settings; see the fields of `State`. `vm` says whether to run a virtual machine. There must be
 *   at least one entrypoint. `enrols` is true by default.
 */
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
    renewedInVain: undefined,
    refused: false,
    refusal: undefined,
    entrypoints: o.entrypoints,
    entrypoint: 0,
    failed: 0,
    lastEndedSoon: false,
    restart: false,
    failures: 0,
    lost: false,
    dropped: false,
    tunnel: "down",
    vm: "off",
    vmWanted: o.vm,
  };
}

/** The state that follows on `state` when `event` happens. */
export function step(state: State, event: Event): State {
  if (state.restart && OUTCOMES.includes(event.type)) return restarted(state);
  switch (event.type) {
    case "network":
      return openProxies(state, state.credentials ? "device" : "enrolment");
    case "proxies-open": {
      // They accept the certificate.
      const renewedInVain = state.key === "device" ? undefined : state.renewedInVain;
      return begin({ ...state, renewedInVain }, nextOverProxies(state));
    }
    case "granted":
      // The present connections to the proxies used the enrolment key. From now on the device key is used.
      return openProxies(
        { ...state, credentials: true, refused: false, failed: 0, failures: 0, lastError: null },
        "device",
      );
    case "denied":
      return denied(state, event);
    case "forgotten": {
      const { action } = state;
      const ms = action.do === "forget" ? action.retryAfter * 1000 : 0;
      const next = { ...state, credentials: false, refused: false, renewedInVain: undefined };
      return { ...next, key: "enrolment", action: { do: "wait", ms, keepProxies: event.proxies } };
    }
    case "renewed":
      return openProxies({ ...state, renewedInVain: event.clocks }, "device");
    case "failed":
      return failed(state, event);
    case "tunnel-ended":
      return tunnelEnded(state, event);
    case "waited": {
      // What failed in another network says nothing about this one.
      const fresh = event.changed ? { ...state, failures: 0, failed: 0 } : state;
      const keptProxies = state.action.do === "wait" && state.action.keepProxies;
      const next = { ...fresh, lost: state.lost && keptProxies, dropped: false };
      return begin(next, event.proxies ? nextOverProxies(next) : { do: "find-network" });
    }
    case "no-network":
      // Without a network no entrypoint is to blame. Once it is back, begin with the first entrypoint.
      return { ...state, detail: event.why, entrypoint: 0, failed: 0, lastEndedSoon: false };
    case "pending":
      return { ...state, detail: `waiting for an operator to answer, code ${event.code}` };
    case "tunnel-up":
      return stageWhenUp({ ...state, tunnel: "up", lost: true });
    case "vm":
      return stageWhenUp({ ...state, vm: event.vm, lastError: event.error ?? state.lastError });
    case "trouble":
      return { ...state, lastError: event.error };
    case "settings":
      return { ...state, entrypoints: event.entrypoints, entrypoint: 0, restart: true, lastError: null };
  }
}

/** The device connects anew, with other settings. */
function restarted(state: State): State {
  const key = state.credentials ? "device" : "enrolment";
  const fresh = {
    ...state,
    key,
    restart: false,
    refused: false,
    renewedInVain: undefined,
    failed: 0,
    failures: 0,
  } as const;
  const next = begin({ ...fresh, lastEndedSoon: false }, { do: "wait", ms: 0, keepProxies: false });
  return { ...stageAfterLoss(next, false), detail: "connecting with other settings" };
}

/** Connect to the proxies with this key. */
function openProxies(state: State, key: ProxyKey): State {
  return begin({ ...state, key }, { do: "open-proxies", key });
}

/**
 * What to do once the proxies are connected. Where a new certificate does not help, the enrolment key carries
 * the tunnel: the server knows the device by its own key all the same.
 */
function nextOverProxies(state: State): Action {
  if (!state.credentials || state.refused) return { do: "ask" };
  return { do: state.key === "enrolment" && state.renewedInVain === undefined ? "renew" : "tunnel" };
}

/** The state in which `action` begins: with the stage and the words that belong to it. */
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
      return { ...at("network", "looking for a network"), refused: false };
    case "open-proxies":
      return state.credentials
        ? at("proxies", `connecting to ${nameOf(state)}`, "connecting")
        : at("credentials", `connecting to ${nameOf(state)} to ask for access`);
    case "ask":
      return at(
        "credentials",
        state.credentials ? "asking the server about the refused key" : "asking the server for access",
      );
    case "forget":
      return at("credentials", "forgetting the key, as the server says");
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

/** The current entrypoint in words. Only one of several is named: the user knows which is the only one. */
function nameOf(state: State): string {
  const count = state.entrypoints.length;
  if (count === 1) return "the entrypoint";
  return `the entrypoint ${formatEntrypoint(entrypointOf(state))} (${state.entrypoint + 1} of ${count})`;
}

/** Set the stage of a device whose tunnel is up. A state without tunnel is returned unchanged. */
function stageWhenUp(state: State): State {
  if (state.tunnel !== "up") return state;
  if (!state.vmWanted) return { ...state, stage: "watch", detail: "the tunnel is up" };
  if (state.vm === "powered-off")
    return { ...state, stage: "watch", detail: "the tunnel is up, and the virtual machine is powered off" };
  if (state.vm === "running")
    return { ...state, stage: "watch", detail: "tunnel and virtual machine are up" };
  const detail =
    state.vm === "waiting"
      ? "the virtual machine ended and is being started again"
      : "starting the virtual machine";
  return { ...state, stage: "vm", detail };
}

/** An action failed. */
function failed(state: State, event: Extract<Event, { type: "failed" }>): State {
  const { action } = state;
  const { kind, text: error } = event.end;
  const refused = kind === "key-refused";
  const asDevice = action.do === "open-proxies" && action.key === "device";
  if (asDevice && refused && state.enrols) {
    // Usually the certificate expired while the device was off. Proxies accept the enrolment key, too, and so
    // the device can reach the server to renew it.
    const lastError = state.renewedInVain === undefined ? error : freshRefused(error, state.renewedInVain);
    return openProxies({ ...state, lastError, refusal: { text: error } }, "enrolment");
  }
  const dropped = action.do === "open-proxies" && (kind === "closed" || kind === "broken");
  const next: State = { ...state, dropped, key: state.credentials ? "device" : "enrolment" };
  const asksAsKnown = action.do === "ask" && state.credentials;
  if ((action.do === "renew" || action.do === "tunnel" || asksAsKnown) && refused)
    return refusedByServer(next, event.proxies);
  if (action.do === "find-network") return again(next, error, event.proxies);
  // After a failed renewal the connections to the proxies cannot be used: they were made with the enrolment
  // key, and the next attempt begins with the device key.
  return tryNextEntrypoint(next, error, event.proxies && action.do !== "renew");
}

/** Kinds of ends of a tunnel that was up in vain. */
const CARRIED_NOTHING: readonly EndKind[] = ["silent", "stalled", "walt-proxy"];

/** The tunnel ended: try the same entrypoint again, or the next one. */
function tunnelEnded(state: State, event: Extract<Event, { type: "tunnel-ended" }>): State {
  const { kind, text } = event.end;
  if (kind === "key-refused") return refusedByServer(state, event.proxies);
  const stable = event.up >= STABLE;
  // What was up works: earlier failures do not make the device wait any longer.
  const tried = event.up > 0 ? { ...state, failures: 0 } : state;
  const next = stable ? { ...tried, failed: 0, lastEndedSoon: false } : tried;
  // An entrypoint through which a tunnel came up gets a second chance, but only one if that tunnel ended
  // soon. A tunnel that was silent or stalled does not count: nothing passed through it in the end. Nor does
  // one to a proxy of WalT's own.
  const carried = event.up > 0 && !CARRIED_NOTHING.includes(kind) && !next.lastEndedSoon;
  if (carried) return again({ ...next, lastEndedSoon: !stable }, text, event.proxies);
  return tryNextEntrypoint(next, text, event.proxies);
}

/** One more failure of the device: wait, longer after each, and try the same entrypoint again. */
function again(state: State, error: string, proxies: boolean): State {
  return waiting({ ...state, failures: state.failures + 1 }, error, proxies);
}

/**
 * A failure of the entrypoint: try the next one soon. When all have failed, that is a failure of the device,
 * after which it waits longer each time.
 */
function tryNextEntrypoint(state: State, error: string, proxies: boolean): State {
  const count = state.entrypoints.length;
  const failed = state.failed + 1;
  const entrypoint = (state.entrypoint + 1) % count;
  const next = { ...state, entrypoint, lastEndedSoon: false };
  if (failed >= count) return again({ ...next, failed: 0 }, error, proxies && count === 1);
  const wait = begin({ ...next, failed }, { do: "wait", ms: FIRST_WAIT, keepProxies: false });
  return { ...stageAfterLoss(wait, false), lastError: error, detail: "waiting to try the next entrypoint" };
}

/** How long a device waits after so many failures in a row, ms, before it tries again. */
export function retryWait(failures: number): number {
  return Math.min(LONGEST_RETRY, backoff(Math.ceil(failures / FAILURES_PER_WAIT)));
}

/** Wait after a failure, as long as `state.failures` says. */
function waiting(state: State, error: string, proxies: boolean): State {
  const keepProxies = proxies && state.failures % FAILURES_PER_CHAIN !== 0;
  const ms = retryWait(state.failures);
  const next = begin(state, { do: "wait", ms, keepProxies });
  return { ...stageAfterLoss(next, proxies), lastError: error, detail: "waiting to try again" };
}

/**
 * The server refuses the device key. A server with enrolment is asked over the same connections: it may know the
 * device, tell it to forget its key, or have lost its registry, and take the request as a new one.
 */
function refusedByServer(state: State, proxies: boolean): State {
  const lastError = state.enrols ? REFUSED_BY_SERVER : UNKNOWN_TO_SERVER;
  if (state.enrols && proxies && state.action.do !== "ask")
    return begin({ ...state, lastError, refused: true }, { do: "ask" });
  return refusedWait(state, lastError);
}

/** Close the connections to the proxies, and wait for long: only a person can change something. */
function refusedWait(state: State, lastError: string): State {
  const next = begin(state, { do: "wait", ms: REFUSED_WAIT, keepProxies: false });
  return { ...stageAfterLoss(next, true), lastError, detail: "waiting to try again" };
}

/** The server has denied a request for access, by the host key that this device knows it by. */
function denied(state: State, { denial, proxies }: Extract<Event, { type: "denied" }>): State {
  const next = { ...state, lastError: `denied: ${denial.message}`, failed: 0, failures: 0 };
  const { reason, forget, retryAfter } = denial;
  if (reason === "revoked" && forget === true) return begin(next, { do: "forget", retryAfter });
  if (reason === "revoked" && state.credentials) return refusedWait(next, next.lastError);
  const wait = { do: "wait", ms: retryAfter * 1000, keepProxies: proxies } as const;
  return { ...next, detail: "waiting to ask again", action: wait };
}

/**
 * The stage after a failure. A device whose tunnel was up goes back to the stage that failed; others stay
 * where they are.
 */
function stageAfterLoss(state: State, proxies: boolean): State {
  return state.stage === "vm" || state.stage === "watch"
    ? { ...state, stage: proxies ? "tunnel" : "proxies" }
    : state;
}
