/** Commands, shells and copies on nodes, by ssh to the node's own sshd: on the server, and from another machine. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import type { NodeInfo } from "../../src/api/messages.ts";
import type { RunResult } from "../../src/linux/run.ts";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { type Sshd, startSshd } from "../lab/sshd.ts";
import { INTEGRATION, pingable, WALT_NET, World } from "../lab/world.ts";

/** The file in which a user's machine keeps the nodes' host keys. */
const KNOWN = "/root/.ssh/walt_known_nodes";

describeWith([...INTEGRATION, { programs: ["script", "scp"] }], "logins on nodes", () => {
  let world: World;
  let server: Host;
  /** Another machine, from which the server is reached by ssh. */
  let operator: Host;
  let serverSshd: Sshd;
  /** The nodes' machines, in the order of their devices. */
  const hosts: Host[] = [];
  const sshds: Sshd[] = [];
  const nodes: NodeInfo[] = [];

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    server = world.server;
    operator = await world.lab.host("operator");
    operator.hosts({ "walt.lab.example": world.serverAddress });
    serverSshd = await startSshd(server);
    const keys = await Promise.all([server, operator].map(makeKey));
    operator.writeFile(
      "/root/.ssh/known_hosts",
      serverSshd.hostKeys.map((host) => `walt.lab.example ${host}\n`).join(""),
    );
    authorize(server, keys);
    for (const name of ["device1", "device2", "device3"]) {
      const device = await world.device(name);
      const label = await device.enrol();
      const node = (await world.nodes()).find((one) => one.name === label);
      if (node === undefined) throw new Error(`${label} is not listed`);
      const host = await device.plugNode(node.address ?? "", node.mac);
      expect(await pingable(host, WALT_NET)).toBe(true);
      authorize(host, keys);
      sshds.push(await startSshd(host));
      hosts.push(host);
      nodes.push(node);
    }
  }, 180_000);
  afterAll(() => world?.lab.stop());

  async function makeKey(host: Host): Promise<string> {
    await host.must([
      "sh",
      "-c",
      "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    ]);
    // The operator's own configuration is for other hosts, and does not count behind the server.
    host.writeFile(
      "/root/.ssh/config",
      "Host *-* 192.168.*\n  User nobody\n  Port 1\n  ProxyCommand false\n",
    );
    return readFileSync(host.path("/root/.ssh/id_ed25519.pub"), "utf8");
  }
  const authorize = (host: Host, keys: string[]): void => {
    host.writeFile("/root/.ssh/authorized_keys", keys.join(""), 0o600);
    Bun.spawnSync(["chmod", "700", host.path("/root/.ssh")]);
  };
  const node = (index: number): string => nodes[index]?.name ?? "";
  const there = ["--server", "ssh://root@walt.lab.example"];
  /** A command on the server, or on the operator's machine. */
  const walt = (host: Host, ...args: string[]): Promise<RunResult> =>
    world.walt(host, "node", ...args, ...(host === operator ? [] : []));

  test("debug", async () => {
    const r1 = await walt(server, "run", node(0), "--", "echo", "hi;", "exit", "3");
    console.log(r1);
    const r2 = await walt(operator, "run", ...there, node(0), "hostname");
    console.log(r2);
    console.log(
      await walt(
        operator,
        "run",
        ...there,
        "all",
        "--",
        "hostname; id -un >&2; test $(hostname) != device2-node",
      ),
    );
    console.log(
      await walt(
        operator,
        "run",
        ...there,
        "--json",
        "all",
        "--",
        "hostname; id -un >&2; test $(hostname) != device2-node",
      ),
    );
    await sshds[0]?.stop();
    console.log(await walt(operator, "run", ...there, node(0), "hostname"));
    console.log(await walt(server, "run", node(0), "hostname"));
    rmSync(hosts[0]!.path("/etc/ssh/ssh_host_ed25519_key"));
    rmSync(hosts[0]!.path("/etc/ssh/ssh_host_ecdsa_key"));
    sshds[0] = await startSshd(hosts[0]!);
    console.log(await walt(operator, "run", ...there, node(0), "hostname"));
    console.log(await walt(server, "run", node(0), "--new-host-key", "hostname"));
    console.log(await walt(server, "run", node(0), "--user", "nobody", "hostname"));
    console.log(await walt(server, "cp", "/etc/hosts", `${node(0)}:/tmp/`));
    console.log(await walt(server, "cp", `${node(0)}:/nope`, "/tmp/"));
    console.log(await walt(operator, "cp", ...there, "all:/etc/hostname", "/srv/names", "--new-host-key"));
    console.log(await operator.must(["sh", "-c", "grep . /srv/names/*/*"]));
    await hosts[1]!.ip("link set eth0 down");
    console.log(await walt(operator, "run", ...there, node(1), "hostname"));
    console.log(await walt(server, "run", node(1), "hostname"));
    console.log(
      readFileSync(operator.path(KNOWN), "utf8"),
      readdirSync(operator.path(`${operator.dir}/tmp`)),
      operator.processes(),
    );
  }, 120_000);
});
