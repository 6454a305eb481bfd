from __future__ import annotations

import msgspec
import pytest

from pratique.client import _wire as wire
from pratique.client._reply import GapError, Replaced, ReplyState, StillRunningError
from pratique.client.errors import ReplyLostError

pytestmark = pytest.mark.unit

IDS = {"conversation_id": "cnv_1", "generation_id": "gen_1"}


def accepted(message_id: str = "msg_0001", generation_id: str = "gen_1") -> wire.Accepted:
    return wire.Accepted(
        client_message_id=message_id, conversation_id="cnv_1", user_turn_id="turn_1", generation_id=generation_id
    )


def token(seq: int, text: str = "x") -> wire.Token:
    return wire.Token(conversation_id="cnv_1", generation_id="gen_1", seq=seq, text=text)


@pytest.fixture
def state() -> ReplyState:
    return ReplyState(wire.Message(client_message_id="msg_0001", text="hello"))


def test_the_message_is_asked_for_until_it_is_accepted_and_the_cursor_from_then_on(state: ReplyState) -> None:
    assert isinstance(state.next_frame(), wire.Message)
    assert state.take(accepted("msg_other")) == ()
    assert isinstance(state.next_frame(), wire.Message)
    assert state.take(accepted()) == (accepted(),)
    assert state.next_frame() == wire.Resume(conversation_id="cnv_1", generation_id="gen_1", last_seq=0)
    state.take(token(1))
    assert state.next_frame() == wire.Resume(conversation_id="cnv_1", generation_id="gen_1", last_seq=1)


def test_a_message_is_accepted_once(state: ReplyState) -> None:
    state.take(accepted())
    assert state.take(accepted(generation_id="gen_2")) == ()
    assert state.generation_id == "gen_1"


def test_events_before_acceptance_belong_to_nobody(state: ReplyState) -> None:
    assert state.take(token(1)) == ()


def test_seen_events_are_dropped_and_missing_ones_noticed(state: ReplyState) -> None:
    state.take(accepted())
    state.take(token(1, "a"))
    state.take(token(2, "b"))
    assert state.take(token(1, "a")) == state.take(token(2, "b")) == ()
    with pytest.raises(GapError, match="event 4 came after event 2"):
        state.take(token(4, "d"))
    assert (state.text, state.last_seq) == ("ab", 2)


def test_after_the_end_nothing_is_taken(state: ReplyState) -> None:
    state.take(accepted())
    ended = wire.Ended(**IDS, seq=1, finish_reason=wire.FinishReason.STOP, turn_id="turn_2")  # type: ignore[arg-type]
    assert state.take(ended) == (ended,)
    assert state.take(token(2)) == ()
    assert (state.is_done, state.ended, state.text) == (True, ended, "")


def test_another_server_going_on_is_told(state: ReplyState) -> None:
    state.take(accepted())
    continued = wire.Continued(conversation_id="cnv_1", generation_id="gen_1", seq=1, reason="the server died")
    assert state.take(continued) == (continued,)


@pytest.mark.parametrize(
    "event",
    [
        wire.Heartbeat(),
        wire.Pong(),
        wire.GoingAway(reconnect_after_seconds=1),
        wire.Hello(replica="a", principal_id="b", heartbeat_seconds=10),
    ],
)
def test_what_concerns_the_connection_is_no_news(state: ReplyState, event: wire.ServerEvent) -> None:
    assert state.take(event) == ()


def test_reconnected_to_nothing_means_the_reply_is_lost(state: ReplyState) -> None:
    state.take(accepted())
    assert state.take(wire.Reconnected(conversation_id="cnv_1", generation_id="gen_1", last_seq=0)) == ()
    with pytest.raises(ReplyLostError):
        state.take(wire.Reconnected(conversation_id="cnv_1", generation_id=None, last_seq=0))


def test_reconnected_tells_which_reply_is_running() -> None:
    state = ReplyState(wire.Resume(conversation_id="cnv_1"))
    state.take(wire.Reconnected(conversation_id="cnv_1", generation_id="gen_1", last_seq=0))
    assert state.take(token(1)) == (token(1),)


def test_reconnected_out_of_place_changes_nothing(state: ReplyState) -> None:
    assert state.take(wire.Reconnected(conversation_id="cnv_1", generation_id="gen_7", last_seq=0)) == ()
    assert state.generation_id is None


def snapshot(*turns: wire.Turn, active: str | None = None) -> wire.NotResumable:
    conversation = wire.Conversation(
        conversation_id="cnv_1",
        title="",
        created_at=0,
        updated_at=0,
        version=1,
        turns=turns,
        active_generation_id=active,
    )
    return wire.NotResumable(conversation_id="cnv_1", generation_id="gen_1", conversation=conversation)


def answer(text: str) -> wire.Turn:
    return wire.Turn(
        turn_id="turn_2",
        role=wire.Role.ASSISTANT,
        text=text,
        status=wire.TurnStatus.PARTIAL,
        created_at=0,
        generation_id="gen_1",
        finish_reason=wire.FinishReason.CANCELLED,
    )


def test_a_snapshot_that_holds_just_what_was_seen_only_ends(state: ReplyState) -> None:
    state.take(accepted())
    state.take(token(1, "abc"))
    news = state.take(snapshot(answer("abc")))
    assert [type(event) for event in news] == [wire.Ended]
    assert state.ended is not None
    assert (state.ended.finish_reason, state.ended.turn_id) == (wire.FinishReason.CANCELLED, "turn_2")


def test_a_snapshot_of_a_running_reply_says_to_come_back(state: ReplyState) -> None:
    state.take(accepted())
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))


DETAILS = wire.ReplyDetails(
    route=wire.Route(pool="small", model="", policy="length", reason="short question"),
    sources=(wire.Source(source_id="a", title="T"),),
)


def test_the_details_of_a_reply_are_those_of_its_beginning(state: ReplyState) -> None:
    state.take(accepted())
    assert state.details is None
    state.take(
        wire.Started(conversation_id="cnv_1", generation_id="gen_1", seq=1, model="m", prompt_tokens=3, details=DETAILS)
    )
    assert state.details == DETAILS


def test_the_details_of_a_reply_whose_log_is_gone_are_those_of_its_turn(state: ReplyState) -> None:
    state.take(accepted())
    state.take(snapshot(msgspec.structs.replace(answer("abc"), details=DETAILS)))
    assert state.details == DETAILS


def test_reply_that_ended_before_it_could_be_followed_again_goes_on_counting(state: ReplyState) -> None:
    state.take(accepted())
    state.take(token(1, "shown "))
    state.take(token(2, "before"))
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))
    last, ended = state.take(snapshot(answer("shown before and after")))
    assert isinstance(last, wire.Token)
    assert isinstance(ended, wire.Ended)
    assert ((last.seq, last.text), ended.seq) == ((3, " and after"), 4)
    assert state.text == "shown before and after"


def test_running_reply_that_cannot_be_resumed_is_followed_again_from_its_beginning(state: ReplyState) -> None:
    state.take(accepted())
    state.take(token(1, "shown by one "))
    state.take(token(2, "that was cut off"))
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))
    frame = state.next_frame()
    assert isinstance(frame, wire.Resume)
    assert (frame.generation_id, frame.last_seq) == ("gen_1", 0)
    assert state.take(token(1, "shown by another")) == (Replaced(text=""), token(1, "shown by another"))
    assert state.take(token(2, " one")) == (token(2, " one"),)
    assert state.text == "shown by another one"


def test_running_reply_that_cannot_be_resumed_and_then_has_ended_is_what_is_stored(state: ReplyState) -> None:
    state.take(accepted())
    state.take(token(1, "abc"))
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))
    news = state.take(snapshot(answer("abcdef")))
    assert [type(event) for event in news] == [wire.Token, wire.Ended]
    assert state.text == "abcdef"


def test_running_reply_of_which_nothing_was_seen_replaces_nothing(state: ReplyState) -> None:
    state.take(accepted())
    with pytest.raises(StillRunningError):
        state.take(snapshot(active="gen_1"))
    assert state.take(token(1)) == (token(1),)
