/**
 * Joins the chat client with what the page shows: turns what people do into calls, and what happens into state.
 *
 * Views subscribe to it; however much arrives, they are told at most once per frame.
 */

import {
  ApiError,
  eventErrorOf,
  type AcceptedEvent,
  type ChatClient,
  type ChatNotice,
  type EventError,
  type Reply,
} from "../client/index.js";
import { announcement, connectionLabel } from "./labels.js";
import * as model from "./model.js";
import type { Entry, PageState, Thread } from "./model.js";

export interface Surroundings {
  /** Call back before the next drawing. */
  readonly nextFrame: (callback: () => void) => void;
  /** The conversation that the address names. */
  readonly conversationInAddress: () => string | null;
  /** Show a conversation in the address; `replace` leaves no entry in the history. */
  readonly setAddress: (conversationId: string | null, replace: boolean) => void;
  readonly nowSeconds: () => number;
  readonly later: (callback: () => void, ms: number) => void;
}

const STATUS_POLL_MS = 2_000;
/** A list that could not be had is asked for again after so long. */
const LIST_RETRY_MS = 3_000;

export class Controller {
  private shown: PageState;
  private readonly subscribers = new Set<() => void>();
  private isFramePlanned = false;
  private local = 0;
  private isListLoading = false;

  constructor(
    private readonly chat: ChatClient,
    private readonly surroundings: Surroundings,
  ) {
    this.shown = model.initialState(chat.status);
  }

  get state(): PageState {
    return this.shown;
  }

  subscribe(subscriber: () => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  start(): void {
    this.chat.listen((notice) => {
      this.hear(notice);
    });
    this.chat.start();
    this.followAddress();
    void this.loadList();
    void this.loadChoices();
    void this.pollStatus();
  }

  /** The address changed: show what it names. */
  followAddress(): void {
    const conversationId = this.surroundings.conversationInAddress();
    if (conversationId === null) this.update({ ...this.shown, current: null });
    else void this.show(conversationId);
  }

  open(conversationId: string): void {
    this.surroundings.setAddress(conversationId, false);
    void this.show(conversationId);
  }

  startNew(): void {
    this.surroundings.setAddress(null, false);
    this.update({ ...this.shown, current: null });
  }

  send(text: string): void {
    this.say(model.currentThread(this.shown) ?? this.blankThread(), text, this.chat.newMessageId());
  }

  /** Have what failed done again: the message sent, or its reply written. */
  retry(entry: Entry): void {
    const thread = model.currentThread(this.shown);
    if (!thread || model.retryable(thread) !== entry) return;
    if (entry.role === "user" && entry.clientMessageId !== null) this.say(thread, entry.text, entry.clientMessageId);
    else if (thread.conversationId !== null) {
      const id = this.chat.newMessageId();
      this.update(model.retried(this.shown, thread.key, id));
      this.chat.retry(thread.conversationId, id);
    }
  }

  /** Name this model with each message from now on; null: none. */
  choose(name: string | null): void {
    this.update({ ...this.shown, chosen: name });
  }

  stop(): void {
    const thread = model.currentThread(this.shown);
    if (!thread || !model.isRunning(thread) || thread.isStopping) return;
    this.update(model.changeThread(this.shown, thread.key, { isStopping: true }));
    if (thread.pendingId !== null) this.chat.cancelMessage(thread.pendingId);
    else if (thread.activeGenerationId !== null) this.chat.cancel(thread.activeGenerationId);
  }

  async rename(conversationId: string, title: string): Promise<void> {
    const before = this.shown.list.items.find((item) => item.conversation_id === conversationId)?.title ?? "";
    this.update(model.renamed(this.shown, conversationId, title));
    try {
      const stored = await this.chat.rest.rename(conversationId, title);
      this.update(model.renamed(this.shown, conversationId, stored.title));
    } catch (error) {
      this.update(model.renamed(this.shown, conversationId, before));
      this.fail(eventErrorOf(error));
    }
  }

  async remove(conversationId: string): Promise<void> {
    try {
      await this.chat.rest.remove(conversationId);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) {
        this.fail(eventErrorOf(error));
        return;
      }
    }
    this.chat.forget(conversationId);
    if (this.shown.current === conversationId) this.surroundings.setAddress(null, true);
    this.update({ ...model.removed(this.shown, conversationId), announcement: "The conversation was deleted." });
  }

  async loadMore(): Promise<void> {
    const { next } = this.shown.list;
    if (next === null) return;
    try {
      const page = await this.chat.rest.conversations(next);
      const list = model.listed(this.shown.list, page.conversations, page.next, true);
      this.update({ ...this.shown, list });
    } catch (error) {
      this.fail(eventErrorOf(error));
    }
  }

  dismissFault(): void {
    this.update({ ...this.shown, fault: null });
  }

  /** Show a conversation: what is known of it at once, and what is stored as soon as it is there. */
  async show(conversationId: string): Promise<void> {
    const known = this.shown.threads[conversationId];
    const thread = known ?? model.newThread(conversationId, conversationId, this.titleOf(conversationId));
    this.update({ ...model.withThread(this.shown, thread), current: conversationId });
    // What runs is followed: it is newer than anything that could be asked for.
    if (known && (model.isRunning(known) || known.phase === "loading")) return;
    await this.load(conversationId);
  }

  /** Ask again for a conversation that could not be had. */
  async reload(conversationId: string): Promise<void> {
    this.update(model.changeThread(this.shown, conversationId, { phase: "loading" }));
    await this.load(conversationId);
  }

  private async load(conversationId: string): Promise<void> {
    try {
      const conversation = await this.chat.rest.conversation(conversationId);
      const active = conversation.active_generation_id;
      this.update(model.opened(this.shown, conversation, active === null ? null : this.chat.reply(active)));
      if (active !== null) this.chat.follow(conversationId, active);
    } catch (error) {
      const phase = error instanceof ApiError && error.status === 404 ? "gone" : "failed";
      const isShown = this.shown.threads[conversationId]?.phase === "ready" && phase === "failed";
      // What is shown already stays; it is only perhaps not the newest.
      if (!isShown) {
        this.update(model.changeThread(this.shown, conversationId, { phase, error: eventErrorOf(error) }));
      }
    }
  }

  private say({ key, conversationId }: Thread, text: string, clientMessageId: string): void {
    this.update(model.said(this.shown, key, clientMessageId, text));
    const { chosen } = this.shown;
    this.chat.send(text, {
      clientMessageId,
      ...(conversationId === null ? {} : { conversationId }),
      ...(chosen === null ? {} : { model: chosen }),
    });
  }

  private blankThread(): Thread {
    this.local += 1;
    const thread = model.newThread(`new-${this.local}`, null);
    this.update({ ...model.withThread(this.shown, thread), current: thread.key });
    return thread;
  }

  private titleOf(conversationId: string): string {
    return this.shown.list.items.find((item) => item.conversation_id === conversationId)?.title ?? "";
  }

  private hear(notice: ChatNotice): void {
    switch (notice.kind) {
      case "connection":
        this.connectionChanged(notice.status);
        break;
      case "hello":
        void this.loadList();
        void this.loadChoices();
        break;
      case "model":
        this.modelChanged(notice.model);
        break;
      case "accepted":
        this.messageAccepted(notice.accepted);
        break;
      case "reply":
        this.replyChanged(notice.reply);
        break;
      case "snapshot": {
        const active = notice.conversation.active_generation_id;
        const reply = active === null ? null : this.chat.reply(active);
        this.update(model.opened(this.shown, notice.conversation, reply));
        break;
      }
      default:
        this.hearTrouble(notice);
    }
  }

  private hearTrouble(notice: ChatNotice): void {
    if (notice.kind === "refused") this.messageRefused(notice.clientMessageId, notice.error);
    else if (notice.kind === "cancel_refused") this.cancelRefused(notice.generationId, notice.error);
    else if (notice.kind === "gone") {
      this.update(model.changeThread(this.shown, notice.conversationId, { phase: "gone", activeGenerationId: null }));
    } else if (notice.kind === "fault" && notice.error.code !== "malformed_event") this.fail(notice.error);
  }

  private connectionChanged(connection: PageState["connection"]): void {
    const before = connectionLabel(this.shown.connection, this.shown.wasConnected);
    const wasConnected = this.shown.wasConnected || connection.phase === "connected";
    const now = connectionLabel(connection, this.shown.wasConnected);
    const next = { ...this.shown, connection, wasConnected };
    if (before === null && now !== null) this.update({ ...next, announcement: `Connection lost. ${now}` });
    else if (before !== null && now === null) this.update({ ...next, announcement: "Connected again." });
    else this.update(next);
  }

  private modelChanged(next: NonNullable<PageState["model"]>): void {
    const becameReady = this.shown.model?.ready === false && next.ready;
    const note = becameReady ? { announcement: "The model is ready." } : {};
    this.update({ ...this.shown, model: next, ...note });
  }

  private messageAccepted(event: AcceptedEvent): void {
    const wasCurrent = model.currentThread(this.shown)?.pendingId === event.client_message_id;
    const next = model.accepted(this.shown, event);
    const title = next.threads[event.conversation_id]?.title ?? "";
    const list = model.touched(next.list, event.conversation_id, title, this.surroundings.nowSeconds());
    this.update({ ...next, list });
    if (wasCurrent && this.surroundings.conversationInAddress() !== event.conversation_id) {
      this.surroundings.setAddress(event.conversation_id, true);
    }
  }

  private replyChanged(reply: Reply): void {
    const next = model.replyChanged(this.shown, reply);
    if (!reply.end) {
      this.update(next);
      return;
    }
    const entry = next.threads[reply.conversationId]?.entries.find((each) => each.generationId === reply.generationId);
    const isShown = next.current === reply.conversationId;
    this.update(entry && isShown ? { ...next, announcement: announcement(entry) } : next);
    void this.loadList();
  }

  private messageRefused(clientMessageId: string, error: EventError): void {
    const thread = Object.values(this.shown.threads).find(({ pendingId }) => pendingId === clientMessageId);
    const wasRetry = thread?.entries.every(
      (entry) => !(entry.role === "user" && entry.clientMessageId === clientMessageId),
    );
    const next = model.refused(this.shown, clientMessageId, error);
    this.update({ ...next, announcement: `Not sent: ${error.message}`, fault: wasRetry ? error : next.fault });
    if (wasRetry && thread?.conversationId) void this.load(thread.conversationId);
  }

  private cancelRefused(generationId: string, error: EventError): void {
    const thread = Object.values(this.shown.threads).find((each) => each.activeGenerationId === generationId);
    const next = thread ? model.changeThread(this.shown, thread.key, { isStopping: false }) : this.shown;
    this.update({ ...next, fault: error });
  }

  private async loadList(): Promise<void> {
    if (this.isListLoading) return;
    this.isListLoading = true;
    try {
      const page = await this.chat.rest.conversations();
      const { list } = this.shown;
      // Later pages that are shown stay.
      const isLonger = list.items.length > page.conversations.length && page.next !== null;
      const known = new Set(page.conversations.map((item) => item.conversation_id));
      const rest = isLonger ? list.items.filter((item) => !known.has(item.conversation_id)) : [];
      const items = [...page.conversations, ...rest];
      this.update({ ...this.shown, list: { phase: "ready", items, next: isLonger ? list.next : page.next } });
    } catch {
      if (this.shown.list.phase !== "ready") {
        this.update({ ...this.shown, list: { ...this.shown.list, phase: "failed" } });
        this.surroundings.later(() => void this.loadList(), LIST_RETRY_MS);
      }
    } finally {
      this.isListLoading = false;
    }
  }

  private async loadChoices(): Promise<void> {
    try {
      const { models } = await this.chat.rest.models();
      this.update(model.offered(this.shown, models));
    } catch {
      // A service that tells of no models offers no choice; what was offered stays until it is known better.
    }
  }

  /** Until a connection tells the model's state by itself, ask for it. */
  private async pollStatus(): Promise<void> {
    if (this.shown.connection.phase === "connected") return;
    try {
      const { model: next } = await this.chat.rest.status();
      if (this.state.connection.phase !== "connected") this.modelChanged(next);
    } catch {
      // The banner says that there is no connection; there is nothing to add.
    }
    this.surroundings.later(() => void this.pollStatus(), STATUS_POLL_MS);
  }

  private fail(error: EventError): void {
    this.update({ ...this.shown, fault: error });
  }

  private update(next: PageState): void {
    this.shown = next;
    if (this.isFramePlanned) return;
    this.isFramePlanned = true;
    this.surroundings.nextFrame(() => {
      this.isFramePlanned = false;
      for (const subscriber of this.subscribers) subscriber();
    });
  }
}
