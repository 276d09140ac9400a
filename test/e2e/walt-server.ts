/** The board's node at a WalT server: the server of the lab uses a bridge of WalT's, and WalT's programs serve the node. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { type PlatformNode, WaltPlatform, writeImage } from "../lab/walt-platform.ts";
import type { World } from "../lab/world.ts";
import { type Run, SLOW } from "./context.ts";

const MODEL = "qemu-arm-64";
const ADDRESS = "10.20.0.1";

/** The node boots by DHCP, TFTP and HTTP as WalT serves them, and reboots when WalT asks it to. */
export async function atWaltServer(r: Run, world: World): Promise<void> {
  const { server } = world;
  const images = join(r.outside, "images");
  const boot = server.path("/var/lib/walt-vpn/boot/arm64");
  const os = {
    architectures: ["arm64"],
    vmlinuz: join(boot, "vmlinuz"),
    initrd: join(boot, "initrd.img"),
    cmdline: readFileSync(join(boot, "cmdline"), "utf8").trim(),
  };
  writeImage(join(images, MODEL), os, MODEL);
  const before = readFileSync(server.path("/etc/walt/vpn.toml"), "utf8");
  const { platform, node } = await r.steps.run("WalT's programs on the lab's server", async () => {
    const [registered] = await world.nodes();
    if (registered === undefined) throw new WaltError("the server has no node");
    await world.stopServer();
    await server.ip(
      "link add walt-net address 02:00:00:00:00:01 type bridge",
      `address add ${ADDRESS}/24 dev walt-net`,
      "link set walt-net up",
    );
    server.writeFile("/etc/walt/vpn.toml", `${before}\n[server.network]\nmanaged = false\n`);
    await world.startServer();
    await world.daemon.waitFor(/event=tunnel-up/, { timeout: SLOW });
    const node: PlatformNode = { name: "lab-7", mac: registered.mac, address: "10.20.0.7", model: MODEL };
    const platform = await WaltPlatform.start(server, "walt-net", ADDRESS);
    await platform.register([node], images);
    return { detail: "dhcpd, TFTP and HTTP; our server uses the bridge", value: { platform, node } };
  });
  await r.steps.run("the node boots by them", async () => {
    // Its virtual machine runs what it booted before.
    await server.must([world.binary, "node", "reboot", (await world.nodes())[0]?.name ?? "", "--hard"], {
      timeout: SLOW,
    });
    await platform.dhcp?.waitFor(new RegExp(`model by user class: ${MODEL}`), { timeout: SLOW });
    await platform.booted(node, SLOW);
    return {
      detail: `model ${MODEL} by DHCP, start.ipxe, kernel, and it says that it has booted`,
      value: undefined,
    };
  });
  await r.steps.run("WalT has it reboot", async () => {
    const after = platform.files.position;
    const answer = await platform.reboot(node);
    if (answer !== "OK") throw new WaltError(`the node answers ${JSON.stringify(answer)}, not OK`);
    await platform.booted(node, SLOW, after);
    return { detail: "its answer is OK, and it boots again", value: undefined };
  });
  await platform.stop();
  await world.stopServer();
  await server.ip("link del walt-net");
  server.writeFile("/etc/walt/vpn.toml", before);
  await world.startServer();
}
