/** The serial console: what is kept, who watches, who types, and the terminal it is shown on. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BoundedSocket } from "../../../src/device/console/bounded-socket.ts";
import { attachConsole } from "../../../src/device/console/client.ts";
import { CONSOLE_KEPT, SerialConsole } from "../../../src/device/console/ring.ts";
import { type ConsoleServer, serveConsole, WATCHERS } from "../../../src/device/console/server.ts";
import { messageOf } from "../../../src/errors.ts";
import { eventually } from "../../lab/eventually.ts";
import { describeWith } from "../../lab/need.ts";
import { descendantsOf } from "../../lab/proc.ts";
import { LabProcess } from "../../lab/process.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (data: Uint8Array): string => new TextDecoder().decode(data);

let folder: string;
let path: string;
let serial: SerialConsole;
let server: ConsoleServer;
/** What reached the guest. */
let typed: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "walt-console-"));
  path = join(folder, "console.sock");
  serial = new SerialConsole();
  server = serveConsole(path, serial);
  typed = "";
  serial.connect((data) => {
    typed += text(data);
  });
});
afterEach(() => {
  server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Somebody who is attached: what he sees, and the wait until he has seen something. */
function watcher() {
  const leave = new AbortController();
  const attached = Promise.withResolvers<(data: Uint8Array) => void>();
  let seen = "";
  let look = (): void => {};
  const over = attachConsole({
    socket: path,
    show: (data) => {
      seen += text(data);
      look();
      return undefined;
    },
    attached: attached.resolve,
    signal: leave.signal,
  });
  over.catch(attached.reject);
  return {
    over,
    leave: () => leave.abort(),
    type: attached.promise,
    seen: (what: string): Promise<string> =>
      new Promise((resolve) => {
        look = () => {
          if (seen.includes(what)) resolve(seen);
        };
        look();
      }),
  };
}

test("the last 64 KiB are kept, whatever the pieces they came in", () => {
  const sizes = [1, 3, 1000, CONSOLE_KEPT - 1, CONSOLE_KEPT, CONSOLE_KEPT + 1, 10, 3 * CONSOLE_KEPT, 0, 7];
  let all = "";
  for (const [index, size] of sizes.entries()) {
    const piece = Array.from({ length: size }, (_, i) => String.fromCharCode(33 + ((i + index) % 90))).join(
      "",
    );
    all += piece;
    serial.output(bytes(piece));
    expect(text(serial.recent())).toBe(all.slice(-CONSOLE_KEPT));
  }
});

test("who attaches sees what was said before and what comes; what he types reaches the guest; others see it too", async () => {
  serial.output(bytes("SeaBIOS\r\n"));
  const first = watcher();
  await first.seen("SeaBIOS");
  const second = watcher();
  await second.seen("SeaBIOS");
  const [type] = await Promise.all([first.type, second.type]);
  type(bytes("ls\r"));
  serial.output(bytes("iPXE> "));
  expect(await second.seen("iPXE> ")).toBe("SeaBIOS\r\niPXE> ");
  expect(await first.seen("iPXE> ")).toBe("SeaBIOS\r\niPXE> ");
  expect(await eventually("what was typed", () => typed, { fits: (text) => text !== "" })).toBe("ls\r");
  first.leave();
  expect(await first.over).toBe("left");
  serial.note("the virtual machine starts");
  await second.seen("\r\n[walt: the virtual machine starts]\r\n");
  server.stop();
  expect(await second.over).toBe("device");
});

test("only root may attach, and only so many at a time", async () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const all = Array.from({ length: WATCHERS }, watcher);
  await Promise.all(all.map((one) => one.type));
  serial.output(bytes("here"));
  await Promise.all(all.map((one) => one.seen("here")));
  const late = watcher();
  await late.seen(`[walt: ${WATCHERS} others are attached already, which is the limit]`);
  expect(await late.over).toBe("device");
  all[0]?.leave();
  await all[0]?.over;
  await eventually("there is room, once the server has heard of it", () => {
    const next = watcher();
    return Promise.race([next.seen("here"), next.over.then(() => undefined)]);
  });
});

test("a watcher who does not read keeps nobody from anything, and is told what he missed", async () => {
  let seen = "";
  const opened = Promise.withResolvers<Bun.Socket>();
  const complete = Promise.withResolvers<void>();
  await Bun.connect({
    unix: path,
    socket: {
      open: (socket) => {
        socket.pause();
        opened.resolve(socket);
      },
      data: (_, data) => {
        seen += text(data);
        if (seen.endsWith("the end")) complete.resolve();
      },
    },
  });
  const slow = await opened.promise;
  const quick = watcher();
  await quick.type;
  serial.output(bytes("begin"));
  await quick.seen("begin"); // the server has opened both by now
  const lines = 100_000;
  for (let i = 0; i < lines; i++) serial.output(bytes(`${i} `.padEnd(100, ".")));
  slow.resume();
  await eventually("what was left out", () => seen.includes(" bytes left out]\r\n"));
  serial.output(bytes("the end"));
  await complete.promise;
  const missed = Number(/\r\n\[walt: (\d+) bytes left out\]\r\n/.exec(seen)?.[1]);
  const gap = `\r\n[walt: ${missed} bytes left out]\r\n`.length;
  expect(missed).toBeGreaterThan(lines * 50);
  expect(seen.length - gap + missed).toBe("begin".length + lines * 100 + "the end".length);
});

test("what a peer does not take is bounded, and given in order once it does", () => {
  const taken: string[] = [];
  let room = 0;
  const socket = new BoundedSocket(
    {
      write: (data) => {
        const n = Math.min(room, data.length);
        room -= n;
        taken.push(text(data.subarray(0, n)));
        return n;
      },
    },
    10,
    (skipped) => bytes(`<${skipped}>`),
  );
  const reused = bytes("abcdef");
  socket.write(reused);
  reused.fill(0); // it is the caller's again
  socket.write(bytes("ghijklm")); // 10 wait, 3 are skipped
  socket.write(bytes("n"));
  expect(socket.waiting).toBe(10);
  room = 3;
  socket.drain();
  socket.write(bytes("o")); // there is room again, but the gap is not told yet
  room = 100;
  socket.drain();
  socket.write(bytes("p"));
  expect(taken.join("")).toBe("abcdefghij<5>p");
});

test("without a device the command says what to do", async () => {
  server.stop();
  const error = await attachConsole({
    socket: path,
    show: () => undefined,
    attached: () => {},
    signal: new AbortController().signal,
  }).catch(messageOf);
  expect(error).toBe(`there is no console: no program listens on ${path}`);
});

describeWith({ programs: ["script", "stty"] }, "walt device console", () => {
  const command = (): string => {
    const config = join(folder, "vpn.toml");
    writeFileSync(config, `role = "device"\n[device]\nrun = "${folder}"\n`);
    return `${process.execPath} ${join(import.meta.dir, "../../../src/main.ts")} device console --config ${config}`;
  };
  const environment = { PATH: process.env["PATH"] ?? "", TERM: "xterm" };
  const terminal = (): LabProcess =>
    new LabProcess(["script", "-qec", `${command()}; echo status $?; stty -a`, "/dev/null"], [], environment);

  test("^] leaves, everything else is the guest's, ^C too; the terminal is as before", async () => {
    serial.output(bytes("login: "));
    const shown = terminal();
    await shown.waitFor(/\^\] leaves/);
    await shown.waitFor(/login: /);
    shown.write("root\r\u0003\u001a");
    await eventually("seven bytes", () => typed, { fits: (text) => text.length >= 7 });
    expect(typed).toBe("root\r\u0003\u001a");
    expect(shown.output).not.toContain("root"); // only the guest's echo would show it
    shown.write("x\u001dnot for the guest");
    await shown.waitFor(/Left the node's serial console/);
    expect((await shown.waitFor(/status (\d+)/))[1]).toBe("0");
    await shown.waitFor(/ icanon .*/);
    await shown.waitFor(/ echo /);
    expect(await shown.exited).toBe(0);
    expect(typed).toBe("root\r\u0003\u001ax");
  });

  test("the terminal is as before after SIGTERM, and when the device goes", async () => {
    for (const end of ["SIGTERM", "device"]) {
      const shown = terminal();
      await shown.waitFor(/\^\] leaves/);
      const after = shown.position;
      serial.output(bytes("ready"));
      await shown.waitFor(/ready/);
      if (end === "device") server.stop();
      else {
        for (const pid of descendantsOf(process.pid)) {
          const line = await Bun.file(`/proc/${pid}/cmdline`)
            .text()
            .catch(() => "");
          if (line.startsWith(`${process.execPath}\0`) && line.includes("console")) process.kill(pid, end);
        }
      }
      await shown.waitFor(end === "device" ? /The device ended the connection/ : /Left/, { after });
      await shown.waitFor(/ icanon /, { after });
      expect(await shown.exited).toBe(0);
    }
  });

  test("without a terminal: what is said on standard output and nothing else, and input is typed", async () => {
    serial.output(bytes("login: "));
    const words = command().split(" ");
    const plain = new LabProcess(words, [], environment);
    await plain.waitFor(/login: /);
    plain.write("root\u001d\n");
    await eventually("six bytes", () => typed, { fits: (text) => text.length >= 6 });
    await plain.closeInput();
    serial.output(bytes("welcome"));
    await plain.waitFor(/welcome/); // the end of the input is not the end
    server.stop();
    expect(await plain.exited).toBe(0);
    expect([typed, plain.stdout, plain.stderr]).toEqual(["root\u001d\n", "login: welcome", ""]);
  });
});
