/** The whole page: header, list, conversation, composer; and the keys that work everywhere. */

import { Component, createRef, type JSX } from "preact";
import type { ConversationSummary } from "../../client/index.js";
import type { Controller } from "../controller.js";
import { connectionLabel, waitingLabel } from "../labels.js";
import { currentThread, isRunning, type PageState, type Thread } from "../model.js";
import { Composer } from "./composer.js";
import { ConfirmRemoval, ShortcutList } from "./dialogs.js";
import { ThreadTrouble, Welcome } from "./empty.js";
import { Icon } from "./icons.js";
import { Sidebar } from "./sidebar.js";
import { ConnectionBanner, FaultNote, ModelState } from "./status.js";
import { ThreadView } from "./thread.js";

interface AppProps {
  readonly controller: Controller;
}

interface AppState {
  readonly page: PageState;
  readonly isMenuOpen: boolean;
  readonly removing: ConversationSummary | null;
  readonly hasShortcuts: boolean;
}

export class App extends Component<AppProps, AppState> {
  override state: AppState;
  private readonly composer = createRef<HTMLTextAreaElement>();
  private readonly menuButton = createRef<HTMLButtonElement>();
  private readonly wide = window.matchMedia("(min-width: 48rem)");
  private unsubscribe: (() => void) | null = null;

  constructor(props: AppProps) {
    super(props);
    this.state = { page: props.controller.state, isMenuOpen: false, removing: null, hasShortcuts: false };
  }

  override componentDidMount(): void {
    this.unsubscribe = this.props.controller.subscribe(() => {
      this.setState({ page: this.props.controller.state });
    });
    document.addEventListener("keydown", this.key);
    this.wide.addEventListener("change", this.leaveMenu);
    if (!this.isTouched) this.composer.current?.focus();
  }

  override componentWillUnmount(): void {
    this.unsubscribe?.();
    document.removeEventListener("keydown", this.key);
    this.wide.removeEventListener("change", this.leaveMenu);
  }

  override componentDidUpdate(): void {
    const { page } = this.state;
    const title = currentThread(page)?.title;
    document.title = title ? `${title} · pratique` : "pratique";
  }

  override render(): JSX.Element {
    const { page, isMenuOpen } = this.state;
    return (
      <>
        <a class="skip" href="#composer" onClick={this.skip}>
          Skip to the message box
        </a>
        {this.header()}
        <div class={isMenuOpen ? "columns menu-open" : "columns"}>
          <nav id="sidebar" class="sidebar" aria-label="Conversations">
            {this.sidebar()}
          </nav>
          {isMenuOpen && <div class="shade" onClick={this.closeMenu} aria-hidden="true" />}
          <main class="main" inert={isMenuOpen}>
            {this.notices()}
            {this.content(currentThread(page))}
            {this.composing(currentThread(page))}
          </main>
        </div>
        <div class="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
          {page.announcement}
        </div>
        {this.dialogs()}
      </>
    );
  }

  private header(): JSX.Element {
    return (
      <header class="header">
        <button
          type="button"
          class="icon-button menu-button"
          data-testid="menu"
          ref={this.menuButton}
          aria-label="Conversations"
          aria-expanded={this.state.isMenuOpen}
          aria-controls="sidebar"
          onClick={this.toggleMenu}
        >
          <Icon name={this.state.isMenuOpen ? "close" : "menu"} />
        </button>
        <img src="/mark.svg" alt="" width={26} height={26} />
        <h1>pratique</h1>
        <ModelState model={this.state.page.model} />
        <button
          type="button"
          class="icon-button keys-button"
          aria-label="Keyboard shortcuts"
          title="Keyboard shortcuts (Ctrl + /)"
          onClick={this.showShortcuts}
        >
          <Icon name="keys" />
        </button>
      </header>
    );
  }

  private sidebar(): JSX.Element {
    const { controller } = this.props;
    return (
      <Sidebar
        list={this.state.page.list}
        current={this.state.page.current}
        onOpen={this.open}
        onNew={this.startNew}
        onRename={(id, title) => void controller.rename(id, title)}
        onRemove={(removing) => {
          this.setState({ removing });
        }}
        onMore={() => void controller.loadMore()}
      />
    );
  }

  private notices(): JSX.Element {
    const { page } = this.state;
    const label = connectionLabel(page.connection, page.wasConnected);
    return (
      <>
        {label !== null && <ConnectionBanner label={label} />}
        {page.fault && (
          <FaultNote
            fault={page.fault}
            onDismiss={() => {
              this.props.controller.dismissFault();
              this.composer.current?.focus();
            }}
          />
        )}
      </>
    );
  }

  private content(thread: Thread | null): JSX.Element {
    const { controller } = this.props;
    if (!thread) return <Welcome canSend onAsk={this.send} />;
    if (thread.phase !== "ready") {
      const reload = (): void => void controller.reload(thread.key);
      return <ThreadTrouble thread={thread} onReload={reload} onNew={this.startNew} />;
    }
    return (
      <>
        <h2 class="visually-hidden">{thread.title || "New conversation"}</h2>
        <ThreadView
          key={thread.viewKey}
          thread={thread}
          waitingFor={waitingLabel(this.state.page.model)}
          onRetry={this.retry}
        />
      </>
    );
  }

  private composing(thread: Thread | null): JSX.Element {
    const { page } = this.state;
    return (
      <Composer
        boxRef={this.composer}
        threadKey={thread?.viewKey ?? "new"}
        isRunning={isRunning(thread)}
        isStopping={thread?.isStopping ?? false}
        isConnected={page.connection.phase === "connected" || !page.wasConnected}
        isModelReady={page.model?.ready !== false}
        isUnavailable={thread !== null && thread.phase !== "ready"}
        choices={page.choices}
        chosen={page.chosen}
        onChoose={this.choose}
        onSend={this.send}
        onStop={this.stop}
      />
    );
  }

  private dialogs(): JSX.Element | null {
    const { removing, hasShortcuts } = this.state;
    if (removing) {
      return (
        <ConfirmRemoval title={removing.title || "Untitled"} onCancel={this.closeDialog} onConfirm={this.remove} />
      );
    }
    return hasShortcuts ? <ShortcutList onClose={this.closeDialog} /> : null;
  }

  private readonly send = (text: string): void => {
    this.props.controller.send(text);
    this.composer.current?.focus();
  };

  private readonly choose = (name: string | null): void => {
    this.props.controller.choose(name);
  };

  private readonly stop = (): void => {
    this.props.controller.stop();
  };

  private readonly retry = (entry: Parameters<Controller["retry"]>[0]): void => {
    this.props.controller.retry(entry);
    this.composer.current?.focus();
  };

  private readonly open = (conversationId: string): void => {
    this.setState({ isMenuOpen: false });
    this.props.controller.open(conversationId);
    // On a touch screen the focus would bring up the keyboard over the conversation.
    if (!this.isTouched) this.composer.current?.focus();
  };

  private readonly startNew = (): void => {
    this.setState({ isMenuOpen: false }, () => this.composer.current?.focus());
    this.props.controller.startNew();
  };

  private readonly remove = (): void => {
    const { removing } = this.state;
    this.closeDialog();
    if (removing)
      void this.props.controller.remove(removing.conversation_id).then(() => this.composer.current?.focus());
  };

  private readonly closeDialog = (): void => {
    this.setState({ removing: null, hasShortcuts: false });
  };

  private readonly showShortcuts = (): void => {
    this.setState({ hasShortcuts: true });
  };

  private readonly toggleMenu = (): void => {
    this.setState(({ isMenuOpen }) => ({ isMenuOpen: !isMenuOpen }));
  };

  private get isTouched(): boolean {
    return window.matchMedia("(pointer: coarse)").matches;
  }

  private readonly leaveMenu = (): void => {
    this.setState({ isMenuOpen: false });
  };

  private readonly closeMenu = (): void => {
    this.setState({ isMenuOpen: false });
    this.menuButton.current?.focus();
  };

  private readonly skip = (event: Event): void => {
    // The hash is the address of the conversation.
    event.preventDefault();
    this.composer.current?.focus();
  };

  private readonly key = (event: KeyboardEvent): void => {
    const { removing, hasShortcuts } = this.state;
    if (removing || hasShortcuts || event.isComposing) return;
    if (this.escape(event) || this.controlKey(event) || this.altKey(event)) event.preventDefault();
  };

  private escape({ key }: KeyboardEvent): boolean {
    if (key !== "Escape") return false;
    if (this.state.isMenuOpen) this.closeMenu();
    else if (isRunning(currentThread(this.state.page))) this.stop();
    else return false;
    return true;
  }

  private controlKey({ ctrlKey, metaKey, key }: KeyboardEvent): boolean {
    if (!(ctrlKey || metaKey) || key !== "/") return false;
    this.showShortcuts();
    return true;
  }

  private altKey({ altKey, ctrlKey, metaKey, code }: KeyboardEvent): boolean {
    if (!altKey || ctrlKey || metaKey) return false;
    if (code === "KeyN") this.startNew();
    else if (code === "KeyM") this.composer.current?.focus();
    else if (code === "ArrowUp") this.step(-1);
    else if (code === "ArrowDown") this.step(1);
    else return false;
    return true;
  }

  private step(by: number): void {
    const { list, current } = this.state.page;
    const at = list.items.findIndex((item) => item.conversation_id === current);
    const next = list.items[at === -1 ? 0 : at + by];
    if (next) this.open(next.conversation_id);
  }
}
