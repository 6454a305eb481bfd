"""What looks real, and what does not."""

from __future__ import annotations

from random import Random
from string import ascii_letters, ascii_uppercase, digits

import pytest

from pratique.core.secrets.looks import (
    entropy_bits,
    fingerprint,
    is_aws_key_id,
    is_aws_secret,
    is_aws_session_token,
    is_placeholder,
    mask,
)
from pratique.core.secrets.words import is_random_secret, is_strong_password, word_share

pytestmark = pytest.mark.unit


def made_up(alphabet: str, size: int) -> str:
    random = Random(3)  # noqa: S311 - opens nothing
    return "".join(random.choices(alphabet, k=size))


KEY_ID = "AKIA" + "Q3EGUPZ7WMXC5JVN"
SECRET = made_up(ascii_letters + digits, 40)


def test_what_aws_could_have_issued_looks_real() -> None:
    assert is_aws_key_id(KEY_ID)
    assert is_aws_key_id("ASIA" + KEY_ID[4:])
    assert is_aws_key_id("AKIA" + "I" + KEY_ID[5:])
    assert is_aws_secret(SECRET)
    assert is_aws_session_token(made_up(ascii_letters + digits + "+/", 300))


@pytest.mark.parametrize(
    "text",
    ["", "test", "testing", "fake", "AKIA" + "IOSFODNN7EXAMPLE", KEY_ID[:-1], KEY_ID + "A", KEY_ID.lower(),
     "AKIA" + "X" * 16, "AKIA" + "7" * 8 + "QWERTYUI", "AKIA" + "77777777ABCMDEFG"],
)  # fmt: skip
def test_other_ids_do_not(text: str) -> None:
    assert not is_aws_key_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "testing", "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY", "a" * 40, made_up("0123456789abcdef", 40),
     made_up(ascii_uppercase, 40), SECRET[:-1], "aB1" * 13 + "a"],
)  # fmt: skip
def test_other_secrets_do_not(text: str) -> None:
    assert not is_aws_secret(text)


@pytest.mark.parametrize("text", ["", "testing", "A" * 400, made_up(ascii_letters, 50)])
def test_other_session_tokens_do_not(text: str) -> None:
    assert not is_aws_session_token(text)


def test_entropy_is_that_of_shannon() -> None:
    assert entropy_bits("") == 0
    assert entropy_bits("aaaa") == 0
    assert entropy_bits("abcd") == 2


def test_a_mask_shows_the_prefix_and_the_length_only() -> None:
    assert mask(KEY_ID, prefix="AKIA") == "AKIA… (20 characters)"


def test_fingerprints_differ_and_do_not_change() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
    assert len(fingerprint("\udcff")) == 16


@pytest.mark.parametrize("text", ["EXAMPLE", "change-me", "your-key", "xxxx", "test-key", "***"])
def test_what_people_write_instead_is_a_placeholder(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("value", [made_up(ascii_letters + digits, 32), made_up("0123456789abcdef", 40)])
def test_random_values_are_secrets(value: str) -> None:
    assert is_random_secret(value)


@pytest.mark.parametrize(
    "value",
    ["short", "a" * 300, "correct horse battery", "${DB_PASSWORD_OF_THE_APP}", "0123456789" * 4, "é" * 20,
     "12345678-1234-1234-1234-123456789012", "get_access_token_from_request", "sha256-" + SECRET,
     "https://host/path1/Path2/x", "self.settings.secretValue", "AccessTokenResponse2Model", "arn:aws:x:1:Secret9:a",
     "$2b$12$" + SECRET],
)  # fmt: skip
def test_labels_words_code_and_references_are_none(value: str) -> None:
    assert not is_random_secret(value)


def test_passwords_of_urls() -> None:
    assert is_strong_password("-k7Gq.2mXw9")
    for weak in ("short1", "password1", "${PASSWORD}", "{password9}", "aaaaaaaa1", "abcdefgh", "********"):
        assert not is_strong_password(weak)


def test_the_share_of_words() -> None:
    assert word_share("") == 0
    assert word_share("secretTokens") == 1
    assert word_share("xkq7") == 0
