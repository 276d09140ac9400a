/** Commands that use a server on another machine, with an `ssh` that the test plays. */

import { expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../lab/eventually.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");

/** End a process, unless it has ended. */
function end(pid: number): void {
  if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
}

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "%s leaves neither ssh nor files behind",
  async (signal) => {
    const dir = mkdtempSync(join(tmpdir(), "walt-server-"));
    try {
      mkdirSync(join(dir, "tmp"));
      writeFileSync(
        join(dir, "ssh"),
        `#!/bin/sh\necho $$ > ${dir}/pid.new; mv ${dir}/pid.new ${dir}/pid\nexec sleep 1000\n`,
        {
          mode: 0o755,
        },
      );
      const walt = Bun.spawn([process.execPath, MAIN, "node", "show", "--server", "ssh://lab.example"], {
        env: { ...process.env, PATH: `${dir}:${process.env["PATH"]}`, TMPDIR: join(dir, "tmp") },
        stdio: ["ignore", "ignore", "inherit"],
      });
      await eventually("ssh", () => existsSync(join(dir, "pid")));
      const ssh = readFileSync(join(dir, "pid"), "utf8").trim();
      walt.kill(signal);
      await eventually("the command's end", walt.exited);
      expect(walt.signalCode).toBe(signal);
      await eventually("the end of ssh", () => !existsSync(`/proc/${ssh}`));
      expect(readdirSync(join(dir, "tmp"))).toEqual([]);
    } finally {
      if (existsSync(join(dir, "pid"))) end(Number(readFileSync(join(dir, "pid"), "utf8")));
      rmSync(dir, { recursive: true });
    }
  },
);

test("a missing ssh is told in words, and leaves no files", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-server-"));
  try {
    const walt = Bun.spawn([process.execPath, MAIN, "vpn", "requests", "--server", "ssh://lab.example"], {
      env: { ...process.env, PATH: dir, TMPDIR: dir },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const said = await walt.stderr.text();
    expect([await walt.exited, said]).toEqual([
      1,
      expect.stringMatching(/^walt: cannot run ssh: .*\nIs ssh installed\?\n$/),
    ]);
    expect(readdirSync(dir)).toEqual([]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
