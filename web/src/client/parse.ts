/**
 * Text from the wire → a typed event, or what is wrong with it. Never throws on what a server says.
 *
 * An event of an unknown type is `unknown`, not an error: newer servers may send more than this client knows.
 */

import { count, flag, list, nullable, number, oneOf, optional, record, ShapeError, text, type Shape } from "./shape.js";
import type {
  CancelResult,
  Conversation,
  ConversationPage,
  ConversationSummary,
  EventError,
  ModelChoice,
  ModelList,
  ModelReplica,
  ModelStatus,
  ReplyDetails,
  Route,
  ServerEvent,
  ServiceStatus,
  Session,
  Source,
  Turn,
  Usage,
} from "./wire.js";

export type Parsed =
  | { readonly kind: "event"; readonly event: ServerEvent }
  | { readonly kind: "unknown"; readonly type: string }
  | {
      readonly kind: "malformed";
      readonly reason: string;
      /** The reply it was meant for, where that could still be read. */
      readonly generationId: string | null;
    };

const finishReason = oneOf("stop", "length", "cancelled", "timeout", "error");

export const eventErrorShape: Shape<EventError> = record<EventError>({
  code: text,
  message: text,
  hint: nullable(text),
  retry_after_seconds: nullable(number),
  fallback: nullable(text),
});

const usageShape = record<Usage>({ prompt_tokens: count, completion_tokens: count });

const detailsShape = record<ReplyDetails>({
  route: nullable(record<Route>({ pool: text, model: text, policy: text, reason: text })),
  sources: list(record<Source>({ source_id: text, title: text, url: nullable(text) })),
  notice: nullable(text),
  degraded: list(text),
});

const turnShape = record<Turn>({
  turn_id: text,
  role: oneOf("user", "assistant"),
  text,
  status: oneOf("complete", "partial"),
  created_at: number,
  finish_reason: nullable(finishReason),
  generation_id: nullable(text),
  error: nullable(eventErrorShape),
  was_truncated: optional(flag, false),
  turns_dropped: optional(count, 0),
  details: nullable(detailsShape),
});

const summaryFields = { conversation_id: text, title: text, created_at: number, updated_at: number };

export const summaryShape: Shape<ConversationSummary> = record<ConversationSummary>(summaryFields);

export const conversationShape: Shape<Conversation> = record<Conversation>({
  ...summaryFields,
  version: count,
  turns: list(turnShape),
  active_generation_id: nullable(text),
});

const replicaShape = record<ModelReplica>({
  name: text,
  state: text,
  detail: optional(text, ""),
  progress: nullable(number),
  eta_seconds: nullable(number),
});

const modelFields = { ready: flag, replicas: list(replicaShape) };

export const sessionShape: Shape<Session> = record<Session>({
  principal_id: text,
  protocol_version: count,
  replica: text,
  heartbeat_seconds: number,
});

export const statusShape: Shape<ServiceStatus> = record<ServiceStatus>({
  replica: text,
  draining: flag,
  model: record<ModelStatus>(modelFields),
});

export const modelListShape: Shape<ModelList> = record<ModelList>({
  models: list(
    record<ModelChoice>({ name: text, kind: text, description: optional(text, ""), ready: optional(flag, true) }),
  ),
});

export const pageShape: Shape<ConversationPage> = record<ConversationPage>({
  conversations: list(summaryShape),
  next: nullable(text),
});

export const cancelResultShape: Shape<CancelResult> = record<CancelResult>({ generation_id: text, cancelled: flag });

const numbered = { conversation_id: text, generation_id: text, seq: count };

type EventShapes = { readonly [T in ServerEvent["type"]]: Shape<Extract<ServerEvent, { type: T }>> };

const events: EventShapes = {
  hello: record({
    type: oneOf("hello"),
    replica: text,
    principal_id: text,
    heartbeat_seconds: number,
    protocol_version: optional(count, 1),
  }),
  heartbeat: record({ type: oneOf("heartbeat") }),
  model_state: record({ type: oneOf("model_state"), ...modelFields }),
  accepted: record({
    type: oneOf("accepted"),
    client_message_id: text,
    conversation_id: text,
    user_turn_id: text,
    generation_id: text,
    duplicate: optional(flag, false),
  }),
  reconnected: record({
    type: oneOf("reconnected"),
    conversation_id: text,
    generation_id: nullable(text),
    last_seq: count,
  }),
  not_resumable: record({
    type: oneOf("not_resumable"),
    conversation_id: text,
    generation_id: nullable(text),
    conversation: conversationShape,
  }),
  started: record({
    type: oneOf("started"),
    ...numbered,
    model: text,
    prompt_tokens: count,
    was_truncated: optional(flag, false),
    turns_dropped: optional(count, 0),
    details: nullable(detailsShape),
  }),
  continued: record({ type: oneOf("continued"), ...numbered, reason: text }),
  token: record({ type: oneOf("token"), ...numbered, text }),
  ended: record({
    type: oneOf("ended"),
    ...numbered,
    finish_reason: finishReason,
    turn_id: nullable(text),
    usage: nullable(usageShape),
    error: nullable(eventErrorShape),
  }),
  pong: record({ type: oneOf("pong"), nonce: optional(text, "") }),
  going_away: record({ type: oneOf("going_away"), reconnect_after_seconds: number }),
  error: record({
    type: oneOf("error"),
    error: eventErrorShape,
    client_message_id: nullable(text),
    generation_id: nullable(text),
  }),
};

function isKnown(type: string): type is ServerEvent["type"] {
  return Object.hasOwn(events, type);
}

/** Read one event from its JSON. */
export function parseEvent(data: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return { kind: "malformed", reason: "Expected JSON.", generationId: null };
  }
  return readEvent(value);
}

function readEvent(value: unknown): Parsed {
  const given = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const type = given["type"];
  if (typeof type !== "string") {
    return { kind: "malformed", reason: "Expected an object with a type.", generationId: null };
  }
  if (!isKnown(type)) return { kind: "unknown", type };
  try {
    return { kind: "event", event: events[type](value, type) };
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const generationId = given["generation_id"];
    return {
      kind: "malformed",
      reason: error.message,
      generationId: typeof generationId === "string" ? generationId : null,
    };
  }
}

/**
 * Read a JSON body by its shape.
 *
 * Throws ShapeError where it is not what was expected.
 */
export function parseBody<T>(shape: Shape<T>, data: string): T {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    throw new ShapeError("Expected JSON in the answer.");
  }
  return shape(value, "$");
}
