/** Twenty rounds of chaos, always the same ones; and that what looks for losses and leftovers finds them. */

import { describe, expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION } from "../lab/world.ts";
import { chaos } from "./chaos.ts";
import { Choice } from "./choice.ts";
import { differences, kindOf } from "./inventory.ts";
import { losses } from "./possessions.ts";

const ROUNDS = 20;
const SEED = 15;

describeWith(INTEGRATION, "chaos", () => {
  test("after each of 20 rounds all nodes are answered, nothing is lost, and nothing is left", async () => {
    const rounds = Array.from({ length: ROUNDS }, (_, i) => i + 1);
    const made = await chaos({ seed: SEED, rounds });
    expect(made.map(({ round }) => round)).toEqual(rounds);
    expect(made.filter(({ back, whole }) => back < 0 || whole < 0)).toEqual([]);
    // They are of several kinds.
    expect(new Set(made.map(({ kind }) => kind)).size).toBeGreaterThan(5);
  }, 900_000);
});

describe("what looks for losses and leftovers", () => {
  test("tells a process, an interface or a file that is missing or too much, and descriptors that grow", () => {
    const before = new Map([
      ["process: dnsmasq", 1],
      ["interface: tap-…", 3],
      ["file: /run/a", 1],
      ["descriptor of the daemon: socket", 10],
    ]);
    expect(differences(before, before)).toEqual([]);
    const now = new Map([
      ["interface: tap-…", 4],
      ["file: /run/a", 1],
      ["file: /run/a.tmp", 1],
      ["descriptor of the daemon: socket", 15],
    ]);
    expect(differences(before, now)).toEqual([
      "descriptor of the daemon: socket: 10 → 15",
      "file: /run/a.tmp: 0 → 1",
      "interface: tap-…: 3 → 4",
      "process: dnsmasq: 1 → 0",
    ]);
  });

  test("tells a name that changed and a serial number that went back, and no device that is new", () => {
    const before = new Map([
      ["a", { identity: "vpn-1 52:54:00:00:00:01", serial: 7 }],
      ["b", { identity: "vpn-2 52:54:00:00:00:02", serial: 7 }],
    ]);
    expect(losses(before, new Map([["c", { identity: "vpn-3", serial: 1 }]]))).toEqual([]);
    const now = new Map([
      ["a", { identity: "vpn-1 52:54:00:00:00:09", serial: 7 }],
      ["b", { identity: "vpn-2 52:54:00:00:00:02", serial: 6 }],
    ]);
    expect(losses(before, now)).toEqual([
      "vpn-1 52:54:00:00:00:01 became vpn-1 52:54:00:00:00:09",
      "the last serial number went back from 7 to 6",
    ]);
  });

  test("knows a process by its command line, and an unknown one by all of it", () => {
    expect(kindOf("/srv/dist/walt-linux-x64 server run")).toBe("daemon");
    expect(kindOf("ssh -F /dev/null -T -o HostKeyAlias=walt-server 127.0.0.1 renew")).toBe("inner ssh");
    expect(kindOf("sshd: walt-vpn [priv]")).toBe("sshd, root's part of a session");
    expect(kindOf("cat")).toBe("heartbeat's cat");
    expect(kindOf("nc -l 22")).toBe("nc -l 22");
  });
});

test("the same seed and round choose the same, others something else", () => {
  const some = (seed: number, round: number): number[] => {
    const choice = new Choice(seed, round);
    return Array.from({ length: 8 }, () => choice.between(0, 999));
  };
  expect(some(1, 2)).toEqual(some(1, 2));
  const all = Array.from({ length: 50 }, (_, i) => some(1, i + 1).join());
  expect(new Set([...all, some(2, 1).join()]).size).toBe(51);
  expect(Math.min(...all.join().split(",").map(Number))).toBeGreaterThanOrEqual(0);
});
