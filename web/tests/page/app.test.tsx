// @vitest-environment jsdom
import { act } from "preact/test-utils";
import { describe, expect, it } from "vitest";
import { WHOLE, type Bench } from "../fakes/chat.js";
import {
  OVERLOADED,
  click,
  composer,
  expectAccessible,
  get,
  has,
  made,
  media,
  messages,
  open,
  press,
  say,
  type,
  usePage,
} from "../fakes/page.js";

usePage();

describe("the page", () => {
  it("begins empty, with the box in focus", async () => {
    await open();
    expect(document.activeElement).toBe(composer());
    expect(get("model-state").textContent).toContain("ready");
    expect((get("send") as HTMLButtonElement).disabled).toBe(true);
    expect(document.body.textContent).toContain("Your conversations will stand here.");
    await expectAccessible();
  });

  it("sends, streams, and announces the end", async () => {
    await open();
    await type("What is the capital of France?");
    await press("Enter", { shiftKey: true }, composer());
    expect(messages()).toEqual([]);
    await press("Enter", {}, composer());
    expect(messages()).toEqual(["user complete", "assistant streaming"]);
    expect(composer().value).toBe("");
    await made.pass(30);
    expect(get("announcer").textContent).toBe("");
    expect(has("stop")).toBe(true);
    await expectAccessible();
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    expect(get("announcer").textContent).toBe(`Reply: ${WHOLE}`);
    expect(made.addresses.at(-1)).toMatch(/^conv_/);
    expect(document.title).toBe("What is the capital of France? · pratique");
    expect(document.querySelectorAll("[data-testid=conversation-item]")).toHaveLength(1);
    await expectAccessible();
  });

  it("asks an example", async () => {
    await open();
    await click(document.querySelector<HTMLElement>(".examples button")!);
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
  });

  it("stops with Escape or the button, and retries", async () => {
    await open();
    await say("go");
    await made.pass(40);
    await press("Escape");
    expect(messages()).toEqual(["user complete", "assistant partial"]);
    await click(get("retry"));
    await made.pass(40);
    get("stop").focus();
    await click(get("stop"));
    expect(messages()).toEqual(["user complete", "assistant partial"]);
    expect(document.activeElement).toBe(composer());
    await press("Escape");
    await click(get("retry"));
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
  });

  it("stops what was not even accepted", async () => {
    await open();
    made.network.isDown = true;
    for (const socket of made.network.sockets) socket.fail(1006);
    await say("go");
    expect(messages()).toEqual(["user sending", "assistant streaming"]);
    expect(get("connection-banner").textContent).toContain("Reconnecting…");
    expect(get("announcer").textContent).toContain("Connection lost");
    await expectAccessible();
    await press("Escape");
    expect(document.getElementById("composer-hint")?.textContent).toBe("Stopping the reply…");
    made.network.isDown = false;
    await made.pass(9_000);
    expect(messages()).toEqual(["user complete", "assistant failed"]);
    expect(has("connection-banner")).toBe(false);
    expect(document.body.textContent).toContain("Stopped before the first word.");
  });

  it.each([
    ["/fail now", ["user complete", "assistant failed"], "It broke. Retry."],
    ["/partial now", ["user complete", "assistant partial"], "This reply is partial."],
    ["/refuse now", ["user failed"], "Too much to do. Try later."],
  ])("shows what went wrong with %s", async (text, shown, cause) => {
    await open();
    await say(text);
    await made.pass(500);
    expect(messages()).toEqual(shown);
    expect(document.body.textContent).toContain(cause);
    await expectAccessible();
    await click(get("retry"));
    await made.pass(500);
    expect(messages()).toEqual(text.startsWith("/refuse") ? shown : ["user complete", "assistant complete"]);
  });

  it("tells where earlier messages no longer fit", async () => {
    await open();
    await say("/cut it");
    await made.pass(500);
    expect(get("history-notice").textContent).toBe("Earlier messages no longer fit: 2 turns were left out");
  });

  it("keeps what stands where a retry is refused", async () => {
    await open();
    await say("/partial now");
    await made.pass(500);
    made.service.retry = () => {
      throw Object.assign(new Error(), {});
    };
    const { network } = made;
    const [socket] = network.sockets;
    socket!.send = (data: string) => {
      const { client_message_id } = JSON.parse(data) as { client_message_id: string };
      socket!.inject(JSON.stringify({ type: "error", error: OVERLOADED, client_message_id, generation_id: null }));
    };
    await click(get("retry"));
    await made.pass(50);
    expect(messages()).toEqual(["user complete", "assistant partial"]);
    expect(get("fault").textContent).toContain("Too much to do.");
    await click(get("fault").querySelector("button")!);
    expect(has("fault")).toBe(false);
  });

  it("says where a reply cannot be stopped", async () => {
    await open();
    await say("go");
    await made.pass(20);
    const [socket] = made.network.sockets;
    socket!.send = (data: string) => {
      const { generation_id } = JSON.parse(data) as { generation_id: string };
      socket!.inject(JSON.stringify({ type: "error", error: OVERLOADED, client_message_id: null, generation_id }));
    };
    await press("Escape");
    expect(get("fault").textContent).toContain("Too much to do.");
    expect((get("stop") as HTMLButtonElement).disabled).toBe(false);
  });

  it("shows the model's way to readiness", async () => {
    await open();
    const replica = { name: "i-0", state: "process_alive", detail: "loading weights", progress: 0.4, eta_seconds: 9 };
    made.service.setModel({ ready: false, replicas: [replica] });
    await made.pass(5);
    expect(get("model-state").textContent).toContain("loading weights 40 %, about 9 s left");
    expect(get("model-state").querySelector("progress")?.value).toBe(0.4);
    await expectAccessible();
    made.service.setModel({ ready: true, replicas: [{ ...replica, state: "traffic_ready", progress: null }] });
    await made.pass(5);
    expect(get("announcer").textContent).toBe("The model is ready.");
  });
});

it("shows what a model writes as text, whatever it is", async () => {
  const evil = "<img src=x onerror=alert(1)>";
  const reply = `# Head\n\n${evil} **a** *b* \`c\`\n\n- one\n- two\n\n2. three\n\n\`\`\`html\n${evil}\n\`\`\`\n\n\`\`\`\nplain\n\`\`\``;
  await open("conv_0001", (each) =>
    each.service.seed("Evil", [{ text: evil }, { text: reply, role: "assistant", generation_id: "gen_x" }]),
  );
  const shown = document.querySelector(".messages")!;
  expect(shown.querySelector("img")).toBeNull();
  expect(shown.textContent.split(evil)).toHaveLength(4);
  for (const name of ["strong", "em", "code", "ul", "ol[start='2']", "figcaption", ".md-heading"]) {
    expect(shown.querySelector(name), name).not.toBeNull();
  }
  await expectAccessible();
});

describe("the list", () => {
  const seeded = (each: Bench): void => {
    each.service.seed("Older", [{ text: "Hello" }, { text: "World", role: "assistant", generation_id: "gen_x" }], 500);
    each.service.seed("Newer", [{ text: "Hello" }], 100);
  };
  const items = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>("[data-testid=conversation-item]")];

  it("opens, also by keyboard, and begins anew", async () => {
    await open(null, seeded);
    await click(items()[1]!.querySelector("button")!);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    expect(items()[1]!.querySelector("[aria-current=true]")).not.toBeNull();
    await press("ArrowUp", { altKey: true, code: "ArrowUp" });
    expect(messages()).toEqual(["user complete", "assistant failed"]);
    expect(document.body.textContent).toContain("There is no reply to this message.");
    await press("ArrowDown", { altKey: true, code: "ArrowDown" });
    await press("ArrowDown", { altKey: true, code: "ArrowDown" });
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    await press("n", { altKey: true, code: "KeyN" });
    expect(messages()).toEqual([]);
    expect(made.addresses.at(-1)).toBeNull();
    composer().blur();
    await press("m", { altKey: true, code: "KeyM" });
    expect(document.activeElement).toBe(composer());
    const other = await press("x", { altKey: true, code: "KeyX" });
    expect(other.defaultPrevented).toBe(false);
    await click(document.querySelector<HTMLElement>(".skip")!);
    expect(document.activeElement).toBe(composer());
  });

  it("renames; a name that is refused is taken back", async () => {
    await open(null, seeded);
    const rename = async (value: string, key: string): Promise<void> => {
      await click(get("rename"));
      const input = get("rename-input") as HTMLInputElement;
      input.value = value;
      await press(key, {}, input);
      await made.pass(20);
    };
    await rename("Better", "Enter");
    expect(items()[0]!.textContent).toContain("Better");
    await rename("Worse", "Escape");
    expect(items()[0]!.textContent).toContain("Better");
    made.service.rename = () => {
      throw new TypeError("no");
    };
    made.network.overrides.set(
      `PATCH /api/conversations/${made.service.list()[0]!.conversation_id}`,
      () => new Response(JSON.stringify({ error: OVERLOADED }), { status: 503 }),
    );
    await rename("Worse", "Enter");
    expect(items()[0]!.textContent).toContain("Better");
    expect(get("fault").getAttribute("data-code")).toBe("overloaded");
  });

  it("deletes only after a question", async () => {
    await open(null, seeded);
    await click(items()[0]!.querySelector("button")!);
    await click(get("remove"));
    await expectAccessible();
    await click(get("cancel-delete"));
    expect(items()).toHaveLength(2);
    await click(get("remove"));
    await click(get("confirm-delete"));
    await made.pass(20);
    expect(items()).toHaveLength(1);
    expect(messages()).toEqual([]);
    expect(document.activeElement).toBe(composer());
    made.service.conversations.clear();
    await click(get("remove"));
    await click(get("confirm-delete"));
    await made.pass(20);
    expect(items()).toHaveLength(0);
  });

  it("says where something cannot be deleted", async () => {
    await open(null, seeded);
    made.network.overrides.set(
      `DELETE /api/conversations/${made.service.list()[0]!.conversation_id}`,
      () => new Response(JSON.stringify({ error: OVERLOADED }), { status: 503 }),
    );
    await click(get("remove"));
    await click(get("confirm-delete"));
    await made.pass(20);
    expect(items()).toHaveLength(2);
    expect(has("fault")).toBe(true);
  });

  it("comes in pages, and again where it could not be had", async () => {
    await open(null, (each) => {
      seeded(each);
      each.network.overrides.set("GET /api/conversations", () => new Response("", { status: 502 }));
    });
    expect(document.body.textContent).toContain("cannot be loaded at the moment");
    const [newer, older] = made.service.list();
    let page = { conversations: [newer], next: "cursor" as string | null };
    made.network.overrides.set("GET /api/conversations", () => new Response(JSON.stringify(page)));
    await made.pass(4_000);
    expect(items()).toHaveLength(1);
    const more = [...document.querySelectorAll<HTMLElement>("button")].find((each) => each.textContent === "Show more");
    page = { conversations: [older], next: null };
    await click(more!);
    await made.pass(20);
    expect(items()).toHaveLength(2);
  });

  it("is a drawer where there is little room", async () => {
    await open(null, seeded);
    await click(get("menu"));
    expect(get("menu").getAttribute("aria-expanded")).toBe("true");
    await press("Escape");
    expect(document.activeElement).toBe(get("menu"));
    await click(get("menu"));
    await click(document.querySelector<HTMLElement>(".shade")!);
    expect(get("menu").getAttribute("aria-expanded")).toBe("false");
    media.matches = true;
    composer().blur();
    await click(items()[0]!.querySelector("button")!);
    expect(document.activeElement).not.toBe(composer());
  });

  it("has its shortcuts listed", async () => {
    await open();
    await press("/", { ctrlKey: true });
    expect(document.querySelector("dialog")?.textContent).toContain("New conversation");
    await expectAccessible();
    await press("n", { altKey: true, code: "KeyN" });
    await act(() => {
      document.querySelector("dialog")!.dispatchEvent(new Event("cancel", { cancelable: true }));
    });
    expect(document.querySelector("dialog")).toBeNull();
  });
});

describe("a link to a conversation", () => {
  it("shows it, and follows the reply that is being written", async () => {
    await open("conv_0001", (each) => {
      each.service.say({ type: "message", client_message_id: "elsewhere-1", text: "Hi" });
    });
    expect(messages()).toEqual(["user complete", "assistant streaming"]);
    await made.pass(500);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    expect(document.querySelector(".prose")?.textContent).toBe(WHOLE);
  });

  it("that is gone says so", async () => {
    await open("conv_none");
    expect(document.body.textContent).toContain("There is no such conversation");
    await expectAccessible();
    const [again] = [...document.querySelectorAll<HTMLElement>("[role=alert] button")];
    await click(again!);
    expect(document.body.textContent).toContain("A new conversation");
  });

  it("that cannot be loaded can be tried again", async () => {
    await open("conv_0001", (each) => {
      each.service.seed("First", [{ text: "Hello" }]);
      each.network.overrides.set("GET /api/conversations/conv_0001", () => new Response("", { status: 502 }));
    });
    expect(document.body.textContent).toContain("The conversation cannot be loaded");
    made.network.overrides.clear();
    const [again] = [...document.querySelectorAll<HTMLElement>("[role=alert] button")];
    await click(again!);
    await made.pass(20);
    expect(messages()).toEqual(["user complete", "assistant failed"]);
  });

  it("shows the stored reply where the log of a running one is gone", async () => {
    await open();
    await say("go");
    await made.pass(20);
    for (const generation of made.service.generations.values()) generation.isExpired = true;
    for (const socket of made.network.sockets) socket.fail(1006);
    await made.pass(5_000);
    expect(messages()).toEqual(["user complete", "assistant complete"]);
    expect(document.querySelector(".prose")?.textContent).toBe(WHOLE);
  });

  it("with very many messages shows the last ones first", async () => {
    const turns = Array.from({ length: 200 }, (_, index) => ({ text: `Turn ${index}` }));
    await open("conv_0001", (each) => each.service.seed("Long", turns));
    expect(messages()).toHaveLength(80);
    await click(document.querySelector<HTMLElement>(".earlier")!);
    expect(messages().length).toBeGreaterThanOrEqual(200);
  });

  it("stays where somebody reads, and offers the way to the end", async () => {
    await open("conv_0001", (each) => each.service.seed("Long", [{ text: "Hello" }]));
    const thread = document.querySelector<HTMLElement>(".thread")!;
    Object.defineProperty(thread, "scrollHeight", { value: 1_000 });
    Object.defineProperty(thread, "clientHeight", { value: 300 });
    thread.scrollTop = 100;
    await act(() => {
      thread.dispatchEvent(new Event("scroll"));
    });
    await click(document.querySelector<HTMLElement>(".to-end")!);
    expect(thread.scrollTop).toBe(1_000);
  });
});
