/** Every state of the page, light and dark, wide and narrow: a picture of it, and no complaint of the accessibility rules. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WARMING } from "../../dev/scripts.js";
import { READY } from "../../dev/service.js";
import { BrowserBench, NARROW, say, shot, WIDE, type View } from "./bench.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let bench: BrowserBench;

beforeAll(async () => {
  bench = await BrowserBench.start();
});

afterAll(async () => {
  await bench.stop();
});

beforeEach(() => {
  const { server } = bench;
  server.isDown = false;
  server.service.conversations.clear();
  server.service.setModel(READY);
  server.service.models = [];
  server.service.seed("Which ports does the ferry call at?", [{ text: "Hello" }], 4000);
  server.service.seed(
    "A very long title that goes on and on until nobody reads it any more",
    [{ text: "Hello" }],
    9000,
  );
});

async function expectAccessible(page: Page): Promise<void> {
  // Evaluated from outside, so that the page's own policy stays as it is.
  await page.evaluate(AXE);
  const results = await page.evaluate<AxeResults>(
    `axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })`,
  );
  const found = results.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" | ")}`);
  expect(found).toEqual([]);
  const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
  expect(overflow).toBe(0);
}

const MODELS = [
  { name: "small", kind: "pool", description: "Quick answers", ready: true },
  { name: "large", kind: "pool", description: "Thorough answers", ready: true },
  { name: "chatbot-ja", kind: "adapter", description: "日本語", ready: false },
];

const ended = (page: Page, status: string): Promise<void> =>
  page.locator(`[data-role=assistant][data-status=${status}]`).waitFor();

const STATES: Readonly<Record<string, (page: Page) => Promise<void>>> = {
  empty: async (page) => {
    await page.getByTestId("conversation-item").first().waitFor({ state: "attached" });
  },
  warming: async (page) => {
    bench.server.service.setModel(WARMING);
    await page.getByText("loading weights 40 %").first().waitFor();
  },
  streaming: async (page) => {
    await say(page, "/slow What is the capital of France?");
    await page.getByText("Paris").first().waitFor();
  },
  complete: async (page) => {
    await say(page, "/cut What is the capital of France?");
    await ended(page, "complete");
  },
  sources: async (page) => {
    bench.server.service.models = MODELS;
    await page.reload();
    await page.getByTestId("model-choice").waitFor();
    await say(page, "/sources Is there a manga about a lighthouse?");
    await ended(page, "complete");
    await page.locator("[data-testid=route] summary").click();
  },
  degraded: async (page) => {
    await say(page, "/degraded Is there a manga about a lighthouse?");
    await ended(page, "complete");
  },
  fallback: async (page) => {
    await say(page, "/fallback Is there a manga about a lighthouse?");
    await ended(page, "failed");
  },
  partial: async (page) => {
    await say(page, "/partial What is the capital of France?");
    await ended(page, "partial");
  },
  failed: async (page) => {
    await say(page, "/fail What is the capital of France?");
    await ended(page, "failed");
  },
  refused: async (page) => {
    await say(page, "/refuse What is the capital of France?");
    await page.locator("[data-role=user][data-status=failed]").waitFor();
  },
  reconnecting: async (page) => {
    await say(page, "/slow What is the capital of France?");
    await page.getByText("Paris").first().waitFor();
    bench.server.isDown = true;
    bench.server.cut();
    await page.getByTestId("connection-banner").waitFor();
  },
  gone: async (page) => {
    await page.evaluate("location.hash = '#/c/conv_none'");
    await page.getByText("There is no such conversation").waitFor();
  },
  deleting: async (page) => {
    if (await page.getByTestId("menu").isVisible()) await page.getByTestId("menu").click();
    await page.getByTestId("conversation-item").first().hover();
    await page.getByTestId("remove").first().click();
    await page.getByTestId("confirm-delete").waitFor();
  },
  shortcuts: async (page) => {
    await page.keyboard.press("Control+/");
    await page.getByText("Keyboard shortcuts").waitFor();
  },
  menu: async (page) => {
    if (await page.getByTestId("menu").isVisible()) await page.getByTestId("menu").click();
    await page.getByTestId("new-conversation").waitFor();
  },
};

const VIEWS: readonly [name: string, view: View][] = [
  ["light", { scheme: "light", size: WIDE }],
  ["dark", { scheme: "dark", size: WIDE }],
  ["narrow", { scheme: "light", size: NARROW, reducedMotion: true }],
  ["narrow-dark", { scheme: "dark", size: NARROW }],
];

describe.each(VIEWS)("the page, %s", (viewName, view) => {
  it.each(Object.entries(STATES))("is accessible when %s", async (stateName, reach) => {
    const { page, context } = await bench.open(view);
    await reach(page);
    await page.waitForTimeout(250);
    await shot(page, `${viewName}-${stateName}`);
    await expectAccessible(page);
    await context.close();
  });
});
