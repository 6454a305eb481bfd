"""What a completion request would take."""

from __future__ import annotations

import json

import pytest

from pratique.inference.api.completions import completion_size

pytestmark = pytest.mark.unit


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("request_body", "size"),
    [
        ({"prompt": "one two three"}, 3 + 16),
        ({"prompt": "one two", "max_tokens": 5, "suffix": None}, 7),
        ({"prompt": ["one two", "three"], "max_tokens": 5}, 3 + 10),
        ({"prompt": [1, 2, 3], "max_tokens": 5}, 8),
        ({"prompt": [[1, 2], [3]], "max_tokens": 5}, 13),
        ({"prompt": "one", "max_tokens": 5, "n": 3}, 1 + 15),
        ({"prompt": "one", "max_tokens": 5, "n": None}, 6),
        ({"prompt": ""}, 16),
    ],
)
def test_prompts_and_replies_are_added_up(request_body: dict[str, object], size: int) -> None:
    assert completion_size(json.dumps(request_body).encode(), count=words) == size


@pytest.mark.parametrize(
    "request_body",
    [
        {},
        {"prompt": None},
        {"prompt": 3},
        {"prompt": "a", "max_tokens": None},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "n": 0},
        {"prompt": {"a": 1}},
        {"prompt_embeds": "abc"},
        {"prompt": "a", "prompt_embeds": "abc"},
    ],
)
def test_what_cannot_be_known_is_none(request_body: dict[str, object]) -> None:
    assert completion_size(json.dumps(request_body).encode(), count=words) is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 50_000, b'{"prompt": "\\ud800"}'])
def test_what_is_no_request_is_none(body: bytes) -> None:
    assert completion_size(body, count=words) is None
