/**
 * Everything the page shows, as one value, and how it changes. Pure: what was asked and what arrived go in, the next
 * state comes out; entries that did not change stay the same objects, so that only what changed is drawn again.
 */

import type {
  AcceptedEvent,
  ConnectionStatus,
  Conversation,
  ConversationSummary,
  EventError,
  FinishReason,
  ModelChoice,
  ModelStatus,
  Reply,
  ReplyDetails,
  Role,
  Turn,
} from "../client/index.js";

export type EntryStatus = "sending" | "streaming" | "complete" | "partial" | "failed";

/** One message as shown. */
export interface Entry {
  /** Stays the same while the entry grows. */
  readonly key: string;
  readonly role: Role;
  readonly text: string;
  readonly status: EntryStatus;
  readonly finishReason: FinishReason | null;
  readonly error: EventError | null;
  readonly wasTruncated: boolean;
  readonly turnsDropped: number;
  readonly details: ReplyDetails | null;
  readonly generationId: string | null;
  readonly clientMessageId: string | null;
  /** Where it is stored. */
  readonly turnId: string | null;
}

export type ThreadPhase = "loading" | "ready" | "failed" | "gone";

/** A conversation as shown. */
export interface Thread {
  /** The conversation's id, or a local one until the service has named it. */
  readonly key: string;
  /** The first key: stays when the service names the conversation. */
  readonly viewKey: string;
  readonly conversationId: string | null;
  readonly title: string;
  readonly phase: ThreadPhase;
  readonly error: EventError | null;
  readonly entries: readonly Entry[];
  /** The message or retry that waits to be accepted. */
  readonly pendingId: string | null;
  readonly activeGenerationId: string | null;
  readonly isStopping: boolean;
}

export interface PageState {
  readonly connection: ConnectionStatus;
  readonly wasConnected: boolean;
  readonly model: ModelStatus | null;
  /** What a message may name as its model; a choice is offered from two on. */
  readonly choices: readonly ModelChoice[];
  /** The model that messages name; null: the service chooses. */
  readonly chosen: string | null;
  readonly list: ListState;
  /** The thread that is shown; null: a new conversation. */
  readonly current: string | null;
  readonly threads: Readonly<Record<string, Thread>>;
  readonly fault: EventError | null;
  /** For the screen reader. */
  readonly announcement: string;
}

export interface ListState {
  readonly phase: "loading" | "ready" | "failed";
  readonly items: readonly ConversationSummary[];
  readonly next: string | null;
}

export function initialState(connection: ConnectionStatus): PageState {
  return {
    connection,
    wasConnected: false,
    model: null,
    choices: [],
    chosen: null,
    list: { phase: "loading", items: [], next: null },
    current: null,
    threads: {},
    fault: null,
    announcement: "",
  };
}

export function isRunning(thread: Thread | null): boolean {
  return thread !== null && (thread.pendingId !== null || thread.activeGenerationId !== null);
}

export function currentThread(state: PageState): Thread | null {
  return state.current === null ? null : (state.threads[state.current] ?? null);
}

/** The entry whose Retry is offered: the last one, where it is not the whole of a reply. */
export function retryable(thread: Thread): Entry | null {
  const last = thread.entries.at(-1);
  if (isRunning(thread) || last === undefined) return null;
  return last.status === "partial" || last.status === "failed" ? last : null;
}

const BLANK: Omit<Entry, "key" | "role" | "text" | "status"> = {
  finishReason: null,
  error: null,
  wasTruncated: false,
  turnsDropped: 0,
  details: null,
  generationId: null,
  clientMessageId: null,
  turnId: null,
};

export function newThread(key: string, conversationId: string | null, title = ""): Thread {
  return {
    key,
    viewKey: key,
    conversationId,
    title,
    phase: conversationId === null ? "ready" : "loading",
    error: null,
    entries: [],
    pendingId: null,
    activeGenerationId: null,
    isStopping: false,
  };
}

export function withThread(state: PageState, thread: Thread): PageState {
  return { ...state, threads: { ...state.threads, [thread.key]: thread } };
}

function changed(state: PageState, key: string | null, step: (thread: Thread) => Thread): PageState {
  const thread = key === null ? undefined : state.threads[key];
  return thread ? withThread(state, step(thread)) : state;
}

export function changeThread(state: PageState, key: string, step: Partial<Thread>): PageState {
  return changed(state, key, (thread) => ({ ...thread, ...step }));
}

/** Something was said: show it, and the place where its reply will stand. */
export function said(state: PageState, key: string, clientMessageId: string, text: string): PageState {
  const user: Entry = { ...BLANK, key: clientMessageId, role: "user", text, status: "sending", clientMessageId };
  return changed(state, key, (thread) => ({
    ...thread,
    title: thread.title || titleOf(text),
    pendingId: clientMessageId,
    isStopping: false,
    entries: [...thread.entries.filter((entry) => entry.key !== clientMessageId), user, awaited(clientMessageId)],
  }));
}

/** A retry was asked for: its reply takes the place of the one that was not whole. */
export function retried(state: PageState, key: string, clientMessageId: string): PageState {
  return changed(state, key, (thread) => ({
    ...thread,
    pendingId: clientMessageId,
    isStopping: false,
    entries: [
      ...(thread.entries.at(-1)?.role === "assistant" ? thread.entries.slice(0, -1) : thread.entries),
      awaited(clientMessageId),
    ],
  }));
}

function awaited(clientMessageId: string): Entry {
  const key = `reply-${clientMessageId}`;
  return { ...BLANK, key, role: "assistant", text: "", status: "streaming", clientMessageId };
}

function titleOf(text: string): string {
  return text.trim().split("\n", 1)[0]?.slice(0, 80) ?? "";
}

/** The service stored a message: it now has a conversation, and a reply that answers it. */
export function accepted(state: PageState, event: AcceptedEvent): PageState {
  const { client_message_id: id, conversation_id: conversationId, generation_id: generationId } = event;
  const thread = Object.values(state.threads).find(({ pendingId }) => pendingId === id);
  if (!thread) return state;
  const others = without(state.threads, thread.key);
  const next: Thread = {
    ...thread,
    key: conversationId,
    conversationId,
    pendingId: null,
    activeGenerationId: generationId,
    entries: thread.entries.map((entry) => {
      if (entry.clientMessageId !== id) return entry;
      if (entry.role === "assistant") return { ...entry, generationId };
      return { ...entry, status: "complete", turnId: event.user_turn_id };
    }),
  };
  return {
    ...state,
    threads: { ...others, [conversationId]: next },
    current: state.current === thread.key ? conversationId : state.current,
  };
}

/** A message or retry was not taken. */
export function refused(state: PageState, clientMessageId: string, error: EventError): PageState {
  const thread = Object.values(state.threads).find(({ pendingId }) => pendingId === clientMessageId);
  return changed(state, thread?.key ?? null, (old) => ({
    ...old,
    pendingId: null,
    isStopping: false,
    entries: old.entries
      .filter((entry) => !(entry.clientMessageId === clientMessageId && entry.role === "assistant"))
      .map((entry) => (entry.clientMessageId === clientMessageId ? { ...entry, status: "failed", error } : entry)),
  }));
}

/** A reply grew or ended. */
export function replyChanged(state: PageState, reply: Reply): PageState {
  return changed(state, reply.conversationId, (thread) => {
    const old = thread.entries.find(({ generationId }) => generationId === reply.generationId);
    const entry = entryOfReply(reply, old?.key ?? reply.generationId);
    const isOver = reply.end !== null && thread.activeGenerationId === reply.generationId;
    return {
      ...thread,
      entries: old ? thread.entries.map((each) => (each === old ? entry : each)) : [...thread.entries, entry],
      activeGenerationId: isOver ? null : reply.end ? thread.activeGenerationId : reply.generationId,
      isStopping: isOver ? false : thread.isStopping,
    };
  });
}

function entryOfReply(reply: Reply, key: string): Entry {
  return {
    ...BLANK,
    ...(reply.start && {
      wasTruncated: reply.start.wasTruncated,
      turnsDropped: reply.start.turnsDropped,
      details: reply.start.details,
    }),
    ...(reply.end && { finishReason: reply.end.finishReason, error: reply.end.error, turnId: reply.end.turnId }),
    key,
    role: "assistant",
    text: reply.text,
    status: reply.end ? endStatus(reply.end.finishReason, reply.text) : "streaming",
    generationId: reply.generationId,
  };
}

function endStatus(finishReason: FinishReason, text: string): EntryStatus {
  if (finishReason === "stop" || finishReason === "length") return "complete";
  return text === "" ? "failed" : "partial";
}

/** The conversation as stored. What waits to be accepted stays at its end; what is in flight is shown as far as known. */
export function opened(state: PageState, conversation: Conversation, active: Reply | null): PageState {
  const id = conversation.conversation_id;
  const old = state.threads[id] ?? newThread(id, id);
  const stored = conversation.turns.map((turn) => entryOfTurn(turn, old));
  const waiting = old.pendingId === null ? [] : old.entries.filter((e) => e.clientMessageId === old.pendingId);
  const running = conversation.active_generation_id;
  const entries = [...stored, ...inFlight(running, active, old), ...waiting];
  const thread: Thread = {
    ...old,
    title: conversation.title,
    phase: "ready",
    error: null,
    entries: entries.at(-1)?.role === "user" && old.pendingId === null ? [...entries, unanswered(entries)] : entries,
    activeGenerationId: running,
    isStopping: running !== null && old.isStopping,
  };
  return withThread(state, thread);
}

function inFlight(generationId: string | null, active: Reply | null, old: Thread): Entry[] {
  if (generationId === null) return [];
  const known = old.entries.find((entry) => entry.generationId === generationId);
  if (active?.generationId === generationId) return [entryOfReply(active, known?.key ?? generationId)];
  return [known ?? { ...BLANK, key: generationId, role: "assistant", text: "", status: "streaming", generationId }];
}

function unanswered(entries: readonly Entry[]): Entry {
  const key = `unanswered-${entries.at(-1)?.key ?? ""}`;
  return { ...BLANK, key, role: "assistant", text: "", status: "failed", finishReason: "error" };
}

function entryOfTurn(turn: Turn, old: Thread): Entry {
  const shown = old.entries.find(
    (entry) =>
      entry.turnId === turn.turn_id || (turn.role === "assistant" && entry.generationId === (turn.generation_id ?? "")),
  );
  return {
    ...BLANK,
    key: shown?.key ?? turn.turn_id,
    role: turn.role,
    text: turn.text,
    status: turn.status,
    finishReason: turn.finish_reason,
    error: turn.error,
    wasTruncated: turn.was_truncated,
    turnsDropped: turn.turns_dropped,
    details: turn.details,
    generationId: turn.role === "assistant" ? turn.generation_id : null,
    turnId: turn.turn_id,
  };
}

/** The list as the service gave it; later pages come after the ones before. */
export function listed(
  list: ListState,
  items: readonly ConversationSummary[],
  next: string | null,
  isMore: boolean,
): ListState {
  const known = new Set(items.map((item) => item.conversation_id));
  const kept = isMore ? list.items.filter((item) => !known.has(item.conversation_id)) : [];
  return { phase: "ready", items: [...kept, ...items], next };
}

function without(threads: PageState["threads"], key: string): PageState["threads"] {
  return Object.fromEntries(Object.entries(threads).filter(([each]) => each !== key));
}

/** A conversation was spoken in: it stands first. */
export function touched(list: ListState, conversationId: string, title: string, nowSeconds: number): ListState {
  const old = list.items.find((item) => item.conversation_id === conversationId);
  const item: ConversationSummary = old
    ? { ...old, updated_at: nowSeconds }
    : { conversation_id: conversationId, title, created_at: nowSeconds, updated_at: nowSeconds };
  return { ...list, items: [item, ...list.items.filter((each) => each !== old)] };
}

/** What may be chosen; a choice that is gone is given up. */
export function offered(state: PageState, choices: readonly ModelChoice[]): PageState {
  const chosen = choices.some(({ name }) => name === state.chosen) ? state.chosen : null;
  return { ...state, choices, chosen };
}

export function removed(state: PageState, conversationId: string): PageState {
  const threads = without(state.threads, conversationId);
  return {
    ...state,
    threads,
    current: state.current === conversationId ? null : state.current,
    list: { ...state.list, items: state.list.items.filter((item) => item.conversation_id !== conversationId) },
  };
}

export function renamed(state: PageState, conversationId: string, title: string): PageState {
  const items = state.list.items.map((item) => (item.conversation_id === conversationId ? { ...item, title } : item));
  return changeThread({ ...state, list: { ...state.list, items } }, conversationId, { title });
}
