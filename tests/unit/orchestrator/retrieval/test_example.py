"""The reference application's questions find its titles, and what it cannot answer is given nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from pratique.orchestrator.retrieval.documents import load_documents
from pratique.orchestrator.retrieval.embedded.build import build_index
from pratique.orchestrator.retrieval.embedded.reader import IndexReader
from pratique.orchestrator.retrieval.relevance import Cutoffs
from pratique.orchestrator.retrieval.smalltalk import without_small_talk
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "manga-assistant"


class Question(msgspec.Struct, frozen=True):
    question: str
    expected: tuple[str, ...]


QUESTIONS = [
    msgspec.json.decode(line, type=Question) for line in (EXAMPLE / "questions.jsonl").read_bytes().splitlines()
]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    words, folder = Words(), tmp_path_factory.mktemp("index")
    source = load_documents(EXAMPLE / "catalogue.jsonl")
    reader = IndexReader(folder, build_index(source, folder, words=words), words)

    def found(question: str) -> list[str]:
        asked = without_small_talk(question)
        passages = reader.search(asked, Cutoffs(), limit=4) if asked else ()
        return [each.source_id.partition("/")[0] for each in passages]

    return found


def test_nine_of_ten_questions_find_their_title_among_the_first_four(search: Callable[[str], list[str]]) -> None:
    asked = [each for each in QUESTIONS if each.expected]
    missed = [each.question for each in asked if not set(each.expected) & set(search(each.question))]
    assert len(missed) <= len(asked) // 10, missed


def test_small_talk_and_other_subjects_are_given_nothing(search: Callable[[str], list[str]]) -> None:
    given = [each.question for each in QUESTIONS if not each.expected and search(each.question)]
    # "What is 17 times 23?" finds the numbers of volumes.
    assert len(given) <= 1, given
