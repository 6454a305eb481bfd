/**
 * The chat client: say something, follow replies, stop them, and be told what happens, over connections that come and go.
 *
 *   const chat = new ChatClient({ environment: browserEnvironment(), baseUrl: "" });
 *   chat.listen((notice) => { … });
 *   chat.start();
 *   chat.send("Hello");
 *
 * A reply's text is complete and free of doubles whatever happens to the connection; see `Ledger`.
 */

import { backoffMs } from "./backoff.js";
import { Connection, type ConnectionStatus } from "./connection.js";
import type { Environment } from "./environment.js";
import { ApiError, eventErrorOf } from "./errors.js";
import { Ledger, type Notice, type Outcome } from "./ledger.js";
import { SseLink } from "./link-sse.js";
import { WebSocketLink } from "./link-websocket.js";
import type { Link, LinkHandlers } from "./link.js";
import type { Parsed } from "./parse.js";
import type { RouteSettings, TransportKind } from "./reconnect.js";
import type { Reply } from "./reply.js";
import { RestClient } from "./rest.js";
import type { ClientFrame, HelloEvent, ModelStatus, Session } from "./wire.js";

export type ChatNotice =
  | Notice
  | { readonly kind: "connection"; readonly status: ConnectionStatus }
  | { readonly kind: "hello"; readonly hello: HelloEvent }
  | { readonly kind: "model"; readonly model: ModelStatus }
  /** The conversation does not exist, or is not this person's. */
  | { readonly kind: "gone"; readonly conversationId: string };

export type Listener = (notice: ChatNotice) => void;

export interface SendOptions {
  readonly conversationId?: string;
  readonly maxTokens?: number;
  readonly temperature?: number;
  /** A pool or an adapter by its name. */
  readonly model?: string;
  /** To send again what was refused or may not have arrived: the id that it had. */
  readonly clientMessageId?: string;
}

export interface ChatClientSettings {
  readonly environment: Environment;
  /** Where the service is, without a slash at the end, for example "https://chat.example.org". */
  readonly baseUrl: string;
  readonly firstTransport?: TransportKind;
  readonly route?: RouteSettings;
}

/** How often a conversation is asked for until a lost reply in it has ended. */
const MAX_SETTLE_ATTEMPTS = 120;
const SETTLE_BACKOFF = { firstMs: 500, maxMs: 5_000 };

export class ChatClient {
  readonly rest: RestClient;
  private readonly environment: Environment;
  private readonly ledger = new Ledger();
  private readonly connection: Connection;
  private readonly listeners = new Set<Listener>();
  private readonly settling = new Map<string, () => void>();
  private session: Promise<Session> | null = null;

  constructor(private readonly settings: ChatClientSettings) {
    this.environment = settings.environment;
    this.rest = new RestClient(this.environment, { baseUrl: settings.baseUrl });
    this.connection = new Connection(
      {
        environment: this.environment,
        openLink: (transport, handlers) => this.openLink(transport, handlers),
        renewSession: () => this.renewSession(),
        ...(settings.route ? { route: settings.route } : {}),
        ...(settings.firstTransport ? { firstTransport: settings.firstTransport } : {}),
      },
      {
        onUp: (hello) => {
          this.tell({ kind: "hello", hello });
          this.connection.send(this.ledger.outstanding());
        },
        onEvent: (parsed) => {
          this.receive(parsed);
        },
        onStatus: (status) => {
          this.tell({ kind: "connection", status });
        },
        onTooLarge: () => {
          this.handle(this.ledger.takeTooLarge());
        },
        isBusy: () => this.ledger.isBusy,
      },
    );
  }

  get status(): ConnectionStatus {
    return this.connection.status;
  }

  /** Be told everything that happens; the returned function ends that. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  start(): void {
    this.connection.start();
  }

  /** End the connection. What is outstanding stays so, for the next `start`. */
  stop(): void {
    for (const stopTimer of this.settling.values()) stopTimer();
    this.settling.clear();
    this.connection.stop();
  }

  /** Resolves once there is a session for plain requests. Concurrent calls share one request. */
  renewSession(): Promise<Session> {
    this.session ??= this.rest.session().finally(() => {
      this.session = null;
    });
    return this.session;
  }

  /** An id for a message that is about to be sent. */
  newMessageId(): string {
    return this.environment.newId();
  }

  /** Say something; without a conversation a new one begins, which `accepted` names. Returns the message's id. */
  send(text: string, options: SendOptions = {}): string {
    const clientMessageId = options.clientMessageId ?? this.newMessageId();
    this.dispatch(
      this.ledger.submit({
        type: "message",
        client_message_id: clientMessageId,
        text: wellFormed(text),
        ...(options.conversationId === undefined ? {} : { conversation_id: options.conversationId }),
        ...(options.maxTokens === undefined ? {} : { max_tokens: options.maxTokens }),
        ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
        ...(options.model === undefined ? {} : { model: options.model }),
      }),
    );
    return clientMessageId;
  }

  /** Have the last message of a conversation answered again. Returns the retry's id. */
  retry(conversationId: string, clientMessageId = this.newMessageId()): string {
    this.dispatch(
      this.ledger.submit({ type: "retry", conversation_id: conversationId, client_message_id: clientMessageId }),
    );
    return clientMessageId;
  }

  /** Follow what runs in a conversation from its beginning; `idle` is told where nothing does. */
  follow(conversationId: string, generationId: string | null = null): void {
    this.dispatch(this.ledger.follow(conversationId, generationId));
  }

  /** Stop a reply. What it said so far is kept, marked partial. */
  cancel(generationId: string): void {
    this.dispatch(this.ledger.cancel(generationId));
  }

  /** Stop the reply to a message that the service has not accepted yet. */
  cancelMessage(clientMessageId: string): void {
    this.ledger.cancelMessage(clientMessageId);
  }

  /** A conversation was deleted: nothing of it is followed any more. */
  forget(conversationId: string): void {
    this.settling.get(conversationId)?.();
    this.settling.delete(conversationId);
    this.ledger.forget(conversationId);
  }

  /** The reply as far as it is known, while it is in flight. */
  reply(generationId: string): Reply | null {
    return this.ledger.reply(generationId);
  }

  private openLink(transport: TransportKind, handlers: LinkHandlers): Link {
    if (transport === "sse") return new SseLink(this.environment, this.rest, handlers);
    return new WebSocketLink(this.environment, webSocketUrl(this.settings.baseUrl), handlers);
  }

  private receive(parsed: Parsed): void {
    if (parsed.kind === "malformed") this.handle(this.ledger.takeMalformed(parsed.reason, parsed.generationId));
    if (parsed.kind !== "event") return;
    if (parsed.event.type === "model_state") {
      const { ready, replicas } = parsed.event;
      this.tell({ kind: "model", model: { ready, replicas } });
    }
    this.handle(this.ledger.take(parsed.event));
  }

  private handle({ frames, notices, giveUp }: Outcome): void {
    this.dispatch(frames);
    for (const notice of notices) {
      this.tell(notice);
      if (notice.kind === "lost") this.settle(notice.conversationId, notice.generationId);
      if (notice.kind === "idle") this.settle(notice.conversationId, null);
      if (notice.kind === "snapshot") this.settleSnapshot(notice);
    }
    if (giveUp !== undefined) this.connection.giveUp(giveUp);
  }

  private settleSnapshot({ conversation }: Extract<Notice, { kind: "snapshot" }>): void {
    const { conversation_id: conversationId, active_generation_id: active } = conversation;
    if (active !== null && this.ledger.reply(active) === null) this.settle(conversationId, active);
  }

  /** Read a conversation until the reply that cannot be followed has ended in it, and tell how it stands. */
  private settle(conversationId: string, generationId: string | null, attempt = 1): void {
    this.settling.get(conversationId)?.();
    const delayMs = attempt === 1 ? 0 : backoffMs(attempt - 1, this.environment.random, SETTLE_BACKOFF);
    const stopTimer = this.environment.startTimer(() => {
      this.settling.delete(conversationId);
      void this.look(conversationId, generationId, attempt);
    }, delayMs);
    this.settling.set(conversationId, stopTimer);
  }

  private async look(conversationId: string, generationId: string | null, attempt: number): Promise<void> {
    const again = (): void => {
      if (attempt < MAX_SETTLE_ATTEMPTS) this.settle(conversationId, generationId, attempt + 1);
    };
    try {
      const conversation = await this.rest.conversation(conversationId);
      if (this.settling.has(conversationId)) return;
      const active = conversation.active_generation_id;
      if (active !== null && active === generationId) {
        again();
        return;
      }
      if (active !== null) this.follow(conversationId, active);
      this.tell({ kind: "snapshot", conversation });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.tell({ kind: "gone", conversationId });
      else if (attempt < MAX_SETTLE_ATTEMPTS) again();
      else this.tell({ kind: "fault", error: eventErrorOf(error) });
    }
  }

  private dispatch(frames: readonly ClientFrame[]): void {
    this.connection.send(frames);
  }

  private tell(notice: ChatNotice): void {
    for (const listener of this.listeners) listener(notice);
  }
}

/** The address of the WebSocket that belongs to an HTTP address. */
export function webSocketUrl(baseUrl: string): string {
  return `${baseUrl.replace(/^http/, "ws")}/api/ws`;
}

/** Half of a surrogate pair cannot be written in UTF-8: the service would refuse all of the message for it. */
function wellFormed(text: string): string {
  return text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, "\uFFFD");
}
