/** A chain of connections to proxies, each through the one before; every ssh is a script. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type Entrypoint, parseEntrypoint } from "../../../src/address.ts";
import { ProxyChain, type ProxyChainOptions } from "../../../src/device/route/proxy-chain.ts";
import { RouteFailure } from "../../../src/device/route/route-failure.ts";
import { Children } from "../../../src/linux/child.ts";
import { eventually } from "../../lab/eventually.ts";
import { isAlive } from "../../lab/proc.ts";
import { ECHO, ECHO_AND_COMPLAIN, ECHO_UNTIL_USR1, FakeSsh } from "./fake-ssh.ts";

const SERVER = { host: "walt.example.org", port: 2222 };
const [A, B] = ["a.example.org:22", "b.example.org:2022"];

let ssh: FakeSsh;
let children: Children;
beforeEach(() => {
  ssh = new FakeSsh();
  children = new Children();
  for (const alias of [A, B]) ssh.plays(alias, ECHO_UNTIL_USR1);
});
afterEach(async () => {
  await children.stop();
  ssh[Symbol.dispose]();
});

const entrypoint = (...proxies: string[]): Entrypoint => parseEntrypoint(proxies.join(","));

function open(to: Entrypoint, more: Partial<ProxyChainOptions> = {}): Promise<ProxyChain> {
  return ProxyChain.open({
    ...{ entrypoint: to, server: SERVER, keyFiles: ["/keys/device"], knownHosts: "/keys/known" },
    ...{ silence: 10_000, children, signal: new AbortController().signal },
    ...more,
  });
}

async function failure(opening: Promise<unknown>): Promise<RouteFailure> {
  const error = await opening.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof RouteFailure) return error;
  throw new Error(`no RouteFailure: ${error}`);
}

/** Ends an ssh as its proxy would, by closing the connection. */
async function lose(n: number): Promise<void> {
  process.kill((await ssh.call(n)).pid, "SIGUSR1");
}

describe("opening", () => {
  test("without proxies the server itself is the target, and no ssh is started", async () => {
    const chain = await open({ direct: { host: "192.0.2.1", port: 4444 } });
    expect(chain.target).toEqual({ host: "192.0.2.1", port: 4444 });
    expect(chain.alive).toBe(true);
    expect(chain.peer).toBe("the server 192.0.2.1:4444");
    await chain.stop();
    expect(ssh.calls).toEqual([]);
  });

  test("each proxy is reached through the port that the one before forwards, the last one forwards to the server", async () => {
    const chain = await open(entrypoint(A, B), { certificateFiles: ["/keys/certificate"] });
    const [first, second, ...more] = ssh.calls;
    expect(more).toEqual([]);
    expect(first).toMatchObject({ host: "a.example.org", port: 22, forward: { to: B } });
    expect(second).toMatchObject({
      host: "127.0.0.1",
      port: first?.forward?.localPort,
      forward: { to: "walt.example.org:2222" },
    });
    expect(chain.target).toEqual({ host: "127.0.0.1", port: second?.forward?.localPort ?? 0 });
    for (const [call, alias] of [
      [first, A],
      [second, B],
    ] as const) {
      expect(call?.options).toMatchObject({
        HostKeyAlias: alias,
        IdentityFile: "/keys/device",
        CertificateFile: "/keys/certificate",
        UserKnownHostsFile: "/keys/known",
      });
    }
    expect(chain.peer).toBe("the server walt.example.org:2222");
    await chain.stop();
  });

  test("a key without a certificate is shown alone", async () => {
    await (await open(entrypoint(A))).stop();
    expect((await ssh.call(0)).options).not.toHaveProperty("CertificateFile");
  });

  test("a proxy that leads to no server is a mistake in the configuration", async () => {
    await expect(open(entrypoint(A), { server: undefined })).rejects.toThrow("device.server is not set");
  });

  test("a proxy that refuses is named, and nothing stays behind", async () => {
    ssh.plays(B, "echo 'walt-vpn@b: Permission denied (publickey).' >&2; exit 255");
    const { end } = await failure(open(entrypoint(A, B)));
    expect(end).toMatchObject({
      kind: "key-refused",
      text: expect.stringContaining(`proxy ${B}: it does not accept our key`),
    });
    for (const { pid } of ssh.calls) expect(isAlive(pid)).toBe(false);
  });

  test("what is behind a proxy that cannot reach it: that proxy's own complaint is the reason", async () => {
    ssh.plays(A, ECHO_AND_COMPLAIN);
    const first = `kill -USR1 "$(head -n 1 '${ssh.dir}/calls' | cut -d "$(printf '\\037')" -f 1)"`;
    ssh.plays(B, `${first}\necho 'Connection closed by 127.0.0.1 port 9' >&2; exit 255`);
    const { end } = await failure(open(entrypoint(A, B)));
    expect(end).toEqual({
      kind: "unreachable",
      text: `proxy ${A}: it cannot reach the next hop (Connection refused)`,
    });
  });

  test("a local port that somebody else took is replaced by another one, four times at most", async () => {
    const taken = "echo 'bind [127.0.0.1]:4711: Address already in use' >&2; exit 255";
    // Taken until there were three calls.
    ssh.plays(A, `[ "$(wc -l <'${ssh.dir}/calls')" -ge 3 ] || { ${taken}; }\n${ECHO}`);
    const chain = await open(entrypoint(A));
    expect(ssh.calls).toHaveLength(3);
    expect(chain.target.port).toBe(ssh.calls[2]?.forward?.localPort ?? 0);
    await chain.stop();
    ssh.plays(A, taken);
    expect((await failure(open(entrypoint(A)))).end).toEqual({
      kind: "port-taken",
      text: `proxy ${A}: the local port 4711 cannot be used (Address already in use)`,
    });
    expect(ssh.calls).toHaveLength(3 + 4);
  });

  test("a first proxy that is lost while the second is being opened is the reason, and nothing stays behind", async () => {
    ssh.plays(B, "exec sleep 60");
    const opening = failure(open(entrypoint(A, B)));
    await ssh.call(1);
    await lose(0);
    expect((await opening).end).toEqual({ kind: "closed", text: `proxy ${A}: it closed the connection` });
    for (const { pid } of ssh.calls) expect(isAlive(pid)).toBe(false);
  });
});

describe("work over the chain", () => {
  test("ends as the work does while all proxies are there", async () => {
    const chain = await open(entrypoint(A));
    expect(await chain.during(Promise.resolve(7))).toBe(7);
    await expect(chain.during(Promise.reject(new Error("of its own")))).rejects.toThrow("of its own");
    expect(chain.alive).toBe(true);
    await chain.stop();
  });

  test("ends with the first proxy that is lost, and so does all later work", async () => {
    const chain = await open(entrypoint(A, B));
    const working = failure(chain.during(new Promise(() => {})));
    await lose(0);
    const lost = { kind: "closed", text: `proxy ${A}: it closed the connection` } as const;
    expect((await working).end).toEqual(lost);
    expect(chain.alive).toBe(false);
    await lose(1);
    expect((await failure(chain.during(Promise.resolve(7)))).end).toEqual(lost);
    await chain.stop();
  });
});

describe("why the server could not be reached", () => {
  test("is ssh's own reason under the server's name, unless the last proxy complained since", async () => {
    ssh.plays(A, ECHO_AND_COMPLAIN);
    const chain = await open(entrypoint(A));
    const stderr =
      "kex_exchange_identification: Connection closed by remote host\nConnection closed by 127.0.0.1";
    const early = chain.mark;
    expect(await chain.explainStderr(stderr, early)).toEqual({
      kind: "closed",
      text: "the server walt.example.org:2222: it closed the connection",
    });
    await lose(0);
    await eventually("the complaint", () => chain.mark > early);
    expect(await chain.explainStderr(stderr, early)).toEqual({
      kind: "unreachable",
      text: `proxy ${A}: it cannot reach the next hop (Connection refused)`,
    });
    expect(await chain.explainEnd({ kind: "closed", text: "x" }, early)).toMatchObject({
      kind: "unreachable",
    });
    // An old complaint is no reason for what came later.
    expect(await chain.explainEnd({ kind: "closed", text: "x" }, chain.mark)).toEqual({
      kind: "closed",
      text: "x",
    });
    await chain.stop();
  });

  test("a server that is reached without proxies has nobody else to blame", async () => {
    const chain = await open({ direct: SERVER });
    expect(await chain.explainEnd({ kind: "silent", text: "x" }, chain.mark)).toEqual({
      kind: "silent",
      text: "x",
    });
  });
});

test("a stop ends the last proxy first, and is no loss that anybody is told of", async () => {
  for (const alias of [A, B])
    ssh.plays(alias, `trap 'echo "${alias}" >>'${ssh.dir}/ended'; exit 0' TERM\n${ECHO}`);
  const chain = await open(entrypoint(A, B));
  await chain.stop();
  expect(await Bun.file(`${ssh.dir}/ended`).text()).toBe(`${B}\n${A}\n`);
});
