/** The engine: the order of findings, what is left out, what takes too long, and what is printed. */

import { expect, test } from "bun:test";
import { type Finding, faultsOf, parseDiagnosis } from "../../src/api/diagnosis.ts";
import { type Check, fault, noted, OK, unknown } from "../../src/doctor/check.ts";
import { examine, plan } from "../../src/doctor/examine.ts";
import { showDiagnosis } from "../../src/doctor/show.ts";
import { WaltError } from "../../src/errors.ts";
import { Fields } from "../../src/parse.ts";

const check = (id: string, after: string[], look: Check<undefined>["look"]): Check<undefined> => ({
  ...{ id, what: "", after, look },
});
const broken = (what: string) => () => fault(what, "seen", "do it");
const never = new AbortController().signal;

async function run(
  checks: readonly Check<undefined>[],
  o: { signal?: AbortSignal; longest?: number } = {},
): Promise<Finding[]> {
  const options = { signal: o.signal ?? never, now: () => 0, longest: o.longest ?? 60_000 };
  return (await examine(plan(checks, undefined), options)).findings;
}

test("what follows from a fault is not looked at, through any number of steps; the rest is", async () => {
  const looked: string[] = [];
  const good = (id: string, after: string[]): Check<undefined> =>
    check(id, after, () => {
      looked.push(id);
      return OK;
    });
  const findings = await run([
    good("a", []),
    check("b", ["a"], broken("no b")),
    good("c", ["b"]),
    good("d", ["c"]),
    good("e", ["a", "not in the list"]),
    check("u", [], () => unknown("who knows")),
    good("f", ["u"]),
  ]);
  expect(findings).toEqual([
    { check: "a", of: "", is: "ok", note: "" },
    { check: "b", of: "", is: "fault", what: "no b", evidence: "seen", cure: "do it" },
    { check: "c", of: "", is: "skipped", because: "b" },
    { check: "d", of: "", is: "skipped", because: "b" },
    { check: "e", of: "", is: "ok", note: "" },
    { check: "u", of: "", is: "unknown", why: "who knows" },
    { check: "f", of: "", is: "ok", note: "" },
  ]);
  expect(looked.toSorted()).toEqual(["a", "e", "f"]);
});

test("of several things each has its own consequences, and all have those of the machine", async () => {
  const each = [check("x", ["m"], broken("bad")), check("y", ["x", "m"], () => OK)];
  const planned = (machine: Check<undefined>["look"]) => [
    ...plan([check("m", [], machine)], undefined),
    ...plan(each, undefined, "one"),
    ...plan([check("x", ["m"], () => OK), ...each.slice(1)], undefined, "two"),
  ];
  const summary = async (machine: Check<undefined>["look"]): Promise<string[]> =>
    (await examine(planned(machine), { signal: never, now: () => 0 })).findings.map(
      (one) => `${one.check} ${one.of} ${one.is}`,
    );
  expect(await summary(() => OK)).toEqual(["m  ok", "x one fault", "y one skipped", "x two ok", "y two ok"]);
  expect(await summary(broken("bad"))).toEqual([
    ...["m  fault", "x one skipped", "y one skipped", "x two skipped", "y two skipped"],
  ]);
});

test("checks that do not depend on each other run side by side", async () => {
  const meet = Promise.withResolvers<void>();
  const findings = await run([
    check("a", [], async () => {
      await meet.promise;
      return OK;
    }),
    check("b", [], () => {
      meet.resolve();
      return OK;
    }),
  ]);
  expect(findings.map(({ is }) => is)).toEqual(["ok", "ok"]);
});

test("a look that takes too long, is ended, or throws, is unknown", async () => {
  const hangs = (): Promise<never> => new Promise(() => {});
  expect(await run([check("a", [], hangs)], { longest: 1 })).toMatchObject([
    { is: "unknown", why: "the look took longer than 0.001 s" },
  ]);
  const end = new AbortController();
  const running = run([check("a", [], hangs), check("b", ["a"], hangs)], { signal: end.signal });
  end.abort();
  expect(await running).toMatchObject([
    { is: "unknown", why: "there was no time left to look" },
    { is: "unknown", why: "there was no time left to look" },
  ]);
  const denied = Object.assign(new Error("permission denied"), { code: "EACCES" });
  const throwing = (error: Error) =>
    check("a", [], () => {
      throw error;
    });
  expect(await run([throwing(new WaltError("cannot read x", { cause: denied }))])).toMatchObject([
    { is: "unknown", why: "cannot read x; run `walt doctor` as root" },
  ]);
  expect(await run([throwing(new Error("odd"))])).toMatchObject([{ is: "unknown", why: "odd" }]);
});

test("words of others are made safe and bounded, and read back as they were sent", async () => {
  const wild = `a\u001b[2J\nb\u202e${"x".repeat(5000)}`;
  const diagnosis = await examine(plan([check("a", [], () => fault(wild, wild, wild))], undefined, wild), {
    ...{ signal: never, now: () => 0 },
  });
  const [one] = faultsOf(diagnosis);
  for (const words of [one?.what, one?.evidence, one?.cure, one?.of]) {
    expect(words).toStartWith("a?[2J b?xxx");
    expect(words).toHaveLength(600);
  }
  const wire: unknown = JSON.parse(JSON.stringify(diagnosis));
  expect(parseDiagnosis(new Fields(wire, "x"))).toEqual(diagnosis);
});

test("the text has faults first, each with what was seen and what to do; colours only where asked for", async () => {
  const diagnosis = {
    at: new Date(0).toISOString(),
    findings: await run([
      check("a", [], () => noted("good to know")),
      check("b", [], broken("there is no cable")),
      check("c", ["b"], () => OK),
      check("u", [], () => unknown("who knows")),
      check("z", [], broken("no z")),
    ]),
  };
  expect(showDiagnosis(diagnosis, false)).toBe(
    `1. There is no cable  [b]
   seen: seen
   do:   do it

2. No z  [z]
   seen: seen
   do:   do it

Not looked at, because of b: c
Not found out: u: who knows
No fault: a
2 things are wrong. Mend the first one first.`,
  );
  expect(showDiagnosis(diagnosis, true)).toContain("\u001b[1;31m1. There is no cable\u001b[0m  [b]");
  expect(showDiagnosis({ at: diagnosis.at, findings: [] }, false)).toBe("Nothing wrong was found.");
});
