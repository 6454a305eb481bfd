"""One reply so far: its numbered events and what they add up to. Pure.

The one place where sequence numbers are given, whether the reply begins here or is taken over from a log. Invariant:
the text is the concatenation of the token events, so what readers were sent is what the stored turn must hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.orchestrator.protocol.encode import decode_generation_event, encode_event
from pratique.orchestrator.protocol.events import (
    Continued,
    Ended,
    EventError,
    FinishReason,
    GenerationEvent,
    Started,
    Token,
    Usage,
)
from pratique.orchestrator.sessions.log.interface import LogEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pratique.core.ids import ConversationId, GenerationId
    from pratique.orchestrator.protocol.events import ReplyDetails
    from pratique.orchestrator.upstream.interface import UpstreamStart

__all__ = ["Transcript"]


class Transcript:
    """What was said of one reply."""

    def __init__(self, conversation_id: ConversationId, generation_id: GenerationId) -> None:
        self.conversation_id = conversation_id
        self.generation_id = generation_id
        self.last_seq = 0
        self.num_tokens = 0
        """Token events: at most as many as the engine's tokens."""
        self.num_bytes = 0
        self.num_continued = 0
        self.model = ""
        self.prompt_tokens = 0
        self.was_truncated = False
        self.turns_dropped = 0
        self.details: ReplyDetails | None = None
        self.has_started = False
        self.has_ended = False
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def has_text(self) -> bool:
        return bool(self._pieces)

    def replay(self, entries: Iterable[LogEntry]) -> None:
        """Take over what a log holds, which must follow what is here."""
        for entry in entries:
            self._account(decode_generation_event(entry.data), len(entry.data))

    def started(self, start: UpstreamStart, details: ReplyDetails | None = None) -> LogEntry | None:
        """The engine took the prompt; only the first time makes an event."""
        if self.has_started:
            return None
        return self._entry(
            Started(
                conversation_id=self.conversation_id,
                generation_id=self.generation_id,
                seq=self.last_seq + 1,
                model=start.model,
                prompt_tokens=start.prompt_tokens,
                was_truncated=start.was_truncated,
                turns_dropped=start.turns_dropped,
                details=details,
            )
        )

    def token(self, text: str) -> LogEntry:
        seq = self.last_seq + 1
        event = Token(
            conversation_id=self.conversation_id,
            generation_id=self.generation_id,
            seq=seq,
            text=text,
        )
        data = encode_event(event)
        self._account_token(event, len(data))
        return LogEntry(seq, data)

    def continued(self, reason: str) -> LogEntry:
        return self._entry(
            Continued(
                conversation_id=self.conversation_id,
                generation_id=self.generation_id,
                seq=self.last_seq + 1,
                reason=reason,
            )
        )

    def ended(
        self, finish_reason: FinishReason, *, turn_id: str | None, usage: Usage | None, error: EventError | None
    ) -> LogEntry:
        return self._entry(
            Ended(
                conversation_id=self.conversation_id,
                generation_id=self.generation_id,
                seq=self.last_seq + 1,
                finish_reason=finish_reason,
                turn_id=turn_id,
                usage=usage,
                error=error,
            )
        )

    def _entry(self, event: GenerationEvent) -> LogEntry:
        data = encode_event(event)
        self._account(event, len(data))
        return LogEntry(event.seq, data, is_end=isinstance(event, Ended))

    def _account(self, event: GenerationEvent, num_bytes: int) -> None:
        if isinstance(event, Token):
            self._account_token(event, num_bytes)
            return
        self._advance(event.seq, num_bytes)
        if isinstance(event, Started):
            self.has_started = True
            self.model = event.model
            self.prompt_tokens = event.prompt_tokens
            self.was_truncated = event.was_truncated
            self.turns_dropped = event.turns_dropped
            self.details = event.details
        elif isinstance(event, Continued):
            self.num_continued += 1
        else:
            self.has_ended = True

    def _account_token(self, event: Token, num_bytes: int) -> None:
        self._advance(event.seq, num_bytes)
        self._pieces.append(event.text)
        self.num_tokens += 1

    def _advance(self, seq: int, num_bytes: int) -> None:
        if seq != self.last_seq + 1 or self.has_ended:
            raise ValueError(f"Event {seq} cannot follow {self.last_seq} in {self.generation_id}.")
        self.last_seq = seq
        self.num_bytes += num_bytes
