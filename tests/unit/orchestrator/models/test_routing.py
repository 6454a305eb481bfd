"""Where an attempt goes: an earlier attempt's way, a name, the policy; and policies that cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pratique.orchestrator.models.catalogue import ModelCatalogue, build_catalogue
from pratique.orchestrator.models.interface import Choice, ModelNeededError, UnknownModelError
from pratique.orchestrator.models.policies import FixedPolicy
from pratique.orchestrator.models.routing import Routed, Router
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.protocol.events import Route
from pratique.orchestrator.upstream.interface import UpstreamRequest

pytestmark = pytest.mark.unit

Ask = Callable[..., UpstreamRequest]


def choosing(choose: Callable[[Any], Any], catalogue: ModelCatalogue, **more: Any) -> Router:
    policy: Any = SimpleNamespace(name="mine", choose=choose)
    return Router(catalogue, policy, **more)


def always(choice: Any) -> Callable[[Any], Any]:
    return lambda _: choice


def test_policy_chooses_and_its_reason_is_told(catalogue: ModelCatalogue, ask: Ask) -> None:
    router = choosing(always(Choice(pool="large", reason="long", adapter="chatbot-ja")), catalogue)
    assert router.route(ask()) == Routed(
        pool="large",
        adapter="chatbot-ja",
        route=Route(pool="large", model="chatbot-ja", policy="mine", reason="long"),
        others=("small",),
    )


def test_policy_sees_the_question_and_the_pools(catalogue: ModelCatalogue, ask: Ask) -> None:
    seen: list[Any] = []

    def look(question: Any) -> Choice:
        seen.append(question)
        return Choice(pool="small", reason="x")

    choosing(look, catalogue).route(ask("why", passages=("p",)))
    assert (seen[0].text, seen[0].passages, seen[0].pools) == ("why", ("p",), ("small", "large"))


def test_one_pool_leaves_nothing_to_tell(ask: Ask) -> None:
    models = build_catalogue(ModelsSettings(), inference_url="http://x:1")
    assert Router(models, FixedPolicy("default")).route(ask()) == Routed(pool="default")


def test_name_goes_before_the_policy_and_never_falls_back(catalogue: ModelCatalogue, ask: Ask) -> None:
    routed = choosing(always(None), catalogue).route(ask(model="chatbot-en"))
    assert (routed.pool, routed.adapter, routed.others) == ("small", "chatbot-en", ())
    assert routed.route == Route(
        pool="small", model="chatbot-en", policy="named", reason="the message asks for 'chatbot-en'"
    )
    assert choosing(always(None), catalogue).route(ask(model="large")).adapter == ""


def test_name_that_is_gone_since_is_refused(catalogue: ModelCatalogue, ask: Ask) -> None:
    with pytest.raises(UnknownModelError):
        choosing(always(None), catalogue).route(ask(model="chatbot-fr"))


def test_message_without_a_name_is_refused_where_one_is_needed(ask: Ask) -> None:
    pools = (PoolSettings(name="a", url="http://a:1"), PoolSettings(name="b", url="http://b:1"))
    models = build_catalogue(ModelsSettings(pools=pools, policy="named-only"), inference_url="")
    with pytest.raises(ModelNeededError):
        Router(models, FixedPolicy("a")).route(ask())
    assert Router(models, FixedPolicy("a")).route(ask(model="b")).pool == "b"


def test_later_attempts_go_where_the_first_one_went(catalogue: ModelCatalogue, ask: Ask) -> None:
    router = choosing(always(Choice(pool="small", reason="x")), catalogue)
    earlier = Route(pool="large", model="chatbot-ja", policy="mine", reason="long")
    routed = router.route(ask(prefix="said", route=earlier))
    assert (routed.pool, routed.adapter, routed.route, routed.others) == ("large", "chatbot-ja", earlier, ())
    gone = Route(pool="gone", model="", policy="mine", reason="long")
    assert router.route(ask(prefix="said", route=gone)).pool == "small"
    unheld = Route(pool="large", model="chatbot-fr", policy="mine", reason="long")
    assert router.route(ask(route=unheld)).adapter == ""


def raising(_: Any) -> Choice:
    raise RuntimeError("policy")


@pytest.mark.parametrize(
    "choose",
    [
        raising,
        always(None),
        always("large"),
        always(Choice(pool="medium", reason="x")),
        always(Choice(pool="large", reason="x", adapter="chatbot-en")),
        always(Choice(pool="large", reason=None)),  # type: ignore[arg-type] # what a foreign policy may do
        always(Choice(pool=["large"], reason="x")),  # type: ignore[arg-type] # what a foreign policy may do
    ],
)
def test_policy_that_fails_or_chooses_nonsense_costs_no_reply(
    catalogue: ModelCatalogue, ask: Ask, choose: Callable[[Any], Any]
) -> None:
    routed = choosing(choose, catalogue).route(ask())
    assert (routed.pool, routed.adapter, routed.degraded) == ("small", "", ("routing",))
    assert routed.route is not None
    assert "the default pool answers" in routed.route.reason


def test_endless_reason_is_cut(catalogue: ModelCatalogue, ask: Ask) -> None:
    routed = choosing(always(Choice(pool="large", reason="x" * 9999)), catalogue).route(ask())
    assert routed.route is not None
    assert len(routed.route.reason) == 300


@pytest.mark.parametrize(("fields", "has_fallback"), [({}, False), ({"prefix": "said"}, True)])
def test_no_other_pool_where_it_is_not_wanted_or_the_reply_has_begun(
    catalogue: ModelCatalogue, ask: Ask, fields: dict[str, Any], has_fallback: bool
) -> None:
    router = choosing(always(Choice(pool="large", reason="x")), catalogue, has_fallback=has_fallback)
    assert router.route(ask(**fields)).others == ()


def test_prompt_that_is_too_long_for_a_pool_goes_to_one_that_has_room(ask: Ask) -> None:
    pools = (
        PoolSettings(name="small", url="http://s:1", max_prompt_tokens=100),
        PoolSettings(name="large", url="http://l:1"),
    )
    models = build_catalogue(ModelsSettings(pools=pools), inference_url="")
    router = Router(models, FixedPolicy("small"))
    routed = router.route(ask("word " * 200))
    assert (routed.pool, routed.others) == ("large", ())
    assert routed.route is not None
    assert routed.route.reason == "the default pool; too long for 'small'"
    assert router.route(ask("short")).others == ("large",)


def test_where_no_pool_has_room_the_choice_stands(ask: Ask) -> None:
    pools = tuple(PoolSettings(name=name, url="http://s:1", max_prompt_tokens=1) for name in ("a", "b"))
    models = build_catalogue(ModelsSettings(pools=pools), inference_url="")
    routed = Router(models, FixedPolicy("b")).route(ask("word " * 200))
    assert (routed.pool, routed.others) == ("b", ())
