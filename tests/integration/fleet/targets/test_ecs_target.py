"""The ECS target over moto: real HTTP, requests checked by botocore's own model."""

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
from pratique.fleet.targets.ecs import EcsTargetSettings, open_ecs_target
from pratique.fleet.targets.interface import Deployment, TargetError

pytestmark = pytest.mark.integration
simulator = pytest.importorskip("tests.integration.fleet.targets.aws_simulator", exc_type=ImportError)
Fault, Measured = simulator.Fault, simulator.Measured

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
REPOSITORY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chat"
WRITES = ("RegisterTaskDefinition", "UpdateService", "ModifyRule")


@dataclass
class Ground:
    """An account with a load balancer, for all tests."""

    aws: Any
    vpc: str
    listener: str
    numbers: Iterator[int]

    def client(self, name: str) -> Any:
        make: Any = boto3.client  # its type knows a fixed list of names
        return make(name, region_name="eu-central-1", endpoint_url=self.aws.url)


@dataclass
class Stage:
    """Two services behind a rule, for one test."""

    ground: Ground
    settings: EcsTargetSettings
    groups: tuple[str, str]

    @property
    def aws(self) -> Any:
        return self.ground.aws

    def weights(self) -> list[int]:
        rule = self.ground.client("elbv2").describe_rules(RuleArns=[self.settings.rule])["Rules"][0]
        return [one["Weight"] for one in rule["Actions"][-1]["ForwardConfig"]["TargetGroups"]]

    def services(self) -> list[dict[str, Any]]:
        answer = self.ground.client("ecs").describe_services(
            cluster=self.settings.cluster, services=list(self.settings.services)
        )
        return sorted(answer["services"], key=lambda one: one["serviceName"])

    def counts(self) -> list[int]:
        return [one["desiredCount"] for one in self.services()]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        aws = simulator.AwsSimulator()
        try:
            yield make_ground(aws)
        finally:
            aws.close()


def make_ground(aws: Any) -> Ground:
    ground = Ground(aws, "", "", itertools.count(1))
    ec2, elb = ground.client("ec2"), ground.client("elbv2")
    ground.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=ground.vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"eu-central-1{zone}")
        for n, zone in enumerate("ab")
    ]
    names = [one["Subnet"]["SubnetId"] for one in subnets]
    balancer = elb.create_load_balancer(Name="edge", Subnets=names)["LoadBalancers"][0]["LoadBalancerArn"]
    nothing = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    listener = elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[nothing])
    ground.listener = listener["Listeners"][0]["ListenerArn"]
    return ground


@pytest.fixture
def stage(ground: Ground) -> Stage:
    number = next(ground.numbers)
    elb, ecs = ground.client("elbv2"), ground.client("ecs")
    services = (f"chat-{number}-a", f"chat-{number}-b")
    groups = [
        elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=ground.vpc, TargetType="ip")
        for name in services
    ]
    arns = [one["TargetGroups"][0]["TargetGroupArn"] for one in groups]
    forward = {"TargetGroups": [{"TargetGroupArn": arns[0], "Weight": 1}, {"TargetGroupArn": arns[1], "Weight": 0}]}
    rule = elb.create_rule(
        ListenerArn=ground.listener,
        Priority=number,
        Conditions=[{"Field": "path-pattern", "Values": [f"/{number}/*"]}],
        Actions=[{"Type": "forward", "ForwardConfig": forward}],
    )["Rules"][0]["RuleArn"]
    ecs.create_cluster(clusterName=f"prod-{number}")
    definition = make_definition(ecs, number)
    for name, group in zip(services, arns, strict=True):
        ecs.create_service(
            cluster=f"prod-{number}",
            serviceName=name,
            taskDefinition=definition,
            desiredCount=0,
            loadBalancers=[{"targetGroupArn": group, "containerName": "chat", "containerPort": 80}],
        )
    ground.aws.calm()
    settings = EcsTargetSettings(
        cluster=f"prod-{number}",
        services=services,
        rule=rule,
        repository=REPOSITORY,
        region="eu-central-1",
        first_count=2,
        ready_seconds=5,
        poll_seconds=0.01,
        endpoint_url=ground.aws.url,
    )
    return Stage(ground, settings, (arns[0], arns[1]))


def make_definition(ecs: Any, number: int) -> str:
    chat = {
        "name": "chat",
        "image": f"{REPOSITORY}:placeholder",
        "essential": True,
        "environment": [{"name": "MODE", "value": "production"}],
    }
    answer = ecs.register_task_definition(
        family=f"chat-{number}",
        cpu="256",
        memory="512",
        containerDefinitions=[chat, {"name": "logs", "image": "logs:1", "essential": False}],
        tags=[{"key": "team", "value": "chat"}],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


@pytest.fixture
def target(stage: Stage) -> WeightedTarget:
    return open_ecs_target(stage.settings)


class TestEcsTarget(TargetContract):
    first = ONE
    second = TWO


def test_a_release_is_the_running_task_definition_with_another_image(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    assert stage.weights() == [950, 50]
    assert stage.counts() == [2, 2]
    ecs = stage.ground.client("ecs")
    described = ecs.describe_task_definition(taskDefinition=stage.services()[1]["taskDefinition"], include=["TAGS"])
    chat, logs = described["taskDefinition"]["containerDefinitions"]
    assert chat["image"] == f"{REPOSITORY}@{TWO}"
    assert chat["dockerLabels"] == {"pratique.digest": TWO}
    assert chat["environment"] == [{"name": "MODE", "value": "production"}]
    assert logs["image"] == "logs:1"
    assert described["tags"] == [{"key": "team", "value": "chat"}]
    assert described["taskDefinition"]["cpu"] == "256"


def test_an_abort_moves_the_traffic_before_it_ends_anything(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    stage.aws.calls.clear()
    target.abort_canary()
    assert [one for one in stage.aws.calls if one in WRITES] == ["ModifyRule", "UpdateService"]
    assert (stage.weights(), stage.counts()) == ([999, 0], [2, 0])


def test_a_kept_release_comes_back_by_one_write(stage: Stage) -> None:
    target = open_ecs_target(with_settings(stage.settings, keep_previous=True))
    target.promote(ONE)
    target.promote(TWO)
    assert stage.counts() == [2, 2]
    stage.aws.calls.clear()
    target.promote(ONE)
    assert [one for one in stage.aws.calls if one in WRITES] == ["ModifyRule"]
    assert target.deployment() == Deployment(ONE)


def test_a_release_that_ecs_gives_up_gets_no_traffic(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    stage.aws.sick.add(TWO)
    with pytest.raises(
        TargetError, match=r"is not ready in the service 'chat-\d+-b': ECS gave it up: .*circuit breaker"
    ):
        target.start_canary(TWO, share=0.05)
    assert (stage.weights(), stage.counts()) == ([999, 0], [2, 0])
    stage.aws.sick.clear()
    target.start_canary(TWO, share=0.05)
    assert target.deployment() == Deployment(ONE, TWO, 0.05)


def test_a_release_that_dawdles_gets_no_traffic(stage: Stage) -> None:
    open_ecs_target(stage.settings).promote(ONE)
    stage.aws.slow = 10_000
    with pytest.raises(TargetError, match=r"not within 0\.1 s: 0 tasks run"):
        open_ecs_target(with_settings(stage.settings, ready_seconds=0.1)).promote(TWO)
    assert (stage.weights(), stage.counts()) == ([999, 0], [2, 0])


def test_throttled_calls_are_tried_again(stage: Stage, target: WeightedTarget) -> None:
    stage.aws.add(Fault("DescribeRules", "Throttling"))
    target.promote(ONE)
    assert target.deployment() == Deployment(ONE)


def test_a_lost_answer_is_asked_for_again_and_changes_nothing_twice(stage: Stage, target: WeightedTarget) -> None:
    stage.aws.add(Fault("UpdateService", "InternalFailure", 500, is_done=True))
    stage.aws.add(Fault("ModifyRule", "InternalFailure", 500, is_done=True))
    target.promote(ONE)
    assert (target.deployment(), stage.counts()) == (Deployment(ONE), [2, 0])


def test_a_denied_call_says_where_the_policy_is(stage: Stage, target: WeightedTarget) -> None:
    stage.aws.add(Fault("ModifyRule", "AccessDenied", 403))
    with pytest.raises(TargetError, match="refused ModifyRule with AccessDenied") as caught:
        target.promote(ONE)
    assert "docs/release/targets.md" in str(caught.value)


@pytest.mark.parametrize(("is_done", "ending"), [(False, "promote"), (True, "abort")])
@pytest.mark.parametrize("write", WRITES)
def test_a_canary_that_was_interrupted_at_a_write_is_ended_by_another_process(
    stage: Stage, target: WeightedTarget, write: str, is_done: bool, ending: str
) -> None:
    target.promote(ONE)
    stage.aws.add(Fault(write, "AccessDeniedException", is_done=is_done))
    with pytest.raises(TargetError):
        target.start_canary(TWO, share=0.05)
    fresh = open_ecs_target(stage.settings)
    assert fresh.deployment() in {Deployment(ONE), Deployment(ONE, TWO, 0.05)}
    if ending == "abort":
        fresh.abort_canary()
        assert (fresh.deployment(), stage.counts()) == (Deployment(ONE), [2, 0])
    else:
        fresh.promote(TWO)
        assert (fresh.deployment(), stage.counts()) == (Deployment(TWO), [0, 2])
        assert fresh.health(TWO).is_healthy


def test_of_two_at_once_one_sees_the_other_and_stops(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    other = open_ecs_target(stage.settings)

    def meanwhile(operation: str) -> None:
        if operation == "RegisterTaskDefinition":
            stage.aws.before = None
            other.promote(THREE)

    stage.aws.before = meanwhile
    with pytest.raises(TargetError, match="Somebody else"):
        target.start_canary(TWO, share=0.05)
    assert other.deployment().candidate is None


def test_a_service_of_codedeploy_is_refused(stage: Stage) -> None:
    stage.ground.client("ecs").create_service(
        cluster=stage.settings.cluster,
        serviceName="old",
        taskDefinition=stage.services()[0]["taskDefinition"],
        desiredCount=1,
        deploymentController={"type": "CODE_DEPLOY"},
        loadBalancers=[{"targetGroupArn": stage.groups[0], "containerName": "chat", "containerPort": 80}],
    )
    target = open_ecs_target(with_settings(stage.settings, services=("old", stage.settings.services[1])))
    with pytest.raises(TargetError, match="got CODE_DEPLOY and ROLLING"):
        target.deployment()


def test_a_service_or_a_rule_that_is_not_there_says_so(stage: Stage) -> None:
    with pytest.raises(TargetError, match=r"no active service \['none', 'nothing'\]"):
        open_ecs_target(with_settings(stage.settings, services=("none", "nothing"))).deployment()
    with pytest.raises(TargetError, match="refused DescribeRules with RuleNotFound"):
        open_ecs_target(with_settings(stage.settings, rule=stage.settings.rule + "0")).deployment()


def test_an_image_by_a_tag_is_no_release(stage: Stage, target: WeightedTarget) -> None:
    stage.ground.client("ecs").update_service(
        cluster=stage.settings.cluster, service=stage.settings.services[0], desiredCount=1
    )
    with pytest.raises(TargetError, match="not named by its digest"):
        target.deployment()


def test_nobody_at_the_other_end_is_an_environment_fault(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.fleet.targets._aws._TRIES", 1)
    target = open_ecs_target(with_settings(stage.settings, endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(TargetError, match="could not be asked for DescribeServices"):
        target.deployment()


def test_cloudwatch_has_both_sides_of_a_canary(stage: Stage, target: WeightedTarget) -> None:
    target.promote(ONE)
    target.start_canary(TWO, share=0.05)
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    for group, count, bad, seconds in zip(stage.groups, (400, 20), (2, 1), (0.1, 0.3), strict=True):
        name = group.rpartition(":")[2]
        stage.aws.measured += [
            Measured("RequestCount", name, minute, (count,)),
            Measured("HTTPCode_Target_5XX_Count", name, minute, (bad,)),
            Measured("TargetResponseTime", name, minute, (seconds,) * (count - bad)),
        ]
    window = target.measure(seconds=900)
    assert (len(window.stable["error"]), sum(window.stable["error"])) == (400, 2)
    assert (len(window.candidate["error"]), sum(window.candidate["error"])) == (20, 1)
    assert window.candidate["first_token_seconds"] == [0.3] * 19
    assert window.stable["first_token_seconds"] == [0.1] * 398
