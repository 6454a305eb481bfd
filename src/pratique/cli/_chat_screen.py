"""How a chat looks in a terminal: replies on standard output as they come, everything else on standard error.

On a terminal, control characters in what others wrote are left out, so that a reply cannot move the cursor or set the
title. Into a pipe a reply is written once, when it is whole, exactly as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO, assert_never

from rich.console import Console
from rich.markup import escape

from pratique.client import (
    Accepted,
    Continued,
    Ended,
    FinishReason,
    ModelReplica,
    ModelState,
    ModelStatus,
    Reconnecting,
    Replaced,
    Resumed,
    Role,
    Started,
    Token,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pratique.client import Conversation, ConversationSummary, EventError, ReplyEvent

__all__ = ["Screen", "clean", "describe_replica"]

_KEPT: Final = frozenset("\n\t")
_CONTROLS: Final = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in _KEPT}
_END_NOTES: Final = {
    FinishReason.STOP: "",
    FinishReason.LENGTH: "The reply reached its length limit.",
    FinishReason.CANCELLED: "Stopped. /retry answers again.",
    FinishReason.TIMEOUT: "The reply took too long and was cut short. /retry answers again.",
    FinishReason.ERROR: "The reply failed. /retry answers again.",
}


class Screen:
    """Writes; reads nothing and decides nothing."""

    def __init__(self, *, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._console = Console(file=err, highlight=False, soft_wrap=True)
        self.is_terminal = out.isatty()
        self._is_reconnecting = False
        self._is_in_line = False
        self._last_model = ""

    def show(self, event: ReplyEvent) -> None:
        """Show what happened to a reply."""
        match event:
            case Token():
                self._write(event.text)
            case Replaced():
                self._replace(event.text)
            case Ended():
                self._end(event.finish_reason, event.error)
            case Started():
                self._show_cut(event)
            case Continued():
                self.note("Another model server goes on with the reply.")
            case Reconnecting() | Resumed():
                self._show_link(event)
            case ModelState():
                self.show_model(ModelStatus(ready=event.ready, replicas=event.replicas))
            case Accepted():
                pass
            case _:
                assert_never(event)

    def show_model(self, model: ModelStatus) -> None:
        """Say what a model that is not ready is doing; once for each change."""
        line = "" if model.ready else "; ".join(map(describe_replica, model.replicas)) or "no model server is known"
        if line and line != self._last_model:
            self.note(f"No model is ready yet: {line}")
        self._last_model = line

    def note(self, text: str) -> None:
        """Say something that is not part of a reply."""
        self._end_line()
        self._console.print(f"[dim]{escape(clean(text))}[/dim]")

    def fail(self, message: str, hint: str | None = None) -> None:
        """Say what went wrong, and what to do."""
        self._end_line()
        self._console.print(f"[red]{escape(clean(message))}[/red]" + (f" {escape(clean(hint))}" if hint else ""))

    def print_data(self, text: str) -> None:
        """Write one line of data."""
        self._out.write(text + "\n")
        self._out.flush()

    def list_conversations(self, conversations: Iterable[ConversationSummary]) -> None:
        """Number them, newest first, as /open takes them."""
        for number, conversation in enumerate(conversations, start=1):
            self._console.print(
                f"{number:3}  {escape(clean(conversation.title))}  [dim]{conversation.conversation_id}[/dim]"
            )

    def show_conversation(self, conversation: Conversation) -> None:
        """Show a conversation's turns."""
        self._console.print(f"[bold]{escape(clean(conversation.title))}[/bold]")
        for turn in conversation.turns:
            if turn.role is Role.USER:
                self._console.print(f"[bold]> {escape(clean(turn.text))}[/bold]")
            else:
                self._write(turn.text) if self.is_terminal else self.print_data(turn.text)
                self._end(turn.finish_reason or FinishReason.STOP, turn.error)

    def _write(self, text: str) -> None:
        if self.is_terminal:
            shown = clean(text)
            self._out.write(shown)
            self._out.flush()
            self._is_in_line = (self._is_in_line or bool(shown)) and not shown.endswith("\n")

    def _end_line(self) -> None:
        if self._is_in_line:
            self._out.write("\n")
            self._out.flush()
            self._is_in_line = False

    def _replace(self, text: str) -> None:
        if self.is_terminal:
            self.note("The stored reply differs from what was shown; this is it:")
        self._write(text)

    def _end(self, reason: FinishReason, error: EventError | None) -> None:
        self._end_line()
        if error is not None:
            self.fail(error.message, error.hint)
        if self.is_terminal and _END_NOTES[reason]:
            self.note(_END_NOTES[reason])

    def _show_cut(self, started: Started) -> None:
        if started.turns_dropped:
            turns = "1 earlier turn" if started.turns_dropped == 1 else f"{started.turns_dropped} earlier turns"
            self.note(f"The model does not see {turns} of this conversation: its context is full.")
        elif started.was_truncated:
            self.note("The model does not see all of this conversation: its context is full.")

    def _show_link(self, event: Reconnecting | Resumed) -> None:
        if isinstance(event, Resumed):
            self._is_reconnecting = False
        elif not self._is_reconnecting:
            self._is_reconnecting = True
            self.note(f"Reconnecting… ({event.reason})")


def describe_replica(replica: ModelReplica) -> str:
    """Say what a model server is doing: "inference-0 is loading weights 40 %, about 12 s"."""
    doing = replica.detail or replica.state.replace("_", " ")
    share = "" if replica.progress is None else f" {replica.progress:.0%}".replace("%", " %")
    left = "" if replica.eta_seconds is None else f", about {replica.eta_seconds:.0f} s"
    return f"{replica.name}: {doing}{share}{left}"


def clean(text: str) -> str:
    """Return the text without control characters other than line breaks and tabs."""
    return text.translate(_CONTROLS)
