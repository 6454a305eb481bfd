"""The tree that is drawn at the top of errors.py is the tree that there is."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys

import pytest

import pratique.testkit
from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError
from pratique.testkit import errors

pytestmark = pytest.mark.unit

_LINE = re.compile(r"(?:│   |    )?[├└]── \(?([\w.]+)\)?(?:  +\S.*?(?:\(exit (\d)\))?)?$")
_BRANCHES = {one.__name__: one for one in (CallerError, EnvironmentFaultError, RefusedError)}


def drawn() -> dict[str, tuple[str, str, str]]:
    """Name → root, branch and exit code, as drawn."""
    found = {}
    root = branch = ""
    for line in (errors.__doc__ or "").splitlines():
        if re.fullmatch(r"\w+Error", line):
            root, branch = line, ""
        elif match := _LINE.match(line):
            if match.group(1) in _BRANCHES:
                branch = match.group(1)
            else:
                found[match.group(1).rpartition(".")[2]] = root, branch, match.group(2) or ""
    return found


def defined() -> dict[str, type[Exception]]:
    """Every error that a module of the kit defines, as far as its module can be imported here."""
    for module in pkgutil.walk_packages(pratique.testkit.__path__, "pratique.testkit."):
        importlib.import_module(module.name)
    return {
        name: value
        for module in list(sys.modules.values())
        if module.__name__.startswith("pratique.testkit.")
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_the_tree_names_the_errors_that_there_are() -> None:
    assert drawn().keys() | {"TestkitError"} == defined().keys()


@pytest.mark.parametrize("name", sorted(drawn()))
def test_an_error_hangs_where_it_is_drawn(name: str) -> None:
    root, branch, code = drawn()[name]
    error = defined()[name]
    assert root in {base.__name__ for base in error.__mro__}
    assert not branch or issubclass(error, _BRANCHES[branch])
    assert not code or str(getattr(error, "exit_code", "")) == code
    assert issubclass(error, errors.TestkitError) is (root == "TestkitError")
