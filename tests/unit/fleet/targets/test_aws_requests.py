"""What ECS, the load balancer and SageMaker are asked for, and what their answers mean."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from pratique.core.errors import CallerError
from pratique.fleet.targets import _ecs, _sagemaker
from pratique.fleet.targets._aws import asking, connect
from pratique.fleet.targets._slots import PARTS, Shift, Slot, Slots
from pratique.fleet.targets.ecs import EcsTargetSettings
from pratique.fleet.targets.interface import TargetError
from pratique.fleet.targets.sagemaker import SageMakerTargetSettings

pytestmark = pytest.mark.unit

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
RULE = "arn:aws:elasticloadbalancing:eu-central-1:1:listener-rule/app/edge/11/22/33"
GROUPS: Any = {"a": "arn:aws:x:targetgroup/a/1", "b": "arn:aws:x:targetgroup/b/2"}
SERVICE: dict[str, Any] = {
    "serviceName": "chat-a",
    "taskDefinition": "chat:7",
    "desiredCount": 2,
    "loadBalancers": [{"targetGroupArn": GROUPS["a"], "containerName": "chat"}],
    "deployments": [{"status": "PRIMARY", "taskDefinition": "chat:7", "runningCount": 2, "rolloutState": "COMPLETED"}],
}


def rule(*weights: int, **forward: Any) -> dict[str, Any]:
    targets = [
        {"TargetGroupArn": group, "Weight": weight} for group, weight in zip(GROUPS.values(), weights, strict=False)
    ]
    login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {"Issuer": "i"}}
    action = {"Type": "forward", "Order": 2, "ForwardConfig": {"TargetGroups": targets, **forward}}
    return {"RuleArn": RULE, "Actions": [login, action]}


def healthy(count: int, **ill: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"TargetHealth": {"State": "healthy"}}] * count
    return [*found, {"TargetHealth": {"State": "unhealthy", **ill}}] if ill else found


@pytest.mark.parametrize("read", [_ecs.digest_of_image, _sagemaker.digest_of_image])
def test_only_a_digest_names_a_release(read: Any) -> None:
    assert read(f"r/chat@{ONE}") == ONE
    assert read(f"r/chat:1@{ONE}") == ONE
    assert read("r/chat:latest") is None
    assert read("r/chat") is None
    assert read("chat@md5:1") is None


@pytest.mark.parametrize("controller", ["CODE_DEPLOY", "EXTERNAL"])
def test_a_service_whose_traffic_another_moves_is_no_slot(controller: str) -> None:
    with pytest.raises(TargetError, match=f"got {controller} and ROLLING"):
        _ecs.read_service({**SERVICE, "deploymentController": {"type": controller}})


@pytest.mark.parametrize("strategy", ["BLUE_GREEN", "LINEAR", "CANARY"])
def test_a_strategy_that_moves_traffic_is_no_slot(strategy: str) -> None:
    with pytest.raises(TargetError, match=f"got ECS and {strategy}"):
        _ecs.read_service({**SERVICE, "deploymentConfiguration": {"strategy": strategy}})


def test_a_service_has_one_target_group() -> None:
    assert _ecs.read_service(SERVICE) == _ecs.Service("chat-a", "chat:7", 2, "chat", GROUPS["a"])
    with pytest.raises(TargetError, match="one target group, got 2"):
        _ecs.read_service({**SERVICE, "loadBalancers": SERVICE["loadBalancers"] * 2})
    with pytest.raises(TargetError, match="one target group, got 0"):
        _ecs.read_service({**SERVICE, "loadBalancers": [{"loadBalancerName": "classic", "containerName": "chat"}]})


def test_a_task_definition_differs_in_nothing_but_image_and_label() -> None:
    definition = {
        "taskDefinitionArn": "chat:7",
        "revision": 7,
        "status": "ACTIVE",
        "registeredBy": "somebody",
        "requiresAttributes": [{"name": "x"}],
        "compatibilities": ["FARGATE"],
        "family": "chat",
        "cpu": "256",
        "taskRoleArn": "role",
        "pidMode": "",
        "volumes": [],
        "enableFaultInjection": False,
        "containerDefinitions": [
            {"name": "chat", "image": "old", "dockerLabels": {"team": "chat"}, "memory": 1},
            {"name": "logs", "image": "logs"},
        ],
    }
    before = copy.deepcopy(definition)
    made = _ecs.next_task_definition(definition, [], "chat", repository="r/chat", digest=ONE)
    assert definition == before
    assert made == {
        "family": "chat",
        "cpu": "256",
        "taskRoleArn": "role",
        "enableFaultInjection": False,
        "containerDefinitions": [
            {
                "name": "chat",
                "image": f"r/chat@{ONE}",
                "dockerLabels": {"team": "chat", "pratique.digest": ONE},
                "memory": 1,
            },
            {"name": "logs", "image": "logs"},
        ],
    }
    assert _ecs.image_of(definition, "logs") == "logs"
    with pytest.raises(TargetError, match="no container 'web'"):
        _ecs.image_of(definition, "web")


def test_a_shift_keeps_what_the_rule_does_before() -> None:
    before = rule(950, 50)
    login, forward = _ecs.shifted_actions(before, GROUPS, Shift(0, PARTS))
    assert login == before["Actions"][0]
    assert forward["Order"] == 2
    assert [one["Weight"] for one in forward["ForwardConfig"]["TargetGroups"]] == [0, 999]
    assert "TargetGroupArn" not in forward


def test_a_rule_with_one_group_gives_it_everything() -> None:
    single = {"RuleArn": RULE, "Actions": [{"Type": "forward", "TargetGroupArn": GROUPS["b"]}]}
    assert _ecs.forward_weights(single, GROUPS) == (0, PARTS)
    assert "Order" not in _ecs.shifted_actions(single, GROUPS, Shift(1, 999))[0]
    assert _ecs.forward_weights(rule(950, 50), GROUPS) == (950, 50)
    with pytest.raises(TargetError, match="no slot's group"):
        _ecs.forward_weights(single, {"a": GROUPS["a"], "b": "other"})
    with pytest.raises(TargetError, match=r"to forward, got \['redirect'\]"):
        _ecs.forward_weights({"RuleArn": RULE, "Actions": [{"Type": "redirect"}]}, GROUPS)


def test_a_rule_that_binds_clients_to_a_group_is_refused() -> None:
    _ecs.forward_weights(rule(1, 0, TargetGroupStickinessConfig={"Enabled": False}), GROUPS)
    with pytest.raises(TargetError, match="stay with an aborted canary"):
        _ecs.forward_weights(rule(1, 0, TargetGroupStickinessConfig={"Enabled": True}), GROUPS)


def test_both_services_and_the_rule_are_the_state() -> None:
    other = {**SERVICE, "serviceName": "chat-b", "desiredCount": 0}
    other["loadBalancers"] = [{"targetGroupArn": GROUPS["b"], "containerName": "chat"}]
    services: Any = {"a": _ecs.read_service(SERVICE), "b": _ecs.read_service(other)}
    seen = _ecs.read_slots(services, {"a": f"r@{ONE}", "b": "r:tag"}, rule(999, 0))
    assert seen == Slots(Slot(ONE, PARTS, 2), Slot(None, 0, 0))


def test_a_service_is_healthy_when_all_its_newest_tasks_are() -> None:
    assert _ecs.health_of(SERVICE, healthy(2)).is_healthy
    few = _ecs.health_of(SERVICE, healthy(1, Description="Health checks failed"))
    assert (few.is_healthy, few.num_ready, few.num_wanted) == (False, 1, 2)
    assert few.reason == "2 tasks run, 1 are healthy; Health checks failed"
    older = {"status": "ACTIVE", "taskDefinition": "chat:6", "runningCount": 1}
    mixed = _ecs.health_of({**SERVICE, "deployments": [*SERVICE["deployments"], older]}, healthy(2))
    assert mixed.reason == "2 tasks run, 2 are healthy, 1 older ones run still"
    assert not mixed.is_healthy
    assert not _ecs.health_of({**SERVICE, "desiredCount": 0, "deployments": []}, []).is_healthy


def test_what_ecs_gave_up_or_took_back_is_no_deployment() -> None:
    assert _ecs.obstacle(SERVICE, "chat:7") is None
    events = [{"message": "(service chat-a) tasks failed."}, {"message": "older"}]
    back = _ecs.obstacle({**SERVICE, "events": events}, "chat:8")
    assert back == "the service runs chat:7 instead. (service chat-a) tasks failed."
    failed = {"status": "PRIMARY", "taskDefinition": "chat:7", "rolloutState": "FAILED", "rolloutStateReason": "alarm"}
    assert _ecs.obstacle({**SERVICE, "deployments": [failed]}, "chat:7") == "ECS gave it up: alarm"


def test_cloudwatch_calls_things_by_the_end_of_their_arn() -> None:
    assert _ecs.dimension_of_rule(RULE) == "app/edge/11"
    assert _ecs.dimension_of_group("arn:aws:elasticloadbalancing:r:1:targetgroup/chat/44") == "targetgroup/chat/44"
    for wrong in (RULE.replace("/app/", "/net/"), RULE.replace("listener-rule", "listener"), "x"):
        with pytest.raises(TargetError, match="rule of an Application Load Balancer"):
            _ecs.dimension_of_rule(wrong)


def endpoint(*variants: dict[str, Any], status: str = "InService") -> dict[str, Any]:
    return {"EndpointName": "e", "EndpointStatus": status, "ProductionVariants": list(variants)}


def variant(name: str, digest: str, weight: float, **other: Any) -> dict[str, Any]:
    images = [{"SpecifiedImage": f"r@{digest}"}]
    return {"VariantName": name, "DeployedImages": images, "CurrentWeight": weight, "CurrentInstanceCount": 1, **other}


VARIANTS: Any = {"a": "blue", "b": "green"}


def test_an_endpoint_is_read_as_two_slots() -> None:
    assert _sagemaker.read_slots(None, VARIANTS) == Slots()
    seen = _sagemaker.read_slots(endpoint(variant("green", TWO, 0.05), variant("blue", ONE, 0.95)), VARIANTS)
    assert seen == Slots(Slot(ONE, 950, 1), Slot(TWO, 50, 1))
    alone = _sagemaker.read_slots(endpoint(variant("green", TWO, 1.0, DesiredInstanceCount=3)), VARIANTS)
    assert alone == Slots(Slot(), Slot(TWO, PARTS, 3))


def test_variants_that_are_no_slots_are_refused() -> None:
    with pytest.raises(TargetError, match=r"has the variants \['AllTraffic'\]"):
        _sagemaker.read_slots(endpoint(variant("AllTraffic", ONE, 1)), VARIANTS)
    serverless = variant("blue", ONE, 1)
    del serverless["CurrentInstanceCount"]
    with pytest.raises(TargetError, match="serverless"):
        _sagemaker.read_slots(endpoint(serverless), VARIANTS)
    with pytest.raises(TargetError, match="one image, got 2"):
        _sagemaker.read_slots(endpoint(variant("blue", ONE, 1, DeployedImages=[{}, {}])), VARIANTS)


def test_a_model_differs_only_in_its_image_and_is_named_by_what_it_holds() -> None:
    model = {
        "ModelName": "old",
        "ModelArn": "arn",
        "CreationTime": 1,
        "ExecutionRoleArn": "role",
        "VpcConfig": {},
        "PrimaryContainer": {"Image": "r:1", "Environment": {"A": "1"}},
    }
    made = _sagemaker.next_model(model, prefix="e" * 70, repository="r", digest=ONE)
    again = _sagemaker.next_model(model, prefix="e" * 70, repository="r", digest=ONE)
    other = _sagemaker.next_model(model, prefix="e" * 70, repository="r", digest=TWO)
    assert made == again
    assert made["ModelName"] != other["ModelName"]
    assert len(made["ModelName"]) == 63
    assert made["PrimaryContainer"] == {"Image": f"r@{ONE}", "Environment": {"A": "1"}}
    assert set(made) == {"ModelName", "ExecutionRoleArn", "PrimaryContainer"}
    listed = {"ModelName": "old", "Containers": [{"Image": "r:1"}]}
    assert (
        _sagemaker.next_model(listed, prefix="e", repository="r", digest=ONE)["PrimaryContainer"]["Image"] == f"r@{ONE}"
    )
    with pytest.raises(TargetError, match="one container, got 2"):
        _sagemaker.next_model({"ModelName": "old", "Containers": [{}, {}]}, prefix="e", repository="r", digest=ONE)


def test_a_configuration_keeps_each_variant_as_it_is_now() -> None:
    config: dict[str, Any] = {
        "EndpointConfigName": "old",
        "EndpointConfigArn": "arn",
        "KmsKeyId": "key",
        "ProductionVariants": [{"VariantName": "blue", "ModelName": "m", "InitialInstanceCount": 1}],
    }
    source = _sagemaker.variant_of(config, "blue")
    new = _sagemaker.next_variant(source, name="green", model="n", count=4)
    now = Slots(a=Slot(ONE, PARTS, 4))
    made = _sagemaker.next_config(config, {"a": source, "b": new}, now, prefix="e")
    blue, green = made["ProductionVariants"]
    assert (blue["InitialVariantWeight"], blue["InitialInstanceCount"]) == (1000.0, 4)
    assert (green["InitialVariantWeight"], green["InitialInstanceCount"], green["ModelName"]) == (0.0, 4, "n")
    assert made["KmsKeyId"] == "key"
    assert "EndpointConfigArn" not in made
    first = _sagemaker.next_config(config, {"a": source}, Slots(), prefix="e", first="a")
    assert first["ProductionVariants"][0]["InitialVariantWeight"] == 1000.0
    with pytest.raises(TargetError, match="a variant 'red' in 'old', got 0"):
        _sagemaker.variant_of(config, "red")
    with pytest.raises(TargetError, match="one variant in 'old', got 2"):
        _sagemaker.variant_of({**config, "ProductionVariants": [source, source]}, None)


def test_only_variants_that_are_there_get_weights() -> None:
    both = Slots(Slot(ONE, PARTS, 1), Slot(TWO, 0, 1))
    assert _sagemaker.weights_and_capacities(Shift(950, 50), VARIANTS, both) == [
        {"VariantName": "blue", "DesiredWeight": 950.0},
        {"VariantName": "green", "DesiredWeight": 50.0},
    ]
    alone = Slots(Slot(ONE, PARTS, 1), Slot())
    assert len(_sagemaker.weights_and_capacities(Shift(PARTS, 0), VARIANTS, alone)) == 1
    assert _sagemaker.is_shifted(alone, Shift(PARTS, 0))
    assert not _sagemaker.is_shifted(alone, Shift(0, PARTS))


def test_a_variant_is_healthy_with_all_its_instances() -> None:
    assert _sagemaker.health_of(endpoint(variant("blue", ONE, 1)), "blue").is_healthy
    few = _sagemaker.health_of(endpoint(variant("blue", ONE, 1, DesiredInstanceCount=2), status="Updating"), "blue")
    assert few.reason == "the endpoint is Updating, with 1 of 2 instances of 'blue'"
    assert not _sagemaker.health_of(endpoint(variant("blue", ONE, 1), status="Failed"), "blue").is_healthy
    assert not _sagemaker.health_of(endpoint(variant("green", ONE, 1)), "blue").is_healthy
    assert _sagemaker.health_of(None, "blue").reason == "the endpoint is not there, without 'blue'"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDeniedException", "docs/release/targets.md"),
        ("ExpiredToken", "docs/release/targets.md"),
        ("ThrottlingException", "throttled it 5 times"),
        ("ValidationException", None),
    ],
)
def test_what_aws_refuses_says_what_to_do(code: str, hint: str | None) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "why"}}, "UpdateService")
    with pytest.raises(TargetError, match=f"refused UpdateService with {code}: why") as caught, asking("UpdateService"):
        raise error
    assert caught.value.hint is None if hint is None else hint in str(caught.value.hint)


def test_no_answer_and_a_nameless_error_are_faults_too() -> None:
    with pytest.raises(TargetError, match="could not be asked for X"), asking("X"):
        raise ConnectTimeoutError(endpoint_url="u")
    with pytest.raises(TargetError, match="with an unknown error"), asking("X"):
        raise ClientError({}, "X")


def test_an_endpoint_that_is_none_is_a_wrong_call() -> None:
    with pytest.raises(CallerError, match="ecs cannot be asked"):
        connect("ecs", region="eu-central-1", endpoint_url="nonsense")


def test_slots_that_are_the_same_are_refused() -> None:
    with pytest.raises(CallerError, match="'x' twice"):
        EcsTargetSettings(cluster="c", services=("x", "x"), rule=RULE, repository="r")
    with pytest.raises(CallerError, match="'x' twice"):
        SageMakerTargetSettings(endpoint="e", repository="r", template="t", variants=("x", "x"))
