"""Whether a history can be that of a service that loses, doubles, reorders and revives nothing. Pure.

What is proved, given a final read of every conversation (one without is a finding too):

1. No acknowledged user turn is lost; none is stored twice; none is stored that was refused or never sent.
2. One message id is one turn and one generation, however often it is sent and whoever answers.
3. Turns stand in an order that agrees with time: acknowledged before the other was first sent is stored before it.
4. Every read shows a beginning of the final conversation, and reads at one source never go back. A turn that was
   acknowledged `stale_seconds` before a read began is in it.
5. A generation leaves one reply at most, and it is what was streamed: an event has one meaning whoever sent it, none is
   left out, and the stored text begins with (once the end was seen: is) what was shown. What a watcher was told counts
   for nothing (`not_resumable`) does not count.
6. What was deleted stays deleted. An operation of unknown outcome may have happened or not, but not both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from benchmarks.history._groups import Conversation, Message, Story, tell
from benchmarks.history._reads import check_reads
from benchmarks.history._replies import check_replies
from benchmarks.history.findings import Anomaly, Expectations, Finding
from benchmarks.history.record import Operation, SeenTurn

__all__ = ["Anomaly", "Expectations", "Finding", "check"]

_Places: TypeAlias = dict[str, list[tuple[Conversation, SeenTurn]]]


def check(history: Sequence[Operation], expectations: Expectations | None = None) -> list[Anomaly]:
    """Return what is wrong with a history, each thing once; an empty list says that nothing is."""
    expectations = expectations or Expectations()
    story = tell(history)
    found = [*_check_stored(story), *check_replies(story)]
    for conversation in story.conversations.values():
        found += _check_order(conversation, story)
        found += _check_end(conversation, expectations)
        found += check_reads(conversation, expectations)
    return list(dict.fromkeys(found))


def _check_stored(story: Story) -> Iterator[Anomaly]:
    places: _Places = defaultdict(list)
    for conversation in story.conversations.values():
        for turn in conversation.turns:
            if turn.role != "user":
                continue
            message = story.by_text.get(turn.text)
            if message is None:
                yield Anomaly(Finding.INVENTED, conversation.name, f"{turn.turn_id} {turn.text!r}")
            else:
                places[message.message_id].append((conversation, turn))
    for message in story.messages.values():
        yield from _check_message(message, places[message.message_id], story)


def _check_message(message: Message, places: list[tuple[Conversation, SeenTurn]], story: Story) -> Iterator[Anomaly]:
    name = message.message_id
    if len(places) > 1:
        where = ", ".join(f"{turn.turn_id} in {conversation.name}" for conversation, turn in places)
        yield Anomaly(Finding.DOUBLED, places[0][0].name, f"{name}: {where}")
    if places and not message.may_be_stored:
        yield Anomaly(Finding.REFUSED_STORED, places[0][0].name, name)
    answers = {(one.conversation_id, one.user_turn_id, one.generation_id) for one in message.acknowledged}
    stored = {(conversation.name, turn.turn_id, turn.generation_id) for conversation, turn in places}
    if len(answers | (stored if answers else set())) > 1:
        yield Anomaly(Finding.TWO_ANSWERS, min(answers)[0], f"{name}: acknowledged {answers}, stored {stored}")
    if sum(not one.duplicate for one in message.acknowledged) > 1:
        yield Anomaly(Finding.TWO_ANSWERS, min(answers)[0], f"{name}: acknowledged as new more than once")
    for conversation_id in {one.conversation_id for one in message.acknowledged}:
        conversation = story.conversations[conversation_id]
        if not places and _must_be_there(conversation):
            yield Anomaly(Finding.LOST, conversation_id, name)


def _must_be_there(conversation: Conversation) -> bool:
    """Whether a turn that is not there is lost: its conversation is there, or nobody can have deleted it."""
    if conversation.final is None:
        return False
    return conversation.is_there or conversation.may_be_gone_from == math.inf


def _check_order(conversation: Conversation, story: Story) -> Iterator[Anomaly]:
    latest: Message | None = None
    for turn in conversation.turns:
        message = story.by_text.get(turn.text) if turn.role == "user" else None
        if message is None:
            continue
        if latest is not None and message.acknowledged_at < latest.began_at:
            detail = f"{latest.message_id} was first sent after {message.message_id} was acknowledged, and is before it"
            yield Anomaly(Finding.REORDERED, conversation.name, detail)
        if latest is None or message.began_at > latest.began_at:
            latest = message


def _check_end(conversation: Conversation, expectations: Expectations) -> Iterator[Anomaly]:
    final = conversation.final
    if final is None:
        yield Anomaly(Finding.UNCHECKED, conversation.name, "no final read with a known outcome")
    elif expectations.all_end and final.active_generation_id:
        yield Anomaly(Finding.UNENDED, conversation.name, final.active_generation_id)
