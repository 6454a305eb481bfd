/** What people do with the page, in a real browser. */

import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { piecesOf, scriptFor } from "../../dev/scripts.js";
import { BrowserBench, NARROW, say, WIDE, type View } from "./bench.js";

let bench: BrowserBench;
let closers: (() => Promise<void>)[] = [];

beforeAll(async () => {
  bench = await BrowserBench.start();
});

afterAll(async () => {
  await bench.stop();
});

beforeEach(() => {
  bench.server.isDown = false;
  bench.server.refusesWebSockets = false;
  bench.server.service.conversations.clear();
});

afterEach(async () => {
  for (const close of closers) await close();
  closers = [];
});

async function open(view: View = {}): Promise<{ page: Page; complaints: string[] }> {
  const { page, context, complaints } = await bench.open(view);
  closers.push(() => context.close());
  return { page, complaints };
}

const assistant = (page: Page, status: string) => page.locator(`[data-role=assistant][data-status=${status}]`);
const focused = (page: Page): Promise<string> => page.evaluate("document.activeElement?.id ?? ''");

function storedText(): string {
  return [...bench.server.service.conversations.values()][0]?.turns.at(-1)?.text ?? "";
}

/** What is shown, without the marks of markdown, as it would be without any space. */
async function shownText(page: Page): Promise<string> {
  return bare(await assistant(page, "complete").locator(".body").innerText());
}

function bare(text: string): string {
  return text.replace(/[\s*`-]|\d\.|^python$/gm, "").replace("python", "");
}

it("answers, says nothing to its console and asks nobody else", async () => {
  const { page, complaints } = await open();
  await page.locator("[data-testid=model-state][data-ready=true]").waitFor();
  expect(await focused(page)).toBe("composer");
  expect(await page.getByTestId("send").isDisabled()).toBe(true);
  await page.keyboard.type("What is the");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("capital of France?");
  await page.keyboard.press("Enter");
  await assistant(page, "complete").waitFor();
  expect(await shownText(page)).toBe(bare(storedText()));
  expect(await page.getByTestId("announcer").innerText()).toContain("Reply: The capital of France");
  expect(await page.getByTestId("conversation-item").count()).toBe(1);
  expect(page.url()).toMatch(/#\/c\/conv_/);
  expect(complaints).toEqual([]);
});

it("goes on with a reply when the connection is cut while it streams", async () => {
  const { page } = await open();
  await say(page, "What is the capital of France?");
  for (const word of ["Paris", "million", "arrondissements", "print"]) {
    await assistant(page, "streaming").getByText(word).first().waitFor();
    bench.server.cut();
  }
  await assistant(page, "complete").waitFor();
  expect(await shownText(page)).toBe(bare(storedText()));
  expect(storedText()).toBe(piecesOf(storedText()).join(""));
  await page.getByTestId("connection-banner").waitFor({ state: "detached" });
});

it("falls back to SSE where WebSockets are refused", async () => {
  bench.server.refusesWebSockets = true;
  const { page } = await open();
  await say(page, "/short hello");
  await assistant(page, "complete").waitFor();
  expect(await assistant(page, "complete").innerText()).toContain("Paris.");
});

it("moves at once when the replica goes away", async () => {
  const { page } = await open();
  await say(page, "What is the capital of France?");
  await assistant(page, "streaming").getByText("Paris").first().waitFor();
  bench.server.broadcast({ type: "going_away", reconnect_after_seconds: 0.05 });
  await assistant(page, "complete").waitFor();
  expect(await shownText(page)).toBe(bare(storedText()));
});

it("stops a reply with Escape, and retries it", async () => {
  const { page } = await open();
  await say(page, "/slow go");
  await assistant(page, "streaming").getByText("capital").waitFor();
  await page.keyboard.press("Escape");
  await assistant(page, "partial").waitFor();
  expect(await focused(page)).toBe("composer");
  await page.getByTestId("retry").click();
  await assistant(page, "complete").waitFor();
  expect(await page.getByTestId("message").count()).toBe(2);
});

it("stops with the button, which hands the focus back", async () => {
  const { page } = await open();
  await say(page, "/slow go");
  await assistant(page, "streaming").getByText("capital").waitFor();
  await page.getByTestId("stop").focus();
  await page.keyboard.press("Enter");
  await assistant(page, "partial").waitFor();
  await page.getByTestId("send").waitFor();
  expect(await focused(page)).toBe("composer");
});

it("sends a message that was written while there was no connection", async () => {
  const { page } = await open();
  await page.locator("[data-testid=model-state][data-ready=true]").waitFor();
  bench.server.isDown = true;
  bench.server.cut();
  await page.getByTestId("connection-banner").waitFor();
  await say(page, "/short are you there?");
  bench.server.isDown = false;
  await assistant(page, "complete").waitFor();
  expect([...bench.server.service.conversations.values()][0]?.turns).toHaveLength(2);
});

it("follows a link to a conversation, also to one where a reply is being written", async () => {
  const { page } = await open();
  await say(page, "What is the capital of France?");
  await assistant(page, "streaming").getByText("Paris").first().waitFor();
  const other = await open({ hash: new URL(page.url()).hash });
  await assistant(other.page, "complete").waitFor();
  expect(await shownText(other.page)).toBe(bare(storedText()));
});

it("shows the stored reply where the log of a running one is gone", async () => {
  const { page } = await open();
  await say(page, "What is the capital of France?");
  await assistant(page, "streaming").getByText("Paris").first().waitFor();
  for (const generation of bench.server.service.generations.values()) generation.isExpired = true;
  bench.server.cut();
  await assistant(page, "complete").waitFor();
  expect(await shownText(page)).toBe(bare(storedText()));
});

it("renames and deletes conversations by keyboard", async () => {
  bench.server.service.seed("First", [{ text: "Hello" }]);
  const { page } = await open();
  await page.getByTestId("rename").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("Renamed");
  await page.keyboard.press("Enter");
  await page.getByText("Renamed").waitFor();
  expect(await focused(page)).toMatch(/^open-/);
  await page.getByTestId("remove").focus();
  await page.keyboard.press("Enter");
  await page.getByTestId("confirm-delete").waitFor();
  await page.keyboard.press("Escape");
  await page.getByTestId("confirm-delete").waitFor({ state: "detached" });
  expect(await page.getByTestId("conversation-item").count()).toBe(1);
  await page.getByTestId("remove").click();
  await page.getByTestId("confirm-delete").click();
  await page.getByTestId("conversation-item").waitFor({ state: "detached" });
  expect(bench.server.service.conversations.size).toBe(0);
});

it("never makes markup of what a model or a person writes", async () => {
  const evil = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>";
  bench.server.service.seed("Evil", [
    { text: evil },
    { text: `${evil}\n\n\`\`\`html\n${evil}\n\`\`\``, role: "assistant", generation_id: "gen_1" },
  ]);
  const { page, complaints } = await open();
  await page.getByTestId("conversation-item").getByText("Evil").click();
  await assistant(page, "complete").getByText(evil).first().waitFor();
  expect(await page.locator(".messages img, .messages script").count()).toBe(0);
  expect(await page.title()).toBe("Evil · pratique");
  expect(complaints).toEqual([]);
});

it("stays where somebody reads while a reply grows, and at the end otherwise", async () => {
  const long = scriptFor("").pieces.join("");
  const turns = Array.from({ length: 300 }, (_, index) => ({
    text: long,
    role: index % 2 ? ("assistant" as const) : ("user" as const),
    generation_id: index % 2 ? `gen_${index}` : null,
  }));
  bench.server.service.seed("Long", turns);
  const { page } = await open();
  await page.getByTestId("conversation-item").getByText("Long").click();
  const gap = (): Promise<number> =>
    page.evaluate("(e => e.scrollHeight - e.scrollTop - e.clientHeight)(document.querySelector('.thread'))");
  await page.getByRole("button", { name: "Show earlier messages" }).waitFor({ state: "attached" });
  await say(page, "And now?");
  await assistant(page, "streaming").getByText("arrondissements").waitFor();
  expect(await gap()).toBeLessThan(64);
  await page.evaluate("document.querySelector('.thread').scrollTop -= 500");
  await page.getByRole("button", { name: "Newest" }).waitFor();
  await assistant(page, "streaming").waitFor({ state: "detached" });
  expect(await gap()).toBeGreaterThan(200);
  await page.getByRole("button", { name: "Newest" }).click();
  await page.getByRole("button", { name: "Newest" }).waitFor({ state: "detached" });
  expect(await gap()).toBeLessThan(64);
});

it("has its list in a drawer where there is little room", async () => {
  bench.server.service.seed("Somewhere", [{ text: "Hello" }]);
  const { page } = await open({ size: NARROW });
  expect(await page.getByTestId("new-conversation").isVisible()).toBe(false);
  await page.getByTestId("menu").click();
  await page.getByTestId("conversation-item").getByText("Somewhere").click();
  await page.getByText("Hello").waitFor();
  await page.getByTestId("new-conversation").waitFor({ state: "hidden" });
  await page.getByTestId("menu").click();
  await page.keyboard.press("Escape");
  await page.getByTestId("new-conversation").waitFor({ state: "hidden" });
  await page.getByTestId("menu").click();
  await page.setViewportSize(WIDE);
  await page.getByTestId("composer").fill("reachable");
  expect(await page.getByTestId("send").isEnabled()).toBe(true);
});
