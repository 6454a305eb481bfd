"""What reads may show. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.history._groups import Conversation
from benchmarks.history.findings import Anomaly, Expectations, Finding
from benchmarks.history.record import Operation, Result

__all__ = ["check_reads"]


def check_reads(conversation: Conversation, expectations: Expectations) -> Iterator[Anomaly]:
    """Find reads that show what never was, go back, miss what they must show, or show what was deleted."""
    yield from _check_prefixes(conversation)
    yield from _check_sources(conversation)
    yield from _check_deletion(conversation, expectations)
    if expectations.stale_seconds is not None:
        yield from _check_freshness(conversation, expectations.stale_seconds)


def _check_prefixes(conversation: Conversation) -> Iterator[Anomaly]:
    whole = [(turn.turn_id, turn.text) for turn in conversation.turns]
    for read in conversation.reads:
        shown = [(turn.turn_id, turn.text) for turn in read.turns]
        if shown != whole[: len(shown)]:
            yield Anomaly(Finding.NO_PREFIX, conversation.name, f"{_named(read)}: {len(shown)} of {len(whole)} turns")


def _check_sources(conversation: Conversation) -> Iterator[Anomaly]:
    by_source: dict[str, list[Operation]] = defaultdict(list)
    for read in conversation.reads:
        by_source[read.source].append(read)
    for reads in by_source.values():
        yield from _check_monotone(conversation, reads)


def _check_monotone(conversation: Conversation, reads: list[Operation]) -> Iterator[Anomaly]:
    """Compare each read with those that had ended when it began; of two at the same time either may be first."""
    ended = iter(sorted(reads, key=lambda read: read.end))
    before = next(ended, None)
    newest: Operation | None = None
    for read in sorted(reads, key=lambda read: read.began_at):
        while before is not None and before.end <= read.began_at:
            newest = before if newest is None or _version(before) > _version(newest) else newest
            before = next(ended, None)
        if newest is not None and _version(read) < _version(newest):
            finding = Finding.REVIVED if newest.result is Result.FAIL else Finding.WENT_BACK
            yield Anomaly(finding, conversation.name, f"{_named(read)} after {_named(newest)}")


def _check_deletion(conversation: Conversation, expectations: Expectations) -> Iterator[Anomaly]:
    if conversation.is_there and conversation.deleted_at < math.inf:
        yield Anomaly(Finding.REVIVED, conversation.name, "it is there at the end")
    for message in conversation.messages:
        for send in message.acknowledged:
            if send.conversation_id == conversation.name and send.began_at > conversation.deleted_at:
                yield Anomaly(Finding.REVIVED, conversation.name, f"{message.message_id} was accepted afterwards")
    if expectations.stale_seconds is None:
        return
    for read in conversation.reads:
        if read.result is Result.OK and read.began_at > conversation.deleted_at + expectations.stale_seconds:
            yield Anomaly(Finding.REVIVED, conversation.name, _named(read))


def _check_freshness(conversation: Conversation, stale_seconds: float) -> Iterator[Anomaly]:
    for read in conversation.reads:
        texts = {turn.text for turn in read.turns}
        is_gone = read.result is Result.FAIL
        if is_gone and conversation.may_be_gone_from < read.end:
            continue
        for message in conversation.messages:
            if message.acknowledged_at + stale_seconds < read.began_at and message.text not in texts:
                yield Anomaly(Finding.STALE, conversation.name, f"{message.message_id} is not in {_named(read)}")


def _version(read: Operation) -> float:
    """Nothing is newer than that it is gone."""
    return math.inf if read.result is Result.FAIL else read.version


def _named(read: Operation) -> str:
    shown = "gone" if read.result is Result.FAIL else f"version {read.version}"
    return f"read {read.number} by {read.worker} at {read.source or 'the store'} ({shown})"
