"""What closing a namespace does with the answers of a service, each told by botocore's stubs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from pratique.testkit.services.aws.dynamodb import DynamoDBEndpoint, DynamoDBNamespace
from pratique.testkit.services.aws.kinesis import KinesisEndpoint, KinesisNamespace
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.aws.s3 import S3Endpoint, S3Namespace
from pratique.testkit.services.aws.sqs import SQSEndpoint, SQSNamespace
from pratique.testkit.services.interface import Backend, Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

NAME = "pq12ab34n1"
LEDGER = Ledger(operation="", parameter="")
CONNECTION = Connection(url="http://127.0.0.1:1", backend=Backend.PROCESS, provider="fake", version="1")

DYNAMODB = DynamoDBNamespace(DynamoDBEndpoint(service="dynamodb", connection=CONNECTION), NAME, LEDGER)
S3 = S3Namespace(S3Endpoint(service="s3", connection=CONNECTION), NAME, LEDGER)
SQS = SQSNamespace(SQSEndpoint(service="sqs", connection=CONNECTION), NAME, LEDGER)
KINESIS = KinesisNamespace(KinesisEndpoint(service="kinesis", connection=CONNECTION), NAME, LEDGER)


@pytest.fixture(params=[DYNAMODB, S3, SQS, KINESIS], ids=["dynamodb", "s3", "sqs", "kinesis"])
def namespace(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def stubs(namespace: Any) -> Iterator[Stubber]:
    with Stubber(namespace.client()) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


LISTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dynamodb": ("list_tables", {"TableNames": [f"{NAME}-a"]}),
    "s3": ("list_buckets", {"Buckets": [{"Name": f"{NAME}-a"}]}),
    "sqs": ("list_queues", {"QueueUrls": [f"http://127.0.0.1:1/000/{NAME}-a"]}),
    "kinesis": ("list_streams", {"StreamNames": [f"{NAME}-a"], "HasMoreStreams": False}),
}
DELETES = {"dynamodb": "delete_table", "s3": "delete_bucket", "sqs": "delete_queue", "kinesis": "delete_stream"}
GONE = {
    "dynamodb": "ResourceNotFoundException",
    "s3": "NoSuchBucket",
    "sqs": "AWS.SimpleQueueService.NonExistentQueue",
    "kinesis": "ResourceNotFoundException",
}


def list_one(stubs: Stubber, namespace: Any) -> str:
    """Stub a listing of one thing of the namespace; return the operation that deletes it."""
    service = namespace.endpoint.service
    stubs.add_response(*LISTINGS[service])
    return DELETES[service]


def test_what_is_gone_when_it_is_to_be_removed_is_no_error(namespace: Any, stubs: Stubber) -> None:
    stubs.add_client_error(list_one(stubs, namespace), GONE[namespace.endpoint.service])
    namespace.close()


def test_a_removal_that_is_refused_is_told(namespace: Any, stubs: Stubber) -> None:
    stubs.add_client_error(list_one(stubs, namespace), "AccessDeniedException")
    with pytest.raises(ClientError, match="AccessDenied"):
        namespace.close()


@pytest.mark.parametrize("namespace", [DYNAMODB, KINESIS], indirect=True, ids=["dynamodb", "kinesis"])
def test_what_is_still_being_made_is_removed_when_it_is(namespace: Any, stubs: Stubber) -> None:
    delete = list_one(stubs, namespace)
    stubs.add_client_error(delete, "ResourceInUseException")
    stubs.add_response(delete, {})
    namespace.close()


@pytest.mark.parametrize("namespace", [DYNAMODB], indirect=True)
def test_another_validation_error_is_not_taken_for_protection(namespace: Any, stubs: Stubber) -> None:
    stubs.add_client_error(list_one(stubs, namespace), "ValidationException", "no such parameter")
    with pytest.raises(ClientError, match="no such parameter"):
        namespace.close()


@pytest.mark.parametrize("namespace", [S3], indirect=True)
def test_objects_that_cannot_be_deleted_end_the_removal_with_what_the_service_says(
    namespace: Any, stubs: Stubber
) -> None:
    delete = list_one(stubs, namespace)
    stubs.add_client_error(delete, "BucketNotEmpty")
    stubs.add_response("list_multipart_uploads", {})
    stubs.add_response("list_object_versions", {"Versions": [{"Key": "locked", "VersionId": "1"}]})
    stubs.add_response("delete_objects", {"Errors": [{"Key": "locked", "Code": "AccessDenied"}]})
    stubs.add_client_error(delete, "BucketNotEmpty", "it is locked")
    with pytest.raises(ClientError, match="it is locked"):
        namespace.close()


def test_a_bucket_outside_of_the_first_region_names_its_own() -> None:
    endpoint = S3Endpoint(service="s3", connection=CONNECTION, region="eu-west-1")
    namespace = S3Namespace(endpoint, NAME, LEDGER)
    with Stubber(namespace.client()) as stubber:
        asked = {"Bucket": f"{NAME}-a", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
        stubber.add_response("create_bucket", {}, asked)
        assert namespace.create_bucket("a") == f"{NAME}-a"


def test_a_table_is_waited_for_and_its_expiry_declared() -> None:
    namespace = DynamoDBNamespace(DynamoDBEndpoint(service="dynamodb", connection=CONNECTION), NAME, LEDGER)
    with Stubber(namespace.client()) as stubber:
        stubber.add_response("create_table", {"TableDescription": {"TableStatus": "CREATING"}})
        stubber.add_response("describe_table", {"Table": {"TableStatus": "CREATING"}})
        stubber.add_response("describe_table", {"Table": {"TableStatus": "ACTIVE"}})
        stubber.add_response("update_time_to_live", {})
        assert namespace.create_table("a", ttl="expires") == f"{NAME}-a"
        stubber.assert_no_pending_responses()
