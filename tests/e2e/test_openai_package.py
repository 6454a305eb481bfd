"""The `openai` package, unchanged, pointed at the edge with one of our API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.vllm]


@pytest.fixture
def client(real_stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{real_stack.url}/v1", api_key=real_stack.api_key, max_retries=0, timeout=60
    ) as client:
        yield client


def the_model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "smollm2" in the_model(client).lower()


def test_a_chat_streams_in_several_pieces(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=the_model(client),
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=32,
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 3
    assert "Paris" in "".join(pieces)


def test_unknown_model_is_a_clean_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "hi"}])
    assert "gpt-none" in refused.value.message


def test_wrong_key_is_a_clean_authentication_error(real_stack: Stack) -> None:
    with (
        openai.OpenAI(base_url=f"{real_stack.url}/v1", api_key="pk_wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
