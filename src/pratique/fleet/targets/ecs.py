"""Releases as two ECS services behind one rule of an Application Load Balancer, whose weights we move.

Each service is a slot with a target group of its own. A release is a task definition: the one of the release that runs,
with only the image and its label changed. It is brought up in the service without traffic, as many tasks as the stable
one has; when ECS and the load balancer both say that all are healthy, the rule gets new weights. A service that lost
its traffic is scaled to 0: ECS takes its tasks out of the group, and the load balancer lets requests finish for the
group's deregistration delay.

Source: docs/adr/0055; the APIs of ECS, Elastic Load Balancing v2 and CloudWatch.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from pratique.core.errors import CallerError
from pratique.core.settings import Settings
from pratique.fleet.targets._aws import asking, connect
from pratique.fleet.targets._cloudwatch import Metrics, MetricSource, ask
from pratique.fleet.targets._ecs import (
    Service,
    dimension_of_group,
    dimension_of_rule,
    health_of,
    image_of,
    next_task_definition,
    obstacle,
    read_service,
    read_slots,
    shifted_actions,
)
from pratique.fleet.targets._slots import SLOTS, Deploy, Shift, SlotName, Slots, Step
from pratique.fleet.targets._weighted import Patience, WeightedTarget
from pratique.fleet.targets.interface import Health, TargetError

__all__ = ["EcsTargetSettings", "open_ecs_target"]

_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_GROUP: Final = {"LoadBalancer": "{load_balancer}", "TargetGroup": "{target_group}"}


class EcsTargetSettings(Settings, frozen=True, kw_only=True):
    """Two ECS services that share the traffic of a load balancer's rule."""

    cluster: _Text
    services: tuple[_Text, _Text]
    """The two slots. Each has the deployment controller ECS, the strategy ROLLING and a target group of its own."""
    rule: _Text
    """The ARN of the listener's rule that forwards to both groups; not the default one."""
    repository: _Text
    """Where the images lie, without tag and digest: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/chat."""
    region: str | None = None
    """None: as AWS's own settings say."""
    first_count: Annotated[int, msgspec.Meta(ge=1)] = 1
    """How many tasks a first release gets; later ones get as many as the one before them has."""
    keep_previous: bool = False
    """Whether a release that was replaced keeps its tasks, without traffic: rollback is then one write."""
    ready_seconds: _Seconds = 150.0
    """How long a release may take to be healthy."""
    poll_seconds: _Seconds = 5.0
    lag_seconds: Annotated[float, msgspec.Meta(ge=0)] = 120.0
    """How old a minute is before CloudWatch has all of it."""
    metrics: tuple[MetricSource, ...] = (
        MetricSource(
            name="error",
            namespace="AWS/ApplicationELB",
            dimensions=_GROUP,
            total="RequestCount",
            bad=("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount"),
        ),
        MetricSource(
            name="client_error",
            namespace="AWS/ApplicationELB",
            dimensions=_GROUP,
            total="RequestCount",
            bad=("HTTPCode_Target_4XX_Count",),
        ),
        MetricSource(
            name="first_token_seconds",
            namespace="AWS/ApplicationELB",
            dimensions=_GROUP,
            level="TargetResponseTime",
        ),
    )
    """What the canary is judged by."""
    endpoint_url: str | None = None
    """Of a simulator. None: AWS."""

    def __post_init__(self) -> None:
        """Refuse a slot that is both."""
        if self.services[0] == self.services[1]:
            raise CallerError(f"the two services of a target differ, got '{self.services[0]}' twice")


def open_ecs_target(settings: EcsTargetSettings) -> WeightedTarget:
    """Return the target.

    Raises:
        CallerError: AWS's settings name no region, or are wrong.
    """
    clients = {
        name: connect(name, region=settings.region, endpoint_url=settings.endpoint_url)
        for name in ("ecs", "elbv2", "cloudwatch")
    }
    platform = _EcsPlatform(settings, clients)
    return WeightedTarget(
        platform=platform,
        first_count=settings.first_count,
        keep=settings.keep_previous,
        lag_seconds=settings.lag_seconds,
    )


class _EcsPlatform:
    """What ECS and the load balancer do with two slots."""

    def __init__(self, settings: EcsTargetSettings, clients: dict[str, Any]) -> None:
        self._settings = settings
        self._ecs, self._elb, self._cloudwatch = clients["ecs"], clients["elbv2"], clients["cloudwatch"]
        self._patience = Patience(settings.ready_seconds, settings.poll_seconds)
        self._definitions: dict[str, dict[str, Any]] = {}
        """By ARN: a revision never changes."""

    @property
    def name(self) -> str:
        return f"ecs:{self._ecs.meta.region_name}/{self._settings.cluster}/{self._settings.services[0]}"

    def read(self) -> Slots:
        services = {slot: read_service(one) for slot, one in self._describe(*SLOTS).items()}
        images = {slot: self._image(one) for slot, one in services.items()}
        return read_slots(services, images, self._rule())

    def settle(self) -> Slots:
        return self.read()  # ECS takes a change at any time, and gives up the one before it

    def take(self, step: Step, slots: Slots) -> None:
        if isinstance(step, Deploy):
            self._deploy(step, slots)
        elif isinstance(step, Shift):
            self._shift(step)
        else:
            self._update(step.slot, {"desiredCount": 0})

    def health(self, slot: SlotName) -> Health:
        return self._health_of(self._describe(slot)[slot])

    def measure(self, metrics: Metrics, slot: SlotName) -> dict[str, list[float]]:
        service = read_service(self._describe(slot)[slot])
        known = {
            "slot": slot,
            "cluster": self._settings.cluster,
            "service": service.name,
            "load_balancer": dimension_of_rule(self._settings.rule),
            "target_group": dimension_of_group(service.target_group),
        }
        return ask(self._cloudwatch, metrics, self._settings.metrics, known)

    def _deploy(self, step: Deploy, slots: Slots) -> None:
        slot = slots.at(step.slot)
        service = read_service(self._describe(step.slot)[step.slot])
        arn = service.task_definition
        if slot.digest != step.digest:
            arn = self._register(step, slots)
        if (arn, slot.count >= step.count) != (service.task_definition, True):
            count = max(step.count, slot.count) if slot.digest == step.digest else step.count
            self._update(step.slot, {"taskDefinition": arn, "desiredCount": count})
        self._await_ready(step, arn, may_end=not slot.has_traffic)

    def _register(self, step: Deploy, slots: Slots) -> str:
        """Register what runs, or else what the slot has, with another image."""
        live = slots.live()
        source = read_service(self._describe(live or step.slot)[live or step.slot])
        described = self._definition(source.task_definition)
        request = next_task_definition(
            described["taskDefinition"],
            described.get("tags", []),
            source.container,
            repository=self._settings.repository,
            digest=step.digest,
        )
        with asking("RegisterTaskDefinition"):
            return str(self._ecs.register_task_definition(**request)["taskDefinition"]["taskDefinitionArn"])

    def _await_ready(self, step: Deploy, arn: str, *, may_end: bool) -> None:
        """Wait until the service has what it was given, and all of it is healthy.

        What ECS says may be older than what it was told: neither healthy nor gone back is what does not run `arn` yet.
        """
        health, wrong, has_begun = Health(is_healthy=False, num_ready=0, num_wanted=step.count, reason=""), None, False

        def is_over() -> bool:
            nonlocal health, wrong, has_begun
            described = self._describe(step.slot)[step.slot]
            is_told = described["taskDefinition"] == arn and described["desiredCount"] >= step.count
            wrong = obstacle(described, arn) if is_told or has_begun else None
            has_begun = has_begun or is_told
            health = self._health_of(described)
            return wrong is not None or (is_told and health.is_healthy)

        if self._patience.wait_until(is_over) and wrong is None:
            return
        if may_end:
            self._update(step.slot, {"desiredCount": 0})
        why = wrong or f"not within {self._settings.ready_seconds:g} s: {health.reason}"
        raise TargetError(
            f"{step.digest} is not ready in the service '{self._service_name(step.slot)}': {why}",
            hint="It got no traffic. See the stopped tasks of the service.",
        )

    def _health_of(self, described: dict[str, Any]) -> Health:
        with asking("DescribeTargetHealth"):
            answer = self._elb.describe_target_health(TargetGroupArn=read_service(described).target_group)
        return health_of(described, answer["TargetHealthDescriptions"])

    def _shift(self, step: Shift) -> None:
        groups = {slot: read_service(one).target_group for slot, one in self._describe(*SLOTS).items()}
        actions = shifted_actions(self._rule(), groups, step)
        with asking("ModifyRule"):
            self._elb.modify_rule(RuleArn=self._settings.rule, Actions=actions)

    def _update(self, slot: SlotName, changes: dict[str, Any]) -> None:
        with asking("UpdateService"):
            self._ecs.update_service(cluster=self._settings.cluster, service=self._service_name(slot), **changes)

    def _describe(self, *slots: SlotName) -> dict[SlotName, dict[str, Any]]:
        names = [self._service_name(slot) for slot in slots]
        with asking("DescribeServices"):
            answer = self._ecs.describe_services(cluster=self._settings.cluster, services=names)
        found = {one["serviceName"]: one for one in answer["services"] if one["status"] == "ACTIVE"}
        if missing := set(names) - set(found):
            raise TargetError(f"the cluster '{self._settings.cluster}' has no active service {sorted(missing)}")
        return {slot: found[name] for slot, name in zip(slots, names, strict=True)}

    def _service_name(self, slot: SlotName) -> str:
        return self._settings.services[SLOTS.index(slot)]

    def _rule(self) -> dict[str, Any]:
        with asking("DescribeRules"):
            rules: list[dict[str, Any]] = self._elb.describe_rules(RuleArns=[self._settings.rule])["Rules"]
        if len(rules) != 1:
            raise TargetError(f"there is no rule {self._settings.rule}")
        return rules[0]

    def _image(self, service: Service) -> str:
        return image_of(self._definition(service.task_definition)["taskDefinition"], service.container)

    def _definition(self, arn: str) -> dict[str, Any]:
        if arn not in self._definitions:
            with asking("DescribeTaskDefinition"):
                self._definitions[arn] = self._ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
        return self._definitions[arn]
