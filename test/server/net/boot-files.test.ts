/** The boot service: what iPXE asks for, and what it must not get. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatLine, type Log } from "../../../src/log.ts";
import { archScript, BootService, entryScript } from "../../../src/server/net/boot-files.ts";
import { eventually } from "../../lab/eventually.ts";

const logged: string[] = [];
const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
  logged.push(formatLine("", message, fields));
};
const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };

/** A port that is free now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

let dir: string;
let port: number;
let base: string;
let service: BootService;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "walt-boot-"));
  writeFileSync(join(dir, "secret"), "secret");
  mkdirSync(join(dir, "boot/x86_64"), { recursive: true });
  mkdirSync(join(dir, "boot/arm64"));
  writeFileSync(join(dir, "boot/x86_64/vmlinuz"), "kernel");
  writeFileSync(join(dir, "boot/x86_64/initrd.img"), "initramfs");
  writeFileSync(join(dir, "boot/x86_64/cmdline"), "console=ttyS0\n  quiet \n");
  writeFileSync(join(dir, "boot/arm64/vmlinuz"), "kernel");
  port = await freePort();
  base = `http://127.0.0.1:${port}`;
  service = await BootService.start("127.0.0.1", port, join(dir, "boot"), log);
});
afterAll(async () => {
  await service.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function get(path: string): Promise<[status: number, text: string]> {
  const response = await fetch(base + path);
  return [response.status, await response.text()];
}

/** An answer to a request line that fetch would have tidied up. */
function raw(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = createConnection(port, "127.0.0.1", () => socket.write(request));
    socket.on("data", (bytes) => {
      answer += String(bytes);
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}

describe("scripts", () => {
  test("the first goes on to the one of its architecture, again and again until there is one", () => {
    expect(entryScript("http://192.168.192.1:8080")).toMatchInlineSnapshot(`
      "#!ipxe
      set arch \${buildarch}
      iseq \${arch} i386 && set arch x86_64 ||
      :again
      chain --replace http://192.168.192.1:8080/boot/\${arch}/boot.ipxe ||
      echo walt: no boot files yet for \${arch}, trying again in 5 seconds
      sleep 5
      goto again
      "
    `);
  });

  test("one of an architecture loads kernel and initramfs, and begins again when that fails", () => {
    expect(archScript("http://192.168.192.1:8080", "arm64", "quiet")).toMatchInlineSnapshot(`
      "#!ipxe
      imgfree
      kernel http://192.168.192.1:8080/boot/arm64/vmlinuz initrd=initrd.img quiet || goto failed
      initrd --name initrd.img http://192.168.192.1:8080/boot/arm64/initrd.img || goto failed
      boot || goto failed
      :failed
      sleep 5
      chain --replace http://192.168.192.1:8080/boot.ipxe
      "
    `);
  });
});

describe("the service", () => {
  test("gives scripts and files", async () => {
    expect(await get("/boot.ipxe")).toEqual([200, entryScript(base)]);
    // The command line on one line, whatever the file looks like.
    expect(await get("/boot/x86_64/boot.ipxe")).toEqual([
      200,
      archScript(base, "x86_64", "console=ttyS0 quiet"),
    ]);
    expect(service.seen.get("127.0.0.1")).toMatchObject({ missing: null });
    expect(await get("/boot/x86_64/vmlinuz")).toEqual([200, "kernel"]);
    expect(await get("/boot/x86_64/initrd.img")).toEqual([200, "initramfs"]);
    expect(logged).toContain("a node boots event=node-boots from=127.0.0.1 arch=x86_64");
  });

  test("a missing file is 404, and the log names it", async () => {
    expect(await get("/boot/arm64/boot.ipxe")).toEqual([404, "no boot files\n"]);
    expect(logged.at(-1)).toBe(
      `a node asks to boot, but a boot file is missing or cannot be read event=boot-file-missing from=127.0.0.1 file=${dir}/boot/arm64/initrd.img reason=ENOENT`,
    );
    expect(service.seen.get("127.0.0.1")?.missing).toBe(join(dir, "boot/arm64/initrd.img"));
    expect(await get("/boot/arm64/initrd.img")).toEqual([404, "not found\n"]);
  });

  test("an unknown architecture, file or path is 404", async () => {
    for (const path of [
      "/",
      "/boot",
      "/boot/mips/boot.ipxe",
      "/boot/x86_64/cmdline",
      "/boot/x86_64/",
      "/boot/x86_64/constructor",
      "/x".repeat(2000),
    ])
      expect([path, await get(path)]).toEqual([path, [404, "not found\n"]]);
  });

  test("nothing outside its folder can be had", async () => {
    for (const path of [
      "/boot/../secret",
      "/boot/x86_64/../../secret",
      "/boot/x86_64/..%2f..%2fsecret",
      "/boot/x86_64/%2e%2e/%2e%2e/secret",
      "/boot/..//..//secret",
      "/boot/x86_64/vmlinuz%00",
      "\\boot\\..\\secret",
    ]) {
      const answer = await raw(`GET ${path} HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n`);
      expect([path, answer]).toEqual([path, expect.not.stringContaining("secret")]);
      expect([path, answer]).toEqual([path, expect.not.stringMatching(/^HTTP\/1.\d 200/)]);
    }
  });

  test("garbage does it no harm", async () => {
    for (const text of ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", `GET /${"x".repeat(1 << 20)} HTTP/1.1\r\n\r\n`])
      await raw(text).catch(() => "");
    expect((await get("/boot.ipxe"))[0]).toBe(200);
  });

  test("a node that asks without end does not fill the log", async () => {
    const before = logged.length;
    for (let i = 0; i < 300; i++) await get("/boot/x86_64/boot.ipxe");
    expect(logged.length - before).toBeWithin(1, 150);
  });

  test("a request for a host that is none is no error of ours", async () => {
    const before = logged.length;
    const answer = await raw("GET /boot.ipxe HTTP/1.1\r\nHost: a%zz[\r\nConnection: close\r\n\r\n");
    expect(answer).toStartWith("HTTP/1.1 200"); // the path counts
    expect(logged).toHaveLength(before);
  });

  test("a command line that is too long is an error in the log, not a crash", async () => {
    writeFileSync(join(dir, "boot/arm64/initrd.img"), "");
    writeFileSync(join(dir, "boot/arm64/cmdline"), "x".repeat(3000));
    expect(await get("/boot/arm64/boot.ipxe")).toEqual([500, "internal error\n"]);
    expect(logged.at(-1)).toBe(
      `a boot request failed event=boot-failed reason="${dir}/boot/arm64/cmdline is larger than 2048 bytes"`,
    );
  });

  test("a port that is taken is said, with what to do", async () => {
    await expect(BootService.start("127.0.0.1", port, dir, log)).rejects.toThrow(
      `cannot serve boot files on ${base}: `,
    );
  });
});

test("a node that holds many connections keeps some of them, and no other node from booting", async () => {
  const held: Socket[] = [];
  let closed = 0;
  const connect = (localAddress: string) => {
    const socket = createConnection({ host: "127.0.0.1", port, localAddress });
    socket.on("error", () => {}).on("close", () => closed++);
    held.push(socket);
    return new Promise((resolve) => socket.once("connect", resolve));
  };
  try {
    for (let n = 0; n < 100; n++) await connect("127.0.0.77");
    await eventually("all but 16 of one address are closed", () => closed, { fits: (n) => n === 84 });
    // With hundreds of addresses, too, there are never more than 512.
    for (let n = 0; n < 600; n++) await connect(`127.0.1.${n % 100}`);
    await eventually("512 are left", () => held.length - closed, { fits: (n) => n <= 512 });
    expect(await get("/boot/x86_64/boot.ipxe")).toEqual([200, expect.stringContaining("#!ipxe")]);
    // Whose a request is is known behind the front, too: that one was logged before, and is not again so soon.
    expect(logged.join()).toContain("event=node-boots from=127.0.0.1 ");
  } finally {
    for (const socket of held) socket.destroy();
  }
});
