/** Operators who do not keep to the rules, at the server's socket: others are served as before. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER } from "../../src/api/routes.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const OPERATOR = join(import.meta.dir, "operator.ts");

describeWith([...INTEGRATION, { programs: ["setpriv"] }], "operators who do not keep to the rules", () => {
  let world: World;
  let node: string;
  let group: string;
  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    await world.server.must(["groupadd", "--system", "walt"]);
    group = (await world.server.must(["getent", "group", "walt"])).split(":")[2] ?? "";
    await world.stopServer();
    await world.startServer();
    node = await (await world.device("device1")).enrol();
  }, 120_000);
  afterAll(() => world?.lab.stop());

  /** Somebody who is in the socket's group, or not. */
  const somebody = (...groups: string[]): string[] => [
    ...["setpriv", "--reuid=65534", "--regid=65534"],
    groups.length === 0 ? "--clear-groups" : `--groups=${groups.join(",")}`,
  ];
  async function attack(mode: string, what = node, who = somebody(group)): Promise<[LabProcess, string]> {
    const attacker = world.server.spawn([...who, process.execPath, OPERATOR, mode, what]);
    return [attacker, (await attacker.waitFor(/done: (.*)\n/, { timeout: 60_000 }))[1] ?? ""];
  }

  /** Another operator's order is carried out. */
  async function serves(): Promise<void> {
    expect(await world.must(world.server, "node", "log", node, "--lines", "1")).toMatch(/^\d{4}-/);
  }
  const memory = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${world.daemon.pid}/status`, "utf8"))?.[1]) / 1000;

  test("one who is not in the socket's group gives no order", async () => {
    const words = [...somebody(), world.binary, "node", "console", node];
    const { status, stderr } = await world.server.run(words);
    expect([status, stderr.split("\n")[0]]).toEqual([
      1,
      "walt: no permission to use /run/walt-vpn/server.sock",
    ]);
  });

  test.each(["many", "unread"])(
    "orders that are %s lock no other operator out, and are left when he is gone",
    async (mode) => {
      const [before, log] = [memory(), world.daemon.position];
      const [attacker, said] = await attack(mode);
      expect(said).toBe(mode === "many" ? "begun true" : "unread");
      for (let i = 0; i < 3; i++) await serves();
      expect(memory() - before).toBeLessThan(100);
      await attacker.stop("SIGKILL");
      // All that he had at the device is free again: one operator may have eight orders there.
      const leaving = new AbortController();
      for (let i = 0; i < 8; i++)
        await eventually("an order begins", async () => {
          const events = world.api.stream(SERVER.order, { node, order: { order: "echo" } }, leaving.signal);
          return (await events.next().catch(() => undefined))?.value;
        });
      leaving.abort();
      expect(world.daemon.output.slice(log)).not.toMatch(/ error |internal/);
    },
    90_000,
  );

  test("JSON of any shape is refused in words, and nothing is wrong with the server then", async () => {
    const log = world.daemon.position;
    const [attacker, statuses] = await attack("bombs");
    expect(statuses).toMatch(/^(4\d\d ?)+$/);
    await serves();
    expect(world.daemon.output.slice(log)).not.toMatch(/ error |internal/);
    await attacker.stop("SIGKILL");
  }, 120_000);

  test("nobody types into somebody else's session", async () => {
    const leaving = new AbortController();
    const stream = world.api.stream(SERVER.order, { node, order: { order: "echo" } }, leaving.signal);
    const begun = (await stream.next()).value;
    if (begun?.type !== "begun") throw new Error("it has not begun");
    const [attacker, said] = await attack("input", begun.session);
    expect(said).toContain('"code":"unknown-session"');
    await attacker.stop("SIGKILL");
    const bytes = Buffer.from("mine").toString("base64");
    await world.api.call(SERVER.input, { session: begun.session, bytes, end: true });
    const rest: string[] = [];
    for await (const event of stream)
      rest.push(event.type === "output" ? event.bytes.toString() : event.type);
    expect(rest).toEqual(["mine", "done"]);
  }, 120_000);
});
