"""An engine's own application says 500 when its engine dies; what a client gets is a 503 that tells it to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pratique.core.clock import ManualClock
from pratique.inference.api.lost_engine import with_lost_engine
from pratique.inference.containment.breaker import Breaker
from pratique.inference.engines.simulated import SimulatedEngine
from pratique.inference.errors import DeathCause
from pratique.inference.settings import ContainmentSettings, SimulatedSettings

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Caller

pytestmark = pytest.mark.unit


class Scene:
    """An application that answers with `status` after `happens`."""

    def __init__(self, caller: type[Caller]) -> None:
        self.engine = SimulatedEngine(SimulatedSettings(load_seconds=0), model="m", max_model_len=100)
        self.breaker = Breaker(ManualClock(), ContainmentSettings())
        self.status = 500
        self.trip: DeathCause | None = None
        self.death: DeathCause | None = None
        app = Starlette(routes=[Route("/v1/chat/completions", self.answer, methods=["POST"])])
        self.call = caller(with_lost_engine(app, self.engine, self.breaker, fallback="short of memory"))

    async def answer(self, _: Request) -> Response:
        if self.trip is not None:
            self.breaker.trip(self.trip)
        if self.death is not None:
            self.engine.die(self.death)
        return JSONResponse({"error": {"message": "internal"}}, self.status)

    async def ask(self) -> Answer:
        return await self.call("POST", "/v1/chat/completions", {})


@pytest.fixture
async def scene(caller: type[Caller]) -> Scene:
    made = Scene(caller)
    await made.engine.start(lambda phase, detail, share=None: None)
    return made


@pytest.mark.parametrize(
    ("cause", "code", "has_fallback"),
    [(DeathCause.KILLED, "engine_dead", False), (DeathCause.OUT_OF_MEMORY, "capacity_limit", True)],
)
async def test_an_engine_that_died_is_no_fault_of_the_request(
    scene: Scene, cause: DeathCause, code: str, has_fallback: bool
) -> None:
    scene.death = cause
    answer = await scene.ask()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (answer.json()["error"]["code"], "fallback" in answer.json()["error"]) == (code, has_fallback)
    assert answer.json()["error"]["type"] == "service_unavailable"


async def test_a_flush_in_the_meantime_is_told_as_short_memory(scene: Scene) -> None:
    scene.trip = DeathCause.KV_EXHAUSTED
    answer = await scene.ask()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "capacity_limit")
    assert answer.json()["error"]["fallback"] == "short of memory"


async def test_an_error_of_a_living_engine_stays_what_it_is(scene: Scene) -> None:
    answer = await scene.ask()
    assert (answer.status, answer.json()) == (500, {"error": {"message": "internal"}})


@pytest.mark.parametrize("status", [200, 400])
async def test_other_answers_pass_whatever_became_of_the_engine(scene: Scene, status: int) -> None:
    scene.status, scene.death = status, DeathCause.KILLED
    assert (await scene.ask()).status == status
