/**
 * One reply as a state machine: waiting → streaming → ended. Its cursor decides what is new, what came twice, and
 * where something is missing. Pure.
 *
 * Invariant: `text` is the concatenation of the tokens 1…lastSeq, each exactly once.
 */

import type { EventError, FinishReason, GenerationEvent, ReplyDetails, Usage } from "./wire.js";

export interface ReplyStart {
  readonly model: string;
  readonly promptTokens: number;
  readonly wasTruncated: boolean;
  readonly turnsDropped: number;
  readonly details: ReplyDetails | null;
}

export interface ReplyEnd {
  readonly finishReason: FinishReason;
  readonly turnId: string | null;
  readonly usage: Usage | null;
  readonly error: EventError | null;
}

export interface Reply {
  readonly conversationId: string;
  readonly generationId: string;
  readonly lastSeq: number;
  readonly text: string;
  readonly start: ReplyStart | null;
  /** How often another server went on with it. */
  readonly continuations: number;
  readonly end: ReplyEnd | null;
}

export type Step =
  | { readonly kind: "applied"; readonly reply: Reply }
  /** Seen before: dropped. */
  | { readonly kind: "duplicate" }
  /** Something before it is missing: not applied. */
  | { readonly kind: "gap" };

export function newReply(conversationId: string, generationId: string): Reply {
  return { conversationId, generationId, lastSeq: 0, text: "", start: null, continuations: 0, end: null };
}

/** Take the next event of this reply. */
export function stepReply(reply: Reply, event: GenerationEvent): Step {
  if (event.seq <= reply.lastSeq || reply.end) return { kind: "duplicate" };
  if (event.seq > reply.lastSeq + 1) return { kind: "gap" };
  return { kind: "applied", reply: { ...applied(reply, event), lastSeq: event.seq } };
}

function applied(reply: Reply, event: GenerationEvent): Reply {
  switch (event.type) {
    case "started":
      return { ...reply, start: startOf(event) };
    case "continued":
      return { ...reply, continuations: reply.continuations + 1 };
    case "token":
      return { ...reply, text: reply.text + event.text };
    case "ended":
      return {
        ...reply,
        end: { finishReason: event.finish_reason, turnId: event.turn_id, usage: event.usage, error: event.error },
      };
  }
}

function startOf(event: Extract<GenerationEvent, { type: "started" }>): ReplyStart {
  return {
    model: event.model,
    promptTokens: event.prompt_tokens,
    wasTruncated: event.was_truncated,
    turnsDropped: event.turns_dropped,
    details: event.details,
  };
}
