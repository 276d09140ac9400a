import { describe, expect, test } from "bun:test";
import { duration, plainText, quoted, safeText, size, table } from "../src/text.ts";

/** What a hostile device would like to print: each with a name. */
const HOSTILE: Record<string, string> = {
  "an escape sequence": "\u001b[2J\u001b]0;owned\u0007",
  "an 8-bit escape sequence": "\u009b2J",
  "a right-to-left mark": "abc\u202edcba\u2066x\u200f",
  "a NUL": "a\0b",
  "line breaks": "a\nb\rc\u2028d\u2029e\u0085f",
  "a backspace and DEL": "ab\b\b\u007f",
  "zero-width and soft hyphens": "a\u200bb\u00adc\ufeff",
  "a private-use character and a lone surrogate": "\ue000\ud800x",
  "a tag beyond the first plane": "\u{e0041}",
};

test("size", () => {
  const bytes = [0, 1, 999, 999.6, 1500, 999_949, 999_950, 12_345_678, 4e12, 4e18];
  expect(bytes.map(size)).toEqual([
    ...["0 B", "1 B", "999 B", "1.0 kB", "1.5 kB", "999.9 kB", "1.0 MB", "12.3 MB", "4.0 TB", "4000.0 PB"],
  ]);
});

describe("safeText", () => {
  for (const [name, text] of Object.entries(HOSTILE)) {
    test(`${name} cannot get through`, () => {
      const safe = safeText(text);
      expect(safe).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      expect(safe).toContain("?");
    });
  }

  test("letters, marks and symbols of all scripts stay", () => {
    expect(safeText("Raspberry Pi 3 é 日本語 ünï ✓ 😀")).toBe("Raspberry Pi 3 é 日本語 ünï ✓ 😀");
  });

  test("is cut to the length asked for, without half a character at its end", () => {
    expect(safeText("x".repeat(80))).toBe("x".repeat(80));
    expect(safeText("x".repeat(81))).toBe(`${"x".repeat(79)}…`);
    expect(safeText("abc😀def", 5)).toBe("abc…");
    expect(safeText("y".repeat(1 << 20), 10)).toBe(`${"y".repeat(9)}…`);
  });
});

describe("plainText", () => {
  for (const [name, text] of Object.entries({
    ...HOSTILE,
    "wide blanks": `Pi${"\u3000".repeat(10)}short code`,
    "combining marks": "P\u0301\u0301i\u20e3",
    "wide letters": "\uff30\uff29",
    "letters of other scripts that look like ours": "\u0420\u0456",
  })) {
    test(`${name} cannot get through`, () => {
      const plain = plainText(text);
      expect(plain).toMatch(/^[ -~]{0,40}$/);
      expect(plain).toContain("?");
      expect(plain).not.toContain("  ");
      expect(Bun.stringWidth(plain)).toBe(plain.length);
    });
  }

  test("is cut to 40 columns, or as many as asked for; blanks in a row are one, those at the ends none", () => {
    expect(plainText("Raspberry Pi 3 Model B Plus Rev 1.3")).toBe("Raspberry Pi 3 Model B Plus Rev 1.3");
    expect(plainText("x".repeat(40))).toBe("x".repeat(40));
    expect(plainText("x".repeat(41))).toBe(`${"x".repeat(37)}...`);
    expect(plainText(`  a ${" ".repeat(1000)} b  `)).toBe("a b");
    expect([5, 3, 2, 0].map((max) => plainText("abcdef", max))).toEqual(["ab...", "...", "..", ""]);
  });
});

describe("quoted", () => {
  for (const [name, text] of Object.entries(HOSTILE)) {
    test(`${name} is escaped, and can be read back`, () => {
      const safe = quoted(text);
      expect(safe).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      expect(JSON.parse(safe)).toBe(text);
    });
  }

  test("is JSON", () => {
    expect(quoted('say "x" \\ é')).toBe('"say \\"x\\" \\\\ é"');
  });
});

describe("table", () => {
  test("columns are as wide as what is shown of their widest cell, without trailing blanks", () => {
    expect(
      `\n${table(
        ["NAME", "STATE"],
        [
          ["a", "up"],
          ["日本", "down"],
          ["long-name", "-"],
        ],
      )}\n`,
    ).toBe(`
NAME       STATE
a          up
日本       down
long-name  -
`);
  });

  test("without rows it is the header", () => {
    expect(table(["A", "B"], [])).toBe("A  B");
  });
});

test("durations have the unit that suits them", () => {
  const shown = [
    -5, 0, 8.4, 999.4, 999.6, 1234, 59_949, 59_999, 60_000, 200_000, 3_599_600, 7_500_000, 86_400_000,
    273_600_000,
  ];
  expect(shown.map(duration)).toEqual([
    ...["0 ms", "0 ms", "8 ms", "999 ms", "1.0 s", "1.2 s", "59.9 s", "1 min 0 s", "1 min 0 s", "3 min 20 s"],
    ...["1 h 0 min", "2 h 5 min", "1 d 0 h", "3 d 4 h"],
  ]);
});
