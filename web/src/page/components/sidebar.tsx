/** The list of conversations: choose, rename, delete, begin. */

import { Component, createRef, type JSX } from "preact";
import type { ConversationSummary } from "../../client/index.js";
import type { ListState } from "../model.js";
import { Icon } from "./icons.js";

export interface SidebarProps {
  readonly list: ListState;
  readonly current: string | null;
  readonly onOpen: (conversationId: string) => void;
  readonly onNew: () => void;
  readonly onRename: (conversationId: string, title: string) => void;
  readonly onRemove: (conversation: ConversationSummary) => void;
  readonly onMore: () => void;
}

interface SidebarState {
  readonly renaming: string | null;
}

export class Sidebar extends Component<SidebarProps, SidebarState> {
  override state: SidebarState = { renaming: null };

  override render(): JSX.Element {
    const { list, onNew, onMore } = this.props;
    return (
      <div class="sidebar-inner">
        <button type="button" class="button new-conversation" data-testid="new-conversation" onClick={onNew}>
          <Icon name="add" />
          New conversation
        </button>
        <ul class="conversations" data-testid="conversation-list" aria-label="Conversations">
          {list.items.map((item) => this.item(item))}
        </ul>
        {list.items.length === 0 && <p class="list-note">{emptyNote(list)}</p>}
        {list.next !== null && (
          <button type="button" class="button" onClick={onMore}>
            Show more
          </button>
        )}
      </div>
    );
  }

  private item(item: ConversationSummary): JSX.Element {
    const id = item.conversation_id;
    const isRenaming = this.state.renaming === id;
    const isCurrent = id === this.props.current;
    return (
      <li
        key={id}
        class={isCurrent ? "conversation conversation-current" : "conversation"}
        data-testid="conversation-item"
        data-conversation={id}
      >
        {isRenaming ? (
          <RenameBox
            title={item.title}
            onDone={(next) => {
              this.finishRename(item, next);
            }}
          />
        ) : (
          this.controls(item, isCurrent)
        )}
      </li>
    );
  }

  private controls(item: ConversationSummary, isCurrent: boolean): JSX.Element {
    const { onOpen, onRemove } = this.props;
    const id = item.conversation_id;
    const title = item.title || "Untitled";
    return (
      <>
        <button
          type="button"
          class="conversation-open"
          id={`open-${id}`}
          aria-current={isCurrent ? "true" : undefined}
          title={title}
          onClick={() => {
            onOpen(id);
          }}
        >
          {title}
        </button>
        <IconButton
          icon="rename"
          name={`Rename “${title}”`}
          onClick={() => {
            this.setState({ renaming: id });
          }}
        />
        <IconButton
          icon="remove"
          name={`Delete “${title}”`}
          onClick={() => {
            onRemove(item);
          }}
        />
      </>
    );
  }

  private finishRename(item: ConversationSummary, next: string | null): void {
    const title = next?.trim() ?? "";
    this.setState({ renaming: null }, () => {
      document.getElementById(`open-${item.conversation_id}`)?.focus();
    });
    if (title !== "" && title !== item.title) this.props.onRename(item.conversation_id, title);
  }
}

interface IconButtonProps {
  readonly icon: "rename" | "remove";
  readonly name: string;
  readonly onClick: () => void;
}

function IconButton({ icon, name, onClick }: IconButtonProps): JSX.Element {
  return (
    <button type="button" class="icon-button" data-testid={icon} aria-label={name} title={name} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

function emptyNote({ phase }: ListState): string {
  if (phase === "loading") return "Loading your conversations…";
  return phase === "failed"
    ? "Your conversations cannot be loaded at the moment."
    : "Your conversations will stand here.";
}

interface RenameBoxProps {
  readonly title: string;
  /** With the new title, or null where it was not wanted. */
  readonly onDone: (title: string | null) => void;
}

const MAX_TITLE_CHARACTERS = 200;

class RenameBox extends Component<RenameBoxProps> {
  private readonly input = createRef<HTMLInputElement>();
  private isDone = false;

  override componentDidMount(): void {
    this.input.current?.focus();
    this.input.current?.select();
  }

  override render(): JSX.Element {
    return (
      <input
        ref={this.input}
        class="rename"
        data-testid="rename-input"
        aria-label="New title"
        maxLength={MAX_TITLE_CHARACTERS}
        defaultValue={this.props.title}
        onKeyDown={(event) => {
          if (event.key !== "Enter" && event.key !== "Escape") return;
          event.preventDefault();
          event.stopPropagation();
          this.done(event.key === "Enter" ? event.currentTarget.value : null);
        }}
        onBlur={(event) => {
          this.done(event.currentTarget.value);
        }}
      />
    );
  }

  private done(title: string | null): void {
    if (this.isDone) return;
    this.isDone = true;
    this.props.onDone(title);
  }
}
