"""What is known of one reply: what was seen of it, what to ask for next, what it came to. Decides; sends nothing.

Invariants: the events of a generation are taken in the order of their numbers, each once; a number that was seen is
dropped, a number that skips one is a `GapError`; after the end nothing more is taken. So the text is exactly what the
server logged, over any number of connections. Where the server says that a running reply cannot be resumed, what was
shown of it counts for nothing: it is followed again from its beginning, and `Replaced` tells the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from pratique.client import _wire as wire
from pratique.client.errors import ReplyLostError, from_wire

__all__ = ["GapError", "Reconnecting", "Replaced", "Reply", "ReplyEvent", "ReplyState", "Resumed", "StillRunningError"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply as a whole. `text` holds what arrived, also where the reply failed later.

    `first_token_seconds` and `total_seconds` count from the call.
    """

    conversation_id: str
    generation_id: str
    user_turn_id: str | None
    turn_id: str | None
    text: str
    finish_reason: wire.FinishReason
    usage: wire.Usage | None
    error: wire.EventError | None
    was_truncated: bool
    turns_dropped: int
    details: wire.ReplyDetails | None
    """Which model answered and why, what it was given, what was left out."""
    model: str
    first_token_seconds: float | None
    total_seconds: float
    reconnects: int


@dataclass(frozen=True, kw_only=True)
class Reconnecting:
    """The connection is lost; another attempt follows after `delay_seconds`."""

    reason: str
    attempt: int
    delay_seconds: float


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A new connection answers."""

    reconnects: int


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """Forget the text so far: this is the reply's whole text, as stored."""

    text: str


ReplyEvent: TypeAlias = (
    wire.Accepted
    | wire.ModelState
    | wire.Started
    | wire.Continued
    | wire.Token
    | wire.Ended
    | Reconnecting
    | Resumed
    | Replaced
)


class GapError(Exception):
    """An event is missing: the connection cannot be trusted, ask again from the cursor."""


class StillRunningError(Exception):
    """The reply is being given, but its log is gone: ask again later for the stored turn."""


class ReplyState:
    """One reply, from the frame that asks for it to its end."""

    def __init__(self, opening: wire.Frame) -> None:
        self._opening = opening
        self.conversation_id: str | None = opening.conversation_id
        self.generation_id: str | None = None
        self.user_turn_id: str | None = None
        self.last_seq = 0
        self.started: wire.Started | None = None
        self.ended: wire.Ended | None = None
        self.details: wire.ReplyDetails | None = None
        self.is_done = False
        """No more events will come; `ended` is None where nothing was running."""
        if isinstance(opening, wire.Resume):
            self.generation_id = opening.generation_id
            self.last_seq = opening.last_seq
        self._pieces: list[str] = []
        self._begins_anew = False
        self._shown_seq = 0
        """The last number before it was to begin anew; it counts again where the stored turn ends the reply instead."""
        self._knows_beginning = self.last_seq == 0

    @property
    def text(self) -> str:
        """What arrived so far."""
        return "".join(self._pieces)

    def next_frame(self) -> wire.Frame:
        """Return what to send on a new connection: the same message until it is accepted, the cursor from then on."""
        if self.conversation_id is None or self.generation_id is None:
            return self._opening
        return wire.Resume(
            conversation_id=self.conversation_id, generation_id=self.generation_id, last_seq=self.last_seq
        )

    def take(self, event: wire.ServerEvent) -> tuple[ReplyEvent, ...]:
        """Take in one event; return what is new to the caller.

        Raises:
            GapError: events are missing before this one.
            StillRunningError: nothing to see yet, ask again later.
            ClientError: the server refused, or no longer knows the reply.
        """
        match event:
            case wire.Started() | wire.Continued() | wire.Token() | wire.Ended():
                return self._take_numbered(event)
            case wire.Accepted() | wire.Reconnected() | wire.NotResumable() | wire.ErrorEvent():
                return self._take_answer(event)
            case wire.ModelState():
                return (event,)
            case wire.Hello() | wire.Heartbeat() | wire.Pong() | wire.GoingAway():
                return ()
            case _:
                assert_never(event)

    def _take_answer(
        self, event: wire.Accepted | wire.Reconnected | wire.NotResumable | wire.ErrorEvent
    ) -> tuple[ReplyEvent, ...]:
        match event:
            case wire.Accepted():
                return self._accept(event)
            case wire.Reconnected():
                return self._take_reconnected(event)
            case wire.NotResumable():
                return self._take_snapshot(event)
            case wire.ErrorEvent():
                return self._take_error(event)
            case _:
                assert_never(event)

    def _accept(self, event: wire.Accepted) -> tuple[ReplyEvent, ...]:
        if self.generation_id is not None or event.client_message_id != self._client_message_id():
            return ()
        self.conversation_id = event.conversation_id
        self.generation_id = event.generation_id
        self.user_turn_id = event.user_turn_id
        return (event,)

    def _client_message_id(self) -> str | None:
        return None if isinstance(self._opening, wire.Resume) else self._opening.client_message_id

    def _take_numbered(self, event: wire.NumberedEvent) -> tuple[ReplyEvent, ...]:
        if self.is_done or event.generation_id != self.generation_id or event.seq <= self.last_seq:
            return ()
        if event.seq != self.last_seq + 1:
            raise GapError(f"event {event.seq} came after event {self.last_seq}")
        news: tuple[ReplyEvent, ...] = (event,)
        if self._begins_anew:
            self._begins_anew, self._knows_beginning, self._shown_seq = False, True, 0
            self._pieces.clear()
            news = (Replaced(text=""), event)
        self.last_seq = event.seq
        if isinstance(event, wire.Token):
            self._pieces.append(event.text)
        elif isinstance(event, wire.Started):
            self.started = event
            self.details = event.details
        elif isinstance(event, wire.Ended):
            self._end(event)
        return news

    def _end(self, event: wire.Ended) -> None:
        self.ended = event
        self.is_done = True

    def _take_reconnected(self, event: wire.Reconnected) -> tuple[ReplyEvent, ...]:
        if event.generation_id is None and self.generation_id is None:
            self.is_done = True  # asked for whatever is running, and nothing is
        elif event.generation_id is None:
            raise self._lost(event.conversation_id)
        elif self.generation_id is None and isinstance(self._opening, wire.Resume):
            self.generation_id = event.generation_id
        return ()

    def _take_error(self, event: wire.ErrorEvent) -> tuple[ReplyEvent, ...]:
        is_for_another = (event.generation_id is not None and event.generation_id != self.generation_id) or (
            event.client_message_id is not None and event.client_message_id != self._client_message_id()
        )
        if is_for_another:
            return ()
        raise from_wire(event.error)

    def _take_snapshot(self, event: wire.NotResumable) -> tuple[ReplyEvent, ...]:
        self.generation_id = self.generation_id or event.generation_id
        if self.generation_id is None:
            self.is_done = True
            return ()
        turns = [turn for turn in event.conversation.turns if turn.generation_id == self.generation_id]
        answer = next((turn for turn in turns if turn.role is wire.Role.ASSISTANT), None)
        if answer is not None:
            return self._end_as_stored(answer)
        if event.conversation.active_generation_id == self.generation_id:
            # Whoever goes on with it does not know all that was shown here: its numbers mean something else from there.
            self._shown_seq = max(self._shown_seq, self.last_seq)
            self._begins_anew, self.last_seq = self._shown_seq > 0, 0
            raise StillRunningError("the log of the reply is gone while it is being given")
        if not turns:
            raise self._lost(event.conversation_id)
        nothing_said = wire.EventError(code="interrupted", message="The reply failed before its first word.")
        return self._end_with(wire.FinishReason.ERROR, turn_id=None, error=nothing_said)

    def _lost(self, conversation_id: str) -> ReplyLostError:
        return ReplyLostError(
            f"The server no longer knows the reply {self.generation_id} of {conversation_id}.",
            hint="Look at the conversation: another reply may have taken its place.",
        )

    def _end_as_stored(self, turn: wire.Turn) -> tuple[ReplyEvent, ...]:
        self._begins_anew, self.last_seq = False, max(self.last_seq, self._shown_seq)
        news: tuple[ReplyEvent, ...] = ()
        self.details = turn.details
        if not (self._knows_beginning and turn.text.startswith(self.text)):
            self._pieces = [turn.text]
            self._knows_beginning = True
            news = (Replaced(text=turn.text),)
        elif rest := turn.text[len(self.text) :]:
            news = self._take_numbered(
                wire.Token(
                    conversation_id=self.conversation_id or "",
                    generation_id=self.generation_id or "",
                    seq=self.last_seq + 1,
                    text=rest,
                )
            )
        reason = turn.finish_reason or wire.FinishReason.STOP
        return news + self._end_with(reason, turn_id=turn.turn_id, error=turn.error)

    def _end_with(
        self, reason: wire.FinishReason, *, turn_id: str | None, error: wire.EventError | None
    ) -> tuple[ReplyEvent, ...]:
        return self._take_numbered(
            wire.Ended(
                conversation_id=self.conversation_id or "",
                generation_id=self.generation_id or "",
                seq=self.last_seq + 1,
                finish_reason=reason,
                turn_id=turn_id,
                error=error,
            )
        )
