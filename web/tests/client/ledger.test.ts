import { describe, expect, it } from "vitest";
import { Ledger, MAX_FRUITLESS_RESUMES, RESUMES_PER_LINK } from "../../src/client/ledger.js";
import type { AcceptedEvent, ErrorEvent, EventError, MessageFrame, ServerEvent } from "../../src/client/wire.js";

const MESSAGE: MessageFrame = { type: "message", client_message_id: "message-1", text: "Hi" };
const ACCEPTED: AcceptedEvent = {
  type: "accepted",
  client_message_id: "message-1",
  conversation_id: "conv_1",
  user_turn_id: "turn_1",
  generation_id: "gen_1",
  duplicate: false,
};

function token(seq: number, generation_id = "gen_1"): ServerEvent {
  return { type: "token", conversation_id: "conv_1", generation_id, seq, text: `${seq}` };
}

function errorOf(code: string): EventError {
  return { code, message: code, hint: null, retry_after_seconds: null, fallback: null };
}

function refusal(code: string, names: Partial<ErrorEvent> = {}): ErrorEvent {
  return { type: "error", error: errorOf(code), client_message_id: null, generation_id: null, ...names };
}

function running(): Ledger {
  const ledger = new Ledger();
  ledger.submit(MESSAGE);
  ledger.take(ACCEPTED);
  return ledger;
}

describe("a message", () => {
  it("is outstanding until it is accepted", () => {
    const ledger = new Ledger();
    expect(ledger.submit(MESSAGE)).toEqual([MESSAGE]);
    expect(ledger.outstanding()).toEqual([MESSAGE]);
    expect(ledger.isBusy).toBe(true);
    expect(ledger.take(ACCEPTED).notices.map(({ kind }) => kind)).toEqual(["accepted", "reply"]);
    expect(ledger.outstanding()).toEqual([
      { type: "resume", conversation_id: "conv_1", generation_id: "gen_1", last_seq: 0 },
    ]);
    expect(ledger.take({ ...ACCEPTED, duplicate: true }).notices).toEqual([]);
  });

  it("that is refused is told once, and not sent again", () => {
    const ledger = new Ledger();
    ledger.submit(MESSAGE);
    const outcome = ledger.take(refusal("overloaded", { client_message_id: "message-1" }));
    expect(outcome.notices).toMatchObject([{ kind: "refused", clientMessageId: "message-1" }]);
    expect(ledger.outstanding()).toEqual([]);
    expect(ledger.take(refusal("overloaded", { client_message_id: "message-1" })).notices).toEqual([]);
  });

  it("that met a draining replica goes to another one", () => {
    const ledger = new Ledger();
    ledger.submit(MESSAGE);
    expect(ledger.take(refusal("draining", { client_message_id: "message-1" })).giveUp).toBeDefined();
    expect(ledger.outstanding()).toEqual([MESSAGE]);
  });

  it("that could not even be read is known by being the only one", () => {
    const ledger = new Ledger();
    ledger.submit(MESSAGE);
    expect(ledger.take(refusal("unauthenticated")).notices).toMatchObject([{ kind: "fault" }]);
    expect(ledger.take(refusal("invalid_request")).notices).toMatchObject([{ kind: "refused" }]);
    expect(ledger.take(refusal("invalid_request")).notices).toMatchObject([{ kind: "fault" }]);
  });

  it("that is too large is refused", () => {
    const ledger = new Ledger();
    ledger.submit(MESSAGE);
    expect(ledger.takeTooLarge().notices).toMatchObject([{ kind: "refused", clientMessageId: "message-1" }]);
    expect(ledger.isBusy).toBe(false);
  });

  it("whose reply was stopped before it was accepted is stopped right after", () => {
    const ledger = new Ledger();
    ledger.cancelMessage("message-1");
    ledger.submit(MESSAGE);
    ledger.cancelMessage("message-1");
    expect(ledger.take(ACCEPTED).frames).toEqual([{ type: "cancel", generation_id: "gen_1" }]);
  });
});

describe("a reply", () => {
  it("with a gap is resumed once, until the answer has come", () => {
    const ledger = running();
    ledger.take(token(1));
    expect(ledger.take(token(3)).frames).toMatchObject([{ type: "resume", last_seq: 1 }]);
    expect(ledger.take(token(4)).frames).toEqual([]);
    ledger.take({ type: "reconnected", conversation_id: "conv_1", generation_id: "gen_1", last_seq: 1 });
    expect(ledger.take(token(2)).notices).toHaveLength(1);
    expect(ledger.reply("gen_1")?.text).toBe("12");
  });

  it("whose event cannot be read is resumed; on another link after a while; given up in the end", () => {
    const ledger = running();
    const outcomes = Array.from({ length: MAX_FRUITLESS_RESUMES + 1 }, () => ledger.takeMalformed("bad", "gen_1"));
    expect(outcomes[0]?.frames).toHaveLength(1);
    expect(outcomes[RESUMES_PER_LINK]).toMatchObject({ frames: [], giveUp: expect.any(String) as string });
    expect(outcomes.at(-1)?.notices).toMatchObject([{ kind: "fault" }, { kind: "lost", generationId: "gen_1" }]);
    expect(ledger.isBusy).toBe(false);
    expect(ledger.takeMalformed("bad", null).notices).toMatchObject([{ kind: "fault" }]);
  });

  it("nobody asked for is ignored", () => {
    expect(running().take(token(1, "gen_9"))).toEqual({ frames: [], notices: [] });
    expect(running().take({ type: "heartbeat" })).toEqual({ frames: [], notices: [] });
  });

  it("is cancelled again on the next link, until it has ended", () => {
    const ledger = running();
    expect(ledger.cancel("gen_9")).toEqual([]);
    expect(ledger.cancel("gen_1")).toHaveLength(1);
    expect(ledger.outstanding().at(-1)).toEqual({ type: "cancel", generation_id: "gen_1" });
    const ended = { finish_reason: "cancelled", turn_id: null, usage: null, error: null } as const;
    ledger.take({ ...token(1), type: "ended", ...ended } as ServerEvent);
    expect(ledger.outstanding()).toEqual([]);
  });

  it("whose cancel is refused says so and goes on", () => {
    const ledger = running();
    ledger.cancel("gen_1");
    const outcome = ledger.take(refusal("generation_not_found", { generation_id: "gen_1" }));
    expect(outcome.notices).toMatchObject([{ kind: "cancel_refused" }]);
    expect(ledger.reply("gen_1")).not.toBeNull();
  });

  it("that cannot be resumed now is resumed on another link; that never can be is lost", () => {
    const ledger = running();
    ledger.outstanding();
    expect(ledger.take(refusal("log_unavailable", { generation_id: "gen_1" })).giveUp).toBeDefined();
    expect(ledger.take(refusal("generation_not_found", { generation_id: "gen_1" })).notices).toMatchObject([
      { kind: "lost" },
    ]);
    expect(ledger.take(refusal("generation_not_found", { generation_id: "gen_1" })).notices).toEqual([]);
  });

  it("whose log is gone is over, and the conversation is told as stored", () => {
    const ledger = running();
    const conversation = { conversation_id: "conv_1" } as never;
    const gone = { type: "not_resumable", conversation_id: "conv_1", conversation } as const;
    expect(ledger.take({ ...gone, generation_id: null }).notices).toMatchObject([{ kind: "snapshot" }]);
    expect(ledger.isBusy).toBe(false);
  });
});

describe("a conversation", () => {
  it("is followed by what runs in it", () => {
    const ledger = new Ledger();
    expect(ledger.follow("conv_1", null)).toEqual([{ type: "resume", conversation_id: "conv_1" }]);
    expect(ledger.outstanding()).toHaveLength(1);
    const found = { type: "reconnected", conversation_id: "conv_1", generation_id: "gen_1", last_seq: 0 } as const;
    expect(ledger.take(found).notices).toMatchObject([{ kind: "reply" }]);
    expect(ledger.take(found).notices).toEqual([]);
    expect(ledger.follow("conv_1", "gen_1")).toEqual([]);
    expect(ledger.follow("conv_1", "gen_2")).toHaveLength(1);
  });

  it("in which nothing runs is idle, and what was followed there is over", () => {
    const idle = { type: "reconnected", conversation_id: "conv_1", generation_id: null, last_seq: 0 } as const;
    const ledger = running();
    ledger.follow("conv_1", null);
    expect(ledger.take(idle).notices).toMatchObject([{ kind: "idle" }]);
    expect(ledger.isBusy).toBe(true);
    ledger.take(idle);
    expect(ledger.isBusy).toBe(false);
  });

  it("that was deleted is forgotten", () => {
    const ledger = running();
    ledger.submit({ ...MESSAGE, client_message_id: "message-2", conversation_id: "conv_1" });
    ledger.follow("conv_1", null);
    ledger.forget("conv_1");
    expect(ledger.outstanding()).toEqual([]);
  });
});
