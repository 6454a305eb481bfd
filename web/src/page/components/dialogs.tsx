/** Dialogs: the browser's own element keeps the focus inside and gives it back. */

import { Component, createRef, type ComponentChildren, type JSX } from "preact";

interface DialogProps {
  readonly titleId: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}

class Dialog extends Component<DialogProps> {
  private readonly element = createRef<HTMLDialogElement>();

  override componentDidMount(): void {
    this.element.current?.showModal();
  }

  override componentWillUnmount(): void {
    this.element.current?.close();
  }

  override render(): JSX.Element {
    const { titleId, onClose, children } = this.props;
    return (
      <dialog
        ref={this.element}
        class="dialog"
        aria-labelledby={titleId}
        onClose={onClose}
        onCancel={(event) => {
          event.preventDefault();
          onClose();
        }}
      >
        {children}
      </dialog>
    );
  }
}

export interface ConfirmRemovalProps {
  readonly title: string;
  readonly onCancel: () => void;
  readonly onConfirm: () => void;
}

export function ConfirmRemoval({ title, onCancel, onConfirm }: ConfirmRemovalProps): JSX.Element {
  return (
    <Dialog titleId="removal-title" onClose={onCancel}>
      <h2 id="removal-title">Delete this conversation?</h2>
      <p>“{title}” and all of its messages will be deleted. This cannot be undone.</p>
      <div class="dialog-actions">
        <button type="button" class="button" data-testid="cancel-delete" onClick={onCancel}>
          Keep it
        </button>
        <button type="button" class="button button-danger" data-testid="confirm-delete" onClick={onConfirm}>
          Delete
        </button>
      </div>
    </Dialog>
  );
}

export const SHORTCUTS: readonly (readonly [keys: string, effect: string])[] = [
  ["Enter", "Send the message"],
  ["Shift + Enter", "Start a new line"],
  ["Esc", "Stop the reply"],
  ["Alt + N", "New conversation"],
  ["Alt + ↑ / ↓", "Previous or next conversation"],
  ["Alt + M", "Go to the message box"],
  ["Ctrl + /", "Show this list"],
];

export function ShortcutList({ onClose }: { readonly onClose: () => void }): JSX.Element {
  return (
    <Dialog titleId="shortcuts-title" onClose={onClose}>
      <h2 id="shortcuts-title">Keyboard shortcuts</h2>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, effect]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{effect}</dd>
          </div>
        ))}
      </dl>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
