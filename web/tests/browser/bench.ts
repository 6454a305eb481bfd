/** The built page in a real browser, with the fake service behind it. */

import { mkdirSync } from "node:fs";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { scriptFor } from "../../dev/scripts.js";
import { FakeServer } from "../../dev/server.js";

const PAGE_DIR = new URL("../../../src/pratique/orchestrator/page", import.meta.url).pathname;
export const SHOTS_DIR = new URL("../../test-results/", import.meta.url).pathname;

export const WIDE = { width: 1180, height: 800 };
export const NARROW = { width: 320, height: 640 };

export interface View {
  readonly scheme?: "light" | "dark";
  readonly size?: { width: number; height: number };
  readonly hash?: string;
  readonly reducedMotion?: boolean;
}

export class BrowserBench {
  private constructor(
    private readonly browser: Browser,
    readonly server: FakeServer,
    readonly address: string,
  ) {}

  /** Start a browser, and the fake service unless the page of another one is to be opened. */
  static async start(elsewhere = ""): Promise<BrowserBench> {
    mkdirSync(SHOTS_DIR, { recursive: true });
    const server = new FakeServer({ script: scriptFor, pageDir: PAGE_DIR });
    const own = await server.listen();
    const address = elsewhere || own;
    const browser = await chromium.launch({
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    });
    return new BrowserBench(browser, server, address);
  }

  async stop(): Promise<void> {
    await this.browser.close();
    await this.server.close();
  }

  /** Open the page; whatever its console or policy complains about fails the test that looks at `complaints`. */
  async open(view: View = {}): Promise<{ page: Page; context: BrowserContext; complaints: string[] }> {
    const context = await this.browser.newContext({
      viewport: view.size ?? WIDE,
      colorScheme: view.scheme ?? "light",
      reducedMotion: view.reducedMotion ? "reduce" : "no-preference",
    });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(this.address)) complaints.push(`outside: ${request.url()}`);
    });
    await page.goto(`${this.address}/${view.hash ?? ""}`);
    await page.getByTestId("composer").waitFor();
    return { page, context, complaints };
  }
}

export async function say(page: Page, text: string): Promise<void> {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

export async function shot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${SHOTS_DIR}${name}.png` });
}
