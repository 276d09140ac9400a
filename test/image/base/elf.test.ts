/** What ELF files need, of real ones and of ones made here; and that no damaged one is believed. */

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf } from "../../../src/errors.ts";
import { ARM64 } from "../../../src/image/base/architecture.ts";
import { isElf, parseElf } from "../../../src/image/base/elf.ts";
import { Tree } from "../../../src/image/base/tree.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { elfFile, folder } from "../rig.ts";

describeWith({ programs: ["readelf"] }, "a real program", () => {
  test("needs what readelf says", async () => {
    const program = process.execPath;
    const said = await run(["readelf", "-d", "-l", program]);
    const elf = parseElf(readFileSync(program), program);
    expect(elf.needed).toEqual([...said.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1] ?? ""));
    expect(elf.needed).toContain("libc.so.6");
    expect(elf.interpreter).toBe(/interpreter: (\S+)\]/.exec(said)?.[1]);
  });
});

test("a file cut off anywhere is refused or read, never trusted beyond its end", () => {
  const whole = elfFile({ needed: ["libc.so.6", "libm.so.6"], interpreter: "/lib/ld.so", runpath: "/a:/b" });
  expect(parseElf(whole, "x")).toEqual({
    machine: 183,
    needed: ["libc.so.6", "libm.so.6"],
    runpath: ["/a", "/b"],
    interpreter: "/lib/ld.so",
  });
  for (let length = 0; length < whole.length; length++) {
    expect(() => parseElf(whole.subarray(0, length), "x")).toThrow(/^x: /);
  }
  for (let at = 16; at < whole.length; at++) {
    const damaged = Buffer.from(whole);
    damaged[at] = 0xff;
    try {
      parseElf(damaged, "x");
    } catch (error) {
      expect(messageOf(error)).toStartWith("x: ");
    }
  }
  expect(isElf(Buffer.from("#!/bin/sh\n".repeat(10)))).toBe(false);
});

/** Packages as unpacked folders. */
function packages(root: string, files: Record<string, Buffer | string>): Tree {
  const tree = new Tree(ARM64);
  const owners = new Set<string>();
  for (const [name, content] of Object.entries(files)) {
    const path = join(root, name);
    mkdirSync(dirname(path), { recursive: true });
    if (typeof content === "string") symlinkSync(content, path);
    else writeFileSync(path, content);
    owners.add(name.split("/")[0] ?? "");
  }
  for (const owner of owners) tree.add(owner, join(root, owner));
  return tree;
}

test("the closure of a program has its loader and all libraries, under the names they are looked for", () => {
  using work = folder();
  const tree = packages(work.path, {
    "tool/usr/bin/tool": elfFile({ needed: ["libone.so.1", "libc.so.6"], interpreter: "/lib/ld.so.1" }),
    "one/usr/lib/aarch64-linux-gnu/libone.so.1": "libone.so.1.2",
    "one/usr/lib/aarch64-linux-gnu/libone.so.1.2": elfFile({
      needed: ["libtwo.so"],
      runpath: "$ORIGIN/private",
    }),
    "one/usr/lib/aarch64-linux-gnu/private/libtwo.so": elfFile({ needed: ["libc.so.6"] }),
    "libc/lib/aarch64-linux-gnu/libc.so.6": elfFile({}),
    "libc/usr/lib/ld.so.1": elfFile({}),
  });
  const found = tree.closure("/usr/bin/tool");
  const libraries = "/usr/lib/aarch64-linux-gnu";
  expect([...found.keys()].sort()).toEqual([
    "/usr/bin/tool",
    `${libraries}/libc.so.6`,
    `${libraries}/libone.so.1`,
    `${libraries}/private/libtwo.so`,
    "/usr/lib/ld.so.1",
  ]);
  expect(found.get(`${libraries}/libone.so.1`)?.path).toBe(`${libraries}/libone.so.1.2`);
});

test("a library that nobody has, and a program for another machine, are errors", () => {
  using work = folder();
  const tree = packages(work.path, {
    "a/usr/bin/lonely": elfFile({ needed: ["libgone.so.3"] }),
    "a/usr/bin/foreign": elfFile({ machine: 62 }),
    "a/usr/bin/round": "round2",
    "a/usr/bin/round2": "round",
  });
  expect(() => tree.closure("/usr/bin/lonely")).toThrow(
    "/usr/bin/lonely needs libgone.so.3, which no package contains",
  );
  expect(() => tree.closure("/usr/bin/foreign")).toThrow("is not an arm64 program");
  expect(() => tree.closure("/usr/bin/absent")).toThrow("no package contains /usr/bin/absent");
  expect(tree.find("/usr/bin/round")).toBeUndefined();
});
