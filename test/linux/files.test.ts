import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, WaltError } from "../../src/errors.ts";
import {
  makeFolders,
  readEdited,
  readEditedIfAny,
  readText,
  readTextIfAny,
  writeFileAtomic,
} from "../../src/linux/files.ts";
import { describeWith } from "../lab/need.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-files-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let count = 0;
/** A new folder. */
function folder(): string {
  const path = join(dir, String(count++));
  mkdirSync(path);
  return path;
}

function problem(what: () => unknown): string {
  try {
    return `no error, but ${String(what())}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return messageOf(error);
  }
}

const modeOf = (path: string): number => statSync(path).mode & 0o7777;

describe("writeFileAtomic", () => {
  test("writes text or bytes, replaces what was there, and leaves nothing else", () => {
    const at = folder();
    writeFileAtomic(join(at, "a"), "first é");
    writeFileAtomic(join(at, "a"), new Uint8Array([0, 255]));
    expect(readFileSync(join(at, "a"))).toEqual(Buffer.from([0, 255]));
    expect(readdirSync(at)).toEqual(["a"]);
  });

  test("the mode is the one asked for, whatever umask and the file before had", () => {
    const at = folder();
    const umask = process.umask(0o077);
    try {
      writeFileAtomic(join(at, "a"), "");
      expect(modeOf(join(at, "a"))).toBe(0o644);
      writeFileAtomic(join(at, "a"), "", { mode: 0o600 });
      writeFileAtomic(join(at, "b"), "", { mode: 0o755, exclusive: true });
      process.umask(0);
      writeFileAtomic(join(at, "c"), "", { mode: 0o600 });
    } finally {
      process.umask(umask);
    }
    expect(["a", "b", "c"].map((name) => modeOf(join(at, name)))).toEqual([0o600, 0o755, 0o600]);
  });

  test("exclusive: what exists is not touched, be it a file, a folder or a dangling link", () => {
    const at = folder();
    writeFileSync(join(at, "file"), "precious");
    mkdirSync(join(at, "folder"));
    symlinkSync("nowhere", join(at, "link"));
    for (const name of ["file", "folder", "link"])
      expect(problem(() => writeFileAtomic(join(at, name), "new", { exclusive: true }))).toBe(
        `${join(at, name)} exists already`,
      );
    expect(readFileSync(join(at, "file"), "utf8")).toBe("precious");
    expect(readdirSync(at).sort()).toEqual(["file", "folder", "link"]);
  });

  test("exclusive, in a race of processes: exactly one wins, and its content stays", async () => {
    const at = folder();
    const program = `
      import { writeFileAtomic } from ${JSON.stringify(join(import.meta.dir, "../../src/linux/files.ts"))};
      const [at, name] = process.argv.slice(-2);
      process.stdout.write("ready\\n");
      for await (const _ of Bun.stdin.stream()) break; // all begin at once
      let won = 0;
      for (let i = 0; i < 200; i++) {
        try { writeFileAtomic(at + "/" + i, name, { exclusive: true }); won++; } catch {}
      }
      process.stdout.write(String(won));`;
    const racers = ["a", "b"].map((name) =>
      Bun.spawn([process.execPath, "-e", program, at, name], { stdin: "pipe", stdout: "pipe" }),
    );
    const outputs = racers.map((racer) => racer.stdout.getReader());
    await Promise.all(outputs.map((output) => output.read()));
    for (const racer of racers) {
      racer.stdin.write("go");
      void racer.stdin.end();
    }
    const won = await Promise.all(
      outputs.map(async (output) => Number(new TextDecoder().decode((await output.read()).value))),
    );
    await Promise.all(racers.map((racer) => racer.exited));
    expect((won[0] ?? 0) + (won[1] ?? 0)).toBe(200);
    const owners = readdirSync(at).map((name) => readFileSync(join(at, name), "utf8"));
    expect(owners.filter((owner) => owner === "a")).toHaveLength(won[0] ?? -1);
    expect(owners).toHaveLength(200);
  });

  test("a link is replaced, not followed", () => {
    const at = folder();
    writeFileSync(join(at, "target"), "precious");
    symlinkSync("target", join(at, "link"));
    writeFileAtomic(join(at, "link"), "new");
    expect(readFileSync(join(at, "target"), "utf8")).toBe("precious");
    expect(readFileSync(join(at, "link"), "utf8")).toBe("new");
  });

  test("what cannot be written is said, and nothing is left behind", () => {
    const at = folder();
    expect(problem(() => writeFileAtomic(join(at, "no/such"), ""))).toStartWith(
      `cannot write ${at}/no/such: `,
    );
    writeFileSync(join(at, "file"), "");
    expect(problem(() => writeFileAtomic(join(at, "file/below"), ""))).toMatch(/^cannot write .*ENOTDIR/);
    mkdirSync(join(at, "folder/full"), { recursive: true });
    expect(problem(() => writeFileAtomic(join(at, "folder"), ""))).toStartWith(`cannot write ${at}/folder: `);
    expect(readdirSync(at).sort()).toEqual(["file", "folder"]);
  });

  test("a full disk leaves the old file whole, and no other", () => {
    // RLIMIT_FSIZE ends a write in the middle like a full disk does.
    const at = folder();
    writeFileSync(join(at, "a"), "old");
    const program = `
      process.on("SIGXFSZ", () => {});
      const { writeFileAtomic } = await import(${JSON.stringify(join(import.meta.dir, "../../src/linux/files.ts"))});
      try { writeFileAtomic(${JSON.stringify(join(at, "a"))}, "x".repeat(100_000)); } catch (error) { console.log(error.message); }`;
    const child = Bun.spawnSync(["sh", "-c", 'ulimit -f 8; exec "$0" -e "$1"', process.execPath, program]);
    expect(child.stdout.toString()).toMatch(/^cannot write .*(EFBIG|file too large)/i);
    expect(readdirSync(at)).toEqual(["a"]);
    expect(readFileSync(join(at, "a"), "utf8")).toBe("old");
  });
});

describeWith({ root: true }, "writeFileAtomic, as nobody", () => {
  test("another user's folder is not written", () => {
    const at = folder();
    const program = `
      process.setgid?.(65534); process.setuid?.(65534);
      const { writeFileAtomic } = await import(${JSON.stringify(join(import.meta.dir, "../../src/linux/files.ts"))});
      try { writeFileAtomic(${JSON.stringify(join(at, "a"))}, ""); } catch (error) { console.log(error.name, error.message); }`;
    const child = Bun.spawnSync([process.execPath, "-e", program]);
    expect(child.stdout.toString()).toMatch(/^WaltError cannot write .*(EACCES|permission denied)/i);
    expect(readdirSync(at)).toEqual([]);
  });
});

describeWith({ root: true }, "a file system without links", () => {
  // Where Debian's kernels refuse a link to another user's file (proc_sys_fs(5), protected_hardlinks) stands for FAT's refusal: both say EPERM.
  const guarded = readTextIfAny("/proc/sys/fs/protected_hardlinks")?.trim() === "1";
  test.if(guarded)("gives a file its name all the same, and replaces none", () => {
    const at = folder();
    chmodSync(dir, 0o755);
    chownSync(at, 65534, 65534);
    for (const name of ["new", "other"]) writeFileSync(join(at, name), name, { mode: 0o600 });
    const program = `
      process.setgid?.(65534); process.setuid?.(65534);
      const { linkSync } = await import("node:fs");
      const { claim } = await import(${JSON.stringify(join(import.meta.dir, "../../src/linux/files.ts"))});
      const code = (body) => { try { return String(body()); } catch (error) { return error.code; } };
      process.chdir(${JSON.stringify(at)});
      console.log(code(() => linkSync("new", "x")), code(() => claim("new", "a")), code(() => claim("other", "a")));`;
    const child = Bun.spawnSync([process.execPath, "-e", program]);
    expect(child.stdout.toString()).toBe("EPERM true EEXIST\n");
    expect(readFileSync(join(at, "a"), "utf8")).toBe("new");
    expect(readdirSync(at).sort()).toEqual(["a", "other"]);
  });
});

test("folders are made with the mode asked for, whatever the umask; those that exist keep theirs", () => {
  const at = folder();
  const umask = process.umask(0o077);
  try {
    mkdirSync(join(at, "old"), { mode: 0o700 });
    makeFolders(join(at, "old/new/below"), 0o755);
    makeFolders(join(at, "old/new"), 0o711);
  } finally {
    process.umask(umask);
  }
  expect(["old", "old/new", "old/new/below"].map((name) => modeOf(join(at, name)))).toEqual([
    0o700, 0o755, 0o755,
  ]);
});

describe("reading", () => {
  test("a file, nothing where there is none, an error where there must be one", () => {
    const at = folder();
    writeFileSync(join(at, "a"), "text é");
    expect(readTextIfAny(join(at, "a"))).toBe("text é");
    expect(readTextIfAny(join(at, "b"))).toBeUndefined();
    expect(readTextIfAny(join(at, "a/b"))).toBeUndefined();
    expect(readText(join(at, "a"))).toBe("text é");
    expect(problem(() => readText(join(at, "b")))).toBe(`${at}/b does not exist`);
  });

  test("the bound is in bytes, and holds for what has no size of its own", () => {
    const at = folder();
    writeFileSync(join(at, "a"), "é");
    expect(readTextIfAny(join(at, "a"), 2)).toBe("é");
    expect(problem(() => readTextIfAny(join(at, "a"), 1))).toBe(`${at}/a is larger than 1 bytes`);
    expect(problem(() => readTextIfAny("/dev/zero", 1000))).toBe("/dev/zero is larger than 1000 bytes");
    expect(readTextIfAny("/proc/self/stat")).toStartWith(`${process.pid} (`);
  });

  test("what people edit on another system is read as it was meant", () => {
    const at = join(folder(), "a");
    const meant = "one\ntwo\n";
    for (const text of ["one\ntwo\n", "one\r\ntwo\r\n", "\uFEFFone\r\ntwo", "one  \ntwo\t\n", "one\rtwo\r"]) {
      writeFileSync(at, text);
      expect(readEdited(at)).toBe(meant);
    }
    writeFileSync(at, "one\n\ntwo\n\n");
    expect(readEdited(at)).toBe("one\n\ntwo\n\n");
    writeFileSync(at, "");
    expect(readEdited(at)).toBe("");
    expect(readEditedIfAny(`${at}.none`)).toBeUndefined();
  });

  test("a directory is none", () => {
    expect(problem(() => readTextIfAny(dir))).toBe(`cannot read ${dir}: it is a directory`);
  });
});
