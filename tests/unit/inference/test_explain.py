"""`pratique budget`: what is said of a request and of a log, and the exit codes."""

from __future__ import annotations

import gzip
import io
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from pratique.cli import budget
from pratique.core.errors import CallerError
from pratique.inference.api.request_file import parse_request
from pratique.inference.context.conversation import ConversationError
from pratique.inference.context.explain import Asked, Explanation, explain
from pratique.inference.context.fitlog import LogTooBadError
from pratique.inference.context.fitter import Fitter
from pratique.inference.context.parts import Turn, Wanted
from pratique.inference.engines.interface import ChatMessage, Engine
from pratique.inference.errors import InvalidInvocationError
from pratique.inference.logfile import MAX_LINE_BYTES, LogFileError, read_lines, read_whole
from pratique.inference.settings import BudgetSettings, InferenceSettings, ModelSettings

pytestmark = pytest.mark.unit


class Characters:
    """A template of 4 tokens around a message, and one token for a character."""

    is_exact = True
    allows_system_inside = True

    @property
    def costs(self) -> Characters:
        return self

    def message(self, message: ChatMessage) -> int:
        return 4 + len(message.content)

    def frame(self, *, has_system: bool, prefix: str = "") -> int:
        return 3 + len(prefix)

    def count(self, text: str) -> int:
        return len(text)

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        return [0] * (self.frame(has_system=True, prefix=prefix) + sum(map(self.message, messages)) + len(tools))


POLICY = BudgetSettings(context_reserve_tokens=0, entity_block_tokens=60)


def explained(wanted: Wanted, limit: int, policy: BudgetSettings = POLICY, **changes: str) -> Explanation:
    fitter = Fitter(cast("Engine", Characters()), policy)
    return explain(Asked(wanted=wanted, **changes), fitter, limit=limit, policy=policy)


def talk(number: int, **changes: Any) -> Wanted:
    history = [
        Turn(ChatMessage("assistant" if index % 2 else "user", f"turn {index} " + "x" * 40)) for index in range(number)
    ]
    return Wanted(**{"tail": (ChatMessage("user", "query"),), "history": tuple(history), "max_tokens": 20, **changes})


def test_what_fits_is_told_to_the_last_token() -> None:
    said = explained(talk(2, system_prompt="be kind", passages=("one",)), 500)
    assert said.verdict == "whole"
    assert sum(said.sizes.values()) == said.total_tokens == said.needed_tokens
    assert said.advice == said.markers == ()
    assert [(turn.number, turn.role, turn.kept) for turn in said.turns] == [
        (1, "user", "recent"),
        (2, "assistant", "recent"),
    ]
    assert [passage.is_kept for passage in said.passages] == [True]
    assert [message["role"] for message in said.messages] == ["system", "user", "assistant", "user"]


def test_what_is_left_out_is_told_with_its_marker_and_with_what_would_help() -> None:
    wanted = talk(12, max_tokens=300)
    said = explained(wanted, 900)
    assert said.verdict == "truncated"
    assert said.total_tokens <= 900 < said.needed_tokens
    assert {turn.kept for turn in said.turns} >= {"dropped", "recent"}
    assert len(said.markers) == 1
    assert "left out here" in said.markers[0]
    assert explained(wanted, said.needed_tokens).verdict == "whole"
    fewer = int(said.advice[1].split("max_tokens ")[1].split()[0])
    assert explained(talk(12, max_tokens=fewer), 900).verdict == "whole"
    assert explained(talk(12, max_tokens=fewer + 1), 900).verdict == "truncated"
    assert "history, which has" in said.advice[2]


@pytest.mark.parametrize("reserve", [0, 50, 100, 4000])
def test_what_is_needed_is_the_smallest_limit_that_takes_everything(reserve: int) -> None:
    policy = BudgetSettings(context_reserve_tokens=reserve)
    said = explained(talk(12), 600, policy)
    assert ("kept for passages" in said.advice[0]) == (reserve > 0)
    assert explained(talk(12), said.needed_tokens, policy).verdict == "whole"
    assert explained(talk(12), said.needed_tokens - 1, policy).verdict == "truncated"


def test_entities_are_told_where_they_stand_and_where_they_went() -> None:
    rich = "Order ORD-4711 for Alice Smith, tracked as TRK-9988, about iPhone 15 " + "y" * 400
    wanted = talk(8)
    first = Turn(ChatMessage("user", "hello " + "z" * 60))
    history = (first, Turn(ChatMessage("user", rich)), *wanted.history)
    said = explained(talk(0, history=history), 420)
    assert any("ORD-4711" in entity for entity in said.turns[1].entities)
    assert said.turns[1].kept == "dropped"
    assert "ORD-4711" in said.entity_block
    assert said.entity_block in said.markers[0]


def test_a_refused_request_is_explained_too() -> None:
    said = explained(talk(2, system_prompt="s" * 200), 100)
    assert said.verdict == "refused"
    assert "system prompt" in said.reason
    assert said.total_tokens > 100
    assert {turn.kept for turn in said.turns} == {"dropped"}
    assert "limit" in said.advice[1]


def test_a_marker_in_a_users_message_is_told_without_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Characters, "allows_system_inside", False)
    said = explained(talk(12), 400)
    assert said.markers[0].startswith("[")
    assert "xxx" not in said.markers[0]


def test_prefix_and_tools_are_counted() -> None:
    bare = explained(talk(0), 500)
    said = explained(talk(0), 500, prefix="p" * 7, tools="t" * 11)
    assert said.total_tokens == bare.total_tokens + 18


def test_long_texts_are_told_by_their_beginning() -> None:
    turn = explained(talk(0, history=(Turn(ChatMessage("user", "a\n b " + "c" * 500)),)), 2000).turns[0]
    assert turn.beginning.startswith("a b ccc")
    assert len(turn.beginning) == 60


INVOCATION = {
    "query": "where is it?",
    "system_prompt": "be kind",
    "context": ["one"],
    "history": [{"role": "user", "content": "a", "is_pinned": True}, {"role": "assistant", "content": "b"}],
    "prefix": "It is ",
    "max_tokens": 33,
}


def parsed(body: object) -> Asked:
    return parse_request(json.dumps(body).encode(), default_max_tokens=512)


def test_a_body_of_invocations_is_asked_as_the_server_asks_it() -> None:
    asked = parsed(INVOCATION)
    assert asked.prefix == "It is"
    assert asked.wanted == Wanted(
        tail=(ChatMessage("user", "where is it?"),),
        system_prompt="be kind",
        passages=("one",),
        history=(Turn(ChatMessage("user", "a"), is_pinned=True), Turn(ChatMessage("assistant", "b"))),
        max_tokens=33,
    )


def test_an_openai_request_has_its_tools_and_the_default_reserve() -> None:
    asked = parsed({"model": "m", "messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function"}]})
    assert (json.loads(asked.tools), asked.wanted.max_tokens) == ([{"type": "function"}], 512)


def test_a_line_of_a_conversation_log_can_be_explained_too() -> None:
    asked = parsed({"system": "s", "context": ["p"], "messages": [{"role": "user", "content": "q"}], "reply": "r"})
    assert asked.wanted == Wanted(tail=(ChatMessage("user", "q"),), system_prompt="s", passages=("p",), max_tokens=512)


def test_what_the_server_would_not_count_is_named() -> None:
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    with pytest.raises(ConversationError, match="image_url"):
        parsed({"messages": [{"role": "user", "content": image}]})


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", ConversationError),
        (b"[1]", ConversationError),
        (b'{"query": 3}', InvalidInvocationError),
        (b'{"query": "q", "unknown": 1}', InvalidInvocationError),
        (b'{"prompt": "q"}', ConversationError),
        (b"\xff", ConversationError),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, error: type[CallerError]) -> None:
    with pytest.raises(error):
        parse_request(raw, default_max_tokens=1)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(budget, "_load", lambda *_: Characters())

    def call(*arguments: object, given: bytes | None = None) -> Result:
        runner = CliRunner()
        return runner.invoke(budget.app, [str(one) for one in arguments], input=given, catch_exceptions=False)

    return call


def test_explain_prints_every_part_and_says_no_by_its_exit_code(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(json.dumps(INVOCATION))
    whole = run("explain", file, "--max-model-len", 512)
    assert whole.exit_code == 0
    for text in ("whole", "system", "context", "query", "output", "total", "not used", "pinned!", "passage 1 kept"):
        assert text in whole.stdout
    assert "be kind" not in whole.stdout
    assert "be kind" in run("explain", file, "--show-prompt").stdout
    refused = run("explain", file, "--limit", 20)
    assert refused.exit_code == 1
    assert "refused" in refused.stdout


def test_explain_says_what_was_put_in_and_what_the_user_is_told(run: Any, tmp_path: Path) -> None:
    long = [{"role": "user", "content": f"question {number}"} for number in range(60)]
    said = run(
        "explain",
        "-",
        "--limit",
        600,
        "--max-model-len",
        4096,
        given=json.dumps({"messages": long, "max_tokens": 50}).encode(),
    )
    assert said.exit_code == 1
    for text in ("dropped", "put in where something is missing", "left out here", "the user is told", "A limit of"):
        assert text in said.stdout
    tiny = run("explain", "-", "--limit", 80, given=json.dumps({"messages": long, "max_tokens": 50}).encode())
    assert "no room to mark" in tiny.stdout


def test_explain_recalls_as_configured(run: Any, tmp_path: Path) -> None:
    config = tmp_path / "pratique.toml"
    body = {
        "messages": [{"role": "user", "content": f"bolt {number} " + "x" * 90} for number in range(30)]
        + [{"role": "user", "content": "bolt 7"}],
        "max_tokens": 50,
    }
    for recall in ("relevance", "summary"):
        config.write_text(f'[inference.budget]\nrecall = "{recall}"\n')
        said = run("explain", "-", "--config", config, "--limit", 1000, "--json", given=json.dumps(body).encode())
        fields = json.loads(said.stdout)
        assert fields["schema_version"] == 1
        assert "messages" not in fields
        assert ("bolt 7" in fields["recalled"]) == (recall == "relevance")
        assert ("running server" in said.stderr) == (recall == "summary")


def test_fit_prints_toml_that_can_be_used(run: Any, tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "q" * 52}, {"role": "assistant", "content": "a" * 190}]
    entry = {
        "system": "s" * 476,
        "context": ["p" * 269],
        "messages": [*turn, *turn, {"role": "user", "content": "q" * 41}],
        "reply": "r" * 350,
    }
    log = tmp_path / "log.jsonl.gz"
    log.write_bytes(gzip.compress((json.dumps(entry) + "\n").encode() * 50))
    said = run("fit", log, "--max-model-len", 4096)
    assert said.exit_code == 0
    assert "4096 tokens: 11 beside the medians" in said.stdout
    assert tomllib.loads(said.stdout) == {
        "inference": {"budget": {"context_reserve_tokens": 300, "output_reserve_tokens": 350}}
    }
    fields = json.loads(run("fit", log, "--max-model-len", 4096, "--json").stdout)
    assert fields["parts"]["turn"] == {"number": 100, "median": 250, "p95": 250, "p99": 250}
    assert fields["proposal"]["turns_at_medians"] == 11


def test_fit_without_replies_or_passages_proposes_nothing_for_them(run: Any) -> None:
    said = run("fit", "-", given=b'{"messages": [{"role": "user", "content": "q"}]}\n')
    assert tomllib.loads(said.stdout) == {"inference": {"budget": {}}}


def test_fit_names_the_bad_lines_and_refuses_too_many(run: Any) -> None:
    good = b'{"messages": [{"role": "user", "content": "q"}]}\n'
    said = run("fit", "-", "--max-bad", 0.5, given=good + b"nonsense\n")
    assert said.exit_code == 0
    assert "line 2:" in said.stderr
    with pytest.raises(LogTooBadError, match="1 of 2"):
        run("fit", "-", given=good + b"nonsense\n")


def test_without_a_tokenizer_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(CallerError, match="no small model") as caught:
        budget._load(None, InferenceSettings())
    assert "pratique model import" in str(caught.value.hint)


@pytest.mark.parametrize("given", [None, Path("given")])
def test_the_tokenizer_is_the_one_that_was_named_or_else_the_configured_models(
    monkeypatch: pytest.MonkeyPatch, given: Path | None
) -> None:
    monkeypatch.setattr("pratique.inference.engines.tokenizer.load_tokenizer", lambda folder: folder)
    one = InferenceSettings(model=Path("one"))
    several = InferenceSettings(models=(ModelSettings(name="a", folder=Path("several")),))
    loaded: list[object] = [budget._load(given, settings) for settings in (one, several)]
    assert loaded == ([given, given] if given else [Path("one"), Path("several")])


def test_a_file_is_read_line_by_line_plain_or_compressed(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"\xef\xbb\xbfone\ntwo")
    assert list(read_lines(file)) == [b"one\n", b"two"]
    assert read_whole(file) == b"one\ntwo"
    file.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert list(read_lines(file)) == [b"one\n", b"two\n"]


def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.inference.logfile.MAX_LINE_BYTES", 8)
    file = tmp_path / "log"
    file.write_bytes(b"a" * 30 + b"\nshort\n" + b"b" * 8 + b"\n" + b"c" * 9)
    assert list(read_lines(file)) == [None, b"short\n", None, None]
    with pytest.raises(LogFileError, match="more than 8 bytes"):
        read_whole(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"line\n" * 10_000)[:-10])
    with pytest.raises(LogFileError, match=r"cut.gz .* after line"):
        list(read_lines(cut))
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(LogFileError):
            list(read_lines(missing))
        with pytest.raises(LogFileError):
            read_whole(missing)


def test_the_standard_input_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO(b"a\nb\n"))
    monkeypatch.setattr("sys.stdin", given)
    assert list(read_lines(Path("-"))) == [b"a\n", b"b\n"]
    assert not given.buffer.closed
    assert MAX_LINE_BYTES > 1 << 20
