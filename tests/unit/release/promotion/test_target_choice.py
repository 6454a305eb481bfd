"""Which target an environment has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pratique.core.errors import CallerError
from pratique.fleet.targets.ecs import EcsTargetSettings
from pratique.fleet.targets.local import LocalSettings, LocalTarget
from pratique.fleet.targets.sagemaker import SageMakerTargetSettings
from pratique.release.promotion.settings import PromotionSettings
from pratique.release.promotion.targets import open_target

pytestmark = pytest.mark.unit

RULE = "arn:aws:elasticloadbalancing:eu-central-1:1:listener-rule/app/edge/11/22/33"


def test_each_environment_has_its_own_target(tmp_path: Path) -> None:
    local = LocalSettings(folder=tmp_path, command=("x",), port=1, admin_port=2, slot_ports=(3, 4))
    settings = PromotionSettings(
        targets={"here": local},
        ecs={
            "chat": EcsTargetSettings(cluster="c", services=("a", "b"), rule=RULE, repository="r", region="eu-west-1")
        },
        sagemaker={"model": SageMakerTargetSettings(endpoint="e", repository="r", template="t", region="eu-west-1")},
    )
    assert isinstance(open_target(settings, "here"), LocalTarget)
    assert open_target(settings, "chat").name == "ecs:eu-west-1/c/a"
    assert open_target(settings, "model").name == "sagemaker:eu-west-1/e"
    with pytest.raises(CallerError, match="no target for 'elsewhere'") as caught:
        open_target(settings, "elsewhere")
    assert "chat, here, model" in str(caught.value)


def test_an_environment_in_two_places_is_refused() -> None:
    ecs = EcsTargetSettings(cluster="c", services=("a", "b"), rule=RULE, repository="r")
    sagemaker = SageMakerTargetSettings(endpoint="e", repository="r", template="t")
    with pytest.raises(CallerError, match="got more for production"):
        PromotionSettings(ecs={"production": ecs}, sagemaker={"production": sagemaker})
