"""The table [orchestrator.lanes]: when work spills, where to, and when it comes back.

Seconds, bytes and shares as the names say; a share of 1 is all of what this replica may use of the processor.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings, SettingsError

__all__ = ["LambdaSettings", "LaneSettings", "WorkerSettings", "check_lanes"]

_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Duration: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]
_Count: TypeAlias = Annotated[int, Meta(ge=1)]
_Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]


class LambdaSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The burst lane in AWS Lambda. Credentials come from where AWS's libraries look for them."""

    function: str = ""
    """The function's name or ARN."""
    qualifier: str = ""
    """A version or alias; empty: the latest."""
    region: str = ""
    """Empty: where AWS's libraries find it."""
    endpoint_url: str = ""
    """Another endpoint than AWS's own: a VPC endpoint, an emulator."""
    max_concurrency: _Count = 50
    """Invocations at a time of this replica; not more than the function's reserved concurrency divided by replicas."""
    connect_timeout_seconds: _Seconds = 2.0
    throttled_seconds: _Duration = 1.0
    """After a throttled invocation the lane counts as full for so long."""


class WorkerSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The burst lane on this machine: short-lived processes, one invocation at a time each."""

    max_workers: Annotated[int, Meta(ge=1, le=256)] = 16
    inference_url: str = ""
    """Where workers send requests. Empty: where the pool's own go."""
    max_starting: _Count = 2
    """Workers that start at a time: each needs a tenth of a second of one core, which the service needs too."""
    start_timeout_seconds: _Seconds = 10.0
    """From the start of a process until it asks for its first invocation."""
    idle_seconds: _Seconds = 30.0
    """A worker without work for so long is ended."""
    max_invocations: _Count = 500
    """A worker is ended after so many."""
    max_age_seconds: _Seconds = 900.0
    memory_bytes: Annotated[int, Meta(ge=128 * 2**20)] = 512 * 2**20
    """Address space of one worker (RLIMIT_AS)."""


class LaneSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When work spills, where to, and when it comes back."""

    kind: Literal["none", "lambda", "workers"] = "none"
    """The burst lane. "none": everything stays in the baseline lane, which is bounded all the same."""
    pool: str = ""
    """The pool that the burst lane serves: requests for other ones stay. Empty: the default pool."""

    max_in_flight: _Count = 1024
    """Requests that this replica's baseline lane serves at a time."""
    max_waiting: Annotated[int, Meta(ge=0)] = 256
    """Requests that wait for a place in it; more are shed."""
    max_wait_seconds: _Seconds = 2.0
    """A request that waited so long is shed."""
    burst_head_seconds: _Seconds = 3.0
    """A stream that the burst lane has not begun after so long goes to the baseline lane. Less than the orchestrator's
    `first_token_timeout_seconds`, of which the rest is the baseline's."""
    retry_after_seconds: Annotated[float, Meta(ge=1, le=3600)] = 2.0
    """When a request that was shed may come again."""

    spill_depth: _Count = 64
    """So many requests in the baseline lane, in flight and waiting, make work spill."""
    return_depth: Annotated[int, Meta(ge=0)] = 32
    """Work comes back when both lanes together hold no more than this. While the queue is what made it spill, the
    baseline lane is still filled up to here."""
    spill_cpu_share: _Share = 0.8
    """More than this makes work spill."""
    return_cpu_share: _Share = 0.6
    latency_slo_seconds: _Seconds = 5.0
    """p95 of the time until an answer's head, in the baseline lane; more makes work spill."""
    return_latency_seconds: _Seconds = 3.0
    spill_after_seconds: _Duration = 0.5
    """A threshold must have been passed for so long."""
    return_after_seconds: _Duration = 15.0
    """All must have been below for so long."""
    return_ramp_seconds: _Duration = 10.0
    """Over so long the spilled share falls from 1 to 0, rather than at once."""

    sample_seconds: Annotated[float, Meta(ge=0.05, le=10)] = 0.25
    latency_window_seconds: _Seconds = 10.0

    aws: LambdaSettings = LambdaSettings()
    """The table [orchestrator.lanes.aws]."""
    workers: WorkerSettings = WorkerSettings()
    """The table [orchestrator.lanes.workers]."""


def check_lanes(settings: LaneSettings, *, first_token_timeout_seconds: float) -> None:
    """Hold settings against each other.

    Raises:
        SettingsError: a way back lies above its way there, the burst lane has as long as the client waits, or the lane
            in Lambda has no function.
    """
    pairs = (
        ("return_depth", settings.return_depth, "spill_depth", settings.spill_depth),
        ("return_cpu_share", settings.return_cpu_share, "spill_cpu_share", settings.spill_cpu_share),
        (
            "return_latency_seconds",
            settings.return_latency_seconds,
            "latency_slo_seconds",
            settings.latency_slo_seconds,
        ),
    )
    for low_name, low, high_name, high in pairs:
        if low >= high:
            raise SettingsError(
                f"[orchestrator.lanes] Expected {low_name} below {high_name}; found {low} and {high}.",
                hint="With no distance between them the lanes would be changed all the time.",
            )
    if settings.kind != "none" and settings.burst_head_seconds >= first_token_timeout_seconds:
        raise SettingsError(
            f"[orchestrator.lanes] Expected burst_head_seconds below first_token_timeout_seconds "
            f"({first_token_timeout_seconds:g}); found {settings.burst_head_seconds:g}.",
            hint="What the burst lane does not begin in time needs the rest in the baseline lane.",
        )
    if settings.kind == "lambda" and not settings.aws.function:
        raise SettingsError(
            "[orchestrator.lanes] kind is 'lambda', but no function is named.",
            hint="Set function in [orchestrator.lanes.aws].",
        )
