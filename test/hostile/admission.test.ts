/**
 * Whoever has the enrolment key against honest boards and against invitations. These tests fail where a waiting
 * board's connection is ended to make room for others, where one source may have all places of requests, and where
 * an invitation is looked at and used in two steps.
 */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { AdmissionServer } from "./admission-server.ts";

test("257 connections and as many requests of one attacker keep no honest board out", async () => {
  await using server = await AdmissionServer.start();
  server.requests.watch(() => {});
  const before = await server.ask({ from: "127.0.0.3" });
  expect(before.reply).toEqual({ type: "pending" });
  const flood = async (): Promise<void> => {
    for (let i = 0; i < 257; i++) await server.ask({ from: "127.0.0.2" });
  };
  await flood();
  // One that waits already, and one that comes in the middle of it.
  const after = await server.ask({ from: "127.0.0.4" });
  expect(after.reply).toEqual({ type: "pending" });
  await flood();
  expect([before.socket.isClosed, after.socket.isClosed]).toEqual([false, false]);
  expect(server.requests.pending.length).toBeLessThanOrEqual(128);
  for (const { address, id, fingerprint } of server.requests.pending)
    if (address !== "127.0.0.2") server.requests.answer(id, { accept: true, fingerprint, by: "al" });
  expect(await before.line()).toContain('"granted"');
  expect(await after.line()).toContain('"granted"');
  expect(server.registry.list()).toHaveLength(2);
}, 120_000);

test("a token that many devices show at the same moment lets in as many as it says", async () => {
  await using server = await AdmissionServer.start();
  const { token } = server.devices.addToken({ uses: 3, expires: 60_000, note: "", by: "al" });
  const all = await Promise.all(Array.from({ length: 12 }, () => server.ask({ token })));
  expect(all.filter(({ reply }) => reply?.type === "granted")).toHaveLength(3);
  expect(server.registry.list()).toHaveLength(3);
});

test("a token that several processes claim at the same moment lets in as many as it says", async () => {
  await using server = await AdmissionServer.start();
  const { token } = server.devices.addToken({ uses: 7, expires: 60_000, note: "", by: "al" });
  const program = join(import.meta.dir, "claimant.ts");
  const children = Array.from({ length: 3 }, () =>
    Bun.spawn([process.execPath, program, server.folder, token, "10"], {
      stdio: ["pipe", "pipe", "inherit"],
    }),
  );
  const readers = children.map(({ stdout }) => stdout.getReader());
  const said = async (i: number): Promise<string> =>
    new TextDecoder().decode((await readers[i]?.read())?.value).trim();
  try {
    expect(await Promise.all(children.map((_, i) => said(i)))).toEqual(["ready", "ready", "ready"]);
    for (const { stdin } of children) {
      stdin.write("now\n");
      stdin.flush();
    }
    const counts = await Promise.all(children.map((_, i) => said(i)));
    expect(counts.map(Number).reduce((a, b) => a + b)).toBe(7);
    expect(server.registry.list()).toHaveLength(7);
    expect(server.devices.invitations()).toMatchObject([{ used: 7, state: "used up" }]);
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map((child) => child.exited));
  }
}, 120_000);

test("an expected board that two claim at the same moment is one; the other is asked about, with a warning", async () => {
  await using server = await AdmissionServer.start();
  server.requests.watch(() => {});
  const mac = "b8:27:eb:01:02:03";
  server.devices.expect({ mac, serialNumber: undefined, expires: 60_000, note: "", by: "al" });
  const both = await Promise.all([server.ask({ mac }), server.ask({ mac })]);
  expect(both.map(({ reply }) => reply?.type).toSorted()).toEqual(["granted", "pending"]);
  expect(server.requests.pending).toMatchObject([
    { warnings: [expect.stringContaining("a registered device with this MAC address exists already")] },
  ]);
});

test("guessed tokens let nobody in, and are remembered within the limits", async () => {
  await using server = await AdmissionServer.start();
  const { token } = server.devices.addToken({ uses: 3, expires: 60_000, note: "", by: "al" });
  const start = performance.now();
  for (let i = 0; i < 100; i++) {
    const at = 5 + (i % 22);
    const guess = token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
    const { reply, socket } = await server.ask({ token: guess });
    expect(reply).toMatchObject({ type: "denied", reason: "nobody-watching" });
    socket.close();
  }
  expect(server.registry.list()).toEqual([]);
  // 64 of one source at once, and one a second.
  const most = 64 + Math.ceil((performance.now() - start) / 1000);
  expect(server.requests.list().length).toBeLessThanOrEqual(most);
  expect((await server.ask({ token })).reply?.type).toBe("granted");
}, 120_000);
