"""Names, waits and decisions of a namespace, over a service that is a list."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.errors import TestkitUsageError, UnexpectedAnswerError
from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace
from pratique.testkit.services.aws.kinesis import KinesisNamespace
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.aws.lifecycle import wait_until
from pratique.testkit.services.aws.namespace import AwsNamespace, error_code
from pratique.testkit.services.aws.s3 import S3Namespace
from pratique.testkit.services.aws.sqs import SQSNamespace
from pratique.testkit.services.interface import Backend, Connection

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.unit

NAME = "pq12ab34wn17"


def endpoint_of(backend: Backend, *, is_shared: bool = False) -> AwsEndpoint:
    connection = Connection(
        url="http://127.0.0.1:1", backend=backend, provider="fake", version="1", is_shared=is_shared
    )
    return AwsEndpoint(service="things", connection=connection)


class Things(AwsNamespace[AwsEndpoint]):
    """A namespace of a service that is a list in memory."""

    kind = "thing"
    valid = re.compile(r"[a-z0-9-]{3,20}")

    def __init__(
        self, there: Iterable[str] = (), *, backend: Backend = Backend.PROCESS, is_shared: bool = False
    ) -> None:
        endpoint = endpoint_of(backend, is_shared=is_shared)
        super().__init__(endpoint, NAME, Ledger(operation="things.Make", parameter="Name"))
        self.there = list(there)
        self.listings = 0
        self.stuck = ""

    def _list(self) -> list[str]:
        self.listings += 1
        return list(self.there)

    def _remove(self, name: str) -> None:
        if name == self.stuck:
            raise OSError("stuck")
        self.there.remove(name)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "ü", "a/b", "x" * 20])
def test_a_name_that_the_service_would_refuse_is_refused_with_the_rule(name: str) -> None:
    with pytest.raises(TestkitUsageError, match="cannot name a thing: with the prefix it is") as raised:
        Things().full_name(name)
    assert raised.value.hint == "A thing's name must match [a-z0-9-]{3,20}."


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (DynamoDBNamespace, ["Orders_2.old-x", "x" * 242], ["x" * 243, "a/b", "a b"]),
        (S3Namespace, ["uploads", "a.b-c", "x" * 50], ["x" * 51, "Up", "a_b", "a..b", "a-", "a\n"]),
        (
            SQSNamespace,
            ["jobs", "Jobs_1", "jobs.fifo", "x" * 67],
            ["x" * 68, "a.b", "x" * 63 + ".fifo", "fifo.", "a\n"],
        ),
        (KinesisNamespace, ["events", "E_1.x", "x" * 115], ["x" * 116, "a b", "a:b"]),
    ],
    ids=["dynamodb", "s3", "sqs", "kinesis"],
)
def test_names_are_held_to_each_services_rules(
    kind: type[AwsNamespace[AwsEndpoint]], good: list[str], bad: list[str]
) -> None:
    namespace = kind(endpoint_of(Backend.PROCESS), NAME, Ledger(operation="", parameter=""))
    for name in good:
        assert namespace.full_name(name) == f"{NAME}-{name}"
    for name in bad:
        with pytest.raises(TestkitUsageError):
            namespace.full_name(name)


def test_closing_removes_what_has_the_prefix_and_looks_once() -> None:
    things = Things(["foreign", f"{NAME}-a", f"{NAME}-b", f"{NAME}1-of-another", "pq12ab34wn1-too"])
    things.open()
    assert things.leaks() == []
    things.close()
    assert things.there == ["foreign", f"{NAME}1-of-another", "pq12ab34wn1-too"]
    assert things.listings == 2  # once for the whole run, once for this namespace


def test_one_that_cannot_be_removed_is_told_and_keeps_no_other() -> None:
    things = Things([f"{NAME}-a", f"{NAME}-b", f"{NAME}-c"])
    things.stuck = f"{NAME}-b"
    with pytest.raises(OSError, match="stuck"):
        things.close()
    assert things.there == [f"{NAME}-b"]


def test_without_a_look_for_leaks_closing_looks_itself() -> None:
    things = Things([f"{NAME}-a"], is_shared=True)
    things.open()
    things.close()
    assert (things.there, things.listings) == ([], 1)


@pytest.mark.parametrize(
    ("backend", "is_shared"), [(Backend.URL, False), (Backend.PROCESS, True)], ids=["given by URL", "beside others"]
)
def test_what_others_may_have_made_is_no_leak(backend: Backend, is_shared: bool) -> None:
    things = Things(backend=backend, is_shared=is_shared)
    things.open()
    things.there.append("new")
    assert things.leaks() == []
    assert things.listings == 0


def test_what_appeared_where_nobody_else_is_is_a_leak_with_its_doubt() -> None:
    things = Things(["old"])
    things.open()
    things.there.append("new")
    (leak,) = things.leaks()
    assert leak.startswith("the thing 'new', in no namespace; it appeared meanwhile")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchBucket", "NoSuchBucket"),
        ("com.amazonaws.sqs#QueueDoesNotExist", "QueueDoesNotExist"),
        ("", ""),
    ],
)
def test_an_error_is_known_by_its_code_without_a_namespace(code: str, expected: str) -> None:
    assert error_code(ClientError({"Error": {"Code": code, "Message": ""}}, "Do")) == expected


def test_an_error_of_another_kind_has_no_code() -> None:
    assert error_code(ValueError("x")) == ""


def test_a_wait_ends_when_it_is_so_and_is_given_up_in_time() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "it", within_seconds=5)
    with pytest.raises(UnexpectedAnswerError, match=r"Expected the moon to be full within 0 s; it is not\."):
        wait_until(lambda: False, "the moon to be full", within_seconds=0)
