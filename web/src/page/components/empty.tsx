/** What stands where there are no messages: a beginning, a wait, or what went wrong. */

import type { JSX } from "preact";
import type { Thread } from "../model.js";

const EXAMPLES = [
  "What is the capital of France?",
  "Explain what a harbour pilot does, in three sentences.",
  "Write a haiku about rain on a roof.",
] as const;

export interface WelcomeProps {
  readonly canSend: boolean;
  readonly onAsk: (text: string) => void;
}

export function Welcome({ canSend, onAsk }: WelcomeProps): JSX.Element {
  return (
    <div class="blank">
      <img src="/mark.svg" alt="" width={48} height={48} />
      <h2>A new conversation</h2>
      <p>Ask the model something. What you write and what it answers stays on this service.</p>
      <ul class="examples">
        {EXAMPLES.map((text) => (
          <li key={text}>
            <button
              type="button"
              class="button"
              disabled={!canSend}
              onClick={() => {
                onAsk(text);
              }}
            >
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

export interface ThreadTroubleProps {
  readonly thread: Thread;
  readonly onReload: () => void;
  readonly onNew: () => void;
}

export function ThreadTrouble({ thread, onReload, onNew }: ThreadTroubleProps): JSX.Element {
  if (thread.phase === "loading") {
    return (
      <div class="blank">
        <p class="waiting">Loading the conversation…</p>
      </div>
    );
  }
  const isGone = thread.phase === "gone";
  return (
    <div class="blank" role="alert">
      <h2>{isGone ? "There is no such conversation" : "The conversation cannot be loaded"}</h2>
      <p>{isGone ? "It was deleted, or it belongs to somebody else." : thread.error?.message}</p>
      <button type="button" class="button" onClick={isGone ? onNew : onReload}>
        {isGone ? "Start a new one" : "Try again"}
      </button>
    </div>
  );
}
