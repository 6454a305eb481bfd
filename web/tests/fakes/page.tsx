/** The page in jsdom, on a fake service and clock, and what people do with it. */

import axe from "axe-core";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { Script } from "../../dev/service.js";
import type { ReplyDetails } from "../../src/client/index.js";
import { App } from "../../src/page/components/app.js";
import { Controller } from "../../src/page/controller.js";
import { bench, PIECES, type Bench } from "./chat.js";

export interface PageBench extends Bench {
  readonly controller: Controller;
  readonly addresses: (string | null)[];
  readonly pass: (ms: number) => Promise<void>;
}

export const OVERLOADED = {
  code: "overloaded",
  message: "Too much to do.",
  hint: "Try later.",
  retry_after_seconds: 1,
  fallback: null,
};
export const BROKEN = {
  code: "interrupted",
  message: "It broke.",
  hint: "Retry.",
  retry_after_seconds: null,
  fallback: null,
};

const DETAILS: ReplyDetails = {
  route: { pool: "small", model: "", policy: "length", reason: "short question" },
  sources: [
    { source_id: "a", title: "The Lamp", url: "https://manga.example/lamp" },
    { source_id: "b", title: "Opening hours", url: null },
  ],
  notice: null,
  degraded: [],
};

const SCRIPTS: Readonly<Record<string, Script>> = {
  "/fail": { pieces: PIECES, failsAfter: 0, error: BROKEN },
  "/partial": { pieces: PIECES, failsAfter: 4, error: BROKEN },
  "/refuse": { pieces: PIECES, refusal: OVERLOADED },
  "/cut": { pieces: PIECES, turnsDropped: 2 },
  "/told": { pieces: PIECES, turnsDropped: 2, details: { ...DETAILS, notice: "Two passages were left out." } },
  "/bare": { pieces: PIECES, details: { ...DETAILS, route: null, sources: [] } },
  "/without": { pieces: PIECES, details: { ...DETAILS, sources: [], degraded: ["retrieval"] } },
  "/fallback": { pieces: PIECES, failsAfter: 0, error: { ...BROKEN, fallback: "Please **call** the shop." } },
};

export let made: PageBench;
export const media = { matches: false };

/** Around each test. */
export function usePage(): void {
  beforeEach(() => {
    // jsdom lacks both.
    HTMLDialogElement.prototype.showModal = function showModal(): void {
      this.setAttribute("open", "");
    };
    HTMLDialogElement.prototype.close = function close(): void {
      this.removeAttribute("open");
    };
    media.matches = false;
    vi.stubGlobal("matchMedia", () => ({
      matches: media.matches,
      addEventListener: () => undefined,
      removeEventListener: () => undefined,
    }));
    document.documentElement.lang = "en";
    document.title = "pratique";
  });

  afterEach(() => {
    render(null, document.body);
    made.chat.stop();
  });
}

export async function open(address: string | null = null, setUp?: (bench: Bench) => void): Promise<PageBench> {
  const parts = bench({ script: (text) => SCRIPTS[text.split(" ")[0] ?? ""] ?? { pieces: PIECES, turnsDropped: 0 } });
  setUp?.(parts);
  const addresses: (string | null)[] = [address];
  const controller = new Controller(parts.chat, {
    nextFrame: (callback) => parts.clock.startTimer(callback, 1),
    conversationInAddress: () => addresses.at(-1) ?? null,
    setAddress: (conversationId) => addresses.push(conversationId),
    nowSeconds: () => 1_700_000_000,
    later: (callback, ms) => parts.clock.startTimer(callback, ms),
  });
  const pass = async (ms: number): Promise<void> => {
    await act(() => parts.clock.advance(ms));
  };
  made = { ...parts, controller, addresses, pass };
  await act(() => {
    render(<App controller={controller} />, document.body);
    controller.start();
  });
  await pass(50);
  return made;
}

export function get(testId: string): HTMLElement {
  const found = document.querySelector<HTMLElement>(`[data-testid=${testId}]`);
  if (!found) throw new Error(`There is no ${testId}.`);
  return found;
}

export const has = (testId: string): boolean => document.querySelector(`[data-testid=${testId}]`) !== null;
export const composer = (): HTMLTextAreaElement => get("composer") as HTMLTextAreaElement;

export function messages(): (string | null)[] {
  return [...document.querySelectorAll("[data-testid=message]")].map(
    (each) => `${each.getAttribute("data-role") ?? ""} ${each.getAttribute("data-status") ?? ""}`,
  );
}

export async function type(text: string): Promise<void> {
  await act(() => {
    composer().value = text;
    composer().dispatchEvent(new InputEvent("input", { bubbles: true }));
  });
}

export async function press(
  key: string,
  init: KeyboardEventInit = {},
  target: Element = document.body,
): Promise<KeyboardEvent> {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init });
  await act(() => {
    target.dispatchEvent(event);
  });
  await made.pass(5);
  return event;
}

export async function click(target: HTMLElement): Promise<void> {
  await act(() => {
    target.click();
  });
  await made.pass(5);
}

export async function say(text: string): Promise<void> {
  await type(text);
  await click(get("send"));
}

export async function expectAccessible(): Promise<void> {
  // Colours need a real layout: the browser tests look at them.
  const { violations } = await axe.run(document, { rules: { "color-contrast": { enabled: false } } });
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`)).toEqual([]);
}
