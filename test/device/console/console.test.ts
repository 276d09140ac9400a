/** The serial console: what is kept, who watches, who types, and the terminal it is shown on. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Place } from "../../../src/control/pieces.ts";
import { BoundedSocket } from "../../../src/device/console/bounded-socket.ts";
import { ByteRing } from "../../../src/device/console/byte-ring.ts";
import { attachConsole } from "../../../src/device/console/client.ts";
import {
  ATTACHED,
  type AttachMode,
  CONSOLE_KEPT,
  SerialConsole,
} from "../../../src/device/console/serial-console.ts";
import { type ConsoleServer, serveConsole } from "../../../src/device/console/server.ts";
import { messageOf } from "../../../src/errors.ts";
import { eventually, turn } from "../../lab/eventually.ts";
import { describeWith } from "../../lab/need.ts";
import { Asker } from "../../lab/order-stream.ts";
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

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "walt-console-"));
  path = join(folder, "console.sock");
  serial = new SerialConsole();
  server = await serveConsole(path, serial);
  typed = "";
  serial.connect((data) => {
    typed += text(data);
  });
});
afterEach(() => {
  server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Somebody who is attached by the socket: what he sees, and the wait until he has seen something. */
function watcher(mode: AttachMode = "watch") {
  const leave = new AbortController();
  const attached = Promise.withResolvers<(data: Uint8Array) => void>();
  let seen = "";
  let look = (): void => {};
  const over = attachConsole({
    socket: path,
    mode,
    show: (data) => {
      seen += text(data);
      look();
      return undefined;
    },
    attached: attached.resolve,
    signal: leave.signal,
  });
  over.catch(attached.reject);
  attached.promise.catch(() => {});
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

/** Somebody who is attached by a channel. */
async function attach(
  mode: AttachMode,
  name: string,
  after?: Place,
): Promise<Asker & { over: Promise<void> }> {
  const asker = Object.assign(new Asker(), { over: Promise.resolve() });
  let admitted = false;
  const told = (): void => {
    admitted = true;
  };
  asker.over = serial.attach({ mode, name, after, admitted: told }, asker);
  await Promise.race([asker.over, eventually("he is attached", () => admitted)]);
  return asker;
}

test("the last bytes are kept, whatever the pieces they came in and are read in; what is lost is counted", () => {
  const size = 1000;
  const ring = new ByteRing(size);
  const sizes = [1, 3, 500, size - 1, size, size + 1, 10, 3 * size, 0, 7];
  let all = "";
  let read = "";
  let next = 0;
  for (const [index, length] of sizes.entries()) {
    const letters = Array.from({ length }, (_, i) => String.fromCharCode(33 + ((i + index) % 90)));
    all += letters.join("");
    ring.write(bytes(letters.join("")));
    let kept = "";
    for (let at = ring.start; kept.length < Math.min(size, all.length); ) {
      const piece = ring.read(at, 300);
      expect([piece.lost, piece.bytes.length > 0]).toEqual([0, true]);
      kept += text(piece.bytes);
      at = piece.next;
    }
    expect(kept).toBe(all.slice(-size));
    for (;;) {
      const piece = ring.read(next, 300);
      read += "?".repeat(piece.lost) + text(piece.bytes);
      next = piece.next;
      if (piece.bytes.length === 0) break;
    }
    expect(next).toBe(all.length);
  }
  expect(read).toHaveLength(all.length);
  expect(read.replaceAll("?", "").length).toBeGreaterThan(size);
  for (const [at, letter] of [...read].entries()) if (letter !== "?") expect(letter).toBe(all[at] ?? "");
});

test("who attaches sees what was said before and what comes; what the writer types reaches the guest", async () => {
  serial.output(bytes("SeaBIOS\r\n"));
  const [ann, ben] = await Promise.all([attach("write", "ann"), attach("watch", "ben")]);
  ann.type("ls\r");
  await eventually("what was typed", () => typed === "ls\r");
  serial.output(bytes("iPXE> "));
  await eventually("both see it", () => ann.seen.endsWith("iPXE> ") && ben.seen.endsWith("iPXE> "));
  expect([ann.seen, ben.seen]).toEqual(["SeaBIOS\r\niPXE> ", "SeaBIOS\r\niPXE> "]);
  ann.leave();
  await eventually("the end", ann.over);
  serial.note("the virtual machine was started again"); // which ends nobody's watch
  await eventually("the note", () =>
    ben.seen.endsWith("\r\n[walt: the virtual machine was started again]\r\n"),
  );
});

test("one writer: a second one is refused by name; who takes the console makes the first one a watcher", async () => {
  const ann = await attach("write", "ann");
  const refused = new Asker();
  await expect(serial.attach({ mode: "write", name: "ben" }, refused)).rejects.toThrow(
    "ann is typing on the console",
  );
  expect(refused.seen).toBe("");
  const ben = await attach("take", "ben\u001b[2J");
  await eventually("she is told", () => ann.seen !== "");
  expect(ann.seen).toBe("\r\n[walt: ben?[2J has taken the console: you can only watch now]\r\n");
  ann.type("rm\r");
  await eventually("she is told that she types in vain", () =>
    ann.seen.endsWith("\r\n[walt: what you type is not sent: you can only watch]\r\n"),
  );
  const before = ann.seen;
  ann.type("rm\r"); // which she has been told already
  ben.type("ls\r");
  await eventually("what was typed", () => typed === "ls\r");
  serial.output(bytes("on"));
  await eventually("she still sees", () => ann.seen === `${before}on`);
  expect(ben.seen).toBe("on");
  ben.leave();
  await eventually("the end", ben.over);
  const cem = await attach("write", "cem"); // now nobody types
  cem.end();
  await eventually("who has no more to type leaves his place", async () => {
    const dora = await attach("write", "dora").catch(() => undefined);
    dora?.leave();
    return dora;
  });
  serial.output(bytes("!"));
  await eventually("and goes on watching", () => cem.seen.endsWith("!"));
});

test("a watcher who does not read keeps nobody from anything, and is told what he missed", async () => {
  const slow = await attach("watch", "slow");
  slow.block();
  serial.output(bytes("begin"));
  await turn(); // it is being written to him
  const lines = 100_000;
  for (let i = 0; i < lines; i++) serial.output(bytes(`${i} `.padEnd(100, ".")));
  slow.unblock();
  serial.output(bytes("the end"));
  await eventually("the end", () => slow.seen.endsWith("the end"));
  const missed = Number(/\r\n\[walt: (\d+) bytes left out\]\r\n/.exec(slow.seen)?.[1]);
  const gap = `\r\n[walt: ${missed} bytes left out]\r\n`.length;
  expect(missed).toBe(lines * 100 + "the end".length - CONSOLE_KEPT);
  expect(slow.seen.length - gap + missed).toBe("begin".length + lines * 100 + "the end".length);
});

test("who comes back after a lost connection sees what he has not seen, whatever he was told besides", async () => {
  const ann = await attach("write", "ann");
  serial.output(bytes("one "));
  await eventually("it is shown", () => ann.seen === "one ");
  const ben = await attach("take", "ben");
  await eventually("she is told", () => ann.seen.includes("ben has taken the console"));
  serial.output(bytes("two "));
  await eventually("it is shown", () => ann.seen.endsWith("two "));
  expect([ann.last?.writes, ben.last?.writes]).toEqual([false, true]);
  for (const one of [ann, ben]) one.leave();
  await Promise.all([ann.over, ben.over]);
  serial.output(bytes("three"));
  for (const mode of ["watch", "write"] as const) {
    const again = await attach(mode, "ann", ann.last?.place);
    await eventually("the rest", () => again.seen === "three");
    expect(again.last?.writes).toBe(mode === "write");
    again.leave();
    await again.over;
  }
  serial.output(new Uint8Array(2 * CONSOLE_KEPT));
  const late = await attach("watch", "ann", ann.last?.place);
  await eventually("the gap", () => late.seen.startsWith(`\r\n[walt: ${CONSOLE_KEPT + 5} bytes left out]`));
  // Should the way be lost again behind the words about the gap, nothing of what follows is skipped.
  const gap = late.pieces.find((piece) => text(piece.bytes).includes("left out"));
  expect(gap?.place.position).toBe("one two three".length + CONSOLE_KEPT);
});

test("who comes back to type is a watcher when somebody else types meanwhile", async () => {
  const ben = await attach("resume", "ben");
  const ann = await attach("resume", "ann");
  await eventually("she is told", () =>
    ann.seen.includes("[walt: ben is typing on the console: you can only"),
  );
  expect([ann.last?.writes, ben.last?.writes]).toEqual([false, true]);
});

test("only so many may be attached at a time", async () => {
  const all = await Promise.all(Array.from({ length: ATTACHED }, () => attach("watch", "ann")));
  await expect(attach("watch", "late")).rejects.toThrow(
    `${ATTACHED} others are attached to the console, which is the limit`,
  );
  all[0]?.leave();
  await all[0]?.over;
  const next = await attach("watch", "next");
  for (const one of [...all, next]) one.leave();
});

test("the socket is root's alone; whoever comes by it is attached like everybody else", async () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
  serial.output(bytes("login: "));
  const local = watcher("write");
  const type = await local.type;
  await local.seen("login: ");
  type(bytes("root\r"));
  await eventually("what was typed", () => typed === "root\r");
  expect(await watcher("write").over.catch(messageOf)).toBe("root on the board is typing on the console");
  await attach("take", "ann");
  await local.seen("[walt: ann has taken the console: you can only watch now]");
  const another = watcher();
  await another.seen("login: ");
  another.leave();
  expect(await another.over).toBe("left");
  server.stop();
  expect(await local.over).toBe("device");
});

test("somebody at the socket who does not read is told what he missed", async () => {
  let seen = "";
  const opened = Promise.withResolvers<Bun.Socket>();
  await Bun.connect({
    unix: path,
    socket: {
      open: (socket) => {
        socket.write('{"mode":"watch"}\n');
        socket.pause();
        opened.resolve(socket);
      },
      data: (_, data) => {
        seen += text(data);
      },
    },
  });
  const slow = await opened.promise;
  const quick = watcher();
  await quick.type;
  serial.output(bytes("begin"));
  await quick.seen("begin"); // the server has attached both by now
  for (let i = 0; i < 1000; i++) {
    serial.output(bytes(`${i} `.padEnd(10_000, ".")));
    if (i % 5 === 0) await turn();
  }
  serial.output(bytes("the end"));
  slow.resume();
  await eventually("the end", () => seen.endsWith("the end"));
  expect(seen).toMatch(/\r\n\[walt: \d+ bytes left out\]\r\n/);
  slow.end();
});

test.each([
  ["the request: it is not JSON", "nonsense\n"],
  ["the request: mode must be", '{"mode":"own"}\n'],
  ["the request is no line of JSON", "x".repeat(1000)],
])("a request at the socket that is wrong is refused: %s", async (why, request) => {
  let seen = "";
  const data = (_: unknown, piece: Uint8Array): void => {
    seen += text(piece);
  };
  const socket = await Bun.connect({ unix: path, socket: { data } });
  socket.write(request);
  await eventually("the answer", () => seen.endsWith("\n"));
  expect(seen).toStartWith(`{"refused":"${why}`);
  socket.end();
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
  );
  const reused = bytes("abcdef");
  socket.write(reused);
  reused.fill(0); // it is the caller's again
  socket.write(bytes("ghijklm")); // 10 wait, 3 are skipped
  socket.write(bytes("n"));
  expect(socket.waiting).toBe(10);
  room = 3;
  socket.drain();
  room = 100;
  socket.drain();
  socket.write(bytes("p"));
  expect(taken.join("")).toBe("abcdefghijp");
});

test("without a device the command says what to do", async () => {
  server.stop();
  const error = await attachConsole({
    socket: path,
    mode: "watch",
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
