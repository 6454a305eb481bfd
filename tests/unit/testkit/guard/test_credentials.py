"""What is refused, and what is pinned."""

from __future__ import annotations

import contextlib
import os
import sys
from types import SimpleNamespace

import pytest

from pratique.core.secrets.local import is_local
from pratique.testkit.errors import CredentialsFoundError
from pratique.testkit.guard.credentials import (
    DEAD_ENDPOINT,
    AwsPins,
    find_credentials,
    make_pins,
    refuse_credentials,
)
from pratique.testkit.guard.environment import credentials_in_boto3, pinned

pytestmark = pytest.mark.unit

KEY_ID = "AKIA" + "Q3EGUPZ7WMXC5JVN"
OTHER_HALF = "kR9wTq2LxVb7Nc4Z" + "mYp8HdGfJs3A/u6E+oQiW1Xt"
TOKEN = OTHER_HALF * 4 + "=="


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_ACCESS_KEY_ID", f" {KEY_ID}\n"),
        ("AWS_SECRET_ACCESS_KEY", OTHER_HALF),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("AWS_SECURITY_TOKEN", TOKEN),
        ("AWS_BEARER_TOKEN_BEDROCK", "ABSK" + OTHER_HALF),
    ],
)
def test_each_variable_alone_is_enough_and_is_not_shown(name: str, value: str) -> None:
    found = find_credentials({name: value})
    assert list(found) == [name]
    with pytest.raises(CredentialsFoundError) as caught:
        refuse_credentials(found)
    assert name in str(caught.value)
    assert value.strip()[4:] not in str(caught.value)


def test_fakes_and_examples_are_no_credentials() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIA" + "IOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "testing",
        "AWS_BEARER_TOKEN_BEDROCK": "fake",
    }
    assert find_credentials(environment) == {}
    refuse_credentials({})


def pins(environment: dict[str, str], aws: AwsPins | None = None) -> dict[str, str | None]:
    return make_pins(environment, aws or AwsPins(), is_local)


def test_what_leads_to_credentials_is_taken_away() -> None:
    made = pins({})
    assert made["AWS_CONFIG_FILE"] == made["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
    assert made["AWS_EC2_METADATA_DISABLED"] == "true"
    for name in ("AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        assert made[name] is None
    assert made["AWS_ACCESS_KEY_ID"] == made["AWS_SECRET_ACCESS_KEY"] == "testing"


def test_a_user_s_fakes_are_kept_and_the_region_is_the_run_s() -> None:
    made = pins({"AWS_ACCESS_KEY_ID": "mine", "AWS_REGION": "eu-west-9"}, AwsPins(region="eu-west-1"))
    assert made["AWS_ACCESS_KEY_ID"] == "mine"
    assert made["AWS_REGION"] == made["AWS_DEFAULT_REGION"] == "eu-west-1"


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (None, "", DEAD_ENDPOINT),
        ("http://127.0.0.1:4566", "", "kept"),
        ("https://dynamodb.eu-west-1.amazonaws.com", "", DEAD_ENDPOINT),
        ("nonsense", "", "kept"),
        ("http://127.0.0.1:4566", "none", None),
        (None, "http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
)
def test_the_endpoint_is_on_this_machine_or_dead(own: str | None, given: str, expected: str | None) -> None:
    made = pins({"AWS_ENDPOINT_URL": own} if own else {}, AwsPins(endpoint=given))
    assert made.get("AWS_ENDPOINT_URL", "kept") == expected
    assert made["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] is None


def test_a_service_s_own_endpoint_that_is_far_away_is_removed() -> None:
    made = pins({"AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com", "AWS_ENDPOINT_URL_SQS": "http://localhost:1"})
    assert made["AWS_ENDPOINT_URL_S3"] is None
    assert "AWS_ENDPOINT_URL_SQS" not in made


def test_credentials_that_are_allowed_are_left_alone() -> None:
    assert pins({"AWS_PROFILE": "x"}, AwsPins(keeps_credentials=True)).keys() == {"AWS_REGION", "AWS_DEFAULT_REGION"}


def test_the_environment_is_put_back_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATIQUE_A", "before")
    monkeypatch.delenv("PRATIQUE_B", raising=False)
    with contextlib.suppress(KeyError), pinned({"PRATIQUE_A": None, "PRATIQUE_B": "set"}):
        assert "PRATIQUE_A" not in os.environ
        assert os.environ["PRATIQUE_B"] == "set"
        raise KeyError
    assert os.environ["PRATIQUE_A"] == "before"
    assert "PRATIQUE_B" not in os.environ


@pytest.mark.parametrize("underscore", ["", "_"])
def test_what_boto3_read_before_is_found(monkeypatch: pytest.MonkeyPatch, underscore: str) -> None:
    held = SimpleNamespace(**{f"{underscore}access_key": KEY_ID, f"{underscore}secret_key": OTHER_HALF})
    session = SimpleNamespace(_session=SimpleNamespace(_credentials=held))
    monkeypatch.setitem(sys.modules, "boto3", SimpleNamespace(DEFAULT_SESSION=session))
    assert credentials_in_boto3() == {"boto3.DEFAULT_SESSION": "AKIA… (20 characters)"}


@pytest.mark.parametrize("module", [None, SimpleNamespace(DEFAULT_SESSION=None)])
def test_boto3_that_read_nothing_has_none(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "boto3", module)
    assert credentials_in_boto3() == {}


def test_where_nothing_listens_one_attempt_is_enough_unless_the_user_says_otherwise() -> None:
    def attempts(environment: dict[str, str], endpoint: str = "") -> str | None:
        return make_pins(environment, AwsPins(endpoint=endpoint), lambda host: host == "127.0.0.1").get(
            "AWS_MAX_ATTEMPTS"
        )

    assert attempts({}) == "1"
    assert attempts({"AWS_MAX_ATTEMPTS": "4"}) == "4"
    assert attempts({}, "http://127.0.0.1:4566") is None
    assert attempts({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}) is None
