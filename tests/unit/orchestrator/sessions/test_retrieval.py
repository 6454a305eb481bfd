"""A reply with passages: what the model is given, what the reader is told, and what happens without an index."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.orchestrator.protocol.events import Source
from pratique.orchestrator.retrieval.documents import Document
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.memory import MemoryRetriever
from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamInterruptedError, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.unit

House = Any
Reader = Any
LAMP = Document(id="lamp", title="The Lamp", text="A keeper of a lighthouse.", url="https://manga.example/lamp")
COOK = Document(id="cook", title="The Cook", text="A cook at night.")
SOURCE = Source(source_id="lamp", title="The Lamp", url="https://manga.example/lamp")
START = UpstreamStart(model="m", prompt_tokens=3, is_reduced=True)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=1)


class Away:
    """An index that nobody can ask."""

    async def search(self, query: str, *, limit: int) -> Any:
        raise RetrievalUnavailableError("The index is away.")

    async def check(self) -> None:
        raise RetrievalUnavailableError("The index is away.")

    async def aclose(self) -> None: ...


async def details_of(house: House, begun: Any) -> Any:
    stored = await house.store.load_conversation(begun.conversation_id)
    return stored.conversation.turns[-1].details


async def test_what_was_found_goes_to_the_model_and_is_told_and_stored(house: House, reader: Reader) -> None:
    house.retriever = MemoryRetriever([LAMP, COOK])
    sessions = await house.replica()
    begun = await house.say("Is there a lighthouse?")
    await reader.read(sessions.begin(begun.generation))
    assert house.upstream.requests[0].passages == ("The Lamp\nA keeper of a lighthouse.",)
    assert reader.events[0].details.sources == (SOURCE,)
    assert (await details_of(house, begun)).sources == (SOURCE,)


async def test_where_nothing_fits_nothing_is_told(house: House, reader: Reader) -> None:
    house.retriever = MemoryRetriever([LAMP, COOK])
    sessions = await house.replica()
    begun = await house.say("Is there a spaceship?")
    await reader.read(sessions.begin(begun.generation))
    assert house.upstream.requests[0].passages == ()
    assert reader.events[0].details is None
    assert await details_of(house, begun) is None


async def test_without_an_index_that_answers_the_reply_is_made_without_and_says_so(
    house: House, reader: Reader
) -> None:
    house.retriever = Away()
    house.upstream = ScriptedUpstream([[START, UpstreamToken("x"), END]])
    sessions = await house.replica()
    begun = await house.say("Is there a lighthouse?")
    await reader.read(sessions.begin(begun.generation))
    assert reader.text == "x"
    assert reader.events[0].details.degraded == ("retrieval", "reduced_context")
    assert (await details_of(house, begun)).degraded == ("retrieval", "reduced_context")


async def test_a_reply_that_goes_on_elsewhere_is_given_the_same_passages(house: House, reader: Reader) -> None:
    house.retriever = MemoryRetriever([LAMP, COOK])
    cut: list[Any] = [START, UpstreamToken("x"), UpstreamInterruptedError("killed")]
    house.upstream = ScriptedUpstream([cut, [START, UpstreamToken("y"), END]])
    sessions = await house.replica()
    begun = await house.say("Is there a lighthouse?")
    await reader.read(sessions.begin(begun.generation))
    first, second = house.upstream.requests
    assert first.passages == second.passages != ()
    assert (reader.kinds, reader.text) == (["Started", "Token", "Continued", "Token", "Ended"], "xy")
