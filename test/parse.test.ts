import { describe, expect, test } from "bun:test";
import { messageOf, WaltError } from "../src/errors.ts";
import { describe as describeValue, Fields, MAC, NODE_NAME } from "../src/parse.ts";

function problem(what: () => unknown): string {
  try {
    return `no error, but ${JSON.stringify(what())}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return messageOf(error);
  }
}

const fields = new Fields(
  { text: "ten", number: 7, yes: true, list: [1, 2], inner: { a: 1 }, nothing: null },
  "m",
);

describe("Fields", () => {
  test("only objects have fields", () => {
    for (const [value, found] of [
      [undefined, "nothing"],
      [null, "null"],
      [[1, 2], "an array of 2 values"],
      ["x", 'string "x"'],
      [3, "number 3"],
    ] as const)
      expect(problem(() => new Fields(value, "m"))).toBe(`m: expected an object, found ${found}`);
  });

  test("text: type, length, pattern", () => {
    expect(fields.text("text")).toBe("ten");
    expect(fields.text("text", 3, /^t/)).toBe("ten");
    expect(problem(() => fields.text("number"))).toBe("m: number must be a string, found number 7");
    expect(problem(() => fields.text("text", 2))).toBe("m: text is longer than 2 characters");
    expect(problem(() => fields.text("text", 3, /^x/))).toBe(
      'm: text must be a string like ^x, found string "ten"',
    );
    expect(problem(() => fields.text("missing"))).toBe("m: missing must be a string, found nothing");
  });

  test("optional text: absent and null are undefined, anything else is checked", () => {
    expect(fields.optionalText("missing")).toBeUndefined();
    expect(fields.optionalText("nothing")).toBeUndefined();
    expect(fields.optionalText("text")).toBe("ten");
    expect(problem(() => fields.optionalText("number"))).toContain("must be a string");
  });

  test("choice, whole number, true or false", () => {
    expect(fields.choice("text", ["one", "ten"])).toBe("ten");
    expect(problem(() => fields.choice("text", ["a", "b"]))).toBe(
      'm: text must be "a" or "b", found string "ten"',
    );
    expect(fields.integer("number", 7, 7)).toBe(7);
    expect(problem(() => fields.integer("number", 8, 9))).toBe(
      "m: number must be a whole number from 8 to 9, found number 7",
    );
    expect(problem(() => fields.integer("number", 1, 6))).toContain("from 1 to 6");
    expect(problem(() => new Fields({ n: 1.5 }, "m").integer("n", 1, 6))).toContain("found number 1.5");
    expect(problem(() => fields.integer("text", 1, 6))).toContain('found string "ten"');
    expect(fields.boolean("yes")).toBe(true);
    expect(problem(() => fields.boolean("text"))).toBe('m: text must be true or false, found string "ten"');
  });

  test("base64 of exactly so many bytes", () => {
    const of = (b: string) => new Fields({ b }, "m");
    expect(of("AAEC").base64("b", 3)).toEqual(Buffer.from([0, 1, 2]));
    for (const bad of ["AAE", "AAECAA==", "AA C", "A-_C", "", "AAE="])
      expect(problem(() => of(bad).base64("b", 3))).toMatch(/^m: b /);
    expect(problem(() => of("A".repeat(1 << 20)).base64("b", 3))).toBe("m: b is longer than 4 characters");
  });

  test("inner objects name their place; arrays are bounded", () => {
    expect(fields.object("inner").integer("a", 0, 9)).toBe(1);
    expect(problem(() => fields.object("inner").text("a"))).toBe(
      "m: inner: a must be a string, found number 1",
    );
    expect(problem(() => fields.object("list"))).toContain("an array of 2 values");
    expect(fields.array("list", 2)).toEqual([1, 2]);
    expect(problem(() => fields.array("list", 1))).toBe(
      "m: list must be an array of at most 1 values, found an array of 2 values",
    );
    expect(problem(() => fields.array("inner"))).toContain("found a table");
  });
});

describe("Fields.parse", () => {
  test("text that is no JSON object, or too long", () => {
    expect(Fields.parse('{"a":"b"}', "m").text("a")).toBe("b");
    expect(problem(() => Fields.parse("{", "m"))).toBe('m: it is not JSON: string "{"');
    expect(problem(() => Fields.parse("[1]", "m"))).toContain("an array of 1 values");
    expect(problem(() => Fields.parse(`{"a":"${"x".repeat(8190)}"}`, "m"))).toBe(
      "m: it is longer than 8192 characters",
    );
    expect(problem(() => Fields.parse("{}x", "m", 2))).toBe("m: it is longer than 2 characters");
  });

  test("a key named like what every object has is no such thing", () => {
    expect(Fields.parse("{}", "m").has("missing")).toBe(false);
    expect(problem(() => Fields.parse('{"__proto__":{"a":"b"}}', "m").text("a"))).toContain("found nothing");
  });
});

test("what was found is described in a bounded and harmless way", () => {
  const long = describeValue("x".repeat(1000));
  expect(long.length).toBeLessThan(80);
  expect(describeValue("\u001b[2J\u009b\u202e\u2028")).toBe('string "\\u001b[2J\\u009b\\u202e\\u2028"');
  expect(describeValue(new Date())).toBe("a date");
});

test("MAC addresses and node names", () => {
  for (const good of ["00:11:22:aa:bb:cc"]) expect(good).toMatch(MAC);
  for (const bad of [
    "00:11:22:AA:bb:cc",
    "00:11:22:aa:bb",
    "00:11:22:aa:bb:cc:dd",
    "0:11:22:aa:bb:cc",
    "00:11:22:aa:bb:cc\n",
  ])
    expect(bad).not.toMatch(MAC);
  for (const good of ["vpn-010203", "a", "x".repeat(32)]) expect(good).toMatch(NODE_NAME);
  for (const bad of ["", "-a", "a-", "1a", "A", "a_b", "a.b", "x".repeat(33), "a\n"])
    expect(bad).not.toMatch(NODE_NAME);
});
