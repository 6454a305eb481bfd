"""The model server: what its engines answer, a cold start, requests that are left open, the real text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceStartError, UnexpectedAnswerError
from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.http import ask
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.modelserver import ModelServerEndpoint, ModelServerNamespace, ModelServerService

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.fixtures import Launcher

pytestmark = pytest.mark.integration

pratique_model_server = server_fixture("model_server", use="simulated")
ROOT = Path(__file__).resolve().parents[4]


def wait_for(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_whole_reply_and_a_streamed_one_say_the_same(model_server: ModelServerNamespace) -> None:
    whole = model_server.invoke({"query": "good morning", "max_tokens": 12})
    with model_server.stream({"query": "good morning", "max_tokens": 12}) as stream:
        events = list(stream)
    assert [events[0].name, events[-1].name] == ["start", "end"]
    assert "".join(event.data["text"] for event in events if event.name == "token") == whole.text
    assert whole.text.startswith("You said: good morning")
    assert whole.usage.completion_tokens == events[-1].data["completion_tokens"] == 12
    assert events[0].data["request_id"] == f"{model_server.name}-2"


def test_a_body_that_is_wrong_is_refused_with_what_the_server_said(model_server: ModelServerNamespace) -> None:
    for ask_it in (model_server.invoke, model_server.stream):
        body = {"query": ""} if ask_it is model_server.invoke else {"query": "x", "max_tokens": 0}
        with pytest.raises(UnexpectedAnswerError, match="invalid_request") as caught:
            ask_it(body)
        assert caught.value.status == 400
    assert model_server.leaks() == []


def test_a_stream_that_is_left_open_is_a_leak_until_it_is_closed(pratique_launch: Launcher) -> None:
    endpoint: ModelServerEndpoint = pratique_launch("model_server", "simulated").endpoint
    namespace = ModelServerService().namespace(endpoint, "pqaaan1")
    stream = namespace.stream({"query": "x"})
    assert next(stream).name == "start"
    assert namespace.leaks() == ["the request pqaaan1-1, its stream still open"]
    assert endpoint.requests_running() == 1
    namespace.close()
    assert namespace.leaks() == []
    wait_for(lambda: endpoint.requests_running() == 0)


def test_the_openai_api_is_where_the_endpoint_says(pratique_model_server: ModelServerEndpoint) -> None:
    models = ask("GET", f"{pratique_model_server.openai_url}/models").expect(200).json()
    assert models["data"][0]["id"] == pratique_model_server.status()["model"]


def test_a_cold_start_refuses_for_three_seconds_what_a_warm_server_answers(pratique_launch: Launcher) -> None:
    endpoint: ModelServerEndpoint = pratique_launch("model_server", "simulated-cold").endpoint
    began = time.monotonic()
    with pytest.raises(UnexpectedAnswerError) as caught:
        endpoint.invoke({"query": "x"})
    assert caught.value.status == 503
    wait_for(lambda: ask("GET", f"{endpoint.url}/ping").status == 200)
    assert time.monotonic() - began > 1.0  # what is left of three seconds: the server was listening a while before
    assert endpoint.invoke({"query": "x", "max_tokens": 4}).usage.completion_tokens == 4


def test_a_server_that_is_killed_breaks_its_streams_and_comes_back(pratique_launch: Launcher) -> None:
    server = pratique_launch("model_server", "simulated")
    with server.endpoint.stream({"query": "x"}) as stream:
        assert next(stream).name == "start"
        server.kill()
        with pytest.raises(ServiceGoneError, match="broke off the stream of a request"):
            list(stream)  # it broke off: not the end of a reply
    server.restart()
    assert server.endpoint.invoke({"query": "x", "max_tokens": 4}).finish_reason == "length"


def test_a_server_given_by_its_url_says_what_it_is(pratique_model_server: ModelServerEndpoint) -> None:
    given = Connection(url=pratique_model_server.url, backend=Backend.URL, provider="url")
    assert ModelServerService().connect(given).version == "simulated with simulated"


def test_an_address_where_no_model_server_answers_is_refused(pratique_registry: Any) -> None:
    given = Connection(url=pratique_registry.url, backend=Backend.URL, provider="url")
    with pytest.raises(ServiceStartError, match="Nobody answers as a model server"):
        ModelServerService().connect(given)


@pytest.fixture
def models_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server take the small model from the project's cache folder, which other tests share."""
    monkeypatch.setenv("PRATIQUE_INFERENCE_MODEL_ROOT", str(ROOT / ".cache" / "models"))


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_real_engine_answers_in_its_own_words(models_of_the_project: None, request: pytest.FixtureRequest) -> None:
    real: ModelServerEndpoint = request.getfixturevalue("pratique_real_model_server")
    assert real.supports("real_text")
    assert real.status()["engine"] == "vllm"
    reply = real.invoke({"query": "Say hello in one short sentence.", "max_tokens": 24, "temperature": 0.0})
    assert reply.text.strip()
    assert not reply.text.startswith("You said:")
