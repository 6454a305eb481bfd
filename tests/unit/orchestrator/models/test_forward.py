"""The OpenAI API over pools: where a body goes."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.orchestrator.forward.interface import ForwardRequest
from pratique.orchestrator.models.catalogue import ModelCatalogue
from pratique.orchestrator.models.forward import PooledForwarder

pytestmark = pytest.mark.unit


class Recorder:
    """Opens nothing; remembers what it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: list[ForwardRequest] = []

    def open(self, request: ForwardRequest) -> Any:
        self.requests.append(request)
        return self.name


@pytest.mark.parametrize(
    ("body", "pool"),
    [
        (b'{"model":"large","messages":[]}', "large"),
        (b'{"model":"chatbot-en"}', "small"),
        (b'{"model":"smol"}', "small"),
        (b'{"model":"gpt-9"}', "small"),
        (b'{"model":null}', "small"),
        (b'{"messages":[]}', "small"),
        (b"", "small"),
        (b'{"model":"large"', "small"),
        (b'{"model":"\xff"}', "small"),
        (b"[]", "small"),
        (b'{"messages":%b%b}' % (b"[" * 5000, b"]" * 5000), "small"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else value,
)
def test_body_goes_untouched_to_the_pool_of_its_model(catalogue: ModelCatalogue, body: bytes, pool: str) -> None:
    pools = {name: Recorder(name) for name in ("small", "large")}
    request = ForwardRequest(
        method="POST", path="/v1/chat/completions", headers=(), body=body, affinity="usr", timeout_seconds=1
    )
    opened: Any = PooledForwarder(pools, catalogue).open(request)
    assert opened == pool
    assert pools[pool].requests == [request]
