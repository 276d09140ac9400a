/**
 * Many devices in one process, each with a tunnel in which nothing happens, by the device's own code. Private
 * keys on standard input, one JSON string a line. Arguments: ADDRESS PORT KEY CONTROL, where KEY is the
 * server's host key as a line, and CONTROL is `reports` (each device sends reports over the control channel)
 * or `none` (it refuses the sessions that the server opens). Prints `up N` when all tunnels are up, and keeps
 * them up until it is ended.
 */

import { Answerer, type OrderHandler } from "../../../src/control/answerer.ts";
import { parseReport, printReport } from "../../../src/control/report.ts";
import { sleep } from "../../../src/linux/sleep.ts";
import { recordPair } from "../../../src/linux/socketpair.ts";
import { TUN_F_ALL } from "../../../src/linux/tap.ts";
import { createLog } from "../../../src/log.ts";
import { openChannel } from "../../../src/ssh/client/open-channel.ts";
import { encodeState } from "../../../src/ssh/handshake/connection-state.ts";
import { parsePublicKey } from "../../../src/ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { PumpThread } from "../../../src/tunnel/pump-thread.ts";

/** Devices that log in at the same time. */
const TOGETHER = 8;
/** ms between two reports of a device of which nothing changes, as in src/device/orders.ts. */
const REPORT_EVERY = 60_000;
const PATIENCE = 30_000;

const [host = "", port = "", hostKey = "", control = ""] = process.argv.slice(2);
const keys = (await Bun.stdin.text()).trim().split("\n");
const hostKeys = [parsePublicKey(hostKey, "the server's host key")];
const pumps = await PumpThread.start();
const log = createLog(0);

/** What an ordinary board tells. */
const FACTS = parseReport({
  ...{ at: new Date().toISOString(), stage: "watch", detail: "vpn-010203 is up", vm: { state: "running" } },
  usb: [{ port: "1-1.2", id: "0bda:8153", name: "USB 10/100/1000 LAN" }],
  temperature: 51.2,
  power: { underVoltage: false, underVoltageBefore: true, throttled: false, throttledBefore: false },
  ...{ load: { one: 0.2, five: 0.3, fifteen: 0.2 }, memory: { total: 9.4e8, available: 3.1e8 } },
  ...{ disk: { size: 6e7, free: 5e7, errors: 0 }, uptime: { board: 86_400, supervisor: 86_380 } },
  versions: { walt: "0.1.0", kernel: "6.12.48+deb13-arm64", base: "4391ac28436a" },
  entrypoints: { used: "gate1.example.org:22", others: ["gate2.example.org:22"] },
  ...{ link: { interface: "eth0", speed: 100 }, clock: { synchronised: true, error: 20 } },
  errors: [1, 2, 3].map((n) => ({ at: new Date().toISOString(), text: `tunnel: the connection broke ${n}` })),
});

const answer: OrderHandler = async (order, stream) => {
  if (order.order !== "report") throw new Error(`the crowd has no ${order.order}`);
  while (!stream.gone.aborted) {
    await stream.write(new TextEncoder().encode(`${printReport(FACTS)}\n`));
    await sleep(REPORT_EVERY, stream.gone);
  }
};

async function tunnel(privateKey: string): Promise<void> {
  const { fd, state } = await openChannel({
    ...{
      connect: { host, port: Number(port) },
      key: parsePrivateKey(privateKey, "standard input"),
      hostKeys,
    },
    ...{ command: `tunnel via=${host}:${port}`, signal: new AbortController().signal },
    ...{ connectTimeout: PATIENCE, openTimeout: PATIENCE },
  });
  const [tap] = recordPair(); // frames of the server's bridge go nowhere
  const link = pumps.add({
    ...{ tap, stream: fd, ssh: encodeState(state), mtu: 1500, silence: PATIENCE, offload: TUN_F_ALL },
    ...(control === "reports" ? { channels: (out) => new Answerer(out, answer, log) } : {}),
  });
  void link.ended.then(({ text }) => process.stderr.write(`a tunnel ended: ${text}\n`));
  await link.up;
}

const left = keys.values();
await Promise.all(
  Array.from({ length: TOGETHER }, async () => {
    for (const key of left) await tunnel(String(JSON.parse(key)));
  }),
);
process.stderr.write(`up ${keys.length}\n`);
