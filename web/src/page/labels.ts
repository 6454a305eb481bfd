/** What the page says, in one place. Pure. */

import {
  MAX_TEXT_CHARACTERS,
  type ConnectionStatus,
  type ModelChoice,
  type ModelReplica,
  type ModelStatus,
  type Route,
  type Source,
} from "../client/index.js";
import type { Entry } from "./model.js";

/** States of a model server, from the furthest away to the closest to taking traffic. */
const STATES: readonly (readonly [name: string, label: string])[] = [
  ["stopped", "stopped"],
  ["failed", "failed to start"],
  ["unreachable", "no model server can be reached"],
  ["draining", "stopping"],
  ["degraded", "not answering as it should"],
  ["starting", "starting"],
  ["process_alive", "loading"],
  ["model_loaded", "warming up"],
  ["traffic_ready", "ready"],
];

function rank({ state, progress }: ModelReplica): number {
  return STATES.findIndex(([name]) => name === state) + (progress ?? 0);
}

/** "loading weights 40 %" */
export function replicaLabel({ state, detail, progress }: ModelReplica): string {
  const known = STATES.find(([name]) => name === state)?.[1] ?? state;
  const percent = progress === null ? "" : ` ${Math.round(progress * 100)} %`;
  return `${detail || known}${percent}`;
}

/** "about 12 s left", or null where nobody knows or nothing is waited for. */
export function etaOf(model: ModelStatus | null): string | null {
  const eta = model && !model.ready ? (leadingReplica(model)?.eta_seconds ?? null) : null;
  return eta === null ? null : etaLabel(eta);
}

function etaLabel(seconds: number): string {
  const left = seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
  return `about ${left} left`;
}

/** The model server that is closest to taking traffic. */
export function leadingReplica(model: ModelStatus): ModelReplica | null {
  return [...model.replicas].sort((a, b) => rank(b) - rank(a))[0] ?? null;
}

/** One line about the model, for the header. */
export function modelLabel(model: ModelStatus | null): string {
  if (!model) return "asking for the model’s state";
  if (!model.ready) {
    const leading = leadingReplica(model);
    return leading ? replicaLabel(leading) : "waiting for a model server";
  }
  const ready = model.replicas.filter(({ state }) => state === "traffic_ready").length;
  const all = model.replicas.length;
  return ready < all && ready > 0 ? `ready, ${ready} of ${all} servers` : "ready";
}

/** What the banner says, or null where the connection is as it should be. */
export function connectionLabel(status: ConnectionStatus, wasConnected: boolean): string | null {
  if (status.phase === "connected" || status.phase === "stopped") return null;
  if (!wasConnected && status.losses === 0) return null;
  const what = wasConnected ? "Reconnecting…" : "Connecting…";
  return status.losses > 4 ? `${what} The service has not answered for a while; nothing is lost.` : what;
}

/** What stands where a reply will be, until its first word. */
export function waitingLabel(model: ModelStatus | null): string {
  if (model?.ready !== false) return "Waiting for the first word";
  return [`Waiting for the model: ${modelLabel(model)}`, etaOf(model)].filter(Boolean).join(", ");
}

/** Whether something of the conversation or its passages did not go with the question. */
export function isCut({ turnsDropped, wasTruncated, details }: Entry): boolean {
  return turnsDropped > 0 || wasTruncated || (details?.notice ?? null) !== null;
}

/** What was left out, in the model server's words where it said any. */
export function cutLabel({ turnsDropped, details }: Entry): string {
  return details?.notice ?? historyLabel(turnsDropped);
}

const WITHOUT: Readonly<Record<string, string>> = {
  retrieval: "Written without looking anything up: the search did not answer.",
  reduced_context: "Written with less of the conversation than usual, because memory is short.",
  routing: "Written by the default model: the rule that chooses one failed.",
};

/** What a reply had to do without. */
export function degradedLabel(what: string): string {
  return WITHOUT[what] ?? `Written without: ${what.replaceAll("_", " ")}.`;
}

/** "small" or "small, as chatbot-ja" */
export function routeLabel({ pool, model }: Route): string {
  return model === "" || model === pool ? pool : `${pool}, as ${model}`;
}

/** Why that model: the rule and its words. */
export function reasonLabel({ policy, reason }: Route): string {
  if (policy === "named") return "It was chosen for this message.";
  return reason ? `Chosen by the rule “${policy}”: ${reason}.` : `Chosen by the rule “${policy}”.`;
}

/** The sources as shown: each once, with an address only where it is one of the web. */
export function shownSources(sources: readonly Source[]): readonly Source[] {
  const shown = new Map<string, Source>();
  for (const { source_id, title, url } of sources) {
    const address = url !== null && /^https?:\/\//i.test(url) ? url : null;
    const key = address ?? title;
    if (!shown.has(key)) shown.set(key, { source_id, title, url: address });
  }
  return [...shown.values()];
}

export function choiceLabel({ name, ready }: ModelChoice): string {
  return ready ? name : `${name} (not ready)`;
}

function historyLabel(turnsDropped: number): string {
  if (turnsDropped === 0) return "Earlier messages no longer fit: a part was left out";
  const turns = turnsDropped === 1 ? "1 turn was" : `${turnsDropped} turns were`;
  return `Earlier messages no longer fit: ${turns} left out`;
}

/** What is to be known about a reply besides its text, or null. */
export function entryNote(entry: Entry): string | null {
  if (entry.role === "user" || entry.status === "streaming") return null;
  if (entry.finishReason === "length") return "The reply reached its length limit.";
  if (entry.status === "complete") return null;
  if (entry.finishReason === "cancelled") {
    return entry.text === "" ? "Stopped before the first word." : "Stopped: this reply is partial.";
  }
  return entry.status === "partial" ? "This reply is partial." : "There is no reply to this message.";
}

export interface Composing {
  readonly text: string;
  readonly isRunning: boolean;
  readonly isStopping: boolean;
  readonly isConnected: boolean;
  readonly isModelReady: boolean;
  readonly isUnavailable: boolean;
}

export interface ComposerState {
  readonly canSend: boolean;
  /** Why it cannot be sent, or what happens when it is. */
  readonly hint: string;
  readonly isProblem: boolean;
}

const KEYS = "Enter sends, Shift + Enter: new line";

/** Whether the text can be sent, and what to say about it. */
export function composerState(composing: Composing): ComposerState {
  const excess = characters(composing.text) - MAX_TEXT_CHARACTERS;
  if (excess > 0) return problem(`Too long: shorten it by ${excess.toLocaleString("en")} characters`);
  if (composing.isUnavailable) return problem("This conversation cannot be written to");
  if (composing.isStopping) return { canSend: false, hint: "Stopping the reply…", isProblem: false };
  if (composing.isRunning) {
    return { canSend: false, hint: "A reply is being written: wait for it, or press Esc to stop it", isProblem: false };
  }
  return { canSend: composing.text.trim() !== "", hint: sendingHint(composing), isProblem: false };
}

function sendingHint({ isConnected, isModelReady }: Composing): string {
  if (!isConnected) return "Not connected: your message is sent as soon as the connection is back";
  if (!isModelReady) return "The model is not ready yet: your message waits for it";
  return KEYS;
}

function problem(hint: string): ComposerState {
  return { canSend: false, hint, isProblem: true };
}

/** Characters as the service counts them: a pair of surrogates is one. */
export function characters(text: string): number {
  if (text.length <= MAX_TEXT_CHARACTERS) return text.length;
  const pairs = text.match(/[\uD800-\uDBFF][\uDC00-\uDFFF]/g)?.length ?? 0;
  return text.length - pairs;
}

/** The reply's text, or what stands in place of one that could not be made. */
export function shownText({ text, error }: Entry): string {
  return text === "" ? (error?.fallback ?? "") : text;
}

const ANNOUNCED_CHARACTERS = 1_500;

/** What a screen reader is told when a reply has ended. */
export function announcement(entry: Entry): string {
  const note = entryNote(entry);
  const text = shownText(entry);
  const said = text.length > ANNOUNCED_CHARACTERS ? `${text.slice(0, ANNOUNCED_CHARACTERS)}…` : text;
  return [said === "" ? "" : `Reply: ${said}`, note, entry.error?.message].filter(Boolean).join(" ");
}
