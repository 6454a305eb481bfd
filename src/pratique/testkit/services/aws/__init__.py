"""DynamoDB, S3, SQS and Kinesis: the emulators that provide them, their endpoints and namespaces."""

__all__: list[str] = []
