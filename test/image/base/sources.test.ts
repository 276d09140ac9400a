/** The Debian mirror of a machine, out of apt's own files. */

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findMirrors, machineSources } from "../../../src/image/base/sources.ts";
import { folder } from "../rig.ts";

function etc(files: Record<string, string>): ReturnType<typeof folder> {
  const work = folder();
  mkdirSync(join(work.path, "sources.list.d"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(work.path, name), text);
  return work;
}

test("both formats are read, and the security archive is told apart", () => {
  using lines = etc({
    "sources.list": `# a comment
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # the mirror
deb-src http://sources.example/debian bookworm main
deb http://mirror.example/security bookworm-security main
`,
  });
  expect(findMirrors(undefined, machineSources(lines.path))).toEqual({
    debian: "http://mirror.example/debian",
    security: "http://mirror.example/security",
  });
  using stanzas = etc({
    "sources.list.d/other.sources":
      "Types: deb\nURIs: http://other.example/apt\nSuites: nodistro\nComponents: main\n",
    "sources.list.d/off.sources":
      "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n",
    "sources.list.d/source.sources":
      "Types: deb-src\nURIs: http://source.example/debian\nSuites: trixie\nComponents: main\n",
    "sources.list.d/zdebian.sources": `Types: deb deb-src
# between fields
URIs:
 https://one.example/debian
Suites: trixie trixie-updates
Components: main

Types: deb
URIs: https://one.example/debian-security
Suites: trixie-security
Components: main
`,
    "sources.list.d/ignored.list.disabled": "deb http://disabled.example/debian trixie main\n",
  });
  expect(findMirrors(undefined, machineSources(stanzas.path))).toEqual({
    debian: "https://one.example/debian",
    security: "https://one.example/debian-security",
  });
});

test("a machine of another distribution has to be told a mirror", () => {
  using ubuntu = etc({
    "sources.list":
      "deb http://archive.example/ubuntu noble main\ndeb http://archive.example/ubuntu noble-security main\n",
  });
  const sources = machineSources(ubuntu.path);
  expect(() => findMirrors(undefined, sources)).toThrow("this machine's apt uses no Debian mirror");
  expect(findMirrors("http://mirror.example/debian", sources)).toEqual({
    debian: "http://mirror.example/debian",
    security: undefined,
  });
  expect(() => findMirrors('http://x"; Dir "/', sources)).toThrow("is not the address of a Debian mirror");
  expect(() => findMirrors("mirror.example", sources)).toThrow("is not the address of a Debian mirror");
});
