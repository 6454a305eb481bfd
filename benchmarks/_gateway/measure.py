"""The measurements themselves: load on one gateway, its CPU before and after."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from benchmarks._gateway.chat import chat_many, idle_sockets
from benchmarks._gateway.figures import ChatFigures, GatewayFigures, percentile_ms
from benchmarks._gateway.load import StreamTally, ask_many, stream_many

if TYPE_CHECKING:
    from benchmarks._gateway.load import Address
    from benchmarks._gateway.processes import Measured

__all__ = ["Plan", "measure_chat", "measure_gateway", "measure_idle_sockets"]

_CONCURRENCY: Final = 64
_MODERATE_STREAMS: Final = 16
_SETTLE_SECONDS: Final = 0.3
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done. Paces are milliseconds between the chunks of one stream."""

    seconds: float
    repetitions: int
    chunks: int
    pace: int
    moderate_rounds: int
    crowd: int
    crowd_chunks: int
    crowd_pace: int
    idle_sockets: int

    @property
    def crowd_deadline_seconds(self) -> float:
        return 3 * self.crowd_chunks * self.crowd_pace / 1e3 + 10


async def measure_gateway(gateway: Measured, address: Address, plan: Plan) -> GatewayFigures:
    """Return the figures of one gateway over /v1."""
    await ask_many(address, concurrency=_CONCURRENCY, seconds=plan.seconds / 4)
    per_request = [await _per_request(gateway, address, plan) for _ in range(plan.repetitions)]
    per_chunk = [await _per_chunk(gateway, address, plan) for _ in range(plan.repetitions)]
    moderate = await stream_many(
        address, streams=_MODERATE_STREAMS, rounds=plan.moderate_rounds, chunks=20, milliseconds=50, deadline_seconds=60
    )
    crowd = await stream_many(
        address,
        streams=plan.crowd,
        rounds=1,
        chunks=plan.crowd_chunks,
        milliseconds=plan.crowd_pace,
        deadline_seconds=plan.crowd_deadline_seconds,
    )
    return GatewayFigures(
        cpu_us_per_request=statistics.median(per_request),
        cpu_us_per_chunk=statistics.median(per_chunk),
        first_token_p50_ms=percentile_ms(moderate.first_seconds, 50),
        first_token_p99_ms=percentile_ms(moderate.first_seconds, 99),
        frames_asked=crowd.num_asked,
        frames_lost=crowd.num_asked - crowd.num_frames,
        rss_mb=gateway.rss_bytes() / 1e6,
        error=moderate.error or crowd.error,
    )


async def _per_request(gateway: Measured, address: Address, plan: Plan) -> float:
    num_answers, seconds = await _cpu(
        gateway, lambda: ask_many(address, concurrency=_CONCURRENCY, seconds=plan.seconds)
    )
    return seconds / num_answers * 1e6


async def _per_chunk(gateway: Measured, address: Address, plan: Plan) -> float:
    tally, seconds = await _cpu(
        gateway,
        lambda: stream_many(
            address,
            streams=_CONCURRENCY,
            rounds=1,
            chunks=plan.chunks,
            milliseconds=plan.pace,
            deadline_seconds=3 * plan.chunks * plan.pace / 1e3 + 10,
        ),
    )
    return seconds / max(1, tally.num_frames) * 1e6


async def measure_chat(gateway: Measured, valkey: Measured, address: Address, plan: Plan) -> ChatFigures:
    """Return the figures of our chat; those of idle sockets are measured on a fresh replica."""

    async def chat(streams: int, rounds: int, chunks: int, milliseconds: int) -> StreamTally:
        return await chat_many(
            address,
            streams=streams,
            rounds=rounds,
            chunks=chunks,
            milliseconds=milliseconds,
            deadline_seconds=3 * rounds * chunks * milliseconds / 1e3 + 20,
        )

    await chat(_CONCURRENCY, 1, 10, 10)
    ours, logs = [], []
    for _ in range(plan.repetitions):
        before = valkey.cpu_seconds()
        tally, seconds = await _cpu(gateway, lambda: chat(_CONCURRENCY, 1, plan.chunks, plan.pace))
        ours.append(seconds / max(1, tally.num_frames) * 1e6)
        logs.append((valkey.cpu_seconds() - before) / max(1, tally.num_frames) * 1e6)
    moderate = await chat(_MODERATE_STREAMS, plan.moderate_rounds, 20, 20)
    crowd = await chat(plan.crowd, 1, plan.crowd_chunks, plan.crowd_pace)
    return ChatFigures(
        cpu_us_per_chunk=statistics.median(ours),
        valkey_cpu_us_per_chunk=statistics.median(logs),
        first_token_p50_ms=percentile_ms(moderate.first_seconds, 50),
        first_token_p99_ms=percentile_ms(moderate.first_seconds, 99),
        frames_asked=crowd.num_asked,
        frames_lost=crowd.num_asked - crowd.num_frames,
        kb_per_idle_socket=float("nan"),
        rss_mb=gateway.rss_bytes() / 1e6,
        error=moderate.error or crowd.error,
    )


async def measure_idle_sockets(gateway: Measured, address: Address, plan: Plan) -> float:
    """Return KB of memory per idle WebSocket, by the growth from a tenth to all of them."""
    few = plan.idle_sockets // 10
    async with idle_sockets(address, few):
        await asyncio.sleep(_SETTLE_SECONDS)
        before = gateway.uss_bytes()
        async with idle_sockets(address, plan.idle_sockets - few):
            await asyncio.sleep(_SETTLE_SECONDS)
            grown = gateway.uss_bytes() - before
    return grown / (plan.idle_sockets - few) / 1e3


async def _cpu(gateway: Measured, work: Callable[[], Awaitable[_T]]) -> tuple[_T, float]:
    """Return what the work returned, and the gateway's CPU seconds meanwhile."""
    await asyncio.sleep(_SETTLE_SECONDS)
    before = gateway.cpu_seconds()
    result = await work()
    return result, gateway.cpu_seconds() - before
