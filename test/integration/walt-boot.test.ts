/**
 * The node boots at a WalT server, through the real tunnel, and finds its way although the path is away meanwhile.
 * The device's own virtual machine has this machine's architecture. That of the other one is started by the test, on
 * the device's bridge.
 */

import { beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_MODEL, qemuArguments } from "../../src/device/vm/qemu-arguments.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { ARM64_SMALL, assembleArm64Node } from "../e2e/node.ts";
import { unpackArm64 } from "../lab/arm64-packages.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { buildNodeOs } from "../lab/node-os.ts";
import { sharedWorld } from "../lab/shared-world.ts";
import { type PlatformNode, WaltPlatform, writeImage } from "../lab/walt-platform.ts";
import { INTEGRATION, type World, type WorldDevice } from "../lab/world.ts";

const ARCH = process.arch === "arm64" ? "arm64" : "x64";
const MODEL = DEFAULT_MODEL[ARCH];
const NEEDS = {
  programs: [ARCH === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64", "dhcpd", "dpkg-deb"],
};
const ADDRESS = "10.20.0.1";
/** How long anything of an emulated node may take, ms. */
const SLOW = 240_000;
/** Everything, and the path is away for as long as DHCP clients need to give up. */
const LONG = process.env["WALT_SOAK"] !== undefined;
/** Seconds for which the path is away. */
const AWAY = LONG ? [45, 150] : [12];

describeWith([...INTEGRATION, NEEDS], "at a WalT server", () => {
  const fresh = sharedWorld();
  let images: string;

  beforeAll(async () => {
    images = mkdtempSync(join(tmpdir(), "walt-images-"));
    const work = join(images, "work");
    mkdirSync(work);
    writeImage(join(images, MODEL), await buildNodeOs(join(work, "boot"), work), MODEL);
    rmSync(work, { recursive: true });
    return () => rmSync(images, { recursive: true });
  }, 300_000);

  /** A server that uses WalT's bridge, a device with its tunnel, and WalT's programs that know its node. */
  async function atWalt(
    toml: string,
    model: string,
  ): Promise<{
    world: World;
    device: WorldDevice;
    node: PlatformNode;
    platform: WaltPlatform;
  }> {
    const world = await fresh();
    await world.stopServer();
    const { server } = world;
    await server.ip(
      "link add walt-net address 02:00:00:00:00:01 type bridge",
      `address add ${ADDRESS}/24 dev walt-net`,
      "link set walt-net up",
    );
    const config = await Bun.file(server.path("/etc/walt/vpn.toml")).text();
    server.writeFile("/etc/walt/vpn.toml", `${config}\n[server.network]\nmanaged = false\n`);
    await world.startServer();
    const device = await world.device("device1", { toml });
    const platform = await WaltPlatform.start(server, "walt-net", ADDRESS);
    await device.enrol();
    const [registered] = await world.nodes();
    const node = { name: "lab-7", mac: registered?.mac ?? "", address: "10.20.0.7", model };
    return { world, device, node, platform };
  }

  test("the node says its model, loads start.ipxe, boots, and reboots when WalT asks it to; the path goes and comes meanwhile", async () => {
    const { world, device, node, platform } = await atWalt("[device.vm]\nmemory = 384\n", MODEL);
    const log = device.process;
    if (log === undefined) throw new Error("the device does not run");
    await log.waitFor(/event=vm-started .*model=/);
    // Its clock is the server's.
    const qemu = device.host.processes().find(({ command }) => command.includes("-rtc base="));
    const [, base = ""] = /-rtc base=(\S+),clock=rt/.exec(qemu?.command ?? "") ?? [];
    expect(Math.abs(Date.parse(`${base}Z`) - Date.now())).toBeLessThan(600_000);
    // It has begun to ask before WalT answers.
    await platform.register([node], images);
    await platform.dhcp?.waitFor(new RegExp(`model by user class: ${MODEL}`), { timeout: SLOW });
    let from = 0;
    for (const seconds of AWAY) {
      await platform.files.waitFor(/200 10\.20\.0\.7 \/boot\/kernel/, { timeout: SLOW, after: from });
      const wire = device.host.port();
      await wire.wire("down");
      await Bun.sleep(1000 * seconds); // what is tested is a path that is away for so long
      await wire.wire("up");
      await platform.booted(node, SLOW, from);
      // It got the rest of what had begun to come. A server that had cut it off would have been asked again.
      expect(platform.files.outputFrom(from).match(/\/boot\/kernel\n/g)).toHaveLength(1);
      from = platform.files.position;
      expect(await platform.reboot(node)).toBe("OK");
      await log.waitFor(/the node rebooted; starting it again/);
    }
    await log.waitFor(/event=vm-started.*\n(.*\n)*.*event=vm-started/);
    const [registered] = await world.nodes();
    await eventually(
      "the node's name is shown",
      () => world.must(world.server, "node", "show", registered?.name ?? ""),
      {
        fits: (shown) =>
          /WalT's name +lab-7\n(.*\n)*WalT's state +not booted\n(.*\n)*DHCP name +lab-7\nDHCP address +10\.20\.0\.7\n/.test(
            shown,
          ),
      },
    );
  }, 900_000);

  // Its own machine is emulated, whatever the test's is. Without WALT_SOAK it goes as far as its kernel.
  describeWith(
    { programs: ["qemu-system-aarch64", "apt-get"], files: [debianKeyring() ?? "Debian's keyring"] },
    "a node of arm64",
    () => {
      test("says its model, and loads start.ipxe", async () => {
        const { device, node, platform } = await atWalt("[device.vm]\nstart = false\n", "qemu-arm-64");
        const packages = join(images, "arm64");
        const names = ["ipxe", "qemu-efi-aarch64", ...(LONG ? ARM64_SMALL : [])];
        await unpackArm64(names, packages, cacheFolder(undefined));
        const image = join(images, node.model);
        writeImage(
          image,
          LONG ? await assembleArm64Node(join(images, "boot"), packages) : undefined,
          node.model,
        );
        await platform.register([node], images);
        await device.host.ip("tuntap add tap-arm mode tap", "link set tap-arm master walt-br up");
        const machine = { board: "generic", arch: "arm64", accel: "tcg", memory: 512, cpus: 1 } as const;
        const network = { nodeMac: node.mac, mtu: 1500, tap: "tap-arm", model: node.model };
        const args = qemuArguments({ ...machine, ...network, qmpSocket: `${device.host.dir}/qmp` });
        const inPackages = args.map((arg) => (/^\/usr\/(lib|share)\//.test(arg) ? packages + arg : arg));
        const vm = device.host.spawn(inPackages);
        await platform.dhcp?.waitFor(/model by user class: qemu-arm-64/, { timeout: SLOW });
        await vm.waitFor(/start\.ipxe of qemu-arm-64/, { timeout: SLOW });
        if (!LONG) {
          await vm.waitFor(/start\.ipxe failed/, { timeout: SLOW }); // there is no kernel
          return;
        }
        await platform.booted(node, SLOW);
        expect(await platform.reboot(node)).toBe("OK");
        expect(await eventually("the machine's end", vm.exited)).toBe(0);
      }, 900_000);
    },
  );
});
