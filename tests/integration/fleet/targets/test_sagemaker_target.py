"""The SageMaker target over moto and a simulated endpoint: real HTTP, requests checked by botocore's own model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from msgspec.structs import replace as with_settings
from tests.unit.fleet.targets.target_contract import TargetContract

from pratique.fleet.targets._weighted import WeightedTarget
from pratique.fleet.targets.interface import Deployment, TargetError
from pratique.fleet.targets.sagemaker import SageMakerTargetSettings, open_sagemaker_target

pytestmark = pytest.mark.integration
simulator = pytest.importorskip("tests.integration.fleet.targets.aws_simulator", exc_type=ImportError)
Fault, Measured = simulator.Fault, simulator.Measured

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
REPOSITORY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ranker"
WRITES = (
    "CreateModel",
    "CreateEndpointConfig",
    "UpdateEndpoint",
    "UpdateEndpointWeightsAndCapacities",
)
NUMBERS = itertools.count(1)


@dataclass
class Stage:
    aws: Any
    settings: SageMakerTargetSettings

    def client(self) -> Any:
        return boto3.client("sagemaker", region_name="eu-central-1", endpoint_url=self.aws.url)

    def endpoint(self) -> Any:
        return self.client().describe_endpoint(EndpointName=self.settings.endpoint)

    def variants(self) -> dict[str, tuple[float, int]]:
        found = self.endpoint()["ProductionVariants"]
        return {one["VariantName"]: (one["CurrentWeight"], one["CurrentInstanceCount"]) for one in found}

    def writes(self) -> list[str]:
        return [one for one in self.aws.calls if one in {*WRITES, "CreateEndpoint"}]


@pytest.fixture(scope="module")
def account() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        aws = simulator.AwsSimulator()
        client = boto3.client("sagemaker", region_name="eu-central-1", endpoint_url=aws.url)
        client.create_model(
            ModelName="ranker-template",
            PrimaryContainer={"Image": f"{REPOSITORY}:placeholder", "Environment": {"MODE": "production"}},
            ExecutionRoleArn="arn:aws:iam::123456789012:role/ranker",
        )
        client.create_endpoint_config(
            EndpointConfigName="ranker-template",
            ProductionVariants=[
                {
                    "VariantName": "any",
                    "ModelName": "ranker-template",
                    "InitialInstanceCount": 2,
                    "InstanceType": "ml.g4dn.xlarge",
                    "InitialVariantWeight": 1.0,
                    "ContainerStartupHealthCheckTimeoutInSeconds": 600,
                }
            ],
        )
        try:
            yield aws
        finally:
            aws.close()


@pytest.fixture
def stage(account: Any) -> Stage:
    account.calm()
    settings = SageMakerTargetSettings(
        endpoint=f"ranker-{next(NUMBERS)}",
        repository=REPOSITORY,
        template="ranker-template",
        region="eu-central-1",
        ready_seconds=5,
        shift_seconds=5,
        poll_seconds=0.01,
        endpoint_url=account.url,
    )
    return Stage(account, settings)


@pytest.fixture
def target(stage: Stage) -> WeightedTarget:
    return open_sagemaker_target(stage.settings)


class TestSageMakerTarget(TargetContract):
    first = ONE
    second = TWO


def test_a_first_release_is_the_template_with_another_image(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    client = stage.client()
    config = client.describe_endpoint_config(EndpointConfigName=stage.endpoint()["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    assert (variant["VariantName"], variant["InstanceType"], variant["InitialInstanceCount"]) == (
        "a",
        "ml.g4dn.xlarge",
        2,
    )
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    model = client.describe_model(ModelName=variant["ModelName"])
    assert model["PrimaryContainer"]["Image"] == f"{REPOSITORY}@{ONE}"
    assert model["PrimaryContainer"]["Environment"] == {"MODE": "production"}


def test_a_rollback_after_a_promotion_moves_weights_and_nothing_else(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    assert stage.variants() == {"a": (950.0, 2), "b": (50.0, 2)}
    target.promote(TWO)
    assert stage.variants() == {"a": (0.0, 2), "b": (1000.0, 2)}
    stage.aws.calls.clear()
    target.promote(ONE)
    assert stage.writes() == ["UpdateEndpointWeightsAndCapacities"]
    assert stage.variants() == {"a": (1000.0, 2), "b": (0.0, 2)}


def test_an_abort_moves_the_weights_first_and_then_ends_the_instances(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    stage.aws.calls.clear()
    target.abort_canary()
    assert stage.writes() == ["UpdateEndpointWeightsAndCapacities", "UpdateEndpoint"]  # to the configuration before
    target.abort_canary()
    assert stage.variants() == {"a": (1000.0, 2)}


def test_a_change_waits_for_the_one_before_it(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    stage.aws.slow = 5
    target.abort_canary()
    target.promote(THREE)
    assert target.deployment() == Deployment(THREE)


def test_without_a_kept_release_only_what_has_traffic_stays(stage: Stage) -> None:
    target = open_sagemaker_target(with_settings(stage.settings, keep_previous=False))
    target.promote(ONE)
    target.promote(TWO)
    open_sagemaker_target(stage.settings).abort_canary()
    assert stage.variants() == {"b": (1000.0, 2)}


def test_an_update_that_goes_back_gave_it_no_traffic(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    stage.aws.sick.add(TWO)
    with pytest.raises(TargetError, match=r"is not ready on 'ranker-.*ping health check"):
        target.start_canary(TWO, share=0.05)
    assert stage.variants() == {"a": (1000.0, 2)}


def test_an_endpoint_that_failed_at_first_says_why(stage: Stage, target: WeightedTarget) -> None:
    stage.aws.sick.add(ONE)
    with pytest.raises(TargetError, match=r"is Failed: .*ping health check"):
        target.promote(ONE)


def test_an_update_that_takes_too_long_is_an_error_and_goes_on(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    stage.aws.slow = 100_000
    with pytest.raises(TargetError, match=r"is still Updating after 0\.1 s"):
        open_sagemaker_target(with_settings(stage.settings, ready_seconds=0.1)).promote(TWO)
    assert target.deployment() == Deployment(ONE)


def test_throttled_and_lost_answers_are_asked_for_again(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    stage.aws.add(Fault("DescribeEndpoint", "ThrottlingException"))
    stage.aws.add(Fault("UpdateEndpointWeightsAndCapacities", "ThrottlingException"))
    target.promote(TWO)
    assert target.deployment() == Deployment(TWO)


def test_somebody_elses_update_refuses_ours(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)

    def meanwhile(operation: str) -> None:
        if operation == "UpdateEndpoint":
            stage.aws.before = None
            config = stage.endpoint()["EndpointConfigName"]
            stage.client().update_endpoint(EndpointName=stage.settings.endpoint, EndpointConfigName=config)

    stage.aws.before = meanwhile
    with pytest.raises(TargetError, match="refused UpdateEndpoint with ValidationException"):
        target.start_canary(TWO, share=0.05)
    assert target.deployment() == Deployment(ONE)


@pytest.mark.parametrize(("is_done", "ending"), [(False, "promote"), (True, "abort")])
@pytest.mark.parametrize("write", WRITES)
def test_a_canary_that_was_interrupted_at_a_write_is_ended_by_another_process(
    stage: Stage, target: WeightedTarget, write: str, is_done: bool, ending: str
) -> None:
    target.promote(ONE)
    stage.aws.add(Fault(write, "AccessDeniedException", is_done=is_done))
    with pytest.raises(TargetError):
        target.start_canary(TWO, share=0.05)
    fresh = open_sagemaker_target(stage.settings)
    assert fresh.deployment() in {Deployment(ONE), Deployment(ONE, TWO, 0.05)}
    if ending == "abort":
        fresh.abort_canary()
        assert fresh.deployment() == Deployment(ONE)
    else:
        fresh.promote(TWO)
        assert fresh.deployment() == Deployment(TWO)
        assert fresh.health(TWO).is_healthy


def test_variants_that_are_no_slots_are_refused(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    with pytest.raises(TargetError, match=r"has the variants \['a'\], expected only \['blue', 'green'\]"):
        open_sagemaker_target(with_settings(stage.settings, variants=("blue", "green"))).deployment()


def test_cloudwatch_has_both_variants_in_seconds(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=4)
    stage.aws.measured += [
        Measured("Invocations", "b", minute, (3,)),
        Measured("InvocationModelErrors", "b", minute, (1,)),
        Measured("ModelLatency", "b", minute, (250_000.0, 500_000.0)),
    ]
    window = target.measure(seconds=600)
    assert sorted(window.candidate["error"]) == [0.0, 0.0, 1.0]
    assert window.candidate["latency_seconds"] == pytest.approx([0.25, 0.5])
    assert dict(window.stable) == {"error": [], "latency_seconds": []}
