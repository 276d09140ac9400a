/** The board's bridge on a real kernel: what is in it, and that the board itself is silent on it. */

import { expect, test } from "bun:test";
import { join } from "node:path";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";

const RUNNER = join(import.meta.dir, "bridge-runner.ts");
const MAC = "02:11:22:33:44:55";

describeWith(LAB, "the bridge", () => {
  test("is made, made anew over one that was left behind, and taken away", async () => {
    await using lab = await Lab.create();
    const board = await lab.host("board");
    const runner = (...args: string[]) => board.must([process.execPath, RUNNER, ...args]);
    const links = async (): Promise<string[]> => {
      const found: unknown = JSON.parse(await board.must(["ip", "-j", "-d", "link"]));
      return (Array.isArray(found) ? found : [])
        .filter((link) => String(link.ifname).startsWith("walt"))
        .map((link) =>
          `${link.ifname} master=${link.master} ${link.ifname === "walt-br" ? link.address : ""}`.trim(),
        );
    };
    await runner("make", "02:00:00:00:00:01");
    await runner("make", MAC);
    await board.ip("tuntap add dev walt-vpn mode tap");
    await runner("join", "walt-vpn");
    // A port with a lower address does not change the bridge's own.
    await board.ip("link set walt-vpn address 00:00:00:00:00:02");
    expect((await links()).sort()).toEqual([
      `walt-br master=undefined ${MAC}`,
      "walt-vm master=walt-br",
      "walt-vpn master=walt-br",
    ]);
    const details: unknown = JSON.parse(await board.must(["ip", "-j", "-d", "link", "show", "walt-br"]));
    expect(details).toMatchObject([
      {
        operstate: expect.any(String),
        linkinfo: { info_data: { stp_state: 0, forward_delay: 0, mcast_snooping: 0 } },
      },
    ]);
    // Without addresses of its own it says nothing on walt-net. (A kernel without IPv6 has nothing to switch off.)
    const off =
      "for name in walt-br walt-vm walt-vpn; do cat /proc/sys/net/ipv6/conf/$name/disable_ipv6 || echo 1; done";
    expect((await board.must(["sh", "-c", off])).split("\n")).toEqual(["1", "1", "1", ""]);
    await board.ip("link delete walt-vpn");
    await runner("remove");
    await runner("remove");
    expect(await links()).toEqual([]);
  }, 120_000);
});
