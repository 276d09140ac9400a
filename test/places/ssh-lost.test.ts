/**
 * `--server ssh://…` of commands that go on, whose ssh ends: killed, or the network is away. They say so, connect
 * again, and end on a signal.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { SERVER } from "../../src/api/routes.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const AT = ["--server", "ssh://root@walt.lab.example"];

describeWith(INTEGRATION, "an operator whose ssh ends", () => {
  let world: World;
  let operator: Host;
  const sshs = (): number[] =>
    operator
      .processes()
      .filter(({ command }) => command.startsWith("ssh ") && command.includes(" -N "))
      .map(({ pid }) => pid);
  const killSsh = async (): Promise<number> => {
    const [pid] = await eventually("an ssh", sshs, { fits: ({ length }) => length === 1 });
    process.kill(pid ?? 0, "SIGKILL");
    return pid ?? 0;
  };
  const ends = async (command: LabProcess): Promise<void> => {
    await command.stop();
    expect(await command.exited).toBe(0);
    expect(sshs()).toEqual([]);
  };

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    operator = await world.lab.host("operator");
    operator.hosts({ "walt.lab.example": world.serverAddress });
    const { hostKeys } = await startSshd(world.server, { patient: true });
    await operator.must([
      ...["sh", "-c"],
      "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    ]);
    operator.writeFile("/root/.ssh/known_hosts", hostKeys.map((key) => `walt.lab.example ${key}\n`).join(""));
    const key = readFileSync(operator.path("/root/.ssh/id_ed25519.pub"), "utf8");
    world.server.writeFile("/root/.ssh/authorized_keys", key, 0o600);
    await world.server.must(["chmod", "700", "/root/.ssh"]);
  }, 120_000);
  afterAll(() => world?.lab.stop());

  test("the monitor says so, connects again, and what was begun to type counts", async () => {
    const device = await world.device("device1");
    const monitor = operator.spawn([world.binary, "vpn", "monitor", ...AT]);
    await monitor.waitFor(/Waiting for devices/);
    device.start();
    const [, code = ""] = await monitor.waitFor(/short code +(\S+)/);
    monitor.write(code.slice(0, 2));
    const before = monitor.position;
    const first = await killSsh();
    await monitor.waitFor(/The connection to the server is lost; trying again\./, { after: before });
    await monitor.waitFor(/Connected again\.[\s\S]*short code/, { after: before });
    expect(sshs()).not.toContain(first);
    await Bun.sleep(600); // what is answered sooner does not count
    monitor.write(`${code.slice(2)}\n`);
    await monitor.waitFor(new RegExp(`${code} \\(\\S+\\) accepted`), { after: before });
    await ends(monitor);
    await device.stop();
  }, 240_000);

  test("without a network it says why, tries with growing pauses, and ends on a signal", async () => {
    const monitor = operator.spawn([world.binary, "vpn", "monitor", ...AT]);
    await monitor.waitFor(/Waiting for devices/);
    await operator.port().wire("down");
    await killSsh();
    await monitor.waitFor(/lost; trying again\. ssh: ssh: connect to host walt\.lab\.example/);
    const said = monitor.output.match(/lost; trying again/g)?.length ?? 0;
    // Once, and once more with the reason: not again at each attempt.
    expect(said).toBeLessThanOrEqual(3);
    await ends(monitor);
    await operator.port().wire("up");
  }, 240_000);

  test("the page says so, and shows the nodes again; so does the journal", async () => {
    const web = operator.spawn([world.binary, "web", ...AT]);
    const [, port = "", token = ""] = await web.waitFor(/http:\/\/127\.0\.0\.1:(\d+)\/#(\S+)/);
    const head = `Host: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\nConnection: close`;
    const input = `GET /api/overview?seen=0 HTTP/1.1\r\n${head}\r\n\r\n`;
    const problem = async (): Promise<string | null> => {
      const answer = await operator.must(["nc", "127.0.0.1", port], { input });
      const { problem: said } = JSON.parse(answer.slice(answer.indexOf("{"))) as { problem: string | null };
      return said;
    };
    expect(await problem()).toBeNull();
    await operator.port().wire("down");
    await killSsh();
    const wrong = await eventually("it is said", problem, { fits: (text) => text !== null, every: 200 });
    expect(wrong).toContain("the way to the server at ssh://root@walt.lab.example is lost");
    await operator.port().wire("up");
    await eventually("it is there again", problem, {
      fits: (text) => text === null,
      every: 200,
      within: 120_000,
    });
    await ends(web);

    const events = operator.spawn([world.binary, "vpn", "events", "-f", ...AT]);
    await events.waitFor(/accepted: /);
    await killSsh();
    await events.waitFor(/The connection to the server is lost/);
    const [node] = await world.api.call(SERVER.nodes, {});
    await world.api.call(SERVER.note, { node: node?.name ?? "", note: "after the loss", by: "test" });
    await events.waitFor(/after the loss/);
    await ends(events);
  }, 360_000);
});
