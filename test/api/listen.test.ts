/** The UNIX socket of a daemon's API: who may use it, and whose it is. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type ApiServer, groupId, listenApi, refuseSecond } from "../../src/api/listen.ts";
import { messageOf } from "../../src/errors.ts";
import { describeWith } from "../lab/need.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-api-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let count = 0;
let socket: string;
beforeEach(() => {
  socket = join(dir, String(count++), "api.sock");
});

const hello = (): Response => new Response("hello");
const failure = (promise: Promise<unknown>): Promise<string> => promise.then(() => "no error", messageOf);
const get = async (): Promise<string> => await (await fetch("http://walt/", { unix: socket })).text();

async function using(api: ApiServer, what: () => Promise<void>): Promise<void> {
  try {
    await what();
  } finally {
    await api.stop();
  }
}

/** Somebody who takes connections and never says a word. */
async function silent(path: string): Promise<Server> {
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}

describe("listening", () => {
  test("makes folder and socket, for its owner only, whatever the umask; its end removes the socket", async () => {
    for (const mask of [0, 0o077]) {
      const umask = process.umask(mask);
      const api = await listenApi(socket, undefined, hello);
      expect(process.umask(umask)).toBe(mask);
      await using(api, async () => {
        expect([statSync(socket).mode & 0o777, statSync(dirname(socket)).mode & 0o777]).toEqual([
          0o600, 0o755,
        ]);
        expect(await get()).toBe("hello");
      });
      expect(existsSync(socket)).toBe(false);
      rmSync(dirname(socket), { recursive: true });
    }
  });

  test("who asks is told by the kernel, whatever the request says", async () => {
    const api = await listenApi(socket, undefined, (_, user) => new Response(user));
    await using(api, async () => {
      expect(await get()).toBe(Bun.spawnSync(["id", "-un"]).stdout.toString().trim());
    });
  });

  test("a socket that nobody listens on any more is replaced", async () => {
    mkdirSync(join(socket, ".."));
    // As after kill -9: the file stays.
    const program = `Bun.listen({ unix: ${JSON.stringify(socket)}, socket: { data() {} } }); process.kill(process.pid, "SIGKILL");`;
    await Bun.spawn([process.execPath, "-e", program]).exited;
    expect(statSync(socket).isSocket()).toBe(true);
    await using(await listenApi(socket, undefined, hello), async () => expect(await get()).toBe("hello"));
  });

  test("a second daemon is refused, and the first goes on", async () => {
    await using(await listenApi(socket, undefined, hello), async () => {
      expect(await failure(listenApi(socket, undefined, hello))).toBe(
        `${socket}: another daemon listens there already`,
      );
      expect(await failure(refuseSecond(socket))).toContain("another daemon");
      expect(await get()).toBe("hello");
    });
    expect(await failure(refuseSecond(socket))).toBe("no error");
  });

  test("a daemon that is too busy to answer is one all the same", async () => {
    mkdirSync(join(socket, ".."));
    const busy = await silent(socket);
    try {
      expect(await failure(refuseSecond(socket))).toContain("another daemon");
    } finally {
      busy.close();
    }
  });

  test("a file in the socket's place is left alone", async () => {
    mkdirSync(join(socket, ".."));
    writeFileSync(socket, "precious");
    expect(await failure(listenApi(socket, undefined, hello))).toStartWith(`cannot listen on ${socket}: `);
    expect(readFileSync(socket, "utf8")).toBe("precious");
    expect(await failure(listenApi(join(socket, "below"), undefined, hello))).toStartWith(
      "cannot listen on ",
    );
  });

  test("a path that is too long for a socket is said, in bytes", async () => {
    const long = `/tmp/${"é".repeat(52)}`;
    expect(await failure(listenApi(long, undefined, hello))).toBe(
      `${long}: a UNIX socket's path has at most 107 bytes (unix(7))`,
    );
  });

  test("an error of ours is an answer, and the next request is served", async () => {
    let first = true;
    const handle = (): Response => {
      if (!first) return hello();
      first = false;
      throw new Error("oops");
    };
    await using(await listenApi(socket, undefined, handle), async () => {
      expect(await get()).toBe('{"error":"internal error: oops"}');
      expect(await get()).toBe("hello");
    });
  });
});

describeWith({ root: true }, "a group's socket", () => {
  test("belongs to the group, which may use it", async () => {
    const gid = groupId("tty") ?? 0;
    await using(await listenApi(socket, "tty", hello), () => {
      const { mode, gid: found, uid } = statSync(socket);
      expect([mode & 0o777, found, uid]).toEqual([0o660, gid, 0]);
      return Promise.resolve();
    });
  });

  test("of a group that does not exist is its owner's", async () => {
    await using(await listenApi(socket, "walt-no-such-group", hello), () => {
      expect(statSync(socket).mode & 0o777).toBe(0o600);
      return Promise.resolve();
    });
  });
});

test("a group's id comes from /etc/group", () => {
  expect(groupId("root")).toBe(0);
  expect(groupId("walt-no-such-group")).toBeUndefined();
});
