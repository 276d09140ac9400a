/** What operators type at the monitor. */

import { expect, test } from "bun:test";
import { parseAnswer } from "../../src/commands/vpn/_typed-answer.ts";
import { parseCode } from "../../src/enrolment/typed-code.ts";

test("the beginning of a code accepts, with or without a word before it", () => {
  for (const text of ["PG2WB", "pg2wb", " PG2-WB ", "accept PG2WB", "a pg2wb", "Yes PG2WB", "y  pg2wb\r"])
    expect([text, parseAnswer(text)]).toEqual([text, { kind: "code", accept: true, code: "PG2WB" }]);
  for (const text of ["deny PG2WB", "d pg2wb", "NO pg2wb", "n PG2WB"])
    expect([text, parseAnswer(text)]).toEqual([text, { kind: "code", accept: false, code: "PG2WB" }]);
  expect(parseAnswer("PG2WB-J9NS3")).toEqual({ kind: "code", accept: true, code: "PG2WBJ9NS3" });
});

test("a word alone never accepts", () => {
  for (const text of ["y", "Y", "yes", "a", "accept"])
    expect([text, parseAnswer(text)]).toEqual([
      text,
      { kind: "wrong", why: expect.stringContaining("accepts nothing") },
    ]);
});

test("a word alone that is too short for a code denies the only one; a longer one names nobody", () => {
  for (const text of ["n", "no", "d", "N"]) expect(parseAnswer(text)).toEqual({ kind: "deny-only-one" });
  expect(parseAnswer("deny")).toEqual({ kind: "wrong", why: expect.stringContaining("denies nothing") });
});

test("what is too short, too long, two codes, or not in the alphabet is no code", () => {
  for (const text of [
    "PG",
    "PG-",
    "accept PG",
    "PG2WBJ9NS3X",
    "PG2 7KQ",
    "PGU",
    "maybe!",
    "\u001b[A",
    "P\u0301G2",
  ])
    expect([text, parseAnswer(text)]).toEqual([
      text,
      { kind: "wrong", why: expect.stringMatching(/^[ -~]+$/) },
    ]);
  for (const text of ["", "  ", "\t"]) expect(parseAnswer(text)).toEqual({ kind: "nothing" });
});

test("letters that resemble a digit are that digit, as in Crockford's base32", () => {
  expect(parseCode("oOiIlL", 3)).toBe("001111");
  expect(parseCode("abu", 3)).toBeUndefined();
  expect(parseCode("ABCDE-FGHJK", 10)).toBe("ABCDEFGHJK");
  expect(parseCode("ABCDE", 10)).toBeUndefined();
});

test("`as` names the node of a device that is accepted, and of no other", () => {
  for (const text of ["pg2wb as lab-3", "accept PG2-WB AS lab-3"])
    expect(parseAnswer(text)).toEqual({ kind: "code", accept: true, code: "PG2WB", name: "lab-3" });
  for (const [text, why] of [
    ["deny pg2 as lab-3", "gets no name"],
    ["pg2 as Lab", "cannot be a node's name"],
    ["pg2 as all", "means all nodes"],
    ["pg2 as", "is not the beginning of a code"],
    ["pg2 as lab 3", "is not the beginning of a code"],
    ["pg2 lab-3", "is not the beginning of a code"],
  ] as const)
    expect([text, parseAnswer(text)]).toEqual([text, { kind: "wrong", why: expect.stringContaining(why) }]);
});

test("a note stands behind the name, or without one; a block is a denial that says what it blocks", () => {
  const accept = { kind: "code", accept: true, code: "PG2WB" } as const;
  expect(parseAnswer("pg2wb as lab-3 note behind the door")).toEqual({
    ...accept,
    ...{ name: "lab-3", note: "behind the door" },
  });
  expect(parseAnswer("a pg2wb note  shelf 2")).toEqual({ ...accept, note: "shelf 2" });
  expect(parseAnswer("block pg2")).toEqual({ kind: "code", accept: false, code: "PG2", block: "key" });
  expect(parseAnswer("block-source pg2")).toMatchObject({ accept: false, block: "source" });
  for (const text of ["block pg2 note x", "deny pg2 as lab-3", "pg2 note", "pg2 as", "block", "pg2 as a b"])
    expect([text, parseAnswer(text).kind]).toEqual([text, "wrong"]);
});
