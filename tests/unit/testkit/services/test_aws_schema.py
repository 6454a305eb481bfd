"""A table in few words."""

from __future__ import annotations

import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.services.aws.schema import table_definition

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("word", ["", "  ", ":", "pk:", "pk: X", "pk: s", "pk S", "a, b", "pk: S: S", "x" * 256])
def test_a_key_that_means_nothing_is_refused(word: str) -> None:
    with pytest.raises(TestkitUsageError, match="is no key attribute"):
        table_definition(word, None, {})


def test_an_attribute_of_two_types_is_refused() -> None:
    with pytest.raises(TestkitUsageError, match="'at' is declared with two types, N and S"):
        table_definition("pk", "at: N", {"by_at": "pk, at: S"})


def test_an_index_of_three_keys_is_refused() -> None:
    with pytest.raises(TestkitUsageError, match="at most one sort key; got 3"):
        table_definition("pk", None, {"i": "a, b, c"})


def test_a_key_without_a_type_is_a_string_and_needs_no_index() -> None:
    assert table_definition("pk", None, {}) == {
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    }


def test_a_type_that_was_declared_once_is_known_in_the_indexes() -> None:
    made = table_definition(" id:B ", "at : N", {"by_state": "state , at", "by_at": "at"})
    assert made["AttributeDefinitions"] == [
        {"AttributeName": "id", "AttributeType": "B"},
        {"AttributeName": "at", "AttributeType": "N"},
        {"AttributeName": "state", "AttributeType": "S"},
    ]
    assert [index["IndexName"] for index in made["GlobalSecondaryIndexes"]] == ["by_state", "by_at"]
    assert made["GlobalSecondaryIndexes"][0]["KeySchema"] == [
        {"AttributeName": "state", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
