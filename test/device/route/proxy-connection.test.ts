/** A proxy is up when the far end of its child sends our words back, and dead when it does not. The far ends are programs. */

import { afterAll, expect, test } from "bun:test";
import { ProxyConnection } from "../../../src/device/route/proxy-connection.ts";
import { Children } from "../../../src/linux/child.ts";

const children = new Children();
afterAll(() => children.stop());

const open = (script: string, o: { silence?: number; openTimeout?: number } = {}): Promise<ProxyConnection> =>
  ProxyConnection.open({
    command: ["sh", "-c", script],
    name: "proxy gate:22",
    silence: o.silence ?? 10_000,
    openTimeout: o.openTimeout ?? 10_000,
    children,
  });

const message = async (opening: Promise<ProxyConnection>): Promise<string> => {
  try {
    await (await opening).stop();
    return "it opened";
  } catch (error) {
    return String(error);
  }
};

test("it is up once an echo comes, even behind a greeting", async () => {
  const proxy = await open("echo Welcome; echo; exec cat");
  await proxy.stop();
  expect(await proxy.ended).toEqual({ kind: "stopped", text: "proxy gate:22: closed" });
});

test("a failing ssh is explained with the proxy's name, and a refused key is told apart", async () => {
  const opening = open("echo 'walt-vpn@gate: Permission denied (publickey).' >&2; exit 255");
  const failure = await opening.catch((error: unknown) => error);
  expect(failure).toMatchObject({ end: { kind: "key-refused" } });
  expect(String(failure)).toContain("proxy gate:22: it does not accept our key");
  expect(
    await message(open("echo 'ssh: connect to host gate port 22: Connection refused' >&2; exit 255")),
  ).toContain("nothing listens on its port 22");
});

test("a proxy that takes the session but never answers is given up", async () => {
  expect(await message(open("exec sleep 60", { openTimeout: 50 }))).toContain(
    "proxy gate:22 does not answer",
  );
});

test("a proxy that falls silent ends the connection, by name", async () => {
  // It sends back the first line only.
  const proxy = await open('read line; echo "$line"; exec sleep 60', { silence: 60 });
  const end = await proxy.ended;
  expect(end.text).toContain("proxy gate:22 fell silent");
  expect(end.kind).toBe("silent");
});

test("silence that ssh noticed first is silence as well", async () => {
  const proxy = await open(
    'read line; echo "$line"; echo "Timeout, server gate not responding." >&2; exit 255',
  );
  expect(await proxy.ended).toEqual({ kind: "silent", text: "proxy gate:22: it fell silent" });
});

test("a connection that breaks ends the connection", async () => {
  const proxy = await open(
    'read line; echo "$line"; echo "Connection to gate closed by remote host." >&2; exit 255',
  );
  expect(await proxy.ended).toEqual({ kind: "closed", text: "proxy gate:22: it closed the connection" });
});

test("a proxy that floods us is given up, with lines or without", async () => {
  expect(await message(open("exec yes"))).toContain("more than 65536 bytes besides our heartbeat's echoes");
  expect(await message(open("exec tr '\\\\0' x </dev/zero"))).toContain("a line is longer than 1024 bytes");
});

test("a child that ignores SIGTERM does not stay", async () => {
  const proxy = await open(
    "trap '' TERM; while read line; do echo \"$line\"; done; while :; do sleep 1; done",
  );
  await proxy.stop();
  await proxy.ended;
});

test("a session that ends while ssh goes on, because of forwarded connections, ends the connection at once", async () => {
  const proxy = await open('read line; echo "$line"; exec 1>&-; exec sleep 60');
  expect(await proxy.ended).toEqual({ kind: "closed", text: "proxy gate:22: it ended the session" });
});

test("a round trip is measured by an echo of its own; one that does not come is none", async () => {
  const proxy = await open('read line; echo "$line"; read line; echo "$line"; exec sleep 60');
  expect(await proxy.ping(10_000)).toBeGreaterThanOrEqual(0);
  expect(await proxy.ping(20)).toBeUndefined();
  const late = proxy.ping(60_000);
  await proxy.stop();
  expect(await late).toBeUndefined();
});
