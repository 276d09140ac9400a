/** Headless Chromium for tests of the page. */

import { mkdtempSync, rmSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { PATIENCE } from "../lab/eventually.ts";
import type { Needs } from "../lab/need.ts";

/** What every suite with a browser needs. */
export const BROWSER: Needs = { programs: ["chromium"] };

/** A telephone's screen, in CSS pixels. */
export const TELEPHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};

export class TestBrowser implements AsyncDisposable {
  /** What a page was forbidden, or failed in, since the start. */
  readonly complaints: string[] = [];
  /** Requests to other hosts than the page's own. */
  readonly outside: string[] = [];

  private constructor(
    readonly browser: Browser,
    readonly home: string,
  ) {}

  static async start(): Promise<TestBrowser> {
    const home = mkdtempSync(join(tmpdir(), "walt-browser-"));
    const browser = await chromium.launch({
      executablePath: Bun.which("chromium") ?? "chromium",
      // Its sandbox does not run as root, and /dev/shm may be small.
      args: ["--no-sandbox", "--disable-dev-shm-usage", ...(arch() === "x64" ? [] : ["--disable-gpu"])],
      env: { ...process.env, HOME: home } as Record<string, string>,
      timeout: 4 * PATIENCE,
    });
    return new TestBrowser(browser, home);
  }

  /** A page with a memory of its own. */
  async open(address: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await this.browser.newContext(options);
    context.setDefaultTimeout(2 * PATIENCE);
    const page = await context.newPage();
    const { host } = new URL(address);
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning")
        this.complaints.push(`${message.location().url}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.host !== host) this.outside.push(request.url());
    });
    await page.goto(address);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser.close();
    rmSync(this.home, { recursive: true, force: true });
  }
}
