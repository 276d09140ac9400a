/** The operator's ssh that ends: it is tried again with growing pauses, and says why. With an `ssh` that is a script. */

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAny } from "../../src/linux/run.ts";

/** Connects once, and is refused afterwards. Its arguments and the time of each attempt, ms, are in a file. */
const SSH = `#!/bin/sh
case "$*" in
  -V) echo OpenSSH_9.9 >&2; exit 0 ;;
  *-O*) exit 0 ;;
esac
echo "$(date +%s%3N) $*" >>"$DIR/attempts"
if [ -e "$DIR/first" ]; then echo "ssh: connect to host lab: No route to host" >&2; exit 255; fi
touch "$DIR/first"
while [ "$1" != -S ]; do shift; done
touch "$2"
exec sleep 0.5
`;

const SOURCE = `
import { OperatorSsh } from "${join(import.meta.dir, "../../src/commands/_operator-ssh.ts")}";
import { existsSync, readFileSync } from "node:fs";
const ssh = await OperatorSsh.connect({ host: "lab", user: undefined, port: undefined, address: "ssh://lab" }, "/x");
const over = new AbortController();
const kept = ssh.keep(over.signal);
while (readFileSync(process.env.DIR + "/attempts", "utf8").split("\\n").length < 6) await Bun.sleep(50);
while (!ssh.lost?.includes("No route")) await Bun.sleep(50);
console.log(ssh.lost);
over.abort();
await kept;
await ssh[Symbol.asyncDispose]();
console.log(existsSync(ssh.control));
`;

test("each pause is longer than the one before; ssh asks nothing then, and nothing is left behind", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-ssh-"));
  try {
    writeFileSync(join(dir, "ssh"), SSH, { mode: 0o755 });
    const env = { ...process.env, DIR: dir, PATH: `${dir}:${process.env["PATH"]}`, TMPDIR: dir };
    const { stdout, stderr, status } = await runAny([process.execPath, "-e", SOURCE], {
      env,
      timeout: 120_000,
    });
    expect([status, stderr, stdout]).toEqual([0, "", "ssh: connect to host lab: No route to host\nfalse\n"]);
    const attempts = readFileSync(join(dir, "attempts"), "utf8").trim().split("\n");
    expect(attempts.map((line) => line.includes("BatchMode=yes"))).toEqual([false, true, true, true, true]);
    const at = attempts.map((line) => Number(line.split(" ")[0]));
    // What a pause lasts at least: 0.5, 1, 2 and 4 s.
    for (const [index, least] of [500, 1000, 2000, 4000].entries())
      expect((at[index + 1] ?? 0) - (at[index] ?? 0)).toBeGreaterThanOrEqual(least - 50);
  } finally {
    rmSync(dir, { recursive: true });
  }
}, 180_000);

/** A ^C ends it first, and then the command. */
const INTERRUPTED = `#!/bin/sh
[ "$1" = -V ] && exit 0
(sleep 0.05; kill -INT $PPID) >/dev/null 2>&1 &
exit 255
`;

test("a ^C while ssh connects ends the command by that signal, and is no failure of ssh", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-ssh-"));
  try {
    writeFileSync(join(dir, "ssh"), INTERRUPTED, { mode: 0o755 });
    const env = { ...process.env, PATH: `${dir}:${process.env["PATH"]}`, TMPDIR: dir };
    const { stderr, status } = await runAny([process.execPath, "-e", SOURCE], { env, timeout: 60_000 });
    expect([status, stderr]).toEqual([130, ""]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
