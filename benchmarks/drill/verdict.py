"""Judges a run: what people saw against what is stored in the end. Pure.

The rules for histories are `benchmarks.history`'s. Added is what it cannot know: a reply that came without numbered
events (JSON, a snapshot) is the stored one as well; the engine says only one thing to a text, so a stored reply with a
hole or a repetition is found even where nobody watched; nothing that was begun runs forever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
from benchmarks.history.checker import Anomaly, Expectations, Finding, check
from benchmarks.history.record import Kind, Operation, Result, SeenEvent, SeenTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from benchmarks.drill.history import Said

__all__ = ["Verdict", "judge", "operations_of"]


@dataclass
class Verdict:
    """What is wrong, by invariant; each entry says about what."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not any(vars(self).values())


_PLACES: Final = {
    Finding.LOST: "lost",
    Finding.UNCHECKED: "lost",
    Finding.DOUBLED: "duplicated",
    Finding.TWO_ANSWERS: "duplicated",
    Finding.TWO_REPLIES: "duplicated",
    Finding.REPLY_DIFFERS: "different",
    Finding.SPLIT_STREAM: "different",
    Finding.GAP: "different",
    Finding.REORDERED: "disordered",
    Finding.UNENDED: "unfinished",
}


def judge(
    said: Sequence[Said],
    stored: Mapping[str, Sequence[SeenTurn]],
    *,
    running: Iterable[str] = (),
    expected: Callable[[str], str] | None = None,
) -> Verdict:
    """Compare.

    Args:
        said: every message of every person.
        stored: the turns of every conversation, by its id, in order.
        running: generations that still run although everything was quiet for long.
        expected: the whole reply to a text, where the engine is a function of it.
    """
    verdict = Verdict(unfinished=[f"the generation {name} still runs" for name in running])
    for anomaly in check(operations_of(said, stored), Expectations(stale_seconds=None)):
        _file(anomaly, verdict)
    for message in said:
        verdict.other += [f"{_name(message)}: {fault}" for fault in message.faults]
        if message.ended is not None:
            verdict.different += _differences(message, stored.get(message.conversation_id or "", ()), expected)
    return verdict


def operations_of(said: Sequence[Said], stored: Mapping[str, Sequence[SeenTurn]]) -> list[Operation]:
    """Write what people saw, and what is stored, as a history."""
    found = [one for message in said for one in _of_message(message)]
    end = max((one.end for one in found if one.ended_at is not None), default=0.0)
    found += [
        Operation(
            worker="store",
            number=number,
            kind=Kind.READ,
            began_at=end,
            ended_at=end,
            result=Result.OK,
            conversation_id=conversation_id,
            turns=tuple(turns),
            is_final=True,
        )
        for number, (conversation_id, turns) in enumerate(stored.items(), 1)
    ]
    return sorted(found, key=lambda operation: operation.began_at)


def _of_message(message: Said) -> list[Operation]:
    send = Operation(
        worker=message.person,
        number=2 * message.number,
        kind=Kind.SEND,
        began_at=message.sent,
        message_id=message.client_message_id,
        text=message.text,
    )
    if message.acknowledged is None:
        return [send]
    known = msgspec.structs.replace(
        send,
        conversation_id=message.conversation_id or "",
        user_turn_id=message.user_turn_id or "",
        generation_id=message.generation_id or "",
        ended_at=message.acknowledged,
        result=Result.OK,
    )
    if not message.events:
        return [known]
    reply = msgspec.structs.replace(
        known,
        number=2 * message.number + 1,
        kind=Kind.REPLY,
        began_at=message.acknowledged,
        ended_at=message.ended,
        result=Result.UNKNOWN if message.ended is None else Result.OK,
        message_id="",
        text="",
        events=tuple(SeenEvent(*event) for event in message.events),
    )
    return [known, reply]


def _file(anomaly: Anomaly, verdict: Verdict) -> None:
    place: list[str] = getattr(verdict, _PLACES.get(anomaly.finding, "other"))
    place.append(str(anomaly))


def _differences(message: Said, turns: Sequence[SeenTurn], expected: Callable[[str], str] | None) -> list[str]:
    answers = [turn.text for turn in turns if turn.role != "user" and turn.generation_id == message.generation_id]
    answer = answers[0] if answers else ""
    found = []
    if message.reply != answer:
        found.append(f"saw {len(message.reply)}, stored {len(answer)} characters; {_where(message.reply, answer)}")
    if expected is not None and not expected(message.text).startswith(answer):
        found.append(f"stored what the engine does not say: …{answer[-80:]!r}")
    elif expected is not None and message.finish_reason == "stop" and answer != expected(message.text):
        found.append(f"ended as whole with {len(answer)} characters only")
    return [f"{_name(message)}: {text}" for text in found]


def _name(message: Said) -> str:
    return f"{message.person} #{message.number} ({message.transport}, {message.generation_id})"


def _where(seen: str, stored: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(seen, stored, strict=False)) if a != b), min(len(seen), len(stored)))
    return f"from character {at}: saw {seen[at : at + 40]!r}, stored {stored[at : at + 40]!r}"
