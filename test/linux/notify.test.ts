import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { notifySystemd } from "../../src/linux/notify.ts";
import { describeWith } from "../lab/need.ts";

/** A datagram socket is not to be had in Bun, so a service manager of four lines is. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(("\\0" + sys.argv[1][1:]) if sys.argv[1][0] == "@" else sys.argv[1])
print("bound", flush=True)
print(s.recv(65536).decode(), flush=True)
`;

describeWith({ programs: ["python3"] }, "sd_notify", () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "walt-notify-"));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  for (const kind of ["path", "abstract"]) {
    test(`a datagram to a socket with a name of the kind: ${kind}`, async () => {
      const name = kind === "path" ? join(dir, "notify") : `@walt-test-${process.pid}`;
      const manager = Bun.spawn(["python3", "-c", MANAGER, name], { stdout: "pipe" });
      try {
        let said = "";
        let sent = false;
        for await (const bytes of manager.stdout) {
          said += new TextDecoder().decode(bytes);
          if (!sent && said.startsWith("bound\n")) {
            notifySystemd("READY=1\nSTATUS=well", name);
            sent = true;
          }
        }
        expect(said).toBe("bound\nREADY=1\nSTATUS=well\n");
      } finally {
        manager.kill("SIGKILL");
        await manager.exited;
      }
    });
  }
});

test("without a manager nothing happens; one that cannot be reached is an error", () => {
  notifySystemd("READY=1", undefined);
  notifySystemd("READY=1", "");
  expect(() => notifySystemd("READY=1", "/nowhere/notify")).toThrow(
    "cannot notify /nowhere/notify: no such file",
  );
  expect(() => notifySystemd("READY=1", "relative")).toThrow(
    "NOTIFY_SOCKET is not the address of a UNIX socket",
  );
  expect(() => notifySystemd("READY=1", `/${"x".repeat(108)}`)).toThrow(
    "is not the address of a UNIX socket",
  );
});
