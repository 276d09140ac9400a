import { describe, expect, test } from "bun:test";
import { messageOf, WaltError } from "../src/errors.ts";
import { describe as describeValue, Fields, MAC, NODE_NAME, parseList } from "../src/parse.ts";

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

describe("what fields are made of", () => {
  const fields = new Fields(
    {
      rate: 0.5,
      when: "2026-03-01T14:05:25.335Z",
      said: "a\u001b[2J",
      none: null,
      all: [{ a: 1 }, { a: 2 }],
    },
    "m",
  );

  test("numbers in a range", () => {
    expect(fields.number("rate", 0, 1)).toBe(0.5);
    expect(problem(() => fields.number("rate", 1, 2))).toBe(
      "m: rate must be a number from 1 to 2, found number 0.5",
    );
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, "1", null, undefined])
      expect(problem(() => new Fields({ bad }, "m").number("bad", 0, 1))).toContain("must be a number");
  });

  test("times as toISOString writes them, and words that are safe for a terminal", () => {
    expect(fields.time("when")).toBe("2026-03-01T14:05:25.335Z");
    for (const bad of ["2026-03-01", "2026-03-01T14:05:25Z", "now", 1])
      expect(problem(() => new Fields({ bad }, "m").time("bad"))).toMatch(/^m: bad /);
    expect(fields.words("said")).toBe("a?[2J");
    expect(problem(() => fields.words("said", 3))).toBe("m: said is longer than 3 characters");
  });

  test("lists of objects, whose errors say which", () => {
    const a = (f: Fields): number => f.integer("a", 0, 1);
    expect(fields.list("all", (f) => f.integer("a", 0, 9))).toEqual([1, 2]);
    expect(problem(() => fields.list("all", a))).toContain("m: all[1]: a must be a whole number from 0 to 1");
    expect(problem(() => fields.list("all", a, 1))).toContain("expected an array of at most 1");
    expect(problem(() => parseList([1], "x", a))).toBe("x[0]: expected an object, found number 1");
  });

  test("what may be null, or missing", () => {
    expect(fields.orNull("none", (key) => fields.text(key))).toBeNull();
    expect(fields.orNull("rate", (key) => fields.number(key, 0, 1))).toBe(0.5);
    expect(problem(() => fields.orNull("missing", (key) => fields.text(key)))).toContain("found nothing");
    expect(fields.optional("rate", (key) => fields.number(key, 0, 1))).toEqual({ rate: 0.5 });
    expect(fields.optional("missing", (key) => fields.text(key))).toEqual({});
  });

  test("more fields, which take the place of those of the same name", () => {
    const more = fields.with({ rate: 2, new: true });
    expect([more.number("rate", 0, 9), more.boolean("new"), more.has("when")]).toEqual([2, true, true]);
    expect(fields.has("new")).toBe(false);
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
