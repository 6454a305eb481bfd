from __future__ import annotations

import io
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from pratique.core.errors import CallerError
from pratique.core.events import bound_contextvars, configure_events, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_service_room_and_time() -> None:
    stream = io.StringIO()
    logger = get_logger("sessions")
    configure_events(service="orchestrator-0", stream=stream)
    with bound_contextvars(conversation_id="cnv_1"):
        logger.info("accepted", size_bytes=3)
    [event] = lines(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "accepted",
        "level": "info",
        "room": "sessions",
        "service": "orchestrator-0",
        "conversation_id": "cnv_1",
        "size_bytes": 3,
    }


def test_events_of_threads_carry_the_service_too() -> None:
    stream = io.StringIO()
    configure_events(service="orchestrator-0", stream=stream)
    thread = threading.Thread(target=lambda: get_logger("store").info("written"))
    thread.start()
    thread.join()
    assert lines(stream)[0]["service"] == "orchestrator-0"


def test_events_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure_events(service="x", level="warning", stream=stream)
    get_logger("a").info("quiet")
    get_logger("a").warning("loud")
    assert [event["event"] for event in lines(stream)] == ["loud"]


def test_an_exception_is_part_of_its_event() -> None:
    stream = io.StringIO()
    configure_events(service="x", stream=stream)
    get_logger("a").error("failed", exc_info=ValueError("why"))
    assert "ValueError: why" in lines(stream)[0]["exception"]


def test_on_a_terminal_events_are_for_people() -> None:
    stream = Terminal()
    configure_events(service="x", stream=stream)
    get_logger("a").error("failed", exc_info=ValueError("why"))
    assert "failed" in stream.getvalue()
    assert "why" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure_events(service="x")
    get_logger("a").info("here")
    captured = capsys.readouterr()
    assert ("here" in captured.err, captured.out) == (True, "")


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CallerError, match="'loud'"):
        configure_events(service="x", level="loud")
