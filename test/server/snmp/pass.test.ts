/** What snmpd is told: the objects of a switch in their order, and which of them it may set. */

import { expect, test } from "bun:test";
import {
  compareOids,
  PORTS,
  type Port,
  portOfAdmin,
  rowAfter,
  rowAt,
  rowsOf,
} from "../../../src/server/snmp/mib.ts";
import { Pass } from "../../../src/server/snmp/pass.ts";

const PORT: Port = {
  number: 3,
  name: "lab-3",
  mac: "52:54:00:01:02:03",
  address: "192.168.152.7",
  up: true,
  power: true,
};
const UPLINK = "52:54:00:0a:0b:0c";
const ADMIN = ".1.3.6.1.2.1.105.1.1.1.3.1";

function pass(power: (port: number, on: boolean) => Promise<void> = async () => {}) {
  const failures: string[] = [];
  const rows = rowsOf([PORT], UPLINK);
  const one = new Pass({ rows: async () => rows, power, failed: (why) => failures.push(why) });
  /** The answer to these lines. */
  const ask = async (...lines: string[]): Promise<readonly string[] | undefined> => {
    let last: readonly string[] | undefined;
    for (const line of lines) last = (await one.take(line)) ?? last;
    return last;
  };
  return { ask, failures };
}

test("objects are in order, each found, and each followed by the next", () => {
  const rows = rowsOf([PORT], UPLINK);
  for (const [at, row] of rows.entries()) {
    const next = rows[at + 1];
    if (next !== undefined) expect(compareOids(row.oid, next.oid)).toBeLessThan(0);
    expect(rowAt(rows, row.oid)).toBe(row);
    expect(rowAfter(rows, row.oid)).toBe(next as never);
  }
  expect(rowAt(rows, [1, 3])).toBeUndefined();
  expect(rowAfter(rows, [1])).toBe(rows[0] as never);
});

test("as many ports as ever give power, so that a WalT server can match them with the interfaces", () => {
  const count = (nodes: readonly Port[], column: readonly number[]): number =>
    rowsOf(nodes, "").filter(({ oid }) => column.every((part, at) => oid[at] === part)).length;
  for (const nodes of [[], [PORT]]) {
    expect(count(nodes, [1, 3, 6, 1, 2, 1, 2, 2, 1, 5])).toBe(PORTS); // ifSpeed
    expect(count(nodes, [1, 3, 6, 1, 2, 1, 105, 1, 1, 1, 3])).toBe(PORTS); // pethPsePortAdminEnable
    expect(count(nodes, [1, 0, 8802, 1, 1, 2, 1, 4, 1, 1, 5])).toBe(nodes.length); // lldpRemChassisId
  }
});

test("the uplink is a neighbour, and no port with power", () => {
  const of = (uplink: string): string[] => rowsOf([], uplink).map(({ oid }) => oid.join("."));
  const without = of("");
  const more = of(UPLINK).filter((oid) => !without.includes(oid));
  expect(more).toEqual([
    ...[2, 3, 4].map((column) => `1.0.8802.1.1.2.1.3.7.1.${column}.${PORTS + 1}`),
    ...[4, 5, 6, 7, 9].map((column) => `1.0.8802.1.1.2.1.4.1.1.${column}.0.${PORTS + 1}.1`),
  ]);
});

test("the protocol of snmpd", async () => {
  const { ask } = pass();
  expect(await ask("PING")).toEqual(["PONG"]);
  expect(await ask("get", `${ADMIN}.3`)).toEqual([`${ADMIN}.3`, "integer", "1"]);
  expect(await ask("get", `${ADMIN}.0`)).toEqual(["NONE"]);
  expect(await ask("getnext", `${ADMIN}.2`)).toEqual([`${ADMIN}.3`, "integer", "1"]);
  const remote = ".1.0.8802.1.1.2.1.4.1.1.5";
  expect(await ask("getnext", remote)).toEqual([`${remote}.0.3.1`, "octet", "52 54 00 01 02 03"]);
  expect(await ask("getnext", ".1.3.6.1.2.1.106")).toEqual(["NONE"]);
  expect(await ask("get", "nonsense")).toEqual(["NONE"]);
  expect(await ask("nonsense")).toEqual(["NONE"]);
});

test("only the power of a port can be set, to on or off", async () => {
  const set: string[] = [];
  const { ask, failures } = pass(async (port, on) => {
    if (port !== 3) throw new Error(`there is no node at port ${port}`);
    set.push(`${port} ${on}`);
  });
  expect(await ask("set", `${ADMIN}.3`, "integer 2", "")).toEqual(["DONE"]);
  expect(await ask("set", `${ADMIN}.3`, "integer 1", "")).toEqual(["DONE"]);
  expect(set).toEqual(["3 false", "3 true"]);
  expect(await ask("set", `${ADMIN}.4`, "integer 1", "")).toEqual(["inconsistent-value"]);
  expect(failures).toEqual(["there is no node at port 4"]);
  expect(await ask("set", `${ADMIN}.3`, "integer 7", "")).toEqual(["wrong-value"]);
  expect(await ask("set", `${ADMIN}.3`, 'string "on"', "")).toEqual(["wrong-type"]);
  expect(await ask("set", ".1.3.6.1.2.1.2.2.1.5.3", "integer 1", "")).toEqual(["not-writable"]);
  expect(portOfAdmin([1, 3, 6, 1, 2, 1, 105, 1, 1, 1, 3, 1, 3, 4])).toBeUndefined();
});
