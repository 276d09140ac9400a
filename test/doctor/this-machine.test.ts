/** The real machine: each answer comes in time and is bounded, whatever programs, files and peers do. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dnsAnswer, dnsQuestion, nameServers } from "../../src/doctor/dns.ts";
import { thisMachine } from "../../src/doctor/this-machine.ts";

const never = new AbortController().signal;
const machine = thisMachine(never);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "walt-doctor-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A TCP server on the loopback interface. */
async function serve(connected: (socket: Socket) => void): Promise<{ host: string; port: number }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    connected(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return { host: "127.0.0.1", port: typeof address === "object" && address !== null ? address.port : 0 };
}

function program(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

test("a program's status and output; undefined for one that is missing or hangs", async () => {
  const speaks = program("speaks", "echo out; echo err >&2; exit 3");
  expect(await machine.run([speaks])).toEqual({ status: 3, stdout: "out\n", stderr: "err\n" });
  expect(await machine.run(["walt-no-such-program"])).toBeUndefined();
  expect(await machine.run(["sleep", "60"], 50)).toBeUndefined();
  expect([machine.has("sh"), machine.has("walt-no-such-program")]).toEqual([true, false]);
});

test("a program that talks without end is killed, and one that talks much is cut", async () => {
  expect(await machine.run(["yes"], 100)).toBeUndefined();
  const ran = await machine.run(["sh", "-c", "yes | head -c 1000000"]);
  expect([ran?.status, ran?.stdout.length]).toEqual([0, 65_536]);
});

test("a program that leaves another one behind, which keeps its output open, is not waited for", async () => {
  const ran = await machine.run(["sh", "-c", "sleep 3 & echo done"], 30_000);
  expect(ran).toMatchObject({ status: 0, stdout: "done\n" });
});

test("nothing is begun or waited for once it is ended", async () => {
  const end = new AbortController();
  const ending = thisMachine(end.signal);
  const hanging = [
    ending.run(["sleep", "60"], 60_000),
    ending.talk(await serve(() => {})),
    ending.ask({ host: "127.0.0.1", port: 9 }, Buffer.from("x")),
  ] as const;
  end.abort();
  const [ran, talk, answer] = await Promise.all(hanging);
  expect([ran, answer]).toEqual([undefined, undefined]);
  expect(["none", "there"]).toContain(talk.is); // it may just have been connected
  expect(await ending.run(["true"])).toBeUndefined();
});

test("a peer's first line, bounded; whether it closes the connection; why there is none", async () => {
  const greets = await serve((socket) => {
    socket.write("SSH-2.0-x\r\nmore\r\n");
    socket.once("data", () => socket.end());
  });
  expect(await machine.talk(greets)).toEqual({ is: "there", line: "SSH-2.0-x", ended: false });
  expect(await machine.talk(greets, Buffer.from("bye"))).toEqual({
    is: "there",
    line: "SSH-2.0-x",
    ended: true,
  });
  const closes = await serve((socket) => socket.end());
  expect(await machine.talk(closes)).toEqual({ is: "there", line: undefined, ended: true });
  const floods = await serve((socket) => socket.write("x".repeat(1 << 20)));
  expect(await machine.talk(floods)).toEqual({ is: "there", line: "x".repeat(255), ended: false });
  servers.at(-1)?.close();
  const { port } = await serve(() => {});
  await new Promise((resolve) => servers.at(-1)?.close(resolve));
  expect(await machine.talk({ host: "127.0.0.1", port })).toEqual({ is: "none", code: "ECONNREFUSED" });
});

test("files, folders and ports", async () => {
  const file = join(folder, "a-file");
  writeFileSync(file, "text", { mode: 0o640 });
  expect(await machine.read(file)).toBe("text");
  expect(await machine.read(`${file}/x`)).toBeUndefined();
  expect(await machine.stat(file)).toMatchObject({ mode: 0o640, uid: process.getuid?.() ?? 0 });
  expect(await machine.stat(`${file}/x`)).toBeUndefined();
  expect(await machine.list(folder)).toContain("a-file");
  expect(await machine.list(`${folder}/no`)).toEqual([]);
  expect([await machine.access(file), await machine.access(`${file}-no`)]).toEqual([undefined, "ENOENT"]);
  const space = await machine.space(folder);
  expect(space.free).toBeLessThanOrEqual(space.size);
  const taken = await serve(() => {});
  expect(await machine.listen(taken)).toBe("EADDRINUSE");
  expect(await machine.listen({ host: "127.0.0.1", port: 0 })).toBeUndefined();
  expect(await machine.listen({ host: "192.0.2.1", port: 0 })).toBe("EADDRNOTAVAIL");
  expect(await machine.watch(folder)).toBeUndefined();
});

test("names, and a name server's answer", async () => {
  expect(await machine.resolve("192.0.2.7")).toEqual({ addresses: ["192.0.2.7"] });
  expect(await machine.resolve("localhost")).toMatchObject({
    addresses: expect.arrayContaining(["127.0.0.1"]),
  });
  const socket = createSocket("udp4");
  socket.on("message", (question, { port }) => {
    const answer = Buffer.from(question);
    answer[2] = 0x81;
    answer[3] = 0x83; // NXDOMAIN
    socket.send(answer, port, "127.0.0.1");
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const to = { host: "127.0.0.1", port: socket.address().port };
  const answer = (await machine.ask(to, dnsQuestion("gate.example", 0x1234))) ?? Buffer.alloc(0);
  expect([dnsAnswer(answer, 0x1234), dnsAnswer(answer, 1)]).toEqual(["NXDOMAIN", undefined]);
  await new Promise<void>((resolve) => socket.close(resolve));
});

test("a question to a name server, to the byte; and what a resolv.conf names", () => {
  expect(Buffer.from(dnsQuestion("a.bc", 0x0102)).toString("hex")).toBe(
    ["0102", "0100", "0001", "0000", "0000", "0000", "0161", "026263", "00", "0001", "0001"].join(""),
  );
  const text = "search x\nnameserver 192.0.2.1\n#nameserver 192.0.2.2\nnameserver junk\nnameserver ::1\n";
  expect(nameServers(text)).toEqual(["192.0.2.1", "::1"]);
});
