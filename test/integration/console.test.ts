/** The node's serial console, from the device's machine: what it says, what is typed, and how the node starts afresh. */

import { expect, test } from "bun:test";
import { FIRST_WAIT } from "../../src/linux/sleep.ts";
import { ownTarget } from "../lab/binary.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const ARM = ownTarget() === "arm64";
const QEMU = ARM ? "qemu-system-aarch64" : "qemu-system-x86_64";

describeWith([...INTEGRATION, { programs: [QEMU] }], "the node's console", () => {
  test("shows what the node says, to several; what is typed reaches it; a reboot starts it afresh", async () => {
    await using world = await World.create({ proxies: 0 });
    // What iPXE finds in place of a kernel is a script, which it runs: its own command line.
    const boot = `/var/lib/walt-vpn/boot/${ARM ? "arm64" : "x86_64"}`;
    world.server.writeFile(`${boot}/vmlinuz`, "#!ipxe\nshell\n");
    world.server.writeFile(`${boot}/initrd.img`, "none");
    const device = await world.device("device1", { toml: `[device.vm]\nmemory = 128\nusb = "1-1"\n` });
    const early = await world.walt(device.host, "device", "console");
    expect([early.status, early.stderr.split("\n")[0]]).toEqual([
      1,
      "walt: there is no console: no program listens on /run/walt-vpn/console.sock",
    ]);
    await device.enrol();
    const attach = (...mode: string[]) => device.host.spawn([world.binary, "device", "console", ...mode]);
    const [first, second] = [attach(), attach("--watch")];
    await first.waitFor(/iPXE initialising[\s\S]*iPXE> /, { timeout: 60_000 });
    first.write(`echo this is \${net0/mac}\r`);
    const { mac } = await device.status();
    await second.waitFor(new RegExp(`\\nthis is ${mac}`));
    // Who comes later sees it too.
    const third = attach("--watch");
    await third.waitFor(/iPXE initialising[\s\S]*\nthis is /);
    // Only one types, until somebody else takes the console.
    const refused = await world.walt(device.host, "device", "console");
    expect([refused.status, refused.stderr.split("\n")[0]]).toEqual([
      1,
      "walt: root on the board is typing on the console",
    ]);
    const fourth = attach("--take");
    await first.waitFor(/\[walt: root on the board has taken the console: you can only watch now\]/);
    await fourth.waitFor(/iPXE initialising[\s\S]*\nthis is /);

    const [console1, log] = [first.position, device.process?.position ?? 0];
    fourth.write("reboot\r");
    await first.waitFor(
      /\[walt: the node rebooted\]\r\n\r\n\[walt: the virtual machine is started again\]\r\n[\s\S]*iPXE> /,
      { after: console1, timeout: 60_000 },
    );
    const again = await device.process?.waitFor(
      /info +vm: the node rebooted; starting it again .*wait=(\d+)/,
      {
        after: log,
      },
    );
    // At once, or after the first wait when it ran for less than SHORT_LIFE, which a fast machine does.
    expect(Number(again?.[1])).toBeLessThan(1.2 * FIRST_WAIT + 1);
    expect((await device.status()).lastError).toBeNull();
    const words = (await world.must(device.host, "device", "status")).split("\n").map((line) => line.trim());
    expect(words).toContainEqual(expect.stringMatching(/^usb +-$/));

    expect(await device.stop()).toBe(0);
    expect(await Promise.all([first, second, third, fourth].map((one) => one.exited))).toEqual([0, 0, 0, 0]);
    expect(device.host.processes().filter((p) => /qemu|ssh|walt/.test(p.command))).toEqual([]);
    expect(await device.host.must(["ls", "/run/walt-vpn"])).toBe("");
  }, 180_000);
});
