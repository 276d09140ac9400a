/**
 * Requests for access and the monitors: who answers what, two of each, attacks, a monitor that is killed, no
 * answer at all.
 */

import { expect, test } from "bun:test";
import { type Board, encodeRequest, parseChallenge } from "../../src/enrolment/messages.ts";
import { generateKey, type KeyPair, shortCode } from "../../src/ssh/keys/ed25519.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION, type WorldDevice } from "../lab/world.ts";

describeWith(INTEGRATION, "monitors", () => {
  const fresh = sharedWorld({ proxies: 0 });

  test("a device denied by the operator is told so, and asks again", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    const after = monitor.process.position;
    await monitor.answer("deny");
    await monitor.process.waitFor(/^\d\d:\d\d:\d\d \S+ \(\S+\) denied$/m, { after });
    const denied = monitor.process.position;
    await log.waitFor(/denied: the operator denied this device/);
    expect(await world.nodes()).toEqual([]);
    // It comes again, and may be accepted then.
    await monitor.answer("accept", { after: denied });
    await log.waitFor(/tunnel is up/);
  }, 120_000);

  test("two devices and two monitors: both are told, the first answer wins, requests wait their turn", async () => {
    const world = await fresh();
    const [one, two] = [await world.device("device1"), await world.device("device2")];
    const [first, second] = [await world.monitor(), await world.monitor()];
    one.start();
    const [asked] = await Promise.all([first, second].map((m) => m.question()));
    two.start();
    // The second request is one line more, and the first one's code still says which is meant.
    await Promise.all(
      [first, second].map((m) =>
        m.process.waitFor(/One more device asks for access; 2 are waiting:\n {2}\S/),
      ),
    );
    const before = second.process.position;
    await first.type(asked?.code ?? "");
    await first.process.waitFor(new RegExp(`${asked?.code} \\(\\S+\\) accepted: it becomes node`));
    const told = await second.process.waitFor(/(\S+) \(\S+\) accepted by root as node (\S+)/, {
      after: before,
    });
    expect(told.slice(1)).toEqual([asked?.code ?? "", expect.stringMatching(/^vpn-/)]);
    // Now the second device alone is asked about, on both.
    await second.answer("accept", { after: before });
    await first.process.waitFor(/accepted by root as node/);
    await Promise.all([one, two].map((d) => d.process?.waitFor(/tunnel is up/)));
    const nodes = await eventually("both nodes are up", () => world.nodes(), {
      fits: (all) => all.length === 2 && all.every(({ state }) => state === "up"),
    });
    expect(new Set(nodes.map((n) => n.mac)).size).toBe(2);
  }, 120_000);

  test("a monitor that is killed stops counting at once", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    await monitor.question();
    const position = world.daemon.position;
    await monitor.stop("SIGKILL");
    await world.daemon.waitFor(/event=monitor-left .*monitors=0/, { after: position, timeout: 2000 });
    // What waited for its answer is denied, like what comes later.
    await log.waitFor(/nobody runs `walt vpn monitor`/);
  }, 120_000);

  test("a request that nobody answers is denied", async () => {
    const world = await fresh('answer_timeout = "2s"');
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    await monitor.question();
    await log.waitFor(/no operator answered in time/);
    await monitor.process.waitFor(/nobody answered in time/);
  }, 120_000);

  test("--json gives events, and takes answers by code", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor("--json");
    device.start();
    await monitor.process.waitFor(/"type":"request"/);
    const request = monitor.events().find((e) => e.type === "request");
    if (request?.type !== "request") throw new Error("no request");
    expect(request.request.mac).toMatch(/^[0-9a-f:]{17}$/);
    const { id, code } = request.request;
    monitor.process.write(`accept ${id}\naccept 00000-00000\naccept ${code.slice(0, 5)}\n`);
    await monitor.process.waitFor(/not \\"accept CODE\\" or \\"deny CODE\\"/);
    await monitor.process.waitFor(/no request with the code 00000-00000 waits/);
    expect(await world.nodes()).toEqual([]);
    monitor.process.write(`accept ${code} as Lab\naccept ${code} as lab-3\n`);
    await monitor.process.waitFor(/\\"Lab\\" cannot be a node's name/);
    await monitor.process.waitFor(/"type":"node","node":"lab-3","state":"up"/);
    expect(await monitor.stop()).toBe(0);
  }, 120_000);

  test("a monitor goes on when the server is restarted", async () => {
    const world = await fresh();
    const monitor = await world.monitor();
    await world.stopServer();
    await monitor.process.waitFor(/connection to the server is lost/);
    await world.startServer();
    await monitor.process.waitFor(/Connected again/);
    const device = await world.device("device1");
    device.start();
    await monitor.answer("accept");
    await monitor.process.waitFor(/is up, through/);
  }, 120_000);

  test("another key that claims the same board: both are shown with a warning, and the code chooses", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor();
    const log = device.start();
    const { code, text } = await monitor.question();
    const board = {
      mac: /MAC address +(\S+)/.exec(text)?.[1] ?? "",
      model: `Pi${"\u3000".repeat(40)}\u0301`,
      serialNumber: `${" ".repeat(30)}short code`,
    };
    const forged = await forge(device, board);
    const [row] = await monitor.process.waitFor(
      /One more device asks[^\n]*\n(?: {2}[^\n]*\n)*[\s\S]*?WARNING for \S+:[^\n]*/,
    );
    // One beside the other, each with its warning, and nothing that a terminal could take for another line.
    expect(row).toMatch(/^[\n -~]*$/);
    expect(row).toContain(`  ${forged.code}  ${board.mac}  Pi`);
    expect(row).toContain(`  ${code}  ${board.mac}`);
    expect(row).toContain(`WARNING  ${code}, which waits, claims the same MAC address`);
    expect(row).toContain(`WARNING for ${code}: ${forged.code}, which waits, claims the same MAC address`);
    // What was typed too early, or names nobody, or says no more than yes, lets nobody in.
    for (const line of ["y", "yes", "n", "accept"]) await monitor.type(line);
    await monitor.process.waitFor(/"accept" alone accepts nothing/);
    expect(await world.list()).toEqual([]);
    await monitor.type(code);
    await monitor.process.waitFor(new RegExp(`${code} \\(\\S+\\) accepted`));
    await log.waitFor(/tunnel is up/);
    await monitor.type(`deny ${forged.code}`);
    await forged.process.waitFor(/"reason":"operator"/);
    expect((await world.list()).map((d) => d.code)).toEqual([code]);
    expect(world.daemon.output).toContain(
      `a device asks for access event=enrolment-requested request=2 code=${forged.code}`,
    );
  }, 120_000);

  test("a device whose connection is replaced keeps its place on the screen", async () => {
    const world = await fresh();
    const device = await world.device("device1");
    const monitor = await world.monitor("--json");
    const key = generateKey("device");
    const board = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7" };
    const first = await forge(device, board, key);
    await forge(device, board, key);
    await first.process.waitFor(/"reason":"busy"/);
    const [request, ...more] = monitor.events().filter((event) => event.type !== "watching");
    expect([request?.type, more]).toEqual(["request", []]);
  }, 120_000);
});

/** A stranger with the enrolment key of a device's card: its request for access, when it waits. */
async function forge(
  card: WorldDevice,
  board: Board,
  key: KeyPair = generateKey("forged"),
): Promise<{ process: LabProcess; code: string }> {
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"];
  const process = card.host.spawn([
    ...["ssh", "-p", "2222", "-i", "/etc/walt/enrolment_key", "-o", "LogLevel=ERROR"],
    ...options.flatMap((option) => ["-o", option]),
    ...["walt-vpn@walt.lab.example", "enrol"],
  ]);
  const [challenge] = await process.waitFor(/\{"walt":"enrolment"[^\n]*\}/);
  process.write(encodeRequest(board, key, parseChallenge(challenge)));
  await process.waitFor(/"type":"pending"/);
  return { process, code: shortCode(key.publicKey) };
}
