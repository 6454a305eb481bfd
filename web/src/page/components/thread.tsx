/** The messages of a conversation. Stays at the newest line as long as the person does. */

import { Component, createRef, type JSX } from "preact";
import { isCut } from "../labels.js";
import { retryable, type Entry, type Thread } from "../model.js";
import { Icon } from "./icons.js";
import { MessageView } from "./message.js";

export interface ThreadProps {
  readonly thread: Thread;
  readonly waitingFor: string;
  readonly onRetry: (entry: Entry) => void;
}

interface ThreadViewState {
  readonly isAtEnd: boolean;
  readonly shownCount: number;
}

/** More than a screen holds, few enough to be drawn at once. */
const SHOWN_FIRST = 80;
const SHOWN_MORE = 200;
const NEAR_PX = 64;

export class ThreadView extends Component<ThreadProps, ThreadViewState> {
  override state: ThreadViewState = { isAtEnd: true, shownCount: SHOWN_FIRST };
  private readonly scroller = createRef<HTMLDivElement>();

  override componentDidMount(): void {
    this.scrollToEnd();
  }

  override componentDidUpdate(before: ThreadProps): void {
    const { thread } = this.props;
    const hasSpoken = thread.pendingId !== null && before.thread.pendingId !== thread.pendingId;
    if (this.state.isAtEnd || hasSpoken) this.scrollToEnd();
  }

  override render(): JSX.Element {
    const { thread, waitingFor, onRetry } = this.props;
    const first = Math.max(0, thread.entries.length - this.state.shownCount);
    const offered = retryable(thread);
    const cut = thread.entries.findLast(isCut);
    return (
      <div class="thread-frame">
        <div
          class="thread"
          ref={this.scroller}
          onScroll={this.noteScroll}
          tabIndex={0}
          role="region"
          aria-label="Messages"
        >
          {first > 0 && (
            <button type="button" class="button earlier" onClick={this.showMore}>
              Show earlier messages
            </button>
          )}
          <ol class="messages">
            {thread.entries.slice(first).map((entry) => (
              <MessageView
                key={entry.key}
                entry={entry}
                canRetry={entry === offered}
                hasHistoryNotice={entry === cut}
                waitingFor={waitingFor}
                onRetry={onRetry}
              />
            ))}
          </ol>
        </div>
        {!this.state.isAtEnd && (
          <button type="button" class="button to-end" onClick={this.scrollToEnd}>
            <Icon name="down" />
            Newest
          </button>
        )}
      </div>
    );
  }

  private readonly showMore = (): void => {
    this.setState(({ shownCount }) => ({ shownCount: shownCount + SHOWN_MORE }));
  };

  private readonly scrollToEnd = (): void => {
    const element = this.scroller.current;
    if (element) element.scrollTop = element.scrollHeight;
  };

  private readonly noteScroll = (): void => {
    const element = this.scroller.current;
    if (!element) return;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX;
    if (isAtEnd !== this.state.isAtEnd) this.setState({ isAtEnd });
  };
}
