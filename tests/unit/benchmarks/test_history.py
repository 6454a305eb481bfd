"""The checker of histories: each anomaly is caught in a history made by hand, and a sound history passes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from benchmarks.history.checker import Expectations, Finding, check
from benchmarks.history.record import Kind, Operation, Recorder, Result, SeenEvent, SeenTurn, load_history

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

C = "conv_1"


def turns(*messages: str, replies: bool = True) -> tuple[SeenTurn, ...]:
    """User turns, each with its whole reply."""
    found: list[SeenTurn] = []
    for name in messages:
        found.append(SeenTurn(turn_id=f"turn_{name}", role="user", text=f"text {name}", generation_id=f"gen_{name}"))
        if replies:
            reply = SeenTurn(turn_id=f"re_{name}", role="assistant", text=f"re {name}", generation_id=f"gen_{name}")
            found.append(reply)
    return tuple(found)


class Story:
    """Writes a history; each operation lasts from `at` to half a second later."""

    def __init__(self) -> None:
        self.history: list[Operation] = []

    def add(self, kind: Kind, at: float, *, result: Result = Result.OK, **fields: Any) -> Operation:
        fields = {"conversation_id": C, "source": "a", **fields}
        ended_at = None if result is Result.UNKNOWN else fields.pop("ended_at", at + 0.5)
        number = len(self.history) + 1
        worker = fields.pop("worker", "w")
        made = Operation(
            worker=worker, number=number, kind=kind, began_at=at, ended_at=ended_at, result=result, **fields
        )
        self.history.append(made)
        return made

    def send(self, name: str, at: float, **fields: Any) -> None:
        if fields.get("result", Result.OK) is Result.OK:
            fields = {"user_turn_id": f"turn_{name}", "generation_id": f"gen_{name}", **fields}
        self.add(Kind.SEND, at, **{"message_id": name, "text": f"text {name}", **fields})

    def read(self, at: float, shown: tuple[SeenTurn, ...], **fields: Any) -> None:
        self.add(Kind.READ, at, turns=shown, **{"version": len(shown), **fields})

    def gone(self, at: float, **fields: Any) -> None:
        self.add(Kind.READ, at, result=Result.FAIL, error="conversation_not_found", **fields)

    def reply(self, at: float, *events: SeenEvent, name: str = "m1", **fields: Any) -> None:
        self.add(Kind.REPLY, at, generation_id=f"gen_{name}", events=events, **fields)

    def final(self, shown: tuple[SeenTurn, ...], **fields: Any) -> None:
        self.read(100, shown, is_final=True, source="store", **fields)

    def findings(self, **expectations: Any) -> set[Finding]:
        return {anomaly.finding for anomaly in check(self.history, Expectations(**expectations))}


@pytest.fixture
def story() -> Story:
    return Story()


WHOLE = (SeenEvent(1), SeenEvent(2, "re "), SeenEvent(3, "m1"), SeenEvent(4, None, "stop"))


class TestSound:
    def test_talk_with_repeats_unknowns_and_resumes(self, story: Story) -> None:
        story.send("m1", 1, result=Result.UNKNOWN, conversation_id="")
        story.send("m1", 2, duplicate=True)
        story.reply(3, *WHOLE[:2])
        story.reply(4, *WHOLE[2:])
        story.reply(4, *WHOLE)
        story.reply(4)
        story.read(5, turns("m1"))
        story.send("m2", 6)
        story.send("m3", 7, result=Result.FAIL, error="generation_running")
        story.send("m4", 8, result=Result.UNKNOWN)
        story.read(9, turns("m1", "m2"))
        story.add(Kind.DELETE, 10, result=Result.UNKNOWN)
        story.add(Kind.CANCEL, 10, result=Result.FAIL)
        story.read(11, (), result=Result.FAIL, error="store_unavailable")
        story.final(turns("m1", "m2", "m4"))
        assert story.findings(all_end=True) == set()

    def test_deleted_conversation(self, story: Story) -> None:
        story.send("m1", 1)
        story.read(2, turns("m1"))
        story.add(Kind.DELETE, 3)
        story.read(3.2, turns("m1"))
        story.gone(4)
        story.send("m1", 5, result=Result.FAIL, error="conversation_not_found")
        story.gone(100, is_final=True)
        assert story.findings() == set()

    def test_deletion_of_unknown_outcome_that_happened(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 3, result=Result.UNKNOWN)
        story.read(4, turns("m1"))
        story.gone(5)
        story.gone(100, is_final=True)
        assert story.findings() == set()

    def test_reads_at_the_same_time_may_end_in_any_order(self, story: Story) -> None:
        story.send("m1", 1)
        story.read(2, turns("m1"), ended_at=2.1)
        story.read(1.9, turns("m1", replies=False), ended_at=5)
        story.final(turns("m1"))
        assert story.findings() == set()

    def test_reply_without_a_turn(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, SeenEvent(1), SeenEvent(2, None, "error"))
        story.final(turns("m1", replies=False))
        assert story.findings() == set()

    def test_nothing(self, story: Story) -> None:
        assert story.findings() == set()


class TestTurns:
    def test_acknowledged_turn_lost(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2)
        story.final(turns("m1"))
        assert story.findings() == {Finding.LOST}

    def test_conversation_lost_that_nobody_deleted(self, story: Story) -> None:
        story.send("m1", 1)
        story.gone(100, is_final=True)
        assert story.findings() == {Finding.LOST}

    def test_conversation_lost_that_could_not_be_deleted(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 2, result=Result.FAIL)
        story.gone(100, is_final=True)
        assert story.findings() == {Finding.LOST}

    def test_turn_lost_beside_a_deletion_that_did_not_happen(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2)
        story.add(Kind.DELETE, 3, result=Result.UNKNOWN)
        story.final(turns("m2"))
        assert story.findings() == {Finding.LOST}

    def test_turn_stored_twice(self, story: Story) -> None:
        story.send("m1", 1)
        again = [msgspec.structs.replace(turn, turn_id=f"{turn.turn_id}b") for turn in turns("m1", replies=False)]
        story.final((*turns("m1"), *again))
        assert story.findings() == {Finding.DOUBLED, Finding.TWO_ANSWERS}

    def test_unknown_turn_stored_in_two_conversations(self, story: Story) -> None:
        story.send("m1", 1, result=Result.UNKNOWN, conversation_id="")
        story.final(turns("m1", replies=False))
        story.final(turns("m1", replies=False), conversation_id="conv_2")
        assert story.findings() == {Finding.DOUBLED}

    def test_turn_that_nobody_sent(self, story: Story) -> None:
        story.send("m1", 1)
        story.final(turns("m1", "m9"))
        assert story.findings() == {Finding.INVENTED}

    def test_refused_turn_stored(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2, result=Result.FAIL, error="generation_running")
        story.final(turns("m1", "m2"))
        assert story.findings() == {Finding.REFUSED_STORED}

    @pytest.mark.parametrize("other", [{"user_turn_id": "turn_x"}, {"generation_id": "gen_x"}])
    def test_repeat_answered_as_another_message(self, story: Story, other: dict[str, str]) -> None:
        story.send("m1", 1)
        story.send("m1", 2, duplicate=True, **other)
        story.final(turns("m1"))
        assert story.findings() == {Finding.TWO_ANSWERS}

    def test_repeat_answered_as_new(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m1", 2)
        story.final(turns("m1"))
        assert story.findings() == {Finding.TWO_ANSWERS}

    def test_acknowledged_as_what_is_not_stored(self, story: Story) -> None:
        story.send("m1", 1, user_turn_id="turn_x")
        story.final(turns("m1"))
        assert story.findings() == {Finding.TWO_ANSWERS}

    def test_stored_against_the_acknowledged_order(self, story: Story) -> None:
        for number in (1, 2, 3):
            story.send(f"m{number}", number)
        story.final(turns("m1", "m3", "m2"))
        assert story.findings() == {Finding.REORDERED}

    def test_sent_at_the_same_time_either_may_be_first(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 1.2)
        story.final(turns("m2", "m1"))
        assert story.findings() == set()

    def test_conversation_that_was_not_read_at_the_end(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.READ, 2, result=Result.UNKNOWN, is_final=True)
        assert story.findings() == {Finding.UNCHECKED}

    def test_generation_that_never_ended(self, story: Story) -> None:
        story.send("m1", 1)
        story.final(turns("m1", replies=False), active_generation_id="gen_m1")
        assert story.findings() == set()
        assert story.findings(all_end=True) == {Finding.UNENDED}


class TestReads:
    def test_read_of_what_is_not_a_beginning(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2)
        story.read(3, turns("m2", "m1"))
        story.final(turns("m1", "m2"))
        assert story.findings() == {Finding.NO_PREFIX}

    def test_unknown_turn_that_was_read_and_is_gone(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2, result=Result.UNKNOWN)
        story.read(3, turns("m1", "m2"))
        story.final(turns("m1"))
        assert story.findings() == {Finding.NO_PREFIX}

    def test_reads_at_one_source_that_go_back(self, story: Story) -> None:
        story.send("m1", 1)
        story.read(2, turns("m1"))
        story.read(3, turns("m1", replies=False))
        story.read(4, turns("m1", replies=False), source="b")
        story.final(turns("m1"))
        assert story.findings() == {Finding.WENT_BACK}

    def test_read_that_misses_what_was_acknowledged(self, story: Story) -> None:
        story.send("m1", 1)
        story.send("m2", 2)
        story.read(10, turns("m1"))
        story.final(turns("m1", "m2"))
        assert story.findings() == {Finding.STALE}
        assert story.findings(stale_seconds=5) == {Finding.STALE}
        assert story.findings(stale_seconds=8) == set()
        assert story.findings(stale_seconds=None) == set()

    def test_not_found_before_it_was_deleted(self, story: Story) -> None:
        story.send("m1", 1)
        story.gone(5)
        story.add(Kind.DELETE, 10)
        story.gone(100, is_final=True)
        assert story.findings() == {Finding.STALE}


class TestDeletion:
    def test_deleted_conversation_there_at_the_end(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 2)
        story.final(turns("m1"))
        assert story.findings() == {Finding.REVIVED}

    def test_deleted_conversation_read_again(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 2)
        story.read(9, turns("m1"))
        story.gone(100, is_final=True)
        assert story.findings() == {Finding.REVIVED}
        assert story.findings(stale_seconds=7) == set()
        assert story.findings(stale_seconds=None) == set()

    def test_gone_and_there_again_after_a_deletion_of_unknown_outcome(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 2, result=Result.UNKNOWN)
        story.gone(3)
        story.read(4, turns("m1"))
        story.final(turns("m1"))
        assert story.findings() == {Finding.REVIVED}

    def test_message_accepted_after_the_deletion(self, story: Story) -> None:
        story.send("m1", 1)
        story.add(Kind.DELETE, 2)
        story.send("m2", 3)
        story.gone(100, is_final=True)
        assert story.findings() == {Finding.REVIVED}


class TestReplies:
    def test_two_replies_of_one_generation(self, story: Story) -> None:
        story.send("m1", 1)
        first = turns("m1")
        story.final((*first, msgspec.structs.replace(first[1], turn_id="re_2")))
        assert story.findings() == {Finding.TWO_REPLIES}

    def test_event_left_out(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, WHOLE[0], *WHOLE[2:])
        story.final(turns("m1"))
        assert story.findings() == {Finding.GAP}

    def test_event_with_two_meanings(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE)
        story.reply(3, SeenEvent(2, "other"))
        story.final(turns("m1"))
        assert story.findings() == {Finding.SPLIT_STREAM}

    def test_what_was_shown_and_disowned_does_not_count(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE[:2], SeenEvent(3, "what nobody else knows"))
        story.reply(3, is_disowned=True)
        story.reply(4, *WHOLE)
        story.final(turns("m1"))
        assert story.findings() == set()

    def test_what_is_disowned_to_one_counts_for_another(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, SeenEvent(1), SeenEvent(2, "other"))
        story.add(Kind.REPLY, 3, generation_id="gen_m1", is_disowned=True, worker="somebody else")
        story.reply(4, *WHOLE)
        story.final(turns("m1"))
        assert story.findings() == {Finding.SPLIT_STREAM}

    def test_event_came_twice_over_one_connection(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE[:2], *WHOLE[1:])
        story.final(turns("m1"))
        assert story.findings() == {Finding.GAP}

    @pytest.mark.parametrize("text", ["re m", "re m1!", "other", ""])
    def test_stored_reply_is_not_what_ended_the_stream(self, story: Story, text: str) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE)
        user, reply = turns("m1")
        story.final((user, msgspec.structs.replace(reply, text=text)))
        assert story.findings() == {Finding.REPLY_DIFFERS}

    def test_stored_reply_lacks_what_was_shown_of_it(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE[:3])
        story.final(turns("m1", replies=False))
        assert story.findings() == {Finding.REPLY_DIFFERS}

    def test_shown_beginning_of_a_longer_reply(self, story: Story) -> None:
        story.send("m1", 1)
        story.reply(2, *WHOLE[:2])
        story.reply(2, *WHOLE[3:])
        story.final(turns("m1"))
        assert story.findings() == set()


def test_an_anomaly_says_what_and_where(story: Story) -> None:
    story.send("m1", 1)
    story.final(())
    (anomaly,) = check(story.history)
    assert str(anomaly) == "an acknowledged turn is lost: conv_1: m1"
    assert str(dataclasses.replace(anomaly, conversation_id="")).startswith("an acknowledged turn is lost: no conv")


class TestRecord:
    def test_what_is_recorded_is_read_again(self, tmp_path: Path) -> None:
        times = iter(range(10))
        recorder = Recorder(tmp_path / "a.jsonl", clock=lambda: float(next(times)))
        send = recorder.begin("w", Kind.SEND, message_id="m1", text="text m1")
        recorder.begin("w", Kind.CANCEL)
        sent = recorder.end(send, Result.OK, conversation_id=C, user_turn_id="turn_m1")
        recorder.close()
        other = Recorder(tmp_path / "b.jsonl", clock=lambda: 0.5)
        recorder_b = other.end(other.begin("w", Kind.READ), Result.UNKNOWN, error="timeout")
        other.close()
        with (tmp_path / "b.jsonl").open("ab") as file:
            file.write(b'{"worker": "cut sh')
        history = load_history([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
        assert [one.kind for one in history] == [Kind.SEND, Kind.READ, Kind.CANCEL]
        assert history[0] == sent
        assert (sent.began_at, sent.ended_at) == (0.0, 2.0)
        assert history[1] == recorder_b
        assert history[2].result is Result.UNKNOWN
        assert history[1].end == history[2].end == float("inf")

    def test_a_damaged_line_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes(b"what\n")
        with pytest.raises(msgspec.DecodeError):
            load_history([path])
