/** The board's node at a WalT server: the server of the lab uses a bridge of WalT's, and WalT's programs serve the node. */

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { duration } from "../../src/text.ts";
import { type PlatformNode, WaltPlatform, writeImage } from "../lab/walt-platform.ts";
import type { World } from "../lab/world.ts";
import { type Run, SLOW } from "./context.ts";
import { ARM64_SMALL, buildArm64Node, downloadSize } from "./node.ts";

const MODEL = "qemu-arm-64";
const ADDRESS = "10.20.0.1";
const CONFIG = "/etc/walt/vpn.toml";
/**
 * How long the node may take for its kernel, ms: 12 MB. The emulated board carries 15 KB/s while other programs keep
 * the machine busy, and more than ten times as much otherwise.
 */
const DOWNLOAD = 2 * SLOW;

/** The node boots by DHCP, TFTP and HTTP as WalT serves them, and reboots when WalT asks it to. */
export async function atWaltServer(r: Run, world: World): Promise<void> {
  const { server } = world;
  const images = join(r.outside, "images");
  const before = readFileSync(server.path(CONFIG), "utf8");
  await waltImage(r, images);
  const { platform, node, console } = await r.steps.run("WalT's programs on the lab's server", async () => {
    const [registered] = await world.nodes();
    if (registered === undefined) throw new WaltError("the server has no node");
    await world.stopServer();
    await server.ip(
      "link add walt-net address 02:00:00:00:00:01 type bridge",
      `address add ${ADDRESS}/24 dev walt-net`,
      "link set walt-net up",
    );
    server.writeFile(CONFIG, `${before}\n[server.network]\nmanaged = false\n`);
    await world.startServer();
    await world.daemon.waitFor(/event=tunnel-up/, { timeout: SLOW });
    const console = server.spawn([world.binary, "node", "console", registered.name]);
    r.console = console;
    const node = { name: "lab-7", mac: registered.mac, address: "10.20.0.7", model: MODEL };
    const platform = await WaltPlatform.start(server, "walt-net", ADDRESS);
    await platform.register([node], images);
    // Its virtual machine runs what it booted before.
    await server.must([world.binary, "node", "reboot", registered.name, "--hard"], { timeout: SLOW });
    const value = { platform, node, console };
    return { detail: "dhcpd, TFTP and HTTP; our server uses the bridge", value };
  });
  await boots(r, platform, node);
  const after = platform.files.position;
  await r.steps.run("WalT has it reboot", async () => {
    const answer = await platform.reboot(node);
    if (answer !== "OK") throw new WaltError(`the node answers ${JSON.stringify(answer)}, not OK`);
    return { detail: "the node's answer is OK", value: undefined };
  });
  await boots(r, platform, node, after);
  await r.steps.run("the lab's server without WalT's programs", async () => {
    await Promise.all([platform.stop(), console.stop()]);
    await world.stopServer();
    await server.ip("link del walt-net");
    server.writeFile(CONFIG, before);
    await world.startServer();
    return { detail: "it has walt-net of its own again", value: undefined };
  });
}

/** What WalT serves to the node, in a folder for its model. */
async function waltImage(r: Run, images: string): Promise<void> {
  await r.steps.run("the node's image at a WalT server", async () => {
    const [work, boot] = [join(r.outside, "walt-node"), join(r.outside, "walt-boot")];
    const os = await buildArm64Node(ARM64_SMALL, boot, work, cacheFolder(r.options.cache));
    writeImage(join(images, MODEL), os, MODEL);
    rmSync(work, { recursive: true });
    const size = Math.round(downloadSize(os) / 1e6);
    return {
      detail: `start.ipxe, Debian's cloud kernel and busybox for arm64, ${size} MB`,
      value: undefined,
    };
  });
}

/**
 * The node boots once, a step for each thing that WalT sees of it.
 * @param after a position in the output of `platform.files`: where this boot begins.
 */
async function boots(r: Run, platform: WaltPlatform, node: PlatformNode, after = 0): Promise<void> {
  const start = performance.now();
  const asks = (file: string, timeout: number): Promise<unknown> =>
    platform.files.waitFor(new RegExp(`200 ${node.address.replaceAll(".", "\\.")} /boot/${file}\n`), {
      ...{ timeout, after },
    });
  await r.steps.run("WalT: firmware and start.ipxe", async () => {
    await platform.dhcp?.waitFor(new RegExp(`model by user class: ${MODEL}`), { timeout: SLOW });
    await asks("kernel", SLOW);
    return { detail: `model ${MODEL} in option 77; start.ipxe asks for the kernel`, value: undefined };
  });
  await r.steps.run("WalT: kernel", async () => {
    await asks("initrd", DOWNLOAD);
    return { detail: "is there; start.ipxe asks for the initramfs", value: undefined };
  });
  await r.steps.run("WalT: booted", async () => {
    await platform.booted(node, SLOW, after);
    const took = duration(performance.now() - start);
    return { detail: `the node says so to WalT, ${took} after its start`, value: undefined };
  });
}
