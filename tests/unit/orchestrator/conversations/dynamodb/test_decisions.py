"""The pure part of the DynamoDB store: keys that sort, items that hold everything, torn reads, what errors mean."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.ids import ConversationId, GenerationId, PrincipalId, SequentialIds, TurnId
from pratique.orchestrator.conversations import (
    ClientMessageConflictError,
    FencedError,
    GenerationOptions,
    GenerationRecord,
    GenerationRunningError,
    GenerationStatus,
    Outcome,
)
from pratique.orchestrator.conversations.dynamodb import faults, items, keys, plans, table
from pratique.orchestrator.conversations.dynamodb.faults import Kind
from pratique.orchestrator.conversations.dynamodb.items import (
    Head,
    KnownMessage,
    Snapshot,
    StoredGeneration,
    StoredTurn,
    TornReadError,
)
from pratique.orchestrator.conversations.dynamodb.plans import Names, Request, Retention
from pratique.orchestrator.protocol.events import FinishReason, Role, Turn, TurnStatus

pytestmark = pytest.mark.unit

ANN = PrincipalId("usr_ann")
NOW = 1_700_000_000.25
FOR_EVER = Retention()
TIMES = st.floats(min_value=0, max_value=1e11)


def begun(text: str = "hello", retention: Retention = FOR_EVER) -> tuple[plans.BeginPlan, Names]:
    names = Names(SequentialIds())
    request = Request(owner=ANN, client_message_id="message-1", conversation_id=None, text=text)
    return plans.plan_message(request, None, names, now=NOW, retention=retention), names


def partition_of(plan: plans.BeginPlan | plans.FinishPlan) -> list[keys.Item]:
    """The items that a Query of the conversation's partition answers with."""
    written = [write.item for write in plan.writes if write.item["pk"]["S"].startswith("C#")]
    conversation_id = ConversationId(written[0]["pk"]["S"].removeprefix("C#"))
    return written + items.chunks_of(conversation_id, plan.turn)


def generation_of(plan: plans.BeginPlan) -> StoredGeneration:
    return items.generation_of(next(w.item for w in plan.writes if w.item["sk"]["S"] == "G"))


def ended(text: str) -> plans.FinishPlan:
    plan, _ = begun()
    snapshot = items.assemble(partition_of(plan))
    assert snapshot is not None
    return plans.plan_finish(
        generation_of(plan),
        snapshot,
        epoch=1,
        outcome=Outcome(text=text, finish_reason=FinishReason.STOP),
        names=Names(SequentialIds()),
        call="call",
        now=NOW + 1,
        retention=FOR_EVER,
    )


class TestKeys:
    @given(TIMES, TIMES, st.text(max_size=3), st.text(max_size=3))
    @settings(max_examples=50, deadline=None)
    def test_places_sort_by_time_and_then_by_name(self, one: float, other: float, a: str, b: str) -> None:
        expected = (one, a) < (other, b)
        assert (keys.place(one, a).split("#", 1) < keys.place(other, b).split("#", 1)) == expected

    def test_infinity_is_after_every_time(self) -> None:
        assert keys.place(math.inf, "") > keys.place(1e300, "zzz")
        assert keys.place(-5.0, "x") == keys.place(0.0, "x")

    def test_what_a_principal_does_is_spread_over_all_its_partitions(self) -> None:
        used = {keys.message_key(ANN, f"message-{number}")["pk"]["S"] for number in range(100)}
        assert used == set(keys.owner_partitions(ANN))

    def test_running_generations_are_spread_over_all_shelves(self) -> None:
        used = {keys.running_shelf(GenerationId(f"gen_{number}")) for number in range(200)}
        assert used == set(keys.running_shelves())

    def test_a_principal_named_like_a_shard_of_another_shares_nothing_with_it(self) -> None:
        other = PrincipalId("usr_ann#1")
        assert not set(keys.owner_partitions(ANN)) & set(keys.owner_partitions(other))
        assert not set(keys.list_shelves(ANN)) & set(keys.list_shelves(other))


class TestItems:
    @pytest.mark.parametrize("text", ["", "short", "\x00'\u202e", "x" * 65_536, "x" * 65_537, "日本語🗾" * 80_000])
    def test_a_text_of_any_length_comes_back_whole_and_fits(self, text: str) -> None:
        plan, _ = begun(text)
        found = partition_of(plan)
        snapshot = items.assemble(found)
        assert snapshot is not None
        assert snapshot.turns[0].turn.text == text
        assert snapshot.shown() == plan.begun.conversation
        for item in found:
            assert sum(len(str(name)) + len(str(value)) for name, value in item.items()) < 1_200_000
            assert len(item.get("piece", {}).get("B", b"")) <= 256 * 1024

    def test_a_reply_is_stored_once_and_not_again_with_its_generation(self) -> None:
        plan = ended("a long reply" * 10)
        stored = next(write.item for write in plan.writes if write.item["sk"]["S"] == "G")
        assert "a long reply" not in str(stored)

    def test_no_head_is_no_conversation(self) -> None:
        plan, _ = begun()
        assert items.assemble([]) is None
        assert items.assemble(partition_of(plan)[1:]) is None

    def test_a_finished_generation_is_on_no_shelf_and_a_running_one_is(self) -> None:
        plan, _ = begun()
        running = next(w.item for w in plan.writes if w.item["sk"]["S"] == "G")
        finished = next(w.item for w in ended("x").writes if w.item["sk"]["S"] == "G")
        assert "shelf" in running
        assert "shelf" not in finished


class TestTornReads:
    def test_a_turn_newer_than_its_head_is_one(self) -> None:
        before, after = begun()[0], ended("reply")
        reply = partition_of(after)[1]
        with pytest.raises(TornReadError):
            items.assemble([*partition_of(before), reply])

    def test_a_head_newer_than_its_turns_is_one(self) -> None:
        before, after = begun()[0], ended("reply")
        with pytest.raises(TornReadError):
            items.assemble([partition_of(after)[0], *partition_of(before)[1:]])

    def test_a_missing_piece_of_a_text_is_one(self) -> None:
        found = partition_of(begun("x" * 600_000)[0])
        assert len(found) == 5
        with pytest.raises(TornReadError):
            items.assemble(found[:-1])


class TestPlans:
    def test_a_message_is_one_transaction_with_its_id_its_turn_and_its_generation(self) -> None:
        plan, names = begun()
        told = [(write.item["pk"]["S"][0], write.item["sk"]["S"][0], bool(write.condition)) for write in plan.writes]
        assert told == [("C", "H", True), ("C", "T", False), ("G", "G", False), ("O", "M", True), ("O", "C", False)]
        assert names.made_generation == plan.begun.generation_id

    def test_a_refused_message_mints_no_ids(self) -> None:
        plan, _ = begun()
        names = Names(SequentialIds())
        request = Request(owner=ANN, client_message_id="m", conversation_id=plan.begun.conversation_id, text="more")
        snapshot = items.assemble(partition_of(plan))
        with pytest.raises(GenerationRunningError):
            plans.plan_message(request, snapshot, names, now=NOW, retention=FOR_EVER)
        assert vars(names).keys() == {"_ids"}
        assert names.made_generation is None

    def test_every_write_of_a_conversation_waits_for_the_head_that_was_read(self) -> None:
        plan = ended("reply")
        assert plan.writes[0].values == {":read": {"N": "1"}}
        assert plan.writes[2].values == {":running": {"S": "running"}, ":epoch": {"N": "0"}}

    def test_a_late_epoch_plans_nothing(self) -> None:
        plan, _ = begun()
        stored = generation_of(plan)
        held = msgspec.structs.replace(stored, record=msgspec.structs.replace(stored.record, epoch=5))
        snapshot = items.assemble(partition_of(plan))
        assert snapshot is not None
        with pytest.raises(FencedError):
            plans.plan_finish(
                held,
                snapshot,
                epoch=4,
                outcome=Outcome(text="x", finish_reason=FinishReason.STOP),
                names=Names(SequentialIds()),
                call="c",
                now=NOW,
                retention=FOR_EVER,
            )

    def test_the_message_id_of_a_forgotten_text_repeats_but_not_elsewhere(self) -> None:
        known = KnownMessage(
            owner=ANN,
            client_message_id="m",
            began_conversation=True,
            conversation_id=ConversationId("conv_1"),
            generation_id=GenerationId("gen_1"),
        )
        request = Request(owner=ANN, client_message_id="m", conversation_id=None, text="anything")
        plans.check_known(known, request)
        with pytest.raises(ClientMessageConflictError):
            plans.check_known(known, replace(request, conversation_id=ConversationId("conv_2")))

    def test_without_a_user_turn_there_is_nothing_to_take_options_from(self) -> None:
        assert plans.last_asked(None) is None


class TestRetention:
    DAY = Retention(seconds=86_400)

    def test_off_nothing_expires_and_nothing_is_over(self) -> None:
        head = _head(updated_at=0)
        assert FOR_EVER.expires_at(NOW) is None
        assert not FOR_EVER.is_over(head, NOW)
        assert not FOR_EVER.is_stale(None, NOW)
        assert all("expires_at" not in write.item for write in begun()[0].writes)

    def test_on_every_item_of_a_message_expires_and_none_before_the_conversation_does(self) -> None:
        plan, _ = begun("x" * 600_000, self.DAY)
        for item in [*(write.item for write in plan.writes), *partition_of(plan)]:
            assert float(item["expires_at"]["N"]) > NOW + 86_400

    def test_a_conversation_is_over_after_its_time_unless_a_reply_is_made_in_it(self) -> None:
        assert not self.DAY.is_over(_head(updated_at=NOW - 86_399), NOW)
        assert self.DAY.is_over(_head(updated_at=NOW - 86_401), NOW)
        running = msgspec.structs.replace(_head(updated_at=NOW - 86_401), active=GenerationId("gen_1"))
        assert not self.DAY.is_over(running, NOW)

    def test_an_item_is_put_off_when_it_would_go_before_its_conversation(self) -> None:
        assert self.DAY.is_stale(None, NOW)
        assert self.DAY.is_stale(int(NOW) + 86_399, NOW)
        assert not self.DAY.is_stale(self.DAY.expires_at(NOW), NOW)

    def test_the_owners_entry_outlives_all_that_may_be_written_before_it_is_put_off(self) -> None:
        plan, _ = begun("hello", self.DAY)
        first, entry = (
            next(w.item for w in plan.writes if w.item["sk"]["S"].startswith(kind)) for kind in ("T#", "C#")
        )
        last = NOW
        while not self.DAY.is_stale(int(first["expires_at"]["N"]), last + 60):
            last += 60
        late_end = self.DAY.expires_at(last + 86_000)
        assert late_end is not None
        assert int(entry["expires_at"]["N"]) > late_end

    def test_another_title_does_not_have_the_head_outlive_the_owners_entry(self) -> None:
        snapshot = Snapshot(head=_head(updated_at=NOW))
        write, _ = plans.plan_rename(snapshot, "other", retention=self.DAY)
        assert int(write.item["expires_at"]["N"]) == self.DAY.expires_at(NOW)

    def test_a_tombstone_does_not_expire_before_it_is_cleared(self) -> None:
        (write,) = plans.plan_deletion(_head(updated_at=NOW), call="c")
        assert "expires_at" not in write.item
        assert "shelf" not in write.item


class TestFaults:
    @pytest.mark.parametrize(
        ("codes", "kind", "reason"),
        [
            (["ConditionalCheckFailed", "None"], Kind.CONDITION, "condition"),
            (["TransactionConflict", "ConditionalCheckFailed"], Kind.CONDITION, "condition"),
            (["None", "TransactionConflict"], Kind.RETRY, "conflict"),
            (["ThrottlingError", "None"], Kind.RETRY, "throttled"),
            (["ProvisionedThroughputExceeded"], Kind.RETRY, "throttled"),
            (["ValidationError", "TransactionConflict"], Kind.FATAL, "refused"),
            (["ItemCollectionSizeLimitExceeded"], Kind.FATAL, "refused"),
            ([], Kind.CONDITION, "condition"),
            (["None"], Kind.CONDITION, "condition"),
        ],
    )
    def test_a_cancelled_transaction_means(self, codes: list[str], kind: Kind, reason: str) -> None:
        fault = faults.assess_cancellation([{"Code": code} for code in codes])
        assert (fault.kind, fault.reason) == (kind, reason)

    @pytest.mark.parametrize(
        ("code", "status", "kind", "reason"),
        [
            ("ConditionalCheckFailedException", 400, Kind.CONDITION, "condition"),
            ("ProvisionedThroughputExceededException", 400, Kind.RETRY, "throttled"),
            ("TransactionInProgressException", 400, Kind.RETRY, "in_progress"),
            ("SomethingNew", 503, Kind.RETRY, "server_error"),
            ("SomethingNew", 400, Kind.FATAL, "refused"),
            ("ValidationException", 400, Kind.FATAL, "refused"),
            ("AccessDeniedException", 400, Kind.FATAL, "access_denied"),
            ("ExpiredTokenException", 400, Kind.FATAL, "credentials"),
            ("ResourceNotFoundException", 400, Kind.FATAL, "no_table"),
        ],
    )
    def test_an_error_answer_means(self, code: str, status: int, kind: Kind, reason: str) -> None:
        fault = faults.assess_code(code, status=status)
        assert (fault.kind, fault.reason) == (kind, reason)

    def test_what_the_way_to_it_means(self) -> None:
        assert faults.assess_transport("NoCredentialsError").kind is Kind.FATAL
        assert faults.assess_transport("ReadTimeoutError").kind is Kind.RETRY

    def test_waits_grow_and_are_bounded(self) -> None:
        waits = [faults.backoff_seconds(attempt, draw=1.0) for attempt in range(40)]
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (0.025, 1.0)
        assert faults.backoff_seconds(9, draw=0.0) == 0.0


def test_the_template_has_the_keys_that_are_checked_and_keeps_the_table() -> None:
    resource = table.cloudformation("talk")["Resources"]["Conversations"]
    assert resource["DeletionPolicy"] == "Retain"
    assert resource["Properties"]["KeySchema"] == table.definition()["KeySchema"]
    assert resource["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


def test_what_an_older_replica_does_not_know_it_ignores() -> None:
    head = items.head_item(_head(updated_at=NOW), expires_at=None)
    head["body"] = {"S": head["body"]["S"].replace("{", '{"later":1,', 1)}
    assert items.head_of(head) == _head(updated_at=NOW)


def test_a_record_keeps_everything_but_its_text() -> None:
    record = GenerationRecord(
        generation_id=GenerationId("gen_1"),
        conversation_id=ConversationId("conv_1"),
        owner=ANN,
        user_turn_id=TurnId("turn_1"),
        options=GenerationOptions(max_tokens=3),
        status=GenerationStatus.FINISHED,
        epoch=2,
        created_at=NOW,
        outcome=Outcome(text="gone", finish_reason=FinishReason.ERROR),
    )
    stored = StoredGeneration(record=record, touched_at=NOW, position=2, holder="a", ended_by="c")
    again = items.generation_of(items.generation_item(stored, expires_at=9))
    assert again.record.outcome == Outcome(text="", finish_reason=FinishReason.ERROR)
    assert msgspec.structs.replace(again, record=record) == stored


def test_hidden_replies_are_kept_and_not_shown() -> None:
    turn = Turn(turn_id="t", role=Role.ASSISTANT, text="old", status=TurnStatus.PARTIAL, created_at=NOW)
    hidden = StoredTurn(position=2, turn=turn, version=2, superseded_by=GenerationId("gen_2"))
    assert Snapshot(head=_head(updated_at=NOW), turns=(hidden,)).shown().conversation.turns == ()


def _head(*, updated_at: float) -> Head:
    return Head(
        conversation_id=ConversationId("conv_1"),
        owner=ANN,
        title="t",
        created_at=0.0,
        updated_at=updated_at,
        version=3,
    )
