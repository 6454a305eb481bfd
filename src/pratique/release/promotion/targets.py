"""Which target an environment has: made from its settings."""

from __future__ import annotations

from pratique.core.errors import CallerError
from pratique.fleet.targets.interface import Target
from pratique.release.promotion.settings import PromotionSettings

__all__ = ["open_target"]


def open_target(settings: PromotionSettings, environment: str) -> Target:
    """Return an environment's target.

    Raises:
        CallerError: it has none, or AWS's own settings name no region.
    """
    if local := settings.targets.get(environment):
        from pratique.fleet.targets.local import LocalTarget

        return LocalTarget(local)
    if ecs := settings.ecs.get(environment):
        from pratique.fleet.targets.ecs import open_ecs_target

        return open_ecs_target(ecs)
    if sagemaker := settings.sagemaker.get(environment):
        from pratique.fleet.targets.sagemaker import open_sagemaker_target

        return open_sagemaker_target(sagemaker)
    known = ", ".join(sorted({*settings.targets, *settings.ecs, *settings.sagemaker}))
    where = f"Tables in [release.promotion.targets], .ecs and .sagemaker: {known}."
    raise CallerError(
        f"there is no target for '{environment}'", hint=where if known else "Name a file that has some: --config."
    )
