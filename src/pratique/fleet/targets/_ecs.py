"""Requests to ECS and to the load balancer, and what their answers say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pratique.fleet.targets._slots import SLOTS, Shift, Slot, SlotName, Slots, parts_of
from pratique.fleet.targets.interface import Health, TargetError

__all__ = [
    "LABEL",
    "Service",
    "digest_of_image",
    "dimension_of_group",
    "dimension_of_rule",
    "forward_weights",
    "health_of",
    "image_of",
    "next_task_definition",
    "obstacle",
    "read_service",
    "read_slots",
    "shifted_actions",
]

_Json = Mapping[str, Any]

LABEL: Final = "pratique.digest"
"""The Docker label of a container that says which release it is."""
_MAX_WEIGHT: Final = 999
"""The load balancer's."""
_COPIED: Final = (
    "family",
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "volumes",
    "placementConstraints",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "pidMode",
    "ipcMode",
    "proxyConfiguration",
    "inferenceAccelerators",
    "ephemeralStorage",
    "runtimePlatform",
    "enableFaultInjection",
)
"""What a task definition is registered with; the rest of its description is the service's own."""


@dataclass(frozen=True, slots=True)
class Service:
    """An ECS service that is a slot."""

    name: str
    task_definition: str
    count: int
    container: str
    target_group: str


def digest_of_image(image: str) -> str | None:
    """Return the digest that an image is named by."""
    _, separator, digest = image.rpartition("@")
    return digest if separator and digest.startswith("sha256:") else None


def read_service(described: _Json) -> Service:
    """Return a service that can be a slot.

    Raises:
        TargetError: it cannot: something else moves its traffic, or it has not one target group.
    """
    name = described["serviceName"]
    controller = described.get("deploymentController", {}).get("type", "ECS")
    strategy = described.get("deploymentConfiguration", {}).get("strategy", "ROLLING")
    if (controller, strategy) != ("ECS", "ROLLING"):
        raise TargetError(
            f"expected the service '{name}' to have the deployment controller ECS and the strategy ROLLING,"
            f" got {controller} and {strategy}",
            hint="Two would move the same traffic. docs/release/targets.md says how to come from CodeDeploy.",
        )
    groups = [one for one in described.get("loadBalancers", []) if "targetGroupArn" in one]
    if len(groups) != 1:
        raise TargetError(f"expected the service '{name}' to have one target group, got {len(groups)}")
    return Service(
        name=name,
        task_definition=described["taskDefinition"],
        count=described["desiredCount"],
        container=groups[0]["containerName"],
        target_group=groups[0]["targetGroupArn"],
    )


def image_of(definition: _Json, container: str) -> str:
    """Return the image of a task definition's container.

    Raises:
        TargetError: it has no such container.
    """
    for one in definition["containerDefinitions"]:
        if one["name"] == container:
            return str(one["image"])
    raise TargetError(f"the task definition {definition['taskDefinitionArn']} has no container '{container}'")


def next_task_definition(
    definition: _Json, tags: Sequence[_Json], container: str, *, repository: str, digest: str
) -> dict[str, Any]:
    """Return the request to register a task definition that differs only in one container's image and label."""
    containers = []
    for one in definition["containerDefinitions"]:
        if one["name"] == container:
            labels = {**one.get("dockerLabels", {}), LABEL: digest}
            containers.append({**one, "image": f"{repository}@{digest}", "dockerLabels": labels})
        else:
            containers.append(one)
    copied = {name: definition[name] for name in _COPIED if definition.get(name) not in (None, "", [])}
    return {**copied, "containerDefinitions": containers, **({"tags": list(tags)} if tags else {})}


def forward_weights(rule: _Json, groups: Mapping[SlotName, str]) -> tuple[int, int]:
    """Return the weights of both slots, in `PARTS`.

    Raises:
        TargetError: the rule forwards to something else, or binds clients to a group whatever its weight is.
    """
    forward = _forward(rule)
    found = forward.get("ForwardConfig", {}).get("TargetGroups") or [{"TargetGroupArn": forward.get("TargetGroupArn")}]
    weights = {one["TargetGroupArn"]: one.get("Weight", 1) for one in found}
    if strange := set(weights) - set(groups.values()):
        raise TargetError(
            f"the rule {rule['RuleArn']} forwards to {sorted(map(str, strange))}, which is no slot's group"
        )
    if forward.get("ForwardConfig", {}).get("TargetGroupStickinessConfig", {}).get("Enabled"):
        raise TargetError(
            f"the rule {rule['RuleArn']} binds clients to a target group: they would stay with an aborted canary",
            hint="Turn the rule's target group stickiness off; the groups' own stickiness may stay.",
        )
    return parts_of(*(weights.get(groups[name], 0) for name in SLOTS))


def shifted_actions(rule: _Json, groups: Mapping[SlotName, str], shift: Shift) -> list[dict[str, Any]]:
    """Return a rule's actions with other weights; what is done before forwarding, a login for example, stays."""
    forward = _forward(rule)
    targets = [{"TargetGroupArn": groups[name], "Weight": min(shift.weight(name), _MAX_WEIGHT)} for name in SLOTS]
    shifted = {"Type": "forward", "ForwardConfig": {"TargetGroups": targets}}
    if "Order" in forward:
        shifted["Order"] = forward["Order"]
    return [shifted if action is forward else dict(action) for action in rule["Actions"]]


def read_slots(services: Mapping[SlotName, Service], images: Mapping[SlotName, str], rule: _Json) -> Slots:
    """Return what runs."""
    weights = forward_weights(rule, {name: services[name].target_group for name in SLOTS})
    slots = {
        name: Slot(digest_of_image(images[name]), weight, services[name].count)
        for name, weight in zip(SLOTS, weights, strict=True)
    }
    return Slots(slots["a"], slots["b"])


def health_of(described: _Json, targets: Sequence[_Json]) -> Health:
    """Return whether all of a service's tasks are of its newest task definition and healthy for the load balancer."""
    wanted = described["desiredCount"]
    newest = sum(
        one["runningCount"]
        for one in described.get("deployments", [])
        if one["status"] == "PRIMARY" and one["taskDefinition"] == described["taskDefinition"]
    )
    older = sum(one["runningCount"] for one in described.get("deployments", []) if one["status"] != "PRIMARY")
    healthy = sum(one["TargetHealth"]["State"] == "healthy" for one in targets)
    ready = min(newest, healthy)
    if wanted > 0 and ready >= wanted and not older:
        return Health(is_healthy=True, num_ready=ready, num_wanted=wanted, reason="")
    ill = sorted({one["TargetHealth"].get("Description", "") for one in targets} - {""})
    reason = f"{newest} tasks run, {healthy} are healthy" + (f", {older} older ones run still" if older else "")
    return Health(is_healthy=False, num_ready=ready, num_wanted=wanted, reason="; ".join([reason, *ill]))


def obstacle(described: _Json, task_definition: str) -> str | None:
    """Return why a deployment will not come to its end: ECS gave it up, or went back, or somebody deployed another."""
    events = " ".join(one["message"] for one in described.get("events", [])[:1])
    for one in described.get("deployments", []):
        if one["taskDefinition"] == task_definition and one.get("rolloutState") == "FAILED":
            return f"ECS gave it up: {one.get('rolloutStateReason', '')} {events}".strip()
    if described["taskDefinition"] != task_definition:
        return f"the service runs {described['taskDefinition']} instead. {events}".strip()
    return None


def dimension_of_rule(arn: str) -> str:
    """Return how CloudWatch calls a rule's load balancer: app/name/id.

    Raises:
        TargetError: it is no rule of an Application Load Balancer.
    """
    parts = arn.rpartition(":")[2].split("/")
    if parts[:2] != ["listener-rule", "app"] or len(parts) != 6:  # noqa: PLR2004 - listener-rule/app/name/id/listener/rule
        raise TargetError(f"expected the ARN of a rule of an Application Load Balancer, got '{arn}'")
    return "/".join(parts[1:4])


def dimension_of_group(arn: str) -> str:
    """Return how CloudWatch calls a target group."""
    return arn.rpartition(":")[2]


def _forward(rule: _Json) -> dict[str, Any]:
    found: list[dict[str, Any]] = [action for action in rule["Actions"] if action["Type"] == "forward"]
    if len(found) != 1:
        raise TargetError(f"expected the rule {rule['RuleArn']} to forward, got {[a['Type'] for a in rule['Actions']]}")
    return found[0]
