"""Whether replies are what was streamed. Pure.

What its watcher was told counts for nothing is left out: a producer that is cut off from the log may show more than the
next one can know, and the service says so to whoever comes back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from benchmarks.history._groups import Conversation, Story
from benchmarks.history.findings import Anomaly, Finding
from benchmarks.history.record import Operation, SeenEvent

__all__ = ["check_replies"]


def check_replies(story: Story) -> Iterator[Anomaly]:
    """Find streams with gaps or two meanings, and replies that are not what was streamed."""
    watched: dict[str, list[Operation]] = defaultdict(list)
    for reply in story.replies:
        watched[reply.generation_id].append(reply)
    stored = _stored(story)
    for generation_id, turns in stored.items():
        if len(turns) > 1:
            yield Anomaly(Finding.TWO_REPLIES, turns[0][0].name, generation_id)
    for generation_id, everything in watched.items():
        replies = _standing(everything)
        if not replies:
            continue
        conversation = story.conversations.get(replies[0].conversation_id)
        name = replies[0].conversation_id
        yield from (
            Anomaly(Finding.GAP, name, f"{generation_id}: {after.seq} after {before.seq} for {reply.worker}")
            for reply in replies
            for before, after in pairwise(reply.events)
            if after.seq != before.seq + 1
        )
        meanings = _meanings(replies)
        for seq, events in meanings.items():
            if len(events) > 1:
                yield Anomaly(Finding.SPLIT_STREAM, name, f"{generation_id}: event {seq} is {_shown(events)}")
        if conversation is not None and conversation.is_there:
            texts = [text for _, text in stored.get(generation_id, [])]
            yield from _compare(name, generation_id, meanings, texts)


def _standing(replies: Sequence[Operation]) -> list[Operation]:
    disowned_at: dict[str, float] = defaultdict(lambda: -math.inf)
    for reply in replies:
        if reply.is_disowned:
            disowned_at[reply.worker] = max(disowned_at[reply.worker], reply.began_at)
    return [reply for reply in replies if reply.events and reply.began_at > disowned_at[reply.worker]]


def _stored(story: Story) -> dict[str, list[tuple[Conversation, str]]]:
    found: dict[str, list[tuple[Conversation, str]]] = defaultdict(list)
    for conversation in story.conversations.values():
        for turn in conversation.turns:
            if turn.role == "assistant":
                found[turn.generation_id].append((conversation, turn.text))
    return found


def _meanings(replies: Sequence[Operation]) -> dict[int, list[SeenEvent]]:
    found: dict[int, list[SeenEvent]] = defaultdict(list)
    for reply in replies:
        for event in reply.events:
            if event not in found[event.seq]:
                found[event.seq].append(event)
    return dict(sorted(found.items()))


def _compare(
    name: str, generation_id: str, meanings: dict[int, list[SeenEvent]], texts: Sequence[str]
) -> Iterator[Anomaly]:
    """Compare what was shown without a gap from the beginning with what is stored; nothing stored says nothing."""
    shown, has_ended = "", False
    for expected, (seq, events) in enumerate(meanings.items(), 1):
        if seq != expected or len(events) > 1:
            break
        shown += events[0].text or ""
        has_ended = events[0].finish_reason is not None
    stored = texts[0] if texts else ""
    if stored != shown if has_ended else not stored.startswith(shown):
        detail = f"{generation_id}: streamed {shown[-60:]!r}, stored {stored[max(0, len(shown) - 60) :]!r}"
        yield Anomaly(Finding.REPLY_DIFFERS, name, detail)


def _shown(events: Sequence[SeenEvent]) -> str:
    return " and ".join(repr(event.finish_reason or event.text or "-") for event in events)
