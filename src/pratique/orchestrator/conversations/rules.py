"""What every conversation store decides alike. Pure: no clock, no files, no ids of its own.

Titles, the shape of an assistant turn, whether there is one, whether a reply can be retried, list cursors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.orchestrator.conversations.errors import (
    FencedError,
    GenerationFinishedError,
    InvalidCursorError,
    InvalidTitleError,
)
from pratique.orchestrator.conversations.interface import GenerationStatus
from pratique.orchestrator.protocol.events import FinishReason, Role, Turn, TurnStatus

if TYPE_CHECKING:
    from pratique.orchestrator.conversations.interface import GenerationRecord, Outcome

__all__ = [
    "MAX_PAGE",
    "MAX_RUNNING",
    "MAX_TITLE_CHARACTERS",
    "RETRY_DIGEST",
    "TITLE_CHARACTERS",
    "assistant_turn",
    "check_claim",
    "check_finish",
    "check_title",
    "clamp_limit",
    "decode_cursor",
    "digest",
    "encode_cursor",
    "has_turn",
    "is_whole",
    "storable",
    "title_from",
    "without_text",
]

RETRY_DIGEST: Final = "retry"
"""Stands for the digest of a retry, which has no text; no digest of a text looks like it."""
TITLE_CHARACTERS: Final = 60
MAX_TITLE_CHARACTERS: Final = 200
MAX_PAGE: Final = 200
MAX_RUNNING: Final = 1000
_WHOLE: Final = frozenset({FinishReason.STOP, FinishReason.LENGTH})
_UNTITLED: Final = "New conversation"
_ELLIPSIS: Final = "…"
_TITLE_SCAN_CHARACTERS: Final = 1_000
"""How much of a long text is looked at for a title."""
_ZERO_WIDTH_JOINER: Final = "\u200d"


class _Cursor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    updated_at: float
    conversation_id: str


def is_whole(reason: FinishReason) -> bool:
    """Whether a reply that ended so is the whole of it; all others leave a partial turn."""
    return reason in _WHOLE


def has_turn(outcome: Outcome) -> bool:
    """Whether there is anything to store as the assistant's turn."""
    return bool(outcome.text) or is_whole(outcome.finish_reason)


def assistant_turn(outcome: Outcome, *, turn_id: str, generation_id: str, created_at: float) -> Turn:
    """Return the assistant turn that this outcome leaves in the conversation."""
    return Turn(
        turn_id=turn_id,
        role=Role.ASSISTANT,
        text=outcome.text,
        status=TurnStatus.COMPLETE if is_whole(outcome.finish_reason) else TurnStatus.PARTIAL,
        created_at=created_at,
        finish_reason=outcome.finish_reason,
        generation_id=generation_id,
        error=outcome.error,
        was_truncated=outcome.was_truncated,
        turns_dropped=outcome.turns_dropped,
        details=outcome.details,
    )


def check_claim(record: GenerationRecord, *, holder: str, epoch: int, stored_holder: str) -> None:
    """Raise unless this claim is newer than the one that holds, or is that one repeated."""
    if record.status is GenerationStatus.FINISHED:
        raise GenerationFinishedError(record)
    is_repeat = record.epoch == epoch and stored_holder == holder and epoch > 0
    if record.epoch >= epoch and not is_repeat:
        raise FencedError(record.generation_id, epoch=epoch, stored_epoch=record.epoch)


def check_finish(record: GenerationRecord, *, epoch: int) -> None:
    """Raise unless this epoch may end the generation."""
    if record.epoch > epoch:
        raise FencedError(record.generation_id, epoch=epoch, stored_epoch=record.epoch)


def without_text(record: GenerationRecord) -> GenerationRecord:
    """Return the record without the reply's text, which is its turn's."""
    if record.outcome is None:
        return record
    return msgspec.structs.replace(record, outcome=msgspec.structs.replace(record.outcome, text=""))


def storable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold (lone surrogates) replaced; every other character is kept."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def digest(text: str) -> str:
    """Return what is compared when a client message id comes again."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def clamp_limit(limit: int) -> int:
    """Return a page size within 1…`MAX_PAGE`."""
    return max(1, min(limit, MAX_PAGE))


def encode_cursor(updated_at: float, conversation_id: str) -> str:
    """Return the opaque text that stands for a place in the list."""
    packed = msgspec.json.encode(_Cursor(updated_at, conversation_id))
    return base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def decode_cursor(text: str) -> tuple[float, str]:
    """Return (updated_at, conversation_id), or raise `InvalidCursorError`."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(packed, type=_Cursor)
    except (binascii.Error, UnicodeError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidCursorError from error
    return cursor.updated_at, cursor.conversation_id


def check_title(title: str) -> str:
    """Return the title as it is stored, or raise `InvalidTitleError`."""
    cleaned = _one_line(title)
    if not 1 <= len(cleaned) <= MAX_TITLE_CHARACTERS:
        raise InvalidTitleError(f"A title has 1 to {MAX_TITLE_CHARACTERS} characters, not {len(cleaned)}.")
    return cleaned


def title_from(text: str) -> str:
    """Return a title of at most `TITLE_CHARACTERS`, cut between words, or else between whole graphemes."""
    line = _one_line(text.lstrip()[:_TITLE_SCAN_CHARACTERS])
    if len(line) <= TITLE_CHARACTERS:
        return line or _UNTITLED
    room = TITLE_CHARACTERS - len(_ELLIPSIS)
    end = room if line.isascii() else max(_grapheme_boundaries(line[: room + 1]), default=0)
    # A word is kept whole unless that throws away most of the room (one long word, or a script without spaces).
    space = line.rfind(" ", 0, end + 1)
    cut = space if space > TITLE_CHARACTERS // 2 else (end or room)
    return line[:cut].rstrip() + _ELLIPSIS


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    if words.isprintable():
        return words
    visible = "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in words)
    return " ".join(visible.split())


def _grapheme_boundaries(text: str) -> list[int]:
    """Return the places where `text` may be cut; the end is not one, because what follows it is unknown.

    The rules that matter for names and emoji (UAX 29 GB6-8, GB9, GB9a, GB11, GB12-13), not the whole annex.
    """
    found: list[int] = []
    flags = 0
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        flags = flags + 1 if _is_flag_half(before) else 0
        splits_flag = _is_flag_half(after) and flags % 2 == 1
        if not (_extends(after) or before == _ZERO_WIDTH_JOINER or splits_flag or _joins_hangul(before, after)):
            found.append(place)
    return found


def _extends(character: str) -> bool:
    is_mark = unicodedata.category(character) in {"Mn", "Me", "Mc"}
    return is_mark or character == _ZERO_WIDTH_JOINER or "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _joins_hangul(before: str, after: str) -> bool:
    # Jamo that compose one syllable: leading + vowel (+ trailing).
    is_jamo = "\u1100" <= before <= "\u11ff" or "\uac00" <= before <= "\ud7a3"
    return is_jamo and "\u1160" <= after <= "\u11ff"
