"""Two pools over scripts, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pratique.core.ids import ConversationId
from pratique.orchestrator.models.catalogue import ModelCatalogue, build_catalogue
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.upstream.interface import UpstreamRequest

SMALL = PoolSettings(name="small", url="http://small:1", adapters=("chatbot-ja", "chatbot-en"), models=("smol",))
LARGE = PoolSettings(name="large", url="http://large:1", adapters=("chatbot-ja",), description="thinks longer")


@pytest.fixture
def catalogue() -> ModelCatalogue:
    return build_catalogue(ModelsSettings(pools=(SMALL, LARGE)), inference_url="http://nobody:1")


@pytest.fixture
def ask() -> Callable[..., UpstreamRequest]:
    def make(query: str = "one two three", **fields: Any) -> UpstreamRequest:
        base = UpstreamRequest(request_id="req_1", conversation_id=ConversationId("conv_1"), query=query)
        return replace(base, **fields)

    return make
