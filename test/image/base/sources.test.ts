/** The Debian mirror of a machine: what its apt uses, and what those archives say of themselves. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findMirrors } from "../../../src/image/base/sources.ts";
import { proxyEnvironment } from "../../../src/image/process.ts";
import { folder } from "../rig.ts";

/** Origin and label of each archive of `.example`, by its address without the scheme. */
const ARCHIVES: Record<string, [origin: string, label: string]> = {
  "mirror.example/debian": ["Debian", "Debian"],
  "mirror.example/security": ["Debian", "Debian-Security"],
  "cloud.example/repos/debian": ["cloud", "cloud stable"],
  "chrome.example/debian": ["Chrome", "Chrome"],
};

/** An HTTP proxy that is all of these archives; there is no other way to them. */
const proxy = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch: (request) => {
    const [, archive = ""] = /^http:\/\/(.*)\/dists\/[^/]+\/InRelease$/.exec(request.url) ?? [];
    const [origin, label] = ARCHIVES[archive] ?? [];
    if (origin === undefined) return new Response("", { status: 404 });
    return new Response(`Origin: ${origin}\nLabel: ${label}\nSuite: stable\n`);
  },
});

const NAME = "http_proxy";
const before = process.env[NAME];
beforeAll(() => {
  process.env[NAME] = `http://127.0.0.1:${proxy.port}`;
});
afterAll(async () => {
  if (before === undefined) delete process.env[NAME];
  else process.env[NAME] = before;
  await proxy.stop(true);
});

/** A machine with these files in /etc/apt, which has never fetched a list. */
function machine(files: Record<string, string>): { options: string[] } & Disposable {
  const work = folder();
  for (const name of ["sources.list.d", "lists/partial"])
    mkdirSync(join(work.path, name), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(work.path, name), text);
  const options = [
    `Dir::Etc::sourcelist=${work.path}/sources.list`,
    `Dir::Etc::sourceparts=${work.path}/sources.list.d`,
    `Dir::State::lists=${work.path}/lists`,
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
  ].flatMap((option) => ["-o", option]);
  return { options, [Symbol.dispose]: () => work[Symbol.dispose]() };
}

test("an archive is what it says of itself, wherever it stands and whatever its suites are called", async () => {
  using lines = machine({
    "sources.list": `# a comment
deb [arch=amd64] http://cloud.example/repos/debian bookworm main
deb [arch=amd64] http://chrome.example/debian/ stable main
deb [arch=amd64] http://mirror.example/security bookworm-security main
deb [arch=amd64] http://mirror.example/debian bookworm main contrib # the mirror
deb-src http://sources.example/debian bookworm main
`,
  });
  expect(await findMirrors(undefined, lines.options)).toEqual({
    debian: "http://mirror.example/debian",
    security: "http://mirror.example/security",
  });
});

test("stanzas are read as apt reads them", async () => {
  using stanzas = machine({
    "sources.list.d/off.sources":
      "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n",
    "sources.list.d/zdebian.sources": `Types: deb deb-src
# between fields
URIs:
 http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
`,
    "sources.list.d/ignored.list.disabled": "deb http://disabled.example/debian trixie main\n",
  });
  expect(await findMirrors(undefined, stanzas.options)).toEqual({
    debian: "http://mirror.example/debian",
    security: undefined,
  });
});

test("a machine without Debian's archives has to be told a mirror, and hears what it has", async () => {
  using other = machine({
    "sources.list": `deb http://archive.example/ubuntu noble main
deb http://cloud.example/repos/debian bookworm main
deb http://silent.example/debian bookworm main
`,
  });
  expect(findMirrors(undefined, other.options)).rejects.toThrow(
    "this machine's apt uses no Debian mirror; " +
      "it uses http://cloud.example/repos/debian (of cloud), http://silent.example/debian",
  );
  expect(await findMirrors("http://mirror.example/debian", other.options)).toEqual({
    debian: "http://mirror.example/debian",
    security: undefined,
  });
  for (const given of ['http://x"; Dir "/', "mirror.example"])
    expect(findMirrors(given)).rejects.toThrow("is not the address of a Debian mirror");
});

test("the addresses of HTTP proxies are passed on, and nothing else", () => {
  expect(Object.keys(proxyEnvironment())).toContain("http_proxy");
  expect(Object.keys(proxyEnvironment())).not.toContain("PATH");
});
