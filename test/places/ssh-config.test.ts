/** The operator's own ssh_config: it says how to get to the server, and nothing else in it harms `--server`. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import type { Host } from "../lab/host.ts";
import { describeWith } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

/** Lines that a configuration may have for other uses of the host. */
const HARMFUL: readonly string[] = [
  "RemoteCommand tmux attach",
  "RequestTTY force",
  "RemoteCommand tmux\n  RequestTTY yes",
  "ForkAfterAuthentication yes",
  "StdinNull yes",
  "SessionType none",
  "SessionType subsystem",
  "ControlMaster auto\n  ControlPath /root/.ssh/%C\n  ControlPersist yes",
  "ControlPath /nonexistent/%C",
  "ControlMaster yes\n  ControlPath /root/.ssh/taken",
  "ControlPersist 600",
  "PermitLocalCommand yes\n  LocalCommand exit 1",
  "LocalForward 4711 127.0.0.1:22\n  ExitOnForwardFailure yes",
  "RemoteForward 4711 127.0.0.1:22\n  ExitOnForwardFailure yes",
  "DynamicForward 4711\n  ExitOnForwardFailure yes",
  "ClearAllForwardings yes",
  "GatewayPorts yes",
  "StreamLocalBindMask 0777",
  "Tunnel yes",
  "LogLevel QUIET",
  "LogLevel DEBUG3",
  "BatchMode yes",
  "ForwardAgent yes\n  ForwardX11 yes",
  "EscapeChar none\n  Compression yes\n  SendEnv *\n  VisualHostKey yes",
  "IgnoreUnknown UseKeychain\n  UseKeychain yes",
];

describeWith(INTEGRATION, "an operator with an ssh_config", () => {
  let world: World;
  let operator: Host;
  const config = (text: string): void => operator.writeFile("/root/.ssh/config", text, 0o600);
  const show = (server: string, env: Record<string, string> = {}) =>
    operator.run([world.binary, "node", "show", "--server", server], { env });

  beforeAll(async () => {
    world = await World.create({ proxies: 0 });
    const { server } = world;
    operator = await world.lab.host("operator");
    operator.hosts({ "walt.lab.example": world.serverAddress });
    const { hostKeys } = await startSshd(server, { extraConfig: "Port 2022\nPermitTunnel yes" });
    await operator.must([
      ...["sh", "-c"],
      "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_lab && touch /root/.ssh/taken",
    ]);
    const names = ["walt.lab.example", "[walt.lab.example]:2022"];
    const known = names.flatMap((name) => hostKeys.map((key) => `${name} ${key}\n`));
    operator.writeFile("/root/.ssh/known_hosts", known.join(""));
    const key = readFileSync(operator.path("/root/.ssh/id_lab.pub"), "utf8");
    server.writeFile("/root/.ssh/authorized_keys", key, 0o600);
    await server.must(["chmod", "700", "/root/.ssh"]);
    // Another session of the operator has the port.
    operator.spawn(["sh", "-c", "exec 3<>/dev/null; exec nc -l -k 4711 2>/dev/null || exec sleep 1000"]);
  }, 120_000);
  afterAll(() => world?.lab.stop());

  test("host name, port, user, key and jump are honoured", async () => {
    const way = "IdentityFile /root/.ssh/id_lab\n";
    config(
      `Host lab\n  HostName walt.lab.example\n  Port 2022\n  User root\n${way}Host far\n  HostName 127.0.0.1\n  HostKeyAlias walt.lab.example\n  ProxyJump lab\n  User root\n${way}`,
    );
    for (const server of ["ssh://lab", "ssh://far", "ssh://root@lab:22"])
      expect([server, await show(server)]).toMatchObject([server, { status: 0, stderr: "" }]);
    expect((await show("ssh://nobody@lab")).status).toBe(1);
  }, 120_000);

  test("what is for other uses is not", async () => {
    const wrong: string[] = [];
    for (const lines of HARMFUL) {
      config(`Host *\n  IdentityFile /root/.ssh/id_lab\n  User root\n  ${lines}\n`);
      const { status, stderr } = await show("ssh://walt.lab.example");
      if (status !== 0) wrong.push(`${lines}: ${stderr.slice(-300)}`);
      const left = operator.processes().filter(({ command }) => command.startsWith("ssh"));
      if (left.length > 0) wrong.push(`${lines}: left ${JSON.stringify(left)}`);
    }
    expect(wrong).toEqual([]);
    expect(readdirSync(operator.path("/root/.ssh")).toSorted()).toEqual(
      ["config", "id_lab", "id_lab.pub", "known_hosts", "taken"].toSorted(),
    );
  }, 240_000);

  test("nor does a TMPDIR that is missing, long, read-only, full, or has a name with blanks", async () => {
    config("Host *\n  IdentityFile /root/.ssh/id_lab\n  User root\n");
    const long = `${operator.dir}/${"long/".repeat(30)}`;
    await operator.must([
      ...["sh", "-c"],
      `mkdir -p ${long} '/srv/a b' /srv/ro /srv/full
mount -t tmpfs -o ro tmpfs /srv/ro
mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs /srv/full`,
    ]);
    for (const folder of ["/nonexistent", long, "/srv/a b", "/srv/ro", "/srv/full", "/dev/null"]) {
      const shown = await show("ssh://walt.lab.example", { TMPDIR: folder });
      expect([folder, shown]).toMatchObject([folder, { status: 0, stderr: "" }]);
    }
  }, 120_000);
});
