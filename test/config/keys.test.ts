/** Each kind of key: what it takes, what it refuses, and that what it shows is what it takes. */

import { describe, expect, test } from "bun:test";
import { parseEntrypoint } from "../../src/address.ts";
import {
  choice,
  entrypoints,
  flag,
  hostPort,
  integer,
  integerOr,
  type Key,
  loopback,
  network,
  path,
  publicKeys,
  refusal,
  span,
  text,
} from "../../src/config/keys.ts";
import { TABLES } from "../../src/config/schema.ts";
import { generateKey, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";

const KEY = publicKeyLine(generateKey("walt-vpn-ca").publicKey);
const NOT_TEXT = [undefined, null, 3, true, {}, [], ["x"], new Date()];

const KINDS: Record<string, { key: Key<unknown>; good: [unknown, unknown][]; bad: unknown[] }> = {
  text: {
    key: text("", ""),
    good: [
      ["x y é", "x y é"],
      ["", ""],
    ],
    bad: [...NOT_TEXT, "a\nb", "\u001b", "\u202e", "x".repeat(4097)],
  },
  "a group": {
    key: TABLES.server.group,
    good: [
      ["walt", "walt"],
      ["_x-1", "_x-1"],
    ],
    bad: [...NOT_TEXT, "", "Walt", "a b", "-x", "1", "x".repeat(33), "a\n"],
  },
  "a network interface": {
    key: TABLES["server.network"].bridge,
    good: [
      ["walt-net", "walt-net"],
      ["br0.1", "br0.1"],
    ],
    bad: [...NOT_TEXT, "", "-x", ".", "..", "a/b", "a b", "x".repeat(16)],
  },
  path: {
    key: path("/x", ""),
    good: [
      ["/", "/"],
      ["/a b/é", "/a b/é"],
    ],
    bad: [...NOT_TEXT, "", "a", "./a", "~/a", "/a\nb", `/${"x".repeat(4096)}`],
  },
  choice: { key: choice("a", ["a", "b"], ""), good: [["b", "b"]], bad: [...NOT_TEXT, "c", "A", ""] },
  flag: { key: flag(true, ""), good: [[false, false]], bad: [undefined, null, 0, 1, "true", "", {}, []] },
  "an integer or a word": {
    key: integerOr("auto", "auto", 1, 9, ""),
    good: [
      ["auto", "auto"],
      [1, 1],
      [9, 9],
    ],
    bad: [undefined, null, 0, 10, 1.5, "1", "", "Auto", true, {}, []],
  },
  "USB ports": {
    key: TABLES["device.vm"].usb,
    good: [
      ["1-1", "1-1"],
      ["1-1.1.2,2-4", "1-1.1.2,2-4"],
    ],
    bad: [...NOT_TEXT, "", "usb1", "1-1:1.0", "1-1,", "1-1, 1-2", "../1-1", "1-1.", "1-1.1.1.1.1.1.1.1"],
  },
  integer: {
    key: integer(5, 1, 9, ""),
    good: [
      [1, 1],
      [9, 9],
    ],
    bad: [undefined, null, 0, 10, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 5n, "5", true, {}, []],
  },
  span: {
    key: span("5s", "2s", "7d", ""),
    good: [
      ["2s", 2000],
      ["120s", 120_000],
      ["5m", 300_000],
      ["12h", 43_200_000],
      ["7d", 604_800_000],
    ],
    bad: [...NOT_TEXT, "", "5", "1s", "8d", "5 s", "5S", "1.5h", "-5s", "5ms", "0x5s", "9999999s", "5s\n"],
  },
  hostPort: {
    key: hostPort("", 22, ""),
    good: [
      ["Gate.Example.org", { host: "gate.example.org", port: 22 }],
      ["10.0.0.1:2022", { host: "10.0.0.1", port: 2022 }],
      ["[::1]:5", { host: "::1", port: 5 }],
    ],
    bad: [...NOT_TEXT, "", "a b", "-x", "a:0", "a:65536", "a:b", "ssh://a", "$(id)", "x".repeat(400)],
  },
  loopback: {
    key: loopback(9586, ""),
    good: [
      ["127.0.0.1", { host: "127.0.0.1", port: 9586 }],
      ["127.1.2.3:80", { host: "127.1.2.3", port: 80 }],
      ["[::1]:80", { host: "::1", port: 80 }],
      ["localhost", { host: "localhost", port: 9586 }],
    ],
    bad: [
      ...NOT_TEXT,
      ...["", ":9586", "0.0.0.0:80", "[::]:80", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org"],
    ],
  },
  entrypoints: {
    key: entrypoints(""),
    good: [
      ["a", [parseEntrypoint("a:22")]],
      ["a,b:2022", [parseEntrypoint("a:22,b:2022")]],
      ["ssh://c", [parseEntrypoint("ssh://c:2222")]],
      [["x"], [parseEntrypoint("x:22")]],
      [["a", "a,b", "ssh://c"], ["a:22", "a:22,b:22", "ssh://c:2222"].map(parseEntrypoint)],
    ],
    bad: [
      ...NOT_TEXT.filter((value) => !Array.isArray(value) || value.length === 0),
      ...["", ",", "a,", "a,,b", "http://x", "ssh://a,b", "a;b"],
      ...[["a", ""], ["a", 3], [["a"]], ["a", "A:22"], "abcdefghi".split("")],
    ],
  },
  publicKeys: {
    key: publicKeys(""),
    good: [
      [KEY, [KEY]],
      [KEY.split(" ", 2).join(" "), [KEY.split(" ", 2).join(" ")]],
      [
        [KEY, KEY],
        [KEY, KEY],
      ],
    ],
    bad: [
      ...NOT_TEXT.filter((value) => !Array.isArray(value) || value.length === 0),
      [KEY, KEY, KEY],
      [KEY, "x"],
      "ssh-ed25519",
      "ssh-rsa AAAA",
      KEY.slice(0, 40),
      `command="x" ${KEY}`,
      `${KEY}\n${KEY}`,
    ],
  },
  network: {
    key: network("10.0.0.1/24", ""),
    good: [
      ["192.168.192.1/22", "192.168.192.1/22"],
      ["10.0.0.6/29", "10.0.0.6/29"],
      ["10.255.255.254/8", "10.255.255.254/8"],
      ["10.0.1.0/16", "10.0.1.0/16"],
    ],
    bad: [
      ...NOT_TEXT,
      ...[
        "",
        "10.0.0.1",
        "10.0.0.1/7",
        "10.0.0.1/30",
        "10.0.0.256/24",
        "10.0.0/24",
        "::1/64",
        "10.0.0.1/024",
        " 10.0.0.1/24",
      ],
      // octal for ip(8)
      "010.0.0.1/24",
      // the addresses of the network itself and of its broadcast
      ...["10.0.0.0/24", "10.0.0.255/24", "10.0.0.0/8", "10.0.0.8/29", "10.0.0.7/29"],
    ],
  },
};

for (const [name, { key, good, bad }] of Object.entries(KINDS)) {
  describe(name, () => {
    test("takes what is allowed", () => {
      for (const [given, value] of good) expect(key.read(given)).toEqual(value);
    });
    test("refuses everything else", () => {
      for (const value of bad) expect([value, key.read(value)]).toEqual([value, undefined]);
    });
    test("shows a value as it may be written in the file", () => {
      for (const [, value] of good) {
        const shown: unknown = JSON.parse(key.show(value));
        expect(key.read(shown)).toEqual(value);
      }
    });
  });
}

test("a duration is shown in the largest unit that fits", () => {
  const key = span("5s", "0s", "90d", "");
  expect([0, 1000, 90_000, 120_000, 7_200_000, 86_400_000].map((ms) => key.show(ms))).toEqual([
    ...['"0s"', '"1s"', '"90s"', '"2m"', '"2h"', '"1d"'],
  ]);
});

test("a refusal names what is allowed and what was found, not more of it than fits a line", () => {
  expect(refusal(integer(5, 1, 9, ""), 12)).toBe("must be a whole number from 1 to 9, found number 12");
  expect(refusal(path("/x", ""), "x".repeat(4000)).length).toBeLessThan(120);
});
