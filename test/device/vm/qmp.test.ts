/** QEMU's protocol against a peer that answers badly, or is not QEMU at all. */

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Qmp, type QmpEvent } from "../../../src/device/vm/qmp.ts";
import { messageOf } from "../../../src/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "walt-qmp-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\r\n';

/** Somebody at a socket who greets with `greeting` and answers each command's id with what `answer` says. */
function peer(
  greeting: string,
  answer: (id: number, command: string) => string = (id) => `{"return": {}, "id": ${id}}\r\n`,
) {
  const path = join(folder, `${Math.random()}.sock`);
  const server = Bun.listen({
    unix: path,
    socket: {
      open: (socket) => void socket.write(greeting),
      data: (socket, bytes) => {
        for (const line of bytes.toString().trim().split("\n")) {
          const { id, execute } = JSON.parse(line) as { id: number; execute: string };
          socket.write(answer(id, execute));
        }
      },
    },
  });
  return { path, [Symbol.dispose]: () => server.stop(true) };
}

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "it did not fail",
    (error: unknown) => messageOf(error),
  );
}

test("nobody at the socket is no error", async () => {
  expect(await Qmp.connect(join(folder, "nobody"))).toBeUndefined();
});

test("what is not QMP is refused, and is not printed raw", async () => {
  using not = peer("SSH-2.0-\u001b[31mred\r\n");
  expect(await failure(Qmp.connect(not.path))).toBe("QEMU sent a line that is not QMP: SSH-2.0-?[31mred?");
});

test("a line without end is not collected for ever", async () => {
  const path = join(folder, "endless.sock");
  // node:net keeps on writing what the socket does not take at once
  const server = createServer((socket) => socket.on("error", () => {}).write("x".repeat(1 << 21)));
  await new Promise<void>((listening) => server.listen(path, listening));
  expect(await failure(Qmp.connect(path))).toBe("QEMU sent a line of more than 1048576 characters");
  server.close();
});

test("silence is given up", async () => {
  using silent = peer("");
  expect(await failure(Qmp.connect(silent.path, undefined, 50))).toMatch(/did not speak QMP within 50 ms/);
});

test("events reach their taker, and a refusal is an error with QEMU's words", async () => {
  using qemu = peer(GREETING, (id, command) =>
    command === "qmp_capabilities"
      ? `{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}\r\n{"return": {}, "id": ${id}}\r\n`
      : `{"error": {"class": "GenericError", "desc": "no \\u001b such device"}, "id": ${id}}\r\n`,
  );
  const events: QmpEvent[] = [];
  const qmp = await Qmp.connect(qemu.path, (event) => events.push(event));
  expect(events).toEqual([{ name: "SHUTDOWN", data: { reason: "guest-reset" } }]);
  expect(await failure(qmp?.execute("device_del") ?? Promise.resolve())).toBe("QEMU: no ? such device");
  qmp?.stop();
  expect(await failure(qmp?.execute("stop") ?? Promise.resolve())).toBe(
    "cannot run the QMP command stop: QEMU has ended",
  );
});

test("a command whose answer is lost with the connection fails", async () => {
  const qemu = peer(GREETING, (id, command) => (command === "quit" ? "" : `{"return": {}, "id": ${id}}\r\n`));
  const qmp = await Qmp.connect(qemu.path);
  const quit = failure(qmp?.execute("quit") ?? Promise.resolve());
  qemu[Symbol.dispose]();
  expect(await quit).toBe("QEMU closed the connection");
  await qmp?.ended;
});
