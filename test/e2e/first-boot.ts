/** A board's first boot, from the kernel to the virtual machine's start; and the node that comes up in it. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { eventually } from "../lab/eventually.ts";
import type { World } from "../lab/world.ts";
import { Board } from "./board.ts";
import { DOWNLOAD, fetchFrom, PATIENTLY, type Run, SLOW } from "./context.ts";
import { ARM64_NODE, buildArm64Node, downloadSize } from "./node.ts";

/** Until the virtual machine runs. `stick` is the content of what is in the socket 1.2 then. */
export async function firstBoot(r: Run, world: World, image: string, stick: Uint8Array): Promise<Board> {
  const board = await Board.create(await world.lab.host("board1"), image, "52:54:00:aa:00:01");
  r.boards.push(board);
  await board.plug("1.2", stick);
  const log = await board.powerOn();
  await r.steps.run("kernel and root", async () => {
    const [, s, free] = await log.waitFor(/walt-os: started (\d+) s after the kernel, (\d+ MB of \d+ MB)/, {
      timeout: SLOW,
    });
    return { detail: `${s} s after the kernel's start, ${free} free`, value: undefined };
  });
  await r.steps.run("DHCP", async () => {
    const [, address = ""] = await log.waitFor(/has the address (\S+) by DHCP/, { timeout: SLOW });
    return { detail: address, value: undefined };
  });
  await r.steps.run("the board asks, and nobody watches", async () => {
    const [, why = ""] = await log.waitFor(
      /(denied: nobody runs `walt vpn monitor`[^\n]*?) event=failure wait=/,
      {
        timeout: SLOW,
      },
    );
    return { detail: why, value: undefined };
  });
  const node = await accept(r, world, board);
  await vpn(r, world, board, node);
  await r.steps.run("virtual machine", async () => {
    const [, accel = ""] = await log.waitFor(/event=vm-started .*accel=(kvm|tcg)/, { timeout: SLOW });
    if (accel !== "kvm") throw new WaltError("the virtual machine is emulated, though the board has KVM");
    return { detail: accel, value: undefined };
  });
  return board;
}

/** The operator's answer; the code on the board's screen is the one that the monitor shows. */
async function accept(r: Run, world: World, board: Board): Promise<string> {
  return await r.steps.run("`walt vpn monitor`", async () => {
    const monitor = await world.monitor();
    const { text, code } = await monitor.question({ timeout: SLOW });
    const mac = /MAC address +(\S+)/i.exec(text)?.[1] ?? "";
    if (mac !== board.mac) throw new WaltError(`the monitor shows the MAC address ${mac}, not ${board.mac}`);
    const [, shown] = await board.console.waitFor(/walt-os: screen: Code +(\S+)\s/, { timeout: SLOW });
    if (shown !== code) throw new WaltError(`the screen shows the code ${shown}, the monitor ${code}`);
    await monitor.type(code);
    const [, node = ""] = await monitor.process.waitFor(/becomes node (\S+)/, { timeout: SLOW });
    await monitor.stop();
    return { detail: `code ${code} on both screens, accepted as ${node}`, value: node };
  });
}

async function vpn(r: Run, world: World, board: Board, node: string): Promise<void> {
  await r.steps.run("VPN", async () => {
    await world.daemon.waitFor(new RegExp(`event=tunnel-up node=${node}`), { timeout: SLOW });
    await board.console.waitFor(new RegExp(`walt-os: screen: Node +${node}`), { timeout: SLOW });
    return { detail: node, value: undefined };
  });
}

/** The system that the node boots, in the server's boot files. */
export async function nodeFiles(r: Run, world: World): Promise<void> {
  await r.steps.run("the node's image", async () => {
    const boot = world.server.path("/var/lib/walt-vpn/boot");
    mkdirSync(boot, { recursive: true });
    const os = await buildArm64Node(ARM64_NODE, boot, join(r.outside, "node"), cacheFolder(r.options.cache));
    const size = Math.round(downloadSize(os) / 1e6);
    return { detail: `Debian kernel and busybox for arm64, ${size} MB`, value: undefined };
  });
}

/** The node's own system comes through the VPN, and answers from the other end of it; its address. */
export async function nodeBoots(r: Run, world: World): Promise<string> {
  await r.steps.run("network boot", async () => {
    await world.daemon.waitFor(/a node boots .*arch=(\S+)/, { timeout: SLOW }).catch((error: unknown) => {
      if (world.daemon.ended !== undefined) throw error;
      throw new WaltError(`the node did not boot from the network: ${howFar(world)}`);
    });
    return { detail: "iPXE has its address and its boot script, through the VPN", value: undefined };
  });
  const node = await r.steps.run("node", async () => {
    // Its own HTTP server is up, with the file that its system makes last.
    const answering = async (): Promise<{ name: string; address: string } | undefined> => {
      const [node] = await world.nodes();
      if (node?.address == null || (await fetchFrom(world, node.address, "blob.sha256")) === undefined)
        return;
      return { name: node.name, address: node.address };
    };
    const found = await eventually("the node answers", answering, { ...PATIENTLY, within: DOWNLOAD });
    return { detail: `${found.name} answers at ${found.address}`, value: found.address };
  });
  await r.steps.run("ping", async () => {
    const text = await world.server.must(["ping", "-c", "5", "-i", "0.3", node]);
    const ms = /= [\d.]+\/([\d.]+)\//.exec(text)?.[1] ?? "?";
    return { detail: `${ms} ms`, value: undefined };
  });
  r.out.write((await world.must(world.server, "node", "show")).replaceAll(/^/gm, "          "));
  r.out.write("\n");
  return node;
}

/** What the server has heard of the node's firmware, which has no other witness. */
function howFar(world: World): string {
  const { output } = world.daemon;
  if (/DHCPACK\(walt-net\)/.test(output)) return "iPXE has an address, and did not ask for its boot script";
  if (/DHCPDISCOVER\(walt-net\)/.test(output))
    return "iPXE asks for an address, and the answer does not reach it";
  return "its firmware or iPXE hangs, nothing came from it";
}
