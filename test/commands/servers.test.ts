/** Which server a command uses: what was typed, the environment, the user's own configuration. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chooseServer } from "../../src/commands/_servers.ts";

let home: string;
let file: string;
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), "walt-servers-"));
  mkdirSync(join(home, ".config/walt"), { recursive: true });
  file = join(home, ".config/walt/config.toml");
});
afterAll(() => rmSync(home, { recursive: true }));

const write = (toml: string): void => writeFileSync(file, toml);
const chosen = (option?: string, variable?: string): string | undefined =>
  chooseServer(option, { HOME: home, WALT_SERVER: variable })?.address;

test("--server wins over WALT_SERVER, which wins over the file", () => {
  write(
    'server = "lab"\n[servers]\nlab = "ssh://alice@lab.example"\nschool = "ssh://bob@[2001:db8::1]:2200"\n',
  );
  expect(chosen()).toBe("ssh://alice@lab.example");
  expect(chosen(undefined, "school")).toBe("ssh://bob@[2001:db8::1]:2200");
  expect(chosen("ssh://other.example", "school")).toBe("ssh://other.example");
  expect(chosen("local", "school")).toBeUndefined();
  expect(chooseServer("school", { HOME: home })).toEqual({
    address: "ssh://bob@[2001:db8::1]:2200",
    user: "bob",
    host: "2001:db8::1",
    port: "2200",
  });
});

test("without a file, or with an empty one, it is the server on this machine", () => {
  expect(chooseServer(undefined, { HOME: "/nonexistent" })).toBeUndefined();
  write("");
  expect(chosen()).toBeUndefined();
  expect(chosen("ssh://a")).toBe("ssh://a");
});

test("XDG_CONFIG_HOME says where the file is", () => {
  write('server = "ssh://of-home"');
  expect(
    chooseServer(undefined, { HOME: "/nonexistent", XDG_CONFIG_HOME: join(home, ".config") })?.host,
  ).toBe("of-home");
});

test("what is no server is refused, with the place where it was said", () => {
  write('[servers]\nlab = "ssh://lab.example"\n');
  expect(() => chosen("lba")).toThrow(/^--server "lba" is neither .*; did you mean lab\?$/);
  expect(() => chosen(undefined, "ssh://a:b@c")).toThrow('WALT_SERVER "ssh://a:b@c" is not of the form');
  expect(() => chosen("ssh://-oProxyCommand=x")).toThrow("is not of the form");
  for (const [toml, said] of [
    ['sever = "lab"', '"sever" is no key; did you mean server?'],
    ["server = 7", "server must be a string, found number 7"],
    ['servers = "lab"', "servers must be a table"],
    ['[servers]\nlab = "lab.example"', "servers.lab must be of the form ssh://"],
    ['[servers]\nlocal = "ssh://a"', '"local" cannot be the name of a server'],
    ["x = ", "line 1"],
    ['server = "nowhere"', 'config.toml: server "nowhere" is neither'],
  ] as const) {
    write(toml);
    expect(() => chosen()).toThrow(said);
  }
});
