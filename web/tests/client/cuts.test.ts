/**
 * The promise of the library: wherever the connection is cut, the text is complete, in order, and nothing is in it twice;
 * and a message is stored once.
 */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TransportKind } from "../../src/client/reconnect.js";
import { bench, PIECES, repliesIn, WHOLE, type Bench } from "../fakes/chat.js";

const TRANSPORTS: readonly TransportKind[] = ["websocket", "sse"];

async function exchange(
  transport: TransportKind,
  cuts: Iterable<number>,
  setUp?: (bench: Bench) => void,
): Promise<Bench> {
  const made = bench({ transport });
  made.network.cuts = new Set(cuts);
  setUp?.(made);
  made.chat.start();
  made.chat.send("What is the capital of France?");
  await made.clock.advance(40_000);
  return made;
}

function expectWhole({ notices, service }: Bench): void {
  const replies = repliesIn(notices);
  let known = "";
  for (const { text } of replies) {
    expect(text.startsWith(known)).toBe(true);
    known = text;
  }
  expect(known).toBe(WHOLE);
  expect(replies.filter(({ end }) => end !== null)).toHaveLength(1);
  expect(replies.at(-1)?.end?.finishReason).toBe("stop");
  expect(replies.at(-1)?.continuations).toBe(1);
  expect(service.stored.size).toBe(1);
  expect([...service.conversations.values()].map(({ turns }) => turns.map(({ role }) => role))).toEqual([
    ["user", "assistant"],
  ]);
}

describe.each(TRANSPORTS)("an exchange over %s", (transport) => {
  it("is whole without any cut", async () => {
    const made = await exchange(transport, []);
    expectWhole(made);
    expect(made.network.steps).toBeGreaterThan(PIECES.length);
  });

  it("is whole when it is cut once, at every step", async () => {
    const { network } = await exchange(transport, []);
    for (let step = 0; step < network.steps; step += 1) expectWhole(await exchange(transport, [step]));
  });

  it("is whole when it is cut often, anywhere", async () => {
    const steps = fc.uniqueArray(fc.integer({ min: 0, max: 45 }), { maxLength: 14 });
    await fc.assert(
      fc.asyncProperty(steps, async (cuts) => {
        expectWhole(await exchange(transport, cuts));
      }),
      { numRuns: 60, seed: 20_260_101 },
    );
  });

  it("is whole when nothing connects for a while", async () => {
    const made = await exchange(transport, [6], (made) => {
      made.network.isDown = true;
      made.clock.startTimer(() => {
        made.network.isDown = false;
      }, 12_000);
    });
    expectWhole(made);
  });
});

it("is whole when the bytes of a stream are split anywhere, also inside of a character", async () => {
  for (const chunkBytes of [1, 2, 3, 7, 64]) {
    const made = await exchange("sse", [9], (made) => {
      made.network.chunkBytes = chunkBytes;
    });
    expectWhole(made);
  }
});

it("is whole when events are lost, repeated or swapped inside of a connection", async () => {
  const faults = fc.array(fc.constantFrom("pass", "drop", "repeat", "swap"), { minLength: 5, maxLength: 25 });
  await fc.assert(
    fc.asyncProperty(faults, async (plan) => {
      const made = bench();
      let position = 0;
      let held: (() => void) | null = null;
      const follow = made.service.follow.bind(made.service);
      made.service.follow = (generationId, lastSeq, sink) =>
        follow(generationId, lastSeq, (event) => {
          const fault = event.type === "ended" ? "pass" : (plan[position++] ?? "pass");
          const late = held;
          held = null;
          if (fault === "swap")
            held = () => {
              sink(event);
            };
          else if (fault !== "drop") sink(event);
          if (fault === "repeat") sink(event);
          late?.();
        });
      made.chat.start();
      made.chat.send("What is the capital of France?");
      await made.clock.advance(40_000);
      expectWhole(made);
    }),
    { numRuns: 60, seed: 20_260_102 },
  );
});
