"""Naming a model: what there is, what is refused before it is stored, what a reply tells of its route."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.upstream.interface import UpstreamUnavailableError
from pratique.orchestrator.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.unit

Service = Any


def pools(**settings: Any) -> ModelsSettings:
    """Both played by the service's script."""
    url = "http://127.0.0.1:9"
    small = PoolSettings(name="small", url=url, adapters=("chatbot-ja",), models=("smol",), description="quick")
    return ModelsSettings(pools=(small, PoolSettings(name="large", url=url)), **{"policy": "complexity", **settings})


async def test_pools_and_adapters_are_listed_for_principals_only(service: Service) -> None:
    await service.start(models=pools())
    listed = await service.get("/api/models")
    assert listed["policy"] == "complexity"
    assert [(one["name"], one["kind"], one["pool"]) for one in listed["models"]] == [
        ("small", "pool", "small"),
        ("large", "pool", "large"),
        ("chatbot-ja", "adapter", "small"),
        ("smol", "model", "small"),
    ]
    assert listed["models"][0] == {
        "name": "small",
        "kind": "pool",
        "pool": "small",
        "description": "quick",
        "is_default": True,
        "ready": False,
    }
    async with aiohttp.ClientSession() as nobody, nobody.get(f"{service.url}/api/models") as response:
        assert response.status == 401


async def test_default_is_one_pool_and_replies_say_nothing_of_it(service: Service) -> None:
    await service.start()
    listed = await service.get("/api/models")
    assert [(one["name"], one["is_default"]) for one in listed["models"]] == [("default", True)]
    assert (await service.post("/api/chat", service.message()))["turn"]["details"] is None


async def test_readiness_that_is_not_known_is_not_claimed(service: Service) -> None:
    await service.start(models=pools(), inference_status_urls=(f"small/0={service.model.url or 'http://127.0.0.1:9'}",))
    by_name = {one["name"]: one for one in (await service.get("/api/models"))["models"]}
    assert "ready" in by_name["small"]
    assert "ready" not in by_name["large"]


async def test_unknown_model_is_refused_and_nothing_is_stored(service: Service) -> None:
    await service.start(models=pools())
    refused = await service.post("/api/chat", service.message(model="gpt-9"), status=404)
    assert refused["error"]["code"] == "unknown_model"
    assert refused["error"]["hint"] == "There are: small, large, chatbot-ja, smol."
    assert (await service.get("/api/conversations"))["conversations"] == []
    async with service.socket() as socket:
        await socket.send("message", **service.message(model="gpt-9"))
        event = await socket.receive("error", "accepted")
    assert event["error"]["code"] == "unknown_model"
    assert service.upstream.requests == []


async def test_message_that_must_name_a_model_and_does_not_is_refused(service: Service) -> None:
    await service.start(models=pools(policy="named-only"))
    refused = await service.post("/api/chat", service.message(), status=404)
    assert refused["error"]["code"] == "unknown_model"
    answered = await service.post("/api/chat", service.message(model="large"))
    assert answered["turn"]["details"]["route"]["policy"] == "named"


@pytest.mark.parametrize(
    ("message", "route"),
    [
        (
            {"text": "Hello"},
            {
                "pool": "small",
                "model": "",
                "policy": "complexity",
                "reason": "simple question (0 of 2): nothing that makes it hard",
            },
        ),
        (
            {"text": "Compare both, step by step"},
            {"pool": "large", "model": "", "policy": "complexity", "reason": 'complex question (2 of 2): "compare"'},
        ),
        (
            {"text": "Hello", "model": "chatbot-ja"},
            {
                "pool": "small",
                "model": "chatbot-ja",
                "policy": "named",
                "reason": "the message asks for 'chatbot-ja'",
            },
        ),
    ],
)
async def test_route_is_kept_with_the_turn(service: Service, message: dict[str, str], route: dict[str, str]) -> None:
    await service.start(models=pools())
    reply = await service.post("/api/chat", service.message(**message))
    stored = await service.get(f"/api/conversations/{reply['conversation_id']}")
    assert stored["turns"][-1]["details"]["route"] == reply["turn"]["details"]["route"] == route
    assert service.upstream.requests[0].adapter == route["model"]


async def test_other_pool_answers_where_the_chosen_one_is_away(service: Service) -> None:
    service.upstream = ScriptedUpstream([[UpstreamUnavailableError("loading")]])
    await service.start(models=pools(policy="fixed"))
    reply = await service.post("/api/chat", service.message())
    assert reply["turn"]["details"]["route"]["pool"] == "large"
    assert "'small' is unavailable" in reply["turn"]["details"]["route"]["reason"]


async def test_policy_that_fails_is_told_with_the_reply(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(self: object, question: object) -> None:
        raise RuntimeError(self, question)

    monkeypatch.setattr("pratique.orchestrator.models.policies.FixedPolicy.choose", choose)
    await service.start(models=pools(policy="fixed"))
    reply = await service.post("/api/chat", service.message())
    assert reply["turn"]["details"]["degraded"] == ["routing"]
