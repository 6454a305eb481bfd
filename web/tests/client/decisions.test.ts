import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { backoffMs, DEFAULT_BACKOFF } from "../../src/client/backoff.js";
import {
  afterEnding,
  DEFAULT_ROUTE,
  initialRoute,
  tryWebSocketAgain,
  type Ending,
  type RouteState,
} from "../../src/client/reconnect.js";
import { newReply, stepReply, type Reply } from "../../src/client/reply.js";
import { SseParser } from "../../src/client/sse.js";
import type { GenerationEvent } from "../../src/client/wire.js";

const LOST: Ending = { kind: "lost", livedMs: 0 };
const STABLE: Ending = { kind: "lost", livedMs: DEFAULT_ROUTE.stableMs };
const half = (): number => 0.5;

describe("the back-off", () => {
  it("doubles from 100 ms to 5 s", () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 8, 50, 2000].map((losses) => backoffMs(losses, () => 1 - 1e-9));
    expect(waits.map(Math.round)).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
  });

  it("is jittered over its upper half", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100 }), fc.double({ min: 0, max: 1, noNaN: true }), (losses, random) => {
        const wait = backoffMs(losses, () => random);
        expect(wait).toBeGreaterThanOrEqual(backoffMs(losses, () => 0));
        expect(wait).toBeLessThanOrEqual(DEFAULT_BACKOFF.maxMs);
        expect(backoffMs(losses, () => 0) * 2).toBeCloseTo(backoffMs(losses, () => 1));
      }),
    );
  });
});

describe("the route", () => {
  function after(state: RouteState, endings: readonly Ending[]): RouteState {
    return endings.reduce((each, ending) => afterEnding(each, ending, half).state, state);
  }

  it("uses SSE after five losses in a row", () => {
    const four = after(initialRoute(), [LOST, LOST, LOST, LOST]);
    expect(four.transport).toBe("websocket");
    expect(after(four, [LOST]).transport).toBe("sse");
  });

  it("starts over after a connection that lived", () => {
    const state = after(initialRoute(), [LOST, LOST, LOST, LOST, STABLE, LOST, LOST, LOST]);
    expect(state).toMatchObject({ transport: "websocket", losses: 4 });
    expect(after(state, [LOST]).transport).toBe("sse");
  });

  it("takes turns where SSE cannot connect either", () => {
    const sse = after(initialRoute(), [LOST, LOST, LOST, LOST, LOST]);
    expect(after(sse, [LOST]).transport).toBe("websocket");
    expect(after(sse, [LOST, LOST]).transport).toBe("sse");
  });

  it("stays with an SSE that worked", () => {
    const sse = after(initialRoute(DEFAULT_ROUTE, "sse"), [STABLE]);
    expect(sse).toMatchObject({ transport: "sse", losses: 1 });
  });

  it("tries a WebSocket again, later each time, and forgives it nothing", () => {
    let state = initialRoute(DEFAULT_ROUTE, "sse");
    const waits = [];
    for (let round = 0; round < 6; round += 1) {
      waits.push(state.sseForMs / 1000);
      state = after(tryWebSocketAgain(state), [LOST]);
      expect(state.transport).toBe("sse");
    }
    expect(waits).toEqual([60, 120, 240, 480, 600, 600]);
  });

  it("comes back when it was told to, and backs off where that goes on and on", () => {
    const told: Ending = { kind: "told", afterMs: 20, livedMs: 0 };
    const first = afterEnding(initialRoute(), told, half);
    expect(first.delayMs).toBe(20);
    const second = afterEnding(first.state, told, half);
    expect(second.delayMs).toBe(75);
    expect(after(initialRoute(), Array<Ending>(20).fill(told)).transport).toBe("websocket");
  });
});

function numbered(seq: number, text: string): GenerationEvent {
  return { type: "token", conversation_id: "conv_1", generation_id: "gen_1", seq, text };
}

describe("a reply", () => {
  it("is the tokens in order, each once, whatever arrives in whatever order", () => {
    const arrivals = fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 80 });
    fc.assert(
      fc.property(arrivals, (seqs) => {
        let reply: Reply = newReply("conv_1", "gen_1");
        for (const seq of seqs) {
          const step = stepReply(reply, numbered(seq, `${seq} `));
          if (step.kind === "applied") reply = step.reply;
          else expect(step.kind).toBe(seq <= reply.lastSeq ? "duplicate" : "gap");
        }
        expect(reply.text).toBe(Array.from({ length: reply.lastSeq }, (_, index) => `${index + 1} `).join(""));
      }),
    );
  });

  it("takes nothing after its end", () => {
    const end = { type: "ended", finish_reason: "stop", turn_id: null, usage: null, error: null } as const;
    const step = stepReply(newReply("c", "g"), { ...numbered(1, ""), ...end });
    expect(step.kind).toBe("applied");
    if (step.kind === "applied") expect(stepReply(step.reply, numbered(2, "x")).kind).toBe("duplicate");
  });
});

describe("server-sent events", () => {
  const STREAM =
    ': hi\r\nevent: token\nid: gen_1:3\ndata: {"a":\ndata: 1}\n\nretry: 5\ndata\n\n\rdata:  two\r\n\r\nevent: cut\ndata: 3\n';

  it("are the same however their text is split", () => {
    const whole = new SseParser().push(STREAM);
    expect(whole).toEqual([
      { event: "token", data: '{"a":\n1}', id: "gen_1:3" },
      { event: "message", data: "", id: "gen_1:3" },
      { event: "message", data: " two", id: "gen_1:3" },
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (sizes) => {
        const parser = new SseParser();
        const found = [];
        let at = 0;
        for (let round = 0; at < STREAM.length; round += 1) {
          const size = sizes[round % sizes.length] ?? 1;
          found.push(...parser.push(STREAM.slice(at, at + size)));
          at += size;
        }
        expect(found).toEqual(whole);
      }),
    );
  });
});
