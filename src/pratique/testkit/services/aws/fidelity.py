"""What the emulators show of the real services, capability by capability, and what they do not.

Measured: `tests/integration/testkit/services/test_aws_contract.py` has a probe for every capability and runs it against
every provider that is here. A declared gap must show, and what is not declared must pass, so neither can rot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DYNAMODB", "KINESIS", "S3", "SQS", "gaps_of"]

DYNAMODB: Final[Mapping[str, str]] = {
    "transactions": "TransactWriteItems is all or nothing, and says which condition failed",
    "transaction_token": "a repeated TransactWriteItems with the same token changes nothing",
    "conditional_writes": "a condition that does not hold refuses the write, and shows the item where asked to",
    "ttl": "an attribute can be declared to say when items expire",
    "ttl_expiry": "items that have expired vanish by themselves",
    "scan_order": "a scan returns items by the hash of their keys, not in the order of insertion",
    "sort_order": "a query returns items in the order of the sort key, numbers by value",
    "gsi": "global secondary indexes, sparse",
    "streams": "changes of items can be read from the table's stream, in order",
    "item_size_limit": "an item of more than 400 KB is refused",
    "page_limit": "a scan's or query's page ends at 1 MB",
    "throughput_limit": "more than the provisioned throughput is refused",
    "batch_limits": "a batch of more than 25 writes or 100 reads is refused",
    "key_validation": "keys that are empty, missing or of another type are refused",
    "reserved_words": "an expression that uses a reserved word for a name is refused",
    "number_precision": "numbers keep 38 digits, and more are refused",
    "consumed_capacity": "answers tell the capacity that was consumed, where asked to",
    "partiql": "ExecuteStatement reads and writes items",
}
S3: Final[Mapping[str, str]] = {
    "read_after_write": "what was written is read and listed at once, also after an overwrite or a delete",
    "conditional_put": "If-None-Match: * refuses to overwrite; If-Match refuses another version than the named one",
    "conditional_get": "If-None-Match answers 304",
    "ranges": "a part of an object, by Range",
    "versioning": "older versions of an object can be read, deletion leaves a marker",
    "multipart": "uploads in parts, with an ETag that tells the number of parts",
    "part_size_limit": "a part of less than 5 MB, but the last, is refused",
    "presigned_urls": "a signed URL works without credentials",
    "signature_check": "a wrong or expired signature is refused",
    "checksums": "a wrong checksum is refused",
    "listing": "prefix, delimiter and pages of at most 1000, in the order of the keys' bytes",
    "metadata": "user metadata, content type and tags come back",
    "bucket_not_empty": "a bucket that has objects cannot be deleted",
}
SQS: Final[Mapping[str, str]] = {
    "visibility_timeout": "a message that was received is hidden, and comes again when it was not deleted in time",
    "long_polling": "a receive waits for a message, and no longer than until one comes",
    "delay": "a message that is sent with a delay comes later",
    "dead_letter": "a message that was received too often goes to the dead letter queue",
    "fifo_ordering": "messages of a group come in order, and one that is in flight blocks its group",
    "fifo_deduplication": "the same deduplication id is taken once",
    "message_size_limit": "a message of more than 1 MiB is refused",
    "batch_limits": "a batch of more than 10 messages is refused",
    "receipt_handles": "a handle that means nothing is refused",
    "attributes": "message attributes and their MD5, the count of receives, the queue's depth",
    "purge_limit": "a second purge within 60 s is refused",
    "standard_disorder": "a standard queue delivers out of order and now and then twice",
}
KINESIS: Final[Mapping[str, str]] = {
    "partitioning": "a record goes to the shard of its key's MD5; records of one key stay in order",
    "iterator_types": "from the oldest, the latest, a sequence number or a time",
    "resharding": "shards can be split and merged, and tell their parents",
    "record_size_limit": "a record of more than 1 MiB is refused",
    "batch_limits": "more than 500 records in a call are refused",
    "throughput_limit": "more than 1 MB in a second to one shard is refused",
    "read_limit": "more than 5 reads in a second from one shard are refused",
    "iterator_expiry": "an iterator that means nothing is refused",
    "millis_behind": "an answer tells how far the reader is behind",
    "fan_out": "a registered consumer is pushed its records",
}

_IN_ORDER: Final = "always in the order of insertion"
_UNLIMITED: Final = "nothing is ever throttled"
_UNKNOWN: Final = "the operations are not there"

_GAPS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("dynamodb", "ministack"): {"scan_order": _IN_ORDER, "throughput_limit": _UNLIMITED},
    ("dynamodb", "moto"): {
        "batch_limits": "a batch of more than 25 writes is taken",
        "consumed_capacity": "always one unit, whatever the size",
        "number_precision": "more than 38 digits are taken",
        "scan_order": _IN_ORDER,
        "throughput_limit": _UNLIMITED,
        "transaction_token": "the token is not looked at: the writes are done again",
        "ttl_expiry": "items stay for ever",
    },
    ("dynamodb", "dynalite"): {
        "conditional_writes": "the refusal does not show the item",
        "partiql": _UNKNOWN,
        "streams": _UNKNOWN,
        "throughput_limit": _UNLIMITED,
        "transaction_token": _UNKNOWN,
        "transactions": _UNKNOWN,
        "ttl": _UNKNOWN,
        "ttl_expiry": "items stay for ever",
    },
    # By its documentation: no container engine was at hand to measure it.
    ("dynamodb", "dynamodb-local"): {"throughput_limit": _UNLIMITED},
    ("s3", "ministack"): {
        "part_size_limit": "smaller parts are taken",
        "signature_check": "whoever asks is let in",
    },
    ("s3", "moto"): {
        "checksums": "they are neither kept nor checked",
        "signature_check": "whoever asks is let in",
    },
    ("sqs", "ministack"): {
        "purge_limit": "a queue can be purged at any time",
        "standard_disorder": "always in order and once",
    },
    ("sqs", "moto"): {"standard_disorder": "always in order and once"},
    ("kinesis", "ministack"): {
        "read_limit": _UNLIMITED,
        "resharding": "a shard that is split or merged vanishes with its records",
        "throughput_limit": _UNLIMITED,
    },
    ("kinesis", "moto"): {
        "fan_out": "subscribing fails with status 500",
        "iterator_expiry": "an iterator that means nothing fails with status 500",
        "read_limit": _UNLIMITED,
        "record_size_limit": "larger records are taken",
        "resharding": "a closed shard never ends: its iterators go on",
        "throughput_limit": _UNLIMITED,
    },
}


def gaps_of(service: str, provider: str) -> Mapping[str, str]:
    """Return what a provider does not show of a service: capability → how it differs."""
    return _GAPS[service, provider]
