/** Addresses and entrypoints: what people write is understood, what could do harm in a script or an argument is not. */

import { expect, test } from "bun:test";
import { formatEntrypoint, formatHostPort, parseEntrypoint, parseHostPort } from "../src/address.ts";
import { WaltError } from "../src/errors.ts";

const HOSTILE = [
  "",
  " ",
  "-oProxyCommand=x",
  "--",
  "-h",
  "a b",
  "a;b",
  "$(x)",
  "`x`",
  "a\nb",
  "a\n",
  "a'b",
  'a"b',
  "a\\b",
  "a/b",
  "a|b",
  "a&b",
  "a*",
  "%h",
  "~",
  "a\u0000",
  "é.fr",
  "a:",
  "a:0",
  "a:022",
  "a:65536",
  "a:99999999999",
  "a:-1",
  "a:ssh",
  "a:22:22",
  ":22",
  "[::1",
  "::1]",
  "[a]:22",
  "[::1]22",
  "[127.0.0.1]",
  "fe80::1%eth0",
  "[fe80::1%eth0]:22",
  "1:2",
  "300.1.1.1",
  "1.2.3",
  ".a",
  "a.",
  "a..b",
  "a-.b",
  `${"a".repeat(64)}.fr`,
  "a.".repeat(130).slice(0, -1),
  "a".repeat(1 << 20),
];

test.each([
  ["h", "h", 7],
  ["H.Example.ORG:22", "h.example.org", 22],
  ["my_host-1", "my_host-1", 7],
  ["10.0.0.1:2222", "10.0.0.1", 2222],
  ["::1", "::1", 7],
  ["[::1]", "::1", 7],
  ["[2001:DB8:0:0::1]:65535", "2001:db8::1", 65535],
])("%s", (text, host, port) => {
  const parsed = parseHostPort(text, 7);
  expect(parsed).toEqual({ host, port });
  expect(parseHostPort(formatHostPort(parsed), 1)).toEqual(parsed);
});

test("hostile and malformed addresses are errors of usage, with a short message", () => {
  for (const text of HOSTILE) {
    for (const parse of [
      (t: string) => parseHostPort(t, 22),
      parseEntrypoint,
      (t: string) => parseEntrypoint(`ssh://user@${t}`),
      (t: string) => parseEntrypoint(`ssh://${t}`),
    ]) {
      try {
        throw new Error(`accepted ${JSON.stringify(parse(text))}`);
      } catch (error) {
        if (!(error instanceof WaltError)) throw error;
        expect(error.exitCode).toBe(2);
        expect(error.message.length).toBeLessThan(200);
        expect(error.message).not.toContain("\n");
      }
    }
  }
});

test("entrypoints: a proxy, a chain, a server that is reachable directly", () => {
  const both = (text: string) => {
    const parsed = parseEntrypoint(text);
    expect(parseEntrypoint(formatEntrypoint(parsed))).toEqual(parsed);
    return [parsed, formatEntrypoint(parsed)] as unknown;
  };
  expect(both("a")).toEqual([{ proxies: [{ host: "a", port: 22 }] }, "a:22"]);
  expect(both("us-er@a,b")).toEqual([
    {
      proxies: [
        { host: "a", port: 22, user: "us-er" },
        { host: "b", port: 22 },
      ],
    },
    "us-er@a:22,b:22",
  ]);
  for (const user of ["", "-oProxyCommand=x", "a b", "A", "a'", "a@b", "root;x", "x".repeat(33)])
    expect(() => parseEntrypoint(`${user}@a`)).toThrow(WaltError);
  expect(() => parseEntrypoint("ssh://user@a")).toThrow(WaltError);
  expect(both("a,[::1]:2022, b")).toEqual([
    {
      proxies: [
        { host: "a", port: 22 },
        { host: "::1", port: 2022 },
        { host: "b", port: 22 },
      ],
    },
    "a:22,[::1]:2022,b:22",
  ]);
  expect(both("ssh://h:22")).toEqual([{ direct: { host: "h", port: 22 } }, "ssh://h:22"]);
  expect(both("ssh://h")).toEqual([{ direct: { host: "h", port: 2222 } }, "ssh://h:2222"]);
});

test("entrypoints: empty hops, other schemes, paths and too many hops are refused", () => {
  for (const text of [
    "a,",
    ",a",
    "a,,b",
    "http://a",
    "ssh://a/b",
    "ssh://a,b",
    "a,ssh://b",
    `${"a,".repeat(9)}a`,
  ]) {
    expect(() => parseEntrypoint(text)).toThrow(WaltError);
  }
});
