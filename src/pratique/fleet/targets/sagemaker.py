"""Releases as two production variants of one SageMaker endpoint, whose weights we move.

Each variant is a slot. A release is a model that differs from the one that runs only in its image. It is added to the
endpoint as a variant without traffic (`UpdateEndpoint`: minutes, with no request lost), then the weights are moved
(`UpdateEndpointWeightsAndCapacities`: no instance is started or ended). The release that was replaced keeps its
instances, without traffic, until the next one takes its slot: only so is a rollback a matter of the weights, and of
less than five minutes. A canary that was given up loses its instances.

SageMaker takes one change of an endpoint at a time and refuses others: each is waited for.

Source: docs/adr/0055; the APIs of SageMaker and CloudWatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from pratique.core.errors import CallerError
from pratique.core.settings import Settings
from pratique.fleet.targets._aws import asking, connect, error_of
from pratique.fleet.targets._cloudwatch import Metrics, MetricSource, ask
from pratique.fleet.targets._sagemaker import (
    health_of,
    is_shifted,
    next_config,
    next_model,
    next_variant,
    read_slots,
    variant_of,
    weights_and_capacities,
)
from pratique.fleet.targets._slots import SLOTS, Deploy, Shift, SlotName, Slots, Step
from pratique.fleet.targets._weighted import Patience, WeightedTarget
from pratique.fleet.targets.interface import Health, TargetError

__all__ = ["SageMakerTargetSettings", "open_sagemaker_target"]

_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_VARIANT: Final = {"EndpointName": "{endpoint}", "VariantName": "{variant}"}
_NOT_THERE: Final = "Could not find"
_CHANGING: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


class SageMakerTargetSettings(Settings, frozen=True, kw_only=True):
    """One SageMaker endpoint."""

    endpoint: _Text
    repository: _Text
    """Where the images lie, without tag and digest."""
    template: _Text
    """The endpoint configuration, of one variant, that a first release is made from: its model, role and instances."""
    variants: tuple[_Text, _Text] = ("a", "b")
    """The two slots' names."""
    region: str | None = None
    """None: as AWS's own settings say."""
    keep_previous: bool = True
    """Whether a release that was replaced keeps its instances, without traffic, until the next one."""
    ready_seconds: _Seconds = 1800.0
    """How long an update of the endpoint may take: instances, images and models have to come."""
    shift_seconds: _Seconds = 240.0
    """How long a change of the weights may take."""
    poll_seconds: _Seconds = 5.0
    lag_seconds: Annotated[float, msgspec.Meta(ge=0)] = 120.0
    """How old a minute is before CloudWatch has all of it."""
    metrics: tuple[MetricSource, ...] = (
        MetricSource(
            name="error",
            namespace="AWS/SageMaker",
            dimensions=_VARIANT,
            total="Invocations",
            bad=("InvocationModelErrors",),
        ),
        MetricSource(
            name="latency_seconds",
            namespace="AWS/SageMaker",
            dimensions=_VARIANT,
            level="ModelLatency",
            scale=0.000001,
        ),
    )
    """What the canary is judged by."""
    endpoint_url: str | None = None
    """Of a simulator. None: AWS."""

    def __post_init__(self) -> None:
        """Refuse a slot that is both."""
        if self.variants[0] == self.variants[1]:
            raise CallerError(f"the two variants of a target differ, got '{self.variants[0]}' twice")


def open_sagemaker_target(settings: SageMakerTargetSettings) -> WeightedTarget:
    """Return the target.

    Raises:
        CallerError: AWS's settings name no region, or are wrong.
    """
    clients = {
        name: connect(name, region=settings.region, endpoint_url=settings.endpoint_url)
        for name in ("sagemaker", "cloudwatch")
    }
    return WeightedTarget(
        platform=_SageMakerPlatform(settings, clients),
        first_count=1,
        keep=settings.keep_previous,
        lag_seconds=settings.lag_seconds,
    )


class _SageMakerPlatform:
    """What SageMaker does with two slots."""

    def __init__(self, settings: SageMakerTargetSettings, clients: dict[str, Any]) -> None:
        self._settings = settings
        self._client, self._cloudwatch = clients["sagemaker"], clients["cloudwatch"]
        self._variants: dict[SlotName, str] = dict(zip(SLOTS, settings.variants, strict=True))

    @property
    def name(self) -> str:
        return f"sagemaker:{self._client.meta.region_name}/{self._settings.endpoint}"

    def read(self) -> Slots:
        return read_slots(self._endpoint(), self._variants)

    def settle(self) -> Slots:
        return read_slots(self._await_change(self._settings.ready_seconds), self._variants)

    def take(self, step: Step, slots: Slots) -> None:
        if isinstance(step, Deploy):
            self._deploy(step, slots)
        elif isinstance(step, Shift):
            self._shift(step, slots)
        else:
            self._retire(step.slot, slots)

    def health(self, slot: SlotName) -> Health:
        return health_of(self._endpoint(), self._variants[slot])

    def measure(self, metrics: Metrics, slot: SlotName) -> dict[str, list[float]]:
        known = {"slot": slot, "endpoint": self._settings.endpoint, "variant": self._variants[slot]}
        return ask(self._cloudwatch, metrics, self._settings.metrics, known)

    def _deploy(self, step: Deploy, slots: Slots) -> None:
        slot, live = slots.at(step.slot), slots.live()
        if slot.digest == step.digest and slot.count:
            if slot.count < step.count:
                self._scale(step)
            return
        endpoint = self._endpoint()
        config = self._config(str(endpoint["EndpointConfigName"]) if endpoint else self._settings.template)
        source = variant_of(config, self._variants[live] if live else None)
        count = step.count if live else int(source.get("InitialInstanceCount", 1))
        model = self._make_model(str(source["ModelName"]), step.digest)
        kept = {live: source} if live else {}
        made = next_variant(source, name=self._variants[step.slot], model=model, count=count)
        request = next_config(
            config,
            {**kept, step.slot: made},
            Slots(**{name: slots.at(name) for name in kept}),
            prefix=self._settings.endpoint,
            first=None if live else step.slot,
        )
        self._make_config(request)
        self._become(request["EndpointConfigName"], is_new=endpoint is None)
        self._require(step, request["EndpointConfigName"])

    def _require(self, step: Deploy, config: str) -> None:
        """Make sure that an update came to its end, and did not go back to what was before."""
        endpoint = self._await_change(self._settings.ready_seconds)
        if endpoint is None or endpoint["EndpointConfigName"] != config:
            why = endpoint.get("FailureReason", "SageMaker went back to what ran before") if endpoint else "it is gone"
            raise TargetError(
                f"{step.digest} is not ready on '{self._settings.endpoint}': {why}",
                hint="It got no traffic. See the variant's log.",
            )

    def _scale(self, step: Deploy) -> None:
        self._set([{"VariantName": self._variants[step.slot], "DesiredInstanceCount": step.count}])
        self._await_change(self._settings.ready_seconds)

    def _shift(self, step: Shift, slots: Slots) -> None:
        self._set(weights_and_capacities(step, self._variants, slots))
        endpoint = self._await_change(
            self._settings.shift_seconds, until=lambda one: is_shifted(read_slots(one, self._variants), step)
        )
        if not is_shifted(read_slots(endpoint, self._variants), step):
            raise TargetError(f"'{self._settings.endpoint}' does not share its traffic by {step.a} to {step.b}")

    def _retire(self, slot: SlotName, slots: Slots) -> None:
        """Begin to take a variant out. It has no traffic: nobody needs to wait until its instances are gone."""
        endpoint = self._endpoint()
        live = slots.live()
        if endpoint is None or live is None or live == slot:
            raise TargetError(f"'{self._settings.endpoint}' has nothing but the slot '{slot}', which is to be ended")
        config = self._config(endpoint["EndpointConfigName"])
        kept = variant_of(config, self._variants[live])
        request = next_config(config, {live: kept}, slots, prefix=self._settings.endpoint)
        self._make_config(request)
        self._become(request["EndpointConfigName"], is_new=False)

    def _become(self, config: str, *, is_new: bool) -> None:
        call, what = (
            (self._client.create_endpoint, "CreateEndpoint")
            if is_new
            else (self._client.update_endpoint, "UpdateEndpoint")
        )
        with asking(what):
            call(EndpointName=self._settings.endpoint, EndpointConfigName=config)

    def _set(self, wanted: list[dict[str, Any]]) -> None:
        with asking("UpdateEndpointWeightsAndCapacities"):
            self._client.update_endpoint_weights_and_capacities(
                EndpointName=self._settings.endpoint, DesiredWeightsAndCapacities=wanted
            )

    def _await_change(
        self, seconds: float, *, until: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any] | None:
        """Return the endpoint when nothing changes it any more and something holds; None where there is none."""
        endpoint: dict[str, Any] | None = None

        def is_still() -> bool:
            nonlocal endpoint
            endpoint = self._endpoint()
            if endpoint is None or endpoint["EndpointStatus"] in _CHANGING:
                return endpoint is None
            return endpoint["EndpointStatus"] != "InService" or until(endpoint)

        is_over = Patience(seconds, self._settings.poll_seconds).wait_until(is_still)
        if endpoint is None:
            return None
        status = endpoint["EndpointStatus"]
        if not is_over and status in _CHANGING:
            raise TargetError(f"'{self._settings.endpoint}' is still {status} after {seconds:g} s")
        if status != "InService":
            raise TargetError(
                f"'{self._settings.endpoint}' is {status}: {endpoint.get('FailureReason', 'no reason given')}"
            )
        return endpoint

    def _endpoint(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._find("describe_endpoint", EndpointName=self._settings.endpoint)
        return found

    def _config(self, name: str) -> dict[str, Any]:
        with asking("DescribeEndpointConfig"):
            found: dict[str, Any] = self._client.describe_endpoint_config(EndpointConfigName=name)
        return found

    def _make_model(self, base: str, digest: str) -> str:
        with asking("DescribeModel"):
            model = self._client.describe_model(ModelName=base)
        request = next_model(model, prefix=self._settings.endpoint, repository=self._settings.repository, digest=digest)
        if self._find("describe_model", ModelName=request["ModelName"]) is None:
            with asking("CreateModel"):
                self._client.create_model(**request)
        return str(request["ModelName"])

    def _make_config(self, request: dict[str, Any]) -> None:
        name = request["EndpointConfigName"]
        if self._find("describe_endpoint_config", EndpointConfigName=name) is None:
            with asking("CreateEndpointConfig"):
                self._client.create_endpoint_config(**request)

    def _find(self, operation: str, **names: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        what = "".join(word.capitalize() for word in operation.split("_"))
        with asking(what):
            try:
                found: dict[str, Any] = getattr(self._client, operation)(**names)
            except ClientError as error:
                code, message = error_of(error)
                if code == "ValidationException" and message.startswith(_NOT_THERE):
                    return None
                raise
        return found
