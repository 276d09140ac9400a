/** The state machine of a device's boot: which state follows on which event. */

import { describe, expect, test } from "bun:test";
import { parseEntrypoint } from "../../../src/address.ts";
import {
  type Action,
  type Event,
  entrypointOf,
  initial,
  REFUSED_BY_SERVER,
  REFUSED_WAIT,
  retryWait,
  STABLE,
  type State,
  step,
  UNKNOWN_TO_SERVER,
} from "../../../src/device/boot/state.ts";
import type { End } from "../../../src/end.ts";
import type { Denial } from "../../../src/enrolment/messages.ts";
import { backoff, LONGEST_WAIT } from "../../../src/linux/sleep.ts";

const after = (state: State, ...events: Event[]): State => events.reduce(step, state);

const entrypoints = [parseEntrypoint("a:22")];
const fresh = initial({ credentials: false, vm: true, entrypoints });
const known = initial({ credentials: true, vm: true, entrypoints });
const network: Event = { type: "network" };
const open: Event = { type: "proxies-open" };
const broke: End = { kind: "broken", text: "it broke" };
const keyRefused: End = { kind: "key-refused", text: "proxy a:22: it does not accept our key" };
const silent: End = { kind: "silent", text: "it was silent" };
const failed = (o: Partial<Extract<Event, { type: "failed" }>> = {}): Event => ({
  type: "failed",
  end: broke,
  proxies: false,
  ...o,
});
const ended = (o: Partial<Extract<Event, { type: "tunnel-ended" }>> = {}): Event => ({
  type: "tunnel-ended",
  end: broke,
  up: 0,
  proxies: true,
  ...o,
});
const denied: Event = {
  type: "denied",
  denial: { reason: "nobody-watching", message: "nobody watches", retryAfter: 5 },
  proxies: true,
};

describe("a first boot", () => {
  test("goes from the network to the credentials with the enrolment key", () => {
    expect(fresh.action).toEqual({ do: "find-network" });
    const proxies = after(fresh, network);
    expect(proxies.action).toEqual({ do: "open-proxies", key: "enrolment" });
    expect(proxies.stage).toBe("credentials");
    expect(after(proxies, open).action).toEqual({ do: "ask" });
  });

  test("shows what it waits for while there is no network", () => {
    const waiting = after(fresh, { type: "no-network", why: "no cable" });
    expect(waiting).toMatchObject({ stage: "network", detail: "no cable", action: { do: "find-network" } });
  });

  test("shows the code while the operator thinks", () => {
    const pending = after(fresh, network, open, { type: "pending", code: "AAAAA-BBBBB" });
    expect(pending.detail).toBe("waiting for an operator to answer, code AAAAA-BBBBB");
    expect(pending.action).toEqual({ do: "ask" });
  });

  test("asks again over the same proxies after a denial, when the server says", () => {
    const waiting = after(fresh, network, open, denied);
    expect(waiting.action).toEqual({ do: "wait", ms: 5000, keepProxies: true });
    expect(waiting).toMatchObject({ lastError: "denied: nobody watches", detail: "waiting to ask again" });
    expect(after(waiting, { type: "waited", proxies: true }).action).toEqual({ do: "ask" });
  });

  test("opens the proxies again when they died during the wait", () => {
    const waited = after(fresh, network, open, denied, { type: "waited", proxies: false });
    expect(waited.action).toEqual({ do: "find-network" });
    expect(after(waited, network).action).toEqual({ do: "open-proxies", key: "enrolment" });
  });

  test("goes on with the device key once the device is accepted", () => {
    const granted = after(
      fresh,
      network,
      open,
      denied,
      { type: "waited", proxies: true },
      { type: "granted" },
    );
    expect(granted).toMatchObject({
      action: { do: "open-proxies", key: "device" },
      stage: "proxies",
      lastError: null,
    });
    expect(after(granted, open).action).toEqual({ do: "tunnel" });
  });
});

describe("a boot with credentials", () => {
  test("never asks: network, proxies, tunnel, vm, watch", () => {
    const stages: string[] = [];
    let state = known;
    for (const event of [
      network,
      open,
      { type: "tunnel-up" },
      { type: "vm", vm: "starting" },
      { type: "vm", vm: "running" },
    ] satisfies Event[]) {
      state = step(state, event);
      stages.push(state.stage);
    }
    expect(stages).toEqual(["proxies", "tunnel", "vm", "vm", "watch"]);
  });

  test("without a virtual machine the boot is complete when the tunnel is up", () => {
    const state = after(initial({ credentials: true, vm: false, entrypoints }), network, open, {
      type: "tunnel-up",
    });
    expect(state).toMatchObject({ stage: "watch", tunnel: "up", vm: "off" });
  });

  test("a virtual machine that ends while the tunnel is up is shown", () => {
    const up = after(known, network, open, { type: "tunnel-up" }, { type: "vm", vm: "running" });
    const state = after(up, { type: "vm", vm: "waiting", error: "QEMU was killed" });
    expect(state).toMatchObject({ stage: "vm", vm: "waiting", lastError: "QEMU was killed", tunnel: "up" });
  });
});

describe("failures", () => {
  test("wait longer each time, and never longer than the longest wait", () => {
    expect([1, 2, 3, 4].map(backoff)).toEqual([500, 1000, 2000, 4000]);
    expect(backoff(7)).toBe(LONGEST_WAIT);
    expect(backoff(1_000_000)).toBe(LONGEST_WAIT);
  });

  test("a proxy that cannot be reached is tried again with growing waits", () => {
    let state = after(known, network);
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      state = step(state, failed());
      if (state.action.do === "wait") waits.push(state.action.ms);
      state = after(state, { type: "waited", proxies: false }, network);
    }
    expect(waits).toEqual([500, 500, 500, 1000, 1000, 1000, 2000, 2000, 2000, 4000]);
    expect(retryWait(1_000_000)).toBe(4000);
    expect(state).toMatchObject({ action: { do: "open-proxies", key: "device" }, lastError: "it broke" });
  });

  test("a tunnel that ended is built again over the same proxies, if they are still connected", () => {
    const up = after(known, network, open, { type: "tunnel-up" }, { type: "vm", vm: "running" });
    const state = after(up, ended({ up: STABLE }));
    expect(state).toMatchObject({
      action: { do: "wait", ms: 500, keepProxies: true },
      stage: "tunnel",
      tunnel: "down",
      vm: "running",
    });
    expect(after(state, { type: "waited", proxies: true }).action).toEqual({ do: "tunnel" });
  });

  test("after a tunnel that was up, and in another network, waits are short again", () => {
    let state = after(known, network, open);
    for (let i = 0; i < 9; i++) state = after(state, ended(), { type: "waited", proxies: true });
    expect(after(state, ended()).action).toMatchObject({ ms: 4000 });
    expect(after(state, ended({ up: 1 })).action).toMatchObject({ ms: 500 });
    const waited = (changed: boolean): Event => ({ type: "waited", proxies: true, changed });
    expect(after(state, ended(), waited(false), ended()).action).toMatchObject({ ms: 4000 });
    expect(after(state, ended(), waited(true), ended()).action).toMatchObject({ ms: 500 });
  });

  test("a wait knows whether a tunnel was lost before it, and whether a proxy dropped the connection", () => {
    const up = after(known, network, open, { type: "tunnel-up" });
    const lost = after(up, ended({ up: 1, proxies: false }));
    expect(lost).toMatchObject({ lost: true, dropped: false });
    const kept = after(up, ended({ up: 1 }));
    expect(after(kept, { type: "waited", proxies: true })).toMatchObject({ lost: true });
    const dropped = after(lost, { type: "waited", proxies: false }, network, failed());
    expect(dropped).toMatchObject({ lost: false, dropped: true });
    const later = after(dropped, { type: "waited", proxies: false }, network);
    expect(after(later, failed({ end: silent }))).toMatchObject({ lost: false, dropped: false });
    expect(after(later, open, failed())).toMatchObject({ dropped: false });
  });

  test("proxies over which nothing succeeds are connected anew after some failures", () => {
    let state = after(known, network, open);
    const kept: boolean[] = [];
    for (let i = 0; i < 15; i++) {
      state = step(state, ended());
      if (state.action.do === "wait") kept.push(state.action.keepProxies);
      state = after(state, { type: "waited", proxies: true });
    }
    expect(kept).toEqual([...Array(14).fill(true), false]);
  });
});

describe("refusals", () => {
  const refused = failed({ end: keyRefused });
  const renewal: Event = { type: "renewed", clocks: "12:00 by the server's clock" };

  test("a certificate that a proxy refuses is renewed by way of the enrolment key", () => {
    const way = after(known, network, refused);
    expect(way.action).toEqual({ do: "open-proxies", key: "enrolment" });
    expect(after(way, open).action).toEqual({ do: "renew" });
    const renewed = after(way, open, renewal);
    expect(renewed.action).toEqual({ do: "open-proxies", key: "device" });
    expect(after(renewed, open).action).toEqual({ do: "tunnel" });
  });

  test("where a new certificate is refused, too, the enrolment key carries the tunnel, and the clocks are said", () => {
    const state = after(known, network, refused, open, renewal, refused);
    expect(state).toMatchObject({
      action: { do: "open-proxies", key: "enrolment" },
      lastError: expect.stringContaining("that was new (12:00 by the server's clock): compare the clocks"),
    });
    const up = after(state, open, { type: "tunnel-up" });
    expect(up).toMatchObject({ action: { do: "tunnel" }, tunnel: "up" });
    // Over the same proxies the tunnel is built again; over new ones the certificate is tried first.
    const kept = after(up, ended({ up: STABLE }), { type: "waited", proxies: true });
    expect(kept.action).toEqual({ do: "tunnel" });
    const anew = after(up, ended({ proxies: false }), { type: "waited", proxies: false }, network);
    expect(anew.action).toEqual({ do: "open-proxies", key: "device" });
  });

  test("as long as it does not get through, no other certificate is made, however often the device tries", () => {
    let state = after(known, network, refused, open, renewal);
    let renewals = 0;
    for (let i = 0; i < 50; i++) {
      state = after(state, refused, open);
      if (state.action.do === "renew") renewals++;
      // Nothing gets through now.
      state = after(state, failed(), { type: "waited", proxies: false }, network);
    }
    expect(renewals).toBe(0);
    expect(after(state, refused, refused).action).toMatchObject({ do: "wait", ms: 4000 });
    // It got through: when that ends one day, the certificate is renewed.
    const later = after(state, open, { type: "tunnel-up" }, ended({ proxies: false }));
    const expired = after(later, { type: "waited", proxies: false }, network, refused, open);
    expect(expired.action).toEqual({ do: "renew" });
  });

  test("a proxy that refuses both keys is tried again later, with the certificate first", () => {
    const state = after(known, network, refused, refused);
    expect(state.action).toMatchObject({ do: "wait" });
    expect(after(state, { type: "waited", proxies: false }, network).action).toEqual({
      do: "open-proxies",
      key: "device",
    });
  });

  const denial = (more: Partial<Denial> = {}): Event => ({
    type: "denied",
    denial: { reason: "revoked", message: "this device was revoked", retryAfter: 5, ...more },
    proxies: true,
  });

  test("a device that the server refuses asks why over the same connections; revoked, it goes on slowly", () => {
    for (const state of [
      after(known, network, open, ended({ end: keyRefused, proxies: true })),
      after(known, network, refused, open, failed({ end: keyRefused, proxies: true })),
    ]) {
      expect(state).toMatchObject({
        action: { do: "ask" },
        lastError: REFUSED_BY_SERVER,
        credentials: true,
        detail: "asking the server about the refused key",
      });
      const slow = after(state, denial());
      expect(slow).toMatchObject({
        action: { do: "wait", ms: REFUSED_WAIT, keepProxies: false },
        lastError: "denied: this device was revoked",
        detail: "waiting to try again",
      });
      const next = after(slow, { type: "waited", proxies: false }, network, open);
      expect(next.action).toEqual({ do: "tunnel" });
    }
  });

  test("without connections to the proxies, and when the enrolment key is refused as well, it waits for long", () => {
    const lost = after(known, network, open, ended({ end: keyRefused, proxies: false }));
    expect(lost.action).toMatchObject({ do: "wait", ms: REFUSED_WAIT });
    const asked = after(known, network, open, ended({ end: keyRefused, proxies: true }));
    const both = after(asked, failed({ end: keyRefused, proxies: true }));
    expect(both).toMatchObject({ action: { do: "wait", ms: REFUSED_WAIT }, lastError: REFUSED_BY_SERVER });
  });

  test("a server that does not know the device takes it for a new one: it asks until it is answered", () => {
    const asked = after(known, network, open, ended({ end: keyRefused, proxies: true }));
    const nobody = after(asked, denial({ reason: "nobody-watching" }), { type: "waited", proxies: true });
    expect(nobody.action).toEqual({ do: "ask" });
    const granted = after(nobody, { type: "granted" });
    expect(granted).toMatchObject({ action: { do: "open-proxies", key: "device" }, refused: false });
    expect(after(granted, open).action).toEqual({ do: "tunnel" });
  });

  test("the word to forget counts of a revoked device only; it asks again with a new key", () => {
    const asked = after(known, network, open, ended({ end: keyRefused, proxies: true }));
    expect(after(asked, denial({ reason: "operator", forget: true })).action.do).toBe("wait");
    const told = after(asked, denial({ forget: true }));
    expect(told.action).toEqual({ do: "forget", retryAfter: 5 });
    const forgot = after(told, { type: "forgotten", proxies: true });
    expect(forgot).toMatchObject({
      action: { do: "wait", ms: 5000, keepProxies: true },
      credentials: false,
      key: "enrolment",
    });
    expect(after(forgot, { type: "waited", proxies: true }).action).toEqual({ do: "ask" });
    const later = after(forgot, { type: "waited", proxies: false }, network);
    expect(later.action).toEqual({ do: "open-proxies", key: "enrolment" });
    // A power cut may have left the key without credentials.
    expect(after(fresh, network, open, denial({ forget: true })).action.do).toBe("forget");
  });

  test("what a proxy refuses is told with its words, each time anew", () => {
    const first = after(known, network, refused);
    expect(first.refusal).toEqual({ text: keyRefused.text });
    const second = after(first, open, renewal, refused);
    expect(second.refusal).toEqual({ text: keyRefused.text });
    expect(second.refusal).not.toBe(first.refusal);
  });

  test("a device without credentials whose key a proxy refuses tries the same again", () => {
    const state = after(fresh, network, refused, { type: "waited", proxies: false }, network);
    expect(state.action).toEqual({ do: "open-proxies", key: "enrolment" });
  });
});

describe("several entrypoints", () => {
  const ways = ["a:22", "b:22", "ssh://c:2222"];
  const several = initial({ credentials: true, vm: false, entrypoints: ways.map(parseEntrypoint) });
  const wait = (ms: number, keepProxies = false): Action => ({ do: "wait", ms, keepProxies });
  const waited: Event = { type: "waited", proxies: false };
  /** The entrypoint that is used after each of these events. After each, wait and open the proxies. */
  const way = (state: State, ...events: Event[]): string[] => {
    const used: string[] = [];
    let now = state;
    for (const event of events) {
      now = after(now, event);
      const proxies = now.action.do === "wait" && now.action.keepProxies;
      now = after(now, { type: "waited", proxies });
      if (!proxies) now = after(now, network, open);
      used.push(ways[now.entrypoint] ?? "");
    }
    return used;
  };
  const over = (state: State): State => after(state, network, open);

  test("one that cannot be opened is followed by the next, soon, which is named", () => {
    const first = after(several, network);
    expect(first.detail).toBe("connecting to the entrypoint a:22 (1 of 3)");
    const next = after(first, failed());
    expect(next).toMatchObject({ action: wait(500), detail: "waiting to try the next entrypoint" });
    expect(next.lastError).toBe("it broke");
    expect(after(next, waited, network).detail).toBe("connecting to the entrypoint b:22 (2 of 3)");
  });

  test("after all of them the waits grow, as with one", () => {
    let state = several;
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      state = after(state, network, failed());
      if (state.action.do === "wait") waits.push(state.action.ms);
      state = after(state, waited);
    }
    expect(waits).toEqual([...Array(11).fill(500), 1000]);
    expect(state.entrypoint).toBe(0);
  });

  test("one that connects but carries no tunnel has failed, though its proxies are open", () => {
    expect(after(over(several), ended()).action).toEqual(wait(500));
    expect(way(over(several), ended(), ended(), ended())).toEqual(["b:22", "ssh://c:2222", "a:22"]);
  });

  test("one whose tunnel falls silent has failed, however long it was up", () => {
    expect(way(over(several), ended({ up: STABLE, end: silent }))).toEqual(["b:22"]);
    expect(way(over(several), ended({ up: 1, end: silent, proxies: true }))).toEqual(["b:22"]);
    const foreign: End = { kind: "walt-proxy", text: "a proxy of WalT's own" };
    expect(way(over(several), ended({ up: 1, end: foreign, proxies: true }))).toEqual(["b:22"]);
  });

  test("one whose tunnel ends soon gets a second chance, not a third", () => {
    const soon = ended({ up: STABLE - 1 });
    expect(way(over(several), soon, soon, soon, soon)).toEqual(["a:22", "b:22", "b:22", "ssh://c:2222"]);
  });

  test("a tunnel that ends after a while is built again over the same entrypoint", () => {
    const later = after(several, network, failed(), waited, network, open, { type: "tunnel-up" });
    const lasted = ended({ up: STABLE });
    expect(way(later, lasted, lasted, lasted)).toEqual(["b:22", "b:22", "b:22"]);
    expect(after(later, lasted).action).toEqual(wait(500, true));
  });

  test("after a long tunnel, earlier failures do not count", () => {
    let state = after(several, network, failed(), waited, network, failed(), waited, network, open);
    state = after(state, ended({ up: STABLE, end: silent }));
    // One failure, of three: no long wait yet.
    expect(state).toMatchObject({ action: wait(500), failed: 1, entrypoint: 0, failures: 0 });
  });

  test("enrolment uses the first entrypoint that works, and the tunnel uses the same", () => {
    const asking = initial({ credentials: false, vm: false, entrypoints: ways.map(parseEntrypoint) });
    const second = after(
      asking,
      network,
      open,
      failed({ proxies: true, end: { kind: "failed", text: "the server says nothing" } }),
    );
    expect(second.action).toEqual(wait(500));
    const asked = after(second, waited, network, open);
    expect(asked).toMatchObject({ action: { do: "ask" }, entrypoint: 1 });
    const later = after(asked, denied);
    expect(later).toMatchObject({ action: wait(5000, true), entrypoint: 1, failed: 0 });
    const granted = after(later, { type: "waited", proxies: true }, { type: "granted" });
    expect(granted).toMatchObject({ action: { do: "open-proxies", key: "device" }, entrypoint: 1 });
  });

  test("an expired certificate is renewed over the same entrypoint; one that refuses both keys has failed", () => {
    const refused = failed({ end: keyRefused });
    const renewing = after(several, network, refused);
    expect(renewing).toMatchObject({ action: { do: "open-proxies", key: "enrolment" }, entrypoint: 0 });
    const next = after(renewing, refused);
    expect(next.entrypoint).toBe(1);
    expect(after(next, waited, network).action).toEqual({ do: "open-proxies", key: "device" });
  });

  test("a server that refuses the device refuses it through every entrypoint", () => {
    const state = after(over(several), ended({ end: keyRefused, proxies: false }));
    expect(state).toMatchObject({ action: { ms: REFUSED_WAIT }, entrypoint: 0 });
  });

  test("a device that lost its own network begins with the first entrypoint", () => {
    const lost = after(several, network, failed(), waited, { type: "no-network", why: "no cable" });
    expect(lost).toMatchObject({ entrypoint: 0, failed: 0 });
  });
});

test("a server without enrolment is never asked for access: only a person can help against a refused key", () => {
  const original = initial({ credentials: true, vm: true, entrypoints, enrols: false });
  const refusedByProxy = after(original, network, failed({ end: keyRefused }));
  expect(refusedByProxy).toMatchObject({
    key: "device",
    action: { do: "wait" },
    lastError: keyRefused.text,
  });
  const refused = after(original, network, open, ended({ end: keyRefused }));
  expect(refused).toMatchObject({
    lastError: UNKNOWN_TO_SERVER,
    action: { do: "wait", ms: REFUSED_WAIT, keepProxies: false },
  });
});

test("other settings: whatever the action comes to, the device connects anew with the first entrypoint", () => {
  const entrypoints = ["new.example", "other.example"].map(parseEntrypoint);
  const first = initial({ credentials: true, vm: true, entrypoints: [parseEntrypoint("old.example")] });
  const up = [
    { type: "network" },
    { type: "proxies-open" },
    { type: "tunnel-up" },
    { type: "vm", vm: "running" },
  ] satisfies Event[];
  const outcomes: Event[] = [
    { type: "tunnel-ended", end: { kind: "stopped", text: "x" }, up: 60_000, proxies: true },
    { type: "failed", end: { kind: "key-refused", text: "x" }, proxies: true },
    { type: "waited", proxies: true },
  ];
  for (const outcome of outcomes) {
    const told = step(up.reduce(step, first), { type: "settings", entrypoints });
    expect(told).toMatchObject({ restart: true, entrypoint: 0, stage: "watch", vm: "running" });
    const next = step(told, outcome);
    expect(next).toMatchObject({
      action: { do: "wait", ms: 0, keepProxies: false },
      ...{ restart: false, stage: "proxies", tunnel: "down", vm: "running", failures: 0 },
    });
    expect(entrypointOf(next)).toEqual(parseEntrypoint("new.example"));
    expect(step(next, { type: "waited", proxies: false }).action).toEqual({ do: "find-network" });
  }
});
