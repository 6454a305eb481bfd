/** Where people write. Keeps a draft for each conversation. */

import {
  Component,
  createRef,
  type JSX,
  type RefObject,
  type TargetedEvent,
  type TargetedInputEvent,
  type TargetedKeyboardEvent,
} from "preact";
import type { ModelChoice } from "../../client/index.js";
import { choiceLabel, composerState, type Composing } from "../labels.js";
import { Icon } from "./icons.js";

export interface ComposerProps extends Omit<Composing, "text"> {
  /** Which draft is shown. */
  readonly threadKey: string;
  /** Gets the box that people write in, to put the focus into it. */
  readonly boxRef: RefObject<HTMLTextAreaElement | null>;
  readonly choices: readonly ModelChoice[];
  readonly chosen: string | null;
  readonly onChoose: (name: string | null) => void;
  readonly onSend: (text: string) => void;
  readonly onStop: () => void;
}

interface ComposerViewState {
  readonly drafts: Readonly<Record<string, string>>;
}

export class Composer extends Component<ComposerProps, ComposerViewState> {
  override state: ComposerViewState = { drafts: {} };
  private readonly stopButton = createRef<HTMLButtonElement>();
  private wasStopFocused = false;

  override componentWillUpdate(next: ComposerProps): void {
    // A control that goes away takes the focus with it: the box gets it.
    this.wasStopFocused = this.props.isRunning && !next.isRunning && document.activeElement === this.stopButton.current;
  }

  override componentDidUpdate(): void {
    if (this.wasStopFocused) this.props.boxRef.current?.focus();
  }

  override render(): JSX.Element {
    const text = this.text;
    const { canSend, hint, isProblem } = composerState({ ...this.props, text });
    return (
      <form class="composer" onSubmit={this.submit} autocomplete="off">
        <div class="composer-box">
          <label class="visually-hidden" for="composer">
            Message
          </label>
          <textarea
            id="composer"
            data-testid="composer"
            ref={this.props.boxRef}
            rows={1}
            value={text}
            placeholder="Write a message"
            aria-describedby="composer-hint"
            aria-invalid={isProblem}
            spellcheck
            enterkeyhint="send"
            onInput={this.edit}
            onKeyDown={this.key}
          />
          {this.props.isRunning ? this.stopControl() : this.sendControl(canSend)}
        </div>
        <div class="composer-foot">
          <p id="composer-hint" class={isProblem ? "hint hint-problem" : "hint"}>
            {hint}
          </p>
          {this.props.choices.length > 1 && this.chooser()}
        </div>
      </form>
    );
  }

  private get text(): string {
    return this.state.drafts[this.props.threadKey] ?? "";
  }

  private chooser(): JSX.Element {
    const { choices, chosen } = this.props;
    return (
      <select class="chooser" data-testid="model-choice" aria-label="Model" onChange={this.choose}>
        <option value="" selected={chosen === null}>
          Model: automatic
        </option>
        {choices.map((choice) => (
          <option
            key={choice.name}
            value={choice.name}
            selected={choice.name === chosen}
            title={choice.description || undefined}
          >
            {choiceLabel(choice)}
          </option>
        ))}
      </select>
    );
  }

  private sendControl(canSend: boolean): JSX.Element {
    return (
      <button type="submit" class="button button-main" data-testid="send" disabled={!canSend}>
        <Icon name="send" />
        <span>Send</span>
      </button>
    );
  }

  private stopControl(): JSX.Element {
    return (
      <button
        type="button"
        class="button button-stop"
        data-testid="stop"
        ref={this.stopButton}
        disabled={this.props.isStopping}
        onClick={this.stop}
      >
        <Icon name="stop" />
        <span>Stop</span>
      </button>
    );
  }

  private write(text: string): void {
    const { threadKey } = this.props;
    this.setState(({ drafts }) => ({ drafts: { ...drafts, [threadKey]: text } }));
  }

  private readonly edit = (event: TargetedInputEvent<HTMLTextAreaElement>): void => {
    this.write(event.currentTarget.value);
  };

  private readonly key = (event: TargetedKeyboardEvent<HTMLTextAreaElement>): void => {
    // While an input method composes, Enter chooses a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.altKey) return;
    event.preventDefault();
    this.send();
  };

  private readonly choose = (event: TargetedEvent<HTMLSelectElement>): void => {
    this.props.onChoose(event.currentTarget.value || null);
  };

  private readonly stop = (): void => {
    this.props.onStop();
    // The button cannot be pressed twice, and a disabled control keeps no focus.
    this.props.boxRef.current?.focus();
  };

  private readonly submit = (event: Event): void => {
    event.preventDefault();
    this.send();
  };

  private send(): void {
    const text = this.text;
    if (!composerState({ ...this.props, text }).canSend) return;
    this.write("");
    this.props.onSend(text.trim());
    this.props.boxRef.current?.focus();
  }
}
