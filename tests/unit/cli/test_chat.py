"""`pratique chat` against a scripted chat service in a thread."""

from __future__ import annotations

import io
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pratique import client
from pratique.cli._chat_screen import Screen
from pratique.cli._chat_session import Once, converse, say_once
from pratique.cli.main import app
from pratique.client import ChatClient, ClientSettings
from pratique.orchestrator.protocol import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

TEXT = "Paris is the capital of France."
QUICK = ClientSettings(backoff_first_seconds=0.001, request_timeout_seconds=2)


class Terminal(io.StringIO):
    """A terminal that remembers, and reacts to what is written."""

    def __init__(self, react: Callable[[str], None] = lambda text: None, *, is_terminal: bool = True) -> None:
        super().__init__()
        self._react = react
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        length = super().write(text)
        self._react(text)
        return length


class Session:
    """A person at the prompt."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.out = Terminal()
        self.err = Terminal(is_terminal=False)

    def screen(self) -> Screen:
        return Screen(out=self.out, err=self.err)

    def client(self) -> ChatClient:
        return ChatClient(self.url, settings=QUICK)

    def type(self, *lines: str, conversation_id: str | None = None, model: str | None = None) -> str:
        remaining = iter(lines)

        def read(prompt: str) -> str:
            assert prompt == ("> " if self.out.isatty() else "")
            line = next(remaining, None)
            if line is None:
                raise EOFError
            return line

        converse(self.client(), self.screen(), conversation_id=conversation_id, model=model, reader=read)
        return self.out.getvalue()

    @property
    def notes(self) -> str:
        return self.err.getvalue()


@pytest.fixture
def service(chat_kit: Any) -> Any:
    return chat_kit.Service()


@pytest.fixture
def url(chat_kit: Any, service: Any) -> Iterator[str]:
    with chat_kit.serve_in_thread(service) as address:
        yield address


@pytest.fixture
def session(url: str) -> Session:
    return Session(url)


def chat(*arguments: str, environment: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, ["chat", *arguments], env=environment)


def stored(*turns: events.Turn, active: str | None = None) -> events.Conversation:
    return events.Conversation(
        conversation_id="cnv_1",
        title="Capi\x1b]0;tals",
        created_at=1.0,
        updated_at=2.0,
        version=1,
        turns=turns,
        active_generation_id=active,
    )


def turn(role: events.Role, text: str, **fields: Any) -> events.Turn:
    return events.Turn(
        turn_id="turn_1", role=role, text=text, status=events.TurnStatus.COMPLETE, created_at=1.0, **fields
    )


def test_once_prints_the_reply_and_nothing_else(url: str) -> None:
    result = chat("--url", url, "--once", "What is the capital of France?")
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n")
    assert "does not see 2 earlier turns" in result.stderr


def test_once_json_has_a_versioned_schema(url: str, chat_kit: Any, service: Any) -> None:
    service.cuts.append(chat_kit.Cut(5))
    result = chat("--url", url, "--once", "hello", "--json", "--conversation", "cnv_5")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert 0 <= data.pop("first_token_seconds") <= data.pop("total_seconds")
    assert data == {
        "schema_version": 1,
        "conversation_id": "cnv_5",
        "generation_id": "gen_1",
        "text": TEXT,
        "finish_reason": "stop",
        "turn_id": "turn_2",
        "usage": {"prompt_tokens": 7, "completion_tokens": 6},
        "was_truncated": True,
        "turns_dropped": 2,
        "model": "small",
        "reconnects": 1,
        "error": None,
    }


def test_once_waits_for_a_ready_model_and_says_what_it_waits_for(url: str, service: Any) -> None:
    replica = events.ModelReplica(name="inference-0", state="process_alive", detail="loading weights", progress=0.4)
    service.model = events.ModelState(ready=False, replicas=(replica,))
    result = chat("--url", url, "--once", "hello", "--wait-seconds", "0.3")
    assert result.exit_code == 1
    assert "inference-0: loading weights 40 %" in result.stderr
    assert result.stdout == ""


def test_once_with_a_reply_that_fails_prints_what_there_is_and_exits_3(url: str, service: Any) -> None:
    error = events.EventError(code="interrupted", message="The model server died.")
    service.final = {"finish_reason": events.FinishReason.ERROR, "error": error}
    result = chat("--url", url, "--once", "hello")
    assert (result.exit_code, result.stdout) == (3, TEXT + "\n")
    assert "error: The model server died." in result.stderr
    data = json.loads(chat("--url", url, "--once", "hello", "--json").stdout)
    assert (data["finish_reason"], data["error"]["code"]) == ("error", "interrupted")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("conversation_not_found", 2), ("unknown_model", 2), ("generation_running", 1), ("internal", 3)],
)
def test_once_refused_exits_with_the_code_of_the_error(url: str, service: Any, code: str, exit_code: int) -> None:
    service.refusals.append(events.EventError(code=code, message="No.", hint="Do otherwise."))
    result = chat("--url", url, "--once", "hello")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert "error: No.\nhint: Do otherwise." in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json"],
        ["--url", "http://127.0.0.1:1", "--port", "2"],
        ["--port", "0"],
        ["--once"],
        ["--url", "nonsense"],
        ["--url", "http://127.0.0.1:1", "--api-key-file", "/does/not/exist"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = chat(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_no_stack_running_exits_3_and_says_what_to_do(tmp_path: Path) -> None:
    result = chat("--state-dir", str(tmp_path), "--once", "hello")
    assert result.exit_code == 3
    assert "pratique up" in result.stderr


def test_the_running_stack_is_found_with_its_key(url: str, service: Any, tmp_path: Path) -> None:
    folder = tmp_path / "pratique"
    folder.mkdir()
    (folder / "stack.json").write_text(json.dumps({"schema_version": 1, "url": url, "pid": 1}))
    (folder / "api-key").write_text("pk_stack\n")
    result = chat("--once", "hello", environment={"XDG_STATE_HOME": str(tmp_path), "PRATIQUE_API_KEY": ""})
    assert (result.exit_code, result.stdout) == (0, TEXT + "\n")
    assert set(service.keys_seen) == {"Bearer pk_stack"}


def test_a_stack_file_that_is_none_exits_3(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{}")
    assert chat("--state-dir", str(tmp_path), "--once", "hello").exit_code == 3


def test_the_key_of_the_stack_goes_to_no_other_address(url: str, service: Any, tmp_path: Path) -> None:
    (tmp_path / "pratique").mkdir()
    (tmp_path / "pratique" / "api-key").write_text("pk_stack")
    environment = {"XDG_STATE_HOME": str(tmp_path), "PRATIQUE_API_KEY": ""}
    assert chat("--url", url, "--once", "hello", environment=environment).exit_code == 0
    assert set(service.keys_seen) == {None}


def test_keys_come_from_the_file_then_the_environment(url: str, service: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("pk_file\n")
    environment = {"PRATIQUE_API_KEY": "pk_environment"}
    chat("--url", url, "--once", "hello", "--api-key-file", str(tmp_path / "key"), environment=environment)
    assert set(service.keys_seen) == {"Bearer pk_file"}
    service.keys_seen.clear()
    chat("--url", url, "--once", "hello", environment=environment)
    assert set(service.keys_seen) == {"Bearer pk_environment"}


def test_a_conversation_at_the_prompt(session: Session, service: Any) -> None:
    shown = session.type("What is the capital of France?", "", "And of Spain?", "/quit", "never read")
    assert shown == f"{TEXT}\n{TEXT}\n"
    assert [frame.conversation_id for _, frame in service.asked] == [None, "cnv_1"]


def test_model_is_named_with_every_message(session: Session, url: str, service: Any) -> None:
    session.type("one", "two", model="large")
    chat("--url", url, "--once", "three", "--model", "chatbot-ja")
    chat("--url", url, "--once", "four")
    assert [frame.model for _, frame in service.asked] == ["large", "large", "chatbot-ja", None]


def test_new_begins_another_conversation(session: Session, service: Any) -> None:
    session.type("one", "/new", "two")
    assert [frame.conversation_id for _, frame in service.asked] == [None, None]


def test_list_and_open_by_number_and_by_id(session: Session, service: Any) -> None:
    service.conversations["cnv_1"] = stored(turn(events.Role.USER, "hello"), turn(events.Role.ASSISTANT, "Hi \x1b[2J!"))
    shown = session.type("/list", "/open 1", "/open cnv_1", "/open 9", "/open")
    assert shown == "Hi [2J!\n" * 2, "without the control characters"
    assert "  1  Capi]0;tals  cnv_1" in session.notes
    assert "> hello" in session.notes
    assert "There is none." in session.notes
    assert "Which one?" in session.notes


def test_opening_a_conversation_follows_the_reply_that_runs_in_it(session: Session, service: Any) -> None:
    service.conversations["cnv_1"] = stored(turn(events.Role.USER, "hello"), active="gen_1")
    session.type("hello")
    session.type("more", conversation_id="cnv_1")
    assert [frame.conversation_id for _, frame in service.asked][1:] == ["cnv_1", "cnv_1"]


def test_retry_answers_again(session: Session, service: Any) -> None:
    session.type("/retry", "hello", "/retry")
    assert "nothing to answer again" in session.notes
    assert type(service.asked[-1][1]).__name__ == "Retry"


def test_help_unknown_commands_and_an_empty_list(session: Session) -> None:
    session.type("/help", "/dance", "/list")
    assert "/open N" in session.notes
    assert "There is no command /dance." in session.notes
    assert "no conversations yet" in session.notes


def test_an_error_does_not_end_the_conversation(session: Session, service: Any) -> None:
    service.refusals.append(events.EventError(code="generation_running", message="Busy.", hint="Wait."))
    assert session.type("one", "two") == TEXT + "\n"
    assert "Busy. Wait." in session.notes


def test_reconnecting_is_shown_once_per_loss(session: Session, service: Any, chat_kit: Any) -> None:
    service.cuts.extend([chat_kit.Cut(5), chat_kit.Cut(0), chat_kit.Cut(0)])
    session.type("hello")
    assert session.notes.count("Reconnecting…") == 1
    assert TEXT.replace("Paris is", "") in session.out.getvalue().replace("\n", " ")


def test_ctrl_c_stops_the_reply_and_the_conversation_goes_on(session: Session, service: Any) -> None:
    service.is_holding = True
    session.out = Terminal(lambda text: signal.raise_signal(signal.SIGINT) if "capital" in text else None)
    session.type("hello", "/quit")
    assert "Stopping the reply" in session.notes
    assert "Stopped. /retry answers again." in session.notes


def test_a_second_ctrl_c_leaves(session: Session, service: Any) -> None:
    service.is_holding = True

    def interrupt(text: str) -> None:
        if "Stopping" in text or "capital" in text:
            signal.raise_signal(signal.SIGINT)

    session.out, session.err = Terminal(interrupt), Terminal(interrupt, is_terminal=False)
    session.type("hello", "never read")
    assert "Bye." in session.notes


def test_ctrl_c_during_once_exits_like_an_interrupt(session: Session, service: Any) -> None:
    service.is_holding = True
    session.out = Terminal(lambda text: signal.raise_signal(signal.SIGINT) if "capital" in text else None)
    request = Once(text="hello", conversation_id=None, wait_seconds=1, is_json=False)
    with pytest.raises(KeyboardInterrupt):
        say_once(session.client(), session.screen(), request)
    assert session.out.getvalue().replace("\n", "") == TEXT


def test_into_a_pipe_replies_are_whole_lines(session: Session, service: Any) -> None:
    session.out = Terminal(is_terminal=False)
    service.conversations["cnv_1"] = stored(turn(events.Role.USER, "hello"), turn(events.Role.ASSISTANT, "Hi!"))
    assert session.type("hello", "/open cnv_1") == TEXT + "\nHi!\n"


def test_a_refusal_writes_nothing_into_a_pipe(session: Session, service: Any) -> None:
    session.out = Terminal(is_terminal=False)
    service.refusals.append(events.EventError(code="generation_running", message="Busy."))
    assert session.type("hello") == ""


def test_a_second_ctrl_c_during_once_leaves_too(session: Session, service: Any) -> None:
    service.is_holding = True

    def interrupt(text: str) -> None:
        if "Stopping" in text or "capital" in text:
            signal.raise_signal(signal.SIGINT)

    session.out, session.err = Terminal(interrupt), Terminal(interrupt, is_terminal=False)
    with pytest.raises(KeyboardInterrupt):
        say_once(
            session.client(),
            session.screen(),
            Once(text="hello", conversation_id=None, wait_seconds=1, is_json=False),
        )


def test_a_cancel_that_fails_is_said_and_the_reply_goes_on(session: Session, service: Any, chat_kit: Any) -> None:
    service.is_holding = True

    def interrupt(text: str) -> None:
        if "capital" in text:
            refused = events.EventError(code="generation_not_found", message="Gone.")
            service.http_errors.append(chat_kit.error_response(404, refused))
            signal.raise_signal(signal.SIGINT)

    def release(text: str) -> None:
        if "could not be stopped" in text:
            service.release()

    session.out, session.err = Terminal(interrupt), Terminal(release, is_terminal=False)
    session.type("hello")
    assert session.out.getvalue().replace("\n", "") == TEXT
    assert "could not be stopped: Gone." in session.notes


def test_the_prompt_reads_standard_input(url: str) -> None:
    result = CliRunner().invoke(app, ["chat", "--url", url], input="hello\n")
    assert (result.exit_code, TEXT in result.stdout) == (0, True)


@pytest.fixture
def screen(session: Session) -> Screen:
    return session.screen()


IDS: Any = {"conversation_id": "cnv_1", "generation_id": "gen_1", "seq": 1}


def test_what_happens_to_a_reply_is_said(screen: Screen, session: Session) -> None:
    screen.show(client.Token(**IDS, text="Hal"))
    screen.show(client.Continued(**IDS, reason="the server died"))
    screen.show(client.Token(**IDS, text="f"))
    screen.show(client.Replaced(text="Whole."))
    screen.show(client.Ended(**IDS, finish_reason=client.FinishReason.LENGTH, turn_id=None))
    assert session.out.getvalue() == "Hal\nf\nWhole.\n"
    assert "Another model server goes on" in session.notes
    assert "differs from what was shown" in session.notes
    assert "length limit" in session.notes


def test_a_cut_history_is_said_in_numbers_where_they_are_known(screen: Screen, session: Session) -> None:
    for dropped, was_truncated in ((1, True), (0, True), (0, False)):
        screen.show(
            client.Started(**IDS, model="small", prompt_tokens=1, was_truncated=was_truncated, turns_dropped=dropped)
        )
    assert session.notes.count("its context is full") == 2
    assert "1 earlier turn of" in session.notes


def test_a_model_that_is_not_ready_is_described_once_per_change(screen: Screen, session: Session) -> None:
    replica = client.ModelReplica(name="inference-0", state="model_loaded", eta_seconds=11.7)
    for _ in range(2):
        screen.show(client.ModelState(ready=False, replicas=(replica,)))
    screen.show(client.ModelState(ready=False, replicas=()))
    screen.show(client.ModelState(ready=True, replicas=()))
    assert session.notes.count("inference-0: model loaded, about 12 s") == 1
    assert "no model server is known" in session.notes
