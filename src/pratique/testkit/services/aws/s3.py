"""S3: buckets whose names begin with the namespace's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pratique.testkit.services.aws import servers
from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.fidelity import S3, gaps_of
from pratique.testkit.services.aws.namespace import AwsNamespace, error_code
from pratique.testkit.services.aws.service import AwsService

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client, S3ServiceResource

__all__ = ["S3Endpoint", "S3Namespace", "S3Service"]

_PAGE_OBJECTS: Final = 1000
"""As many as one call lists, and as one call deletes."""


@dataclass(frozen=True, kw_only=True)
class S3Endpoint(AwsEndpoint):
    """A server shared by the whole run. Make buckets through a namespace of it."""

    def client(self, **options: Any) -> S3Client:  # noqa: ANN401 - boto3's own options
        """Return boto3's client; without options, the one that this process shares."""
        client: S3Client = self._make_client(options)
        return client

    def resource(self, **options: Any) -> S3ServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource: buckets and objects as objects."""
        resource: S3ServiceResource = self._make_resource(options)
        return resource


class S3Namespace(AwsNamespace[S3Endpoint]):
    """The buckets of one test."""

    kind = "bucket"
    valid = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

    def client(self, **options: Any) -> S3Client:  # noqa: ANN401 - boto3's own options
        """Return boto3's client."""
        return self.endpoint.client(**options)

    def resource(self, **options: Any) -> S3ServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource."""
        return self.endpoint.resource(**options)

    def bucket(self, name: str) -> str:
        """Return the full name of a bucket of this test; makes nothing."""
        return self.full_name(name)

    def create_bucket(self, name: str, **options: Any) -> str:  # noqa: ANN401 - CreateBucket's own
        """Make a bucket and return its full name."""
        full = self.bucket(name)
        if self.endpoint.region != "us-east-1":
            options.setdefault("CreateBucketConfiguration", {"LocationConstraint": self.endpoint.region})
        self.client().create_bucket(Bucket=full, **options)
        return full

    def _list(self) -> list[str]:
        return [bucket["Name"] for bucket in self.client().list_buckets().get("Buckets", []) if "Name" in bucket]

    def _remove(self, name: str) -> None:
        if not self._is_removed(name):
            self._empty(name)
            self.client().delete_bucket(Bucket=name)

    def _is_removed(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client().delete_bucket(Bucket=name)
        except ClientError as error:
            code = error_code(error)
            if code not in {"NoSuchBucket", "BucketNotEmpty"}:
                raise
            return code == "NoSuchBucket"
        return True

    def _empty(self, name: str) -> None:
        client = self.client()
        for uploads in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for upload in uploads.get("Uploads", []):
                client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        # The first page again and again: a marker of a page may be among what was deleted.
        while left := self._first_page(name):
            answer = client.delete_objects(Bucket=name, Delete={"Objects": left, "Quiet": True})
            if answer.get("Errors"):
                return  # deleting the bucket will say so

    def _first_page(self, name: str) -> list[Any]:
        page = self.client().list_object_versions(Bucket=name, MaxKeys=_PAGE_OBJECTS)
        return [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        ]


class S3Service(AwsService[S3Endpoint]):
    """S3."""

    name: ClassVar[str] = "s3"
    title: ClassVar[str] = "Amazon S3"
    creates: ClassVar[tuple[str, str]] = ("CreateBucket", "Bucket")
    capabilities = S3
    endpoint_type = S3Endpoint
    namespace_type = S3Namespace

    def __init__(self) -> None:
        self.providers = (
            servers.ministack(gaps_of("s3", "ministack")),
            servers.ministack_container(gaps_of("s3", "ministack")),
            servers.moto(gaps_of("s3", "moto")),
        )
