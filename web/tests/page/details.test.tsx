// @vitest-environment jsdom
import { act } from "preact/test-utils";
import { describe, expect, it, vi } from "vitest";
import { click, expectAccessible, get, has, made, messages, open, say, usePage } from "../fakes/page.js";

usePage();

describe("a reply", () => {
  it("tells it in the model server's words where it said any", async () => {
    await open();
    await say("/told it");
    await made.pass(500);
    expect(get("history-notice").textContent).toBe("Two passages were left out.");
  });

  it("names the sources of a reply, and on demand who wrote it and why, also when it is opened again", async () => {
    await open();
    await say("/told it");
    expect(has("details")).toBe(false);
    await made.pass(500);
    for (const isReopened of [false, true]) {
      if (isReopened) {
        await click(get("new-conversation"));
        await click(get("conversation-item").querySelector("button")!);
        await made.pass(500);
      }
      const [link, ...others] = document.querySelectorAll<HTMLAnchorElement>("[data-testid=sources] a");
      expect(others).toEqual([]);
      expect(link?.href).toBe("https://manga.example/lamp");
      expect(link?.rel).toContain("noopener");
      expect(get("sources").textContent).toContain("Opening hours");
      expect(get("route").querySelector("summary")?.textContent).toBe("Written by small");
      expect((get("route") as HTMLDetailsElement).open).toBe(false);
      expect(get("route").textContent).toContain("Chosen by the rule “length”: short question.");
      await expectAccessible();
    }
  });

  it("says what a reply had to do without, and nothing where there is nothing to say", async () => {
    await open();
    await say("/without it");
    await made.pass(500);
    expect(get("degraded").textContent).toMatch(/search did not answer/);
    await click(get("new-conversation"));
    await say("/bare it");
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    expect(has("details")).toBe(false);
  });

  it("shows what stands in place of a reply that could not be made", async () => {
    await open();
    await say("/fallback now");
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant failed"]);
    expect(document.querySelector(".prose")?.textContent).toBe("Please call the shop.");
    expect(get("announcer").textContent).toContain("call");
    expect(has("retry")).toBe(true);
    await expectAccessible();
  });

  it("offers a model where there are several, and names the chosen one", async () => {
    const choices = ["small", "large"].map((name) => ({
      name,
      kind: "pool",
      description: `${name} answers`,
      ready: true,
    }));
    await open(null, ({ service }) => {
      service.models = choices;
    });
    const said = vi.spyOn(made.chat, "send");
    const chooser = get("model-choice") as HTMLSelectElement;
    expect([...chooser.options].map(({ text }) => text)).toEqual(["Model: automatic", "small", "large"]);
    await expectAccessible();
    await act(() => {
      chooser.value = "large";
      chooser.dispatchEvent(new Event("change", { bubbles: true }));
    });
    await made.pass(5);
    await say("Hello");
    expect(said.mock.lastCall?.[1]).toMatchObject({ model: "large" });
    await made.pass(500);
    // The next service knows it no more.
    made.service.models = choices.map((choice) => ({ ...choice, name: `new-${choice.name}` }));
    for (const socket of made.network.sockets) socket.fail(1006);
    await made.pass(3_000);
    expect((get("model-choice") as HTMLSelectElement).value).toBe("");
    await say("Hello");
    expect(said.mock.lastCall?.[1]).not.toHaveProperty("model");
  });

  it.each(["one", "none", "unknown"])("offers no model where there is %s", async (what) => {
    await open(null, ({ service, network }) => {
      if (what === "none") service.models = [];
      if (what === "unknown") {
        network.overrides.set("GET /api/models", () => Promise.resolve(new Response("{}", { status: 404 })));
      }
    });
    expect(has("model-choice")).toBe(false);
  });
});
