/** The card's own network scripts, on a host of the laboratory in the place of a board: busybox's shell and udhcpc, a real DHCP server. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { startRouter } from "../e2e/site.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";
import type { LabProcess } from "../lab/process.ts";

const SCRIPTS = join(import.meta.dir, "../../device/root/usr/lib/walt");

/** What the scripts expect of the card's root: themselves, udhcpc on the PATH, a console, a boot partition, no modules. */
const PREPARE = `set -e
mkdir -p /run/over/upper /run/over/work
busybox=$(command -v busybox)
mount -t tmpfs bin /usr/local/bin
ln -s "$busybox" /usr/local/bin/udhcpc
mount -t overlay -o lowerdir=/usr/lib,upperdir=/run/over/upper,workdir=/run/over/work overlay /usr/lib
cp -r "$0" /usr/lib/walt
mount -t tmpfs boot /boot
: >/run/console
mount --bind /run/console /dev/console
: >/etc/walt-modules
`;

describeWith([LAB, { programs: ["busybox", "dnsmasq"] }], "the card's network", () => {
  let lab: Lab;
  let board: Host;

  beforeEach(async () => {
    lab = await Lab.create();
    const router = await lab.host("router");
    await startRouter(router, { "gate.example.org": "10.99.0.7" });
    board = await lab.host("board");
    await board.ip("address flush dev eth0", "link set eth0 down");
    await board.must(["sh", "-c", PREPARE, SCRIPTS]);
  });
  afterEach(() => lab.stop());

  const start = (): LabProcess => board.spawn(["busybox", "sh", "/usr/lib/walt/network"]);

  /** Wait for a line of the console. */
  async function said(pattern: RegExp): Promise<RegExpExecArray> {
    const script = 'until grep -E "$0" /run/console; do sleep 0.1; done';
    const text = await board.must(["sh", "-c", script, pattern.source], { timeout: 30_000 });
    const found = pattern.exec(text);
    if (found === null) throw new Error(text);
    return found;
  }

  test("DHCP gives address, route and resolver; a link that was lost keeps them", async () => {
    start();
    const [, address = ""] = await said(/eth0 has the address (10[.0-9]+)\/24 by DHCP/);
    expect(await board.must(["ip", "-4", "-o", "address", "show", "dev", "eth0"])).toContain(
      ` ${address}/24 `,
    );
    expect(await board.must(["ip", "route", "show", "default"])).toContain(
      "via 10.99.0.1 dev eth0 metric 100",
    );
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe("nameserver 10.99.0.1\n");
    await board.port().wire("down");
    await said(/eth0 lost its link/);
    await board.port().wire("up");
    await board.must([
      "sh",
      "-c",
      'until [ "$(grep -c "has a link" /run/console)" = 2 ]; do sleep 0.1; done',
    ]);
    await board.must(["sh", "-c", "until ip route show default | grep -q 10.99.0.1; do sleep 0.1; done"]);
    expect(await board.must(["ip", "-4", "-o", "address", "show", "dev", "eth0"])).toContain(
      ` ${address}/24 `,
    );
    expect(board.processes().filter(({ command }) => command.includes("udhcpc")).length).toBe(1);
    expect((await board.run(["ping", "-c1", "-W5", "10.99.0.1"])).status).toBe(0);
  }, 60_000);

  test("an address that the card was made with is taken without asking anybody", async () => {
    board.writeFile(
      "/boot/os.txt",
      "address 10.99.0.77/24\ngateway 10.99.0.1\ndns 10.99.0.1\ndns 10.99.0.2\n",
    );
    start();
    await said(/eth0 has the address 10\.99\.0\.77\/24, which the card was made with/);
    expect(await board.must(["ip", "route", "show", "default"])).toContain("via 10.99.0.1 dev eth0");
    expect(await board.must(["cat", "/run/resolv.conf"])).toBe(
      "nameserver 10.99.0.1\nnameserver 10.99.0.2\n",
    );
    expect(board.processes().filter(({ command }) => command.includes("udhcpc"))).toEqual([]);
  }, 60_000);
});
