/** The recipe of a node's system: understood for both architectures, and its scripts clean. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { AMD64, ARM64 } from "../../../src/image/base/architecture.ts";
import { loadNodeRecipe } from "../../../src/image/base/recipe.ts";
import { readRecipe } from "../../../src/image/base/recipe-macro.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";

const NODE = join(import.meta.dir, "../../../node");

test("each architecture has its own kernel, console, drivers and folder of libraries", () => {
  const [amd64, arm64] = [loadNodeRecipe(AMD64), loadNodeRecipe(ARM64)];
  expect(amd64.packages.alone).toContain("linux-image-amd64");
  expect(arm64.packages.alone).toContain("linux-image-arm64");
  expect(amd64.cmdlineTxt).toStartWith("console=ttyS0 ");
  expect(arm64.cmdlineTxt).toStartWith("console=ttyAMA0 ");
  expect(amd64.modules.boot).toContain("button");
  expect(amd64.modules.boot).not.toContain("gpio_keys");
  expect(arm64.modules.boot).toContain("gpio_keys");
  expect(arm64.modules.boot).not.toContain("button");
  expect(amd64.root).toContainEqual({ kind: "library", path: "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1" });
  expect(amd64.hash).not.toBe(arm64.hash);
  expect(loadNodeRecipe(AMD64, readRecipe("node")).hash).toBe(amd64.hash); // it is the folder as it is
});

test("every script that init starts is there and may be executed", () => {
  const { rootFiles } = loadNodeRecipe(AMD64);
  const inittab = rootFiles.find((file) => file.path === "etc/inittab")?.text ?? "";
  const scripts = [...inittab.matchAll(/:(\/usr\/lib\/walt\/\w+)$/gm)].map((match) => match[1] ?? "");
  expect(scripts.length).toBe(4);
  for (const script of [...scripts, "/etc/acpi/PWRF/00000080"])
    expect(rootFiles.find((file) => `/${file.path}` === script)?.executable).toBe(true);
});

test("nobody has a password, and sshd takes keys only", () => {
  const { rootFiles } = loadNodeRecipe(AMD64);
  const text = (path: string): string => rootFiles.find((file) => file.path === path)?.text ?? "";
  const users = text("etc/passwd").trimEnd().split("\n");
  expect(users.map((line) => line.split(":")[1])).toEqual(users.map(() => "*"));
  expect(rootFiles.map(({ path }) => path)).not.toContain("etc/shadow");
  expect(text("etc/ssh/sshd_config")).toContain(
    "\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
  );
});

describeWith({ programs: ["shellcheck"] }, "scripts", () => {
  test("are clean", async () => {
    const { rootFiles } = loadNodeRecipe(AMD64);
    const scripts = rootFiles
      .filter(({ text }) => text.startsWith("#!/bin/sh"))
      .map(({ path }) => join(NODE, "root", path));
    expect(scripts.length).toBeGreaterThan(5);
    const files = [...scripts, join(NODE, "root/usr/lib/walt/common"), join(NODE, "initramfs/init")];
    expect(await run(["shellcheck", "-s", "sh", "-x", "-P", join(NODE, "root"), ...files])).toBe("");
  }, 30_000);
});
