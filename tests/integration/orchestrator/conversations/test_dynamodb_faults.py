"""The DynamoDB store when the server hangs, dies or throttles, when many want the same, and when texts are long."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.catalogue.conversations import STORE_RETRIES
from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import (
    ConversationNotFoundError,
    GenerationNotFoundError,
    GenerationOptions,
    GenerationRunningError,
    Outcome,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.dynamodb.connection import Connection, make_table
from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.conversations import BegunTurn
    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = [pytest.mark.integration]

ANN = PrincipalId("usr_ann")
DONE = Outcome(text="done", finish_reason=FinishReason.STOP)
FAILED = Outcome(text="", finish_reason=FinishReason.ERROR)
DAY = 86_400.0


async def say(
    store: DynamoConversationStore, message: str, text: str = "hello", to: ConversationId | None = None
) -> BegunTurn:
    return await store.begin_turn(
        owner=ANN, conversation_id=to, client_message_id=message, text=text, options=GenerationOptions()
    )


class Between:
    """A relay before the server that can lose answers, hold requests, and answer errors by itself."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.lose_answer_to = ""
        self.hang = False
        self.errors: list[tuple[str, bytes]] = []
        self.url = ""
        self.num_requests = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Between]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _message(reader):
                self.num_requests += 1
                answer = await self._answer(request)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client hung up: what it waits for is over.
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes | None:
        operation = request.split(b"DynamoDB_20120810.", 1)[1].split(b"\r\n", 1)[0].decode()
        if self.hang:
            await asyncio.sleep(3600)
        if self.errors and self.errors[0][0] == operation:
            return self.errors.pop(0)[1]
        reader, writer = await asyncio.open_connection(*self._target)
        writer.write(request)
        answer = await _message(reader)
        writer.close()
        if operation == self.lose_answer_to:
            self.lose_answer_to = ""
            return None
        return answer


async def _message(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def error(code: str, **more: Any) -> bytes:
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code, **more}).encode()
    head = (
        f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.fixture
async def between(connection: Connection, dynamodb: DynamoDBNamespace) -> AsyncIterator[Between]:
    host, port = dynamodb.endpoint.url.removeprefix("http://").split(":")
    async with Between(host, int(port)).running() as relay:
        yield relay


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def shaky(connection: Connection, between: Between, metrics: Metrics) -> AsyncIterator[DynamoConversationStore]:
    """A store that reaches the server through the relay."""
    through = replace(connection, endpoint_url=between.url, deadline_seconds=20.0, attempt_seconds=1.0)
    store = await DynamoConversationStore.open(through, metrics=metrics)
    yield store
    await store.aclose()


class TestLostAnswers:
    async def test_a_message_whose_answer_was_lost_is_stored_once_and_is_no_repetition(
        self, shaky: DynamoConversationStore, between: Between
    ) -> None:
        between.lose_answer_to = "TransactWriteItems"
        begun = await say(shaky, "message-1")
        assert not begun.duplicate
        assert (await shaky.load_conversation(begun.conversation_id)).version == 1
        assert (await say(shaky, "message-1")).duplicate

    async def test_an_end_whose_answer_was_lost_is_stored_once(
        self, shaky: DynamoConversationStore, between: Between
    ) -> None:
        begun = await say(shaky, "message-1")
        between.lose_answer_to = "TransactWriteItems"
        ended = await shaky.finish(begun.generation_id, epoch=1, outcome=DONE)
        assert not ended.already
        assert len((await shaky.load_conversation(begun.conversation_id)).conversation.turns) == 2

    async def test_a_claim_whose_answer_was_lost_holds(self, shaky: DynamoConversationStore, between: Between) -> None:
        begun = await say(shaky, "message-1")
        between.lose_answer_to = "PutItem"
        assert (await shaky.claim(begun.generation_id, epoch=3, holder="a")).epoch == 3


class TestTrouble:
    async def test_throttled_writes_go_through_in_the_end_and_are_counted(
        self, shaky: DynamoConversationStore, between: Between, metrics: Metrics
    ) -> None:
        reasons = [{"Code": "None"}, {"Code": "TransactionConflict", "Message": "conflict"}]
        between.errors = [
            ("TransactWriteItems", error("ProvisionedThroughputExceededException")),
            ("TransactWriteItems", error("TransactionCanceledException", CancellationReasons=reasons)),
        ]
        assert not (await say(shaky, "message-1")).duplicate
        for reason in ("throttled", "conflict"):
            assert metrics.registry.get_sample_value(f"{STORE_RETRIES.name}_total", {"reason": reason}) == 1

    async def test_throttled_for_too_long_is_unavailable_and_says_what_to_do(
        self, shaky: DynamoConversationStore, between: Between
    ) -> None:
        between.errors = [("GetItem", error("ThrottlingException"))] * 10
        with pytest.raises(StoreUnavailableError, match="throttled") as refused:
            await shaky.check()
        assert "capacity" in (refused.value.hint or "")
        await shaky.check()

    async def test_expired_credentials_are_told_at_once(self, shaky: DynamoConversationStore, between: Between) -> None:
        between.errors = [("GetItem", error("ExpiredTokenException"))]
        with pytest.raises(StoreUnavailableError, match="credentials"):
            await shaky.check()
        assert not between.errors

    async def test_a_server_that_hangs_amid_a_message_is_unavailable_in_time_and_nothing_is_half_done(
        self, connection: Connection, between: Between
    ) -> None:
        through = replace(connection, endpoint_url=between.url, deadline_seconds=1.0, attempt_seconds=0.4)
        store = await DynamoConversationStore.open(through)
        between.hang = True
        with pytest.raises(StoreUnavailableError, match="within 1 s") as refused:
            await say(store, "message-1")
        assert "safe" in (refused.value.hint or "")
        between.hang = False
        assert not (await say(store, "message-1")).duplicate
        assert len((await store.list_conversations(owner=ANN, limit=9)).conversations) == 1
        await store.aclose()

    async def test_a_server_that_was_killed_is_an_error_never_a_hang(
        self, pratique_launch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        private = pratique_launch("dynamodb")
        for name, value in private.endpoint.environment().items():
            monkeypatch.setenv(name, value)
        where = Connection(table="conversations", deadline_seconds=1.0, attempt_seconds=0.5)
        await make_table(
            replace(where, attempt_seconds=10.0, deadline_seconds=20.0), clock=ManualClock(), metrics=Metrics()
        )
        store = await DynamoConversationStore.open(where)
        begun = await say(store, "message-1")
        private.kill()
        for attempt in (
            say(store, "message-2"),
            store.load_conversation(begun.conversation_id),
            store.finish(begun.generation_id, epoch=1, outcome=DONE),
            store.check(),
        ):
            with pytest.raises(StoreUnavailableError):
                await attempt
        await store.aclose()


class TestConflictStorms:
    async def test_of_many_messages_in_one_conversation_one_begins(self, connection: Connection) -> None:
        stores = [await DynamoConversationStore.open(connection) for _ in range(3)]
        first = await say(stores[0], "first")
        await stores[0].finish(first.generation_id, epoch=1, outcome=DONE)
        told = await asyncio.gather(
            *(say(stores[n % 3], f"message-{n:02}", to=first.conversation_id) for n in range(24)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, GenerationRunningError) for one in told) == 23
        snapshot = await stores[1].load_conversation(first.conversation_id)
        assert (len(snapshot.conversation.turns), snapshot.version) == (3, 3)
        for store in stores:
            await store.aclose()

    async def test_readers_during_writes_see_whole_versions_only(self, store: DynamoConversationStore) -> None:
        begun = await say(store, "first")
        there = begun.conversation_id
        seen: set[tuple[int, int, bool]] = set()

        async def read() -> None:
            while True:
                snapshot = await store.load_conversation(there)
                shown = snapshot.conversation
                seen.add((snapshot.version, len(shown.turns), shown.active_generation_id is not None))

        reading = asyncio.ensure_future(read())
        for number in range(8):
            await store.finish(begun.generation_id, epoch=1, outcome=DONE)
            begun = await say(store, f"message-{number}", to=there)
        reading.cancel()
        assert len(seen) > 3
        assert all(turns == version and running == (version % 2 == 1) for version, turns, running in seen)


class TestLongThings:
    async def test_a_text_longer_than_an_item_comes_back_whole(self, store: DynamoConversationStore) -> None:
        question, answer = "問" * 200_000, "".join(f"{n:07}\n" for n in range(130_000))
        begun = await say(store, "message-1", question)
        ended = await store.finish(
            begun.generation_id, epoch=1, outcome=Outcome(text=answer, finish_reason=FinishReason.STOP)
        )
        snapshot = await store.load_conversation(begun.conversation_id)
        assert [turn.text for turn in snapshot.conversation.turns] == [question, answer]
        assert await store.load_generation(begun.generation_id) == ended.generation
        again = await say(store, "message-1", question)
        assert again.duplicate
        await store.delete(owner=ANN, conversation_id=begun.conversation_id)

    async def test_a_conversation_of_more_than_a_page_is_read_whole(self, store: DynamoConversationStore) -> None:
        begun = await say(store, "first")
        for number in range(20):
            outcome = Outcome(text="x" * 64_000, finish_reason=FinishReason.STOP)
            await store.finish(begun.generation_id, epoch=1, outcome=outcome)
            begun = await say(store, f"message-{number}", to=begun.conversation_id)
        snapshot = await store.load_conversation(begun.conversation_id)
        assert len(snapshot.conversation.turns) == 41
        assert snapshot == begun.conversation


class TestRemoval:
    async def test_deletion_and_erasure_leave_no_item(
        self, store: DynamoConversationStore, dynamodb: DynamoDBNamespace, connection: Connection
    ) -> None:
        there = ConversationId("")
        for number in range(3):
            begun = await say(store, f"message-{number}", "long" * 20_000)
            there = begun.conversation_id
            await store.finish(begun.generation_id, epoch=1, outcome=FAILED)
            await store.begin_retry(owner=ANN, conversation_id=there, client_message_id=f"retry-{number}")
        await store.delete(owner=ANN, conversation_id=there)
        left = _scan(dynamodb, connection)
        assert [item for item in left if there in item["pk"]["S"]] == []
        assert sum("digest" not in item for item in left if item["sk"]["S"].startswith("M#")) == 2
        await store.erase(owner=ANN)
        assert _scan(dynamodb, connection) == []

    @pytest.mark.parametrize("removal", ["delete", "erase"])
    async def test_a_removal_that_was_interrupted_is_invisible_and_goes_on(
        self,
        removal: str,
        store: DynamoConversationStore,
        dynamodb: DynamoDBNamespace,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun = await say(store, "message-1")

        async def fail(*_: object, **__: object) -> None:
            raise StoreUnavailableError("the network is gone")

        with monkeypatch.context() as patch:
            patch.setattr(store._removal, "clear", fail)
            if removal == "delete":
                await store.delete(owner=ANN, conversation_id=begun.conversation_id)
            else:
                erased = await store.erase(owner=ANN)
                # It is gone for everybody: the caches have to know, and its reply has to stop.
                assert erased.conversation_ids == (begun.conversation_id,)
                assert [one.generation_id for one in erased.running] == [begun.generation_id]
                assert not erased.complete
                with pytest.raises(StoreUnavailableError):
                    await store.erase(owner=ANN)
        with pytest.raises(ConversationNotFoundError):
            await store.load_conversation(begun.conversation_id)
        with pytest.raises(GenerationNotFoundError):
            await store.finish(begun.generation_id, epoch=1, outcome=DONE)
        assert (await store.list_conversations(owner=ANN, limit=9)).conversations == ()
        assert (await store.erase(owner=ANN)).complete
        assert _scan(dynamodb, connection) == []

    async def test_who_has_to_know_of_a_deletion_is_told_before_it_is_cleared(
        self, store: DynamoConversationStore, dynamodb: DynamoDBNamespace, connection: Connection
    ) -> None:
        begun = await say(store, "message-1")
        left: list[str] = []

        async def on_gone() -> None:
            left.extend(item["sk"]["S"][0] for item in _scan(dynamodb, connection))

        await store.delete(owner=ANN, conversation_id=begun.conversation_id, on_gone=on_gone)
        assert sorted(left) == ["C", "H", "M", "T"]

    async def test_an_erasure_that_fails_in_the_middle_says_what_is_gone(
        self, store: DynamoConversationStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun = [await say(store, f"message-{number}") for number in range(3)]
        clear, cleared = store._removal.clear, list[object]()

        async def fail_later(*given: Any, **more: Any) -> tuple[int, int]:
            if cleared:
                raise StoreUnavailableError("the network is gone")
            cleared.append(given[1])
            return await clear(*given, **more)

        with monkeypatch.context() as patch:
            patch.setattr(store._removal, "clear", fail_later)
            first = await store.erase(owner=ANN)
        assert (len(first.conversation_ids), first.num_turns, first.complete) == (2, 1, False)
        then = await store.erase(owner=ANN)
        assert then.complete
        assert {*first.conversation_ids, *then.conversation_ids} == {one.conversation_id for one in begun}

    async def test_purge_goes_on_with_an_interrupted_deletion(
        self,
        store: DynamoConversationStore,
        dynamodb: DynamoDBNamespace,
        connection: Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun = await say(store, "message-1")

        async def fail(*_: object, **__: object) -> None:
            raise StoreUnavailableError("the network is gone")

        with monkeypatch.context() as patch:
            patch.setattr(store._removal, "clear", fail)
            await store.delete(owner=ANN, conversation_id=begun.conversation_id)
        assert await store.purge(unchanged_since=0) == ()
        assert _scan(dynamodb, connection) == []


class TestRetention:
    async def test_a_conversation_that_outlived_its_time_is_gone_before_dynamodb_removes_it(
        self, connection: Connection, clock: ManualClock
    ) -> None:
        store = await DynamoConversationStore.open(connection, retention_seconds=DAY, clock=clock)
        old = await say(store, "message-1")
        await store.finish(old.generation_id, epoch=1, outcome=DONE)
        running = await say(store, "message-2")
        await clock.advance(DAY + 1)
        with pytest.raises(ConversationNotFoundError):
            await store.load_conversation(old.conversation_id)
        with pytest.raises(ConversationNotFoundError):
            await say(store, "message-3", to=old.conversation_id)
        await store.load_conversation(running.conversation_id)
        page = await store.list_conversations(owner=ANN, limit=9)
        assert [one.conversation_id for one in page.conversations] == [running.conversation_id]
        assert [one.conversation_id async for one in store.export(owner=ANN)] == [running.conversation_id]
        await store.aclose()

    async def test_the_old_turns_of_a_conversation_that_goes_on_do_not_expire_before_it(
        self, connection: Connection, clock: ManualClock, dynamodb: DynamoDBNamespace
    ) -> None:
        store = await DynamoConversationStore.open(connection, retention_seconds=DAY, clock=clock)
        begun = await say(store, "message-0", "long" * 30_000)
        for number in range(1, 6):
            await store.finish(begun.generation_id, epoch=1, outcome=DONE)
            await clock.advance(0.4 * DAY)
            begun = await say(store, f"message-{number}", to=begun.conversation_id)
            earliest = min(float(item["expires_at"]["N"]) for item in _scan(dynamodb, connection))
            assert earliest >= clock.epoch() + DAY - 1
        await store.aclose()


class TestTable:
    async def test_a_missing_table_is_told_at_opening(self, connection: Connection) -> None:
        with pytest.raises(StoreUnavailableError, match="no_table") as refused:
            await DynamoConversationStore.open(replace(connection, table="nothing-here"))
        assert "create-table" in (refused.value.hint or "")

    async def test_a_table_with_other_keys_is_refused(
        self, connection: Connection, dynamodb: DynamoDBNamespace
    ) -> None:
        other = dynamodb.create_table("other", key="id: S")
        without_index = dynamodb.create_table("flat", key="pk: S", sort="sk: S")
        with pytest.raises(StoreUnavailableError, match="pk HASH, sk RANGE"):
            await DynamoConversationStore.open(replace(connection, table=other))
        with pytest.raises(StoreUnavailableError, match="by_shelf"):
            await DynamoConversationStore.open(replace(connection, table=without_index))

    async def test_making_it_twice_is_refused(self, connection: Connection) -> None:
        with pytest.raises(StoreUnavailableError):
            await make_table(connection, clock=ManualClock(), metrics=Metrics())

    async def test_lists_alone_are_asked_of_the_read_endpoint(self, connection: Connection, between: Between) -> None:
        through = replace(connection, read_endpoint_url=between.url)
        store = await DynamoConversationStore.open(through)
        begun = await say(store, "message-1")
        await store.load_conversation(begun.conversation_id)
        # Nor the running ones: an old list of them would have abandoned replies found late.
        assert len(await store.running_generations(older_than_seconds=0)) == 1
        assert between.num_requests == 0
        assert len((await store.list_conversations(owner=ANN, limit=9)).conversations) == 1
        assert between.num_requests == 4
        await store.aclose()


def _scan(dynamodb: DynamoDBNamespace, connection: Connection) -> list[dict[str, Any]]:
    pages = dynamodb.client().get_paginator("scan").paginate(TableName=connection.table)
    return [dict(item) for page in pages for item in page["Items"]]
