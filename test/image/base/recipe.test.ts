/** The recipe that is inside the program: all of `device/`, understood, and its scripts clean. */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadRecipe, parseList } from "../../../src/image/base/recipe.ts";
import { readRecipe } from "../../../src/image/base/recipe-macro.ts";
import { needTools } from "../../../src/image/tools.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";

const DEVICE = join(import.meta.dir, "../../../device");

test("it is the folder as it is", () => {
  const recipe = loadRecipe();
  expect(recipe.hash).toBe(loadRecipe(readRecipe("device")).hash);
  expect(recipe.configTxt).toBe(readFileSync(join(DEVICE, "config.txt"), "utf8"));
  const init = recipe.initramfsFiles.find((file) => file.path === "init");
  expect(init?.executable).toBe(true);
  expect(recipe.rootFiles.find((file) => file.path === "etc/passwd")?.executable).toBe(false);
  expect(recipe.modules.early).toContain("squashfs");
  // What is plugged into the board belongs to the node.
  const modules = Object.values(recipe.modules).flat();
  expect(modules).not.toContain("usb-storage");
  expect(modules).not.toContain("usbserial");
});

test("every script that init starts is there and may be executed", () => {
  const { rootFiles } = loadRecipe();
  const inittab = rootFiles.find((file) => file.path === "etc/inittab")?.text ?? "";
  const scripts = [...inittab.matchAll(/:(\/usr\/lib\/walt\/\w+)$/gm)].map((match) => match[1] ?? "");
  expect(scripts.length).toBeGreaterThan(4);
  for (const script of scripts) {
    expect(rootFiles.find((file) => `/${file.path}` === script)?.executable).toBe(true);
  }
});

test("a list with a mistake is an error that names its line", () => {
  expect(parseList("# nothing\n\nfile /a /b # two\n", "x.txt", ["file"])).toEqual([
    { kind: "file", words: ["/a", "/b"] },
  ]);
  expect(() => parseList("file /a\nfiel /b\n", "x.txt", ["file"])).toThrow('x.txt, line 2: "fiel /b"');
  expect(() => parseList("file\n", "x.txt", ["file"])).toThrow("x.txt, line 1");
  expect(() => loadRecipe(readRecipe("device").filter((file) => file.path !== "root.txt"))).toThrow(
    "device/root.txt is missing",
  );
});

test("missing tools are named all at once, with the one command that installs them", () => {
  const tools = { "no-such-tool": "b-package", "nor-this": "a-package", sh: "dash" };
  try {
    needTools(tools);
    expect.unreachable();
  } catch (error) {
    expect(error).toMatchObject({
      message: "missing on this machine: no-such-tool, nor-this",
      hint: "sudo apt-get install --no-install-recommends a-package b-package",
    });
  }
});

describeWith({ programs: ["shellcheck"] }, "scripts", () => {
  test("are clean", async () => {
    const { rootFiles } = loadRecipe();
    const scripts = rootFiles.map(({ path }) => path).filter((path) => path.startsWith("usr/lib/walt/"));
    const files = [
      ...scripts.map((path) => join(DEVICE, "root", path)),
      join(DEVICE, "initramfs/init"),
      join(import.meta.dir, "../../empty/inside.sh"),
    ];
    const found = await run(["shellcheck", "-s", "sh", "-x", "-P", join(DEVICE, "root"), ...files]);
    expect(found).toBe("");
  }, 120_000);
});
