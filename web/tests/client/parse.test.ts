import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { conversationShape, parseBody, parseEvent } from "../../src/client/parse.js";
import { ShapeError } from "../../src/client/shape.js";

const CONVERSATION = {
  conversation_id: "conv_1",
  title: "t",
  created_at: 1.5,
  updated_at: 2.5,
  version: 1,
  turns: [{ turn_id: "turn_1", role: "user", text: "x", status: "complete", created_at: 1 }],
  active_generation_id: null,
};
const NUMBERED = { conversation_id: "conv_1", generation_id: "gen_1", seq: 1 };
const ERROR = { code: "overloaded", message: "m", hint: null, retry_after_seconds: 1.5, fallback: null };

const DETAILS = {
  route: { pool: "small", model: "", policy: "length", reason: "short" },
  sources: [{ source_id: "a", title: "A", url: null }],
  notice: null,
  degraded: ["retrieval"],
};

const EVENTS = [
  { type: "hello", replica: "r", principal_id: "p", heartbeat_seconds: 10, protocol_version: 1 },
  { type: "heartbeat" },
  {
    type: "model_state",
    ready: false,
    replicas: [{ name: "i", state: "starting", detail: "", progress: 0.4, eta_seconds: null }],
  },
  {
    type: "accepted",
    client_message_id: "m",
    conversation_id: "c",
    user_turn_id: "t",
    generation_id: "g",
    duplicate: true,
  },
  { type: "reconnected", conversation_id: "c", generation_id: null, last_seq: 0 },
  { type: "not_resumable", conversation_id: "c", generation_id: "g", conversation: CONVERSATION },
  {
    type: "started",
    ...NUMBERED,
    model: "m",
    prompt_tokens: 3,
    was_truncated: true,
    turns_dropped: 2,
    details: DETAILS,
  },
  { type: "continued", ...NUMBERED, reason: "server_lost" },
  { type: "token", ...NUMBERED, text: "x" },
  {
    type: "ended",
    ...NUMBERED,
    finish_reason: "error",
    turn_id: null,
    usage: { prompt_tokens: 1, completion_tokens: 0 },
    error: ERROR,
  },
  { type: "pong", nonce: "n" },
  { type: "going_away", reconnect_after_seconds: 0.1 },
  { type: "error", error: ERROR, client_message_id: null, generation_id: "g" },
];

describe("events", () => {
  it.each(EVENTS)("of type $type are read", (event) => {
    const parsed = parseEvent(JSON.stringify({ ...event, from_the_future: 1 }));
    expect(parsed.kind).toBe("event");
    if (parsed.kind === "event" && event.type !== "not_resumable") expect(parsed.event).toEqual(event);
  });

  it.each(EVENTS)(
    "of type $type are malformed without any one of their required fields, or with it of another kind",
    (event) => {
      const optional = ["duplicate", "was_truncated", "turns_dropped", "nonce", "protocol_version"];
      const nullable = ["generation_id", "turn_id", "usage", "error", "client_message_id", "details"];
      for (const key of Object.keys(event)) {
        if (key === "type") continue;
        const broken = parseEvent(JSON.stringify({ ...event, [key]: { strange: true } }));
        expect(broken.kind, key).toBe("malformed");
        const rest = Object.fromEntries(Object.entries(event).filter(([each]) => each !== key));
        if (optional.includes(key) || nullable.includes(key)) continue;
        expect(parseEvent(JSON.stringify(rest)).kind, key).toBe("malformed");
      }
    },
  );

  it("of unknown types are unknown, also those that objects have by birth", () => {
    for (const type of ["tool_call", "constructor", "__proto__", "toString"]) {
      expect(parseEvent(JSON.stringify({ type }))).toEqual({ kind: "unknown", type });
    }
  });

  it("that are malformed still say whose they are", () => {
    const parsed = parseEvent('{"type":"token","generation_id":"gen_1","seq":-1,"conversation_id":"c","text":"x"}');
    expect(parsed).toMatchObject({
      kind: "malformed",
      generationId: "gen_1",
      reason: expect.stringContaining("token.seq") as string,
    });
  });

  it("never throw, whatever arrives", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.jsonValue().map((value) => JSON.stringify(value)),
        ),
        (data) => {
          expect(["event", "unknown", "malformed"]).toContain(parseEvent(data).kind);
        },
      ),
    );
    const types = fc.constantFrom(...EVENTS.map(({ type }) => type));
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom(...EVENTS.flatMap(Object.keys)), fc.jsonValue()),
        types,
        (fields, type) => {
          expect(["event", "malformed"]).toContain(parseEvent(JSON.stringify({ ...fields, type })).kind);
        },
      ),
    );
  });
});

describe("bodies", () => {
  it("get what they leave out", () => {
    const [turn] = parseBody(conversationShape, JSON.stringify(CONVERSATION)).turns;
    expect(turn).toMatchObject({ finish_reason: null, error: null, was_truncated: false, turns_dropped: 0 });
  });

  it.each([
    "",
    "<html>",
    "[]",
    "null",
    '{"turns":3}',
    JSON.stringify({ ...CONVERSATION, turns: {} }),
    JSON.stringify({ ...CONVERSATION, version: 1.5 }),
  ])("that are not what was expected are refused: %s", (body) => {
    expect(() => parseBody(conversationShape, body)).toThrow(ShapeError);
  });
});
