/** The control channel under attack: by devices, whose server and neighbours notice nothing, and by operators. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER } from "../../src/api/routes.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../src/ssh/keys/key-files.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { INTERNET } from "../lab/lab.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const DEVICES = join(import.meta.dir, "../lab/light-devices.ts");
const REGISTRY = "/var/lib/walt-vpn/registry.sqlite";
const LIGHT = 100;

describeWith(INTEGRATION, "control channels under attack", () => {
  let world: World;
  let boards: Host;
  let honest: string;
  let keys: string[];
  let names: string[];

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    const device = await world.device("device1");
    honest = await device.enrol();
    boards = await world.lab.host("boards", { networks: [INTERNET] });
    boards.writeFile("/root/known_hosts", readFileSync(device.host.path("/etc/walt/known_hosts"), "utf8"));
    keys = Array.from({ length: LIGHT }, () => `${JSON.stringify(encodePrivateKey(generateKey("")))}\n`);
    const input = `${keys.join("")}.\n`;
    await world.server.must([process.execPath, DEVICES, "register", REGISTRY], { input });
    names = (await world.nodes()).map(({ name }) => name).filter((name) => name !== honest);
  }, 120_000);
  afterAll(() => world?.lab.stop());

  /** So many light devices, once their tunnels are up. */
  async function light(mode: string, count = 1): Promise<LabProcess> {
    const words = ["up", world.serverAddress, "2222", "/root/known_hosts", mode];
    const process_ = boards.spawn([process.execPath, DEVICES, ...words]);
    process_.write(`${keys.slice(0, count).join("")}.\n`);
    await process_.waitFor(/up \d+\n/, { timeout: 120_000 });
    return process_;
  }

  /** End light devices. Resolves when the server has noticed. */
  async function leave(devices: LabProcess): Promise<void> {
    await devices.stop("SIGKILL");
    await eventually("they are down", async () =>
      (await world.nodes()).every(({ name, state }) => name === honest || state === "down"),
    );
  }

  /** The honest device does what it is told. */
  async function serves(): Promise<void> {
    const order = { node: honest, order: { order: "log" as const, source: "board" as const, follow: false } };
    const types: string[] = [];
    const { signal } = new AbortController();
    for await (const event of world.api.stream(SERVER.order, order, signal)) types.push(event.type);
    expect([types[0], types.at(-1)]).toEqual(["begun", "done"]);
  }

  /** Resident memory of the server, MB. */
  const memory = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${world.daemon.pid}/status`, "utf8"))?.[1]) / 1000;
  const details = (name: string) => world.api.call(SERVER.node, { node: name });

  test("a hundred devices report at once, again and again: each one's last report is there", async () => {
    const crowd = await light("honest", LIGHT);
    const reported = async (sent: number): Promise<boolean> => {
      const all = await Promise.all(names.map(details));
      return all.every(({ report }) => (report?.facts.load.five ?? 0) >= sent);
    };
    await eventually("all have reported", () => reported(1), { every: 200, within: 60_000 });
    const before = memory();
    for (let round = 2; round <= 5; round++) {
      crowd.write("again\n");
      await eventually(`report ${round}`, () => reported(round), { every: 250, within: 60_000 });
    }
    const numbers = (await Promise.all(names.map(details))).map(({ report }) => report?.facts.load.one);
    expect(new Set(numbers).size).toBe(LIGHT);
    expect(memory() - before).toBeLessThan(60);
    await serves();
    await leave(crowd);
  }, 240_000);

  test.each(["long", "flood", "deaf", "opens", "unasked", "windows"])(
    "a device that is %s: the server stays as it is, and its neighbours are served",
    async (mode) => {
      const [before, log] = [memory(), world.daemon.position];
      const attacker = await light(mode);
      const name = names[0] ?? "";
      const leaving = new AbortController();
      const orders = (["echo", "log"] as const).map(async (order) => {
        const given = order === "log" ? ({ order, source: "board", follow: true } as const) : { order };
        let got = 0;
        try {
          for await (const event of world.api.stream(
            SERVER.order,
            { node: name, order: given },
            leaving.signal,
          )) {
            if (event.type === "begun" && order === "echo") {
              const input = {
                session: event.session,
                bytes: Buffer.alloc(3000).toString("base64"),
                end: false,
              };
              for (let i = 0; i < 100; i++) void world.api.call(SERVER.input, input).catch(() => {});
            }
            if (event.type === "output") got += event.bytes.length;
            if (got > 2e6) break;
          }
        } catch {
          // An attack may end its own tunnel.
        }
      });
      for (let i = 0; i < 5; i++) await serves();
      leaving.abort();
      await Promise.all(orders);
      await serves();
      expect(memory() - before).toBeLessThan(60);
      expect(world.daemon.output.slice(log).split("\n").length).toBeLessThan(60);
      expect(world.daemon.output).not.toContain("internal error");
      await leave(attacker);
    },
    60_000,
  );

  test("escapes in what a device says reach no operator's terminal, and it speaks for no other node", async () => {
    const attacker = await light("escapes");
    const name = names[0] ?? "";
    await eventually("the report", async () => (await details(name)).report);
    const words = [["show"], ["log"], ["reboot"]].map((word) => ["node", ...word, name]);
    for (const command of [...words, ["node", "show", name, "--json"]]) {
      const { stdout, stderr } = await world.walt(world.server, ...command);
      expect(stdout + stderr).not.toMatch(/[^\P{Cc}\n\t]/u);
      expect(stdout + stderr).toContain("hello");
    }
    const plain = world.server.spawn([world.binary, "node", "console", name, "--watch"]);
    await plain.waitFor(/hello/);
    expect(plain.output).not.toContain("\u001b");
    await plain.stop("SIGINT");
    const others = (await world.nodes()).filter((node) => node.name !== name);
    expect(others.map((node) => node.name)).toContain(honest);
    expect((await details(honest)).report?.facts.stage).not.toContain("hello");
    await leave(attacker);
  }, 120_000);
});
