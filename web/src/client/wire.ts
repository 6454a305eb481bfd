/**
 * The chat protocol's types, as they stand in the JSON: what a client sends (frames) and receives (events).
 *
 * Numbered events (`started`, `continued`, `token`, `ended`) belong to one reply and count from 1 without a gap: what a
 * client has seen is (generation id, last seq). All others belong to the connection and are not replayed.
 */

export const PROTOCOL_VERSION = 1;
/** Counted in characters (code points), not in UTF-16 units. */
export const MAX_TEXT_CHARACTERS = 32_768;

export interface MessageFrame {
  readonly type: "message";
  /** New for each message that is meant; sending the same message again repeats it. */
  readonly client_message_id: string;
  readonly text: string;
  readonly conversation_id?: string;
  readonly max_tokens?: number;
  readonly temperature?: number;
  /** A pool or an adapter by its name; without one the service's policy chooses. */
  readonly model?: string;
}

export interface RetryFrame {
  readonly type: "retry";
  readonly conversation_id: string;
  readonly client_message_id: string;
}

export interface ResumeFrame {
  readonly type: "resume";
  readonly conversation_id: string;
  readonly generation_id?: string;
  readonly last_seq?: number;
}

export interface CancelFrame {
  readonly type: "cancel";
  readonly generation_id: string;
}

export interface PingFrame {
  readonly type: "ping";
  readonly nonce?: string;
}

export type ClientFrame = MessageFrame | RetryFrame | ResumeFrame | CancelFrame | PingFrame;

export type Role = "user" | "assistant";
export type TurnStatus = "complete" | "partial";
export type FinishReason = "stop" | "length" | "cancelled" | "timeout" | "error";

export interface EventError {
  /** Stable, for programs. */
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly retry_after_seconds: number | null;
  /** What a person may be shown in place of the reply that could not be made. */
  readonly fallback: string | null;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

/** Which model answers, and why. */
export interface Route {
  readonly pool: string;
  /** The adapter that answers; "" for the pool's own model. */
  readonly model: string;
  /** Which rule decided. */
  readonly policy: string;
  /** Its words for people. */
  readonly reason: string;
}

/** A passage that was given to the model with the question. */
export interface Source {
  readonly source_id: string;
  readonly title: string;
  readonly url: string | null;
}

/** How a reply came about. */
export interface ReplyDetails {
  readonly route: Route | null;
  readonly sources: readonly Source[];
  /** What the model server tells of what it left out of the prompt. */
  readonly notice: string | null;
  /** What the reply had to do without: "retrieval", "reduced_context", "routing". */
  readonly degraded: readonly string[];
}

export interface Turn {
  readonly turn_id: string;
  readonly role: Role;
  readonly text: string;
  readonly status: TurnStatus;
  /** Seconds since 1970 UTC. */
  readonly created_at: number;
  readonly finish_reason: FinishReason | null;
  readonly generation_id: string | null;
  readonly error: EventError | null;
  readonly was_truncated: boolean;
  readonly turns_dropped: number;
  readonly details: ReplyDetails | null;
}

export interface ConversationSummary {
  readonly conversation_id: string;
  readonly title: string;
  readonly created_at: number;
  readonly updated_at: number;
}

export interface Conversation extends ConversationSummary {
  /** Grows by one with every change. */
  readonly version: number;
  readonly turns: readonly Turn[];
  readonly active_generation_id: string | null;
}

export interface ModelReplica {
  readonly name: string;
  readonly state: string;
  readonly detail: string;
  /** 0…1 within the state, where it is known. */
  readonly progress: number | null;
  readonly eta_seconds: number | null;
}

export interface ModelStatus {
  readonly ready: boolean;
  readonly replicas: readonly ModelReplica[];
}

export interface HelloEvent {
  readonly type: "hello";
  readonly replica: string;
  readonly principal_id: string;
  readonly heartbeat_seconds: number;
  readonly protocol_version: number;
}

export interface HeartbeatEvent {
  readonly type: "heartbeat";
}

export interface ModelStateEvent extends ModelStatus {
  readonly type: "model_state";
}

export interface AcceptedEvent {
  readonly type: "accepted";
  readonly client_message_id: string;
  readonly conversation_id: string;
  readonly user_turn_id: string;
  readonly generation_id: string;
  readonly duplicate: boolean;
}

export interface ReconnectedEvent {
  readonly type: "reconnected";
  readonly conversation_id: string;
  readonly generation_id: string | null;
  readonly last_seq: number;
}

export interface NotResumableEvent {
  readonly type: "not_resumable";
  readonly conversation_id: string;
  readonly generation_id: string | null;
  readonly conversation: Conversation;
}

interface Numbered {
  readonly conversation_id: string;
  readonly generation_id: string;
  readonly seq: number;
}

export interface StartedEvent extends Numbered {
  readonly type: "started";
  readonly model: string;
  readonly prompt_tokens: number;
  readonly was_truncated: boolean;
  readonly turns_dropped: number;
  readonly details: ReplyDetails | null;
}

export interface ContinuedEvent extends Numbered {
  readonly type: "continued";
  readonly reason: string;
}

export interface TokenEvent extends Numbered {
  readonly type: "token";
  readonly text: string;
}

export interface EndedEvent extends Numbered {
  readonly type: "ended";
  readonly finish_reason: FinishReason;
  /** Null where there was nothing to store: the reply failed before its first token. */
  readonly turn_id: string | null;
  readonly usage: Usage | null;
  readonly error: EventError | null;
}

export interface PongEvent {
  readonly type: "pong";
  readonly nonce: string;
}

export interface GoingAwayEvent {
  readonly type: "going_away";
  readonly reconnect_after_seconds: number;
}

/** A frame was refused; the connection lives on. */
export interface ErrorEvent {
  readonly type: "error";
  readonly error: EventError;
  readonly client_message_id: string | null;
  readonly generation_id: string | null;
}

export type GenerationEvent = StartedEvent | ContinuedEvent | TokenEvent | EndedEvent;
export type ServerEvent =
  | HelloEvent
  | HeartbeatEvent
  | ModelStateEvent
  | AcceptedEvent
  | ReconnectedEvent
  | NotResumableEvent
  | GenerationEvent
  | PongEvent
  | GoingAwayEvent
  | ErrorEvent;

/** Answer of `GET /api/session`. */
export interface Session {
  readonly principal_id: string;
  readonly protocol_version: number;
  readonly replica: string;
  readonly heartbeat_seconds: number;
}

/** Answer of `GET /api/status`. */
export interface ServiceStatus {
  readonly replica: string;
  readonly draining: boolean;
  readonly model: ModelStatus;
}

/** What a message may name as its model. */
export interface ModelChoice {
  readonly name: string;
  readonly kind: string;
  /** For people. */
  readonly description: string;
  readonly ready: boolean;
}

/** Answer of `GET /api/models`. */
export interface ModelList {
  readonly models: readonly ModelChoice[];
}

export interface ConversationPage {
  readonly conversations: readonly ConversationSummary[];
  readonly next: string | null;
}

export interface CancelResult {
  readonly generation_id: string;
  readonly cancelled: boolean;
}
