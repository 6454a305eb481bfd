/**
 * What is outstanding between client and service: messages not yet accepted, replies in flight, cancels not yet heeded.
 *
 * Pure: it takes what was asked and what arrived, and says which frames to send and what to tell. Invariants: a message
 * stays until it is accepted or refused, and is sent again under the same id; a reply stays until it has ended or is
 * known to be lost, and its text never holds a token twice or out of order.
 */

import { newReply, stepReply, type Reply } from "./reply.js";
import type {
  AcceptedEvent,
  CancelFrame,
  ClientFrame,
  Conversation,
  ErrorEvent,
  EventError,
  GenerationEvent,
  MessageFrame,
  NotResumableEvent,
  ReconnectedEvent,
  ResumeFrame,
  RetryFrame,
  ServerEvent,
} from "./wire.js";

export type Notice =
  | { readonly kind: "accepted"; readonly accepted: AcceptedEvent }
  /** A reply changed; it has ended where `reply.end` is set. */
  | { readonly kind: "reply"; readonly reply: Reply }
  /** A message or retry was not taken. */
  | { readonly kind: "refused"; readonly clientMessageId: string; readonly error: EventError }
  | { readonly kind: "cancel_refused"; readonly generationId: string; readonly error: EventError }
  /** The conversation as stored: what was followed in it is over or out of reach. */
  | { readonly kind: "snapshot"; readonly conversation: Conversation }
  /** Nothing runs in the conversation. */
  | { readonly kind: "idle"; readonly conversationId: string }
  /** A reply cannot be followed any more; the store has what there is. */
  | { readonly kind: "lost"; readonly conversationId: string; readonly generationId: string; readonly reason: string }
  /** Something was wrong that belongs to nothing in particular. */
  | { readonly kind: "fault"; readonly error: EventError };

export interface Outcome {
  readonly frames: readonly ClientFrame[];
  readonly notices: readonly Notice[];
  /** The link should be given up: the same question needs another answer, after a pause. */
  readonly giveUp?: string;
}

interface Tracked {
  reply: Reply;
  /** A resume is on its way: until `reconnected` further gaps are part of it. */
  isMending: boolean;
  /** Resumes since the reply last grew. */
  fruitless: number;
}

const NOTHING: Outcome = { frames: [], notices: [] };
/** So often the same gap is asked for on one link; after that on another one. */
export const RESUMES_PER_LINK = 3;
/** So often in all; after that the reply is lost. */
export const MAX_FRUITLESS_RESUMES = 11;
/** Refusals that a later attempt, perhaps at another replica, may not meet. */
const TRANSIENT = new Set([
  "draining",
  "log_unavailable",
  "store_unavailable",
  "overloaded",
  "rate_limited",
  "internal",
]);

export class Ledger {
  private readonly waiting = new Map<string, MessageFrame | RetryFrame>();
  private readonly replies = new Map<string, Tracked>();
  /** Conversations whose running reply is asked for, its id unknown. */
  private readonly followed = new Set<string>();
  private readonly cancels = new Set<string>();
  private readonly cancelOnAccept = new Set<string>();

  get isBusy(): boolean {
    return this.waiting.size > 0 || this.replies.size > 0 || this.followed.size > 0;
  }

  /** Note a message or retry; it is outstanding until accepted or refused. */
  submit(frame: MessageFrame | RetryFrame): ClientFrame[] {
    this.waiting.set(frame.client_message_id, frame);
    return [frame];
  }

  /** Follow what runs in a conversation, from its beginning. */
  follow(conversationId: string, generationId: string | null): ClientFrame[] {
    if (generationId === null) {
      this.followed.add(conversationId);
      return [{ type: "resume", conversation_id: conversationId }];
    }
    if (this.replies.has(generationId)) return [];
    const tracked = this.track(conversationId, generationId);
    tracked.isMending = true;
    return [resumeOf(tracked.reply)];
  }

  /** Stop a reply; asked for again on the next link until it has ended. */
  cancel(generationId: string): ClientFrame[] {
    if (!this.replies.has(generationId)) return [];
    this.cancels.add(generationId);
    return [cancelOf(generationId)];
  }

  /** Stop the reply to a message that is not accepted yet: as soon as it is. */
  cancelMessage(clientMessageId: string): void {
    if (this.waiting.has(clientMessageId)) this.cancelOnAccept.add(clientMessageId);
  }

  /** Forget a conversation: it was deleted. */
  forget(conversationId: string): void {
    this.followed.delete(conversationId);
    for (const [id, frame] of this.waiting) if (frame.conversation_id === conversationId) this.waiting.delete(id);
    for (const generationId of this.generationsIn(conversationId)) this.untrack(generationId);
  }

  reply(generationId: string): Reply | null {
    return this.replies.get(generationId)?.reply ?? null;
  }

  /** Everything to say on a new link: unaccepted messages, a resume for each reply, cancels that were not heeded. */
  outstanding(): ClientFrame[] {
    for (const tracked of this.replies.values()) tracked.isMending = true;
    return [
      ...this.waiting.values(),
      ...[...this.replies.values()].map(({ reply }) => resumeOf(reply)),
      ...[...this.followed].map((id): ResumeFrame => ({ type: "resume", conversation_id: id })),
      ...[...this.cancels].map(cancelOf),
    ];
  }

  /** Take one event of the service. */
  take(event: ServerEvent): Outcome {
    switch (event.type) {
      case "accepted":
        return this.accepted(event);
      case "started":
      case "continued":
      case "token":
      case "ended":
        return this.numbered(event);
      case "reconnected":
        return this.reconnected(event);
      case "not_resumable":
        return this.notResumable(event);
      case "error":
        return this.refused(event);
      default:
        return NOTHING;
    }
  }

  /** Something arrived that cannot be read. Where it was part of a reply, that reply now has a gap. */
  takeMalformed(reason: string, generationId: string | null): Outcome {
    const error = { code: "malformed_event", message: reason, hint: null, retry_after_seconds: null, fallback: null };
    const tracked = generationId === null ? undefined : this.replies.get(generationId);
    const mended = tracked ? this.mend(tracked) : NOTHING;
    return { ...mended, notices: [{ kind: "fault", error }, ...mended.notices] };
  }

  /** What is outstanding is larger than the service takes: no message of it can ever arrive. */
  takeTooLarge(): Outcome {
    const message = "The message is larger than the service takes.";
    const error = { code: "too_large", message, hint: "Send it in parts.", retry_after_seconds: null, fallback: null };
    const ids = [...this.waiting.keys()];
    this.waiting.clear();
    return { frames: [], notices: ids.map((clientMessageId) => ({ kind: "refused", clientMessageId, error })) };
  }

  private accepted(event: AcceptedEvent): Outcome {
    // One that was accepted on an earlier link, too: its reply is already followed.
    if (!this.waiting.delete(event.client_message_id)) return NOTHING;
    const tracked = this.replies.get(event.generation_id) ?? this.track(event.conversation_id, event.generation_id);
    const wasStopped = this.cancelOnAccept.delete(event.client_message_id);
    return {
      frames: wasStopped ? this.cancel(event.generation_id) : [],
      notices: [
        { kind: "accepted", accepted: event },
        { kind: "reply", reply: tracked.reply },
      ],
    };
  }

  private numbered(event: GenerationEvent): Outcome {
    const tracked = this.replies.get(event.generation_id);
    if (!tracked) return NOTHING;
    const step = stepReply(tracked.reply, event);
    if (step.kind === "duplicate") return NOTHING;
    if (step.kind === "gap") return tracked.isMending ? NOTHING : this.mend(tracked);
    tracked.reply = step.reply;
    tracked.fruitless = 0;
    if (step.reply.end) this.untrack(event.generation_id);
    return { frames: [], notices: [{ kind: "reply", reply: step.reply }] };
  }

  private mend(tracked: Tracked): Outcome {
    tracked.fruitless += 1;
    if (tracked.fruitless > MAX_FRUITLESS_RESUMES) return this.lose(tracked, "a part of it does not arrive");
    tracked.isMending = true;
    if (tracked.fruitless % (RESUMES_PER_LINK + 1) === 0) return { ...NOTHING, giveUp: "a part of a reply is missing" };
    return { frames: [resumeOf(tracked.reply)], notices: [] };
  }

  private lose({ reply }: Tracked, reason: string): Outcome {
    const { conversationId, generationId } = reply;
    this.untrack(generationId);
    return { frames: [], notices: [{ kind: "lost", conversationId, generationId, reason }] };
  }

  private reconnected({ conversation_id: conversationId, generation_id: generationId }: ReconnectedEvent): Outcome {
    const wasFollowed = this.followed.delete(conversationId);
    if (generationId === null) {
      if (!wasFollowed) for (const id of this.generationsIn(conversationId)) this.untrack(id);
      return { frames: [], notices: [{ kind: "idle", conversationId }] };
    }
    const known = this.replies.get(generationId);
    if (known) known.isMending = false;
    if (known || !wasFollowed) return NOTHING;
    return { frames: [], notices: [{ kind: "reply", reply: this.track(conversationId, generationId).reply }] };
  }

  private notResumable(event: NotResumableEvent): Outcome {
    this.followed.delete(event.conversation_id);
    const gone = event.generation_id === null ? this.generationsIn(event.conversation_id) : [event.generation_id];
    for (const generationId of gone) this.untrack(generationId);
    return { frames: [], notices: [{ kind: "snapshot", conversation: event.conversation }] };
  }

  private refused({ error, client_message_id, generation_id }: ErrorEvent): Outcome {
    const clientMessageId = client_message_id ?? (generation_id === null ? this.onlyWaiting(error) : null);
    if (clientMessageId !== null) return this.messageRefused(clientMessageId, error);
    if (generation_id !== null) return this.generationRefused(generation_id, error);
    return { frames: [], notices: [{ kind: "fault", error }] };
  }

  private messageRefused(clientMessageId: string, error: EventError): Outcome {
    if (!this.waiting.has(clientMessageId)) return NOTHING;
    if (error.code === "draining") return { ...NOTHING, giveUp: "the replica is draining" };
    this.waiting.delete(clientMessageId);
    this.cancelOnAccept.delete(clientMessageId);
    return { frames: [], notices: [{ kind: "refused", clientMessageId, error }] };
  }

  private generationRefused(generationId: string, error: EventError): Outcome {
    const tracked = this.replies.get(generationId);
    if (!tracked) return NOTHING;
    if (this.cancels.has(generationId) && !tracked.isMending) {
      this.cancels.delete(generationId);
      return { frames: [], notices: [{ kind: "cancel_refused", generationId, error }] };
    }
    if (TRANSIENT.has(error.code)) return { ...NOTHING, giveUp: error.message };
    return this.lose(tracked, error.message);
  }

  /** A frame that could not be read is refused without naming it; where only one waits, it is that one. */
  private onlyWaiting(error: EventError): string | null {
    if (this.waiting.size !== 1 || (error.code !== "invalid_request" && error.code !== "too_large")) return null;
    return this.waiting.keys().next().value ?? null;
  }

  private track(conversationId: string, generationId: string): Tracked {
    const tracked = { reply: newReply(conversationId, generationId), isMending: false, fruitless: 0 };
    this.replies.set(generationId, tracked);
    return tracked;
  }

  private untrack(generationId: string): void {
    this.replies.delete(generationId);
    this.cancels.delete(generationId);
  }

  private generationsIn(conversationId: string): string[] {
    return [...this.replies.values()]
      .filter(({ reply }) => reply.conversationId === conversationId)
      .map(({ reply }) => reply.generationId);
  }
}

function resumeOf(reply: Reply): ResumeFrame {
  return {
    type: "resume",
    conversation_id: reply.conversationId,
    generation_id: reply.generationId,
    last_seq: reply.lastSeq,
  };
}

function cancelOf(generationId: string): CancelFrame {
  return { type: "cancel", generation_id: generationId };
}
