/**
 * `walt image build --node`, and nothing else of the lab's own: a node boots the image through the tunnel,
 * and people log in.
 */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ARCHITECTURES } from "../../src/image/base/architecture.ts";
import { debianKeyring, SYSTEM_TOOLS } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { INTEGRATION } from "../lab/world.ts";

const ARM = process.arch === "arm64";
const ARCH = ARCHITECTURES[ARM ? "arm64" : "amd64"];
const NEEDS = {
  programs: [...Object.keys(SYSTEM_TOOLS), ARM ? "qemu-system-aarch64" : "qemu-system-x86_64"],
  files: [debianKeyring() ?? "Debian's keyring"],
};
/** MiB that the node of a Raspberry Pi 3 B+ has (docs/sd-card.md). */
const MEMORY = 576;
/** How long anything of an emulated node may take, ms. */
const SLOW = 300_000;

describeWith([...INTEGRATION, NEEDS], "a node with the image of `walt image build --node`", () => {
  const fresh = sharedWorld();

  test("it boots through the tunnel in a Pi's memory; the operator's key opens it; the power button reboots it", async () => {
    const world = await fresh();
    const { server } = world;
    await server.must([
      "sh",
      "-c",
      "mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519",
    ]);
    const boot = server.path("/var/lib/walt-vpn/boot");
    const keys = server.path("/root/.ssh/id_ed25519.pub");
    const build = [world.binary, "image", "build", "--node", "--arch", ARCH.debian, "--json"];
    const building = run([...build, "--authorized-keys", keys, "-o", boot], { timeout: 600_000 });
    building.catch(() => {}); // it is awaited below
    // Meanwhile the node waits for its boot files.
    const device = await world.device("device1", { toml: `[device.vm]\nmemory = ${MEMORY}\n` });
    const node = await device.enrol();
    const built: unknown = JSON.parse(await building);
    expect(built).toMatchObject({
      folder: `${boot}/${ARCH.ipxe}`,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(readFileSync(`${boot}/${ARCH.ipxe}/cmdline`, "utf8")).toStartWith(`console=${ARCH.console} `);

    await world.daemon.waitFor(/a node boots .*arch=/, { timeout: SLOW });
    // An emulated node on a busy machine takes its time for each command.
    const on = (...command: string[]) =>
      server.run([world.binary, "node", "run", node, "--", ...command], { timeout: SLOW });
    await eventually("the node lets the operator in", () => on("true"), {
      fits: ({ status }) => status === 0,
      within: SLOW,
      every: 1000,
    });
    // One login for all: each one takes an emulated node seconds. iproute2 and not the shell's own; the kernel finds its
    // modules; what people type is found.
    const { status, stdout, stderr } = await on(
      [
        "python3 -c 'import json; print(6 * 7)'",
        "hostname",
        "date +%s",
        "grep MemAvailable: /proc/meminfo",
        "tc qdisc add dev lo root netem delay 1ms",
        "ip -j address show lo",
        "command -v tcpdump scp vi",
        "lsusb",
      ].join(" && "),
    );
    expect([status, stderr]).toEqual([0, ""]);
    const [python, name, clock, memory, lo, , , , ...usb] = stdout.split("\n");
    expect([python, name]).toEqual(["42", node]);
    expect(Math.abs(Number(clock) * 1000 - Date.now())).toBeLessThan(600_000);
    expect(Number(/(\d+) kB$/.exec(memory ?? "")?.[1]) / 1024).toBeGreaterThan(350);
    expect(lo).toContain('"ifname":"lo"');
    expect(usb).toContainEqual(expect.stringContaining("ID 1d6b:0002 "));
    await server.must([world.binary, "node", "cp", "/etc/walt/vpn.toml", `${node}:/root/`], {
      timeout: SLOW,
    });
    expect((await on("cat vpn.toml")).stdout).toBe(readFileSync(server.path("/etc/walt/vpn.toml"), "utf8"));
    // No other way in.
    const password = [
      "-o",
      "PubkeyAuthentication=no",
      "-o",
      "StrictHostKeyChecking=no",
      "-o",
      "UserKnownHostsFile=/dev/null",
    ];
    const address = (await world.nodes()).find(({ name }) => name === node)?.address ?? "";
    const refused = await server.run(["ssh", "-o", "BatchMode=yes", ...password, `root@${address}`, "true"]);
    expect([refused.status, refused.stderr]).toEqual([
      255,
      expect.stringContaining("Permission denied (publickey)."),
    ]);

    const reboot = [world.binary, "node", "reboot", node, "--yes"];
    expect(await server.must(reboot, { timeout: SLOW })).toContain("rebooted");
  }, 900_000);
});
