"""Namespaces in S3: buckets are removed with all that is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.aws.s3 import S3Namespace

if TYPE_CHECKING:
    from pratique.testkit.services.aws.s3 import S3Endpoint

pytestmark = pytest.mark.integration

moto = server_fixture("s3", use="moto")


@pytest.fixture(params=["pratique_s3", "moto"])
def endpoint(request: pytest.FixtureRequest) -> S3Endpoint:
    found: S3Endpoint = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def namespace(endpoint: S3Endpoint) -> S3Namespace:
    made = S3Namespace(endpoint, "pq00ff00n1", Ledger(operation="s3.CreateBucket", parameter="Bucket"))
    made.open()
    return made


def left_of(namespace: S3Namespace) -> list[str]:
    listed = namespace.client().list_buckets()["Buckets"]
    return [bucket["Name"] for bucket in listed if bucket["Name"].startswith(namespace.prefix)]


def test_a_bucket_is_made_and_removed_with_versions_markers_and_unfinished_uploads(namespace: S3Namespace) -> None:
    bucket, client = namespace.create_bucket("uploads"), namespace.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(3):
        client.put_object(Bucket=bucket, Key="k", Body=f"{number}".encode())
    client.delete_object(Bucket=bucket, Key="k")
    client.create_multipart_upload(Bucket=bucket, Key="never finished")
    assert left_of(namespace) == [bucket]
    namespace.close()
    assert left_of(namespace) == []
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.get_object(Bucket=bucket, Key="k")


def test_more_objects_than_one_call_deletes_are_removed(
    namespace: S3Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.testkit.services.aws.s3._PAGE_OBJECTS", 3)
    bucket, client = namespace.create_bucket("many"), namespace.client()
    for number in range(10):
        client.put_object(Bucket=bucket, Key=f"{number}")
    namespace.close()
    assert left_of(namespace) == []


def test_a_bucket_that_is_gone_already_is_no_error(namespace: S3Namespace) -> None:
    bucket = namespace.create_bucket("gone")
    listed = namespace.leaks()
    namespace.client().delete_bucket(Bucket=bucket)
    namespace.close()
    assert listed == left_of(namespace) == []


def test_the_fixture_gives_a_namespace_with_clients_and_resources(s3: S3Namespace) -> None:
    bucket = s3.create_bucket("uploads")
    s3.resource().Bucket(bucket).put_object(Key="k", Body=b"body")
    assert s3.client().get_object(Bucket=s3.bucket("uploads"), Key="k")["Body"].read() == b"body"
