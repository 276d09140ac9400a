/** What all commands share, tried with the real tree of commands: help with examples, and typos that are never ignored. */

import { describe, expect, test } from "bun:test";
import type { ArgsDef } from "citty";
import { parseArguments } from "../../src/commands/_arguments.ts";
import { command, type Group } from "../../src/commands/_command.ts";
import { find, runTyped } from "../../src/commands/_find.ts";
import { help } from "../../src/commands/_help.ts";
import { root } from "../../src/commands/root.ts";
import { WaltError } from "../../src/errors.ts";
import { leaves } from "./leaves.ts";

const all = await leaves(root);

test("the commands are spelled as the manual says", () => {
  const names = all.map(([words]) => words.join(" "));
  for (const name of [
    ...[
      "config check",
      "config show",
      "device run",
      "device status",
      "node show",
      "proxy run",
      "proxy setup",
      "run",
    ],
    ...[
      "server install",
      "server run",
      "vpn accept",
      "vpn deny",
      "vpn expect",
      "vpn list",
      "vpn monitor",
      "vpn requests",
      "vpn revoke",
      "vpn setup-node",
      "vpn setup-proxy",
      "vpn token add",
      "vpn token list",
      "vpn token withdraw",
    ],
  ])
    expect(names).toContain(name);
});

for (const [words, command] of all) {
  test(`walt ${words.join(" ")}: its name, help with an example of its own, and no option ignored`, async () => {
    const name = `walt ${words.join(" ")}`;
    expect(command.meta.name).toBe(name);
    const text = await help(root, [...words, "--help"]);
    expect(text).toMatch(/\nEXAMPLES?\n\n {2}\S/);
    const unbroken = text.replaceAll(" \\\n      ", " ");
    for (const example of command.examples) {
      expect(unbroken).toContain(example.replace(/ +#.*/, ""));
      expect(example).toContain(name);
      // An example that the command itself would refuse is none.
      const typed = (example.split(` ${words.join(" ")}`)[1] ?? "").replace(/ [#&|<>].*/, "").trim();
      const args = typed === "" ? [] : typed.split(/\s+/);
      expect(() => parseArguments(name, args, command.args)).not.toThrow();
    }
    expect(() => parseArguments(name, ["--no-such-option"], command.args)).toThrow(
      `${name}: there is no option --no-such-option; `,
    );
  });
}

describe("arguments", () => {
  const args = {
    node: { type: "positional", required: false },
    config: { type: "string" },
    output: { type: "string", alias: "o" },
    json: { type: "boolean" },
    kind: { type: "enum", options: ["small", "large"], default: "large" },
  } as const satisfies ArgsDef;
  const said = (...rawArgs: string[]): string => {
    try {
      parseArguments("walt x", rawArgs, args);
      return "";
    } catch (error) {
      if (!(error instanceof WaltError)) throw error;
      expect(error.exitCode).toBe(2);
      expect(error.hint).toBe("`walt x --help` explains it.");
      return error.message;
    }
  };

  test("that it has", () => {
    for (const good of [
      [],
      ["a"],
      ["--json", "a"],
      ["-o", "f"],
      ["-of"],
      ["--output=f", "--config", "c"],
      ["--", "--json"],
    ])
      expect([good, said(...good)]).toEqual([good, ""]);
  });

  test("that it does not have", () => {
    expect(said("--jsno")).toBe("walt x: there is no option --jsno; did you mean --json?");
    expect(said("--frobnicate")).toBe(
      "walt x: there is no option --frobnicate; allowed: --config, --output, --json, --kind",
    );
    expect(said("-x")).toStartWith("walt x: there is no option -x; ");
    expect(said("--no-json")).toStartWith("walt x: there is no option --no-json; ");
    expect(said("a", "b")).toBe('walt x: unexpected argument "b"');
    expect(said("--", "a", "--b")).toBe('walt x: unexpected argument "--b"');
  });

  test("that are given several times: all values, in their order", async () => {
    let all: readonly string[] = [];
    const collecting = command({
      name: "walt x",
      description: "",
      examples: ["walt x"],
      args,
      run: async (_, every) => {
        all = every("output");
      },
    });
    await collecting.start(["-o", "a", "--json", "--output=b", "n", "-oc", "--output", "a"], root);
    expect(all).toEqual(["a", "b", "c", "a"]);
    await collecting.start(["--", "-o"], root);
    expect(all).toEqual([]);
  });

  test("that lack their value, or have one too many", () => {
    expect(said("--config")).toBe("walt x: --config needs a value");
    expect(said("-o")).toBe("walt x: -o needs a value");
    expect(said("--config", "--json")).toBe(
      'walt x: --config needs a value, and "--json" looks like an option',
    );
    expect(said("--json=yes")).toBe("walt x: --json takes no value");
    expect(said("-o", "-")).toBe("");
    expect(said("--config=--json")).toBe("");
  });

  test("that have one of several values: another one is refused, with a suggestion", () => {
    expect(said("--kind", "small")).toBe("");
    expect(said("--kind", "smal")).toBe('walt x: --kind cannot be "smal"; did you mean small?');
    expect(said("--kind=\u001b[2J")).toBe('walt x: --kind cannot be "\\u001b[2J"; allowed: small, large');
  });

  test("as a command sees them", () => {
    const parse = (...rawArgs: string[]): unknown => parseArguments("walt x", rawArgs, args).values;
    const nothing = { node: undefined, config: undefined, output: undefined, json: undefined, kind: "large" };
    expect(parse()).toEqual(nothing);
    expect(parse("--json", "-of", "n", "--config=c", "--config", "d", "--kind", "small")).toEqual({
      node: "n",
      config: "d",
      output: "f",
      json: true,
      kind: "small",
    });
    expect(parse("--", "-o")).toEqual({ ...nothing, node: "-o" });
  });

  test("two lists of words are told apart by --; without it the first list has one word", () => {
    const lists = {
      node: { type: "positional", required: false, valueHint: "…", description: "" },
      command: { type: "positional", required: false, valueHint: "…", description: "" },
      json: { type: "boolean", description: "" },
    } as const satisfies ArgsDef;
    const parse = (...rawArgs: string[]) => {
      const { every, values } = parseArguments("walt x", rawArgs, lists);
      return [every("node"), every("command"), values.json];
    };
    expect(parse("a", "b", "--", "ls", "-l", "--json")).toEqual([
      ["a", "b"],
      ["ls", "-l", "--json"],
      undefined,
    ]);
    expect(parse("a", "ls", "--json")).toEqual([["a"], ["ls"], true]);
    expect(parse("--", "ls")).toEqual([[], ["ls"], undefined]);
    expect(parse("a", "b", "--")).toEqual([["a", "b"], [], undefined]);
    expect(parse("a", "--", "ls", "--", "x")).toEqual([["a"], ["ls", "--", "x"], undefined]);
    expect(() => parse("a", "ls", "-l")).toThrow("walt x: there is no option -l; ");
  });

  test("a command without options says so", () => {
    expect(() => parseArguments("walt y", ["--x"], {})).toThrow(
      "walt y: there is no option --x; this command has no options",
    );
  });
});

describe("what is wrong with the words typed", () => {
  const explain = (...words: string[]): Promise<string> =>
    runTyped(root, words).then(
      () => "no error",
      (error: unknown) => {
        if (!(error instanceof WaltError)) throw error;
        expect(error.exitCode).toBe(2);
        return `${error.message}\n${error.hint}`;
      },
    );

  test("what cannot be an order for the server is refused before it is asked", async () => {
    for (const [words, why] of [
      [["expect", "--note", "board 7"], "--serial or --mac is missing"],
      [["expect", "--expires", "2d"], "--serial or --mac is missing"],
      [["expect", "--mac", "b8:27:eb:01:02"], "is not a MAC address"],
      [["expect", "--serial", ""], "is not a serial number"],
      [["expect", "--withdraw", "4", "--serial", "7"], "cannot be used with"],
      [["token", "add", "--expires", "9999d"], "is not a duration of up to ten years"],
      [["token", "add", "--expires", "0d"], "is not a duration"],
      [["token", "add", "--uses", "0"], "is not a number from 1"],
      [["token", "add", "--note", "n".repeat(201)], "is longer than 200 characters"],
      [["token", "withdraw", "x"], "is not an ID"],
      [["accept", "P*2"], "neither a short code"],
      [["accept", "PG2", "7K3", "--name", "lab-3"], "--name is for one device"],
      [["accept", "PG2", "--name", "Lab"], "cannot be a node's name"],
      [["events", "--since", "yesterday"], "is not a duration"],
      [["rotate", "--finish"], "--finish needs the key"],
      [["rotate", "root"], "there is no key"],
      [["rotate", "ca", "--force"], "--force is for --finish"],
    ] as const)
      expect([words, await explain("vpn", ...words)]).toEqual([words, expect.stringContaining(why)]);
  });

  test("a name that a node cannot have, and a note that is too long", async () => {
    expect(await explain("node", "rename", "lab-3", "Lab")).toContain('"Lab" cannot be a node\'s name');
    expect(await explain("node", "note", "lab-3", "x".repeat(201))).toContain("longer than 200 characters");
  });

  test("a typo is answered with a suggestion, at each depth", async () => {
    expect(await explain("vnp", "list")).toBe(
      'walt has no command "vnp"; did you mean vpn?\n`walt --help` explains it.',
    );
    expect(await explain("vpn", "monitro")).toBe(
      'walt vpn has no command "monitro"; did you mean monitor?\n`walt vpn --help` explains it.',
    );
    expect(await explain("frobnicate")).toStartWith(
      'walt has no command "frobnicate"; allowed: status, run, ',
    );
    expect(await explain("\u001b[2J")).not.toMatch(/[^\P{C}\n]/u);
  });

  test("a word too few, and an option where a command is expected", async () => {
    expect(await explain("node")).toMatch(
      /^walt node wants one more word: show, .*note.*\n`walt node --help` explains it\.$/,
    );
    expect(await explain("--verbose")).toBe('walt has no option "--verbose"\n`walt --help` explains it.');
    expect(await explain("vpn", "--json", "list")).toStartWith('walt vpn has no option "--json"\n');
  });

  test("an argument too few, of a command", async () => {
    expect(await explain("vpn", "revoke")).toBe(
      "walt vpn revoke: NODE is missing\n`walt vpn revoke --help` explains it.",
    );
  });

  test("words that are names of every object are no commands", async () => {
    for (const word of ["constructor", "__proto__", "toString"])
      expect(await explain(word)).toStartWith(`walt has no command "${word}"; `);
  });
});

/** All groups, with the words that lead to them. */
async function groups(entry: Group, words: readonly string[] = []): Promise<[readonly string[], Group][]> {
  const below = Object.entries(entry.subCommands).map(async ([word, load]) => {
    const one = await load();
    return "subCommands" in one ? await groups(one, [...words, word]) : [];
  });
  return [[words, entry], ...(await Promise.all(below)).flat()];
}

test("help is as wide as the terminal, of every command and every group", async () => {
  const everything = [...all.map(([words]) => words), ...(await groups(root)).map(([words]) => words)];
  for (const words of everything) {
    for (const width of [60, 80, 100]) {
      const [text = "", examples = ""] = (await help(root, words, width)).split(/\nEXAMPLES?\n/);
      const tooLong = (part: string): string[] =>
        part.split("\n").filter((line) => Bun.stringWidth(line) > width && line.trim().includes(" "));
      expect([words, tooLong(text)]).toEqual([words, []]);
      // A word of an example is not broken.
      if (width >= 80) expect([words, tooLong(examples)]).toEqual([words, []]);
    }
  }
});

test("groups have examples, which name commands that there are", async () => {
  for (const [words, { examples, meta }] of await groups(root)) {
    expect(meta.name).toBe(["walt", ...words].join(" "));
    const text = await help(root, words);
    for (const example of examples) {
      expect(text).toContain(`  ${example}\n`);
      if (!example.includes("walt ")) continue;
      const typed = (example.split("walt ")[1] ?? "").split(" ");
      expect("subCommands" in (await find(root, typed)).entry).toBe(false);
    }
  }
});

test("the help of a group lists its commands", async () => {
  const text = await help(root, ["vpn", "--help"]);
  for (const word of ["setup-proxy", "setup-node", "monitor", "list", "revoke"]) expect(text).toContain(word);
});
