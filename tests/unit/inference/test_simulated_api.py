from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pratique.inference.engines.simulated import SimulatedEngine, simulated_reply
from pratique.inference.settings import SimulatedSettings

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Caller

pytestmark = pytest.mark.unit

PATHS = ("/v1/chat/completions", "/v1/completions")
WHOLE = simulated_reply("hello", num_tokens=6)


async def api(caller: type[Caller], **changes: Any) -> Caller:
    settings = SimulatedSettings(load_seconds=0, first_token_seconds=0, token_seconds=0, reply_tokens=6, **changes)
    engine = SimulatedEngine(settings, model="simulated", max_model_len=100)
    await engine.start(lambda phase, detail, share=None: None)
    return caller(engine.openai_app)


def asks(path: str, **changes: Any) -> dict[str, Any]:
    said = {"prompt": "hello"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "hello"}]}
    return {"model": "simulated", **said, **changes}


def chunks(answer: Answer) -> list[Any]:
    lines = [block.removeprefix("data: ") for block in answer.body.decode().split("\n\n") if block]
    assert lines.pop() == "[DONE]"
    return [msgspec.json.decode(line) for line in lines]


def text_of(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return str(choice["text"])
    return str(choice["delta" if "delta" in choice else "message"]["content"])


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer(caller: type[Caller], path: str) -> None:
    answer = (await (await api(caller))("POST", path, asks(path))).json()
    assert text_of(answer["choices"][0]) == WHOLE
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}


@pytest.mark.parametrize("path", PATHS)
async def test_a_streamed_answer_ends_with_done(caller: type[Caller], path: str) -> None:
    parts = chunks(await (await api(caller))("POST", path, asks(path, stream=True, max_tokens=4)))
    assert WHOLE.startswith("".join(text_of(part["choices"][0]) for part in parts))
    assert parts[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"model": "simulated", "prompt": "\xff", "messages": [{"role": "user", "content": "\xff"}]}', 400),
        ({"model": "simulated"}, 400),
        ({"model": "nope", "prompt": "x", "messages": [{}]}, 400),
    ],
)
async def test_what_is_wrong_is_refused(caller: type[Caller], path: str, body: object, status: int) -> None:
    answer = await (await api(caller))("POST", path, body)
    if path == "/v1/completions" and isinstance(body, dict) and "prompt" in body:
        status = 404
    assert answer.status == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_engine_error_is_an_answer_or_the_last_chunk(caller: type[Caller], path: str) -> None:
    client = await api(caller, fail_after_tokens=2)
    assert (await client("POST", path, asks(path))).status == 500
    assert "error" in chunks(await client("POST", path, asks(path, stream=True)))[-1]


async def test_the_models_are_listed(caller: type[Caller]) -> None:
    answer = (await (await api(caller))("GET", "/v1/models")).json()
    assert [model["id"] for model in answer["data"]] == ["simulated"]
