"""Where releases run: one interface over the local stack, ECS with CodeDeploy, and SageMaker endpoints."""

__all__: list[str] = []
