/** The board's node at a WalT server: the server of the lab uses a bridge of WalT's, and WalT's programs serve the node. */

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import type { LabProcess } from "../lab/process.ts";
import { type PlatformNode, WaltPlatform, writeImage } from "../lab/walt-platform.ts";
import type { World } from "../lab/world.ts";
import { DOWNLOAD, type Run, SLOW } from "./context.ts";
import { ARM64_SMALL, buildArm64Node, downloadSize } from "./node.ts";

const MODEL = "qemu-arm-64";
const ADDRESS = "10.20.0.1";
const CONFIG = "/etc/walt/vpn.toml";

/**
 * The node boots by DHCP, TFTP and HTTP as WalT serves them, and reboots when WalT asks it to. A short run has no
 * kernel for it: it goes as far as `start.ipxe`.
 */
export async function atWaltServer(r: Run, world: World): Promise<void> {
  const { server } = world;
  const images = join(r.outside, "images");
  const before = readFileSync(server.path(CONFIG), "utf8");
  if (r.options.short) writeImage(join(images, MODEL), undefined, MODEL);
  else await waltImage(r, images);
  const { platform, node, console } = await waltPrograms(r, world, images, before);
  await firmware(r, platform, node);
  if (r.options.short) return;
  await booted(r, platform, node);
  const after = await r.steps.run("WalT has it reboot", async () => {
    const value = { dhcp: platform.dhcp?.position ?? 0, files: platform.files.position };
    const answer = await platform.reboot(node);
    if (answer !== "OK") throw new WaltError(`the node answers ${JSON.stringify(answer)}, not OK`);
    return { detail: "the node's answer is OK", value };
  });
  await firmware(r, platform, node, after);
  await booted(r, platform, node, after);
  await r.steps.run("the lab's server without WalT's programs", async () => {
    await Promise.all([platform.stop(), console.stop()]);
    await world.stopServer();
    await server.ip("link del walt-net");
    server.writeFile(CONFIG, before);
    await world.startServer();
    await world.daemon.waitFor(/event=tunnel-up/, { timeout: SLOW });
    await rebootHard(world);
    return { detail: "it has walt-net of its own again, and the node starts anew", value: undefined };
  });
}

/** They run on the lab's server, which uses their bridge, and the node starts anew. @param before its configuration. */
async function waltPrograms(
  r: Run,
  world: World,
  images: string,
  before: string,
): Promise<{ platform: WaltPlatform; node: PlatformNode; console: LabProcess }> {
  const { server } = world;
  return await r.steps.run("WalT's programs on the lab's server", async () => {
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
    await rebootHard(world);
    const value = { platform, node, console };
    return { detail: "dhcpd, TFTP and HTTP; our server uses their bridge", value };
  });
}

/** The node starts anew: it may have begun to boot from the programs that were there before. */
async function rebootHard(world: World): Promise<void> {
  const [node] = await world.nodes();
  await world.server.must([world.binary, "node", "reboot", node?.name ?? "", "--hard"], { timeout: SLOW });
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

/** Positions in the outputs of WalT's programs, where a boot of the node begins. */
interface Positions {
  dhcp: number;
  files: number;
}

const START: Positions = { dhcp: 0, files: 0 };

async function firmware(r: Run, platform: WaltPlatform, node: PlatformNode, after = START): Promise<void> {
  await r.steps.run("WalT: firmware and start.ipxe", async () => {
    const model = new RegExp(`model by user class: ${MODEL}`);
    await platform.dhcp?.waitFor(model, { timeout: SLOW, after: after.dhcp });
    await asks(platform, node, "kernel", { timeout: SLOW, after: after.files });
    return { detail: `model ${MODEL} in option 77; start.ipxe asks for the kernel`, value: undefined };
  });
}

async function booted(r: Run, platform: WaltPlatform, node: PlatformNode, after = START): Promise<void> {
  await r.steps.run("WalT: kernel", async () => {
    await asks(platform, node, "initrd", { timeout: DOWNLOAD, after: after.files });
    return { detail: "is there; start.ipxe asks for the initramfs", value: undefined };
  });
  await r.steps.run("WalT: booted", async () => {
    await platform.booted(node, DOWNLOAD, after.files);
    return { detail: "the node says so", value: undefined };
  });
}

/** The node asks for a file by HTTP. */
async function asks(
  platform: WaltPlatform,
  { address }: PlatformNode,
  file: string,
  options: { timeout: number; after: number },
): Promise<void> {
  const line = new RegExp(`(200|404) ${address.replaceAll(".", "\\.")} /boot/${file}\n`);
  await platform.files.waitFor(line, options);
}
