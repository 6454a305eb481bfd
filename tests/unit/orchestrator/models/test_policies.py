"""What makes a question complex, in words; and policies from elsewhere."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.settings import SettingsError
from pratique.orchestrator.models.catalogue import ModelCatalogue
from pratique.orchestrator.models.features import estimate_tokens, read_features
from pratique.orchestrator.models.interface import Choice, Question
from pratique.orchestrator.models.policies import ComplexityPolicy, FixedPolicy, open_policy
from pratique.orchestrator.models.settings import ComplexitySettings, ModelsSettings
from pratique.orchestrator.upstream.interface import HistoryTurn

pytestmark = pytest.mark.unit

CODE = """Why does this fail?
```python
print(1/0)
```"""
BARE_CODE = "def add(a, b):\n    return a + b\nimport os\n"


def choose(text: str, *, history: tuple[str, ...] = (), **options: Any) -> Choice:
    policy = ComplexityPolicy(ComplexitySettings(**options))
    return policy.choose(Question(text=text, history=tuple(HistoryTurn("user", said) for said in history)))


@pytest.mark.parametrize(
    "text",
    [
        "Hello!",
        "What is the capital of France?",
        "こんにちは。おすすめの漫画を教えてください。",
        "Is the shop open on 2024/05/01, from 9 to 17?",
        "Thanks, that is all. See you.",
        "How do I improve my handwriting?",
        "",
    ],
)
def test_simple_questions_go_to_the_small_pool(text: str) -> None:
    choice = choose(text)
    assert choice.pool == "small"
    assert choice.reason.startswith("simple question (")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (CODE, "code"),
        (BARE_CODE, "code"),
        ("Solve the equation for me", "mathematics"),
        ("What is 12 * 7?", "mathematics"),
        ("次の積分を計算してください", "mathematics"),
        ("Tell me step by step how to brew coffee", '"step by step"'),
        ("この二つの作品を比較してください", '"比較"'),
        ("word " * 600, "very long"),
        ("漢字" * 300, "very long"),
        ("Plan:\n1. one\n2. two\n" + "It is so. " * 6, "several steps"),
    ],
)
def test_complex_questions_go_to_the_large_pool_and_it_is_said_why(text: str, seen: str) -> None:
    choice = choose(text)
    assert choice.pool == "large"
    assert seen in choice.reason


def test_points_add_up_and_are_explained() -> None:
    assert choose("What? Why? Who?").reason == "simple question (1 of 2): several questions"
    assert choose("Hi", history=("word " * 1000,) * 2).reason == "simple question (1 of 2): long conversation"
    assert choose("Hi").reason == "simple question (0 of 2): nothing that makes it hard"
    assert choose("a " * 400).reason.endswith(": long")


def test_weights_and_pools_are_the_settings() -> None:
    choice = choose("こんにちは", japanese_points=5, large="ja-70b")
    assert (choice.pool, choice.reason) == ("ja-70b", "complex question (5 of 2): Japanese")
    assert choose(CODE, code_points=0).pool == "small"


def test_tokens_are_estimated_by_script() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("abcd" * 10) == 10
    assert estimate_tokens("日本語" * 10) == 30
    assert estimate_tokens("abcd" * 10_000) == 10_000


@given(st.text(max_size=400))
@settings(max_examples=50, deadline=None)
def test_any_text_is_read(text: str) -> None:
    features = read_features(text, [text])
    assert features.num_tokens == features.num_history_tokens >= 0
    assert features.num_sentences >= 1


@pytest.mark.parametrize(
    "piece", ["\n", " ", ".", "a", "a.", "(", "a(", "=", "a=", "1", "。", "{", "\\", "- ", "\t", "`"]
)
def test_no_text_makes_it_slow(piece: str) -> None:
    text = piece * (32_768 // len(piece)) + "!"
    began = time.process_time()
    read_features(text)
    # Linear takes milliseconds; quadratic would take many seconds.
    assert time.process_time() - began < 1.0


class TestOpening:
    def open(self, catalogue: ModelCatalogue, **options: Any) -> Any:
        return open_policy(ModelsSettings(**options), catalogue)

    def test_fixed_is_the_default_pool(self, catalogue: ModelCatalogue) -> None:
        for policy in ("fixed", "named-only"):
            opened = self.open(catalogue, policy=policy)
            assert isinstance(opened, FixedPolicy)
            assert opened.choose(Question(text="x")) == Choice(pool="small", reason="the default pool")

    def test_complexity_needs_its_pools(self, catalogue: ModelCatalogue) -> None:
        assert isinstance(self.open(catalogue, policy="complexity"), ComplexityPolicy)
        with pytest.raises(SettingsError, match="needs a pool 'huge'; there are: small, large"):
            self.open(catalogue, policy="complexity", complexity=ComplexitySettings(large="huge"))

    def test_ones_own_is_made_of_options_and_pools(
        self, catalogue: ModelCatalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def factory(options: Any, pools: Any) -> Any:
            asked.append((options, pools))
            return SimpleNamespace(name="mine", choose=lambda _: Choice(pool="large", reason="always"))

        module = ModuleType("mine_policies")
        monkeypatch.setattr(module, "make", factory, raising=False)
        monkeypatch.setitem(sys.modules, "mine_policies", module)
        policy = self.open(catalogue, policy="mine_policies:make", policy_options={"limit": 3})
        assert policy.name == "mine"
        assert asked == [({"limit": 3}, ("small", "large"))]

    @pytest.mark.parametrize(
        ("policy", "message"),
        [
            ("complex", "found 'complex'"),
            (":x", "found ':x'"),
            ("no.such.module:make", "ModuleNotFoundError"),
            ("json:nothing", "AttributeError"),
            ("json:loads", "TypeError"),
            ("builtins:print", "name"),
        ],
    )
    def test_what_cannot_be_made_is_refused_at_start(
        self, catalogue: ModelCatalogue, policy: str, message: str
    ) -> None:
        with pytest.raises(SettingsError, match=message):
            self.open(catalogue, policy=policy)
