/**
 * `walt web` with a real server and a real board, in headless Chromium: a board is accepted by clicks, comes up,
 * is lost, and goes.
 */

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER } from "../../src/api/routes.ts";
import { ownTarget } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";
import { BROWSER, TELEPHONE, TestBrowser } from "../web/browser.ts";

const ARM = ownTarget() === "arm64";
const QEMU = ARM ? "qemu-system-aarch64" : "qemu-system-x86_64";
const SLOW = { timeout: 120_000 };

describeWith([...INTEGRATION, BROWSER, { programs: [QEMU] }], "walt web with a board", () => {
  test("a board is accepted by clicks, comes up, shows its console, is lost, and goes", async () => {
    await using world = await World.create();
    const boot = `/var/lib/walt-vpn/boot/${ARM ? "arm64" : "x86_64"}`;
    world.server.writeFile(`${boot}/vmlinuz`, "#!ipxe\nshell\n");
    world.server.writeFile(`${boot}/initrd.img`, "none");
    const device = await world.device("device1", { toml: "[device.vm]\nmemory = 128\n" });
    // The browser is on this machine, and so is the page; the server is in a host of the laboratory.
    const config = join(device.host.path("/tmp"), "web.toml");
    writeFileSync(config, `role = "server"\n[server]\nsocket = "${world.api.peer.socket}"\n`);
    const web = Bun.spawn([world.binary, "web"], {
      ...{ stdout: "pipe", stderr: "inherit", stdin: "ignore" },
      env: { ...process.env, WALT_CONFIG: config } as Record<string, string>,
    });
    await using browser = await TestBrowser.start();
    try {
      const first = await eventually("the address", web.stdout.getReader().read());
      const [address = ""] = new TextDecoder().decode(first.value).split("\n");
      const page = await browser.open(address, { viewport: { width: 1100, height: 800 } });
      await page.getByText("There are no nodes yet.").waitFor(SLOW);

      device.start();
      const code = (await page.locator("li.request code").textContent(SLOW)) ?? "";
      expect((await world.api.call(SERVER.requests, {})).map((one) => one.code)).toEqual([code]);
      await page.getByLabel("of the code that the device shows").fill(code.slice(0, 3));
      await page.getByLabel("Name of the node").fill("lab-1");
      await page.getByLabel("Note about the node").fill("in the cellar");
      await page.getByRole("button", { name: "Accept" }).click();
      await page.getByText(`${code} is accepted as lab-1`).waitFor(SLOW);
      await page.locator("tr.up th", { hasText: "lab-1" }).waitFor(SLOW);
      expect(await page.locator("li.request").isVisible()).toBe(false);
      expect(await world.nodes()).toMatchObject([{ name: "lab-1", state: "up", note: "in the cellar" }]);

      await page.getByRole("link", { name: "lab-1" }).click();
      await page.getByRole("button", { name: "Type", exact: true }).click();
      await page.locator(".xterm-rows").getByText("iPXE>").first().waitFor(SLOW);
      await page.keyboard.type("echo the mac is $" + "{net0/mac}\n");
      const { mac } = await device.status();
      await page.locator(".xterm-rows").getByText(`the mac is ${mac}`).waitFor(SLOW);
      await page.locator(".facts dt", { hasText: "board's walt" }).waitFor(SLOW);
      await page.getByRole("button", { name: "Reset" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Reset" }).click();
      await page.getByText("lab-1: rebooted").waitFor(SLOW);
      await page.getByRole("button", { name: "Switch off" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Switch off" }).click();
      await page.getByText("lab-1: the virtual machine is switched off").waitFor(SLOW);
      await page.getByRole("button", { name: "Switch on" }).click(SLOW);
      await page.getByRole("dialog").getByRole("button", { name: "Switch on" }).click();
      await page.getByText("lab-1: the virtual machine is switched on").waitFor(SLOW);

      const telephone = await browser.open(address, TELEPHONE);
      await telephone.locator("tr.up th", { hasText: "lab-1" }).waitFor(SLOW);
      await telephone.locator("tr .spark").waitFor(SLOW);

      await page.getByRole("link", { name: "All nodes" }).click();
      await device.stop();
      await page.locator("tr.down th", { hasText: "lab-1" }).waitFor(SLOW);
      await page.locator(".events").getByText("lab-1: down after").waitFor(SLOW);
      await world.api.call(SERVER.revoke, { node: "lab-1", reenrol: false, by: "test" });
      await page.getByText("There are no nodes yet.").waitFor(SLOW);

      await world.stopServer();
      await page.locator("#problem").getByText("no daemon").waitFor(SLOW);
      await world.startServer();
      await page.locator("#problem").waitFor({ state: "hidden", ...SLOW });
      expect(browser.complaints.filter((one) => !one.includes("status of 400"))).toEqual([]);
      expect(browser.outside).toEqual([]);
    } finally {
      web.kill("SIGTERM");
      expect(await eventually("its end", web.exited)).toBe(0);
    }
  }, 600_000);
});
