/** Settings from the lab: what may be set, how changes add up, what they make of a configuration. */

import { describe, expect, test } from "bun:test";
import { explainConfig, parseConfig } from "../../src/config/load.ts";
import {
  change,
  NO_SETTINGS,
  parseChanges,
  parseSettings,
  withoutHosts,
  withSettings,
} from "../../src/config/settings.ts";
import { Fields } from "../../src/parse.ts";
import { generateKey, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";

const key = (): string => publicKeyLine(generateKey("h").publicKey).split(" ").slice(0, 2).join(" ");
const changes = (values: object, hostKeys: unknown = []) =>
  parseChanges(new Fields({ values, hostKeys }, "changes"));

describe("changes", () => {
  test("values are checked as those of vpn.toml", () => {
    expect(changes({ entrypoint: ["a.example", "b.example:2200"], mtu: 1500, silence: "20s" })).toMatchObject(
      {
        values: { entrypoint: ["a.example", "b.example:2200"], mtu: 1500, silence: "20s" },
      },
    );
    expect(() => changes({ mtu: 100 })).toThrow("mtu must be");
    expect(() => changes({ entrypoint: "-oProxyCommand=x" })).toThrow("entrypoint must be");
    expect(() => changes({ silence: "1ms" })).toThrow("silence must be");
  });

  test("a key that cannot be set is ignored, as from a newer version", () => {
    expect(changes({ state: "/tmp" }).values).toEqual({});
  });

  test("host keys are lines that mean to ssh what they say", () => {
    expect(changes({}, [`gate:22 ${key()} comment`]).hostKeys?.[0]).toMatch(/^gate:22 ssh-ed25519 \S+$/);
    for (const bad of [
      `* ${key()}`,
      `@revoked gate ${key()}`,
      "gate",
      `gate,b ${key()}`,
      7,
      "x".repeat(2000),
    ])
      expect(() => changes({}, [bad])).toThrow();
    expect(() => changes({}, Array(33).fill(`gate ${key()}`))).toThrow("at most 32");
  });
});

test("changes add up; null takes a value back; a host's keys take the place of its former ones", () => {
  const [first, second, other] = [`gate:22 ${key()}`, `gate:22 ${key()}`, `other:22 ${key()}`];
  const one = change(NO_SETTINGS, changes({ mtu: 1500, silence: "20s" }, [first, other]));
  const two = change(one, changes({ mtu: null }, [second]));
  expect(two).toEqual({ values: { silence: "20s" }, hostKeys: [other, second] });
  expect(change(two, { values: {}, hostKeys: null }).hostKeys).toEqual([]);
  expect(withoutHosts([first, other, ""], [second])).toEqual([other, ""]);
});

test("a configuration has the values that were set, and says where they come from", () => {
  const card = parseConfig('role = "device"\n[device]\nentrypoint = "gate"\nmtu = 9000\n', "/card/vpn.toml");
  const settings = parseSettings(new Fields({ values: { entrypoint: "new:2200" }, hostKeys: [] }, "x"));
  const config = withSettings(card, settings, "/state/settings.json");
  expect(config.device.mtu).toBe(9000);
  expect(config.device.entrypoint).toEqual([{ proxies: [{ host: "new", port: 2200 }] }]);
  const row = (name: string) => explainConfig(config).find((one) => one.key === name);
  expect(row("device.entrypoint")).toMatchObject({ value: '"new:2200"', source: "/state/settings.json" });
  expect(row("device.mtu")).toMatchObject({ source: "/card/vpn.toml" });
  expect(card.device.entrypoint).toEqual([{ proxies: [{ host: "gate", port: 22 }] }]);
});
