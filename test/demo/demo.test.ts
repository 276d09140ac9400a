/** The demo as a user types it, and that it leaves nothing behind. */

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ownTarget } from "../lab/binary.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION } from "../lab/world.ts";

const MAIN = join(import.meta.dir, "main.ts");

/** A temporary folder of this test's own: other laboratories may run on this machine. */
const folder = mkdtempSync(join(tmpdir(), "walt-demo-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Everything that a demo could leave behind. */
function traces(): unknown {
  return {
    files: readdirSync(folder),
    processes: readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && commandOf(pid).includes(folder)),
    users: readFileSync("/etc/passwd", "utf8").split("\n").length,
    links: readdirSync("/sys/class/net"),
  };
}

/** A laboratory's processes, those that hold its namespaces first of all, have its folder in their command lines. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

async function demo(
  args: string[],
  until?: { text: RegExp; signal: NodeJS.Signals; look: () => void },
): Promise<{ status: number; stdout: string; stderr: string }> {
  const child = Bun.spawn([process.execPath, MAIN, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, TMPDIR: folder },
  });
  let signalled = false;
  const read = async (stream: ReadableStream<Uint8Array>): Promise<string> => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      text += decoder.decode(bytes, { stream: true });
      if (until === undefined || signalled || !until.text.test(text)) continue;
      signalled = true;
      until.look();
      child.kill(until.signal);
    }
    return text;
  };
  const [stdout, stderr, status] = await Promise.all([read(child.stdout), read(child.stderr), child.exited]);
  return { status, stdout, stderr };
}

const NEEDS = [
  ...INTEGRATION,
  { programs: [ownTarget() === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64", "dpkg-deb"] },
];

describeWith(NEEDS, "demo", () => {
  /** The report of a node that answered; nothing is left behind. */
  async function reports(...options: string[]): Promise<void> {
    const before = traces();
    const { status, stdout, stderr } = await demo(["--json", ...options]);
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
    const report = JSON.parse(stdout) as {
      ok: boolean;
      steps: { name: string; duration: number }[];
      report: { node: string; address: string; transferBytes: number };
    };
    expect(report.ok).toBe(true);
    expect(report.steps.map((s) => s.name)).toContain("transfer");
    expect(report.report.node).toMatch(/^vpn-[0-9a-f]{6}$/);
    expect(report.report.address).toMatch(/^192\.168\.19\d\.\d+$/);
    expect(report.report.transferBytes).toBe(4 << 20);
    expect(traces()).toEqual(before);
  }

  test("--json reports a node that answered, and nothing is left behind", () => reports(), 300_000);

  // It may take a download of 140 MB.
  test.skipIf(process.env["WALT_SOAK"] === undefined)(
    "so does a node with the image of `walt image build --node`",
    () => reports("--node-image"),
    1_800_000,
  );

  test("^C in the middle ends it, with everything it started", async () => {
    const before = traces();
    let during: unknown;
    const { status, stderr } = await demo([], {
      text: /hosts: server/,
      signal: "SIGINT",
      look: () => {
        during = traces();
      },
    });
    expect(during).not.toEqual(before); // it would have been seen
    expect(stderr).toMatch(/stopped by SIGINT/);
    expect(status).toBe(1);
    expect(traces()).toEqual(before);
  }, 120_000);

  test("an unknown option is an error of usage", async () => {
    const { status, stderr } = await demo(["--josn"]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/--josn/);
  });
});
