/** The plug-in for WalT's own client, in an environment that has the shape of WalT's. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Machine } from "../../../src/install/machine.ts";
import { installPlugin, removePlugin } from "../../../src/server/install/plugin.ts";
import { describeWith } from "../../lab/need.ts";

let root: string;
let packages: string;
const machine = (): Machine => ({
  root,
  binary: "",
  packaged: false,
  systemd: false,
  run: () => Promise.reject(new Error("no")),
});

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "walt-plugin-"));
  packages = join(root, "opt/walt/lib/python3.11/site-packages");
  write(join(root, "opt/walt/bin/walt"), "#!/bin/sh\n");
  write(join(packages, "walt/client/metadata/core.py"), 'CATEGORIES = [("node", "node", "WalTNode")]\n');
  mkdirSync(join(root, "usr/local/bin"), { recursive: true });
  symlinkSync(join(root, "opt/walt/bin/walt"), join(root, "usr/local/bin/walt"));
});
afterEach(() => rmSync(root, { recursive: true }));

const files = (): string[] =>
  readdirSync(packages, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".py"))
    .sort();

test("it is installed, again, and removed, and nothing else is touched", () => {
  const before = files();
  expect(installPlugin(machine(), false)).toEqual([
    expect.stringMatching(/walt\/client\/walt_vpn\.py: written$/),
    expect.stringMatching(/walt\/client\/metadata\/walt_vpn\.py: written$/),
  ]);
  expect(installPlugin(machine(), false)[0]).toEndWith(": unchanged");
  expect(removePlugin(machine())).toHaveLength(2);
  expect(files()).toEqual(before);
  expect(removePlugin(machine())).toEqual([]);
});

test("a client with a category vpn of its own keeps it, unless told", () => {
  const core = join(packages, "walt/client/metadata/core.py");
  writeFileSync(core, 'CATEGORIES = [\n    ("vpn", "vpn", "WalTVPN"),\n]\n');
  expect(() => installPlugin(machine(), false)).toThrow(/has a category vpn of its own \(.*core\.py\)/);
  expect(files()).toHaveLength(1);
  installPlugin(machine(), true);
  expect(files()).toHaveLength(3);
});

test("another's module with our name, and a machine without WalT's client", () => {
  const module = join(packages, "walt/client/walt_vpn.py");
  writeFileSync(module, "# not ours\n");
  expect(() => installPlugin(machine(), true)).toThrow(`${module} is not ours`);
  expect(() => removePlugin(machine())).toThrow(`${module} is not ours`);
  rmSync(join(root, "usr/local/bin/walt"));
  expect(() => installPlugin(machine(), false)).toThrow("WalT's client is not on this machine");
});

/** As much of WalT's client, and of its library for commands, as a category needs. */
const CLIENT = `import importlib, pkgutil, sys
import walt.client.metadata
categories = {}
for _, name, _ in pkgutil.iter_modules(walt.client.metadata.__path__):
    for category, module, cls in importlib.import_module("walt.client.metadata." + name).CATEGORIES:
        categories[category] = (module, cls)
module, cls = categories[sys.argv[1]]
getattr(importlib.import_module("walt.client." + module), cls).run(["walt " + sys.argv[1], *sys.argv[2:]], exit=False)
`;

describeWith({ programs: ["python3"] }, "in Python", () => {
  test("the client's category runs our program, with all words as they are", () => {
    write(join(packages, "walt/client/application.py"), "class WalTCategoryApplication:\n    pass\n");
    write(join(packages, "walt/client/metadata/core.py"), 'CATEGORIES = [("vpn", "vpn", "WalTVPN")]\n');
    installPlugin(machine(), true);
    const ours = join(root, "walt-vpn");
    writeFileSync(ours, '#!/bin/sh\nprintf "<%s>" "$@"\n', { mode: 0o755 });
    const category = join(packages, "walt/client/walt_vpn.py");
    const text = readFileSync(category, "utf8");
    writeFileSync(category, text.replace("/usr/local/bin/walt-vpn", ours));
    const words = ["list", "--json", "a b", "-x"];
    const run = (): string => {
      const { stdout, stderr } = Bun.spawnSync(["python3", "-c", CLIENT, "vpn", ...words], {
        env: { PATH: process.env["PATH"] ?? "", PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: "1" },
      });
      return `${stdout}${stderr}`;
    };
    expect(run()).toBe("<vpn><list><--json><a b><-x>");
    rmSync(ours);
    expect(run()).toBe(`walt vpn: cannot run ${ours}: No such file or directory\n`);
  });
});
