/**
 * OpenSSH's client of Debian 13, on whatever Debian this machine has: its package and all that it needs,
 * downloaded by apt with its signatures, unpacked into the cache folder and run by its own loader. Nothing is
 * installed.
 */

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { arch } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { findMirrors } from "../../src/image/base/sources.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";

const ARM = arch() === "arm64";
const TRIPLET = ARM ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const LOADER = ARM ? "ld-linux-aarch64.so.1" : "ld-linux-x86-64.so.2";
/** ms for indices and packages, some 15 MB. */
const TIMEOUT = 240_000;

/** The words of a command that run it; a text says why it cannot be had. */
export async function trixieSsh(): Promise<readonly string[] | string> {
  const root = join(cacheFolder(), "trixie-ssh");
  try {
    if (!existsSync(join(root, "usr/bin/ssh"))) await fetch(root);
    const libraries = ["usr/lib", "lib"].map((folder) => join(root, folder, TRIPLET)).join(":");
    const command = [
      join(root, "usr/lib", TRIPLET, LOADER),
      "--library-path",
      libraries,
      join(root, "usr/bin/ssh"),
    ];
    await run([...command, "-V"]);
    return command;
  } catch (error) {
    return messageOf(error);
  }
}

async function fetch(root: string): Promise<void> {
  const keyring = debianKeyring();
  if (keyring === undefined) throw new Error("this machine has no keyring of Debian's");
  const work = `${root}.new-${process.pid}`;
  try {
    for (const folder of ["lists/partial", "archives/partial", "etc", "root"])
      mkdirSync(join(work, folder), { recursive: true });
    writeFileSync(join(work, "status"), "");
    const { debian } = await findMirrors(undefined);
    writeFileSync(
      join(work, "trixie.sources"),
      `Types: deb\nURIs: ${debian}\nSuites: trixie\nComponents: main\nSigned-By: ${keyring}\n`,
    );
    const options = [
      `Dir::Etc::sourcelist=${work}/trixie.sources`,
      `Dir::Etc::sourceparts=${work}/etc`,
      `Dir::State::lists=${work}/lists`,
      `Dir::State::status=${work}/status`,
      `Dir::Cache::archives=${work}/archives`,
      "Dir::Cache::pkgcache=",
      "Dir::Cache::srcpkgcache=",
      "APT::Sandbox::User=root",
      "Acquire::Languages=none",
    ].flatMap((option) => ["-o", option]);
    await run(["apt-get", ...options, "update", "--quiet", "--error-on=any"], { timeout: TIMEOUT });
    const install = ["install", "--download-only", "--no-install-recommends", "-y", "-qq", "openssh-client"];
    await run(["apt-get", ...options, ...install], { timeout: TIMEOUT });
    for (const name of readdirSync(join(work, "archives"))) {
      if (!name.endsWith(".deb")) continue;
      await run(["dpkg-deb", "-x", join(work, "archives", name), join(work, "root")], { timeout: TIMEOUT });
    }
    rmSync(root, { recursive: true, force: true });
    renameSync(join(work, "root"), root);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
