"""What every provider of S3 shows, and that its declared gaps are gaps."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.fixtures import namespace_fixture, server_fixture
from pratique.testkit.services.aws.fidelity import S3

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.services.aws.s3 import S3Namespace

pytestmark = pytest.mark.integration

PROBES: dict[str, Callable[[S3Namespace], None]] = {}

ministack, moto, container = (server_fixture("s3", use=use) for use in ("ministack", "moto", "ministack-container"))
ministack_buckets = namespace_fixture("ministack")
moto_buckets = namespace_fixture("moto")
container_buckets = namespace_fixture("container")


@pytest.fixture(params=["ministack_buckets", "moto_buckets", "container_buckets"])
def buckets(request: pytest.FixtureRequest) -> S3Namespace:
    found: S3Namespace = request.getfixturevalue(request.param)
    return found


def probe(function: Callable[[S3Namespace], None]) -> Callable[[S3Namespace], None]:
    PROBES[function.__name__] = function
    return function


@pytest.mark.parametrize("capability", sorted(S3))
def test_a_capability_is_shown_unless_it_is_a_declared_gap(
    buckets: S3Namespace, capability: str, hold_to_gaps: Callable[..., None]
) -> None:
    hold_to_gaps(buckets, capability, PROBES[capability])


def read(buckets: S3Namespace, bucket: str, key: str, **more: Any) -> bytes:
    return buckets.client().get_object(Bucket=bucket, Key=key, **more)["Body"].read()


@probe
def read_after_write(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    for body in (b"first", b"second"):
        client.put_object(Bucket=bucket, Key="k", Body=body)
        assert read(buckets, bucket, "k") == body
    client.delete_object(Bucket=bucket, Key="k")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    with pytest.raises(ClientError, match="NoSuchKey"):
        read(buckets, bucket, "k")


@probe
def conditional_put(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    first = client.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    client.put_object(Bucket=bucket, Key="k", Body=b"second", IfMatch=first)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="k", Body=b"third", IfMatch=first)
    assert read(buckets, bucket, "k") == b"second"


@probe
def conditional_get(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    tag = client.put_object(Bucket=bucket, Key="k", Body=b"body")["ETag"]
    assert tag == f'"{hashlib.md5(b"body", usedforsecurity=False).hexdigest()}"'
    with pytest.raises(ClientError, match="304"):
        read(buckets, bucket, "k", IfNoneMatch=tag)
    with pytest.raises(ClientError, match=r"PreconditionFailed|412"):
        read(buckets, bucket, "k", IfMatch='"another"')


@probe
def ranges(buckets: S3Namespace) -> None:
    bucket = buckets.create_bucket("b")
    buckets.client().put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    assert read(buckets, bucket, "k", Range="bytes=2-4") == b"234"
    assert read(buckets, bucket, "k", Range="bytes=-2") == b"89"
    with pytest.raises(ClientError, match="InvalidRange"):
        read(buckets, bucket, "k", Range="bytes=20-")


@probe
def versioning(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    client.put_object(Bucket=bucket, Key="k", Body=b"second")
    client.delete_object(Bucket=bucket, Key="k")
    assert read(buckets, bucket, "k", VersionId=first) == b"first"
    with pytest.raises(ClientError, match="NoSuchKey"):
        read(buckets, bucket, "k")
    listed = client.list_object_versions(Bucket=bucket)
    assert (len(listed["Versions"]), len(listed["DeleteMarkers"])) == (2, 1)


def upload(buckets: S3Namespace, bucket: str, *parts: bytes) -> str:
    client = buckets.client()
    identity = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    sent: list[Any] = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=bucket, Key="k", UploadId=identity, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate(parts, 1)
    ]
    done = client.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=identity, MultipartUpload={"Parts": sent})
    return done["ETag"]


@probe
def multipart(buckets: S3Namespace) -> None:
    bucket = buckets.create_bucket("b")
    tag = upload(buckets, bucket, b"x" * 5 * 1024 * 1024, b"end")
    assert tag.strip('"').endswith("-2")
    assert read(buckets, bucket, "k", Range="bytes=-4") == b"xend"


@probe
def part_size_limit(buckets: S3Namespace) -> None:
    bucket = buckets.create_bucket("b")
    with pytest.raises(ClientError, match="EntityTooSmall"):
        upload(buckets, bucket, b"too small", b"end")


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - signed a line before
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@probe
def presigned_urls(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    client.put_object(Bucket=bucket, Key="a key/ü", Body=b"body")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a key/ü"}, ExpiresIn=60)
    assert fetch(url) == (200, b"body")


@probe
def signature_check(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    client.put_object(Bucket=bucket, Key="k", Body=b"body")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
    assert fetch(url.replace("Signature=", "Signature=0"))[0] == 403


@probe
def checksums(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    right = b64encode(hashlib.sha256(b"body").digest()).decode()
    wrong = b64encode(hashlib.sha256(b"other").digest()).decode()
    client.put_object(Bucket=bucket, Key="k", Body=b"body", ChecksumSHA256=right)
    assert client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED").get("ChecksumSHA256") == right
    with pytest.raises(ClientError, match=r"BadDigest|InvalidRequest"):
        client.put_object(Bucket=bucket, Key="k", Body=b"body", ChecksumSHA256=wrong)


@probe
def listing(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    for key in ("b/2", "a", "b/1", "Z", "c/x/y", "é"):
        client.put_object(Bucket=bucket, Key=key)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["Z", "a", "b/1", "b/2", "c/x/y", "é"]
    grouped = client.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in grouped["CommonPrefixes"]] == ["b/", "c/"]
    first = client.list_objects_v2(Bucket=bucket, MaxKeys=2)
    assert (first["KeyCount"], first["IsTruncated"]) == (2, True)
    rest = client.list_objects_v2(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert [one["Key"] for one in rest["Contents"]] == keys[2:]


@probe
def metadata(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    client.put_object(
        Bucket=bucket, Key="k", Body=b"{}", ContentType="application/json", Metadata={"Owner": "me"}, Tagging="a=1"
    )
    about = client.head_object(Bucket=bucket, Key="k")
    assert (about["ContentType"], about["Metadata"]) == ("application/json", {"owner": "me"})
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]


@probe
def bucket_not_empty(buckets: S3Namespace) -> None:
    bucket, client = buckets.create_bucket("b"), buckets.client()
    client.put_object(Bucket=bucket, Key="k")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        client.delete_bucket(Bucket=bucket)
