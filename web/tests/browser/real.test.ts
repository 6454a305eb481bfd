/** The page against a running service: PRATIQUE_URL=http://127.0.0.1:8080 npm run test:browser. Left out without one. */

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { BrowserBench, say, shot } from "./bench.js";

const url = process.env["PRATIQUE_URL"] ?? "";
let bench: BrowserBench;

beforeAll(async () => {
  bench = await BrowserBench.start(url);
});

afterAll(async () => {
  await bench.stop();
});

const entry = (page: Page, status: string) => page.locator(`[data-role=assistant][data-status=${status}]`);

it.skipIf(url === "")("answers, stops, retries, and finds it all again", async () => {
  const { page, context, complaints } = await bench.open();
  await page.locator("[data-testid=model-state][data-ready=true]").waitFor({ timeout: 60_000 });
  await say(page, "What is the capital of France?");
  await entry(page, "complete").waitFor();
  await say(page, "Tell me a long story about harbours, pilots and lights.");
  await entry(page, "streaming").locator(".body").waitFor();
  await page.keyboard.press("Escape");
  await entry(page, "partial").waitFor();
  await shot(page, "real-stopped");
  await page.getByTestId("retry").click();
  await entry(page, "complete").nth(1).waitFor();
  const texts = await page.locator(".body").allInnerTexts();
  await shot(page, "real");
  await page.reload();
  await entry(page, "complete").nth(1).waitFor();
  expect(await page.locator(".body").allInnerTexts()).toEqual(texts);
  await page.getByTestId("remove").first().click();
  await page.getByTestId("confirm-delete").click();
  await page.getByTestId("message").first().waitFor({ state: "detached" });
  expect(complaints).toEqual([]);
  await context.close();
});

it.skipIf(url === "")("does the same without WebSockets", async () => {
  const { page, context } = await bench.open();
  await page.routeWebSocket("**/api/ws", (socket) => socket.close());
  await page.reload();
  await say(page, "What is the capital of France?");
  await entry(page, "complete").waitFor();
  await say(page, "Tell me a long story about harbours, pilots and lights.");
  await entry(page, "streaming").locator(".body").waitFor();
  await page.keyboard.press("Escape");
  await entry(page, "partial").waitFor();
  expect(await page.getByTestId("connection-banner").count()).toBe(0);
  await context.close();
});
