/** What a device hears from QEMU and from the kernel, under fuzz. */

import { afterAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Qmp, type QmpEvent } from "../../../src/device/vm/qmp.ts";
import { WaltError } from "../../../src/errors.ts";
import { parseUevent } from "../../../src/linux/uevent.ts";
import { eventually } from "../../lab/eventually.ts";
import { damage, damageJson, damageText, fuzz, oneOf, someBytes } from "../fuzz.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-fuzz-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const EVENT = [
  "add@/devices/platform/soc/usb1/1-1",
  ...[
    "ACTION=add",
    "DEVPATH=/devices/platform/soc/usb1/1-1",
    "SUBSYSTEM=usb",
    "DEVTYPE=usb_device",
    "BUSNUM=001",
  ],
]
  .map((part) => `${part}\0`)
  .join("");

fuzz("a uevent: nothing, or what the message says itself", 8000, (random) => {
  const bytes = random(20) === 0 ? someBytes(random, 300) : damage(Buffer.from(EVENT), random);
  const event = parseUevent(bytes);
  if (event === undefined) return;
  expect(event.path).toStartWith("/");
  const text = new TextDecoder().decode(bytes);
  expect(text).toStartWith(`${event.action}@${event.path}\0`);
  for (const [key, value] of event.values) expect(text).toContain(`\0${key}=${value}\0`);
});

const GREETING = '{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": []}}\r\n';
const REFUSED = { error: { class: "GenericError", desc: "no such device" }, id: 2 };
const SAID: [string, string] = [
  '{"event": "SHUTDOWN", "data": {"guest": true}}\r\n',
  '{"return": {}, "id": 2}\r\n',
];

fuzz("QMP: an answer, or an error that says so; and nothing is heard after the end", 150, async (random) => {
  const path = join(dir, `${random(2 ** 31)}.sock`);
  const peer = Bun.listen({
    unix: path,
    socket: {
      open: (socket) => void socket.write(random(4) === 0 ? damageText(GREETING, random) : GREETING),
      data: (socket) => {
        const answer = '{"return": {}, "id": 1}\r\n';
        const lines = [random(4) === 0 ? damageText(answer, random) : answer];
        for (let i = random(6); i > 0; i--) {
          const refused = `${JSON.stringify(damageJson(REFUSED, random)) ?? ""}\r\n`;
          lines.push(random(2) === 0 ? refused : damageText(oneOf(random, ...SAID), random));
        }
        socket.end(random(4) === 0 ? someBytes(random, 2000) : lines.join(""));
      },
    },
  });
  const events: QmpEvent[] = [];
  let isOver = false;
  try {
    const qmp = await Qmp.connect(
      path,
      (event) => {
        expect(isOver).toBe(false);
        events.push(event);
      },
      50,
    );
    void qmp?.ended.then(() => (isOver = true));
    const asked = qmp?.execute("query-status").catch((error: unknown) => {
      if (!(error instanceof WaltError)) throw error;
    });
    if (qmp !== undefined) await eventually("the end", qmp.ended);
    await eventually("an answer", Promise.resolve(asked));
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
  } finally {
    peer.stop(true);
  }
  for (const { name } of events) expect(name).toBeString();
});
