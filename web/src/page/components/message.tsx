/** One message of a conversation. Drawn again only when its entry changed. */

import { Component, type JSX } from "preact";
import { cutLabel, entryNote, shownText } from "../labels.js";
import type { Entry } from "../model.js";
import { Icon } from "./icons.js";
import { DetailsView } from "./details.js";
import { MarkdownView } from "./markdown-view.js";

export interface MessageProps {
  readonly entry: Entry;
  readonly canRetry: boolean;
  readonly hasHistoryNotice: boolean;
  /** What the model is doing, shown until the first word. */
  readonly waitingFor: string;
  readonly onRetry: (entry: Entry) => void;
}

export class MessageView extends Component<MessageProps> {
  override shouldComponentUpdate(next: MessageProps): boolean {
    const { entry, canRetry, hasHistoryNotice, waitingFor } = this.props;
    const isWaiting = entry.status === "streaming" && entry.text === "";
    return (
      next.entry !== entry ||
      next.canRetry !== canRetry ||
      next.hasHistoryNotice !== hasHistoryNotice ||
      (isWaiting && next.waitingFor !== waitingFor)
    );
  }

  override render(): JSX.Element {
    const { entry, hasHistoryNotice, waitingFor } = this.props;
    const isStreaming = entry.status === "streaming";
    return (
      <li
        class={`message message-${entry.role}`}
        data-testid="message"
        data-role={entry.role}
        data-status={entry.status}
        aria-busy={isStreaming}
      >
        {hasHistoryNotice && (
          <p class="history-notice" data-testid="history-notice">
            {cutLabel(entry)}
          </p>
        )}
        <span class="visually-hidden">{entry.role === "user" ? "You:" : "Reply:"}</span>
        {isStreaming && entry.text === "" ? <Waiting waitingFor={waitingFor} /> : <Body entry={entry} />}
        {entry.details && !isStreaming && <DetailsView details={entry.details} />}
        <Outcome {...this.props} />
      </li>
    );
  }
}

function Body({ entry }: { readonly entry: Entry }): JSX.Element | null {
  if (entry.role === "user") return <p class="body user-text">{entry.text}</p>;
  const text = shownText(entry);
  if (text === "") return null;
  return (
    <div class={entry.status === "streaming" ? "body prose prose-streaming" : "body prose"}>
      <MarkdownView text={text} />
    </div>
  );
}

function Waiting({ waitingFor }: { readonly waitingFor: string }): JSX.Element {
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {waitingFor}
    </p>
  );
}

/** What else is to be known of a message: sending, partial, failed and why; and the way on. */
function Outcome({ entry, canRetry, onRetry }: MessageProps): JSX.Element | null {
  const note = entry.role === "user" ? userNote(entry) : entryNote(entry);
  if (note === null && entry.error === null) return null;
  const isProblem = entry.status === "failed" || entry.error !== null;
  return (
    <div class={isProblem ? "outcome outcome-problem" : "outcome"}>
      <div class="outcome-text">
        {note !== null && <p>{note}</p>}
        {entry.error && (
          <p class="outcome-cause">{[entry.error.message, entry.error.hint].filter(Boolean).join(" ")}</p>
        )}
      </div>
      {canRetry && (
        <button
          type="button"
          class="button"
          data-testid="retry"
          onClick={() => {
            onRetry(entry);
          }}
        >
          <Icon name="retry" />
          Retry
        </button>
      )}
    </div>
  );
}

function userNote({ status }: Entry): string | null {
  if (status === "sending") return "Sending…";
  return status === "failed" ? "This message was not sent." : null;
}
