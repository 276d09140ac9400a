/**
 * The page in headless Chromium, with a server that answers from memory. With WALT_SCREENSHOTS the pictures of
 * docs/web.md are made anew.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { LiveOverview } from "../../src/commands/web/_overview.ts";
import { servePage, type WebServer } from "../../src/commands/web/_server.ts";
import { FakeServer, HTML, REQUEST } from "../commands/web/fake-server.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { BROWSER, TELEPHONE, TestBrowser } from "./browser.ts";

describeWith(BROWSER, "the page in a browser", () => {
  let fake: FakeServer;
  let web: WebServer;
  let browser: TestBrowser;
  const over = new AbortController();
  beforeAll(async () => {
    fake = new FakeServer();
    const live = new LiveOverview(fake.api, "local");
    const connected = Promise.withResolvers<void>();
    void live.watch(over.signal, connected.resolve);
    await connected.promise;
    web = await servePage(fake.api, live, 0);
    browser = await TestBrowser.start();
  });
  afterAll(async () => {
    over.abort();
    await browser?.[Symbol.asyncDispose]();
    await web.stop();
    await fake[Symbol.asyncDispose]();
  });
  afterEach(() => {
    // Nothing was forbidden by the policy, nothing failed, and nothing was asked of another host.
    expect(browser.complaints.splice(0)).toEqual([]);
    expect(browser.outside).toEqual([]);
  });

  test("the token leaves the address bar, and a reload keeps it; without it the page says what to do", async () => {
    const page = await browser.open(web.address);
    await page.getByRole("link", { name: "lab-3" }).waitFor();
    const token = new URL(web.address).hash.slice(1);
    expect(page.url()).not.toContain(token);
    await page.reload();
    await page.getByRole("link", { name: "lab-3" }).waitFor();
    const stranger = await browser.open(new URL(web.address).origin);
    await stranger.getByText("Open the address that `walt web` has printed").waitFor();
    expect(await stranger.getByRole("link", { name: "lab-3" }).count()).toBe(0);
  });

  test("what others say is text: no element comes of it", async () => {
    const page = await browser.open(web.address);
    fake.ask();
    const request = page.locator("li.request");
    await request.waitFor();
    expect(await request.locator("dd").allTextContents()).toContain(REQUEST.model);
    expect(await page.locator("tr.up td[data-label=Note]").textContent()).toBe(HTML);
    expect(await page.locator("main img, main b").count()).toBe(0);
    await page.getByRole("link", { name: "lab-3" }).click();
    await page.locator(".usb li").getByText(HTML).waitFor();
    await page.locator(".events li").getByText(HTML).waitFor();
    expect(await page.locator("main img, main b").count()).toBe(0);
    fake.requests = [];
  });

  test("nothing is accepted before the code was typed; keys alone are enough", async () => {
    const page = await browser.open(web.address);
    fake.told.length = 0;
    fake.ask();
    const [accept, deny] = ["Accept", "Deny"].map((name) => page.getByRole("button", { name }));
    if (accept === undefined || deny === undefined) throw new Error("no buttons");
    await accept.waitFor();
    expect([await accept.isDisabled(), await deny.isDisabled()]).toEqual([true, true]);
    const typed = page.getByLabel("of the code that the device shows");
    await typed.focus();
    await page.keyboard.type("XYZ");
    expect(await accept.isDisabled()).toBe(true);
    await page.keyboard.press("Enter");
    for (let i = 0; i < 3; i++) await page.keyboard.press("Backspace");
    // The list is drawn anew meanwhile: what is typed, and the focus, stay.
    fake.ask({ ...REQUEST, id: "9", fingerprint: "SHA256:y", code: "ZZZZZ-00000" });
    await page.locator("li.request").nth(1).waitFor();
    await page.keyboard.type("pg2");
    await page.keyboard.press("Tab");
    await page.keyboard.type("lab-9");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText("PG2WB-J9NS3 is accepted as lab-9").waitFor();
    expect(fake.told).toMatchObject([{ id: "1", accept: true, name: "lab-9" }]);
    fake.requests = [];
  });

  test("what is typed for a device stays when it is away for a moment, and asks again", async () => {
    const page = await browser.open(web.address);
    fake.ask();
    const typed = page.getByLabel("of the code that the device shows");
    await typed.fill("pg2");
    await page.getByLabel("Name of the node").fill("lab-8");
    fake.requests = [];
    fake.tell({ type: "answered", id: "1", outcome: "withdrawn", by: "the device" });
    await page.locator("li.request").waitFor({ state: "detached" });
    fake.ask({ ...REQUEST, id: "8" });
    await typed.waitFor();
    expect(await typed.inputValue()).toBe("pg2");
    fake.told.length = 0;
    await page.getByRole("button", { name: "Accept" }).click();
    await page.getByText("PG2WB-J9NS3 is accepted as lab-8").waitFor();
    expect(fake.told).toMatchObject([{ id: "8", accept: true, name: "lab-8" }]);
    fake.requests = [];
  });

  test("one node: an order is asked about, and given; the console shows and types", async () => {
    const page = await browser.open(`${web.address}`);
    await page.getByRole("link", { name: "lab-3" }).click();
    fake.told.length = 0;
    await page.getByRole("button", { name: "Reboot", exact: true }).click();
    await page.getByText("Ask the guest to reboot, on lab-3?").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(fake.told).toEqual([]);
    await page.getByRole("button", { name: "Reset" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Reset" }).click();
    await page.getByText("lab-3: rebooted").waitFor();
    expect(fake.told).toMatchObject([{ order: "reboot", what: "vm" }]);
    fake.told.length = 0;
    await page.getByRole("button", { name: "Type", exact: true }).click();
    await page.locator(".xterm-rows").getByText("lab-3 login:").waitFor();
    await page.getByText("What you type goes to the node.").waitFor();
    await page.keyboard.type("root\n");
    const typed = await eventually("what was typed", () => fake.told.slice(1).join(""), {
      fits: (text) => text.includes("\r"),
    });
    expect(typed).toBe("root\r");
    // The terminal's letters have the size that its styles give them: the policy lets these be.
    const { height } = (await page.locator(".xterm-rows > div").first().boundingBox()) ?? { height: 0 };
    expect(height).toBeGreaterThan(12);
  });

  test("a key, or after a question a source, is blocked once the code was typed", async () => {
    const page = await browser.open(web.address);
    for (const [text, block] of [
      ["Block the key", "key"],
      ["Block the source", "source"],
    ] as const) {
      fake.told.length = 0;
      fake.ask();
      const press = page.locator("li.request").getByRole("button", { name: text });
      await press.waitFor();
      expect(await press.isDisabled()).toBe(true);
      await page.getByLabel("of the code that the device shows").fill("pg2");
      await press.click();
      if (block === "source") {
        await page.getByText(`Deny all that comes from ${REQUEST.address} for an hour`).waitFor();
        expect(fake.told).toEqual([]);
        await page.getByRole("dialog").getByRole("button", { name: text }).click();
      }
      await page.getByText("PG2WB-J9NS3 is denied.").waitFor();
      expect(fake.told).toMatchObject([{ id: "1", accept: false, block }]);
      await page.locator("li.request").waitFor({ state: "detached" });
    }
  });

  test("a node is renamed, and revoked after the question that the command asks", async () => {
    const before = fake.nodes;
    const page = await browser.open(web.address);
    await page.getByRole("link", { name: "lab-3" }).click();
    await page.locator(".facts dd").first().waitFor();
    fake.told.length = 0;
    await page.getByRole("button", { name: "Rename" }).click();
    await page.getByLabel("New name of the node").fill("lab-5");
    await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
    await page.getByText("lab-3 is called lab-5 now").waitFor();
    await page.getByRole("heading", { name: "lab-5" }).waitFor();
    expect(fake.told).toMatchObject([{ node: "lab-3", name: "lab-5" }]);
    fake.told.length = 0;
    await page.locator(".facts dd").first().waitFor();
    await page.getByRole("button", { name: "Revoke" }).click();
    await page.getByText("Revoke lab-5?").waitFor();
    const about = await page.locator("dialog pre").textContent();
    expect(about).toContain("the keys of their boards are refused from now on.");
    expect(about).toContain(before[0]?.device.code ?? "none");
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(fake.told).toEqual([]);
    await page.getByRole("button", { name: "Revoke" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await page.getByText("lab-5 is revoked. To undo it: walt vpn restore NODE.").waitFor();
    await page.getByText("There are no nodes yet.").waitFor();
    expect(fake.told).toMatchObject([{ node: "lab-5", reenrol: false }]);
    fake.nodes = before;
  });

  test("a telephone's screen needs no scrolling to the side, in dark as in light", async () => {
    fake.ask();
    const backs: string[] = [];
    for (const colorScheme of ["light", "dark"] as const) {
      const page = await browser.open(web.address, { ...TELEPHONE, colorScheme });
      await page.locator("li.request").waitFor();
      await page.locator("tr .spark").waitFor();
      const width = (): Promise<number> => page.evaluate("document.documentElement.scrollWidth");
      expect(await width()).toBe(390);
      backs.push(await page.evaluate("getComputedStyle(document.body).backgroundColor"));
      await page.getByRole("link", { name: "lab-3" }).click();
      await page.locator(".facts dd").first().waitFor();
      await page.getByRole("button", { name: "Watch" }).click();
      await page.locator(".xterm-rows").getByText("lab-3 login:").waitFor();
      expect(await width()).toBe(390);
    }
    expect(new Set(backs).size).toBe(2);
    fake.requests = [];
  });
});

describeWith(BROWSER, "the pictures of the docs", () => {
  test("nodes with their sparklines, a request, and a telephone", async () => {
    await using fake = new FakeServer();
    const over = new AbortController();
    const live = new LiveOverview(fake.api, "local");
    const connected = Promise.withResolvers<void>();
    void live.watch(over.signal, connected.resolve);
    await connected.promise;
    fake.beLifelike();
    const web = await servePage(fake.api, live, 0);
    try {
      await using browser = await TestBrowser.start();
      const screens = {
        "web-desktop": { viewport: { width: 1100, height: 760 } },
        "web-telephone": TELEPHONE,
      };
      for (const [name, screen] of Object.entries(screens)) {
        const page = await browser.open(web.address, screen);
        await page.locator("li.request").waitFor();
        await page.locator("tr .spark").nth(3).waitFor();
        const words = await page.locator("tr .spark").nth(1).getAttribute("aria-label");
        expect(words).toMatch(
          /^last 1 h: up [\d.]+ % of the time, round trip [\d.]+ to [\d.]+ ms, loss [\d.]+ %$/,
        );
        const line = (await page.locator("tr .spark-rtt").nth(1).getAttribute("d")) ?? "";
        expect(line.match(/[ML]/g)?.length).toBeGreaterThan(40);
        if ((process.env["WALT_SCREENSHOTS"] ?? "") !== "")
          await page.screenshot({ path: join(import.meta.dir, `../../docs/${name}.png`) });
      }
    } finally {
      over.abort();
      await web.stop();
    }
  });
});

test("the page is small beside its console: what is loaded at first", async () => {
  const { pageFiles } = await import("../../src/commands/web/_files.ts");
  const files = await pageFiles();
  const html = (await files.get("/")?.body.text()) ?? "";
  const [script] = /\/[\w-]+\.js/.exec(html) ?? [];
  // A picture of a camera is larger.
  expect(files.get(script ?? "")?.body.size).toBeLessThan(100_000);
  expect(files.get(script ?? "")?.body.size).toBeGreaterThan(1000);
});
