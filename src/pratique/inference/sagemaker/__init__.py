"""Amazon SageMaker's runtime API in front of model servers: what calls an endpoint there calls it here, unchanged."""

__all__: list[str] = []
