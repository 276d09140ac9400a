/** The commands of a device: what one end writes, the other reads. */

import { expect, test } from "bun:test";
import { parseEntrypoint } from "../../src/address.ts";
import { encodeCommand, parseCommand, type ServerCommand } from "../../src/enrolment/commands.ts";
import { WaltError } from "../../src/errors.ts";

test("what is written is read", () => {
  const tunnel = (via: string): ServerCommand => ({ name: "tunnel", via: parseEntrypoint(via) });
  for (const [command, text] of [
    [{ name: "enrol" }, "enrol"],
    [{ name: "renew" }, "renew"],
    [tunnel("gate.example.org"), "tunnel via=gate.example.org:22"],
    [tunnel("a,b:2022"), "tunnel via=a:22,b:2022"],
    [tunnel("ssh://[2001:db8::1]:2222"), "tunnel via=ssh://[2001:db8::1]:2222"],
  ] as const) {
    expect(encodeCommand(command)).toBe(text);
    expect(parseCommand(text)).toEqual(command);
  }
});

test("what is none of the three is undefined", () => {
  for (const text of [
    "",
    " ",
    "enrol ",
    "enrol x",
    "Renew",
    "renew\n",
    "tunnel via=a b",
    "sh -c id",
    "tunnels via=a",
  ])
    expect([text, parseCommand(text)]).toEqual([text, undefined]);
  expect(parseCommand(`tunnel via=${"a".repeat(5000)}`)).toBeUndefined();
});

test("a tunnel without an entrypoint is told how it is written", () => {
  for (const text of ["tunnel", "tunnel ", "tunnel via=", "tunnel a:22", "tunnel via"])
    expect(() => parseCommand(text)).toThrow("the command is `tunnel via=<entrypoint>`");
  for (const text of ["tunnel via=$(id)", "tunnel via=a,,b", "tunnel via=ssh://", "tunnel via=\u001b[2J"])
    expect(() => parseCommand(text)).toThrow(WaltError);
});
