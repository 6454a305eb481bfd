/**
 * A chat service in memory that speaks the protocol, with replies and failures by script. For development and tests.
 *
 * It keeps what the real one keeps (turns, one log per reply, idempotent messages) and owns no socket and no clock, so
 * that it runs as well on a test's time.
 */

import type {
  AcceptedEvent,
  ClientFrame,
  Conversation,
  ConversationSummary,
  EventError,
  FinishReason,
  GenerationEvent,
  MessageFrame,
  ModelChoice,
  ModelStatus,
  ReplyDetails,
  ResumeFrame,
  RetryFrame,
  ServerEvent,
  Turn,
} from "../src/client/wire.js";

export interface ServiceClock {
  /** Seconds since 1970. */
  readonly now: () => number;
  readonly later: (callback: () => void, ms: number) => () => void;
}

/** How one message is answered. */
export interface Script {
  readonly pieces: readonly string[];
  readonly firstMs?: number;
  readonly pieceMs?: number;
  readonly wasTruncated?: boolean;
  readonly turnsDropped?: number;
  readonly details?: ReplyDetails;
  /** Another server goes on after so many pieces. */
  readonly continuedAfter?: number;
  /** The reply fails after so many pieces. */
  readonly failsAfter?: number;
  readonly error?: EventError;
  /** The message is not taken. */
  readonly refusal?: EventError;
}

export type Sink = (event: ServerEvent) => void;

interface Generation {
  readonly conversationId: string;
  readonly generationId: string;
  readonly log: GenerationEvent[];
  readonly sinks: Set<Sink>;
  text: string;
  isExpired: boolean;
  isOver: boolean;
  stop: () => void;
}

export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly error: EventError,
  ) {
    super(error.message);
  }
}

export function refusalOf(status: number, code: string, message: string, hint: string | null = null): Refusal {
  return new Refusal(status, { code, message, hint, retry_after_seconds: null, fallback: null });
}

export const READY: ModelStatus = {
  ready: true,
  replicas: [{ name: "inference-0", state: "traffic_ready", detail: "", progress: null, eta_seconds: null }],
};

export class FakeService {
  readonly conversations = new Map<string, Conversation>();
  readonly generations = new Map<string, Generation>();
  readonly modelSinks = new Set<Sink>();
  /** Every user turn that was stored, by the id of its message. */
  readonly stored = new Map<string, AcceptedEvent>();
  model: ModelStatus = READY;
  models: readonly ModelChoice[] = [{ name: "small", kind: "pool", description: "Quick answers", ready: true }];
  heartbeatSeconds = 10;
  replica = "orchestrator-0";
  private ids = 0;

  constructor(
    private readonly clock: ServiceClock,
    private readonly script: (text: string) => Script,
  ) {}

  setModel(model: ModelStatus): void {
    this.model = model;
    for (const sink of this.modelSinks) sink({ type: "model_state", ...model });
  }

  hello(): ServerEvent {
    const { replica, heartbeatSeconds: heartbeat_seconds } = this;
    return { type: "hello", replica, principal_id: "person_1", heartbeat_seconds, protocol_version: 1 };
  }

  list(): ConversationSummary[] {
    return [...this.conversations.values()]
      .map(({ conversation_id, title, created_at, updated_at }) => ({ conversation_id, title, created_at, updated_at }))
      .sort((a, b) => b.updated_at - a.updated_at);
  }

  conversation(conversationId: string): Conversation {
    const found = this.conversations.get(conversationId);
    if (!found) throw refusalOf(404, "conversation_not_found", "There is no such conversation.");
    return found;
  }

  rename(conversationId: string, title: string): ConversationSummary {
    this.change(conversationId, (old) => ({ ...old, title }));
    const { conversation_id, created_at, updated_at } = this.conversation(conversationId);
    return { conversation_id, title, created_at, updated_at };
  }

  remove(conversationId: string): void {
    const { active_generation_id: active } = this.conversation(conversationId);
    if (active !== null) this.generations.get(active)?.stop();
    this.conversations.delete(conversationId);
  }

  say(frame: MessageFrame): AcceptedEvent {
    const known = this.stored.get(frame.client_message_id);
    if (known) return { ...known, duplicate: true };
    const script = this.script(frame.text);
    if (script.refusal) throw new Refusal(400, script.refusal);
    const conversation = frame.conversation_id ? this.conversation(frame.conversation_id) : this.begin(frame.text);
    return this.answer(conversation.conversation_id, frame, script, (userTurn, generationId) => {
      this.change(conversation.conversation_id, (old) => ({
        ...old,
        active_generation_id: generationId,
        turns: [
          ...old.turns,
          turnOf({ turn_id: userTurn, role: "user", text: frame.text, created_at: this.clock.now() }),
        ],
      }));
    });
  }

  retry(frame: RetryFrame): AcceptedEvent {
    const known = this.stored.get(frame.client_message_id);
    if (known) return { ...known, duplicate: true };
    const { turns } = this.conversation(frame.conversation_id);
    const asked = turns.findLast((turn) => turn.role === "user");
    if (!asked) throw refusalOf(409, "nothing_to_retry", "There is nothing to answer again.");
    const script = this.script(asked.text.replace(/^\/\w+/, ""));
    return this.answer(frame.conversation_id, frame, script, (_, generationId) => {
      this.change(frame.conversation_id, (old) => ({
        ...old,
        active_generation_id: generationId,
        turns: old.turns.slice(0, old.turns.lastIndexOf(asked) + 1),
      }));
    });
  }

  cancel(generationId: string): boolean {
    const generation = this.generations.get(generationId);
    if (!generation) throw refusalOf(404, "generation_not_found", "There is no such reply.");
    if (generation.isOver) return false;
    this.end(generation, "cancelled", null);
    return true;
  }

  /** Answer a resume into the sink; returns what ends the subscription, or null where there is nothing to follow. */
  resume(frame: ResumeFrame, sink: Sink): (() => void) | null {
    const conversation = this.conversation(frame.conversation_id);
    const conversation_id = frame.conversation_id;
    const generation_id = frame.generation_id ?? conversation.active_generation_id;
    const last_seq = frame.last_seq ?? 0;
    if (generation_id === null) {
      sink({ type: "reconnected", conversation_id, generation_id, last_seq });
      return null;
    }
    const generation = this.generations.get(generation_id);
    if (!generation || generation.isExpired) {
      sink({ type: "not_resumable", conversation_id, generation_id, conversation });
      return null;
    }
    sink({ type: "reconnected", conversation_id, generation_id, last_seq });
    return this.follow(generation_id, last_seq, sink);
  }

  /** The events after `lastSeq`, then each new one. */
  follow(generationId: string, lastSeq: number, sink: Sink): () => void {
    const generation = this.generations.get(generationId);
    if (!generation) return () => undefined;
    for (const event of generation.log.slice(lastSeq)) sink(event);
    generation.sinks.add(sink);
    return () => generation.sinks.delete(sink);
  }

  /** Begin a conversation with turns in it, as if it had taken place. */
  seed(title: string, turns: readonly Partial<Turn>[], ageSeconds = 0): string {
    const { conversation_id } = this.begin(title, ageSeconds);
    this.change(conversation_id, (old) => ({
      ...old,
      updated_at: old.created_at,
      turns: turns.map((turn, index) => turnOf({ turn_id: `turn_seed${index}`, created_at: old.created_at, ...turn })),
    }));
    return conversation_id;
  }

  private begin(text: string, ageSeconds = 0): Conversation {
    const created_at = this.clock.now() - ageSeconds;
    const conversation: Conversation = {
      conversation_id: this.newId("conv"),
      title: text.split("\n", 1)[0]?.slice(0, 60) ?? "",
      created_at,
      updated_at: created_at,
      version: 1,
      turns: [],
      active_generation_id: null,
    };
    this.conversations.set(conversation.conversation_id, conversation);
    return conversation;
  }

  private answer(
    conversationId: string,
    frame: MessageFrame | RetryFrame,
    script: Script,
    store: (userTurnId: string, generationId: string) => void,
  ): AcceptedEvent {
    if (this.conversation(conversationId).active_generation_id !== null) {
      throw refusalOf(409, "generation_running", "A reply is being written in this conversation.", "Stop it, or wait.");
    }
    const userTurnId = this.newId("turn");
    const generationId = this.newId("gen");
    store(userTurnId, generationId);
    const accepted: AcceptedEvent = {
      type: "accepted",
      client_message_id: frame.client_message_id,
      conversation_id: conversationId,
      user_turn_id: userTurnId,
      generation_id: generationId,
      duplicate: false,
    };
    this.stored.set(frame.client_message_id, accepted);
    this.produce(conversationId, generationId, script);
    return accepted;
  }

  private produce(conversationId: string, generationId: string, script: Script): void {
    const generation: Generation = {
      conversationId,
      generationId,
      log: [],
      sinks: new Set(),
      text: "",
      isExpired: false,
      isOver: false,
      stop: () => undefined,
    };
    this.generations.set(generationId, generation);
    const run = (index: number): void => {
      const wait = index === 0 ? (script.firstMs ?? 5) : (script.pieceMs ?? 5);
      generation.stop = this.clock.later(() => {
        if (this.step(generation, script, index)) run(index + 1);
      }, wait);
    };
    run(0);
  }

  /** Do the step of a script; returns whether there is another. */
  private step(generation: Generation, script: Script, index: number): boolean {
    if (!this.model.ready) {
      this.end(generation, "error", script.error ?? null);
      return false;
    }
    if (index === 0) this.start(generation, script);
    const piece = script.pieces[index];
    if (index === script.failsAfter) this.end(generation, "error", script.error ?? null);
    else if (piece === undefined) this.end(generation, "stop", null);
    if (generation.isOver) return false;
    if (index === script.continuedAfter) this.append(generation, { type: "continued", reason: "server_lost" });
    generation.text += piece ?? "";
    this.append(generation, { type: "token", text: piece ?? "" });
    return true;
  }

  private start(generation: Generation, script: Script): void {
    this.append(generation, {
      type: "started",
      model: "fake-1",
      prompt_tokens: 12,
      was_truncated: script.wasTruncated ?? false,
      turns_dropped: script.turnsDropped ?? 0,
      details: script.details ?? null,
    });
  }

  private end(generation: Generation, finish_reason: FinishReason, error: EventError | null): void {
    generation.stop();
    generation.isOver = true;
    const { conversationId, generationId, text } = generation;
    const started = generation.log.find((event) => event.type === "started");
    const turn_id = text === "" && finish_reason !== "stop" ? null : this.newId("turn");
    this.change(conversationId, (old) => ({
      ...old,
      active_generation_id: null,
      turns: [
        ...old.turns,
        ...(turn_id === null
          ? []
          : [
              turnOf({
                turn_id,
                text,
                finish_reason,
                error,
                role: "assistant",
                generation_id: generationId,
                created_at: this.clock.now(),
                status: finish_reason === "stop" ? "complete" : "partial",
                turns_dropped: started?.turns_dropped ?? 0,
                was_truncated: started?.was_truncated ?? false,
                details: started?.details ?? null,
              }),
            ]),
      ],
    }));
    const usage = { prompt_tokens: 12, completion_tokens: generation.log.length };
    this.append(generation, { type: "ended", finish_reason, turn_id, usage, error });
  }

  private append(generation: Generation, part: EventPart): void {
    const { conversationId: conversation_id, generationId: generation_id, log } = generation;
    const event = { ...part, conversation_id, generation_id, seq: log.length + 1 } as GenerationEvent;
    log.push(event);
    for (const sink of [...generation.sinks]) sink(event);
  }

  private change(conversationId: string, step: (old: Conversation) => Conversation): void {
    const old = this.conversations.get(conversationId);
    if (!old) return;
    this.conversations.set(conversationId, {
      ...step({ ...old, updated_at: this.clock.now() }),
      version: old.version + 1,
    });
  }

  private newId(kind: string): string {
    this.ids += 1;
    return `${kind}_${this.ids.toString(36).padStart(4, "0")}`;
  }
}

type Unnumbered<E> = E extends unknown ? Omit<E, "conversation_id" | "generation_id" | "seq"> : never;
type EventPart = Unnumbered<GenerationEvent>;

function turnOf(given: Partial<Turn>): Turn {
  return {
    turn_id: "turn_0",
    role: "user",
    text: "",
    status: "complete",
    created_at: 0,
    finish_reason: null,
    generation_id: null,
    error: null,
    was_truncated: false,
    turns_dropped: 0,
    details: null,
    ...given,
  };
}

/** What one client's connection is to the service, whatever carries it. */
export class ServerConnection {
  private readonly follows: (() => void)[] = [];
  private isOpen = true;

  constructor(
    private readonly service: FakeService,
    private readonly sink: Sink,
  ) {}

  greet(): void {
    this.emit(this.service.hello());
    this.emit({ type: "model_state", ...this.service.model });
    const onModel: Sink = (event) => {
      this.emit(event);
    };
    this.service.modelSinks.add(onModel);
    this.follows.push(() => this.service.modelSinks.delete(onModel));
  }

  receive(frame: ClientFrame): void {
    try {
      this.handle(frame);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const client_message_id = "client_message_id" in frame ? frame.client_message_id : null;
      const generation_id = "generation_id" in frame ? (frame.generation_id ?? null) : null;
      this.emit({ type: "error", error: error.error, client_message_id, generation_id });
    }
  }

  close(): void {
    this.isOpen = false;
    for (const stop of this.follows) stop();
  }

  private handle(frame: ClientFrame): void {
    if (frame.type === "message" || frame.type === "retry") {
      const accepted = frame.type === "message" ? this.service.say(frame) : this.service.retry(frame);
      this.emit(accepted);
      this.follows.push(this.service.follow(accepted.generation_id, 0, this.toClient));
    } else if (frame.type === "resume") {
      const stop = this.service.resume(frame, this.toClient);
      if (stop) this.follows.push(stop);
    } else if (frame.type === "cancel") {
      this.service.cancel(frame.generation_id);
    } else {
      this.emit({ type: "pong", nonce: frame.nonce ?? "" });
    }
  }

  private readonly toClient: Sink = (event) => {
    this.emit(event);
  };

  private emit(event: ServerEvent): void {
    if (this.isOpen) this.sink(event);
  }
}
