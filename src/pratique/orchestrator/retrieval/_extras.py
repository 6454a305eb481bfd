"""Imports the packages that only some installations have, with a way out where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from pratique.core.errors import EnvironmentFaultError

__all__ = ["ExtraMissingError", "import_extra"]


class ExtraMissingError(EnvironmentFaultError):
    """A package of an extra is not installed."""

    code = "missing_part"

    def __init__(self, package: str, *, extra: str = "retrieval") -> None:
        super().__init__(
            f"Retrieval needs the package '{package}', which is not installed.",
            hint=f"pip install 'pratique[{extra}]', or `make up` in a checkout.",
        )


def import_extra(module: str, *, extra: str = "retrieval") -> Any:  # noqa: ANN401 - any module
    """Import a module of an extra.

    Raises:
        ExtraMissingError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ExtraMissingError(module, extra=extra) from error
