import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ConnectionStatus, ModelStatus } from "../../src/client/index.js";
import {
  announcement,
  characters,
  composerState,
  connectionLabel,
  entryNote,
  etaOf,
  choiceLabel,
  cutLabel,
  degradedLabel,
  isCut,
  reasonLabel,
  routeLabel,
  shownSources,
  modelLabel,
  waitingLabel,
  type Composing,
} from "../../src/page/labels.js";
import { parseMarkdown, type Block, type Inline } from "../../src/page/markdown.js";
import type { Entry } from "../../src/page/model.js";
import { conversationIn, routeTo } from "../../src/page/route.js";

const text = (value: string): Inline => ({ kind: "text", text: value });

describe("markdown", () => {
  it.each<[string, Block[]]>([
    ["", []],
    [
      "a\nb\n\nc",
      [
        { kind: "paragraph", inlines: [text("a\nb")] },
        { kind: "paragraph", inlines: [text("c")] },
      ],
    ],
    ["## A *b* ##", [{ kind: "heading", inlines: [text("A "), { kind: "emphasis", text: "b" }] }]],
    [
      "```py\nx = 1\n\ny\n```\nz",
      [
        { kind: "code", language: "py", text: "x = 1\n\ny" },
        { kind: "paragraph", inlines: [text("z")] },
      ],
    ],
    ["~~~\n```\n~~~", [{ kind: "code", language: "", text: "```" }]],
    [
      "say:\n```js\nopen",
      [
        { kind: "paragraph", inlines: [text("say:")] },
        { kind: "code", language: "js", text: "open" },
      ],
    ],
    [
      "- a\n  more\n\n- b\n* c",
      [{ kind: "list", isOrdered: false, start: 1, items: [[text("a\nmore")], [text("b")], [text("c")]] }],
    ],
    [
      "3. a\n4) b\nc",
      [
        { kind: "list", isOrdered: true, start: 3, items: [[text("a")], [text("b")]] },
        { kind: "paragraph", inlines: [text("c")] },
      ],
    ],
    [
      "a `b *c*` **d** * e * 2*3*4",
      [
        {
          kind: "paragraph",
          inlines: [
            text("a "),
            { kind: "code", text: "b *c*" },
            text(" "),
            { kind: "strong", text: "d" },
            text(" * e * 2*3*4"),
          ],
        },
      ],
    ],
    ["``a`b``", [{ kind: "paragraph", inlines: [{ kind: "code", text: "a`b" }] }]],
    ["in the year\n1984. It was", [{ kind: "paragraph", inlines: [text("in the year\n1984. It was")] }]],
    ["[x](javascript:alert(1)) <b>", [{ kind: "paragraph", inlines: [text("[x](javascript:alert(1)) <b>")] }]],
  ])("of %j", (given, blocks) => {
    expect(parseMarkdown(given)).toEqual(blocks);
  });

  it("loses no word and always ends, whatever is written", () => {
    const pieces = fc.constantFrom(
      "a",
      "word",
      " ",
      "\n",
      "\n\n",
      "- ",
      "1. ",
      "```",
      "`",
      "**",
      "*",
      "# ",
      "  ",
      "~~~",
      "<b>",
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
        const written = parts.join("");
        const shown = JSON.stringify(parseMarkdown(written));
        const words = written.match(/word/g)?.length ?? 0;
        // What stands behind a fence is its label, whole.
        expect(shown.match(/word/g)?.length ?? 0).toBe(words);
      }),
    );
  });

  it("takes a hostile text in good time", () => {
    const started = performance.now();
    for (const part of ["*", "**a", "`", "`a", "- ", "1. ", "# ", "```\n", " \n", "* a"])
      parseMarkdown(part.repeat(8_000));
    parseMarkdown(`# a${" ".repeat(32_000)}b`);
    parseMarkdown(`~~~${"a".repeat(32_000)}\``);
    parseMarkdown("`".repeat(32_000) + "a");
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe("the address", () => {
  it("names a conversation", () => {
    expect(conversationIn(routeTo("conv_1"))).toBe("conv_1");
    expect(routeTo(null)).toBe("#/");
    for (const hash of ["", "#/", "#/c/", "#/x/1", "#/c/%"]) expect(conversationIn(hash)).toBeNull();
  });
});

const REPLICA = { name: "i", state: "process_alive", detail: "loading weights", progress: 0.4, eta_seconds: 12 };
const status = (phase: ConnectionStatus["phase"], losses = 0): ConnectionStatus => ({
  phase,
  losses,
  transport: "websocket",
  retryInMs: null,
  replica: null,
  reason: null,
});

describe("what is said of the model", () => {
  const of = (ready: boolean, ...replicas: ModelStatus["replicas"]): ModelStatus => ({ ready, replicas });

  it.each<[ModelStatus | null, string]>([
    [null, "asking for the model’s state"],
    [of(false), "waiting for a model server"],
    [of(false, { ...REPLICA, state: "starting", progress: null }, REPLICA), "loading weights 40 %"],
    [of(false, { ...REPLICA, detail: "", progress: null }), "loading"],
    [of(false, { ...REPLICA, state: "unreachable", detail: "", progress: null }), "no model server can be reached"],
    [of(false, { ...REPLICA, state: "from_the_future", detail: "", progress: null }), "from_the_future"],
    [of(true, { ...REPLICA, state: "traffic_ready" }), "ready"],
    [of(true, { ...REPLICA, state: "traffic_ready" }, REPLICA), "ready, 1 of 2 servers"],
  ])("%#", (model, label) => {
    expect(modelLabel(model)).toBe(label);
  });

  it("has the time that is left", () => {
    expect(waitingLabel(of(false, REPLICA))).toBe("Waiting for the model: loading weights 40 %, about 12 s left");
    expect(etaOf(of(false, { ...REPLICA, eta_seconds: 200 }))).toBe("about 3 min left");
    expect(etaOf(of(false))).toBeNull();
    expect(etaOf(of(true, REPLICA))).toBeNull();
    expect(waitingLabel(null)).toBe("Waiting for the first word");
  });
});

it("says of the connection only what matters", () => {
  expect(connectionLabel(status("connecting"), false)).toBeNull();
  expect(connectionLabel(status("connected", 3), true)).toBeNull();
  expect(connectionLabel(status("waiting", 1), false)).toBe("Connecting…");
  expect(connectionLabel(status("waiting", 1), true)).toBe("Reconnecting…");
  expect(connectionLabel(status("waiting", 6), true)).toMatch(/^Reconnecting….*nothing is lost/);
});

const ENTRY: Entry = {
  key: "1",
  role: "assistant",
  text: "Paris.",
  status: "complete",
  finishReason: "stop",
  error: null,
  wasTruncated: false,
  turnsDropped: 0,
  details: null,
  generationId: "gen_1",
  clientMessageId: null,
  turnId: null,
};

it.each<[Partial<Entry>, string | null]>([
  [{}, null],
  [{ role: "user" }, null],
  [{ status: "streaming" }, null],
  [{ finishReason: "length" }, "The reply reached its length limit."],
  [{ status: "partial", finishReason: "cancelled" }, "Stopped: this reply is partial."],
  [{ status: "failed", finishReason: "cancelled", text: "" }, "Stopped before the first word."],
  [{ status: "partial", finishReason: "error" }, "This reply is partial."],
  [{ status: "failed", finishReason: "timeout", text: "" }, "There is no reply to this message."],
])("notes of %j", (change, note) => {
  expect(entryNote({ ...ENTRY, ...change })).toBe(note);
});

it("announces a reply once, at its end, and not for minutes", () => {
  expect(announcement(ENTRY)).toBe("Reply: Paris.");
  expect(announcement({ ...ENTRY, text: "x".repeat(9_000) }).length).toBeLessThan(1_600);
  const error = { code: "interrupted", message: "It broke.", hint: null, retry_after_seconds: null, fallback: null };
  expect(announcement({ ...ENTRY, text: "", status: "failed", finishReason: "error", error })).toBe(
    "There is no reply to this message. It broke.",
  );
});

it("announces what stands in place of a reply that could not be made", () => {
  const error = { code: "x", message: "Busy.", hint: null, retry_after_seconds: null, fallback: "Call the shop." };
  expect(announcement({ ...ENTRY, text: "", status: "failed", finishReason: "error", error })).toBe(
    "Reply: Call the shop. There is no reply to this message. Busy.",
  );
});

describe("what a reply was made of", () => {
  const details = { route: null, sources: [], notice: null, degraded: [] };

  it("is told where something was left out, in the model server's words where it said any", () => {
    expect(isCut(ENTRY)).toBe(false);
    expect(isCut({ ...ENTRY, details })).toBe(false);
    expect(isCut({ ...ENTRY, wasTruncated: true })).toBe(true);
    expect(cutLabel({ ...ENTRY, turnsDropped: 1 })).toBe("Earlier messages no longer fit: 1 turn was left out");
    expect(cutLabel({ ...ENTRY, turnsDropped: 3 })).toBe("Earlier messages no longer fit: 3 turns were left out");
    expect(cutLabel({ ...ENTRY, wasTruncated: true })).toBe("Earlier messages no longer fit: a part was left out");
    const told = { ...ENTRY, turnsDropped: 3, details: { ...details, notice: "Two passages were left out." } };
    expect(isCut(told)).toBe(true);
    expect(cutLabel(told)).toBe("Two passages were left out.");
  });

  it("names the model, and why", () => {
    const route = { pool: "small", model: "", policy: "length", reason: "short question" };
    expect(routeLabel(route)).toBe("small");
    expect(routeLabel({ ...route, model: "small" })).toBe("small");
    expect(routeLabel({ ...route, model: "chatbot-ja" })).toBe("small, as chatbot-ja");
    expect(reasonLabel(route)).toBe("Chosen by the rule “length”: short question.");
    expect(reasonLabel({ ...route, reason: "" })).toBe("Chosen by the rule “length”.");
    const asked = { ...route, policy: "named", reason: "the message asks for 'chatbot-ja'" };
    expect(reasonLabel(asked)).toBe("It was chosen for this message.");
  });

  it("names each source once, with an address of the web or none", () => {
    const source = { source_id: "a", title: "A", url: "https://x.example/a" };
    const shown = shownSources([
      source,
      { ...source, source_id: "b", title: "A again" },
      { source_id: "c", title: "C", url: "javascript:alert(1)" },
      { source_id: "d", title: "C", url: null },
    ]);
    expect(shown).toEqual([source, { source_id: "c", title: "C", url: null }]);
  });

  it("says what it had to do without, also what this page does not know", () => {
    expect(degradedLabel("retrieval")).toMatch(/search did not answer/);
    expect(degradedLabel("reduced_context")).toMatch(/memory is short/);
    expect(degradedLabel("routing")).toMatch(/default model/);
    expect(degradedLabel("spell_check")).toBe("Written without: spell check.");
  });

  it("offers models, and says which are not ready", () => {
    const choice = { name: "small", kind: "pool", description: "", ready: true };
    expect(choiceLabel(choice)).toBe("small");
    expect(choiceLabel({ ...choice, ready: false })).toBe("small (not ready)");
  });
});

describe("the composer", () => {
  const composing: Composing = {
    text: "Hi",
    isRunning: false,
    isStopping: false,
    isConnected: true,
    isModelReady: true,
    isUnavailable: false,
  };

  it.each<[Partial<Composing>, boolean, RegExp]>([
    [{}, true, /Enter sends/],
    [{ text: " \n" }, false, /Enter sends/],
    [{ isRunning: true }, false, /press Esc/],
    [{ isRunning: true, isStopping: true }, false, /Stopping/],
    [{ isConnected: false }, true, /as soon as the connection is back/],
    [{ isModelReady: false }, true, /waits for it/],
    [{ isUnavailable: true }, false, /cannot be written to/],
    [{ text: "x".repeat(32_768) }, true, /Enter/],
    [{ text: "x".repeat(32_770) }, false, /by 2 characters/],
    [{ text: "🚢".repeat(32_768) }, true, /Enter/],
  ])("%#", (change, canSend, hint) => {
    const state = composerState({ ...composing, ...change });
    expect(state.canSend).toBe(canSend);
    expect(state.hint).toMatch(hint);
  });

  it("counts as the service does", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme-composite", maxLength: 20 }), (piece) => {
        const long = piece + "🚢".repeat(20_000);
        expect(characters(long)).toBe(Array.from(long).length);
      }),
    );
  });
});
