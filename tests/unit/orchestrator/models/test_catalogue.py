"""Names, and where they lead."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.core.settings import SettingsError
from pratique.orchestrator.models.catalogue import ModelCatalogue, Named, build_catalogue
from pratique.orchestrator.models.interface import ModelNeededError, UnknownModelError
from pratique.orchestrator.models.settings import ModelsSettings, PoolSettings
from pratique.orchestrator.protocol.events import ModelReplica, ModelState

pytestmark = pytest.mark.unit

SMALL = PoolSettings(name="small", url="http://small:1", adapters=("chatbot-ja",), models=("smol",))
LARGE = PoolSettings(name="large", url="http://large:1")


def build(**settings: Any) -> ModelCatalogue:
    return build_catalogue(ModelsSettings(**settings), inference_url="http://edge:1")


def test_without_pools_there_is_one_at_the_inference_url() -> None:
    models = build()
    assert (models.default, models.names) == ("default", ("default",))
    assert models.pools["default"].url == "http://edge:1"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("small", Named(pool="small")),
        ("large", Named(pool="large")),
        ("smol", Named(pool="small")),
        ("chatbot-en", Named(pool="small", adapter="chatbot-en")),
        ("chatbot-ja", Named(pool="small", adapter="chatbot-ja")),
    ],
)
def test_names_lead_to_pools_and_shared_adapters_to_the_first_that_holds_them(
    catalogue: ModelCatalogue, name: str, named: Named
) -> None:
    assert catalogue.resolve(name) == named


def test_unknown_name_is_refused_with_what_there_is(catalogue: ModelCatalogue) -> None:
    with pytest.raises(UnknownModelError, match="'gpt' is none") as refused:
        catalogue.verify_named("gpt")
    assert refused.value.hint == "There are: small, large, chatbot-ja, chatbot-en, smol."
    assert refused.value.code == "unknown_model"
    catalogue.verify_named("chatbot-en")
    catalogue.verify_named(None)


def test_where_a_name_is_needed_none_is_refused() -> None:
    models = build(pools=(SMALL, LARGE), policy="named-only")
    models.verify_named("large")
    with pytest.raises(ModelNeededError) as refused:
        models.verify_named(None)
    assert "small, large" in str(refused.value)


def test_the_default_comes_first() -> None:
    assert build(pools=(SMALL, LARGE), default_pool="large").order == ("large", "small")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pools": (SMALL, SMALL)}, "different names"),
        ({"pools": (SMALL, LARGE), "default_pool": "medium"}, "one of small, large; found 'medium'"),
        ({"pools": (SMALL, PoolSettings(name="smol", url="http://x:1"))}, "'smol' is a pool and more"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(**settings)


def test_pool_may_be_served_under_its_own_name() -> None:
    models = build(pools=(PoolSettings(name="qwen", url="http://x:1", models=("qwen",)),))
    assert models.names == ("qwen",)


def test_readiness_is_told_by_the_servers_named_after_the_pool(catalogue: ModelCatalogue) -> None:
    state = ModelState(
        ready=True,
        replicas=(
            ModelReplica(name="small/0", state="loading"),
            ModelReplica(name="small/1", state="traffic_ready"),
            ModelReplica(name="other", state="traffic_ready"),
        ),
    )
    assert catalogue.readiness("small", state) is True
    assert catalogue.readiness("large", state) is None
    assert build().readiness("default", state) is True
    gone = ModelState(ready=False, replicas=(ModelReplica(name="large", state="unreachable"),))
    assert catalogue.readiness("large", gone) is False
