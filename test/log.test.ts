import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { formatLine } from "../src/log.ts";

/** All UTF-16 units: whatever a peer may have put into a name. */
const EVERYTHING = Array.from({ length: 0x10000 }, (_, unit) => String.fromCharCode(unit)).join("");
const UNSAFE = /[\p{C}\p{Zl}\p{Zp}]/u;

describe("formatLine", () => {
  test("subject, message, and fields as key=value", () => {
    expect(
      formatLine("endpoint", "key refused", {
        from: "192.0.2.1:50000",
        reason: "unknown key",
        tries: 3,
        last: false,
        user: undefined,
      }),
    ).toBe('endpoint: key refused from=192.0.2.1:50000 reason="unknown key" tries=3 last=false');
    expect(formatLine("", "bare")).toBe("bare");
    expect(formatLine("", "empty", { user: "" })).toBe('empty user=""');
  });

  test("is one line of harmless characters, whatever message and values are", () => {
    expect(formatLine("s", EVERYTHING)).not.toMatch(UNSAFE);
    expect(formatLine("s", "m", { value: EVERYTHING })).not.toMatch(UNSAFE);
  });

  test("a value cannot pretend to be another field", () => {
    expect(formatLine("", "m", { a: 'x b="y"' })).toBe('m a="x b=\\"y\\""');
  });
});

/** The log of a program of its own: what it wrote to standard error. */
function logged(program: string, env: Record<string, string> = {}): string[] {
  const { LOG = "" } = { LOG: join(import.meta.dir, "../src/log.ts") };
  const child = Bun.spawnSync(
    [process.execPath, "-e", `const { createLog } = await import(${JSON.stringify(LOG)}); ${program}`],
    { env: { PATH: process.env["PATH"] ?? "", ...env } },
  );
  expect(child.stdout.toString()).toBe("");
  return child.stderr.toString().split("\n").slice(0, -1);
}

describe("createLog", () => {
  const program = `
    const log = createLog().with("server").with("tunnel");
    log.debug("hidden"); log.info("up\\nand more", { via: "a\\nb" }); log.warn("odd"); log.error("bad");
    for (let i = 0; i < 20; i++) log.info("the same");`;

  test("one line per event with time, level and subject; the same event twice is two lines", () => {
    const lines = logged(program);
    expect(lines).toHaveLength(23);
    expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}server\/tunnel: up and more via="a\\nb"$/);
    expect(lines[1]).toMatch(/Z warn {2}server\/tunnel: odd$/);
    expect(lines[2]).toMatch(/Z error server\/tunnel: bad$/);
  });

  test("under the journal a line carries its priority instead of the time", () => {
    expect(logged(program, { JOURNAL_STREAM: "8:1" }).slice(0, 3)).toEqual([
      '<6>server/tunnel: up and more via="a\\nb"',
      "<4>server/tunnel: odd",
      "<3>server/tunnel: bad",
    ]);
  });

  test("WALT_DEBUG shows more", () => {
    expect(logged(program, { WALT_DEBUG: "1" })[0]).toMatch(/debug server\/tunnel: hidden$/);
  });

  test("a per cent sign and JSON stay what they are", () => {
    expect(logged('createLog().info("100 %s {\\"a\\":1}")')[0]).toEndWith('info  100 %s {"a":1}');
  });
});
